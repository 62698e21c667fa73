//! Logs requests that fail, or have an incomplete answer, for a reason that is none of the caller's.
//!
//! Contract: that of [`Summary`], for each reason by itself, so that a frequent one hides no other.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use super::ApiError;
use crate::endpoint::http::UpstreamError;
use crate::logging::summary::Summary;

/// Logs failures at a bounded rate.
#[derive(Debug, Default)]
pub(super) struct Failures {
    unanswered: Summary,
    refused: Summary,
    credential: Summary,
    connections: Summary,
    omitted: Summary,
}

impl Failures {
    /// Logs what clients do not learn: the endpoint's address and the full reason.
    pub(super) fn unanswered(&self, error: &UpstreamError) {
        let is_the_endpoints = matches!(
            error,
            UpstreamError::Unreachable { .. }
                | UpstreamError::Broken { .. }
                | UpstreamError::LongAnswer { .. }
                | UpstreamError::Late { .. }
                | UpstreamError::Unread { .. }
        );
        if is_the_endpoints && let Some(suppressed) = self.unanswered.count(Instant::now()) {
            tracing::warn!(%error, suppressed, "the endpoint did not answer");
        }
    }

    /// Logs that the endpoint refuses the service's own credential.
    pub(super) fn refused(&self, error: &ApiError) {
        if let Some(suppressed) = self.refused.count(Instant::now()) {
            tracing::warn!(%error, suppressed, "the endpoint refuses hydrant's own credential");
        }
    }

    /// Logs that the service's own credential cannot be used.
    pub(super) fn credential(&self, error: &dyn fmt::Display) {
        if let Some(suppressed) = self.credential.count(Instant::now()) {
            tracing::error!(%error, suppressed, "cannot read hydrant's own credential for the endpoint");
        }
    }

    /// Logs that a list of connections lacks the endpoint's.
    pub(super) fn connections(&self, error: &dyn fmt::Display) {
        if let Some(suppressed) = self.connections.count(Instant::now()) {
            tracing::warn!(%error, suppressed, "cannot read the endpoint's list of connections");
        }
    }

    /// Logs that the event about a connection was dropped.
    pub(super) fn omitted(&self, action: &str, peer: SocketAddr) {
        if let Some(suppressed) = self.omitted.count(Instant::now()) {
            tracing::warn!(action, %peer, suppressed, "inboxes full: dropped the event about a connection");
        }
    }
}
