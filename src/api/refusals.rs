//! Refused logins in the log, also where `log.audit` is off: whoever is attacked has to see it, and an attacker must
//! not be able to fill the log.
//!
//! Contract: as that of [`Summary`]. Every refusal is in `hydrant_handshakes_rejected_total` and, with `log.audit`, a
//! line of its own. Nothing that was sent is in it but the path.

use std::net::SocketAddr;
use std::time::Instant;

use super::ApiError;
use crate::auth::AuthError;
use crate::transport::summary::Summary;

/// Logs refused logins at a bounded rate, even while `log.audit` is off.
#[derive(Debug, Default)]
pub(super) struct Refusals(Summary);

impl Refusals {
    /// Tells of a refusal, now or with a later one. Requests without credentials are how some clients begin, and are
    /// not told.
    pub(super) fn report(&self, error: &ApiError, peer: SocketAddr, path: &str) {
        if matches!(error, ApiError::Auth(AuthError::Missing)) {
            return;
        }
        let Some(others) = self.0.count(Instant::now()) else { return };
        tracing::warn!(%peer, path, %error, others, "login refused; others is how many more since the last such line");
    }
}
