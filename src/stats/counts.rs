//! The bounds of outboxes, and the counters about them.

use super::latency::Latency;
use crate::overflow::Overflow;

/// The limits of one connection's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes on the wire.
    pub bytes: usize,
    /// Number of frames.
    pub events: usize,
}

/// The outcome of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The event is queued in the outbox; depending on the connection's policy, others may have made room for it.
    Queued,
    /// Nothing could make room for the event; a notice reports it to the connection.
    Dropped,
    /// The outbox is full, and the connection must be closed. The event was not queued.
    Overflow,
    /// The connection is closing or paused, and accepts no events.
    Closed,
    /// The connection's rights are changing: whether it may see the event is for the caller to say.
    Guarded,
}

/// The depth of one connection's queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Number of frames.
    pub events: usize,
    /// Bytes on the wire, excluding gap notices.
    pub bytes: usize,
}

impl Depth {
    /// Returns the larger number of either.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { events: self.events.max(other.events), bytes: self.bytes.max(other.bytes) }
    }
}

/// The reason why events were dropped; the value of the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Their connection was closed as a slow consumer.
    SlowConsumer,
    /// Their connection ended for another reason.
    Closed,
    /// They made room for later events, which a notice reports.
    Oldest,
}

impl Dropped {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::SlowConsumer, Self::Closed, Self::Oldest];

    /// Returns the value of the metric label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::SlowConsumer => "slow_consumer",
            Self::Closed => "closed",
            Self::Oldest => "drop_oldest",
        }
    }
}

/// Counts since the last [`crate::fanout::outbox::Fanout::take_counts`]. Every matched event is eventually delivered,
/// dropped or conflated, or is still queued.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Matched events, counted once for each connection.
    pub matched: u64,
    /// Events whose last byte was passed to the kernel (or to TLS).
    pub delivered: u64,
    /// Events that their connection did not receive, by [`Dropped`].
    pub dropped: [u64; 3],
    /// Events that were merged into a later one of the same object.
    pub conflated: u64,
    /// Times that a connection lagged, by [`Overflow`]: it was closed, a gap was begun, or its outbox was conflated.
    pub overflows: [u64; 3],
    /// Gap notices whose last byte was passed to the kernel (or to TLS).
    pub notices: u64,
    /// Bytes passed to the kernel (or to TLS), for all frames.
    pub bytes: u64,
    /// Events that this shard deflated, for all shards.
    pub deflated: u64,
    /// Bytes of these events before deflating.
    pub deflate_input: u64,
    /// Bytes of their frames after deflating; those before if deflating did not pay off.
    pub deflate_output: u64,
    /// Latency from intake until the last byte is passed on.
    pub latency: Latency,
}

impl Counts {
    pub(crate) fn drop_events(&mut self, reason: Dropped, events: u64) {
        self.dropped[reason as usize] += events;
    }

    pub(crate) fn overflow(&mut self, policy: Overflow) {
        self.overflows[policy as usize] += 1;
    }

    /// Returns whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        // Every event that has an outcome was matched, written or dropped, and an event is only deflated for a
        // connection that it matched.
        self.matched + self.bytes + self.dropped.iter().sum::<u64>() + self.overflows.iter().sum::<u64>() == 0
    }
}
