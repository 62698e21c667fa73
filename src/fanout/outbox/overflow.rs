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
//!
//! Merged frames have to be deflated for those who agreed to it, at hundreds of times the cost of looking at a frame.
//! So merging ends when the turn's share of that is spent: what is not merged stays as it is, and the pass is continued
//! in the next turns. A connection at its limits is not closed because others have spent it: it is judged after a whole
//! pass, and until then may hold a quarter more, which is what one turn publishes at most.

use std::collections::VecDeque;

use super::effort::{EACH, FREED};
use super::frames::{Frame, FrameId};
use super::gap::{Gap, Lost};
use super::merges::Merges;
use super::queue::Outbox;
use super::weight::Weight;
use super::{ConnId, Fanout, encode};
use crate::event::Event;
use crate::overflow::Overflow;
use crate::stats::{Delivery, Dropped, OutboxLimits};
use crate::websocket::frame::Encoding;

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
        let weight = frames.weight(frame);
        outbox.discard(weight, spare);
        self.waiting.bytes -= weight.wire;
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
        let mut kept = Weight::default();
        outbox.kept().filter(|&one| !frames.is_gap(one)).for_each(|one| kept.add(frames.weight(one)));
        let begun = outbox.kept().next().filter(|&one| !frames.is_gap(one)).map_or(0, |_| outbox.written());
        let bytes = outbox.depth().bytes - (kept.wire - begun);
        let ring = outbox.take_ring(bytes, kept.memory, spare);
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
        let (before, frames) = (outbox.held(), outbox.depth().events);
        let is_done = match outbox.policy() {
            Overflow::Disconnect => return false,
            Overflow::DropOldest => self.drop_down_to(conn, before / 2),
            Overflow::Conflate => {
                self.conflate(conn);
                self.effort.shed(frames);
                // Otherwise its pass has to be continued, and it may be found again in a later turn.
                !self.outbox(conn).postponed
            }
        };
        self.trim(conn);
        !is_done || 4 * self.outbox(conn).held() <= 3 * before
    }

    /// Drops the oldest events until an outbox holds no more than `memory`, or as far as possible. Returns whether the
    /// turn had time for that. If not, the outbox may be found again in a later turn.
    fn drop_down_to(&mut self, conn: ConnId, memory: usize) -> bool {
        while self.outbox(conn).held() > memory {
            if self.effort.sheddable() == 0 {
                return false;
            }
            let held = self.frames.len();
            if !self.pass_oldest(conn) {
                break;
            }
            self.effort.shed(if self.frames.len() < held { FREED } else { 1 });
        }
        true
    }

    fn conflate_until_it_fits(&mut self, conn: ConnId, bytes: usize) -> bool {
        let limits = self.limits;
        let outbox = self.outbox(conn);
        let (at_bounds, frames) = (outbox.is_at_its_bounds(), outbox.depth().events);
        if self.awaits_deflating(conn) {
            self.postpone(conn);
            if self.fits_meanwhile(conn, bytes) {
                return true;
            }
        }
        if !self.effort.try_pass(frames) {
            if !at_bounds && self.postpone_pass(conn, bytes) {
                return true;
            }
            if !self.effort.force_pass(frames) {
                return false;
            }
        }
        self.conflate(conn);
        if self.outbox(conn).postponed {
            return self.fits_meanwhile(conn, bytes);
        }
        let free = self.free_bytes(conn);
        let outbox = self.outbox(conn);
        let left = outbox.depth();
        let enough = 4 * left.events <= 3 * limits.events && 4 * (left.bytes - free) <= 3 * limits.bytes;
        outbox.choose_shift(free, bytes, &limits);
        (enough || !at_bounds) && self.fits(conn, bytes)
    }

    /// Returns whether nothing is left of what the turn may deflate, for a connection that needs it.
    fn awaits_deflating(&self, conn: ConnId) -> bool {
        self.encoding(conn) == Encoding::Deflate && self.effort.deflatable() == 0
    }

    /// Returns whether another `bytes` fit while the outbox waits for the rest of its pass: up to a quarter more than
    /// its limits, which is what one turn publishes at most.
    fn fits_meanwhile(&self, conn: ConnId, bytes: usize) -> bool {
        let OutboxLimits { bytes: most, events } = self.limits;
        let limits = OutboxLimits { bytes: most + most / 4, events: events + events / 4 };
        let outbox = self.outboxes[conn.at()].as_ref();
        outbox.is_some_and(|outbox| outbox.has_room(bytes, self.free(outbox, most), &limits))
    }

    fn postpone(&mut self, conn: ConnId) {
        if self.outbox(conn).postpone() {
            self.postponed.push_back(conn);
        }
    }

    /// Postpones a pass to the next turns. Returns whether another `bytes` have room until then.
    fn postpone_pass(&mut self, conn: ConnId, bytes: usize) -> bool {
        self.postpone(conn);
        self.fits(conn, bytes)
    }

    /// Runs postponed passes, as far as this turn has time for them, each connection's once.
    pub(super) fn resume_passes(&mut self) {
        for _ in 0..self.postponed.len() {
            let Some(&conn) = self.postponed.front() else { return };
            let is_waiting = |outbox: &&Outbox| outbox.postponed && !outbox.is_closing();
            let waiting = self.outboxes[conn.at()].as_ref().filter(is_waiting);
            // An outbox that was drained or conflated meanwhile costs nothing; neither does a number that was reused.
            let frames = waiting
                .map_or(0, |outbox| if outbox.is_below_the_earliest(&self.limits) { 0 } else { outbox.depth().events });
            if frames > 0 && self.awaits_deflating(conn) {
                // Others may not need it.
                self.postponed.rotate_left(1);
                continue;
            }
            if frames > 0 && !self.effort.try_pass(frames) {
                return;
            }
            self.postponed.pop_front();
            self.resume_pass(conn, frames > 0);
        }
    }

    fn resume_pass(&mut self, conn: ConnId, is_needed: bool) {
        if !self.outboxes[conn.at()].as_mut().is_some_and(Outbox::end_postponement) {
            return;
        }
        if is_needed {
            self.conflate(conn);
            self.note_room(conn);
        }
        let (free, limits) = (self.free_bytes(conn), self.limits);
        let outbox = self.outbox(conn);
        if !outbox.postponed {
            outbox.choose_shift(free, 0, &limits);
        }
    }

    /// Keeps only the latest of the updates of each object. If the turn's share of deflating ends before, the outbox is
    /// postponed for the rest.
    fn conflate(&mut self, conn: ConnId) {
        self.counts.overflow(Overflow::Conflate);
        let Some(outbox) = self.outboxes[conn.at()].as_mut() else { return };
        let (before, wanted) = (outbox.depth().bytes, outbox.encoding());
        let waiting: Vec<FrameId> = outbox.frames().collect();
        let begun = usize::from(outbox.started().is_some());
        let (merged, is_whole) = self.merge(&waiting, begun, wanted);
        let Self { outboxes, frames, counts, spare, .. } = self;
        let Some(outbox) = outboxes[conn.at()].as_mut() else { return };
        let mut left = Vec::with_capacity(waiting.len());
        let mut weight = Weight::default();
        for stays in merged.into_iter().flatten() {
            // Before anything is released, so that no frame still needed is forgotten.
            frames.retain(stays, 1);
            weight.add(frames.weight(stays));
            left.push(stays);
        }
        for &frame in &waiting {
            frames.release(frame);
        }
        let gone = waiting.len() - left.len();
        weight.wire -= outbox.written();
        outbox.refill(&left, weight, spare);
        if is_whole {
            outbox.end_postponement();
        }
        counts.conflated += gone as u64;
        self.waiting.events -= gone;
        self.waiting.bytes = self.waiting.bytes + weight.wire - before;
        if !is_whole {
            self.postpone(conn);
        }
    }

    /// Returns for each of these frames the one that is queued in its place, or `None` if a later one stands for it,
    /// and whether all updates are merged that can be. Others stay as they are once the share of deflating is spent.
    fn merge(&mut self, waiting: &[FrameId], begun: usize, wanted: Encoding) -> (Vec<Option<FrameId>>, bool) {
        let Self { frames, encoder, counts, effort, .. } = self;
        let mut merges = Merges::find(frames, &self.barriers, waiting, begun);
        let (share, before, mut is_whole) = (effort.deflatable(), counts.deflate_input, true);
        for (at, &frame) in waiting.iter().enumerate() {
            let Some(first) = merges.firsts[at].filter(|first| *first != frame) else { continue };
            let costs = wanted == Encoding::Deflate
                && frames.conflated(first, frame, wanted).is_none()
                && frames.event(frame).is_some_and(|(event, _)| encode::pays(encoder.as_ref(), event));
            if costs && counts.deflate_input - before >= share {
                merges.leave(waiting, at);
                is_whole = false;
                continue;
            }
            let made = frames.conflate(first, frame, wanted, |event| encode::encode(encoder, counts, event, wanted));
            merges.firsts[at] = Some(made);
        }
        effort.deflate(counts.deflate_input - before);
        (merges.firsts, is_whole)
    }
}
