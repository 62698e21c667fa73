//! What frames weigh: their bytes on the wire, which the limits of an outbox count, and the memory that they take,
//! which the [`Budget`](super::budget::Budget) counts.
//!
//! Contract: pure. Frames weigh together at least what they take of the budget.
//!
//! Why two measures: a frame that is deflated, or text for a stream, keeps the event's plain frame in memory too. A
//! megabyte that deflates to a few kilobytes is a small frame, and takes as much memory as a large one. A frame that is
//! almost written takes all of its memory.

use super::frames::{Frame, FrameId, Frames};

/// The bytes of one frame or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// The bytes on the wire, of a partly written frame those that are left.
    pub(super) wire: usize,
    /// The bytes that it takes of the budget, if no other outbox has it; without its entry.
    pub(super) memory: usize,
}

impl Weight {
    /// Adds the weight of another frame.
    pub(super) fn add(&mut self, other: Self) {
        self.wire += other.wire;
        self.memory += other.memory;
    }
}

impl Frame {
    /// Returns the weight of an unwritten frame.
    fn weight(&self) -> Weight {
        let wire = self.bytes().len();
        let memory = match self {
            Self::Event { event, encoding, .. } => event.memory_in(*encoding),
            Self::Gap(_) => 0,
            Self::Answer(_) | Self::Control(_) | Self::Pong(_) | Self::Constant(_) => wire,
        };
        Weight { wire, memory }
    }
}

impl Frames {
    /// Returns the weight of an unwritten frame.
    pub(super) fn weight(&self, id: FrameId) -> Weight {
        self.frame(id).weight()
    }
}
