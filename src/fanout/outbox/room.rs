//! How much room outboxes have: for another frame, and for the decisions when to publish events and when to continue
//! replays.
//!
//! Contract: as for [`Fanout`]. An outbox that accepts no events, because its connection closes or still replays, needs
//! no room for them. The decisions may be stricter than what has room, and for a conflating outbox below its bounds
//! more generous. A first frame that is large does not count in them either: with TLS a socket is never known to be
//! full, so events would wait until it is written, though there is room behind it. It does count in
//! [`Fanout::has_spare_room`], which delays only the replay of its own connection, and in [`Fanout::deepest_dirty`],
//! since it takes its turns to be written.

use super::beats::PRECEDING;
use super::intake::Intake;
use super::queue::Outbox;
use super::{ConnId, Fanout};
use crate::overflow::Overflow;
use crate::stats::{Depth, OutboxLimits};

impl Fanout {
    /// Returns whether another `bytes` fit beside what is [free](Self::free).
    pub(super) fn fits(&self, conn: ConnId, bytes: usize) -> bool {
        let outbox = self.outboxes[conn.at()].as_ref();
        outbox.is_some_and(|outbox| outbox.has_room(bytes, self.free(outbox, self.limits.bytes), &self.limits))
    }

    /// Returns which frames of an outbox, and which bytes, do not count in its `limit` of bytes:
    ///
    /// - with *drop-oldest* its ping and its pong, since they take the place of no event, and
    /// - the bytes that are left of its first frame besides, if this is larger than half of the limit. Otherwise a
    ///   client that reads would have no room for anything behind it.
    pub(super) fn free(&self, outbox: &Outbox, limit: usize) -> Depth {
        let (mut free, mut is_first) = (Depth::default(), true);
        for (at, frame) in outbox.frames().take(PRECEDING + 1).enumerate() {
            if self.frames.is_gap(frame) {
                continue;
            }
            let bytes = self.frames.bytes(frame).len();
            let left = bytes - if at == 0 { outbox.written() } else { 0 };
            if outbox.policy() == Overflow::DropOldest && self.frames.beat(frame).is_some() {
                free.events += 1;
                free.bytes += left;
            } else if is_first {
                is_first = false;
                free.bytes += if bytes > limit / 2 { left } else { 0 };
            } else {
                break;
            }
        }
        free
    }

    /// Returns the bytes of a connection's outbox that do not count.
    pub(super) fn free_bytes(&self, conn: ConnId) -> usize {
        self.outboxes[conn.at()].as_ref().map_or(0, |outbox| self.free(outbox, self.limits.bytes).bytes)
    }

    /// Returns whether another `more` bytes would leave half of the outbox free: room for what is not urgent. Always
    /// true for an empty outbox.
    pub fn has_spare_room(&self, conn: ConnId, more: usize) -> bool {
        let Depth { events, bytes } = self.depth(conn);
        events == 0 || (events < self.limits.events / 2 && bytes + more <= self.limits.bytes / 2)
    }

    /// Returns whether every connection has room for this many more events; visits every connection.
    pub fn all_have_room(&self, events: usize, bytes: usize) -> bool {
        self.outboxes.iter().flatten().all(|outbox| self.has_room_for(outbox, events, bytes))
    }

    /// Like [`Fanout::all_have_room`], for dirty connections only: the others are empty, or their sockets accept
    /// nothing.
    pub fn dirty_have_room(&self, events: usize, bytes: usize) -> bool {
        self.dirty_outboxes().all(|outbox| self.has_room_for(outbox, events, bytes))
    }

    /// Returns the most frames and the most bytes that a dirty connection has queued.
    pub fn deepest_dirty(&self) -> Depth {
        let open = self.dirty_outboxes().filter(|outbox| outbox.intake == Intake::Open);
        open.map(Outbox::depth).fold(Depth::default(), Depth::max)
    }

    /// Returns whether another `events` with `bytes` in total fit beside what is [free](Self::free). An outbox that
    /// accepts no events needs no room.
    ///
    /// Below its bounds a conflating outbox has smaller limits, and a first frame may be large only for these. It may
    /// be conflated then, but others do not wait until it is written.
    fn has_room_for(&self, outbox: &Outbox, events: usize, bytes: usize) -> bool {
        let has_room = |free| outbox.has_room_for(events, bytes, free, &self.limits);
        let limit = self.limits.bytes >> outbox.shift;
        outbox.intake != Intake::Open || has_room(Depth::default()) || has_room(self.free(outbox, limit))
    }

    fn dirty_outboxes(&self) -> impl Iterator<Item = &Outbox> {
        self.dirty.iter().filter_map(|conn| self.outboxes[conn.at()].as_ref())
    }
}

impl Outbox {
    /// Returns whether another `bytes` fit, if what is `free` does not count. An outbox without frames accepts any
    /// frame; gap notices do not count.
    #[inline]
    pub(super) fn has_room(&self, bytes: usize, free: Depth, limits: &OutboxLimits) -> bool {
        self.counted as usize == free.events
            || (self.bytes + bytes <= free.bytes + (limits.bytes >> self.shift)
                && (self.counted as usize) < free.events + (limits.events >> self.shift))
    }

    /// Returns whether another `events` with `bytes` in total fit, if what is `free` does not count.
    fn has_room_for(&self, events: usize, bytes: usize, free: Depth, limits: &OutboxLimits) -> bool {
        self.counted as usize == free.events
            || (self.bytes + bytes <= free.bytes + (limits.bytes >> self.shift)
                && self.counted as usize + events <= free.events + (limits.events >> self.shift))
    }
}
