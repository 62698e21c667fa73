//! Applies the overflow policy of a connection whose outbox is full.
//!
//! *Disconnect*: nothing happens here; the caller closes the connection. *Drop-oldest*: the oldest events are dropped,
//! never an answer, a ping or a pong and never the frame that is partly written, and a notice in their place reports
//! their number; adjacent gaps are merged. The cost of dropping does not depend on the length of
//! the queue. *Conflate*: of the updates of one object the latest is kept in its place, with the state before the first
//! of them. A pass visits the whole outbox. The first one runs when a quarter of the limits is queued, so a client that
//! keeps up gets every event; the next runs when twice as much is queued or, at the limits, only if the last one freed
//! a quarter of them. So conflation costs a few steps per event, and a connection for which it frees too little is
//! closed.
//!
//! Many connections may stall at the same time. So each turn has an [`Effort`](super::effort): a pass for which none is
//! left is postponed to the next turns, and its outbox may grow up to the limits in the meantime. One large event may
//! take the place of thousands of small ones in each of these outboxes. If nothing is left for that, the whole queue is
//! dropped in one step and released in the next turns. A connection is closed instead if an answer is in its queue.

use std::collections::VecDeque;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::barriers::{Barriers, Object};
use super::effort::{EACH, FREED};
use super::frames::{Frame, FrameId, Frames};
use super::gap::{Gap, Lost};
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
            // Otherwise there was no time to go through the rest.
            Overflow::DropOldest if self.outbox(conn).ring().next().is_none() => (Dropped::Oldest, Delivery::Dropped),
            _ => (Dropped::SlowConsumer, Delivery::Overflow),
        };
        self.counts.drop_events(reason, 1);
        if delivery == Delivery::Dropped {
            self.note_gap(conn, Lost::one(event.time().as_bytes().into()));
        }
        delivery
    }

    /// Tries to make room for a frame of `bytes`, unless it has room beside a large one.
    #[cold]
    pub(super) fn make_room(&mut self, conn: ConnId, bytes: usize) -> bool {
        if self.fits(conn, bytes) {
            return true;
        }
        match self.outbox(conn).policy() {
            Overflow::Disconnect => false,
            Overflow::DropOldest => self.drop_until_it_fits(conn, bytes),
            Overflow::Conflate => self.conflate_until_it_fits(conn, bytes),
        }
    }

    fn drop_until_it_fits(&mut self, conn: ConnId, bytes: usize) -> bool {
        let free = EACH + self.effort.own_share(conn);
        let passed = self.pass_until_it_fits(conn, bytes, free);
        self.effort.use_own_share(conn, passed.min(free).saturating_sub(EACH));
        self.trim(conn);
        self.fits(conn, bytes)
    }

    /// Passes the oldest frames until another `bytes` fit, as far as there are any, and drops all of them if there is
    /// no time for more than `free` frames. Returns how many were passed.
    fn pass_until_it_fits(&mut self, conn: ConnId, bytes: usize, free: usize) -> usize {
        let mut passed = 0;
        while !self.fits(conn, bytes) {
            let held = self.frames.len();
            if passed >= free && !self.effort.may_make_room() {
                self.drop_ring(conn);
                break;
            }
            if !self.pass_oldest(conn) {
                break;
            }
            passed += 1;
            if passed > free {
                self.effort.make_room(if self.frames.len() < held { FREED } else { 1 });
            }
        }
        passed
    }

    /// Drops the first frame of a connection's ring, or keeps it if it has to stay. Returns whether there was one.
    fn pass_oldest(&mut self, conn: ConnId) -> bool {
        let Self { outboxes, frames, spare, .. } = self;
        let Some(outbox) = outboxes[conn.at()].as_mut() else { return false };
        let droppable = outbox.droppable().and_then(|frame| Some((frame, frames.time(frame)?)));
        let Some((frame, time)) = droppable else { return outbox.keep(spare) };
        let bytes = frames.bytes(frame).len();
        outbox.discard(bytes, spare);
        self.waiting.bytes -= bytes;
        outbox.count_dropped(1);
        self.counts.drop_events(Dropped::Oldest, 1);
        self.waiting.events -= 1;
        self.note_gap(conn, Lost::one(time));
        self.frames.release(frame);
        true
    }

    /// Drops all frames of a connection's ring after the first ones were passed, at a cost that does not depend on
    /// their number, unless an answer is among them.
    fn drop_ring(&mut self, conn: ConnId) {
        let Self { outboxes, frames, spare, answers, waiting, .. } = self;
        let Some(outbox) = outboxes[conn.at()].as_mut().filter(|_| answers.of(conn) == 0) else { return };
        let [first, last] = [outbox.ring().next(), outbox.ring().next_back()].map(|one| frames.time(one?));
        let events = outbox.ring().count() as u64;
        // At most a gap notice, a ping, a pong and, since some frames were passed, the one that is partly written.
        let kept: usize = outbox.kept().filter(|&one| !frames.is_gap(one)).map(|one| frames.bytes(one).len()).sum();
        let begun = outbox.kept().next().filter(|&one| !frames.is_gap(one)).map_or(0, |_| outbox.written());
        let bytes = outbox.depth().bytes - (kept - begun);
        let ring = outbox.take_ring(bytes, spare);
        outbox.count_dropped(events);
        waiting.bytes -= bytes;
        self.waste.push([VecDeque::new(), ring], Dropped::Oldest);
        if let (Some(first), Some(last)) = (first, last) {
            self.note_gap(conn, Lost { events, first, last });
        }
    }

    fn trim(&mut self, conn: ConnId) {
        let Self { outboxes, spare, .. } = self;
        if let Some(outbox) = outboxes[conn.at()].as_mut() {
            outbox.trim(spare);
        }
    }

    /// Notes that events were dropped after the kept frames.
    fn note_gap(&mut self, conn: ConnId, lost: Lost) {
        let Self { outboxes, frames, dirty, .. } = self;
        let outbox = outboxes[conn.at()].as_mut().expect("only open connections overflow");
        if let Some(gap) = outbox.last_kept().and_then(|last| frames.gap_mut(last)) {
            gap.add(lost);
            return;
        }
        let frame = frames.insert(Frame::Gap(Box::new(Gap::new(lost, outbox.encoding()))));
        frames.retain(frame, 1);
        outbox.push_gap(frame);
        if outbox.mark_dirty() {
            dirty.push(conn);
        }
        self.counts.overflow(Overflow::DropOldest);
    }

    /// Shrinks an outbox because the outbox budget is exceeded. Returns false if the connection has to be closed
    /// instead; then its queue is empty but for a partly written frame.
    pub fn shrink(&mut self, conn: ConnId) -> bool {
        let is_enough = self.apply_policy(conn);
        if !is_enough {
            self.shed(conn);
        }
        is_enough
    }

    fn apply_policy(&mut self, conn: ConnId) -> bool {
        self.note_room(conn);
        let outbox = self.outbox(conn);
        let before = outbox.depth();
        match outbox.policy() {
            Overflow::Disconnect => return false,
            Overflow::DropOldest => {
                while self.outbox(conn).depth().bytes > before.bytes / 2 && self.pass_oldest(conn) {}
            }
            Overflow::Conflate => self.conflate(conn),
        }
        self.effort.shed(before.events);
        self.trim(conn);
        4 * self.outbox(conn).depth().bytes <= 3 * before.bytes
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
        let free = self.free_bytes(conn);
        let outbox = self.outbox(conn);
        outbox.end_postponement();
        let left = outbox.depth();
        let enough = 4 * left.events <= 3 * limits.events && 4 * (left.bytes - free) <= 3 * limits.bytes;
        outbox.choose_shift(free, bytes, &limits);
        (enough || !at_bounds) && self.fits(conn, bytes)
    }

    /// Postpones a pass to the next turns. Returns whether another `bytes` have room until then.
    fn postpone_pass(&mut self, conn: ConnId, bytes: usize) -> bool {
        if self.outbox(conn).postpone() {
            self.postponed.push_back(conn);
        }
        self.fits(conn, bytes)
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
                let (free, limits) = (self.free_bytes(conn), self.limits);
                self.outbox(conn).choose_shift(free, 0, &limits);
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
