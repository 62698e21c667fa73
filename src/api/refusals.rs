//! Refused logins in the log, also where `log.audit` is off: whoever is attacked has to see it, and an attacker must not be able to
//! fill the log.
//!
//! Contract: one line in [`INTERVAL`] at most, the first at once; what came between is counted and told by the next. Every
//! refusal is in `hydrant_handshakes_rejected_total` and, with `log.audit`, a line of its own. Nothing that was sent is in it
//! but the path.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ApiError;
use crate::auth::AuthError;

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    last: Option<Instant>,
    since: u64,
}

impl Counted {
    /// How many were not told, if it is time to tell one.
    fn count(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            self.since += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

impl Refusals {
    /// Tells of a refusal, now or with a later one. Requests without credentials are how some clients begin, and are not told.
    pub(super) fn tell(&self, error: &ApiError, peer: SocketAddr, path: &str) {
        if matches!(error, ApiError::Auth(AuthError::Missing)) {
            return;
        }
        let Some(others) = self.0.lock().count(Instant::now()) else { return };
        tracing::warn!(%peer, path, %error, others, "login refused; others is how many more since the last such line");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_and_none_is_forgotten() {
        let (mut counted, start) = (Counted::default(), Instant::now());
        assert_eq!(counted.count(start), Some(0), "the first is told at once");
        for at in 0..1000 {
            assert_eq!(counted.count(start + Duration::from_millis(9 * at)), None);
        }
        assert_eq!(counted.count(start + INTERVAL), Some(1000));
        assert_eq!(counted.count(start + INTERVAL), None);
        assert_eq!(counted.count(start + 10 * INTERVAL), Some(1));
    }
}
