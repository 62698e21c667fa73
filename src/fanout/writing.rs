//! What is written next: dirty connections, the frames of a vectored write, and what of them is out.

use std::io::IoSlice;

use smallvec::SmallVec;

use super::frames::Released;
use super::outbox::Outbox;
use super::{ConnId, Fanout};

/// At most this many frames go out in one system call; the kernel takes no more than 1,024.
pub const GATHER_FRAMES: usize = 256;

/// The frames of one vectored write.
pub type Gathered<'a> = SmallVec<[IoSlice<'a>; GATHER_FRAMES]>;

impl Fanout {
    /// The connections that have something to write, each once. They are no longer dirty afterwards.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        into.clear();
        std::mem::swap(into, &mut self.dirty);
        for &conn in into.iter() {
            self.outbox(conn).clear_dirty();
        }
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

    /// The next frames of a connection, as many as make up `max_bytes` (at least one), without what is written of the first.
    pub fn gather<'a>(&'a mut self, conn: ConnId, max_bytes: usize, into: &mut Gathered<'a>) {
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

    /// Notes that `bytes` of what was gathered are out.
    pub fn advance(&mut self, conn: ConnId, mut bytes: usize, now_us: u64) {
        self.counts.bytes += bytes as u64;
        let outbox = self.outboxes[conn.at()].as_mut().expect("a connection is used only between open and remove");
        let waiting = outbox.depth();
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
}
