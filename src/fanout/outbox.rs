//! What waits for one connection: numbers of frames, in order, and how much of the first is out.
//!
//! An idle outbox is a few dozen bytes: six numbers have room inside it, more go to a ring that is borrowed from the
//! shard's spare ones and given back as soon as the outbox is empty.

use std::collections::VecDeque;

use super::frames::FrameId;
use super::{Depth, OutboxLimits};
use crate::frame::Encoding;

const INLINE: usize = 6;

/// Drained rings that are kept for later; more are given back to the allocator.
const SPARE_RINGS: usize = 64;

/// A spare ring larger than this (numbers) is not kept: one stalled connection must not leave its size behind.
const SPARE_CAPACITY: usize = 1024;

#[derive(Debug)]
enum Ring {
    Inline { frames: [FrameId; INLINE], head: u8, len: u8 },
    Borrowed(VecDeque<FrameId>),
}

const EMPTY: Ring = Ring::Inline { frames: [FrameId::NONE; INLINE], head: 0, len: 0 };

/// See the module's text.
#[derive(Debug)]
pub(super) struct Outbox {
    ring: Ring,
    bytes: usize,
    delivered: u64,
    dropped: u32,
    written: u32,
    encoding: Encoding,
    dirty: bool,
    blocked: bool,
    closing: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            ring: EMPTY,
            bytes: 0,
            delivered: 0,
            dropped: 0,
            written: 0,
            encoding: Encoding::Plain,
            dirty: false,
            blocked: false,
            closing: false,
        }
    }
}

impl Outbox {
    fn len(&self) -> usize {
        match &self.ring {
            Ring::Inline { len, .. } => usize::from(*len),
            Ring::Borrowed(ring) => ring.len(),
        }
    }

    /// How the events of this connection are written down.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(super) fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    pub(super) fn depth(&self) -> Depth {
        Depth { events: self.len(), bytes: self.bytes }
    }

    /// Whether another `bytes` may wait. An empty outbox takes anything.
    pub(super) fn has_room(&self, bytes: usize, limits: &OutboxLimits) -> bool {
        let len = self.len();
        len == 0 || (self.bytes + bytes <= limits.bytes && len < limits.events)
    }

    pub(super) fn push(&mut self, frame: FrameId, bytes: usize, spare: &mut Vec<VecDeque<FrameId>>) {
        self.bytes += bytes;
        match &mut self.ring {
            Ring::Borrowed(ring) => ring.push_back(frame),
            Ring::Inline { frames, head, len } if usize::from(*len) < INLINE => {
                frames[usize::from(*head + *len) % INLINE] = frame;
                *len += 1;
            }
            Ring::Inline { frames, head, .. } => {
                let mut ring = spare.pop().unwrap_or_default();
                ring.extend((0..INLINE).map(|at| frames[(usize::from(*head) + at) % INLINE]));
                ring.push_back(frame);
                self.ring = Ring::Borrowed(ring);
            }
        }
    }

    /// The first frame.
    pub(super) fn front(&self) -> Option<FrameId> {
        match &self.ring {
            Ring::Inline { len: 0, .. } => None,
            Ring::Inline { frames, head, .. } => Some(frames[usize::from(*head)]),
            Ring::Borrowed(ring) => ring.front().copied(),
        }
    }

    /// Takes the first frame off, of which `bytes` were still to be written.
    pub(super) fn pop(&mut self, bytes: usize, spare: &mut Vec<VecDeque<FrameId>>) {
        self.bytes -= bytes;
        self.written = 0;
        match &mut self.ring {
            Ring::Inline { head, len, .. } => {
                *head = (*head + 1) % u8::try_from(INLINE).expect("six");
                *len -= 1;
            }
            Ring::Borrowed(ring) => {
                ring.pop_front();
                if ring.is_empty() {
                    self.give_back(spare);
                }
            }
        }
    }

    fn give_back(&mut self, spare: &mut Vec<VecDeque<FrameId>>) {
        if let Ring::Borrowed(mut ring) = std::mem::replace(&mut self.ring, EMPTY)
            && spare.len() < SPARE_RINGS
            && ring.capacity() <= SPARE_CAPACITY
        {
            ring.clear();
            spare.push(ring);
        }
    }

    /// All frames in order.
    pub(super) fn frames(&self) -> impl Iterator<Item = FrameId> {
        let (inline, ring) = match &self.ring {
            Ring::Inline { frames, head, len } => (Some((frames, usize::from(*head), usize::from(*len))), None),
            Ring::Borrowed(ring) => (None, Some(ring)),
        };
        let inline =
            inline.into_iter().flat_map(|(frames, head, len)| (head..head + len).map(move |at| frames[at % INLINE]));
        inline.chain(ring.into_iter().flatten().copied())
    }

    /// Counts an event that is out.
    pub(super) fn count_delivered(&mut self) {
        self.delivered += 1;
    }

    /// Counts an event for which there was no room.
    pub(super) fn count_dropped(&mut self) {
        self.dropped += 1;
    }

    /// Events that are out, and events for which there was no room.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.delivered, u64::from(self.dropped))
    }

    /// Bytes of the first frame that are out already.
    pub(super) fn written(&self) -> usize {
        self.written as usize
    }

    /// Notes that `bytes` more of the first frame are out.
    pub(super) fn set_written(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.written += u32::try_from(bytes).expect("an event is bounded far below 4 GiB at the intake");
    }

    /// The first frame, if a part of it is out.
    pub(super) fn started(&self) -> Option<FrameId> {
        self.front().filter(|_| self.written > 0)
    }

    /// Empties the outbox, but for `kept`, its started first frame of which `left` bytes are to be written.
    pub(super) fn clear(&mut self, kept: Option<(FrameId, usize)>, spare: &mut Vec<VecDeque<FrameId>>) {
        self.give_back(spare);
        self.ring = EMPTY;
        self.bytes = 0;
        match kept {
            Some((frame, left)) => self.push(frame, left, spare),
            None => self.written = 0,
        }
    }

    /// Marks the outbox dirty. Returns whether it has to be put on the dirty list.
    pub(super) fn mark_dirty(&mut self) -> bool {
        let new = !self.dirty && !self.blocked;
        self.dirty |= new;
        new
    }

    pub(super) fn clear_dirty(&mut self) {
        self.dirty = false;
    }

    pub(super) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(super) fn set_closing(&mut self) {
        self.closing = true;
    }
}
