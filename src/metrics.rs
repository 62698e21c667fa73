//! Every metric of hydrant, declared in one place and served by `--metrics-listen` in the Prometheus text format.
//!
//! Contract: names follow the Prometheus conventions (base units, `_total`, prefix `hydrant_`), label values come from
//! enums of ours and never from clients, so the number of series is bounded. Handles are resolved here, once; a shard keeps its own
//! plain counts and adds them up with [`ShardMetrics::flush`] once a turn, not once a delivery.
//!
//! `docs/operations.md` lists them all; a test compares the list with the registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::event;
use crate::fanout::{Counts, Depth};
use crate::protocol::Close;
pub use labels::{Outcome, Rejection, Reload, Source};
use latency::LatencyHistogram;

/// All metrics. One per process; shared.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Websockets that are open.
    pub connections: IntGauge,
    /// Websockets that were opened.
    pub connections_opened: IntCounter,
    rejected: IntCounterVec,
    disconnects: IntCounterVec,
    /// Registrations of all websockets.
    pub registrations: IntGauge,
    commands: IntCounterVec,
    events: IntCounterVec,
    /// Bytes of the events that were taken in, as written for clients.
    pub event_bytes: IntCounter,
    /// Events that were refused because the inboxes were full.
    pub events_refused: IntCounter,
    serialisations: IntCounterVec,
    deflate_input: IntCounter,
    deflate_output: IntCounter,
    matched: IntCounter,
    delivered: IntCounter,
    delivered_bytes: IntCounter,
    dropped: IntCounter,
    queue_events: IntGauge,
    queue_bytes: IntGauge,
    queue_events_max: IntGauge,
    queue_bytes_max: IntGauge,
    inbox_events: IntGauge,
    frames: IntGauge,
    latency: LatencyHistogram,
    predicate_evaluations: IntCounter,
    field_lookups: IntCounter,
    filter_matches: IntCounter,
    certificate_reloads: IntCounterVec,
    /// Answers to HTTP requests.
    pub http_responses: IntCounterVec,
    shards: Mutex<Vec<Arc<Peaks>>>,
}

/// What a shard last saw; the largest of all shards is shown.
#[derive(Debug, Default)]
struct Peaks {
    events: AtomicU64,
    bytes: AtomicU64,
}

/// Declares and registers at once, so that nothing is declared and forgotten.
struct Declare<'r>(&'r Registry);

impl Declare<'_> {
    fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let collector = made.expect("names and labels are constants that follow the rules");
        self.0.register(Box::new(collector.clone())).expect("every name is declared once");
        collector
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), &[label]))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let declare = Declare(&registry);
        let metrics = Self {
            connections: declare.gauge("hydrant_connections", "Websockets that are open"),
            connections_opened: declare.counter("hydrant_connections_opened_total", "Websockets that were opened"),
            rejected: declare.counters(
                "hydrant_handshakes_rejected_total",
                "Connections that did not become a websocket",
                "reason",
            ),
            disconnects: declare.counters("hydrant_disconnects_total", "Websockets that were closed", "reason"),
            registrations: declare.gauge("hydrant_registrations", "Registrations of all websockets"),
            commands: declare.counters("hydrant_commands_total", "Commands of clients", "outcome"),
            events: declare.counters("hydrant_events_received_total", "Events taken in", "source"),
            event_bytes: declare
                .counter("hydrant_event_received_bytes_total", "Bytes of events taken in, as written for clients"),
            events_refused: declare
                .counter("hydrant_events_refused_total", "Events refused because the inboxes were full"),
            serialisations: declare.counters(
                "hydrant_event_serialisations_total",
                "Times an event was written down, by encoding; once an event, whatever the number of subscribers",
                "encoding",
            ),
            deflate_input: declare
                .counter("hydrant_deflate_input_bytes_total", "Bytes of the events that were deflated, before"),
            deflate_output: declare.counter(
                "hydrant_deflate_output_bytes_total",
                "Bytes of the events that were deflated, as they are sent; plain where deflating did not pay",
            ),
            matched: declare.counter(
                "hydrant_deliveries_queued_total",
                "Events put into an outbox; equals delivered + waiting + dropped, but for those refused by a full one",
            ),
            delivered: declare.counter("hydrant_deliveries_total", "Events handed to the kernel, once a subscriber"),
            delivered_bytes: declare.counter("hydrant_delivered_bytes_total", "Bytes handed to the kernel"),
            dropped: declare
                .counter("hydrant_deliveries_dropped_total", "Events not delivered because the connection was closed"),
            queue_events: declare.gauge("hydrant_queue_events", "Frames waiting in all outboxes"),
            queue_bytes: declare.gauge("hydrant_queue_bytes", "Bytes waiting in all outboxes"),
            queue_events_max: declare.gauge("hydrant_queue_events_max", "Frames waiting in the deepest outbox"),
            queue_bytes_max: declare.gauge("hydrant_queue_bytes_max", "Bytes waiting in the deepest outbox"),
            inbox_events: declare.gauge("hydrant_inbox_events", "Events waiting for the slowest shard"),
            frames: declare.gauge("hydrant_frames", "Distinct frames held by all shards"),
            latency: declare.add(LatencyHistogram::new()),
            predicate_evaluations: declare.counter(
                "hydrant_predicate_evaluations_total",
                "Questions of filters that were worked out, at most once an event and shard each",
            ),
            field_lookups: declare.counter("hydrant_field_lookups_total", "Paths looked up in events by filters"),
            filter_matches: declare.counter("hydrant_filter_matches_total", "Filters found true, once a group"),
            certificate_reloads: declare.counters(
                "hydrant_certificate_reloads_total",
                "Changes of the TLS certificate while running",
                "outcome",
            ),
            http_responses: declare.counters("hydrant_http_responses_total", "Answers to HTTP requests", "status"),
            shards: Mutex::new(Vec::new()),
            registry: registry.clone(),
        };
        declare_build_info(&declare);
        metrics.show_all_labels();
        metrics
    }

    /// A series that exists from the start can be alarmed on before its first event.
    fn show_all_labels(&self) {
        for close in Close::ALL {
            self.disconnects.with_label_values(&[close.label()]);
        }
        self.disconnects.with_label_values(&["vanished"]);
        for (_, label) in Rejection::ALL {
            self.rejected.with_label_values(&[label]);
        }
        for outcome in [Outcome::Registered, Outcome::Deregistered, Outcome::Refused] {
            self.command(outcome, 0);
        }
        self.serialisations.with_label_values(&["deflate"]);
        ["taken", "refused"]
            .iter()
            .for_each(|outcome| self.certificate_reloads.with_label_values(&[outcome]).inc_by(0));
        [Source::Post, Source::Connections].into_iter().for_each(|source| self.received(source, 0, 0));
    }

    /// A websocket was closed for this reason; nothing if the client vanished.
    pub fn disconnected(&self, reason: Option<Close>) {
        self.disconnects.with_label_values(&[reason.map_or("vanished", Close::label)]).inc();
    }

    /// A connection did not become a websocket.
    pub fn rejected(&self, reason: Rejection) {
        self.rejected.with_label_values(&[reason.label()]).inc();
    }

    /// The certificate has changed.
    pub fn certificate(&self, reload: Reload) {
        let label = match reload {
            Reload::Taken => "taken",
            Reload::Refused => "refused",
        };
        self.certificate_reloads.with_label_values(&[label]).inc();
    }

    /// Commands had this outcome.
    pub fn command(&self, outcome: Outcome, count: u64) {
        let label = match outcome {
            Outcome::Registered => "registered",
            Outcome::Deregistered => "deregistered",
            Outcome::Refused => "refused",
        };
        self.commands.with_label_values(&[label]).inc_by(count);
    }

    /// Events were taken in.
    pub fn received(&self, source: Source, events: u64, bytes: u64) {
        self.events.with_label_values(&[source.label()]).inc_by(events);
        self.event_bytes.inc_by(bytes);
    }

    /// The handle of one shard.
    pub fn shard(self: &Arc<Self>) -> ShardMetrics {
        let peaks = Arc::new(Peaks::default());
        self.shards.lock().push(Arc::clone(&peaks));
        ShardMetrics { metrics: Arc::clone(self), peaks, waiting: Depth::default(), registrations: 0, frames: 0 }
    }

    /// All metrics in the Prometheus text format. `inbox_events` is what waits for the slowest shard.
    pub fn render(&self, inbox_events: usize) -> String {
        let largest = |pick: fn(&Peaks) -> &AtomicU64| {
            self.shards.lock().iter().map(|peaks| pick(peaks).load(Ordering::Relaxed)).max().unwrap_or(0)
        };
        self.queue_events_max.set(signed(largest(|peaks| &peaks.events)));
        self.queue_bytes_max.set(signed(largest(|peaks| &peaks.bytes)));
        self.inbox_events.set(signed(inbox_events as u64));
        let plain = self.serialisations.with_label_values(&["plain"]);
        plain.inc_by(event::serialisations().saturating_sub(plain.get()));
        let mut text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default();
        process::append(&mut text);
        text
    }
}

fn declare_build_info(declare: &Declare<'_>) {
    let opts = Opts::new("hydrant_build_info", "Always 1").const_label("version", env!("CARGO_PKG_VERSION"));
    declare.add(IntGauge::with_opts(opts)).set(1);
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// One shard's way to the metrics. Owned by the shard's thread.
#[derive(Debug)]
pub struct ShardMetrics {
    metrics: Arc<Metrics>,
    peaks: Arc<Peaks>,
    waiting: Depth,
    registrations: usize,
    frames: usize,
}

/// How large a shard is.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShardSize {
    /// What waits in its outboxes.
    pub waiting: Depth,
    /// Registrations of its connections.
    pub registrations: usize,
    /// Frames it holds.
    pub frames: usize,
}

/// What filters have cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FilterCost {
    /// Questions worked out.
    pub predicate_evaluations: u64,
    /// Paths looked up.
    pub field_lookups: u64,
    /// Filters found true.
    pub filter_matches: u64,
}

impl ShardMetrics {
    /// All metrics.
    pub fn all(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Adds the counts of a turn and replaces the shard's part of the gauges.
    pub fn flush(&mut self, counts: &Counts, size: ShardSize) {
        let metrics = &self.metrics;
        if counts.queued + counts.dropped + counts.bytes > 0 {
            metrics.matched.inc_by(counts.queued);
            metrics.delivered.inc_by(counts.delivered);
            metrics.delivered_bytes.inc_by(counts.bytes);
            metrics.dropped.inc_by(counts.dropped);
            metrics.latency.add(&counts.latency);
        }
        if counts.deflated > 0 {
            metrics.serialisations.with_label_values(&["deflate"]).inc_by(counts.deflated);
            metrics.deflate_input.inc_by(counts.deflate_input);
            metrics.deflate_output.inc_by(counts.deflate_output);
        }
        let moved = |gauge: &IntGauge, old: usize, new: usize| {
            if old != new {
                gauge.add(signed(new as u64) - signed(old as u64));
            }
        };
        moved(&metrics.queue_events, self.waiting.events, size.waiting.events);
        moved(&metrics.queue_bytes, self.waiting.bytes, size.waiting.bytes);
        moved(&metrics.registrations, self.registrations, size.registrations);
        moved(&metrics.frames, self.frames, size.frames);
        (self.waiting, self.registrations, self.frames) = (size.waiting, size.registrations, size.frames);
    }

    /// Adds what filters have cost since the last call.
    pub fn filters(&self, cost: FilterCost) {
        self.metrics.predicate_evaluations.inc_by(cost.predicate_evaluations);
        self.metrics.field_lookups.inc_by(cost.field_lookups);
        self.metrics.filter_matches.inc_by(cost.filter_matches);
    }

    /// Notes the deepest outbox.
    pub fn peak(&self, deepest: Depth) {
        self.peaks.events.store(deepest.events as u64, Ordering::Relaxed);
        self.peaks.bytes.store(deepest.bytes as u64, Ordering::Relaxed);
    }
}

mod labels;
mod latency;
mod process;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::Latency;

    #[test]
    fn a_shard_adds_its_counts_and_replaces_its_gauges() {
        let metrics = Arc::new(Metrics::new());
        let (mut a, mut b) = (metrics.shard(), metrics.shard());
        let mut counts =
            Counts { queued: 3, delivered: 2, dropped: 1, bytes: 50, latency: Latency::default(), ..Counts::default() };
        counts.latency.observe(40);
        let size = |events| ShardSize { waiting: Depth { events, bytes: 10 }, registrations: 4, frames: 1 };
        a.flush(&counts, size(5));
        b.flush(&counts, size(2));
        a.flush(&Counts::default(), size(1));
        a.peak(Depth { events: 1, bytes: 10 });
        let text = metrics.render(7);
        for line in [
            "hydrant_deliveries_total 4",
            "hydrant_deliveries_dropped_total 2",
            "hydrant_queue_events 3",
            "hydrant_queue_events_max 1",
            "hydrant_registrations 8",
            "hydrant_inbox_events 7",
            "hydrant_delivery_latency_seconds_bucket{le=\"0.000032\"} 0",
            "hydrant_delivery_latency_seconds_bucket{le=\"0.000064\"} 2",
            "hydrant_delivery_latency_seconds_count 2",
            "hydrant_disconnects_total{reason=\"slow_consumer\"} 0",
            "process_open_fds",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
