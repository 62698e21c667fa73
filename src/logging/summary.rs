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

/// The log of the current thread, for tests.
#[cfg(test)]
pub(crate) mod captured {
    use std::io::{self, Write};
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::Dispatch;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the lines that this thread logs meanwhile.
    pub(crate) fn lines(work: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let out = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || out.clone()).finish();
        // While there is only one subscriber, a thread without it that logs the same line first would switch it off.
        let _another = Dispatch::new(tracing_subscriber::registry());
        tracing::subscriber::with_default(subscriber, work);
        let text = lines.0.lock();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
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
