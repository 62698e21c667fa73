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

    /// Returns the time spent listening. Constant during a turn.
    pub(super) fn now(&self) -> Moment {
        Moment::after(self.total)
    }
}

/// The longest time that can be measured between two moments.
const LONGEST: Duration = Duration::from_hours(49 * 24);

/// A moment in milliseconds, in four bytes because every connection stores two. Wraps around after 49 days, so that
/// differences up to that are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(u32);

impl Moment {
    /// Returns the moment this long after the beginning.
    #[expect(clippy::cast_possible_truncation, reason = "wraps around")]
    pub(super) fn after(passed: Duration) -> Self {
        Self(passed.as_millis() as u32)
    }

    /// Returns whether `wait` has passed since an earlier moment, or 49 days, if it is longer.
    pub(super) fn is_past(self, earlier: Self, wait: Duration) -> bool {
        Duration::from_millis(self.0.wrapping_sub(earlier.0).into()) >= wait.min(LONGEST)
    }
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
        assert_eq!(listening.now(), Moment::after(second + GRACE));
        assert!(listening.advance(begun + 300 * second, second), "a long turn, or no turn at all");
        assert_eq!(listening.now(), Moment::after(2 * second + 2 * GRACE));
    }

    #[test]
    fn a_moment_may_be_past_the_end_of_its_numbers() {
        let (day, minute) = (Duration::from_hours(24), Duration::from_mins(1));
        for days in [0, 49, 50, 1000] {
            let seen = Moment::after(days * day);
            let now = Moment::after(days * day + minute);
            assert!(now.is_past(seen, minute) && !now.is_past(seen, 2 * minute));
            let later = Moment::after((days + 49) * day);
            assert!(later.is_past(seen, 49 * day) && later.is_past(seen, 365 * day), "no longer time is waited for");
        }
    }
}
