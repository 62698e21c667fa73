//! Limits log lines that clients or other servers can cause: at most one per interval, with a count of those left out.
//!
//! Contract: the first is logged immediately; those within [`INTERVAL`] after it are counted and reported with the
//! next.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time between two lines.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Decides when to write a log line, at most one per [`INTERVAL`], and counts those left out.
#[derive(Debug, Default)]
pub struct Summary(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    last: Option<Instant>,
    since: u64,
}

impl Summary {
    /// Counts an occurrence. Returns the number not yet reported if a line is due, otherwise `None`.
    pub fn count(&self, now: Instant) -> Option<u64> {
        let mut counted = self.0.lock();
        if counted.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            counted.since += 1;
            return None;
        }
        counted.last = Some(now);
        Some(std::mem::take(&mut counted.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_and_none_is_forgotten() {
        let (summary, start) = (Summary::default(), Instant::now());
        assert_eq!(summary.count(start), Some(0), "the first is told at once");
        for at in 0..1000 {
            assert_eq!(summary.count(start + Duration::from_millis(9 * at)), None);
        }
        assert_eq!(summary.count(start + INTERVAL), Some(1000));
        assert_eq!(summary.count(start + INTERVAL), None);
        assert_eq!(summary.count(start + 10 * INTERVAL), Some(1));
    }
}
