//! Pings and pongs, which a connection gets if there is room for them.
//!
//! Contract: with *drop-oldest* no more than [`ROW`] of them are queued in a row, so an event is found close to each
//! end of a queue that has any. This is how a turn without time for the whole queue can report what it drops. A client
//! that has so many pongs to read misses nothing: only its latest ping has to be answered (RFC 6455, 5.5.3).

use super::asides::Aside;
use super::frames::FrameId;
use super::{ConnId, Fanout, Frame};
use crate::overflow::Overflow;

/// Pings and pongs that are queued in a row.
const ROW: usize = 64;

impl Fanout {
    /// Queues a ping or pong for this connection, if there is room already. The overflow policy is not applied:
    /// otherwise a client that sends pings and does not read would have its outbox searched for each of them. At the
    /// end of a long row a pong takes the place of the last, and a ping is left out.
    pub fn offer(&mut self, conn: ConnId, frame: Frame) {
        if self.is_closing(conn) || !self.fits(conn, frame.bytes().len()) {
            return;
        }
        match self.end_of_row(conn) {
            None => self.push_own(conn, frame),
            Some(last) if matches!(frame, Frame::Pong(_)) => self.replace(conn, last, frame),
            Some(_) => {}
        }
    }

    /// Returns the last frame of a connection if a row of pings and pongs ends with it that must not become longer.
    fn end_of_row(&self, conn: ConnId) -> Option<FrameId> {
        let outbox = self.outboxes[conn.at()].as_ref().filter(|outbox| outbox.policy() == Overflow::DropOldest)?;
        let is_beat = |frame: &FrameId| self.frames.aside(*frame) == Aside::BEAT;
        let row = outbox.ring().rev().take(ROW).take_while(is_beat).count();
        if row == ROW { outbox.ring().next_back() } else { None }
    }

    /// Replaces an unwritten frame of this connection alone by another of its kind.
    fn replace(&mut self, conn: ConnId, old: FrameId, new: Frame) {
        let bytes = new.bytes().len();
        let before = self.frames.replace(old, new);
        self.outbox(conn).resize(before, bytes);
        self.waiting.bytes = self.waiting.bytes + bytes - before;
    }
}
