//! Prepares writes: which connections are dirty, the frames of a vectored write, and how much of them was written.

use std::io::IoSlice;

use smallvec::SmallVec;

use super::coalesce::{CoalescedId, Match};
use super::frames::Released;
use super::queue::Outbox;
use super::{ConnId, Fanout};
use crate::overflow::Overflow;
use crate::stats::Depth;

/// Maximum number of frames in one system call; the kernel accepts no more than 1,024.
pub const GATHER_FRAMES: usize = 256;

/// The frames of one vectored write.
pub type Gathered<'a> = SmallVec<[IoSlice<'a>; GATHER_FRAMES]>;

impl Fanout {
    /// Writes into `into` the connections that have something to write, each once: first the websockets, then the
    /// streams, each in ascending order. Returns the number of websockets. They are no longer dirty afterwards.
    ///
    /// Ascending order is the order in memory, in this process and in the kernel. With subscribers of several classes,
    /// the order of delivery would be another and writing would wait for memory more often.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnId>) -> usize {
        into.clear();
        std::mem::swap(into, &mut self.dirty);
        into.sort_unstable();
        // A removed connection is still on the list, and its number may have been reused.
        into.dedup();
        let Self { outboxes, streams, .. } = self;
        into.retain(|&conn| {
            let Some(outbox) = &mut outboxes[conn.at()] else { return false };
            let (is_dirty, is_websocket) = (outbox.clear_dirty(), outbox.encoding().is_websocket());
            if is_dirty && !is_websocket {
                streams.push(conn);
            }
            is_dirty && is_websocket
        });
        let websockets = into.len();
        into.append(streams);
        websockets
    }

    /// Adds a connection to the dirty list if frames are queued for it.
    pub fn mark_dirty(&mut self, conn: ConnId) {
        self.unblock(conn);
    }

    /// Like [`Fanout::mark_dirty`], when the socket accepts something. Returns whether it accepted nothing until now.
    pub fn unblock(&mut self, conn: ConnId) -> bool {
        let outbox = self.outbox(conn);
        let was_blocked = outbox.unblock();
        if outbox.depth().events > 0 && outbox.mark_dirty() {
            self.dirty.push(conn);
        }
        was_blocked
    }

    /// Notes that the socket accepts nothing now: the connection stays off the dirty list until [`Fanout::mark_dirty`].
    pub fn set_blocked(&mut self, conn: ConnId) {
        self.outbox(conn).block();
    }

    /// Returns whether any connection is dirty.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Gathers the next frames of a connection, up to `max_bytes` but at least one, without the written part of the
    /// first. They are a single chunk if other connections had the same frames in this round.
    pub fn gather<'a>(&'a mut self, conn: ConnId, max_bytes: usize, into: &mut Gathered<'a>) {
        self.taken = self.run(conn, max_bytes).map(|run| (conn, run));
        if let Some((_, run)) = self.taken {
            return into.push(IoSlice::new(self.runs.bytes(run)));
        }
        if self.outboxes[conn.at()].as_ref().is_some_and(Outbox::has_gaps) {
            self.write_gaps(conn);
        }
        let Some(outbox) = &self.outboxes[conn.at()] else { return };
        let mut skip = outbox.written();
        let mut total = 0;
        for frame in outbox.frames().take(GATHER_FRAMES) {
            let bytes = &self.frames.bytes(frame)[skip..];
            skip = 0;
            total += bytes.len();
            into.push(IoSlice::new(bytes));
            if total >= max_bytes {
                break;
            }
        }
    }

    /// Returns the run that contains exactly what is queued for a connection.
    fn run(&mut self, conn: ConnId, max_bytes: usize) -> Option<CoalescedId> {
        let outbox = self.outboxes[conn.at()].as_ref()?;
        if outbox.depth().bytes > max_bytes {
            return None;
        }
        let frames = outbox.untouched()?;
        match self.runs.find(frames) {
            Match::None => None,
            Match::Written(run) => Some(run),
            // Frames of a single connection cannot be queued for another.
            Match::Worth(_) if !frames.iter().all(|&frame| self.frames.event(frame).is_some()) => None,
            Match::Worth(run) => {
                let buffer = self.runs.buffer(run);
                buffer.reserve_exact(outbox.depth().bytes);
                for &frame in frames {
                    buffer.extend_from_slice(self.frames.bytes(frame));
                    self.frames.retain(frame, 1);
                }
                Some(run)
            }
        }
    }

    /// Writes the text of gap notices that are about to be sent; until now they could absorb more events.
    #[cold]
    fn write_gaps(&mut self, conn: ConnId) {
        let Some(outbox) = &self.outboxes[conn.at()] else { return };
        for frame in outbox.frames().take(GATHER_FRAMES) {
            if let Some(gap) = self.frames.gap_mut(frame) {
                gap.write();
            }
        }
    }

    /// Notes that `bytes` of the gathered frames were written. Shared runs are accounted for by [`Fanout::end_round`].
    pub fn advance(&mut self, conn: ConnId, mut bytes: usize, now_us: u64) {
        self.counts.bytes += bytes as u64;
        if bytes > 0 {
            self.note_room(conn);
        }
        let outbox = self.outboxes[conn.at()].as_mut().expect("a connection is used only between open and remove");
        let waiting = outbox.depth();
        let all = |run| waiting.bytes == bytes && self.runs.bytes(run).len() == bytes;
        if let Some((taker, run)) = self.taken.take()
            && taker == conn
            && all(run)
        {
            return self.advance_over_run(conn, run);
        }
        if waiting.events > 1 && waiting.bytes == bytes && !outbox.has_gaps() {
            return self.advance_over_all(conn, now_us);
        }
        while let Some(frame) = outbox.front() {
            let is_gap = outbox.has_gaps() && self.frames.is_gap(frame);
            let mut weight = self.frames.weight(frame);
            weight.wire -= outbox.written();
            let left = weight.wire;
            if bytes < left {
                let counted = if is_gap { 0 } else { bytes };
                outbox.set_written(bytes, counted);
                self.waiting.bytes -= counted;
                break;
            }
            bytes -= left;
            if is_gap {
                outbox.pop_gap();
                self.counts.notices += 1;
            } else {
                outbox.pop(weight, &mut self.spare);
                self.waiting.bytes -= left;
            }
            match self.frames.release(frame) {
                Released::Event(received_us) => {
                    self.waiting.events -= 1;
                    self.counts.delivered += 1;
                    outbox.count_delivered();
                    self.counts.latency.observe(now_us.saturating_sub(received_us));
                }
                Released::Answer if outbox.policy() == Overflow::DropOldest => self.answers.remove(conn),
                Released::Answer | Released::Beat | Released::Gap => {}
            }
        }
        outbox.trim(&mut self.spare);
    }

    /// Handles the usual case with several frames: all of them are written, so their lengths are not needed.
    fn advance_over_all(&mut self, conn: ConnId, now_us: u64) {
        let Self { outboxes, frames, counts, spare, answers, waiting, .. } = self;
        let outbox = outboxes[conn.at()].as_mut().expect("a connection is used only between open and remove");
        let mut events = 0;
        for frame in outbox.frames() {
            if let Released::Event(received_us) = frames.release(frame) {
                events += 1;
                counts.latency.observe(now_us.saturating_sub(received_us));
            }
        }
        if events < outbox.depth().events && outbox.policy() == Overflow::DropOldest {
            answers.set(conn, 0);
        }
        waiting.events -= events;
        waiting.bytes -= outbox.depth().bytes;
        counts.delivered += events as u64;
        outbox.pop_all(events, spare);
    }

    /// Handles the usual case where every client gets every event: a run was written. All its frames are events.
    fn advance_over_run(&mut self, conn: ConnId, run: CoalescedId) {
        let outbox = self.outboxes[conn.at()].as_mut().expect("a connection is used only between open and remove");
        let Depth { events, bytes } = outbox.depth();
        self.waiting.events -= events;
        self.waiting.bytes -= bytes;
        self.counts.delivered += events as u64;
        outbox.pop_all(events, &mut self.spare);
        self.runs.count(run);
    }

    /// Ends a round of writes: accounts for the runs that were sent, and releases them.
    pub fn end_round(&mut self, now_us: u64) {
        self.taken = None;
        let Self { runs, frames, counts, .. } = self;
        runs.end(|frame, deliveries| {
            // One more for the run's own reference.
            if let Released::Event(received_us) = frames.release_many(frame, deliveries + 1) {
                counts.latency.observe_many(now_us.saturating_sub(received_us), u64::from(deliveries));
            }
        });
    }
}
