//! The frames queued in a shard. Each is held once, with a plain count of the outboxes that refer to it.
//!
//! Contract: belongs to one shard. A frame is inserted without references and released with its last reference. Its
//! number is reused then, so only who holds a reference may use it. Conflated frames are shared by span and encoding.

use std::sync::Arc;

use hashbrown::HashMap;

use super::barriers::Object;
use super::gap::{Gap, Time};
use super::slab::{self, Slab};
use crate::event::Event;
use crate::websocket::frame::Encoding;

/// The number of a frame in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameId(u32);

impl FrameId {
    /// Fills unused entries; never looked up.
    pub(super) const NONE: Self = Self(u32::MAX);
}

/// A frame: bytes that are sent to clients unchanged.
#[derive(Debug)]
pub enum Frame {
    /// An event, shared by all connections that get it.
    Event {
        /// The event, which contains the bytes of its frames.
        event: Arc<Event>,
        /// The encoding that selects one of its frames.
        encoding: Encoding,
        /// When hydrant accepted it, in microseconds since the broker's epoch.
        received_us: u64,
    },
    /// An answer to one connection.
    Answer(Box<Event>),
    /// Another frame for one connection that has to be sent, such as a close frame.
    Control(Box<[u8]>),
    /// A pong, which may be dropped.
    Pong(Box<[u8]>),
    /// A frame that is always the same and may be dropped, such as a ping.
    Constant(&'static [u8]),
    /// A notice of the events that one connection has lost.
    Gap(Box<Gap>),
}

/// What a frame is that may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// A ping, or the comment of an event stream.
    Ping,
    Pong,
}

impl Frame {
    /// Returns what it is if it may be left out.
    pub(super) fn beat(&self) -> Option<Beat> {
        match self {
            Self::Constant(_) => Some(Beat::Ping),
            Self::Pong(_) => Some(Beat::Pong),
            Self::Event { .. } | Self::Answer(_) | Self::Control(_) | Self::Gap(_) => None,
        }
    }

    /// Returns the bytes on the wire, header included.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Event { event, encoding, .. } => event.frame_in(*encoding),
            Self::Answer(event) => event.frame(),
            Self::Control(bytes) | Self::Pong(bytes) => bytes,
            Self::Constant(bytes) => bytes,
            Self::Gap(gap) => gap.bytes(),
        }
    }

    /// Converts the frame for one connection, which may not be a websocket.
    pub(super) fn for_one(self, encoding: Encoding) -> Self {
        match self {
            Self::Answer(event) if !encoding.is_websocket() => Self::Control(event.frame_in(encoding).into()),
            frame => frame,
        }
    }

    /// Registers this frame as held. Returns the bytes of memory that are held in addition.
    fn hold(&self) -> i64 {
        size(match self {
            Self::Event { event, encoding, .. } => event.hold(*encoding),
            Self::Gap(_) | Self::Constant(_) => 0,
            Self::Answer(_) | Self::Control(_) | Self::Pong(_) => self.bytes().len(),
        })
    }

    /// Registers this frame as released. Returns the bytes of memory that are no longer held.
    fn let_go(&self) -> i64 {
        size(match self {
            Self::Event { event, encoding, .. } => event.let_go(*encoding),
            Self::Gap(_) | Self::Constant(_) => 0,
            Self::Answer(_) | Self::Control(_) | Self::Pong(_) => self.bytes().len(),
        })
    }
}

/// Converts a number of bytes in memory.
pub(super) fn size(bytes: usize) -> i64 {
    i64::try_from(bytes).expect("what is in memory is below 2^63")
}

/// The numbers of the events that a frame stands for; a single one, unless they were conflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
    /// For conflated events, the encoding of the connections that wait for the frame.
    pub(super) wanted: Encoding,
}

impl Span {
    /// The span of frames for a single connection.
    pub(super) const NONE: Self = Self::of(0);

    /// Creates the span of a single event.
    pub(super) const fn of(number: u64) -> Self {
        Self { first: number, last: number, wanted: Encoding::Plain }
    }
}

#[derive(Debug)]
struct Held {
    frame: Frame,
    references: u32,
    object: Object,
    span: Span,
}

/// Bytes of a frame's entry in the slab. Many answers and pongs are smaller.
pub(super) const SIZE: usize = size_of::<Option<Held>>();

/// The kind of a released frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Released {
    /// An event, accepted at this time (microseconds).
    Event(u64),
    /// A gap notice.
    Gap,
    /// An answer, or another frame that has to be sent.
    Answer,
    /// A ping or pong.
    Beat,
}

/// All frames of a shard.
#[derive(Debug, Default)]
pub(super) struct Frames {
    held: Slab<Held>,
    /// Conflated frames by span, so that each is made once and not for every connection.
    conflated: HashMap<Span, FrameId>,
    /// How many bytes this shard holds more than at the last [`Frames::take_more`], entries included; events count only
    /// if no other shard holds them.
    more: i64,
}

impl Frames {
    /// Stores a frame other than an event, with no references yet.
    pub(super) fn insert(&mut self, frame: Frame) -> FrameId {
        self.insert_event(frame, Span::NONE, Object::default())
    }

    /// Stores a frame with no references yet.
    pub(super) fn insert_event(&mut self, frame: Frame, span: Span, object: Object) -> FrameId {
        self.more += frame.hold() + size(SIZE);
        FrameId(self.held.insert(Held { frame, references: 0, object, span }))
    }

    /// Replaces a frame that is not an event. Returns the bytes of the previous one.
    pub(super) fn replace(&mut self, id: FrameId, frame: Frame) -> usize {
        let before = std::mem::replace(&mut self.held_mut(id).frame, frame);
        self.more += self.held(id).frame.hold() - before.let_go();
        before.bytes().len()
    }

    fn held(&self, id: FrameId) -> &Held {
        self.held.get(id.0).expect("an outbox holds a reference to its frames")
    }

    fn held_mut(&mut self, id: FrameId) -> &mut Held {
        self.held.get_mut(id.0).expect("an outbox holds a reference to its frames")
    }

    /// Returns a frame.
    pub(super) fn frame(&self, id: FrameId) -> &Frame {
        &self.held(id).frame
    }

    /// Returns the bytes of a frame.
    #[inline]
    pub(super) fn bytes(&self, id: FrameId) -> &[u8] {
        self.held(id).frame.bytes()
    }

    /// Returns the event in the frame and its span, if the frame is a shared event.
    pub(super) fn event(&self, id: FrameId) -> Option<(&Arc<Event>, Span)> {
        match self.held(id) {
            Held { frame: Frame::Event { event, .. }, span, .. } => Some((event, *span)),
            _ => None,
        }
    }

    /// Returns the object of the event in the frame, if the frame is a shared event.
    pub(super) fn object(&self, id: FrameId) -> Option<Object> {
        let held = self.held(id);
        matches!(held.frame, Frame::Event { .. }).then_some(held.object)
    }

    /// Returns whether the events in two frames are of the same object.
    pub(super) fn are_of_one_object(&self, a: FrameId, b: FrameId) -> bool {
        let (Some((one, _)), Some((other, _))) = (self.event(a), self.event(b)) else { return false };
        self.held(a).object.may_be(self.held(b).object) && (one.kind(), one.key()) == (other.kind(), other.key())
    }

    /// Returns when the event in the frame was accepted.
    pub(super) fn received_us(&self, id: FrameId) -> Option<u64> {
        match self.held(id).frame {
            Frame::Event { received_us, .. } => Some(received_us),
            _ => None,
        }
    }

    /// Returns whether the frame is a gap notice.
    pub(super) fn is_gap(&self, id: FrameId) -> bool {
        matches!(self.held(id).frame, Frame::Gap(_))
    }

    /// Returns whether the frame is an answer, or another that has to be sent.
    pub(super) fn is_answer(&self, id: FrameId) -> bool {
        matches!(self.held(id).frame, Frame::Answer(_) | Frame::Control(_))
    }

    /// Returns whether the frame is a ping or a pong, and which.
    pub(super) fn beat(&self, id: FrameId) -> Option<Beat> {
        self.held(id).frame.beat()
    }

    /// Returns the time of the event in the frame, if the frame is a shared event.
    pub(super) fn time(&self, id: FrameId) -> Option<Time> {
        self.event(id).map(|(event, _)| Time::from_slice(event.time().as_bytes()))
    }

    /// Returns the gap in the frame, if it is a gap notice.
    pub(super) fn gap_mut(&mut self, id: FrameId) -> Option<&mut Gap> {
        match &mut self.held_mut(id).frame {
            Frame::Gap(gap) => Some(gap),
            _ => None,
        }
    }

    /// Returns the frame that stands for all events from `first` to `last`, if it was made before.
    pub(super) fn conflated(&self, first: FrameId, last: FrameId, wanted: Encoding) -> Option<FrameId> {
        let (Some((_, from)), Some((_, to))) = (self.event(first), self.event(last)) else { return None };
        self.conflated.get(&Span { first: from.first, last: to.last, wanted }).copied()
    }

    /// Returns a frame that stands for all events from `first` to `last`, two events of one object, for connections
    /// with the encoding `wanted`. Creates it with `encode` if it does not exist yet.
    pub(super) fn conflate(
        &mut self,
        first: FrameId,
        last: FrameId,
        wanted: Encoding,
        encode: impl FnOnce(&Event) -> Encoding,
    ) -> FrameId {
        let (Some((earlier, from)), Some((event, to))) = (self.event(first), self.event(last)) else {
            unreachable!("only events are conflated")
        };
        let span = Span { first: from.first, last: to.last, wanted };
        if let Some(&made) = self.conflated.get(&span) {
            return made;
        }
        let event = Arc::new(event.since(earlier));
        let encoding = encode(&event);
        let received_us = self.received_us(last).unwrap_or_default();
        let object = self.held(last).object;
        let made = self.insert_event(Frame::Event { event, encoding, received_us }, span, object);
        self.conflated.insert(span, made);
        made
    }

    /// Adds references; a frame that has none afterwards is freed.
    pub(super) fn retain(&mut self, id: FrameId, references: u32) {
        let held = self.held_mut(id);
        held.references += references;
        if held.references == 0 {
            self.forget(id);
        }
    }

    /// Removes one reference.
    pub(super) fn release(&mut self, id: FrameId) -> Released {
        self.release_many(id, 1)
    }

    /// Removes references.
    pub(super) fn release_many(&mut self, id: FrameId, references: u32) -> Released {
        let held = self.held_mut(id);
        held.references -= references;
        let released = match held.frame {
            Frame::Event { received_us, .. } => Released::Event(received_us),
            Frame::Gap(_) => Released::Gap,
            Frame::Answer(_) | Frame::Control(_) => Released::Answer,
            Frame::Pong(_) | Frame::Constant(_) => Released::Beat,
        };
        if held.references == 0 {
            self.forget(id);
        }
        released
    }

    #[cold]
    fn forget_conflated(&mut self, span: Span) {
        self.conflated.remove(&span);
    }

    fn forget(&mut self, id: FrameId) {
        let span = self.held(id).span;
        if span.first != span.last {
            self.forget_conflated(span);
        }
        if let Some(held) = self.held.remove(id.0) {
            self.more -= held.frame.let_go() + size(SIZE);
        }
    }

    /// Gives back memory of entries, if most are free: some in every turn.
    pub(super) fn trim(&mut self) {
        self.held.trim();
        let needed = self.conflated.len().max(slab::KEPT);
        if self.conflated.capacity() >= slab::SPARSE * needed {
            self.conflated.shrink_to(2 * needed);
        }
    }

    /// Returns how many more bytes are held than at the last call. See [`super::budget::Budget`].
    pub(super) fn take_more(&mut self) -> i64 {
        std::mem::take(&mut self.more)
    }

    /// Returns for how many frames there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.held.capacity()
    }

    /// Returns the number of frames held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
}
