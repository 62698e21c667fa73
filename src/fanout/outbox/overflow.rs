//! Applies the overflow policy of a connection whose outbox is full.
//!
//! *Disconnect*: nothing happens here; the caller closes the connection. *Drop-oldest*: the oldest events are dropped,
//! never an answer and never the frame that is partly written, and a notice in their place reports their number;
//! adjacent gaps are merged. The cost of dropping does not depend on the length of the queue. *Conflate*: of the
//! updates of one object the latest is kept in its place, with the state before the first of them. A pass visits the
//! whole outbox. The first one runs when a quarter of the limits is queued, so a client that keeps up gets every event;
//! the next runs when twice as much is queued or, at the limits, only if the last one freed a quarter of them. So
//! conflation costs a few steps per event, and a connection for which it frees too little is closed.
//!
//! Many connections may stall at the same time. So each turn has an [`Effort`](super::effort): a pass for which none is
//! left is postponed to the next turns, and its outbox may grow up to the limits in the meantime.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::barriers::{Barriers, Object};
use super::frames::{Frame, FrameId, Frames};
use super::gap::Gap;
use super::{ConnId, Fanout, encode};
use crate::event::Event;
use crate::overflow::Overflow;
use crate::stats::{Delivery, Dropped};

impl Fanout {
    /// Applies the policy to an event of `bytes` that does not fit. Returns `Queued` if there is room now.
    ///
    /// A closing connection counts as having no registrations: its last ones leave the index gradually.
    #[cold]
    pub(super) fn refuse(&mut self, event: &Event, bytes: usize, conn: ConnId) -> Delivery {
        let outbox = self.outbox(conn);
        let policy = outbox.policy();
        if outbox.is_closing() {
            return Delivery::Closed;
        }
        if self.make_room(conn, bytes) {
            return Delivery::Queued;
        }
        self.counts.matched += 1;
        self.outbox(conn).count_dropped(1);
        let (reason, delivery) = match policy {
            Overflow::DropOldest => (Dropped::Oldest, Delivery::Dropped),
            Overflow::Disconnect | Overflow::Conflate => (Dropped::SlowConsumer, Delivery::Overflow),
        };
        self.counts.drop_events(reason, 1);
        if delivery == Delivery::Dropped {
            self.note_gap(conn, event.time());
        }
        delivery
    }

    /// Tries to make room for a frame of `bytes`.
    #[cold]
    pub(super) fn make_room(&mut self, conn: ConnId, bytes: usize) -> bool {
        match self.outbox(conn).policy() {
            Overflow::Disconnect => false,
            Overflow::DropOldest => self.drop_until_it_fits(conn, bytes),
            Overflow::Conflate => self.conflate_until_it_fits(conn, bytes),
        }
    }

    fn drop_until_it_fits(&mut self, conn: ConnId, bytes: usize) -> bool {
        let limits = self.limits;
        while !self.outbox(conn).has_room(bytes, &limits) {
            if !self.drop_oldest(conn) {
                return false;
            }
        }
        true
    }

    /// Drops the oldest event of a connection. Returns whether there was one.
    pub(super) fn drop_oldest(&mut self, conn: ConnId) -> bool {
        let Self { outboxes, frames, spare, .. } = self;
        let Some(outbox) = outboxes[conn.at()].as_mut() else { return false };
        let frame = loop {
            match outbox.droppable() {
                Some(frame) if frames.event(frame).is_some() => break frame,
                _ if !outbox.keep(spare) => return false,
                _ => {}
            }
        };
        let bytes = frames.bytes(frame).len();
        outbox.discard(bytes, spare);
        outbox.count_dropped(1);
        self.counts.drop_events(Dropped::Oldest, 1);
        self.waiting.events -= 1;
        self.waiting.bytes -= bytes;
        if let Some((event, _)) = self.frames.event(frame) {
            let event = std::sync::Arc::clone(event);
            self.note_gap(conn, event.time());
        }
        self.frames.release(frame);
        true
    }

    /// Notes that an event of this time was dropped after the kept frames.
    fn note_gap(&mut self, conn: ConnId, time: &str) {
        let Self { outboxes, frames, dirty, .. } = self;
        let outbox = outboxes[conn.at()].as_mut().expect("only open connections overflow");
        if let Some(gap) = outbox.last_kept().and_then(|last| frames.gap_mut(last)) {
            gap.add(time);
            return;
        }
        let frame = frames.insert(Frame::Gap(Box::new(Gap::new(time, outbox.encoding()))));
        frames.retain(frame, 1);
        outbox.push_gap(frame);
        if outbox.mark_dirty() {
            dirty.push(conn);
        }
        self.counts.overflow(Overflow::DropOldest);
    }

    /// Shrinks an outbox because the outbox budget is exceeded. Returns false if the connection has to be closed
    /// instead.
    pub fn shrink(&mut self, conn: ConnId) -> bool {
        self.note_room(conn);
        let outbox = self.outbox(conn);
        let before = outbox.depth();
        match outbox.policy() {
            Overflow::Disconnect => return false,
            Overflow::DropOldest => {
                while self.outbox(conn).depth().bytes > before.bytes / 2 && self.drop_oldest(conn) {}
            }
            Overflow::Conflate => self.conflate(conn),
        }
        self.effort.drop_frames(before.events);
        let Self { outboxes, spare, .. } = self;
        let outbox = outboxes[conn.at()].as_mut().expect("only open connections are shrunk");
        outbox.trim(spare);
        4 * outbox.depth().bytes <= 3 * before.bytes
    }

    fn conflate_until_it_fits(&mut self, conn: ConnId, bytes: usize) -> bool {
        let limits = self.limits;
        let outbox = self.outbox(conn);
        let (at_bounds, frames) = (outbox.is_at_its_bounds(), outbox.depth().events);
        if !self.effort.try_pass(frames) {
            if !at_bounds && self.postpone_pass(conn, bytes) {
                return true;
            }
            if !self.effort.force_pass(frames) {
                return false;
            }
        }
        self.conflate(conn);
        let outbox = self.outbox(conn);
        outbox.end_postponement();
        let left = outbox.depth();
        let enough = 4 * left.events <= 3 * limits.events && 4 * left.bytes <= 3 * limits.bytes;
        outbox.choose_shift(bytes, &limits);
        (enough || !at_bounds) && outbox.has_room(bytes, &limits)
    }

    /// Postpones a pass to the next turns. Returns whether another `bytes` have room until then.
    fn postpone_pass(&mut self, conn: ConnId, bytes: usize) -> bool {
        let limits = self.limits;
        let outbox = self.outboxes[conn.at()].as_mut().expect("only open connections overflow");
        if outbox.postpone() {
            self.postponed.push_back(conn);
        }
        outbox.has_room(bytes, &limits)
    }

    /// Runs postponed passes, as far as this turn has time for them.
    pub(super) fn resume_passes(&mut self) {
        while let Some(&conn) = self.postponed.front() {
            let waiting = self.outboxes[conn.at()].as_ref().filter(|outbox| !outbox.is_closing());
            // An outbox that was drained meanwhile costs nothing; neither does a number that was reused.
            let frames = waiting
                .map_or(0, |outbox| if outbox.is_below_the_earliest(&self.limits) { 0 } else { outbox.depth().events });
            if frames > 0 && !self.effort.try_pass(frames) {
                return;
            }
            self.postponed.pop_front();
            let Some(outbox) = self.outboxes[conn.at()].as_mut() else { continue };
            if outbox.end_postponement() {
                if frames > 0 {
                    self.conflate(conn);
                    self.note_room(conn);
                }
                let limits = self.limits;
                self.outbox(conn).choose_shift(0, &limits);
            }
        }
    }

    /// Keeps only the latest of the updates of each object.
    fn conflate(&mut self, conn: ConnId) {
        let Self { outboxes, frames, encoder, counts, spare, .. } = self;
        let Some(outbox) = outboxes[conn.at()].as_mut() else { return };
        counts.overflow(Overflow::Conflate);
        let (before, wanted) = (outbox.depth().bytes, outbox.encoding());
        let waiting: Vec<FrameId> = outbox.frames().collect();
        let begun = usize::from(outbox.started().is_some());
        let firsts = firsts(frames, &self.barriers, &waiting, begun);
        let mut left = Vec::with_capacity(waiting.len());
        let mut bytes = 0;
        for (&frame, first) in waiting.iter().zip(&firsts) {
            let Some(first) = *first else { continue };
            let stays = if first == frame {
                frame
            } else {
                frames.conflate(first, frame, wanted, |event| encode::encode(encoder, counts, event, wanted))
            };
            // Before anything is released, so that no frame still needed is forgotten.
            frames.retain(stays, 1);
            bytes += frames.bytes(stays).len();
            left.push(stays);
        }
        for &frame in &waiting {
            frames.release(frame);
        }
        let (gone, bytes) = (waiting.len() - left.len(), bytes - outbox.written());
        outbox.refill(&left, bytes, spare);
        counts.conflated += gone as u64;
        self.waiting.events -= gone;
        self.waiting.bytes = self.waiting.bytes + bytes - before;
    }
}

/// Returns for each frame the first of those that it stands for from now on: itself, an earlier update of its object,
/// or `None` if a later one stands for it. The first `begun` frames stay unchanged.
fn firsts(frames: &Frames, barriers: &Barriers, waiting: &[FrameId], begun: usize) -> Vec<Option<FrameId>> {
    let mut firsts: Vec<Option<FrameId>> = waiting.iter().copied().map(Some).collect();
    let mut latest: HashTable<usize> = HashTable::new();
    let rehash = |&at: &usize| frames.object(waiting[at]).map_or(0, Object::hash);
    for (at, &frame) in waiting.iter().enumerate().skip(begun) {
        let Some(object) = frames.object(frame) else { continue };
        let is_it = |&before: &usize| frames.are_of_one_object(waiting[before], frame);
        match latest.entry(object.hash(), is_it, rehash) {
            Entry::Occupied(entry) if !object.is_update() => {
                entry.remove();
            }
            Entry::Occupied(mut entry) => {
                let before = std::mem::replace(entry.get_mut(), at);
                let last = frames.event(waiting[before]).map(|(_, span)| span.last);
                if last.is_some_and(|last| !barriers.any_since(last, object)) {
                    firsts[at] = firsts[before].take();
                }
            }
            Entry::Vacant(entry) => {
                if object.is_update() {
                    entry.insert(at);
                }
            }
        }
    }
    firsts
}
