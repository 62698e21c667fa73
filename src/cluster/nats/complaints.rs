//! Logs the errors that NATS servers send (`-ERR`): at most one line every [`EVERY`].
//!
//! A server that denies a permission sends an error for every published message. All are counted, few are logged.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Minimum time between two log lines.
const EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct State {
    logged: Option<Instant>,
    suppressed: u64,
}

/// Errors of a connection and its successors: counted by the caller, logged here at a limited rate.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Complaints(Mutex<State>);

impl Complaints {
    /// Logs an error, unless another one was logged within [`EVERY`].
    pub(in crate::cluster) fn log(&self, error: &str) {
        if let Some(suppressed) = self.note() {
            tracing::error!(error, suppressed, "the NATS server reported an error");
        }
    }

    /// Returns the number of errors suppressed since the last line if this one is to be logged.
    fn note(&self) -> Option<u64> {
        let mut state = self.0.lock();
        if state.logged.is_some_and(|logged| logged.elapsed() < EVERY) {
            state.suppressed += 1;
            return None;
        }
        state.logged = Some(Instant::now());
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_a_line_now_and_then_that_tells_how_many_were_left_out() {
        let complaints = Complaints::default();
        let logged: Vec<u64> = (0..1000).filter_map(|_| complaints.note()).collect();
        assert_eq!(logged, [0]);
        tokio::time::advance(EVERY).await;
        assert_eq!((complaints.note(), complaints.note()), (Some(999), None));
    }
}
