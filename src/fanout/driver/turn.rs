//! The budget of one turn of the loop.
//!
//! Contract: constants, plain numbers, and reading the clock. Work that does not fit waits for the next turn.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::clock;
use crate::stats::OutboxLimits;

/// Bytes read from one connection at a time.
pub(super) const READ_BYTES: usize = 64 << 10;

/// Messages of one connection handled in its slice.
const SLICE_MESSAGES: u32 = 64;

/// Time for the messages of one connection.
const SLICE_TIME: Duration = Duration::from_micros(250);

/// Time per turn for what all clients send.
pub(super) const READ_TIME: Duration = Duration::from_millis(1);

/// Time per turn for requests of the control plane: new connections, lists, deletions.
pub(super) const CONTROL_TIME: Duration = Duration::from_millis(1);

/// Index entries of registrations removed, or moved to another class, per turn: each takes some tenths of a
/// microsecond.
pub(super) const MOVED: usize = 1024;

/// Connections forgotten per turn because their sockets failed or their close deadline has passed: the system discards
/// all data queued in each socket, and an event reports each.
pub(super) const FORGOTTEN: usize = 8;

/// Pending events about connections published at a time.
pub(super) const ANNOUNCED: usize = 64;

/// Events per turn.
pub(super) const TURN_EVENTS: usize = 256;

/// Bytes of events per turn.
pub(super) const TURN_BYTES: usize = 1 << 20;

/// Retained events looked at per turn.
pub(super) const CATCH_UP_EVENTS: usize = 512;

/// Filter work of replays per turn: about 1 ms.
pub(super) const CATCH_UP_WORK: u64 = 1_000_000;

/// Connections per turn whose timers are checked.
pub(super) const KEPT: usize = 256;

/// Connections per turn whose rights are looked up again.
pub(super) const REVIEWED: usize = 256;

/// Names in the rights that are looked up again per turn: each takes some tenths of a microsecond to compile. A usual
/// role has some twenty.
pub(super) const NAMES: usize = 16_384;

/// Connections per turn visited for lists and searches.
pub(super) const LISTED: usize = 128;

/// Capacity of the queue of lists and searches.
pub(super) const ERRANDS: usize = 1024;

/// How many events a turn publishes, and their bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimit {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

impl BatchLimit {
    pub(super) fn of(outbox: OutboxLimits) -> Self {
        Self { events: TURN_EVENTS.min(outbox.events / 4).max(1), bytes: TURN_BYTES.min(outbox.bytes / 4).max(1) }
    }

    /// Returns a smaller limit, used while the outbox budget is exceeded: it takes turns to release what is shed.
    pub(super) fn reduced(self) -> Self {
        Self { events: (self.events / 16).max(1), bytes: (self.bytes / 16).max(1) }
    }
}

/// The state of a connection's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Everything was handled; the poll reports when more arrives.
    Idle,
    /// It is queued and waits for its turn.
    Queued,
    /// A command waits until the shard has reached the connection's mark.
    Held,
    /// A message is being decoded or parsed on another thread.
    Parsing,
    /// A deregistration waits until the connection's replay has caught up.
    Lagging,
}

/// One connection's share of a turn.
#[derive(Debug)]
pub(super) struct Slice {
    until: Instant,
    messages: u32,
}

impl Slice {
    /// Begins a slice now; it ends with the turn's time for reading at the latest.
    pub(super) fn begin(turn_ends: Instant) -> Self {
        Self { until: turn_ends.min(clock::instant() + SLICE_TIME), messages: SLICE_MESSAGES }
    }

    /// Counts one handled message. Returns `Break` when the slice is used up.
    pub(super) fn count(&mut self) -> ControlFlow<()> {
        self.messages = self.messages.saturating_sub(1);
        if self.is_spent() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Returns whether the slice is used up.
    pub(super) fn is_spent(&self) -> bool {
        self.messages == 0 || clock::instant() >= self.until
    }
}
