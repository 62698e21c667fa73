//! How often something is asked of the stream until it counts as unreadable.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::pages::PageError;

/// For how long the same thing is asked for: a NATS server that starts again is not the end of a replay.
const TRIES: Duration = Duration::from_secs(15);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// The tries of one question. Every page has its own, so a replay that gets on is never cut short.
pub(super) struct Tries(Instant);

impl Tries {
    pub(super) fn begin() -> Self {
        Self(Instant::now() + TRIES)
    }

    /// Waits until it is time for another try, if there is to be one.
    ///
    /// # Errors
    /// The given one, after [`TRIES`].
    pub(super) async fn failed(&self, error: PageError) -> Result<(), PageError> {
        if Instant::now() > self.0 {
            return Err(error);
        }
        tracing::debug!(%error, "the stream does not answer");
        sleep(PAUSE).await;
        Ok(())
    }
}
