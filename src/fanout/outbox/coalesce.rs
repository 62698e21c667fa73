//! Coalesced batches: frames that are queued in many outboxes in the same order are joined once for all of them.
//!
//! Where everybody gets everything, the outboxes of a turn are equal. Looking up every frame again for every
//! connection would cost more than everything else in a delivery, and the kernel copies one long chunk faster than
//! many short ones. So a round remembers the last few sequences of frames it came across. A sequence that is met for
//! the [`MIN_REPEATS`]th time is written down as one chunk. From then on a connection with these frames sends the
//! chunk, and the bookkeeping for each frame is done once, when the round ends.
//!
//! Contract: a written batch holds a reference to each of its frames, so their numbers stay valid until the round
//! ends. A batch that is not yet written holds none; it is only written if some outbox holds exactly these frames at
//! that moment. Nothing is kept between rounds except a little memory.

use super::frames::FrameId;

/// The sequences that are remembered at a time: as many kinds of subscribers take turns without a loss.
const REMEMBERED: usize = 4;

/// How many outboxes must have been equal: writing down a run costs as much as two or three of the following ones save.
const MIN_REPEATS: u32 = 4;

/// Shorter sequences are looked up as fast as they are compared.
const SHORTEST: usize = 4;

/// Memory for longer runs is given back when the round ends.
const KEPT_BYTES: usize = 256 << 10;

#[derive(Debug, Default)]
struct Run {
    frames: Vec<FrameId>,
    /// How many outboxes were equal to it.
    met: u32,
    /// The frames one after the other, once it is written down.
    bytes: Vec<u8>,
    /// How many outboxes it was written from completely.
    out: u32,
}

/// A run that is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CoalescedId(usize);

/// What an outbox is to the runs of the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// It has to be written frame by frame.
    None,
    /// The same frames have been met often enough to be written down now, if all of them are events.
    Worth(CoalescedId),
    /// The run is there.
    Written(CoalescedId),
}

/// Frame sequences seen in the current write round. Repeated sequences are joined into one contiguous chunk.
#[derive(Debug, Default)]
pub(super) struct CoalescedBatches {
    runs: [Run; REMEMBERED],
    /// Which one makes room for the next that is new.
    oldest: usize,
}

impl CoalescedBatches {
    /// Looks an outbox's frames up, and remembers them if they are new.
    pub(super) fn find(&mut self, frames: &[FrameId]) -> Match {
        if frames.len() < SHORTEST {
            return Match::None;
        }
        let Some(at) = self.runs.iter().position(|run| run.frames == frames) else {
            self.remember(frames);
            return Match::None;
        };
        let run = &mut self.runs[at];
        run.met += 1;
        match run.met {
            _ if !run.bytes.is_empty() => Match::Written(CoalescedId(at)),
            MIN_REPEATS.. => Match::Worth(CoalescedId(at)),
            _ => Match::None,
        }
    }

    /// A written run stays as long as there are others: it would have to be released, and it has shown its worth.
    fn remember(&mut self, frames: &[FrameId]) {
        for _ in 0..REMEMBERED {
            let run = &mut self.runs[self.oldest];
            self.oldest = (self.oldest + 1) % REMEMBERED;
            if run.bytes.is_empty() {
                run.frames.clear();
                run.frames.extend_from_slice(frames);
                run.met = 1;
                return;
            }
        }
    }

    /// The buffer for the bytes of a run that is to be written down.
    pub(super) fn buffer(&mut self, id: CoalescedId) -> &mut Vec<u8> {
        &mut self.runs[id.0].bytes
    }

    /// A run that is written down.
    pub(super) fn bytes(&self, id: CoalescedId) -> &[u8] {
        &self.runs[id.0].bytes
    }

    /// Notes that one more outbox had all of a run written.
    pub(super) fn count(&mut self, id: CoalescedId) {
        self.runs[id.0].out += 1;
    }

    /// Forgets all runs. `release` is told of each frame of those that were written down, and how many outboxes had it
    /// written.
    pub(super) fn end(&mut self, mut release: impl FnMut(FrameId, u32)) {
        for run in &mut self.runs {
            if !run.bytes.is_empty() {
                run.frames.iter().for_each(|&frame| release(frame, run.out));
            }
            run.frames.clear();
            run.bytes.clear();
            run.bytes.shrink_to(KEPT_BYTES);
            (run.met, run.out) = (0, 0);
        }
        self.oldest = 0;
    }
}
