//! How much room outboxes have: for another frame, and for the decisions when to publish events and when to continue
//! replays.
//!
//! Contract: as for [`Fanout`]. An outbox that accepts no events, because its connection closes or still replays, needs
//! no room for them. The decisions may be stricter than what has room.

use super::intake::Intake;
use super::queue::Outbox;
use super::{ConnId, Fanout};
use crate::stats::{Depth, OutboxLimits};

impl Fanout {
    /// Returns whether another `bytes` fit beside a [large](Self::large) first frame.
    pub(super) fn fits(&self, conn: ConnId, bytes: usize) -> bool {
        let free = self.large(conn);
        self.outboxes[conn.at()].as_ref().is_some_and(|outbox| outbox.has_room(bytes, free, &self.limits))
    }

    /// Returns how many bytes of an outbox do not count: those that are left of its first frame if this is larger than
    /// half of the limit. Otherwise a client that reads would have no room for anything behind it.
    pub(super) fn large(&self, conn: ConnId) -> usize {
        let Some(outbox) = self.outboxes[conn.at()].as_ref() else { return 0 };
        // Of two gap notices in a row the first is partly written.
        let mut frames = outbox.frames().take(3).enumerate();
        let Some((at, first)) = frames.find(|(_, frame)| !self.frames.is_gap(*frame)) else { return 0 };
        let bytes = self.frames.bytes(first).len();
        let is_large = bytes > self.limits.bytes / 2;
        if is_large { bytes - if at == 0 { outbox.written() } else { 0 } } else { 0 }
    }

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

impl Outbox {
    /// Returns whether another `bytes` fit, if `free` of the queued ones do not count. An outbox without frames accepts
    /// any frame; gap notices do not count.
    #[inline]
    pub(super) fn has_room(&self, bytes: usize, free: usize, limits: &OutboxLimits) -> bool {
        self.counted == 0
            || (self.bytes + bytes <= free + (limits.bytes >> self.shift)
                && (self.counted as usize) < limits.events >> self.shift)
    }

    /// Returns whether another `events` with `bytes` in total fit. An outbox that accepts no events needs no room.
    fn has_room_for(&self, events: usize, bytes: usize, limits: &OutboxLimits) -> bool {
        self.intake != Intake::Open
            || self.counted == 0
            || (self.bytes + bytes <= limits.bytes >> self.shift
                && self.counted as usize + events <= limits.events >> self.shift)
    }
}
