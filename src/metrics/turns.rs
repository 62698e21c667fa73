//! The duration of a shard's turns, visible while a turn is still running.
//!
//! Contract: the shard's thread writes twice a turn, without a lock; any thread may read at any time, so a stuck
//! thread is visible. The reported longest turn covers the last 30 to 60 seconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The duration above which a turn counts as long: the most by which one client may delay another.
pub const LONG_TURN: Duration = Duration::from_millis(50);

/// The duration above which a shard in its turn is stalled; the server is not ready while it lasts.
pub const STALL: Duration = Duration::from_secs(1);

/// The duration above which a turn is not expected to end, so that whoever supervises the process should restart it. It
/// is that of systemd's watchdog, `WatchdogSec` in `dist/systemd/hydrant.service`.
pub const HUNG: Duration = Duration::from_secs(30);

/// The minimum time for which the longest turn is remembered.
const WINDOW: Duration = Duration::from_secs(30);

/// The turns of one shard. All times are microseconds since `epoch`, and never 0.
#[derive(Debug)]
pub(super) struct Turns {
    epoch: Instant,
    /// The start of the current turn; 0 while the thread waits.
    begun: AtomicU64,
    /// The longest turns of the current and of the previous window.
    longest: [AtomicU64; 2],
    /// The start of the current window.
    window: AtomicU64,
}

impl Turns {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            begun: AtomicU64::new(0),
            longest: [AtomicU64::new(0), AtomicU64::new(0)],
            window: AtomicU64::new(0),
        }
    }

    fn us(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.epoch)).max(1)
    }

    pub(super) fn begin(&self, now: Instant) {
        self.begun.store(self.us(now), Ordering::Relaxed);
    }

    /// Ends the current turn, which has taken `busy`.
    pub(super) fn end(&self, busy: Duration) {
        let now = self.begun.swap(0, Ordering::Relaxed) + micros(busy);
        let [longest, before] = &self.longest;
        if now.saturating_sub(self.window.load(Ordering::Relaxed)) >= micros(WINDOW) {
            self.window.store(now, Ordering::Relaxed);
            before.store(longest.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        longest.fetch_max(micros(busy), Ordering::Relaxed);
    }

    /// Returns the duration of the current turn so far; zero while the thread waits.
    pub(super) fn running(&self, now: Instant) -> Duration {
        match self.begun.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            begun => Duration::from_micros(self.us(now).saturating_sub(begun)),
        }
    }

    /// Returns the longest turn, including the current one.
    pub(super) fn longest(&self, now: Instant) -> Duration {
        let ended = self.longest.iter().map(|longest| longest.load(Ordering::Relaxed)).max().unwrap_or(0);
        self.running(now).max(Duration::from_micros(ended))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_turn_shows_while_it_lasts_and_for_a_while_after() {
        let epoch = Instant::now();
        let turns = Turns::new(epoch);
        assert_eq!(turns.longest(epoch + SECOND), Duration::ZERO, "it waits");
        turns.begin(epoch + SECOND);
        assert_eq!(turns.running(epoch + 6 * SECOND), 5 * SECOND);
        assert_eq!(turns.longest(epoch + 6 * SECOND), 5 * SECOND);
        turns.end(7 * SECOND);
        assert_eq!(turns.running(epoch + 9 * SECOND), Duration::ZERO);
        assert_eq!(turns.longest(epoch + 9 * SECOND), 7 * SECOND);
        for (at, longest) in [(35, 7), (64, 7), (66, 2)] {
            turns.begin(epoch + at * SECOND);
            turns.end(2 * SECOND);
            assert_eq!(turns.longest(epoch + (at + 2) * SECOND), longest * SECOND, "after {at} s");
        }
    }
}
