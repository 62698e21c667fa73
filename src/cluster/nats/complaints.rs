//! Logs the errors that NATS servers send (`-ERR`).
//!
//! Contract: that of [`Summary`]. A server that denies a permission sends an error for every published message. The
//! caller counts all of them; few are logged.

use super::address::Address;
use crate::clock;
use crate::logging::summary::Summary;

/// Logs the errors of a connection and its successors at a bounded rate.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Complaints(Summary);

impl Complaints {
    /// Logs an error of this server, now or with a later one.
    pub(in crate::cluster) fn log(&self, server: &Address, error: &str) {
        if let Some(suppressed) = self.0.count(clock::instant()) {
            tracing::error!(%server, error, suppressed, "the NATS server reported an error");
        }
    }
}
