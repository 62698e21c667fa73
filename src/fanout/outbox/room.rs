//! How much room outboxes have, for the decisions when to publish events and when to continue replays.
//!
//! Contract: as for [`Fanout`]. An outbox that accepts no events, because its connection closes or still replays, needs
//! no room for them.

use super::intake::Intake;
use super::queue::Outbox;
use super::{ConnId, Fanout};
use crate::stats::Depth;

impl Fanout {
    /// Returns whether another `more` bytes would leave half of the outbox free: room for what is not urgent. Always
    /// true for an empty outbox.
    pub fn has_spare_room(&self, conn: ConnId, more: usize) -> bool {
        let Depth { events, bytes } = self.depth(conn);
        events == 0 || (events < self.limits.events / 2 && bytes + more <= self.limits.bytes / 2)
    }

    /// Returns whether every connection has room for this many more events; visits every connection.
    pub fn all_have_room(&self, events: usize, bytes: usize) -> bool {
        self.outboxes.iter().flatten().all(|outbox| outbox.has_room_for(events, bytes, &self.limits))
    }

    /// Like [`Fanout::all_have_room`], for dirty connections only: the others are empty, or their sockets accept
    /// nothing.
    pub fn dirty_have_room(&self, events: usize, bytes: usize) -> bool {
        self.dirty_outboxes().all(|outbox| outbox.has_room_for(events, bytes, &self.limits))
    }

    /// Returns the most frames and the most bytes that a dirty connection has queued.
    pub fn deepest_dirty(&self) -> Depth {
        let open = self.dirty_outboxes().filter(|outbox| outbox.intake == Intake::Open);
        open.map(Outbox::depth).fold(Depth::default(), Depth::max)
    }

    fn dirty_outboxes(&self) -> impl Iterator<Item = &Outbox> {
        self.dirty.iter().filter_map(|conn| self.outboxes[conn.at()].as_ref())
    }
}
