//! Who gets an event and how it waits: outboxes, frames, overflow.
//!
//! A [`Fanout`] belongs to one shard and is only touched by its thread, so that nothing on the way of a delivery takes a
//! lock, allocates or counts a shared reference. An event's frame is held once a shard and encoding; what waits for a
//! connection is a list of four-byte numbers of such frames. The deflated frame is made at the first delivery that wants
//! it, once in the process.
//!
//! Contract: pure, no I/O, reads no clock. Frames leave an outbox in the order in which they were put in, each exactly once
//! or, after an overflow, not at all; every frame that is dropped is counted. An outbox never holds more than its
//! bounds, but a single frame always fits an empty one, so that no event is undeliverable.
//!
//! Why bounds can be generous: a stalled connection costs four bytes an event, not a copy of it, and the frames it
//! holds back are shared by all stalled connections of the shard.

mod encode;
mod frames;
pub mod inbox;
mod latency;
mod outbox;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use smallvec::SmallVec;

pub use encode::DeflatePolicy;
pub use frames::Frame;
pub use latency::{BUCKETS, Latency, bucket_bound_us};

use crate::event::Event;
use crate::frame::Encoding;
use encode::Encoder;
use frames::{FrameId, Frames};
use outbox::Outbox;

/// The number of a connection in its shard. Used again after the connection is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

impl ConnId {
    fn at(self) -> usize {
        self.0 as usize
    }
}

/// How much may wait for one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes on the wire.
    pub bytes: usize,
    /// Frames.
    pub events: usize,
}

/// What became of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It waits in the outbox.
    Queued,
    /// The outbox is full; the event was not put in. The caller decides by the overflow policy.
    Overflow,
    /// The connection is closing and takes nothing any more.
    Closed,
}

/// What waits for a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Frames.
    pub events: usize,
    /// Bytes on the wire.
    pub bytes: usize,
}

/// Counts since the last [`Fanout::take_counts`].
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Events put into an outbox, once a connection.
    pub queued: u64,
    /// Events of which the last byte was handed to the kernel (or to TLS).
    pub delivered: u64,
    /// Events that were waiting, or refused by a full outbox, when their connection was closed.
    pub dropped: u64,
    /// Bytes handed to the kernel (or to TLS), all frames.
    pub bytes: u64,
    /// Events that this shard deflated, for all shards.
    pub deflated: u64,
    /// Bytes of them before.
    pub deflate_input: u64,
    /// Bytes of their frames afterwards; those before where it did not pay.
    pub deflate_output: u64,
    /// From intake to the hand-over of the last byte.
    pub latency: Latency,
}

/// At most this many frames go out in one system call; the kernel takes no more than 1,024.
pub const GATHER_FRAMES: usize = 256;

/// The frames of one vectored write.
pub type Gathered<'a> = SmallVec<[IoSlice<'a>; GATHER_FRAMES]>;

/// A frame of the event that is being delivered.
#[derive(Debug, Clone, Copy)]
struct Current {
    frame: FrameId,
    bytes: usize,
    hits: u32,
}

/// The outboxes of one shard and the frames in them. See the module's text.
#[derive(Debug)]
pub struct Fanout {
    limits: OutboxLimits,
    frames: Frames,
    outboxes: Vec<Option<Outbox>>,
    free: Vec<u32>,
    /// Memory of drained outboxes, for the next that needs more than its inline room.
    spare: Vec<VecDeque<FrameId>>,
    dirty: Vec<ConnId>,
    /// By encoding.
    current: [Option<Current>; 2],
    encoder: Option<Encoder>,
    counts: Counts,
    waiting: Depth,
}

impl Fanout {
    /// A shard without connections.
    pub fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            frames: Frames::default(),
            outboxes: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            dirty: Vec::new(),
            current: [None; 2],
            encoder: None,
            counts: Counts::default(),
            waiting: Depth::default(),
        }
    }

    /// The same, with deflated frames for the connections that agree to them.
    #[must_use]
    pub fn with_deflate(mut self, policy: DeflatePolicy) -> Self {
        self.encoder = Some(Encoder::new(policy));
        self
    }

    /// Makes room for a connection.
    pub fn open(&mut self) -> ConnId {
        if let Some(free) = self.free.pop() {
            self.outboxes[free as usize] = Some(Outbox::default());
            return ConnId(free);
        }
        self.outboxes.push(Some(Outbox::default()));
        ConnId(u32::try_from(self.outboxes.len() - 1).expect("fewer than 4 billion connections"))
    }

    /// Forgets a connection with everything that waits for it.
    pub fn remove(&mut self, conn: ConnId) {
        self.drop_waiting(conn, false);
        if self.outboxes[conn.at()].take().is_some() {
            self.free.push(conn.0);
            self.dirty.retain(|&other| other != conn);
        }
    }

    /// How the events of a connection are written down from now on. Its answers stay plain.
    pub fn set_encoding(&mut self, conn: ConnId, encoding: Encoding) {
        self.outbox(conn).set_encoding(encoding);
    }

    fn outbox(&mut self, conn: ConnId) -> &mut Outbox {
        self.outboxes[conn.at()].as_mut().expect("a connection is used only between open and remove")
    }

    /// Puts the event into a connection's outbox. All deliveries of one event come one after the other, and then
    /// [`Fanout::end_event`].
    #[inline]
    pub fn deliver(&mut self, event: &Arc<Event>, received_us: u64, conn: ConnId) -> Delivery {
        let encoding = self.outboxes[conn.at()].as_ref().expect("only open connections subscribe").encoding();
        let current = match self.current[encoding as usize] {
            Some(current) => current,
            None => self.begin_event(event, received_us, encoding),
        };
        let outbox = self.outboxes[conn.at()].as_mut().expect("only open connections subscribe");
        if outbox.is_closing() {
            return Delivery::Closed;
        }
        if !outbox.has_room(current.bytes, &self.limits) {
            self.counts.dropped += 1;
            outbox.count_dropped();
            return Delivery::Overflow;
        }
        outbox.push(current.frame, current.bytes, &mut self.spare);
        if outbox.mark_dirty() {
            self.dirty.push(conn);
        }
        self.current[encoding as usize] = Some(Current { hits: current.hits + 1, ..current });
        Delivery::Queued
    }

    #[cold]
    fn begin_event(&mut self, event: &Arc<Event>, received_us: u64, wanted: Encoding) -> Current {
        let encoding = match (wanted, &mut self.encoder) {
            (Encoding::Deflate, Some(encoder)) => encoder.encode(event, &mut self.counts),
            _ => Encoding::Plain,
        };
        let bytes = event.frame_in(encoding).len();
        let frame = self.frames.insert(Frame::Event { event: Arc::clone(event), encoding, received_us });
        let current = Current { frame, bytes, hits: 0 };
        self.current[wanted as usize] = Some(current);
        current
    }

    /// Ends the deliveries of an event.
    pub fn end_event(&mut self) {
        for Current { frame, bytes, hits } in std::mem::take(&mut self.current).into_iter().flatten() {
            self.frames.retain(frame, hits);
            self.counts.queued += u64::from(hits);
            self.waiting.events += hits as usize;
            self.waiting.bytes += bytes * hits as usize;
        }
    }

    /// Puts a frame for this connection alone into its outbox: an answer, a ping, a pong. Returns whether there was room.
    pub fn send(&mut self, conn: ConnId, frame: Frame) -> bool {
        let bytes = frame.bytes().len();
        let limits = self.limits;
        let outbox = self.outbox(conn);
        if outbox.is_closing() || !outbox.has_room(bytes, &limits) {
            return false;
        }
        self.push_own(conn, frame);
        true
    }

    fn push_own(&mut self, conn: ConnId, frame: Frame) {
        let bytes = frame.bytes().len();
        let frame = self.frames.insert(frame);
        self.frames.retain(frame, 1);
        let outbox = self.outboxes[conn.at()].as_mut().expect("a connection is used only between open and remove");
        outbox.push(frame, bytes, &mut self.spare);
        if outbox.mark_dirty() {
            self.dirty.push(conn);
        }
        self.waiting.events += 1;
        self.waiting.bytes += bytes;
    }

    /// Sends a last frame (the close frame) and takes nothing after it. With `discard`, what waits is dropped, but for a
    /// frame of which a part is on its way already.
    pub fn finish(&mut self, conn: ConnId, last: Frame, discard: bool) {
        if self.outbox(conn).is_closing() {
            return;
        }
        if discard {
            self.drop_waiting(conn, true);
        }
        self.push_own(conn, last);
        self.outbox(conn).set_closing();
    }

    fn drop_waiting(&mut self, conn: ConnId, keep_started: bool) {
        let Some(outbox) = self.outboxes[conn.at()].as_mut() else { return };
        let before = outbox.depth();
        let kept = outbox.started().filter(|_| keep_started);
        let kept = kept.map(|frame| (frame, self.frames.bytes(frame).len() - outbox.written()));
        for frame in outbox.frames().skip(usize::from(kept.is_some())) {
            self.counts.dropped += u64::from(self.frames.is_event(frame));
            self.frames.release(frame);
        }
        outbox.clear(kept, &mut self.spare);
        let after = outbox.depth();
        self.waiting.events -= before.events - after.events;
        self.waiting.bytes -= before.bytes - after.bytes;
    }

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
    pub fn gather<'a>(&'a self, conn: ConnId, max_bytes: usize, into: &mut Gathered<'a>) {
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

    /// Notes that `bytes` of what was gathered are out.
    pub fn advance(&mut self, conn: ConnId, mut bytes: usize, now_us: u64) {
        self.counts.bytes += bytes as u64;
        self.waiting.bytes -= bytes;
        let outbox = self.outboxes[conn.at()].as_mut().expect("a connection is used only between open and remove");
        while let Some(frame) = outbox.front() {
            let left = self.frames.bytes(frame).len() - outbox.written();
            if bytes < left {
                outbox.set_written(bytes);
                break;
            }
            bytes -= left;
            outbox.pop(left, &mut self.spare);
            self.waiting.events -= 1;
            if let Some(received_us) = self.frames.release(frame) {
                self.counts.delivered += 1;
                outbox.count_delivered();
                self.counts.latency.observe(now_us.saturating_sub(received_us));
            }
        }
    }

    /// What waits for a connection.
    pub fn depth(&self, conn: ConnId) -> Depth {
        self.outboxes.get(conn.at()).and_then(Option::as_ref).map_or(Depth::default(), Outbox::depth)
    }

    /// Events that a connection got, and those for which it had no room.
    pub fn totals(&self, conn: ConnId) -> (u64, u64) {
        self.outboxes.get(conn.at()).and_then(Option::as_ref).map_or((0, 0), Outbox::totals)
    }

    /// Whether the connection's last frame is queued or out.
    pub fn is_closing(&self, conn: ConnId) -> bool {
        self.outboxes.get(conn.at()).and_then(Option::as_ref).is_some_and(Outbox::is_closing)
    }

    /// What waits for all connections together.
    pub fn waiting(&self) -> Depth {
        self.waiting
    }

    /// The deepest outbox by events and by bytes; looks at every connection.
    pub fn deepest(&self) -> Depth {
        self.outboxes.iter().flatten().map(Outbox::depth).fold(Depth::default(), |max, depth| Depth {
            events: max.events.max(depth.events),
            bytes: max.bytes.max(depth.bytes),
        })
    }

    /// Whether every connection that is not closing could take so much more; looks at every connection.
    pub fn all_have_room(&self, events: usize, bytes: usize) -> bool {
        let fits = |Depth { events: waiting, bytes: size }: Depth| {
            waiting == 0 || (waiting + events <= self.limits.events && size + bytes <= self.limits.bytes)
        };
        self.outboxes.iter().flatten().all(|outbox| outbox.is_closing() || fits(outbox.depth()))
    }

    /// How many frames are held.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// The counts since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}

#[cfg(test)]
mod tests;
