//! Pings and pongs, the signs of life.
//!
//! Contract: with *drop-oldest* they precede everything but a partly written frame, and count against no limit. So the
//! events that are dropped take none with them, and a client that reads slowly gets them in time, however much is
//! queued. At most one of each kind waits: one ping asks as much as many, and only the latest ping of a client has to
//! be answered (RFC 6455, 5.5.3). With the other policies they keep their place among the frames, and are queued if
//! there is room.

use super::frames::{Beat, FrameId};
use super::queue::Outbox;
use super::ring::Spare;
use super::weight::Weight;
use super::{ConnId, Fanout, Frame};
use crate::overflow::Overflow;

/// The most frames that may precede what counts in an outbox: one that is partly written, a ping, a pong, and a gap
/// notice.
pub(super) const PRECEDING: usize = 4;

impl Fanout {
    /// Queues a ping or pong for this connection. The overflow policy is not applied: otherwise a client that sends
    /// pings and does not read would have its outbox searched for each of them.
    pub fn offer(&mut self, conn: ConnId, frame: Frame) {
        if self.is_closing(conn) {
            return;
        }
        if self.policy(conn) != Some(Overflow::DropOldest) {
            if self.fits(conn, frame.bytes().len()) {
                self.push_own(conn, frame);
            }
            return;
        }
        match self.of_its_kind(conn, &frame) {
            None => self.push_own(conn, frame),
            Some(earlier) if frame.beat() == Some(Beat::Pong) => self.replace(conn, earlier, frame),
            Some(_) => {}
        }
    }

    /// Returns the queued ping or pong that makes another one needless: a pong may still be changed unless it is partly
    /// written.
    fn of_its_kind(&self, conn: ConnId, frame: &Frame) -> Option<FrameId> {
        let (outbox, kind) = (self.outboxes[conn.at()].as_ref()?, frame.beat()?);
        let begun = usize::from(kind == Beat::Pong && outbox.written() > 0);
        outbox.kept().take(PRECEDING).skip(begun).find(|other| self.frames.beat(*other) == Some(kind))
    }

    /// Replaces an unwritten frame of this connection alone by another of its kind.
    fn replace(&mut self, conn: ConnId, old: FrameId, new: Frame) {
        let bytes = new.bytes().len();
        let before = self.frames.replace(old, new);
        self.outbox(conn).resize(before, bytes);
        self.waiting.bytes = self.waiting.bytes + bytes - before;
    }
}

impl Outbox {
    /// Adds a frame before all others, except one that is partly written.
    pub(super) fn push_first(&mut self, frame: FrameId, weight: Weight, spare: &mut Spare) {
        if self.kept.is_none() && self.written() > 0 {
            self.keep(spare);
        }
        let begun = usize::from(self.written() > 0);
        self.kept.get_or_insert_default().insert(begun, frame);
        self.bytes += weight.wire;
        self.memory += weight.memory;
        self.counted += 1;
    }
}
