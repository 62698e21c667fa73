//! The queue of one connection: frame numbers in order, and how much of the first frame was written.
//!
//! An idle outbox is a few dozen bytes: six numbers are stored inline, more in a ring that is borrowed from the shard
//! and returned as soon as the outbox is empty.
//!
//! With drop-oldest a second list precedes the ring. It holds a ping and a pong, the gap notices, and the frames that
//! were kept while the events around them were dropped (answers, the partly written frame). Each frame moves there at
//! most once, so the cost of dropping an event does not depend on the length of the queue.

use std::collections::VecDeque;

use super::Current;
use super::frames::FrameId;
use super::intake::{Guard, Intake};
use super::ring::{EMPTY, INLINE, Ring, Spare};
use super::weight::Weight;
use crate::overflow::Overflow;
use crate::stats::{Depth, OutboxLimits};
use crate::websocket::frame::Encoding;

/// A conflating outbox first conflates when it is this power of two below its limits.
const EARLIEST: u8 = 2;

/// A started frame that stays when the others are dropped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kept {
    /// Any frame, and its weight with the bytes that are still to be written.
    Frame(FrameId, Weight),
    /// A gap notice.
    Gap(FrameId),
}

/// The frames queued for one connection, in order, and how many bytes of the first have been written.
#[derive(Debug)]
pub(super) struct Outbox {
    /// The frames before the ring; `None` unless events were dropped or a ping or pong is queued.
    #[expect(clippy::box_collection, reason = "most outboxes have none: a pointer instead of 32 bytes in each")]
    pub(super) kept: Option<Box<VecDeque<FrameId>>>,
    pub(super) ring: Ring,
    /// Bytes of all frames except gap notices.
    pub(super) bytes: usize,
    /// The [weight](Weight) of all frames in memory.
    pub(super) memory: usize,
    /// Number of frames except gap notices.
    pub(super) counted: u32,
    pub(super) gaps: u32,
    delivered: u64,
    dropped: u64,
    written: u32,
    policy: Overflow,
    /// The limits of this outbox are this power of two below those of the shard.
    pub(super) shift: u8,
    encoding: Encoding,
    dirty: bool,
    blocked: bool,
    /// Whether its conflation pass was postponed, or the rest of it.
    pub(super) postponed: bool,
    pub(super) guard: Guard,
    pub(super) intake: Intake,
}

impl Outbox {
    pub(super) fn new(policy: Overflow) -> Self {
        Self {
            kept: None,
            ring: EMPTY,
            bytes: 0,
            memory: 0,
            counted: 0,
            gaps: 0,
            delivered: 0,
            dropped: 0,
            written: 0,
            policy,
            shift: earliest(policy),
            encoding: Encoding::Plain,
            dirty: false,
            blocked: false,
            postponed: false,
            guard: Guard::Off,
            intake: Intake::Open,
        }
    }

    pub(super) fn policy(&self) -> Overflow {
        self.policy
    }

    /// Returns the encoding of this connection's events.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(super) fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    pub(super) fn depth(&self) -> Depth {
        Depth { events: (self.counted + self.gaps) as usize, bytes: self.bytes }
    }

    pub(super) fn push(&mut self, frame: FrameId, weight: Weight, spare: &mut Spare) {
        self.bytes += weight.wire;
        self.memory += weight.memory;
        self.counted += 1;
        self.ring.push(frame, spare);
    }

    /// Adds the event being delivered. Returns whether the outbox has to be added to the dirty list.
    #[inline]
    pub(super) fn take_in(&mut self, current: &mut Current, spare: &mut Spare) -> bool {
        self.push(current.frame, Weight { wire: current.bytes, memory: current.memory }, spare);
        current.hits += 1;
        self.mark_dirty()
    }

    /// Returns the first frame.
    pub(super) fn front(&self) -> Option<FrameId> {
        match &self.kept {
            Some(kept) => kept.front().copied(),
            None => self.ring.front(),
        }
    }

    /// Removes the first frame, whose weight has the bytes that were still to be written.
    pub(super) fn pop(&mut self, weight: Weight, spare: &mut Spare) {
        self.written = 0;
        self.bytes -= weight.wire;
        self.memory -= weight.memory;
        self.counted -= 1;
        if self.kept.is_some() {
            self.pop_kept();
        } else {
            self.pop_ring(spare);
        }
        if self.counted == 0 {
            self.shift = earliest(self.policy);
        }
    }

    /// Removes all frames, of which `events` are delivered events.
    pub(super) fn pop_all(&mut self, events: usize, spare: &mut Spare) {
        self.clear(None, spare);
        self.shift = earliest(self.policy);
        self.delivered += events as u64;
    }

    /// Removes the first frame, which is a gap notice.
    pub(super) fn pop_gap(&mut self) {
        self.written = 0;
        self.gaps -= 1;
        self.pop_kept();
    }

    fn pop_kept(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.pop_front();
            if kept.is_empty() {
                self.kept = None;
            }
        }
    }

    fn pop_ring(&mut self, spare: &mut Spare) {
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

    fn give_back(&mut self, spare: &mut Spare) {
        if let Ring::Borrowed(ring) = std::mem::replace(&mut self.ring, EMPTY) {
            spare.take_back(ring);
        }
    }

    /// Gives memory back if the ring has become much shorter.
    pub(super) fn trim(&mut self, spare: &mut Spare) {
        if let Ring::Borrowed(ring) = &mut self.ring {
            spare.trim(ring);
        }
    }

    /// Returns all frames in order.
    pub(super) fn frames(&self) -> impl Iterator<Item = FrameId> {
        let kept = self.kept.as_ref().map_or((&[][..], &[][..]), |kept| kept.as_slices());
        let ring = self.ring.runs();
        [kept.0, kept.1, ring.0, ring.1].into_iter().flatten().copied()
    }

    /// Returns all frames in order, if they lie in one chunk and nothing of them is written.
    pub(super) fn untouched(&self) -> Option<&[FrameId]> {
        let (frames, wrapped) = self.ring.runs();
        (self.written == 0 && self.kept.is_none() && wrapped.is_empty()).then_some(frames)
    }

    /// Returns the first frame of the ring, unless it is partly written.
    pub(super) fn droppable(&self) -> Option<FrameId> {
        self.ring.front().filter(|_| self.kept.is_some() || self.written == 0)
    }

    /// Moves the first frame of the ring behind the kept ones. Returns whether there was one.
    pub(super) fn keep(&mut self, spare: &mut Spare) -> bool {
        let Some(front) = self.ring.front() else { return false };
        self.kept.get_or_insert_default().push_back(front);
        self.pop_ring(spare);
        true
    }

    /// Removes the ring, whose frames have these `bytes` and are unwritten; the others have this `memory`. The cost
    /// does not depend on their number.
    pub(super) fn take_ring(&mut self, bytes: usize, memory: usize, spare: &mut Spare) -> VecDeque<FrameId> {
        let ring = std::mem::replace(&mut self.ring, EMPTY).into_list(spare);
        self.bytes -= bytes;
        self.memory = memory;
        self.counted -= u32::try_from(ring.len()).expect("no more than all frames");
        ring
    }

    /// Returns the frames before the ring.
    pub(super) fn kept(&self) -> impl DoubleEndedIterator<Item = FrameId> {
        self.kept.iter().flat_map(|kept| kept.iter().copied())
    }

    /// Returns the frames of the ring.
    pub(super) fn ring(&self) -> impl DoubleEndedIterator<Item = FrameId> {
        let (first, second) = self.ring.runs();
        first.iter().chain(second).copied()
    }

    /// Removes the first frame of the ring, which is unwritten.
    pub(super) fn discard(&mut self, weight: Weight, spare: &mut Spare) {
        self.bytes -= weight.wire;
        self.memory -= weight.memory;
        self.counted -= 1;
        self.pop_ring(spare);
    }

    /// Returns the last of the kept frames, unless it is partly written.
    pub(super) fn last_kept(&self) -> Option<FrameId> {
        let kept = self.kept.as_ref()?;
        kept.back().copied().filter(|_| kept.len() > 1 || self.written == 0)
    }

    /// Adds a gap notice after the kept frames.
    pub(super) fn push_gap(&mut self, frame: FrameId) {
        self.kept.get_or_insert_default().push_back(frame);
        self.gaps += 1;
    }

    /// Returns whether a gap notice is queued.
    pub(super) fn has_gaps(&self) -> bool {
        self.gaps > 0
    }

    /// Replaces all frames by these, whose weight has the bytes that are still to be written.
    pub(super) fn refill(&mut self, frames: &[FrameId], weight: Weight, spare: &mut Spare) {
        let written = self.written;
        match &mut self.ring {
            // In place: a new ring as large would have to grow first.
            Ring::Borrowed(ring) if frames.len() > ring.capacity() / 4 => {
                ring.clear();
                ring.extend(frames);
                self.kept = None;
                (self.counted, self.gaps) = (u32::try_from(frames.len()).expect("no more than before"), 0);
            }
            _ => {
                self.clear(None, spare);
                frames.iter().for_each(|&frame| self.push(frame, Weight::default(), spare));
            }
        }
        (self.bytes, self.memory, self.written) = (weight.wire, weight.memory, written);
    }

    /// Chooses how far below its limits the outbox is conflated again: at twice its current size, but no earlier than
    /// at a quarter of the limits. `free` bytes of its size do not count. Another frame of `next` bytes, which may be
    /// larger than all before it, has room if the limits allow it.
    pub(super) fn choose_shift(&mut self, free: usize, next: usize, limits: &OutboxLimits) {
        let queued = self.bytes - free;
        let fits = |shift: &u8| {
            let (bytes, events) = (limits.bytes >> shift, limits.events >> shift);
            2 * queued <= bytes && queued + next <= bytes && 2 * self.counted as usize <= events
        };
        self.shift = (0..=EARLIEST).rev().find(fits).unwrap_or(0);
    }

    /// Lets the outbox grow up to the shard's limits until there is time for its pass. Returns whether the pass was not
    /// yet postponed.
    pub(super) fn postpone(&mut self) -> bool {
        self.shift = 0;
        !std::mem::replace(&mut self.postponed, true)
    }

    /// Ends the postponement of a pass. Returns whether there was one.
    pub(super) fn end_postponement(&mut self) -> bool {
        std::mem::take(&mut self.postponed)
    }

    /// Returns whether the outbox is too small for a pass.
    pub(super) fn is_below_the_earliest(&self, limits: &OutboxLimits) -> bool {
        self.bytes <= limits.bytes >> EARLIEST && self.counted as usize <= limits.events >> EARLIEST
    }

    /// Returns whether the limits of this outbox are those of the shard.
    pub(super) fn is_at_its_bounds(&self) -> bool {
        self.shift == 0
    }

    /// Counts a delivered event.
    pub(super) fn count_delivered(&mut self) {
        self.delivered += 1;
    }

    /// Counts dropped events.
    pub(super) fn count_dropped(&mut self, events: u64) {
        self.dropped += events;
    }

    /// Returns the numbers of delivered and of dropped events.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.delivered, self.dropped)
    }

    /// Returns the number of written bytes of the first frame.
    pub(super) fn written(&self) -> usize {
        self.written as usize
    }

    /// Notes that `bytes` more of the first frame were written, of which `counted` were counted as queued.
    pub(super) fn set_written(&mut self, bytes: usize, counted: usize) {
        self.bytes -= counted;
        self.written += u32::try_from(bytes).expect("an event is bounded far below 4 GiB at the intake");
    }

    /// Returns the first frame if it is partly written.
    pub(super) fn started(&self) -> Option<FrameId> {
        self.front().filter(|_| self.written > 0)
    }

    /// Empties the outbox, except for `kept`, its partly written first frame.
    pub(super) fn clear(&mut self, kept: Option<Kept>, spare: &mut Spare) {
        self.give_back(spare);
        self.ring = EMPTY;
        self.kept = None;
        (self.bytes, self.memory, self.counted, self.gaps) = (0, 0, 0, 0);
        match kept {
            Some(Kept::Frame(frame, weight)) => self.push(frame, weight, spare),
            Some(Kept::Gap(frame)) => self.push_gap(frame),
            None => self.written = 0,
        }
    }

    /// Like [`Outbox::clear`], but returns the removed frames in order, those of the ring in borrowed memory. The cost
    /// does not depend on their number.
    pub(super) fn clear_out(&mut self, kept: Option<Kept>, spare: &mut Spare) -> [VecDeque<FrameId>; 2] {
        let first = self.kept.take().map_or_else(VecDeque::new, |kept| *kept);
        let mut lists = [first, std::mem::replace(&mut self.ring, EMPTY).into_list(spare)];
        if kept.is_some() {
            let begun = lists.iter_mut().find(|list| !list.is_empty());
            begun.and_then(VecDeque::pop_front).expect("the frame that was begun is the first");
        }
        self.clear(kept, spare);
        lists
    }

    /// Marks the outbox dirty. Returns whether it has to be added to the dirty list.
    pub(super) fn mark_dirty(&mut self) -> bool {
        let new = !self.dirty && !self.blocked;
        self.dirty |= new;
        new
    }

    /// Clears the dirty mark. Returns whether it was set.
    pub(super) fn clear_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Keeps the outbox from being marked dirty.
    pub(super) fn block(&mut self) {
        self.blocked = true;
    }

    /// Ends [`Outbox::block`]. Returns whether it was in force.
    pub(super) fn unblock(&mut self) -> bool {
        std::mem::take(&mut self.blocked)
    }
}

fn earliest(policy: Overflow) -> u8 {
    if policy == Overflow::Conflate { EARLIEST } else { 0 }
}
