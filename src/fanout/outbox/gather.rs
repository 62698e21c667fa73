//! Prepares writes: which connections are dirty, the frames of a vectored write, and how much of them was written.

use std::io::IoSlice;

use smallvec::SmallVec;

use super::coalesce::{CoalescedId, Match};
use super::frames::Released;
use super::queue::Outbox;
use super::{ConnId, Fanout};
use crate::stats::Depth;

/// At most this many frames go out in one system call; the kernel takes no more than 1,024.
pub const GATHER_FRAMES: usize = 256;

/// The frames of one vectored write.
pub type Gathered<'a> = SmallVec<[IoSlice<'a>; GATHER_FRAMES]>;

impl Fanout {
    /// The connections that have something to write, each once, in the order of their numbers. They are no longer dirty
    /// afterwards.
    ///
    /// That order is the one in which they lie in memory, ours and the kernel's; the order in which they were hit is
    /// another where subscribers are of several classes, and then writing would wait for memory more often.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        into.clear();
        std::mem::swap(into, &mut self.dirty);
        into.sort_unstable();
        // A connection that is gone is still on the list, and its number may be another's by now.
        into.dedup();
        into.retain(|conn| self.outboxes[conn.at()].as_mut().is_some_and(Outbox::clear_dirty));
    }

    /// Puts a connection on the dirty list, if something waits for it.
    pub fn mark_dirty(&mut self, conn: ConnId) {
        let outbox = self.outbox(conn);
        outbox.set_blocked(false);
        if outbox.depth().events > 0 && outbox.mark_dirty() {
            self.dirty.push(conn);
        }
    }

    /// The socket takes nothing now: the connection stays off the dirty list until [`Fanout::mark_dirty`].
    pub fn set_blocked(&mut self, conn: ConnId) {
        self.outbox(conn).set_blocked(true);
    }

    /// Whether anything is dirty.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The next frames of a connection, as many as make up `max_bytes` (at least one), without what is written of the
    /// first. In one chunk where other connections had the same in this round.
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

    /// The run that is all that waits for a connection.
    fn run(&mut self, conn: ConnId, max_bytes: usize) -> Option<CoalescedId> {
        let outbox = self.outboxes[conn.at()].as_ref()?;
        if outbox.depth().bytes > max_bytes {
            return None;
        }
        let frames = outbox.untouched()?;
        match self.runs.find(frames) {
            Match::None => None,
            Match::Written(run) => Some(run),
            // What is for one connection only cannot wait for another.
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

    /// Writes down the notices that are about to go out; until now they could take in more.
    #[cold]
    fn write_gaps(&mut self, conn: ConnId) {
        let Some(outbox) = &self.outboxes[conn.at()] else { return };
        for frame in outbox.frames().take(GATHER_FRAMES) {
            if let Some(gap) = self.frames.gap_mut(frame) {
                gap.write();
            }
        }
    }

    /// Notes that `bytes` of what was gathered are out. What shared frames have to be told they are told by
    /// [`Fanout::end_round`].
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
            let left = self.frames.bytes(frame).len() - outbox.written();
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
                outbox.pop(left, &mut self.spare);
                self.waiting.bytes -= left;
            }
            if let Released::Event(received_us) = self.frames.release(frame) {
                self.waiting.events -= 1;
                self.counts.delivered += 1;
                outbox.count_delivered();
                self.counts.latency.observe(now_us.saturating_sub(received_us));
            }
        }
    }

    /// The usual case when several wait: all of it is out, so nobody needs to know how long each frame was.
    fn advance_over_all(&mut self, conn: ConnId, now_us: u64) {
        let Self { outboxes, frames, counts, spare, waiting, .. } = self;
        let outbox = outboxes[conn.at()].as_mut().expect("a connection is used only between open and remove");
        let mut events = 0;
        for frame in outbox.frames() {
            if let Released::Event(received_us) = frames.release(frame) {
                events += 1;
                counts.latency.observe(now_us.saturating_sub(received_us));
            }
        }
        waiting.events -= events;
        waiting.bytes -= outbox.depth().bytes;
        counts.delivered += events as u64;
        outbox.pop_all(events, spare);
    }

    /// The usual case where everybody gets everything: a run is out. All of it are events.
    fn advance_over_run(&mut self, conn: ConnId, run: CoalescedId) {
        let outbox = self.outboxes[conn.at()].as_mut().expect("a connection is used only between open and remove");
        let Depth { events, bytes } = outbox.depth();
        self.waiting.events -= events;
        self.waiting.bytes -= bytes;
        self.counts.delivered += events as u64;
        outbox.pop_all(events, &mut self.spare);
        self.runs.count(run);
    }

    /// Ends a round of writes: what was gathered in it for many at a time is counted, and let go.
    pub fn end_round(&mut self, now_us: u64) {
        self.taken = None;
        let Self { runs, frames, counts, .. } = self;
        runs.end(|frame, deliveries| {
            // The run's own reference is one more.
            if let Released::Event(received_us) = frames.release_many(frame, deliveries + 1) {
                counts.latency.observe_many(now_us.saturating_sub(received_us), u64::from(deliveries));
            }
        });
    }
}
