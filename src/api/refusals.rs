//! Logs refused logins even if `log.audit` is off: an operator under attack must see it, but an attacker must not be
//! able to fill the log.
//!
//! Contract: that of [`Summary`]. Every refusal is counted in `hydrant_handshakes_rejected_total` and, with
//! `log.audit`, has a line of its own. Of what was sent only the path is logged.

use std::net::SocketAddr;
use std::time::Instant;

use super::ApiError;
use crate::auth::AuthError;
use crate::logging::summary::Summary;

/// Logs refused logins at a bounded rate, even while `log.audit` is off.
#[derive(Debug, Default)]
pub(super) struct Refusals(Summary);

impl Refusals {
    /// Logs a refusal, now or with a later one. Requests without credentials are not logged, since some clients begin
    /// with one.
    pub(super) fn report(&self, error: &ApiError, peer: SocketAddr, path: &str) {
        if matches!(error, ApiError::Auth(AuthError::Missing)) {
            return;
        }
        let Some(suppressed) = self.0.count(Instant::now()) else { return };
        tracing::warn!(%peer, path, %error, suppressed, "login refused");
    }
}
