//! Delays between retries.
//!
//! Uses full jitter: a random delay up to a ceiling that doubles with every failure, so that a fleet of clients that
//! lost the same server does not reconnect at the same moment.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Computes waits between attempts from the number of consecutive failures.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    first: Duration,
    longest: Duration,
}

impl Default for Backoff {
    /// Waits at most half a second after the first failure, and never more than 30 seconds.
    fn default() -> Self {
        Self::new(FIRST, LONGEST)
    }
}

impl Backoff {
    /// Creates a backoff that waits at most `first` after the first failure, and never more than `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { failures: 0, first, longest }
    }

    /// Counts a failure and returns the time to wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = jitter(self.ceiling(self.failures));
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Counts a failure that is likely to recur soon, and returns the time to wait: from half of the longest wait to
    /// all of it.
    pub fn long_wait(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.longest / 2 + jitter(self.longest / 2)
    }

    fn ceiling(&self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.min(16)).min(self.longest)
    }

    /// Resets the number of failures.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Returns a random duration up to `ceiling`.
pub fn jitter(ceiling: Duration) -> Duration {
    // Without random numbers, the middle still spreads clients by their number of failures.
    part(ceiling, getrandom::u32().unwrap_or(u32::MAX / 2))
}

/// Scales `random`, as a fraction of the range of `u32`, to `ceiling`.
fn part(ceiling: Duration, random: u32) -> Duration {
    ceiling.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_limit() {
        let backoff = Backoff::default();
        let seconds: Vec<f64> = (0..8).map(|n| backoff.ceiling(n).as_secs_f64()).collect();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert_eq!(backoff.ceiling(u32::MAX), LONGEST);
    }

    #[test]
    fn the_jitter_is_full() {
        assert_eq!(part(LONGEST, 0), Duration::ZERO);
        assert_eq!(part(LONGEST, u32::MAX), LONGEST);
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..100).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= FIRST);
        assert!(waits[10..].iter().any(|wait| *wait != waits[10]), "random");
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
        assert!(backoff.long_wait() >= LONGEST / 2);
    }
}
