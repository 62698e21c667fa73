//! The budget of one turn of the loop.
//!
//! Contract: constants, plain numbers, and a look at the clock. Work that does not fit waits for the next turn.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::stats::OutboxLimits;

/// Bytes read from one connection at a time.
pub(super) const READ_BYTES: usize = 64 << 10;

/// Messages of one connection that are dealt with.
const SLICE_MESSAGES: u32 = 64;

/// Time for the messages of one connection.
const SLICE_TIME: Duration = Duration::from_micros(250);

/// Time for what all clients send.
pub(super) const READ_TIME: Duration = Duration::from_millis(1);

/// Time for what the control plane asks: newcomers, lists, deletions.
pub(super) const CONTROL_TIME: Duration = Duration::from_millis(1);

/// Places of registrations in the index that leave it or change their class with their connections: each takes some
/// tenths of a microsecond.
pub(super) const MOVED: usize = 1024;

/// Connections that are forgotten because their sockets have failed or their time to go is over: the system closes each
/// socket with all that waits in it, and an event tells of it.
pub(super) const FORGOTTEN: usize = 8;

/// Events of a turn.
pub(super) const TURN_EVENTS: usize = 256;

/// Bytes of events of a turn.
pub(super) const TURN_BYTES: usize = 1 << 20;

/// Retained events that are looked at in a turn.
pub(super) const CATCH_UP_EVENTS: usize = 512;

/// Work of the filters of replays in a turn: some 1 ms.
pub(super) const CATCH_UP_WORK: u64 = 1_000_000;

/// Connections that time is kept of in a turn.
pub(super) const KEPT: usize = 256;

/// Connections whose rights are looked up anew in a turn.
pub(super) const REVIEWED: usize = 256;

/// Connections that are looked at in a turn for somebody who lists them, or looks for one.
pub(super) const LISTED: usize = 128;

/// Requests for lists that may wait.
pub(super) const ERRANDS: usize = 1024;

/// How much a turn takes in.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimit {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

impl BatchLimit {
    pub(super) fn of(outbox: OutboxLimits) -> Self {
        Self { events: TURN_EVENTS.min(outbox.events / 4).max(1), bytes: TURN_BYTES.min(outbox.bytes / 4).max(1) }
    }

    /// The same while the outboxes of all connections together are too large: it takes turns to let go what is shed.
    pub(super) fn reduced(self) -> Self {
        Self { events: (self.events / 16).max(1), bytes: (self.bytes / 16).max(1) }
    }
}

/// Where the input of a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Everything was dealt with; the poll tells when more comes.
    Idle,
    /// Its turn comes.
    Queued,
    /// A command waits until the shard has come to the connection's mark.
    Held,
    /// A registration is being read on another thread.
    Parsing,
    /// A deregistration waits until the connection has got the past.
    Lagging,
}

/// One connection's part of a turn.
#[derive(Debug)]
pub(super) struct Slice {
    until: Instant,
    messages: u32,
}

impl Slice {
    /// Begins now and ends with the turn's time for reading at the latest.
    pub(super) fn begin(turn_ends: Instant) -> Self {
        Self { until: turn_ends.min(Instant::now() + SLICE_TIME), messages: SLICE_MESSAGES }
    }

    /// One message more was dealt with.
    pub(super) fn count(&mut self) -> ControlFlow<()> {
        self.messages = self.messages.saturating_sub(1);
        if self.is_spent() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Whether the others' turn has come.
    pub(super) fn is_spent(&self) -> bool {
        self.messages == 0 || Instant::now() >= self.until
    }
}
