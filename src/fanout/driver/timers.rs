//! Time-driven work of a shard's thread: pings, deadlines, and the age of queued events.

use std::cell::LazyCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::listening::Moment;
use super::turn::{Input, KEPT};
use super::{Driver, Timing};
use crate::clock;
use crate::fanout::outbox::ConnId;
use crate::fanout::outbox::Frame;
use crate::fanout::socket::Socket;
use crate::overflow::Overflow;
use crate::protocol::{Close, stream};
use crate::stats::Depth;

/// One pass over all connections. A turn checks some hundred.
#[derive(Debug, Default)]
pub(super) struct Round {
    next: usize,
    deepest: Depth,
    oldest: Duration,
}

impl Timing {
    /// Returns the interval between two rounds: a quarter of the shortest limit, as far as that is sensible.
    pub(super) fn tick(&self) -> Duration {
        let Self { ping, idle, close, age, .. } = *self;
        let shortest = ping.min(idle).min(close).min(age.unwrap_or(idle));
        (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }
}

impl<S: Socket> Driver<S> {
    /// Begins a round when it is due, and continues it.
    pub(super) fn keep_time(&mut self) {
        let (now, now_us, moment) = (clock::instant(), self.now_us(), self.now());
        if self.round.is_none() && now >= self.next_tick {
            self.next_tick = self.draining.map_or(now + self.tick, |drain| drain.next_tick(now, self.tick));
            self.round = Some(Round::default());
            self.parts.shard.look_again();
        }
        let Some(mut round) = self.round.take() else { return };
        // The shutdown of the server must not be delayed.
        let most = if self.draining.is_some() { usize::MAX } else { KEPT };
        let end = self.conns.len().min(round.next.saturating_add(most));
        // The history is asked only if a connection has something to forget, as its lock is the sequencer's too.
        let broker = Arc::clone(&self.parts.broker);
        let retained = LazyCell::new(|| broker.history().first());
        for at in round.next..end {
            let conn = ConnId(u32::try_from(at).expect("fewer than 4 billion connections"));
            self.keep_time_of(conn, now, moment);
            self.parts.shard.forget_left_out(conn, || *retained);
            round.oldest = round.oldest.max(self.keep_age_of(conn, now_us));
            round.deepest = round.deepest.max(self.parts.shard.fanout().depth(conn));
        }
        self.note_closing();
        round.next = end;
        if end < self.conns.len() {
            self.round = Some(round);
        } else {
            self.parts.metrics.peak(round.deepest, round.oldest);
        }
    }

    /// Returns the microseconds since the broker's epoch.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.passed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns the moment since the broker's epoch.
    pub(super) fn now(&self) -> Moment {
        Moment::after(self.passed())
    }

    fn passed(&self) -> Duration {
        clock::instant().saturating_duration_since(self.parts.epoch)
    }

    /// Returns the age of the oldest event queued for a connection, and closes the connection if that exceeds the
    /// limit.
    fn keep_age_of(&mut self, conn: ConnId, now_us: u64) -> Duration {
        let fanout = self.parts.shard.fanout();
        let Some(oldest) = fanout.oldest_us(conn) else { return Duration::ZERO };
        let age = Duration::from_micros(now_us.saturating_sub(oldest));
        let bounded = fanout.policy(conn) == Some(Overflow::Disconnect);
        // While the shard was stalled, the client could not have read.
        let own = age.min(Duration::from_micros(now_us.saturating_sub(self.stalled_us)));
        if bounded && self.parts.timing.age.is_some_and(|most| own > most) {
            self.parts.shard.close(conn, Close::Stale { seconds: age.as_secs() });
        }
        age
    }

    fn keep_time_of(&mut self, conn: ConnId, now: Instant, moment: Moment) {
        let Timing { ping, idle, close_on_token_expiry: expires, .. } = self.parts.timing;
        let drained = self.draining.is_some_and(|drain| now >= drain.deadline);
        let listened = self.listening.now();
        let Some(entry) = self.conn(conn) else { return };
        if !matches!(entry.input, Input::Idle | Input::Lagging) {
            // It has sent input that the shard has yet to handle.
            entry.seen = listened;
        }
        if let Some(ending) = &entry.ending {
            if drained {
                self.cut_off(conn);
            } else if now >= ending.deadline {
                // Hundreds may have been closed by the same event.
                self.lose(conn);
            }
        } else if expires && entry.identity.is_expired(clock::now()) {
            self.parts.shard.close(conn, Close::Expired);
        } else if entry.speaks && listened.is_past(entry.seen, idle) {
            self.parts.shard.close(conn, Close::Silent);
        } else if moment.is_past(entry.pinged, ping) {
            entry.pinged = moment;
            let heartbeat = stream::heartbeat(self.parts.shard.fanout().encoding(conn));
            self.parts.shard.control(conn, Frame::Constant(heartbeat));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_limit_decides_how_often_connections_are_looked_at() {
        let long = 10_000;
        for (ping, idle, close, age, expected) in [
            (400, long, long, Some(long), 100),
            (long, 400, long, Some(long), 100),
            (long, long, 400, Some(long), 100),
            (long, long, long, Some(400), 100),
            (long, long, 2_000, None, 500),
            (long, long, long, None, 1_000),
            (long, 1, long, None, 10),
        ] {
            let [ping, idle, close] = [ping, idle, close].map(Duration::from_millis);
            let age = age.map(Duration::from_millis);
            let timing = Timing { ping, idle, close, age, close_on_token_expiry: false };
            assert_eq!(timing.tick().as_millis(), expected, "{timing:?}");
        }
    }
}
