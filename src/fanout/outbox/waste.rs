//! Frames that no outbox refers to any more, released gradually.
//!
//! A connection that is closed may leave as many frames as an outbox holds, and two hundred that stall together are
//! closed at the same event. So a deep outbox is emptied by moving its lists here, which costs the same however long
//! they are, and every turn releases some of the frames. Until then they still count as queued.
//!
//! To count down a frame that others wait for takes some ten nanoseconds. To free one takes some hundred, and that is
//! what becomes of all answers, since each is for one connection.

use super::effort::FREED;
use super::frames::Released;
use super::queue::Kept;
use super::{ConnId, Fanout};
use crate::stats::Dropped;

/// What is let go at once.
const SHALLOW: usize = 32;

impl Fanout {
    /// A turn begins, and with it what it may do for connections that do not follow: goes on with what was left of
    /// that.
    pub fn begin_turn(&mut self) {
        self.effort.renew();
        self.sweep();
        self.resume_passes();
    }

    /// Whether a turn has something left to go on with.
    pub fn has_leftovers(&self) -> bool {
        self.has_waste() || !self.postponed.is_empty() || self.is_searching()
    }

    /// Whether frames that were dropped are still held.
    pub fn has_waste(&self) -> bool {
        !self.waste.is_empty()
    }

    /// Whether the turn allows to drop more.
    pub fn may_shed(&self) -> bool {
        self.effort.droppable() > 0
    }

    /// Lets frames go that were dropped, as many as the turn allows. Returns whether all are gone.
    pub fn sweep(&mut self) -> bool {
        while let Some((lists, reason)) = self.waste.front_mut() {
            let Some(list) = lists.iter_mut().find(|list| !list.is_empty()) else {
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

    /// Drops what waits for a connection, but for the frame that was begun if that is to be kept.
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
        self.waiting.bytes -= before.bytes - outbox.depth().bytes;
        if before.events > SHALLOW {
            // How many of them are answers is not known yet.
            outbox.count_dropped(before.events as u64);
            self.waste.push_back((lists, reason));
            return;
        }
        let mut events = 0;
        for frame in lists.into_iter().flatten() {
            events += usize::from(matches!(self.frames.release(frame), Released::Event(_)));
        }
        if let Some(outbox) = self.outboxes[conn.at()].as_mut() {
            outbox.count_dropped(events as u64);
        }
        self.counts.drop_events(reason, events as u64);
        self.waiting.events -= events;
    }
}
