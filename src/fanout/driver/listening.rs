//! Measures how long a shard has been listening to its clients, which is what a client's silence is compared with.
//! Pings do not wait for it: a client measures the server's silence by its own clock.
//!
//! A thread that is delayed, by its work or because the machine did not schedule it, receives nothing, and clients
//! cannot answer pings that it did not send. So time counts in full only while the thread meant to sleep in its poll;
//! of the rest at most [`GRACE`] counts per turn. Anything beyond that is a stall.

use std::time::{Duration, Instant};

/// How long a turn may take without being a stall.
const GRACE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Listening {
    total: Duration,
    last: Instant,
}

impl Listening {
    pub(super) fn begin(now: Instant) -> Self {
        Self { total: Duration::ZERO, last: now }
    }

    /// Begins a turn, after a poll that was to wait no longer than `timeout`. Returns whether the shard has stalled
    /// since the turn before.
    pub(super) fn advance(&mut self, now: Instant, timeout: Duration) -> bool {
        let passed = now.saturating_duration_since(self.last);
        let counted = passed.min(timeout + GRACE);
        self.last = now;
        self.total += counted;
        counted < passed
    }

    /// Returns the time spent listening, in milliseconds. Constant during a turn.
    pub(super) fn now(&self) -> u64 {
        millis(self.total)
    }
}

/// Converts to milliseconds, saturating.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_not_silence() {
        let begun = Instant::now();
        let mut listening = Listening::begin(begun);
        let second = Duration::from_secs(1);
        assert!(!listening.advance(begun + second, second), "asleep, as it was to be");
        assert!(!listening.advance(begun + second + GRACE, Duration::ZERO), "a busy turn");
        assert_eq!(listening.now(), millis(second + GRACE));
        assert!(listening.advance(begun + 300 * second, second), "a long turn, or no turn at all");
        assert_eq!(listening.now(), millis(2 * second + 2 * GRACE));
    }
}
