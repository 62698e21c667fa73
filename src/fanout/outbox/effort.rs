//! The work a shard may still do in this turn for slow consumers, counted in frames.
//!
//! Contract: plain numbers. Conflation passes may look at [`PASSES`] frames per turn, and [`EARNED`] more for each
//! event put into a conflating outbox: that is what a pass costs per event on average, so passes do not pile up
//! whatever the load. They may deflate [`DEFLATED`] bytes per turn, each of them [`DEFLATED_EACH`], and a frame that
//! begins within these is finished. A pass without which a connection would have to be closed may also use [`FORCED`].
//! The first pass of a turn is always allowed. Releasing dropped frames may take [`DROPPED`] frames per turn, and
//! [`RELEASED`] more for each event put into an outbox, so what is dropped does not pile up either; a frame whose
//! memory is freed with it counts as [`FREED`]. Shedding outboxes because of the outbox budget, be it by dropping the
//! oldest frames or all, may take [`DROPPED`] frames more: it is not to wait for what was dropped before.
//!
//! Making room by dropping the oldest frames is free for [`EACH`] frames of every event, as many as events of one size
//! need, and for [`OWN`] more of every connection per turn, so that no connection depends on what others have used up.
//! Beyond these all connections share [`DROPPED`]. Why the second share belongs to a turn and not to an event: a
//! thousand stalled connections would drop sixteen million frames in a turn of 256 events.

use hashbrown::HashMap;

use super::ConnId;

/// Frames that passes look at per turn: about a millisecond.
const PASSES: usize = 32_768;

/// Frames that passes may look at for each queued event. A pass begins when a quarter of the limits is queued and then
/// at twice what was left, so each event is looked at twice on average, and half of these again if little is merged.
const EARNED: usize = 4;

/// Bytes that passes deflate per turn: two or three milliseconds.
const DEFLATED: u64 = 256 << 10;

/// Bytes that one pass deflates, so that several connections have their share of a turn.
const DEFLATED_EACH: u64 = 64 << 10;

/// Frames that passes at the limits may look at in addition.
const FORCED: usize = 4 * PASSES;

/// Frames released per turn: about a millisecond.
const DROPPED: usize = 65_536;

/// Frames released for each queued event: references are removed four times as fast as they can be added. What a single
/// connection holds is freed with it, at an eighth of that speed. This does not pile up either, because a turn
/// publishes no more than 256 events, which are 1,024 frames if all four encodings are in use, and frees 2,048.
const RELEASED: usize = 4;

/// The cost of freeing a frame's memory, in frames that only lose a reference.
pub(super) const FREED: usize = 32;

/// Frames dropped for each event without further ado: of events of one size each takes the place of another.
pub(super) const EACH: usize = 2;

/// Frames that each connection may drop per turn beyond these, whatever the others do.
const OWN: usize = 64;

/// The remaining work budget of a turn for slow consumers, counted in frames.
#[derive(Debug)]
pub(super) struct Effort {
    passes: usize,
    forced: usize,
    earned: usize,
    deflated: u64,
    released: usize,
    queued: usize,
    shed: usize,
    oldest: usize,
    /// How much of [`OWN`] is used, by connection.
    own: HashMap<ConnId, usize>,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            passes: PASSES,
            forced: FORCED,
            earned: 0,
            deflated: DEFLATED,
            released: DROPPED,
            queued: 0,
            shed: DROPPED,
            oldest: DROPPED,
            own: HashMap::new(),
        }
    }
}

impl Effort {
    /// Begins a turn.
    pub(super) fn renew(&mut self) {
        let released = DROPPED + RELEASED * self.queued;
        *self = Self { passes: PASSES + self.earned, released, ..Self::default() };
    }

    /// Notes deliveries of an event, up to `conflating` of them to conflating connections.
    pub(super) fn earn(&mut self, deliveries: usize, conflating: usize) {
        self.earned += EARNED * deliveries.min(conflating);
        self.queued += deliveries;
    }

    /// Returns whether there is time for a pass over this many frames, and if so uses it.
    pub(super) fn try_pass(&mut self, frames: usize) -> bool {
        spend(&mut self.passes, frames)
    }

    /// Like [`Effort::try_pass`], for a pass without which a connection would have to be closed.
    pub(super) fn force_pass(&mut self, frames: usize) -> bool {
        spend(&mut self.forced, frames)
    }

    /// Returns how many bytes a pass may deflate now.
    pub(super) fn deflatable(&self) -> u64 {
        self.deflated.min(DEFLATED_EACH)
    }

    /// Notes that a pass has deflated so many bytes.
    pub(super) fn deflate(&mut self, bytes: u64) {
        self.deflated = self.deflated.saturating_sub(bytes);
    }

    /// Returns how many dropped frames may be released at the beginning of the turn.
    pub(super) fn releasable(&self) -> usize {
        self.released
    }

    /// Returns how many frames of outboxes may still be shed.
    pub(super) fn sheddable(&self) -> usize {
        self.shed
    }

    /// Notes that frames of outboxes were shed.
    pub(super) fn shed(&mut self, frames: usize) {
        self.shed = self.shed.saturating_sub(frames);
    }

    /// Returns how many frames this connection may still drop in the turn, whatever the others do.
    pub(super) fn own_share(&self, conn: ConnId) -> usize {
        OWN - self.own.get(&conn).copied().unwrap_or_default()
    }

    /// Notes that a connection has used some of its own share.
    pub(super) fn use_own_share(&mut self, conn: ConnId, frames: usize) {
        if frames > 0 {
            *self.own.entry(conn).or_default() += frames;
        }
    }

    /// Returns whether there is time left, of what all share, to make room by dropping the oldest frames.
    pub(super) fn may_make_room(&self) -> bool {
        self.oldest > 0
    }

    /// Notes that frames were dropped to make room, beyond a connection's own share.
    pub(super) fn make_room(&mut self, frames: usize) {
        self.oldest = self.oldest.saturating_sub(frames);
    }
}

/// Spends `frames` if anything is left; the last one allowed may be larger than what is left.
fn spend(left: &mut usize, frames: usize) -> bool {
    let allowed = *left > 0;
    *left = left.saturating_sub(frames);
    allowed
}
