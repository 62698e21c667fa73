//! How often a read from the stream is retried until the stream counts as unreadable.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::pages::PageError;

/// How long a read is retried: the restart of a NATS server should not end a replay.
const TRIES: Duration = Duration::from_secs(15);

/// Delay between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// The attempts at one read. Every page has its own, so a replay that makes progress is never aborted.
pub(super) struct Tries(Instant);

impl Tries {
    pub(super) fn begin() -> Self {
        Self(Instant::now() + TRIES)
    }

    /// Waits until the next attempt is due.
    ///
    /// # Errors
    /// The given error, once [`TRIES`] has passed.
    pub(super) async fn failed(&self, error: PageError) -> Result<(), PageError> {
        if Instant::now() > self.0 {
            return Err(error);
        }
        tracing::debug!(%error, "the NATS stream did not answer; retrying");
        sleep(PAUSE).await;
        Ok(())
    }
}
