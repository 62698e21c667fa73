//! Frames that no outbox refers to any more, released gradually.
//!
//! A closed connection may leave as many frames as an outbox holds, and two hundred that stall together may be closed
//! by the same event. So a deep outbox is emptied by moving its lists here, at a cost independent of their length, and
//! every turn releases some of the frames. Until then they still count as queued.
//!
//! Removing a reference from a frame that others hold takes some ten nanoseconds. Freeing a frame takes some hundred,
//! and every answer is freed, since each is for one connection.

use super::asides::Aside;
use super::effort::FREED;
use super::frames::Released;
use super::queue::Kept;
use super::{ConnId, Fanout};
use crate::overflow::Overflow;
use crate::stats::Dropped;

/// Up to this many frames are released at once.
const SHALLOW: usize = 32;

impl Fanout {
    /// Begins a turn with new limits on the work for slow consumers, and continues what was left of the last turn.
    pub fn begin_turn(&mut self) {
        self.effort.renew();
        self.sweep();
        self.resume_passes();
    }

    /// Returns whether work is left for the next turn.
    pub fn has_leftovers(&self) -> bool {
        self.has_waste() || !self.postponed.is_empty() || self.is_searching()
    }

    /// Returns whether dropped frames are still held.
    pub fn has_waste(&self) -> bool {
        !self.waste.is_empty()
    }

    /// Returns whether the turn allows to drop more.
    pub fn may_shed(&self) -> bool {
        self.effort.droppable() > 0
    }

    /// Releases dropped frames, as many as the turn allows. Returns whether all are released.
    pub fn sweep(&mut self) -> bool {
        while let Some((lists, reason)) = self.waste.front_mut() {
            let Some(list) = lists.iter_mut().find(|list| !list.is_empty()) else {
                let [_, ring] = std::mem::take(lists);
                self.spare.take_back(ring);
                self.waste.pop_front();
                continue;
            };
            let mut events = 0;
            while self.effort.droppable() > 0
                && let Some(frame) = list.pop_front()
            {
                let held = self.frames.len();
                events += usize::from(matches!(self.frames.release(frame), Released::Event(_)));
                self.effort.drop_frames(if self.frames.len() < held { FREED } else { 1 });
            }
            let is_spent = !list.is_empty();
            self.counts.drop_events(*reason, events as u64);
            self.waiting.events -= events;
            if is_spent {
                return false;
            }
        }
        true
    }

    /// Drops what is queued for a connection; `keep_started` keeps a partly written frame.
    pub(super) fn drop_waiting(&mut self, conn: ConnId, reason: Dropped, keep_started: bool) {
        let Self { outboxes, frames, spare, .. } = self;
        let Some(outbox) = outboxes[conn.at()].as_mut() else { return };
        let before = outbox.depth();
        let started = outbox.started().filter(|_| keep_started);
        let kept = started.map(|frame| {
            let left = frames.bytes(frame).len() - outbox.written();
            if frames.is_gap(frame) { Kept::Gap(frame) } else { Kept::Frame(frame, left) }
        });
        let lists = outbox.clear_out(kept, spare);
        if outbox.policy() == Overflow::DropOldest {
            self.asides.set(conn, started.map_or_else(Aside::default, |frame| frames.aside(frame)));
        }
        self.waiting.bytes -= before.bytes - outbox.depth().bytes;
        if before.events > SHALLOW {
            // How many of them are answers is not known yet.
            outbox.count_dropped(before.events as u64);
            self.waste.push_back((lists, reason));
            return;
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
    }
}
