//! What frames and outboxes weigh: their bytes on the wire, which the limits of an outbox count, and the memory that
//! they take, which the [`Budget`](super::budget::Budget) counts.
//!
//! Contract: an outbox weighs at least what it takes of the budget, whatever its encoding. So the outboxes weigh no
//! less together than what they hold, and while this exceeds the budget there is always one to shed.
//!
//! Why two measures: a frame that is deflated, or text for a stream, keeps the event's plain frame in memory too. A
//! megabyte that deflates to a few kilobytes is a small frame, and takes as much memory as a large one. A frame that is
//! almost written takes all of its memory.

use super::frames::{self, FrameId, Frames};
use super::queue::Outbox;
use super::{ConnId, Fanout, Frame};

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

impl Outbox {
    /// Notes that an unwritten frame of this connection alone has become another size, in bytes.
    pub(super) fn resize(&mut self, before: usize, bytes: usize) {
        self.bytes = self.bytes - before + bytes;
        self.memory = self.memory - before + bytes;
    }

    /// Returns the memory of all frames with their entries.
    pub(super) fn held(&self) -> usize {
        self.memory + self.depth().events * frames::SIZE
    }

    /// Returns the memory of all frames with their entries, and of the ring.
    pub(super) fn footprint(&self) -> usize {
        self.held() + self.ring.memory()
    }
}

impl Fanout {
    /// Returns the most that an outbox takes of the [`Budget`](super::Budget): the memory of its frames with their
    /// entries, and of the list of them.
    pub fn footprint(&self, conn: ConnId) -> usize {
        self.outboxes.get(conn.at()).and_then(Option::as_ref).map_or(0, Outbox::footprint)
    }
}
