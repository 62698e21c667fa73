//! Coalesced batches: frames that are queued in many outboxes in the same order are joined once for all of them.
//!
//! Where every client gets every event, the outboxes of a turn are equal. Looking up every frame again for every
//! connection would cost more than everything else in a delivery, and the kernel copies one long chunk faster than many
//! short ones. So a round remembers the last few sequences of frames. A sequence found for the [`MIN_REPEATS`]th time
//! is copied into one chunk. From then on a connection with these frames sends the chunk, and the bookkeeping for each
//! frame is done once, when the round ends.
//!
//! Contract: a written batch holds a reference to each of its frames, so their numbers stay valid until the round ends.
//! A batch that is not yet written holds none; it is only written if some outbox holds exactly these frames at that
//! moment. Nothing is kept between rounds except a little memory.

use super::frames::FrameId;

/// How many sequences are remembered at a time: up to this many kinds of subscribers can take turns without a loss.
const REMEMBERED: usize = 4;

/// How many outboxes must have been equal before a run is written: writing it costs as much as two or three later uses
/// save.
const MIN_REPEATS: u32 = 4;

/// Shorter sequences are looked up as fast as they are compared.
const SHORTEST: usize = 4;

/// Memory of a run beyond this many bytes is freed when the round ends.
const KEPT_BYTES: usize = 256 << 10;

#[derive(Debug, Default)]
struct Run {
    frames: Vec<FrameId>,
    /// The number of outboxes equal to it.
    met: u32,
    /// The bytes of its frames, once it is written.
    bytes: Vec<u8>,
    /// The number of outboxes from which it was sent completely.
    out: u32,
}

/// The number of a run that may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CoalescedId(usize);

/// The result of looking up an outbox among the runs of the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// It has to be sent frame by frame.
    None,
    /// The same frames have been found often enough to write a run now, if all of them are events.
    Worth(CoalescedId),
    /// The run is written.
    Written(CoalescedId),
}

/// Frame sequences seen in the current write round. Repeated sequences are joined into one contiguous chunk.
#[derive(Debug, Default)]
pub(super) struct CoalescedBatches {
    runs: [Run; REMEMBERED],
    /// The run to be replaced next.
    oldest: usize,
}

impl CoalescedBatches {
    /// Looks up the frames of an outbox, and remembers them if they are new.
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

    /// Remembers a new sequence in place of an unwritten one. A written run is not replaced: it would have to be
    /// released, and it has proved useful.
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

    /// Returns the buffer to write the bytes of a run into.
    pub(super) fn buffer(&mut self, id: CoalescedId) -> &mut Vec<u8> {
        &mut self.runs[id.0].bytes
    }

    /// Returns the bytes of a written run.
    pub(super) fn bytes(&self, id: CoalescedId) -> &[u8] {
        &self.runs[id.0].bytes
    }

    /// Counts one more outbox from which a run was sent completely.
    pub(super) fn count(&mut self, id: CoalescedId) {
        self.runs[id.0].out += 1;
    }

    /// Forgets all runs. Calls `release` for each frame of the written ones, with the number of outboxes that sent it.
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
