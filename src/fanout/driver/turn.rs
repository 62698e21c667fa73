//! How much one turn of the loop may do.
//!
//! Contract: constants and plain numbers. What a turn has no room for waits for the next one.

use crate::stats::OutboxLimits;

/// Bytes read from one connection in a turn; a client that floods waits for the others.
pub(super) const READ_BYTES: usize = 64 << 10;

/// Events of a turn.
pub(super) const TURN_EVENTS: usize = 256;

/// Bytes of events of a turn.
pub(super) const TURN_BYTES: usize = 1 << 20;

/// Retained events that are looked at in a turn.
pub(super) const CATCH_UP_EVENTS: usize = 512;

/// Work of the filters of replays in a turn: some 5 ms.
pub(super) const CATCH_UP_WORK: u64 = 5_000_000;

/// How much a turn takes in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portion {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

impl Portion {
    pub(super) fn of(outbox: OutboxLimits) -> Self {
        Self { events: TURN_EVENTS.min(outbox.events / 4).max(1), bytes: TURN_BYTES.min(outbox.bytes / 4).max(1) }
    }
}
