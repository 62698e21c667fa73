//! Frame numbers in order: a few stored inline, more in memory borrowed from the shard.
//!
//! Why two forms: most outboxes hold no more than two frames and must not cost an allocation.

use std::collections::VecDeque;

use super::frames::FrameId;

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

/// Memory of drained outboxes, for others that need more than their inline room.
pub(super) type Spare = Vec<VecDeque<FrameId>>;

impl Ring {
    /// Adds a frame after the others.
    #[inline]
    pub(super) fn push(&mut self, frame: FrameId, spare: &mut Spare) {
        match self {
            Self::Borrowed(ring) => ring.push_back(frame),
            Self::Inline { frames, head, len } if usize::from(*len) < INLINE => {
                frames[usize::from(*head + *len) % INLINE] = frame;
                *len += 1;
            }
            Self::Inline { frames, head, .. } => {
                let mut ring = spare.pop().unwrap_or_else(|| VecDeque::with_capacity(2 * INLINE.next_power_of_two()));
                ring.extend((0..INLINE).map(|at| frames[(usize::from(*head) + at) % INLINE]));
                ring.push_back(frame);
                *self = Self::Borrowed(ring);
            }
        }
    }

    /// Returns the frames in order.
    pub(super) fn into_list(self) -> VecDeque<FrameId> {
        match self {
            Self::Inline { frames, head, len } => (0..len).map(|at| frames[usize::from(head + at) % INLINE]).collect(),
            Self::Borrowed(ring) => ring,
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
