//! Metrics of deliveries, of dropped events, and of what is queued.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge};

use super::declare::Declare;
use super::latency::LatencyHistogram;
use super::summary::ByLabel;
use crate::overflow::Overflow;
use crate::stats::{Counts, Dropped};

/// Counters of deliveries, drops and serialisations, resolved once and incremented per batch.
#[derive(Debug)]
pub(super) struct Deliveries {
    serialised: IntCounter,
    deflate_input: IntCounter,
    deflate_output: IntCounter,
    matched: IntCounter,
    pub(super) delivered: IntCounter,
    pub(super) delivered_bytes: IntCounter,
    /// Indexed by [`Dropped`].
    dropped: [IntCounter; 3],
    pub(super) conflated: IntCounter,
    /// Indexed by [`Overflow`].
    slow_consumers: [IntCounter; 3],
    gap_notices: IntCounter,
    pub(super) queue_events: IntGauge,
    pub(super) queue_bytes: IntGauge,
    pub(super) queue_events_max: IntGauge,
    pub(super) queue_bytes_max: IntGauge,
    pub(super) queue_age: Gauge,
    pub(super) frames: IntGauge,
    pub(super) frame_bytes: IntGauge,
    pub(super) latency: LatencyHistogram,
}

impl Deliveries {
    pub(super) fn declare(declare: &Declare<'_>, serialisations: &IntCounterVec) -> Self {
        let dropped = declare.counters(
            "hydrant_deliveries_dropped_total",
            "Events dropped from outboxes; their connections are notified",
            "reason",
        );
        let slow_consumers = declare.counters(
            "hydrant_slow_consumers_total",
            "Slow-consumer actions: connections closed, gaps started, outboxes conflated",
            "policy",
        );
        Self {
            serialised: serialisations.with_label_values(&["deflate"]),
            deflate_input: declare
                .counter("hydrant_deflate_input_bytes_total", "Bytes of events before they were deflated"),
            deflate_output: declare.counter(
                "hydrant_deflate_output_bytes_total",
                "Bytes of the same events as sent; uncompressed where deflating did not pay",
            ),
            matched: declare.counter(
                "hydrant_deliveries_matched_total",
                "Deliveries that events matched; equals delivered + queued + dropped + conflated",
            ),
            delivered: declare
                .counter("hydrant_deliveries_total", "Events handed to the kernel, counted once per subscriber"),
            delivered_bytes: declare.counter("hydrant_delivered_bytes_total", "Bytes handed to the kernel"),
            dropped: Dropped::ALL.map(|reason| dropped.with_label_values(&[reason.label()])),
            conflated: declare
                .counter("hydrant_deliveries_conflated_total", "Events replaced by a later one of the same object"),
            slow_consumers: Overflow::ALL.map(|policy| slow_consumers.with_label_values(&[policy.name()])),
            gap_notices: declare.counter("hydrant_gap_notices_total", "Gap notices handed to the kernel"),
            queue_events: declare.gauge("hydrant_queue_events", "Events queued in all outboxes"),
            queue_bytes: declare.gauge("hydrant_queue_bytes", "Bytes queued in all outboxes"),
            queue_events_max: declare.gauge("hydrant_queue_events_max", "Frames queued in the fullest outbox"),
            queue_bytes_max: declare.gauge("hydrant_queue_bytes_max", "Bytes queued in the fullest outbox"),
            queue_age: declare.seconds("hydrant_queue_age_seconds", "Age of the oldest event queued in any outbox"),
            frames: declare.gauge("hydrant_frames", "Distinct frames held by all shards"),
            frame_bytes: declare.gauge(
                "hydrant_frame_bytes",
                "Bytes of distinct frames held by outboxes and of the lists of them; limited by outbox.total_bytes",
            ),
            latency: declare.add(LatencyHistogram::new()),
        }
    }

    /// Returns the number of dropped events by reason.
    pub(super) fn dropped_by_reason(&self) -> ByLabel {
        Dropped::ALL.iter().zip(&self.dropped).map(|(why, count)| (why.label().to_owned(), count.get())).collect()
    }

    /// Returns the number of slow-consumer actions by policy.
    pub(super) fn slow_by_policy(&self) -> ByLabel {
        Overflow::ALL
            .iter()
            .zip(&self.slow_consumers)
            .map(|(how, count)| (how.name().to_owned(), count.get()))
            .collect()
    }

    /// Adds the counts of a turn.
    pub(super) fn add(&self, counts: &Counts) {
        self.matched.inc_by(counts.matched);
        self.delivered.inc_by(counts.delivered);
        self.delivered_bytes.inc_by(counts.bytes);
        self.conflated.inc_by(counts.conflated);
        self.gap_notices.inc_by(counts.notices);
        self.latency.add(&counts.latency);
        let by_label = self.dropped.iter().zip(counts.dropped).chain(self.slow_consumers.iter().zip(counts.overflows));
        for (counter, count) in by_label.filter(|(_, count)| *count > 0) {
            counter.inc_by(count);
        }
        if counts.deflated > 0 {
            self.serialised.inc_by(counts.deflated);
            self.deflate_input.inc_by(counts.deflate_input);
            self.deflate_output.inc_by(counts.deflate_output);
        }
    }
}
