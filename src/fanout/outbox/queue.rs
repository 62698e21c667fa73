//! The queue of one connection: frame numbers in order, and how much of the first frame was written.
//!
//! An idle outbox is a few dozen bytes: six numbers are stored inline, more in a ring that is borrowed from the shard
//! and returned as soon as the outbox is empty.
//!
//! With drop-oldest a second list precedes the ring. It holds what was kept while the events around it were dropped
//! (answers, the partly written frame) and the gaps. Each frame moves there at most once, so dropping an event costs
//! the same however long the queue is.

use std::collections::VecDeque;

use super::frames::FrameId;
use super::intake::{Guard, Intake};
use super::ring::{EMPTY, INLINE, Ring, Spare};
use crate::overflow::Overflow;
use crate::stats::{Depth, Dropped, OutboxLimits};
use crate::websocket::frame::Encoding;

/// Drained rings that are kept for later. A turn fills the outboxes of all connections before it writes to the first:
/// with fewer a busy shard of a thousand connections would allocate in every turn.
const SPARE_RINGS: usize = 1024;

/// A spare ring larger than this (numbers) is not kept: one stalled connection must not leave its size behind. All
/// spare rings of a shard together are at most 1 MiB; a turn's events fit into one.
const SPARE_CAPACITY: usize = 256;

/// An outbox that conflates does so first when it is this power of two below its bounds.
const EARLIEST: u8 = 2;

/// Lists of frames that were dropped and are yet to be let go, and why.
pub(super) type Waste = VecDeque<([VecDeque<FrameId>; 2], Dropped)>;

/// A started frame that stays when the others go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kept {
    /// Any frame, and how many bytes of it are still to be written.
    Frame(FrameId, usize),
    /// A gap notice.
    Gap(FrameId),
}

/// The frames queued for one connection, in order, and how many bytes of the first have been written.
#[derive(Debug)]
pub(super) struct Outbox {
    /// What stands before the ring; nothing unless events were dropped.
    #[expect(clippy::box_collection, reason = "most outboxes have none: a pointer instead of 32 bytes in each")]
    kept: Option<Box<VecDeque<FrameId>>>,
    ring: Ring,
    /// Bytes of all frames but gap notices.
    bytes: usize,
    /// Frames but gap notices.
    counted: u32,
    gaps: u32,
    delivered: u64,
    dropped: u64,
    written: u32,
    policy: Overflow,
    /// The bounds are this power of two below those of the shard.
    shift: u8,
    encoding: Encoding,
    dirty: bool,
    blocked: bool,
    /// Whether it has yet to be gone through, when there is time for it.
    postponed: bool,
    pub(super) guard: Guard,
    pub(super) intake: Intake,
}

impl Outbox {
    pub(super) fn new(policy: Overflow) -> Self {
        Self {
            kept: None,
            ring: EMPTY,
            bytes: 0,
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

    /// How the events of this connection are written down.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(super) fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    pub(super) fn depth(&self) -> Depth {
        Depth { events: (self.counted + self.gaps) as usize, bytes: self.bytes }
    }

    /// Whether another `bytes` may wait. An outbox without frames takes anything; gap notices do not count.
    pub(super) fn has_room(&self, bytes: usize, limits: &OutboxLimits) -> bool {
        self.counted == 0
            || (self.bytes + bytes <= limits.bytes >> self.shift
                && (self.counted as usize) < limits.events >> self.shift)
    }

    /// Whether a turn of so much more fits after what waits.
    pub(super) fn has_room_for(&self, events: usize, bytes: usize, limits: &OutboxLimits) -> bool {
        self.counted == 0
            || (self.bytes + bytes <= limits.bytes >> self.shift
                && self.counted as usize + events <= limits.events >> self.shift)
    }

    pub(super) fn push(&mut self, frame: FrameId, bytes: usize, spare: &mut Spare) {
        self.bytes += bytes;
        self.counted += 1;
        self.ring.push(frame, spare);
    }

    /// The first frame.
    pub(super) fn front(&self) -> Option<FrameId> {
        match &self.kept {
            Some(kept) => kept.front().copied(),
            None => self.ring.front(),
        }
    }

    /// Takes the first frame off, of which `bytes` were still to be written.
    pub(super) fn pop(&mut self, bytes: usize, spare: &mut Spare) {
        self.written = 0;
        self.bytes -= bytes;
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

    /// Takes all frames off, of which `events` are events that are out.
    pub(super) fn pop_all(&mut self, events: usize, spare: &mut Spare) {
        self.clear(None, spare);
        self.shift = earliest(self.policy);
        self.delivered += events as u64;
    }

    /// Takes the first frame off, which is a gap notice.
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
        let kept = self.kept.as_ref().map_or((&[][..], &[][..]), |kept| kept.as_slices());
        let ring = self.ring.runs();
        [kept.0, kept.1, ring.0, ring.1].into_iter().flatten().copied()
    }

    /// All frames in order, if they lie in one chunk and nothing of them is written.
    pub(super) fn untouched(&self) -> Option<&[FrameId]> {
        let (frames, wrapped) = self.ring.runs();
        (self.written == 0 && self.kept.is_none() && wrapped.is_empty()).then_some(frames)
    }

    /// The first frame that was not kept when others were dropped, unless it was begun.
    pub(super) fn droppable(&self) -> Option<FrameId> {
        self.ring.front().filter(|_| self.kept.is_some() || self.written == 0)
    }

    /// Puts the first frame of the ring after those that are kept. Returns whether there was one.
    pub(super) fn keep(&mut self, spare: &mut Spare) -> bool {
        let Some(front) = self.ring.front() else { return false };
        self.kept.get_or_insert_default().push_back(front);
        self.pop_ring(spare);
        true
    }

    /// Takes out the first frame of the ring, of that many bytes, without it having been written.
    pub(super) fn discard(&mut self, bytes: usize, spare: &mut Spare) {
        self.bytes -= bytes;
        self.counted -= 1;
        self.pop_ring(spare);
    }

    /// The last of those that are kept, if it was not begun.
    pub(super) fn last_kept(&self) -> Option<FrameId> {
        let kept = self.kept.as_ref()?;
        kept.back().copied().filter(|_| kept.len() > 1 || self.written == 0)
    }

    /// Puts a gap notice after those that are kept.
    pub(super) fn push_gap(&mut self, frame: FrameId) {
        self.kept.get_or_insert_default().push_back(frame);
        self.gaps += 1;
    }

    /// Whether a gap notice waits.
    pub(super) fn has_gaps(&self) -> bool {
        self.gaps > 0
    }

    /// Holds these frames instead of those it has; `bytes` are still to be written of them.
    pub(super) fn refill(&mut self, frames: &[FrameId], bytes: usize, spare: &mut Spare) {
        let written = self.written;
        match &mut self.ring {
            // In place: another as large would have to grow first.
            Ring::Borrowed(ring) if frames.len() > ring.capacity() / 4 => {
                ring.clear();
                ring.extend(frames);
                self.kept = None;
                (self.counted, self.gaps) = (u32::try_from(frames.len()).expect("no more than before"), 0);
            }
            _ => {
                self.clear(None, spare);
                frames.iter().for_each(|&frame| self.push(frame, 0, spare));
            }
        }
        (self.bytes, self.written) = (bytes, written);
    }

    /// Chooses how far below its bounds the outbox is gone through again: at twice what waits now, or at a quarter of
    /// them.
    pub(super) fn choose_shift(&mut self, limits: &OutboxLimits) {
        let twice =
            |shift: &u8| 2 * self.bytes <= limits.bytes >> shift && 2 * self.counted as usize <= limits.events >> shift;
        self.shift = (0..=EARLIEST).rev().find(twice).unwrap_or(0);
    }

    /// Lets it grow up to the bounds of the shard until there is time to go through it. Returns whether that is new.
    pub(super) fn postpone(&mut self) -> bool {
        self.shift = 0;
        !std::mem::replace(&mut self.postponed, true)
    }

    /// Takes the mark away that it has yet to be gone through. Returns whether it had it.
    pub(super) fn end_postponement(&mut self) -> bool {
        std::mem::take(&mut self.postponed)
    }

    /// Whether so little waits that it need not be gone through.
    pub(super) fn is_below_the_earliest(&self, limits: &OutboxLimits) -> bool {
        self.bytes <= limits.bytes >> EARLIEST && self.counted as usize <= limits.events >> EARLIEST
    }

    /// Whether its bounds are those of the shard.
    pub(super) fn is_at_its_bounds(&self) -> bool {
        self.shift == 0
    }

    /// Counts an event that is out.
    pub(super) fn count_delivered(&mut self) {
        self.delivered += 1;
    }

    /// Counts events that the connection does not get.
    pub(super) fn count_dropped(&mut self, events: u64) {
        self.dropped += events;
    }

    /// Events that are out, and events that the connection did not get.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.delivered, self.dropped)
    }

    /// Bytes of the first frame that are out already.
    pub(super) fn written(&self) -> usize {
        self.written as usize
    }

    /// Notes that `bytes` more of the first frame are out, of which `counted` were waiting.
    pub(super) fn set_written(&mut self, bytes: usize, counted: usize) {
        self.bytes -= counted;
        self.written += u32::try_from(bytes).expect("an event is bounded far below 4 GiB at the intake");
    }

    /// The first frame, if a part of it is out.
    pub(super) fn started(&self) -> Option<FrameId> {
        self.front().filter(|_| self.written > 0)
    }

    /// Empties the outbox, but for `kept`, its started first frame.
    pub(super) fn clear(&mut self, kept: Option<Kept>, spare: &mut Spare) {
        self.give_back(spare);
        self.ring = EMPTY;
        self.kept = None;
        (self.bytes, self.counted, self.gaps) = (0, 0, 0);
        match kept {
            Some(Kept::Frame(frame, left)) => self.push(frame, left, spare),
            Some(Kept::Gap(frame)) => self.push_gap(frame),
            None => self.written = 0,
        }
    }

    /// The same, and hands out the frames that it had, in order, without `kept`. Costs the same however many they are.
    pub(super) fn clear_out(&mut self, kept: Option<Kept>, spare: &mut Spare) -> [VecDeque<FrameId>; 2] {
        let first = self.kept.take().map_or_else(VecDeque::new, |kept| *kept);
        let mut lists = [first, std::mem::replace(&mut self.ring, EMPTY).into_list()];
        if kept.is_some() {
            let begun = lists.iter_mut().find(|list| !list.is_empty());
            begun.and_then(VecDeque::pop_front).expect("the frame that was begun is the first");
        }
        self.clear(kept, spare);
        lists
    }

    /// Marks the outbox dirty. Returns whether it has to be put on the dirty list.
    pub(super) fn mark_dirty(&mut self) -> bool {
        let new = !self.dirty && !self.blocked;
        self.dirty |= new;
        new
    }

    /// Takes the mark away. Returns whether it had it.
    pub(super) fn clear_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    pub(super) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }
}

fn earliest(policy: Overflow) -> u8 {
    if policy == Overflow::Conflate { EARLIEST } else { 0 }
}
