//! The frames that wait in a shard, each held once, with plain counts of the outboxes that wait for it.

use std::sync::Arc;

use crate::event::Event;
use crate::frame::Encoding;

/// The number of a frame in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameId(u32);

impl FrameId {
    /// Fills unused places; never looked up.
    pub(super) const NONE: Self = Self(u32::MAX);
}

/// Bytes that go to clients as they are.
#[derive(Debug)]
pub enum Frame {
    /// An event, shared by everybody who gets it.
    Event {
        /// The event; its frame is the bytes.
        event: Arc<Event>,
        /// Which of its frames.
        encoding: Encoding,
        /// When hydrant took it in, microseconds on the shard's own scale.
        received_us: u64,
    },
    /// An answer to one connection.
    Answer(Box<Event>),
    /// A control frame for one connection.
    Control(Box<[u8]>),
    /// A frame that is always the same, such as a ping.
    Constant(&'static [u8]),
}

impl Frame {
    /// The bytes on the wire, header included.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Event { event, encoding, .. } => event.frame_in(*encoding),
            Self::Answer(event) => event.frame(),
            Self::Control(bytes) => bytes,
            Self::Constant(bytes) => bytes,
        }
    }
}

#[derive(Debug)]
struct Held {
    frame: Frame,
    references: u32,
}

/// All frames of a shard.
#[derive(Debug, Default)]
pub(super) struct Frames {
    held: Vec<Option<Held>>,
    free: Vec<u32>,
}

impl Frames {
    /// Takes a frame in, with no references yet.
    pub(super) fn insert(&mut self, frame: Frame) -> FrameId {
        let held = Some(Held { frame, references: 0 });
        if let Some(free) = self.free.pop() {
            self.held[free as usize] = held;
            return FrameId(free);
        }
        self.held.push(held);
        FrameId(u32::try_from(self.held.len() - 1).expect("fewer than 4 billion frames fit into memory"))
    }

    fn held(&self, id: FrameId) -> &Held {
        self.held[id.0 as usize].as_ref().expect("an outbox holds a reference to its frames")
    }

    /// The bytes of a frame.
    pub(super) fn bytes(&self, id: FrameId) -> &[u8] {
        self.held(id).frame.bytes()
    }

    /// Whether the frame is an event.
    pub(super) fn is_event(&self, id: FrameId) -> bool {
        matches!(self.held(id).frame, Frame::Event { .. })
    }

    /// Adds references; a frame that has none afterwards is forgotten.
    pub(super) fn retain(&mut self, id: FrameId, references: u32) {
        let held = self.held[id.0 as usize].as_mut().expect("just inserted");
        held.references += references;
        if held.references == 0 {
            self.forget(id);
        }
    }

    /// Takes one reference back. For an event, returns when it was received.
    pub(super) fn release(&mut self, id: FrameId) -> Option<u64> {
        let held = self.held[id.0 as usize].as_mut().expect("an outbox holds a reference to its frames");
        held.references -= 1;
        let received = match held.frame {
            Frame::Event { received_us, .. } => Some(received_us),
            Frame::Answer(_) | Frame::Control(_) | Frame::Constant(_) => None,
        };
        if held.references == 0 {
            self.forget(id);
        }
        received
    }

    fn forget(&mut self, id: FrameId) {
        self.held[id.0 as usize] = None;
        self.free.push(id.0);
    }

    /// How many frames are held.
    pub(super) fn len(&self) -> usize {
        self.held.len() - self.free.len()
    }
}
