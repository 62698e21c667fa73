//! The bounds of outboxes, and the counters about them.

use super::latency::Latency;
use crate::overflow::Overflow;

/// How much may wait for one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes on the wire.
    pub bytes: usize,
    /// Frames.
    pub events: usize,
}

/// What became of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It waits in the outbox; by the connection's policy others may have made room for it.
    Queued,
    /// Nothing could make room for it; a notice reports it to the connection.
    Dropped,
    /// The outbox is full and stays so: the connection is to be closed. The event was not put in.
    Overflow,
    /// The connection is closing, or paused, and takes no events.
    Closed,
    /// The connection's rights are changing: whether it may see the event is for the caller to say.
    Guarded,
}

/// What waits for a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Frames.
    pub events: usize,
    /// Bytes on the wire, without gap notices.
    pub bytes: usize,
}

/// Why events were dropped; the value of the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Their connection was closed because it did not follow.
    SlowConsumer,
    /// Their connection ended for another reason.
    Closed,
    /// They made room for later ones, and a notice reports it.
    Oldest,
}

impl Dropped {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::SlowConsumer, Self::Closed, Self::Oldest];

    /// The value of the metric label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::SlowConsumer => "slow_consumer",
            Self::Closed => "closed",
            Self::Oldest => "drop_oldest",
        }
    }
}

/// Counts since the last [`crate::fanout::outbox::Fanout::take_counts`]. Every event that was matched is delivered,
/// dropped or conflated in the end, or waits.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Events that were to go to a connection, once a connection.
    pub matched: u64,
    /// Events of which the last byte was handed to the kernel (or to TLS).
    pub delivered: u64,
    /// Events that their connection did not get, by [`Dropped`].
    pub dropped: [u64; 3],
    /// Events that went into a later one of the same object.
    pub conflated: u64,
    /// Times that a connection lagged, by [`Overflow`]: it was closed, a gap was begun, its outbox was gone
    /// through.
    pub overflows: [u64; 3],
    /// Gap notices of which the last byte was handed to the kernel (or to TLS).
    pub notices: u64,
    /// Bytes handed to the kernel (or to TLS), all frames.
    pub bytes: u64,
    /// Events that this shard deflated, for all shards.
    pub deflated: u64,
    /// Bytes of them before.
    pub deflate_input: u64,
    /// Bytes of their frames afterwards; those before where it did not pay.
    pub deflate_output: u64,
    /// From intake to the hand-over of the last byte.
    pub latency: Latency,
}

impl Counts {
    pub(crate) fn drop_events(&mut self, reason: Dropped, events: u64) {
        self.dropped[reason as usize] += events;
    }

    pub(crate) fn overflow(&mut self, policy: Overflow) {
        self.overflows[policy as usize] += 1;
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        // Whatever becomes of an event, it was matched, written or dropped; it is deflated only for somebody who
        // matched.
        self.matched + self.bytes + self.dropped.iter().sum::<u64>() + self.overflows.iter().sum::<u64>() == 0
    }
}
