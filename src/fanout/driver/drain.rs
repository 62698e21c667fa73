//! Shuts a shard down: delivers what was accepted, then sends every client a close frame.
//!
//! Turns continue as before, so sockets that were full are written to again. No new events are accepted any more, so
//! there is time: events are published only while every outbox has room for a whole turn, and a client that reads is
//! never closed as a slow consumer because of the shutdown. Half of the drain time is reserved for close frames; a
//! client that does not read delays the others no longer than that. After its close frame a client has the usual time
//! to answer it.
//!
//! Commands that were read are executed and answered too, in the same time. The shard does not wait for commands that
//! are still on their way, though some may be read along with others. A command without an answer before the close
//! frame was not executed: it came too late, or it deregisters on a connection whose replay has not come that far.
//!
//! What is still queued at the deadline is lost. A client that has not read what came before cannot be sent a reason
//! either: for it the connection ends without a close frame. These events are counted as all dropped ones are, and
//! [`Undelivered`] says how many there were, because nobody reads the metrics of a server that has ended.

use std::time::{Duration, Instant};

use super::Driver;
use crate::clock;
use crate::fanout::outbox::ConnId;
use crate::fanout::socket::Socket;
use crate::protocol::Close;

/// After the deadline the remaining connections get this long for one more turn, which closes them; then the thread
/// ends in any case.
const GRACE: Duration = Duration::from_millis(100);

/// A drain in progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    /// When the remaining connections are closed.
    pub(super) deadline: Instant,
    /// Until when the drain waits for slow consumers.
    reader_deadline: Instant,
    /// Whether everything was delivered or dropped and every connection was sent a close frame.
    pub(super) close_sent: bool,
}

/// What a shard had not delivered when the time of its drain was over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::fanout) struct Undelivered {
    /// Connections that were cut off before they had received everything.
    pub(in crate::fanout) connections: usize,
    /// Events that were queued for them.
    pub(in crate::fanout) events: usize,
    /// Accepted events that were not matched any more. Every shard gets all events.
    pub(in crate::fanout) unmatched: usize,
}

impl Undelivered {
    /// Adds what another shard had not delivered.
    pub(in crate::fanout) fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.events += other.events;
        self.unmatched = self.unmatched.max(other.unmatched);
    }
}

impl Drain {
    /// Returns when to look at the clock next: never later than the deadline.
    pub(super) fn next_tick(self, now: Instant, tick: Duration) -> Instant {
        let next = now + tick;
        if now < self.deadline { next.min(self.deadline) } else { next.min(now + GRACE) }
    }

    /// Returns whether the thread must end now.
    pub(super) fn is_overdue(self, now: Instant) -> bool {
        now > self.deadline + GRACE
    }
}

impl<S: Socket> Driver<S> {
    /// Begins to drain if the pool has said so.
    pub(super) fn begin_drain(&mut self) {
        if let Some(&deadline) = self.parts.drain.get().filter(|_| self.draining.is_none()) {
            self.drain(deadline);
        }
    }

    pub(super) fn drain(&mut self, deadline: Instant) {
        let now = clock::instant();
        let reader_deadline = now + deadline.saturating_duration_since(now) / 2;
        self.draining = Some(Drain { deadline, reader_deadline, close_sent: false });
        self.next_tick = self.next_tick.min(deadline);
    }

    /// Returns whether events may be published in this turn.
    pub(super) fn may_ingest_events(&mut self) -> bool {
        let Some(next) = self.next_bytes() else { return false };
        let (events, bytes) = (self.batch_limit.events, self.batch_limit.bytes.max(next));
        let waits = self.waits_for_readers();
        let fanout = self.parts.shard.fanout();
        if waits { fanout.all_have_room(events, bytes) } else { fanout.dirty_have_room(events, bytes) }
    }

    /// Returns whether a drain waits for slow consumers.
    pub(super) fn waits_for_readers(&self) -> bool {
        self.draining.is_some_and(|drain| clock::instant() < drain.reader_deadline)
    }

    /// Closes all connections once no accepted event or command is left.
    pub(super) fn end_drain(&mut self) {
        if self.has_events() || self.awaits_commands() {
            return;
        }
        let Some(drain) = self.draining.as_mut().filter(|drain| !drain.close_sent) else { return };
        drain.close_sent = true;
        for at in 0..self.conns.len() {
            let conn = ConnId(u32::try_from(at).expect("fewer than 4 billion connections"));
            if self.conn(conn).is_some() {
                self.parts.shard.close(conn, Close::Draining);
            }
        }
    }

    /// Forgets a connection because the time is over, and notes what it did not receive.
    pub(super) fn cut_off(&mut self, conn: ConnId) {
        let before = self.queued_events();
        self.vanish(conn);
        let lost = before - self.queued_events();
        self.undelivered.connections += usize::from(lost > 0);
        self.undelivered.events += lost;
    }

    /// Cuts off the connections that are left when the thread ends. Returns what was not delivered.
    pub(super) fn leave(&mut self) -> Undelivered {
        for at in 0..self.conns.len() {
            self.cut_off(ConnId(u32::try_from(at).expect("fewer than 4 billion connections")));
        }
        let unmatched = usize::try_from(self.next_number() - self.parts.shard.position()).unwrap_or(usize::MAX);
        Undelivered { unmatched, ..self.undelivered }
    }

    /// Returns how many events are queued. Dropped ones count as queued until they are released, so they all are: no
    /// turn is left for them.
    fn queued_events(&mut self) -> usize {
        let fanout = self.parts.shard.fanout();
        fanout.release_all();
        fanout.waiting().events
    }

    /// Returns whether commands that were read are still to be executed, and there is time for it.
    fn awaits_commands(&self) -> bool {
        // One whose place has come, or that was parsed, is in the queue until the turn has time for it.
        let has_read = |conn: &ConnId| {
            let entry = self.conns.get(conn.0 as usize).and_then(Option::as_ref);
            entry.is_some_and(|entry| entry.kept || entry.command.is_some())
        };
        let awaits = !self.held.is_empty() || self.parsing > 0 || self.queue.iter().any(has_read);
        awaits && self.waits_for_readers()
    }
}
