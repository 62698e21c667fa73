//! Frame numbers in order: a few stored inline, more in memory borrowed from the shard.
//!
//! Why two forms: most outboxes hold no more than two frames and must not cost an allocation.
//!
//! Contract: what is borrowed counts in the [`Budget`](super::budget::Budget), from [`Ring::push`] or
//! [`Ring::into_list`] until [`Spare::take_back`]. It is at most four times what the frames need, or a kilobyte.

use std::collections::VecDeque;

use super::frames::{FrameId, size};

/// How many numbers are stored in the outbox itself.
pub(super) const INLINE: usize = 6;

/// Frame numbers in order: up to [`INLINE`] stored inline, more in memory borrowed from the shard.
#[derive(Debug)]
pub(super) enum Ring {
    Inline { frames: [FrameId; INLINE], head: u8, len: u8 },
    Borrowed(VecDeque<FrameId>),
}

/// A ring without frames.
pub(super) const EMPTY: Ring = Ring::Inline { frames: [FrameId::NONE; INLINE], head: 0, len: 0 };

/// How many drained rings are kept for reuse. A turn fills the outboxes of all connections before it writes to the
/// first: with fewer, a busy shard of a thousand connections would allocate in every turn.
const SPARE_RINGS: usize = 1024;

/// A spare ring with a larger capacity (in frame numbers) is not kept: one stalled connection must not leave its size
/// behind. All spare rings of a shard together take at most 1 MiB; the events of a turn fit into one.
const SPARE_CAPACITY: usize = 256;

/// Memory of drained outboxes, for others that need more than their inline room; and how much memory is lent.
#[derive(Debug, Default)]
pub(super) struct Spare {
    rings: Vec<VecDeque<FrameId>>,
    /// How many more bytes are lent than at the last [`Spare::take_more`].
    more: i64,
}

impl Spare {
    fn lend(&mut self) -> VecDeque<FrameId> {
        let ring = self.rings.pop().unwrap_or_else(|| VecDeque::with_capacity(2 * INLINE.next_power_of_two()));
        self.more += size(memory(&ring));
        ring
    }

    /// Makes room in a full ring.
    #[cold]
    fn extend(&mut self, ring: &mut VecDeque<FrameId>) {
        self.more -= size(memory(ring));
        ring.reserve(1);
        self.more += size(memory(ring));
    }

    /// Frees what a ring does not need any more, if it is most of it: it may never become empty.
    pub(super) fn trim(&mut self, ring: &mut VecDeque<FrameId>) {
        if ring.capacity() > SPARE_CAPACITY && ring.len() < ring.capacity() / 4 {
            self.more -= size(memory(ring));
            ring.shrink_to(SPARE_CAPACITY.max(2 * ring.len()));
            self.more += size(memory(ring));
        }
    }

    /// Takes back a ring that is not needed any more.
    pub(super) fn take_back(&mut self, mut ring: VecDeque<FrameId>) {
        self.more -= size(memory(&ring));
        if self.rings.len() < SPARE_RINGS && (1..=SPARE_CAPACITY).contains(&ring.capacity()) {
            ring.clear();
            self.rings.push(ring);
        }
    }

    /// Returns how many more bytes are lent than at the last call. See [`super::budget::Budget`].
    pub(super) fn take_more(&mut self) -> i64 {
        std::mem::take(&mut self.more)
    }

    /// Returns the number of rings that are kept for reuse.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rings.len()
    }
}

/// Returns the bytes that a ring takes.
fn memory(ring: &VecDeque<FrameId>) -> usize {
    ring.capacity() * size_of::<FrameId>()
}

impl Ring {
    /// Adds a frame after the others.
    #[inline]
    pub(super) fn push(&mut self, frame: FrameId, spare: &mut Spare) {
        match self {
            Self::Borrowed(ring) => {
                if ring.len() == ring.capacity() {
                    spare.extend(ring);
                }
                ring.push_back(frame);
            }
            Self::Inline { frames, head, len } if usize::from(*len) < INLINE => {
                frames[usize::from(*head + *len) % INLINE] = frame;
                *len += 1;
            }
            Self::Inline { frames, head, .. } => {
                let mut ring = spare.lend();
                ring.extend((0..INLINE).map(|at| frames[(usize::from(*head) + at) % INLINE]));
                ring.push_back(frame);
                *self = Self::Borrowed(ring);
            }
        }
    }

    /// Returns the frames in order, in borrowed memory.
    pub(super) fn into_list(self, spare: &mut Spare) -> VecDeque<FrameId> {
        match self {
            Self::Inline { len: 0, .. } => VecDeque::new(),
            Self::Inline { frames, head, len } => {
                let mut ring = spare.lend();
                ring.extend((0..len).map(|at| frames[usize::from(head + at) % INLINE]));
                ring
            }
            Self::Borrowed(ring) => ring,
        }
    }

    /// Returns the borrowed bytes.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Borrowed(ring) => memory(ring),
        }
    }

    /// Returns the first frame.
    pub(super) fn front(&self) -> Option<FrameId> {
        match self {
            Self::Inline { len: 0, .. } => None,
            Self::Inline { frames, head, .. } => Some(frames[usize::from(*head)]),
            Self::Borrowed(ring) => ring.front().copied(),
        }
    }

    /// Returns the frames in order, in two chunks.
    pub(super) fn runs(&self) -> (&[FrameId], &[FrameId]) {
        match self {
            Self::Inline { frames, head, len } => {
                let (head, end) = (usize::from(*head), usize::from(*head + *len));
                (&frames[head..end.min(INLINE)], &frames[..end.saturating_sub(INLINE)])
            }
            Self::Borrowed(ring) => ring.as_slices(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(capacity: usize, frames: usize) -> VecDeque<FrameId> {
        let mut ring = VecDeque::with_capacity(capacity);
        ring.extend(std::iter::repeat_n(FrameId::NONE, frames));
        ring
    }

    /// A ring that was trimmed to what it holds would be extended by the next frame.
    #[test]
    fn a_trimmed_ring_has_room_for_as_much_again_and_for_no_less_than_a_spare_one() {
        for (capacity, frames, left) in
            [(2048, 300, 600), (2048, 10, 256), (2048, 512, 2048), (1024, 255, 510), (257, 0, 256), (256, 0, 256)]
        {
            let (mut spare, mut ring) = (Spare::default(), ring(capacity, frames));
            spare.trim(&mut ring);
            assert_eq!((ring.capacity(), ring.len()), (left, frames), "{capacity}");
            assert_eq!(spare.take_more(), size(left * size_of::<FrameId>()) - size(capacity * size_of::<FrameId>()));
        }
    }
}
