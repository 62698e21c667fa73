//! How much memory an outbox takes.
//!
//! Contract: an outbox's footprint is at least what it takes of the [`Budget`](super::budget::Budget), whatever its
//! encoding. So the outboxes have no less together than what they hold, and while this exceeds the budget there is
//! always one to shed.

use super::frames;
use super::queue::Outbox;
use super::{ConnId, Fanout};

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
