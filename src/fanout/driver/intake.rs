//! Decides how many events a turn publishes.
//!
//! At most `TURN_EVENTS` or `TURN_BYTES`, and at most a quarter of an outbox; and only if every writable connection has
//! room for them. So one large batch never closes a client that keeps up, however small the outboxes are: the frames
//! queued for it are written first. Connections whose sockets are full do not delay the others.
//!
//! Nor does a client that always has something queued, such as answers to its pings: an event that is larger than an
//! outbox needs an empty one. So if there is no room, the connections are written to at once. Then each is empty, or
//! its socket is full, or it had more queued than one write takes. Events wait only for those of the last kind.
//! Meanwhile no input is read and no replay continues, so only pings of the server and close frames are added. They
//! wait for as many turns as it takes to write what was queued; whoever has no room then is a slow consumer.

use std::time::Duration;

use super::turn::{CATCH_UP_EVENTS, CATCH_UP_WORK, TURN_BYTES};
use super::write::{LEAST_BYTES, LEAST_FRAMES};
use super::{Driver, Parts};
use crate::clock;
use crate::fanout::catch_up::Allowance;
use crate::fanout::socket::Socket;
use crate::stats::Depth;

impl<S: Socket> Driver<S> {
    /// Returns the bytes of the next event, if there is one.
    pub(super) fn next_bytes(&mut self) -> Option<usize> {
        if self.started.is_none() {
            self.started = self.parts.inbox.next().map(|batch| (batch, 0));
        }
        self.started.as_ref().map(|(batch, at)| batch.events[*at].frame().len())
    }

    /// Publishes the next events unless they have to wait for room. Returns the number of events.
    pub(super) fn publish_events(&mut self) -> usize {
        if self.may_ingest_events() || (self.has_events() && self.make_room()) {
            self.put_off = None;
            self.ingest_events()
        } else {
            0
        }
    }

    /// Writes to the connections because some have no room for the next events. Returns whether these are published
    /// now; otherwise they are put off.
    #[cold]
    fn make_room(&mut self) -> bool {
        self.flush();
        if self.may_ingest_events() {
            return true;
        }
        if self.waits_for_readers() {
            // Until its own deadline, and commands are executed meanwhile.
            self.put_off = None;
            return false;
        }
        let turns = match self.put_off {
            Some(0) => return true,
            Some(turns) => turns - 1,
            None => {
                let Depth { events, bytes } = self.parts.shard.fanout().deepest_dirty();
                events / LEAST_FRAMES + bytes / LEAST_BYTES
            }
        };
        self.put_off = Some(turns);
        false
    }

    /// Publishes the next events, as many as a turn allows, but at least one. The rest of a larger batch waits for the
    /// next turn, so that sockets are served in between. Returns the number of events.
    fn ingest_events(&mut self) -> usize {
        let (mut events, mut bytes) = (0, 0);
        let exceeded = self.parts.budget.is_exceeded();
        let batch_limit = if exceeded { self.batch_limit.reduced() } else { self.batch_limit };
        while let Some(next) = self.next_bytes() {
            bytes += next;
            if events == batch_limit.events || (events > 0 && bytes > batch_limit.bytes) {
                break;
            }
            let Some((batch, at)) = self.started.take() else { break };
            events += 1;
            self.parts.shard.publish(&batch.events[at], batch.received_us);
            self.parts.shard.set_position(batch.first + at as u64 + 1);
            if at + 1 < batch.events.len() {
                self.started = Some((batch, at + 1));
            }
        }
        events
    }

    /// Returns the number of the next event to be sequenced, as far as this shard knows.
    pub(super) fn next_number(&self) -> u64 {
        let started = self.started.as_ref().map_or(0, |(batch, at)| batch.events.len() - at);
        self.parts.shard.position() + (started + self.parts.inbox.waiting()) as u64
    }

    pub(super) fn has_events(&self) -> bool {
        self.started.is_some() || !self.parts.inbox.is_empty()
    }

    /// Returns the time until lagging connections can continue, or `None` if something has to change first.
    pub(super) fn catch_up_in(&self) -> Option<Duration> {
        let Parts { shard, broker, .. } = &self.parts;
        shard.catch_up_in(broker.now_us()).map(Duration::from_micros)
    }

    /// Continues the replays of lagging connections. What exceeds the turn's allowance waits for the next turn, so that
    /// live events come first.
    pub(super) fn catch_up(&mut self) {
        let Parts { shard, broker, .. } = &mut self.parts;
        // What became roomier may have gone since: unless it is taken, the thread would never sleep again.
        if shard.lagging() > 0 || shard.fanout().has_roomier() {
            let allowance = Allowance { events: CATCH_UP_EVENTS, bytes: TURN_BYTES, work: CATCH_UP_WORK };
            shard.catch_up(broker.history(), allowance, broker.now_us(), clock::now());
        }
        while let Some(conn) = self.parts.shard.pop_level() {
            self.release_lagging(conn);
        }
    }
}
