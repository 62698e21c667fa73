//! The work a shard may still do in this turn for slow consumers, counted in frames.
//!
//! Contract: plain numbers. Conflation passes may look at [`PASSES`] frames a turn, and [`EARNED`] more for each event
//! put into a conflating outbox: that is what a pass costs per event on average, so passes do not pile up whatever the
//! load. A pass without which a connection would have to be closed may also use [`FORCED`]. The first pass of a turn
//! is always allowed. Releasing dropped frames may take [`DROPPED`] frames a turn;
//! a frame whose memory is freed with it counts as [`FREED`].

/// Frames that passes look at in a turn: about a millisecond.
const PASSES: usize = 32_768;

/// Frames that a pass may look at for each event that was put in: it is begun when a quarter of the bounds waits and
/// then at twice what was left, so each event is looked at twice on average, and half of these again if little is
/// merged.
const EARNED: usize = 4;

/// Frames that passes at the bounds may look at besides.
const FORCED: usize = 4 * PASSES;

/// Frames that are dropped in a turn: about a millisecond.
const DROPPED: usize = 65_536;

/// What it costs to give a frame's memory back, in frames that are only counted down.
pub(super) const FREED: usize = 32;

/// The remaining work budget of a turn for slow consumers, counted in frames.
#[derive(Debug)]
pub(super) struct Effort {
    passes: usize,
    forced: usize,
    earned: usize,
    dropped: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { passes: PASSES, forced: FORCED, earned: 0, dropped: DROPPED }
    }
}

impl Effort {
    /// A turn begins.
    pub(super) fn renew(&mut self) {
        *self = Self { passes: PASSES + self.earned, ..Self::default() };
    }

    /// So many connections that conflate were given an event.
    pub(super) fn earn(&mut self, deliveries: usize) {
        self.earned += EARNED * deliveries;
    }

    /// Whether there is time for a pass over so many frames; then it is taken.
    pub(super) fn try_pass(&mut self, frames: usize) -> bool {
        spend(&mut self.passes, frames)
    }

    /// The same for a pass without which a connection would have to be closed.
    pub(super) fn force_pass(&mut self, frames: usize) -> bool {
        spend(&mut self.forced, frames)
    }

    /// How many frames may be dropped yet.
    pub(super) fn droppable(&self) -> usize {
        self.dropped
    }

    /// So many frames were dropped.
    pub(super) fn drop_frames(&mut self, frames: usize) {
        self.dropped = self.dropped.saturating_sub(frames);
    }
}

/// The last that is allowed may be larger than what is left.
fn spend(left: &mut usize, frames: usize) -> bool {
    let allowed = *left > 0;
    *left = left.saturating_sub(frames);
    allowed
}
