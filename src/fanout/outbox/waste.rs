//! Frames that no outbox refers to any more, released gradually.
//!
//! A closed connection may leave as many frames as an outbox holds, and two hundred that stall together may be closed
//! by the same event. So a deep outbox is emptied by moving its lists here, at a cost independent of their length, and
//! every turn releases some of the frames. Until then they still count as queued.
//!
//! What is shed because of the budget is released before the rest, so its effect shows at once. Whoever sheds waits for
//! what had been dropped before: it may be enough. It does not wait for what is dropped meanwhile: stalled clients can
//! cause more and more of it.
//!
//! Removing a reference from a frame that others hold takes some ten nanoseconds. Freeing a frame takes some hundred,
//! and every answer is freed, since each is for one connection.

use std::collections::VecDeque;

use super::beats::PRECEDING;
use super::effort::FREED;
use super::frames::{FrameId, Released};
use super::queue::Kept;
use super::{ConnId, Fanout};
use crate::overflow::Overflow;
use crate::stats::Dropped;

/// Up to this many frames are released at once.
const SHALLOW: usize = 32;

/// What an outbox has left behind, and why.
type List = ([VecDeque<FrameId>; 2], Dropped);

/// Dropped frames that are yet to be released.
#[derive(Debug, Default)]
pub(super) struct Waste {
    /// Those of outboxes that were shed because of the budget. They are released first.
    shed: VecDeque<List>,
    others: VecDeque<List>,
    /// How many of the others, from the front, had been dropped before the budget was exceeded.
    awaited: usize,
    /// Whether the budget is exceeded.
    is_exceeded: bool,
}

impl Waste {
    /// Adds what an outbox has left behind.
    pub(super) fn push(&mut self, frames: [VecDeque<FrameId>; 2], reason: Dropped) {
        self.others.push_back((frames, reason));
    }

    fn is_empty(&self) -> bool {
        self.shed.is_empty() && self.others.is_empty()
    }
}

impl Fanout {
    /// Begins a turn with new limits on the work for slow consumers, and continues what was left of the last turn.
    pub fn begin_turn(&mut self) {
        self.effort.renew();
        self.release_some(self.effort.releasable());
        self.frames.trim();
        self.resume_passes();
    }

    /// Releases all frames that have been dropped, at a cost without a bound: what is queued then is what nobody has
    /// dropped. For a shard that ends.
    pub fn release_all(&mut self) {
        self.release_some(usize::MAX);
    }

    /// Releases up to `allowed` frames, those of outboxes that were shed first.
    fn release_some(&mut self, allowed: usize) {
        let left = self.release_shed(allowed);
        let before = self.waste.others.len();
        let mut others = std::mem::take(&mut self.waste.others);
        self.release(&mut others, left);
        self.waste.awaited = self.waste.awaited.saturating_sub(before - others.len());
        self.waste.others = others;
    }

    /// Returns whether work is left for the next turn.
    pub fn has_leftovers(&self) -> bool {
        !self.waste.is_empty() || !self.postponed.is_empty() || self.is_searching()
    }

    /// Notes whether the budget is exceeded: what has been dropped when that begins is [awaited](Self::awaits_waste).
    pub fn set_exceeded(&mut self, is_exceeded: bool) {
        if is_exceeded && !self.waste.is_exceeded {
            self.waste.awaited = self.waste.others.len();
        }
        self.waste.is_exceeded = is_exceeded;
    }

    /// Returns whether frames are still held that had been dropped before the budget was exceeded. Those dropped later
    /// are not waited for: there may always be some.
    pub fn awaits_waste(&self) -> bool {
        self.waste.awaited > 0
    }

    /// Returns whether frames of outboxes that were shed are still held.
    pub fn has_shed_waste(&self) -> bool {
        !self.waste.shed.is_empty()
    }

    /// Releases frames of outboxes that were shed. Returns whether the turn allows to shed more.
    pub fn sweep_shed(&mut self) -> bool {
        let allowed = self.effort.sheddable();
        let left = self.release_shed(allowed);
        self.effort.shed(allowed - left);
        left > 0
    }

    /// Releases up to `allowed` frames of outboxes that were shed. Returns how many are left of these.
    fn release_shed(&mut self, allowed: usize) -> usize {
        let mut shed = std::mem::take(&mut self.waste.shed);
        let left = self.release(&mut shed, allowed);
        self.waste.shed = shed;
        left
    }

    /// Releases up to `left` frames from the front. Returns how many are left of these.
    fn release(&mut self, waste: &mut VecDeque<List>, mut left: usize) -> usize {
        while let Some((lists, reason)) = waste.front_mut() {
            let Some(list) = lists.iter_mut().find(|list| !list.is_empty()) else {
                let [_, ring] = std::mem::take(lists);
                self.spare.take_back(ring);
                waste.pop_front();
                continue;
            };
            let mut events = 0;
            while left > 0
                && let Some(frame) = list.pop_front()
            {
                let held = self.frames.len();
                events += usize::from(matches!(self.frames.release(frame), Released::Event(_)));
                left = left.saturating_sub(if self.frames.len() < held { FREED } else { 1 });
            }
            let is_spent = !list.is_empty();
            self.counts.drop_events(*reason, events as u64);
            self.waiting.events -= events;
            if is_spent {
                break;
            }
        }
        left
    }

    /// Drops what is queued for a connection that is shed, except a partly written frame.
    pub(super) fn shed(&mut self, conn: ConnId) {
        if let Some(dropped) = self.take_waiting(conn, Dropped::SlowConsumer, true) {
            self.waste.shed.push_back((dropped, Dropped::SlowConsumer));
        }
    }

    /// Drops what is queued for a connection; `keep_started` keeps a partly written frame.
    pub(super) fn drop_waiting(&mut self, conn: ConnId, reason: Dropped, keep_started: bool) {
        if let Some(dropped) = self.take_waiting(conn, reason, keep_started) {
            self.waste.push(dropped, reason);
        }
    }

    /// Removes what is queued for a connection; `keep_started` keeps a partly written frame. Returns it if it is too
    /// much to be released at once.
    fn take_waiting(&mut self, conn: ConnId, reason: Dropped, keep_started: bool) -> Option<[VecDeque<FrameId>; 2]> {
        let Self { outboxes, frames, spare, .. } = self;
        let outbox = outboxes[conn.at()].as_mut()?;
        let before = outbox.depth();
        let started = outbox.started().filter(|_| keep_started);
        let kept = started.map(|frame| {
            let mut weight = frames.weight(frame);
            weight.wire -= outbox.written();
            if frames.is_gap(frame) { Kept::Gap(frame) } else { Kept::Frame(frame, weight) }
        });
        let gaps = outbox.gaps;
        // One that is partly written may be the first of the ring.
        let beats = outbox.frames().take(PRECEDING).map(|frame| u32::from(frames.beat(frame).is_some())).sum::<u32>();
        let lists = outbox.clear_out(kept, spare);
        // How many of them are answers is not known yet, except with drop-oldest.
        let mut asides = 0;
        if outbox.policy() == Overflow::DropOldest {
            let left = started.filter(|frame| !frames.is_gap(*frame) && frames.time(*frame).is_none());
            asides = self.answers.of(conn) + beats - u32::from(left.is_some());
            self.answers.set(conn, started.map_or(0, |frame| u32::from(frames.is_answer(frame))));
        }
        self.waiting.bytes -= before.bytes - outbox.depth().bytes;
        if before.events > SHALLOW {
            let frames = before.events - outbox.depth().events;
            outbox.count_dropped(frames as u64 - u64::from(gaps - outbox.gaps + asides));
            return Some(lists);
        }
        let mut events = 0;
        for &frame in lists.iter().flatten() {
            events += usize::from(matches!(self.frames.release(frame), Released::Event(_)));
        }
        let [_, ring] = lists;
        self.spare.take_back(ring);
        if let Some(outbox) = self.outboxes[conn.at()].as_mut() {
            outbox.count_dropped(events as u64);
        }
        self.counts.drop_events(reason, events as u64);
        self.waiting.events -= events;
        None
    }
}
