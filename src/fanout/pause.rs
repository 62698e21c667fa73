//! Connections that events pass by for a while, because they have yet to get earlier ones.

use super::outbox::Outbox;
use super::{ConnId, Fanout};
use crate::stats::Depth;

impl Fanout {
    /// Whether events pass the connection by, because it has yet to get earlier ones ([`Fanout::deliver`] says `Closed`).
    pub fn set_paused(&mut self, conn: ConnId, paused: bool) {
        self.outbox(conn).set_paused(paused);
    }

    /// Whether events pass the connection by.
    pub fn is_paused(&self, conn: ConnId) -> bool {
        self.outboxes.get(conn.at()).and_then(Option::as_ref).is_some_and(Outbox::is_paused)
    }

    /// Whether so many more bytes would leave half of the outbox free: room for what is not urgent. An empty one always has it.
    pub fn has_spare_room(&self, conn: ConnId, more: usize) -> bool {
        let Depth { events, bytes } = self.depth(conn);
        events == 0 || (events < self.limits.events / 2 && bytes + more <= self.limits.bytes / 2)
    }
}
