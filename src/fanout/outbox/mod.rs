//! Outboxes: the frames queued for each connection, and what happens when an outbox overflows.
//!
//! A [`Fanout`] belongs to one shard and only its thread touches it, so a delivery takes no lock, allocates nothing
//! and updates no shared reference count. The frame of an event is stored once per shard and encoding; an outbox is a
//! list of four-byte numbers of such frames. The deflated frame is made at the first delivery that needs it, once in
//! the process.
//!
//! Contract: pure, no I/O, no clock. Frames leave an outbox in the order in which they entered, each exactly once or,
//! after an overflow, not at all; every dropped event is counted. Only pings and pongs may precede others. An outbox
//! never exceeds its limits, but a single frame always fits into an empty one, so every event can be delivered; a first
//! frame of more than half of the limit does not count, so that there is room behind it; and a conflating outbox may
//! hold a quarter more while the rest of its pass is postponed. The work for slow consumers is bounded per turn
//! ([`Fanout::begin_turn`]): conflation passes are postponed, and dropped frames are released gradually.
//!
//! Why the limits can be generous: a stalled connection costs four bytes per event, not a copy of it, and all stalled
//! connections of the shard share the frames they hold.

mod answers;
mod barriers;
mod beats;
mod budget;
mod coalesce;
mod effort;
mod encode;
mod footprint;
mod frames;
mod gap;
pub mod gather;
mod intake;
mod largest;
mod merges;
mod overflow;
mod pause;
mod queue;
mod ring;
mod room;
mod slab;
mod waste;
mod weight;

use std::collections::VecDeque;
use std::sync::{Arc, atomic};

pub use budget::Budget;
pub use encode::DeflatePolicy;
pub use frames::Frame;
pub use gap::Gap;
pub use largest::Largest;

use crate::event::Event;
use crate::overflow::Overflow;
use crate::stats::{Counts, Delivery, Depth, Dropped, OutboxLimits};
use crate::websocket::frame::Encoding;
use answers::Answers;
use barriers::Barriers;
use coalesce::{CoalescedBatches, CoalescedId};
use effort::Effort;
use encode::Encoder;
use frames::{FrameId, Frames, Span};
use largest::Search;
use queue::Outbox;
use ring::Spare;
use waste::Waste;

/// The number of a connection in its shard. Reused after the connection is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

impl ConnId {
    fn at(self) -> usize {
        self.0 as usize
    }
}

/// The frame, in one encoding, of the event being delivered.
#[derive(Debug, Clone, Copy)]
struct Current {
    frame: FrameId,
    bytes: usize,
    /// The memory that it takes.
    memory: usize,
    hits: u32,
}

/// The outboxes of one shard and the frames they refer to. Owned by the shard's thread; does no I/O.
#[derive(Debug)]
pub struct Fanout {
    limits: OutboxLimits,
    frames: Frames,
    outboxes: Vec<Option<Outbox>>,
    free: Vec<u32>,
    spare: Spare,
    answers: Answers,
    dirty: Vec<ConnId>,
    /// Empty between two calls of [`Fanout::take_dirty`].
    streams: Vec<ConnId>,
    /// The number of the event being delivered.
    number: u64,
    barriers: Barriers,
    /// The frame of the event being delivered, by encoding.
    current: [Option<Current>; Encoding::COUNT],
    encoder: Option<Encoder>,
    runs: CoalescedBatches,
    /// The run that was gathered last, and for which connection.
    taken: Option<(ConnId, CoalescedId)>,
    counts: Counts,
    waiting: Depth,
    /// The work still allowed in this turn for slow consumers.
    effort: Effort,
    /// Connections whose conflation passes were postponed.
    postponed: VecDeque<ConnId>,
    waste: Waste,
    search: Search,
    /// Paused connections with fewer queued frames than before.
    roomier: Vec<ConnId>,
}

impl Fanout {
    /// Creates a fan-out without connections.
    pub fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            frames: Frames::default(),
            outboxes: Vec::new(),
            free: Vec::new(),
            spare: Spare::default(),
            answers: Answers::default(),
            dirty: Vec::new(),
            streams: Vec::new(),
            number: 0,
            barriers: Barriers::default(),
            current: [None; Encoding::COUNT],
            encoder: None,
            runs: CoalescedBatches::default(),
            taken: None,
            counts: Counts::default(),
            waiting: Depth::default(),
            effort: Effort::default(),
            postponed: VecDeque::new(),
            waste: Waste::default(),
            search: Search::default(),
            roomier: Vec::new(),
        }
    }

    /// Enables deflated frames for the connections that negotiated compression.
    #[must_use]
    pub fn with_deflate(mut self, policy: DeflatePolicy) -> Self {
        self.encoder = Some(Encoder::new(policy));
        self
    }

    /// Opens an outbox with this policy.
    pub fn open(&mut self, policy: Overflow) -> ConnId {
        if policy == Overflow::Conflate {
            self.barriers.acquire();
        }
        let outbox = Some(Outbox::new(policy));
        if let Some(free) = self.free.pop() {
            self.outboxes[free as usize] = outbox;
            return ConnId(free);
        }
        self.outboxes.push(outbox);
        ConnId(u32::try_from(self.outboxes.len() - 1).expect("fewer than 4 billion connections"))
    }

    /// Drops everything queued for a connection and accepts nothing more for it. Its number is not reused yet.
    pub fn retire(&mut self, conn: ConnId) {
        self.drop_waiting(conn, Dropped::Closed, false);
        self.outbox(conn).set_closing();
    }

    /// Removes a connection with everything queued for it.
    pub fn remove(&mut self, conn: ConnId) {
        self.drop_waiting(conn, Dropped::Closed, false);
        if let Some(outbox) = self.outboxes[conn.at()].take() {
            if outbox.policy() == Overflow::Conflate {
                self.barriers.release();
            }
            self.free.push(conn.0);
        }
    }

    /// Sets the encoding of a connection's events. Its answers stay plain.
    pub fn set_encoding(&mut self, conn: ConnId, encoding: Encoding) {
        self.outbox(conn).set_encoding(encoding);
    }

    /// Returns the encoding of a connection's events.
    pub fn encoding(&self, conn: ConnId) -> Encoding {
        self.outboxes.get(conn.at()).and_then(Option::as_ref).map_or(Encoding::Plain, Outbox::encoding)
    }

    fn outbox(&mut self, conn: ConnId) -> &mut Outbox {
        self.outboxes[conn.at()].as_mut().expect("a connection is used only between open and remove")
    }

    /// Begins an event. All its deliveries must follow without another event in between, and then
    /// [`Fanout::end_event`].
    pub fn begin_event(&mut self, event: &Event) {
        self.number += 1;
        self.barriers.note(event, self.number);
    }

    /// Queues the event in a connection's outbox.
    #[inline]
    pub fn deliver(&mut self, event: &Arc<Event>, received_us: u64, conn: ConnId) -> Delivery {
        let outbox = self.outboxes[conn.at()].as_ref().expect("only open connections subscribe");
        match outbox.refuses() {
            None => self.deliver_checked(event, received_us, conn),
            Some(refused) => refused,
        }
    }

    /// Like [`Fanout::deliver`], for a connection already known to be allowed to see the event.
    #[inline]
    pub fn deliver_checked(&mut self, event: &Arc<Event>, received_us: u64, conn: ConnId) -> Delivery {
        let outbox = self.outboxes[conn.at()].as_mut().expect("only open connections subscribe");
        let encoding = outbox.encoding();
        let Some(current) = &mut self.current[encoding as usize] else {
            self.hold(event, received_us, encoding);
            return self.deliver_checked(event, received_us, conn);
        };
        if outbox.is_closing() || !outbox.has_room(current.bytes, Depth::default(), &self.limits) {
            return self.deliver_without_room(event, conn);
        }
        if outbox.take_in(current, &mut self.spare) {
            self.dirty.push(conn);
        }
        Delivery::Queued
    }

    /// Queues the event if the connection's overflow policy makes room for it.
    #[cold]
    fn deliver_without_room(&mut self, event: &Arc<Event>, conn: ConnId) -> Delivery {
        let encoding = self.outbox(conn).encoding() as usize;
        let delivery = self.refuse(event, self.current[encoding].map_or(0, |current| current.bytes), conn);
        let outbox = self.outboxes[conn.at()].as_mut().expect("it had an outbox before");
        if delivery == Delivery::Queued
            && let Some(current) = &mut self.current[encoding]
            && outbox.take_in(current, &mut self.spare)
        {
            self.dirty.push(conn);
        }
        delivery
    }

    #[cold]
    fn hold(&mut self, event: &Arc<Event>, received_us: u64, wanted: Encoding) {
        let encoding = encode::encode(&mut self.encoder, &mut self.counts, event, wanted);
        let (bytes, memory) = (event.frame_in(encoding).len(), event.memory_in(encoding));
        let frame = Frame::Event { event: Arc::clone(event), encoding, received_us };
        let frame = self.frames.insert_event(frame, Span::of(self.number), self.barriers.object(event));
        self.current[wanted as usize] = Some(Current { frame, bytes, memory, hits: 0 });
    }

    /// Ends the deliveries of an event.
    pub fn end_event(&mut self) {
        let conflating = self.barriers.users();
        for Current { frame, bytes, hits, .. } in std::mem::take(&mut self.current).into_iter().flatten() {
            self.frames.retain(frame, hits);
            self.counts.matched += u64::from(hits);
            self.effort.earn(hits as usize, conflating);
            self.waiting.events += hits as usize;
            self.waiting.bytes += bytes * hits as usize;
        }
    }

    /// Queues an answer for this connection; the overflow policy makes room for it. Returns whether there was room.
    pub fn send(&mut self, conn: ConnId, frame: Frame) -> bool {
        let frame = frame.for_one(self.encoding(conn));
        let bytes = frame.bytes().len();
        let limits = self.limits;
        let outbox = self.outbox(conn);
        if outbox.is_closing() || !(outbox.has_room(bytes, Depth::default(), &limits) || self.make_room(conn, bytes)) {
            return false;
        }
        self.push_own(conn, frame);
        true
    }

    fn push_own(&mut self, conn: ConnId, frame: Frame) {
        let frame = self.frames.insert(frame);
        self.frames.retain(frame, 1);
        let weight = self.frames.weight(frame);
        let outbox = self.outboxes[conn.at()].as_mut().expect("a connection is used only between open and remove");
        if outbox.policy() != Overflow::DropOldest {
            outbox.push(frame, weight, &mut self.spare);
        } else if self.frames.beat(frame).is_some() {
            outbox.push_first(frame, weight, &mut self.spare);
        } else {
            outbox.push(frame, weight, &mut self.spare);
            self.answers.add(conn);
        }
        if outbox.mark_dirty() {
            self.dirty.push(conn);
        }
        self.waiting.bytes += weight.wire;
    }

    /// Queues a last frame (the close frame) and accepts nothing after it. With `discard`, queued frames are dropped
    /// for that reason, except one that is partly written.
    pub fn finish(&mut self, conn: ConnId, last: Frame, discard: Option<Dropped>) {
        if self.outbox(conn).is_closing() {
            return;
        }
        if let Some(reason) = discard {
            self.drop_waiting(conn, reason, true);
        }
        self.push_own(conn, last);
        self.outbox(conn).set_closing();
    }

    /// Returns how much is queued for a connection.
    pub fn depth(&self, conn: ConnId) -> Depth {
        self.outboxes.get(conn.at()).and_then(Option::as_ref).map_or(Depth::default(), Outbox::depth)
    }

    /// Returns the number of events delivered to a connection, and of those dropped for it.
    pub fn totals(&self, conn: ConnId) -> (u64, u64) {
        self.outboxes.get(conn.at()).and_then(Option::as_ref).map_or((0, 0), Outbox::totals)
    }

    /// Returns whether the connection's last frame is queued or written.
    pub fn is_closing(&self, conn: ConnId) -> bool {
        self.outboxes.get(conn.at()).and_then(Option::as_ref).is_some_and(Outbox::is_closing)
    }

    /// Returns when the first event queued for a connection was accepted.
    pub fn oldest_us(&self, conn: ConnId) -> Option<u64> {
        let outbox = self.outboxes.get(conn.at())?.as_ref()?;
        // Not found behind that many answers: looking at all frames would cost more than the result is worth.
        outbox.frames().take(gather::GATHER_FRAMES).find_map(|frame| self.frames.received_us(frame))
    }

    /// Returns the overflow policy of a connection.
    pub fn policy(&self, conn: ConnId) -> Option<Overflow> {
        self.outboxes.get(conn.at()).and_then(Option::as_ref).map(Outbox::policy)
    }

    /// Returns what is queued for all connections together: the number of events, and the bytes of all frames.
    pub fn waiting(&self) -> Depth {
        self.waiting
    }

    /// Returns the limits of each outbox.
    pub fn limits(&self) -> OutboxLimits {
        self.limits
    }

    /// Returns how many more bytes are held than at the last call; for the [`Budget`].
    pub fn take_held(&mut self) -> i64 {
        self.frames.take_more() + self.spare.take_more()
    }

    /// Counts a connection that is closed as a slow consumer.
    pub fn count_disconnect(&mut self) {
        self.counts.overflow(Overflow::Disconnect);
    }

    /// Returns the number of frames held.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Returns the counts since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod beat_tests;

#[cfg(test)]
mod share_tests;

#[cfg(test)]
mod policy_model;

#[cfg(test)]
mod policy_tests;

#[cfg(test)]
mod turn_tests;

#[cfg(test)]
mod weight_tests;
