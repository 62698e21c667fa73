//! The interface through which one shard updates the metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::{Counter, CounterVec, IntCounter, IntCounterVec, IntGauge};

use super::declare::Declare;
use super::turns::{LONG_TURN, Turns};
use super::{Metrics, signed};
use crate::stats::{Counts, Depth};

/// The last values of a shard; the metrics show the largest of all shards.
#[derive(Debug)]
pub(super) struct Peaks {
    pub(super) turns: Turns,
    pub(super) events: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) age_us: AtomicU64,
}

impl Peaks {
    pub(super) fn new(epoch: Instant) -> Self {
        let [events, bytes, age_us] = [const { AtomicU64::new(0) }; 3];
        Self { turns: Turns::new(epoch), events, bytes, age_us }
    }
}

/// The metrics of one shard. Owned by the shard's thread.
#[derive(Debug)]
pub struct ShardMetrics {
    metrics: Arc<Metrics>,
    peaks: Arc<Peaks>,
    waiting: Depth,
    registrations: usize,
    frames: usize,
    load: Load,
}

/// The number of shards with their own series; the others share one, so that the number of series is bounded.
const SHOWN: usize = 64;

/// The work of one shard.
#[derive(Debug)]
pub(super) struct Load {
    events: IntCounter,
    turns: IntCounter,
    busy: Counter,
}

impl Load {
    /// Returns the number of events and of turns, and the seconds that the turns took.
    pub(super) fn get(&self) -> (u64, u64, f64) {
        (self.events.get(), self.turns.get(), self.busy.get())
    }
}

/// The work of all shards.
#[derive(Debug)]
pub(super) struct Loads {
    events: IntCounterVec,
    turns: IntCounterVec,
    busy: CounterVec,
}

impl Loads {
    pub(super) fn declare(declare: &Declare<'_>) -> Self {
        Self {
            events: declare.counters("hydrant_shard_events_total", "Events matched by a shard", "shard"),
            turns: declare.counters("hydrant_shard_turns_total", "Turns of a shard's thread", "shard"),
            busy: declare.seconds_counters(
                "hydrant_shard_busy_seconds_total",
                "Time that a shard's thread spent working rather than waiting in its poll",
                "shard",
            ),
        }
    }

    pub(super) fn of(&self, shard: usize) -> Load {
        let label = if shard < SHOWN { shard.to_string() } else { format!("{SHOWN}+") };
        let label = [label.as_str()];
        Load {
            events: self.events.with_label_values(&label),
            turns: self.turns.with_label_values(&label),
            busy: self.busy.with_label_values(&label),
        }
    }
}

/// The size of a shard.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShardSize {
    /// Events and bytes queued in its outboxes.
    pub waiting: Depth,
    /// Registrations of its connections.
    pub registrations: usize,
    /// Frames that it holds.
    pub frames: usize,
    /// The change since the last flush of the bytes that it holds and no other shard does.
    pub held: i64,
}

/// The cost of filters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FilterCost {
    /// Evaluated predicates.
    pub predicate_evaluations: u64,
    /// Paths looked up in events.
    pub field_lookups: u64,
    /// Filters found true.
    pub filter_matches: u64,
    /// Units of work.
    pub work: u64,
}

impl ShardMetrics {
    pub(super) fn new(metrics: Arc<Metrics>, peaks: Arc<Peaks>, shard: usize) -> Self {
        let load = metrics.loads.of(shard);
        Self { metrics, peaks, waiting: Depth::default(), registrations: 0, frames: 0, load }
    }

    /// Returns all metrics.
    pub fn all(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Adds the counts of a turn and replaces the shard's part of the gauges.
    pub fn flush(&mut self, counts: &Counts, size: ShardSize) {
        let metrics = &self.metrics;
        if size.held != 0 {
            metrics.deliveries.frame_bytes.add(size.held);
        }
        if !counts.is_empty() {
            metrics.deliveries.add(counts);
        }
        let moved = |gauge: &IntGauge, old: usize, new: usize| {
            if old != new {
                gauge.add(signed(new as u64) - signed(old as u64));
            }
        };
        moved(&metrics.deliveries.queue_events, self.waiting.events, size.waiting.events);
        moved(&metrics.deliveries.queue_bytes, self.waiting.bytes, size.waiting.bytes);
        moved(&metrics.registrations, self.registrations, size.registrations);
        moved(&metrics.deliveries.frames, self.frames, size.frames);
        (self.waiting, self.registrations, self.frames) = (size.waiting, size.registrations, size.frames);
    }

    /// Adds the cost of filters since the last call.
    pub fn filters(&self, cost: FilterCost) {
        self.metrics.predicate_evaluations.inc_by(cost.predicate_evaluations);
        self.metrics.field_lookups.inc_by(cost.field_lookups);
        self.metrics.filter_matches.inc_by(cost.filter_matches);
        self.metrics.filter_work.inc_by(cost.work);
    }

    /// Records the start of a turn.
    pub fn begin_turn(&self, now: Instant) {
        self.peaks.turns.begin(now);
    }

    /// Records the end of a turn that matched `events` events.
    pub fn turn(&self, events: usize, busy: Duration) {
        self.peaks.turns.end(busy);
        if busy > LONG_TURN {
            self.metrics.long_turns.inc();
        }
        self.load.events.inc_by(events as u64);
        self.load.turns.inc();
        self.load.busy.inc_by(busy.as_secs_f64());
    }

    /// Sets the size of the fullest outbox, and how long the oldest of all events has been queued.
    pub fn peak(&self, deepest: Depth, oldest: Duration) {
        self.peaks.age_us.store(u64::try_from(oldest.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.peaks.events.store(deepest.events as u64, Ordering::Relaxed);
        self.peaks.bytes.store(deepest.bytes as u64, Ordering::Relaxed);
    }
}
