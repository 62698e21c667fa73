//! The most important metrics as plain numbers, for the status route.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use prometheus::IntCounterVec;
use prometheus::core::Collector;
use serde::Serialize;

use super::Metrics;
use crate::stats::{BUCKETS, bucket_bound_us};

/// Counts by the value of a label.
pub(super) type ByLabel = BTreeMap<String, u64>;

/// The figures at one moment. Counts start with the process.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Summary {
    /// Open websockets and streams.
    pub connections: i64,
    /// Registrations of all of them.
    pub registrations: i64,
    /// Accepted events by source.
    pub received: ByLabel,
    /// Posted events refused because the inboxes were full.
    pub refused: u64,
    /// Events handed to the kernel, counted once per connection.
    pub delivered: u64,
    /// Bytes handed to the kernel.
    pub delivered_bytes: u64,
    /// Events dropped from outboxes, by reason.
    pub dropped: ByLabel,
    /// Events replaced by a later one of the same object.
    pub conflated: u64,
    /// Slow-consumer actions by policy.
    pub slow_consumers: ByLabel,
    /// Closed connections by reason.
    pub disconnects: ByLabel,
    /// Refused attempts to connect, by reason.
    pub rejected: ByLabel,
    /// Work of filters, in units of about a nanosecond.
    pub filter_work: u64,
    /// Queue sizes.
    pub queue: Queue,
    /// Figures of each shard.
    pub shards: Vec<ShardSummary>,
    /// Deliveries by latency: one count for each bound, and one for those beyond the last.
    pub latency: Histogram,
}

/// The content of all outboxes and inboxes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Queue {
    /// Events in all outboxes.
    pub events: i64,
    /// Bytes in all outboxes.
    pub bytes: i64,
    /// Bytes in the fullest outbox.
    pub deepest_bytes: u64,
    /// The time that the oldest of all events has been queued.
    pub oldest_milliseconds: u64,
    /// Events queued for the slowest shard.
    pub inbox_events: usize,
}

/// Figures of one shard.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ShardSummary {
    /// Open connections.
    pub connections: usize,
    /// Events queued for it.
    pub inbox_events: usize,
    /// Events that it has matched.
    pub events: u64,
    /// Turns of its thread.
    pub turns: u64,
    /// Time that its thread was not waiting.
    pub busy_seconds: f64,
    /// The longest turn of the last minute, including one that is still running.
    pub longest_turn_milliseconds: f64,
}

/// Deliveries by latency, from intake until the last byte is handed to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Histogram {
    /// Upper bounds in microseconds.
    pub bounds_microseconds: Vec<u64>,
    /// Counts, not cumulative; the last one is for latencies beyond all bounds.
    pub counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { bounds_microseconds: (0..BUCKETS).filter_map(bucket_bound_us).collect(), counts: vec![0; BUCKETS] }
    }
}

impl Histogram {
    /// Returns the counts since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then));
        Self { bounds_microseconds: self.bounds_microseconds.clone(), counts: counts.collect() }
    }

    /// Returns the bound in microseconds that this share of deliveries does not exceed. Returns the last bound if they
    /// exceed it, and `None` without deliveries.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let all: u64 = self.counts.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "a share of a count is none")]
        let wanted = all as f64 * share;
        let mut count = 0;
        let at = self.counts.iter().position(|bucket| {
            count += bucket;
            #[expect(clippy::cast_precision_loss, reason = "as above")]
            let reached = count as f64 >= wanted;
            reached && *bucket > 0
        })?;
        self.bounds_microseconds.get(at).or(self.bounds_microseconds.last()).copied()
    }
}

fn by_label(counters: &IntCounterVec) -> ByLabel {
    let families = counters.collect();
    let metrics = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
    let labelled = metrics.filter_map(|metric| {
        let label = metric.get_label().first()?.value().to_owned();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, as a float")]
        let count = metric.get_counter().get_value() as u64;
        Some((label, count))
    });
    labelled.collect()
}

impl Metrics {
    /// Returns the current figures, with the number of connections and of queued events of each shard.
    pub fn summary(&self, connections: &[usize], queued: &[usize]) -> Summary {
        let (now, deliveries) = (Instant::now(), &self.deliveries);
        let shards = self.shards.lock();
        let shard = |(at, peaks): (usize, &std::sync::Arc<super::shard::Peaks>)| {
            let (events, turns, busy_seconds) = self.loads.of(at).get();
            ShardSummary {
                connections: connections.get(at).copied().unwrap_or_default(),
                inbox_events: queued.get(at).copied().unwrap_or_default(),
                events,
                turns,
                busy_seconds,
                longest_turn_milliseconds: peaks.turns.longest(now).as_secs_f64() * 1e3,
            }
        };
        let peak = |pick: fn(&super::shard::Peaks) -> &std::sync::atomic::AtomicU64| {
            shards.iter().map(|peaks| pick(peaks).load(Ordering::Relaxed)).max().unwrap_or(0)
        };
        Summary {
            connections: self.connections.get(),
            registrations: self.registrations.get(),
            received: by_label(self.events.family()),
            refused: self.events_refused.get(),
            delivered: deliveries.delivered.get(),
            delivered_bytes: deliveries.delivered_bytes.get(),
            dropped: deliveries.dropped_by_reason(),
            conflated: deliveries.conflated.get(),
            slow_consumers: deliveries.slow_by_policy(),
            disconnects: by_label(&self.disconnects),
            rejected: by_label(&self.rejected),
            filter_work: self.filter_work.get(),
            queue: Queue {
                events: deliveries.queue_events.get(),
                bytes: deliveries.queue_bytes.get(),
                deepest_bytes: peak(|peaks| &peaks.bytes),
                oldest_milliseconds: peak(|peaks| &peaks.age_us) / 1000,
                inbox_events: queued.iter().copied().max().unwrap_or_default(),
            },
            shards: shards.iter().enumerate().map(shard).collect(),
            latency: Histogram { counts: deliveries.latency.counts(), ..Histogram::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_bounds_of_their_buckets() {
        let mut now = Histogram::default();
        assert_eq!(now.quantile(0.5), None);
        now.counts[0] = 98;
        now.counts[3] = 2;
        let at = |histogram: &Histogram| [0.5, 0.98, 0.99].map(|share| histogram.quantile(share));
        assert_eq!(at(&now), [Some(32), Some(32), Some(256)]);
        let later = Histogram { counts: now.counts.iter().map(|count| count * 2).collect(), ..Histogram::default() };
        assert_eq!(later.since(&now), now);
        now.counts[BUCKETS - 1] = 1000;
        assert_eq!(now.quantile(0.5), now.bounds_microseconds.last().copied());
    }

    #[test]
    fn the_summary_has_the_counts_of_the_metrics() {
        let metrics = std::sync::Arc::new(Metrics::new());
        metrics.received(crate::metrics::Source::Post, 5, 100);
        metrics.shard(0).turn(7, std::time::Duration::from_millis(4));
        let summary = metrics.summary(&[2], &[3]);
        assert_eq!((summary.received["post"], summary.shards[0].events, summary.queue.inbox_events), (5, 7, 3));
        assert_eq!((summary.shards[0].connections, summary.shards[0].inbox_events), (2, 3));
        assert_eq!((summary.dropped["slow_consumer"], summary.slow_consumers["conflate"]), (0, 0));
        assert!(summary.shards[0].longest_turn_milliseconds > 3.9);
    }
}
