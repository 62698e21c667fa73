//! Whether anything moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The time of the last movement, shared by those who move something and one who waits for it to stop.
#[derive(Debug, Clone)]
pub struct Activity {
    since: Instant,
    /// Milliseconds after `since`.
    last: Arc<AtomicU64>,
}

impl Default for Activity {
    /// Begins with a movement.
    fn default() -> Self {
        Self { since: Instant::now(), last: Arc::default() }
    }
}

impl Activity {
    /// Something has moved.
    pub fn touch(&self) {
        let elapsed = self.since.elapsed().as_millis();
        self.last.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Waits until nothing has moved for so long.
    pub async fn quiet(&self, limit: Duration) {
        loop {
            let due = self.since + Duration::from_millis(self.last.load(Ordering::Relaxed)) + limit;
            if Instant::now() >= due {
                return;
            }
            sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_movement_puts_the_end_off() {
        let activity = Activity::default();
        tokio::time::sleep(Duration::from_millis(100)).await;
        activity.touch();
        let moved = Instant::now();
        activity.quiet(Duration::from_millis(200)).await;
        // Movements are known to a millisecond.
        assert!(moved.elapsed() >= Duration::from_millis(198), "{:?}", moved.elapsed());
    }
}
