//! Turns: expensive requests of one kind are processed one at a time, whoever their callers are.
//!
//! Contract: requests get their turns in the order in which they asked. A request that has waited for [`TURN`] is
//! refused with the reason. So a caller with many requests delays others by at most that time.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::ApiError;

/// Maximum time for which a request waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// Requests that are processed one at a time.
#[derive(Debug)]
pub(super) struct Turns {
    semaphore: Semaphore,
    what: &'static str,
}

impl Turns {
    /// Creates turns for `what`, in the plural.
    pub(super) fn new(what: &'static str) -> Self {
        Self { semaphore: Semaphore::new(1), what }
    }

    /// Waits for the turn, which lasts until the permit is dropped.
    ///
    /// # Errors
    /// It did not come within [`TURN`].
    pub(super) async fn take(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        let turn = timeout(TURN, self.semaphore.acquire()).await;
        Ok(turn.map_err(|_| ApiError::Turn { what: self.what })?.expect("it is never closed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_who_waits_too_long_is_told_so() {
        let turns = Turns::new("searches");
        let first = turns.take().await.unwrap();
        let begun = tokio::time::Instant::now();
        let refused = turns.take().await.unwrap_err();
        assert_eq!(refused.to_string(), "other searches are in progress; try again");
        assert_eq!(begun.elapsed(), TURN);
        drop(first);
        drop(turns.take().await.unwrap());
    }
}
