//! Whether NATS is there, for `/readyz`.

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

/// What is said of the connection to NATS.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    /// Whether there is a connection.
    pub connected: bool,
    /// Since when it is so: RFC 3339.
    pub since: String,
}

/// The state of the connection, written by the task that receives.
#[derive(Debug)]
pub struct Health(Mutex<Report>);

impl Health {
    /// Not connected yet.
    pub(super) fn new(now: Timestamp) -> Self {
        Self(Mutex::new(Report { connected: false, since: now.to_string() }))
    }

    pub(super) fn set(&self, connected: bool, since: Timestamp) {
        *self.0.lock() = Report { connected, since: since.to_string() };
    }

    /// How it is now.
    pub fn report(&self) -> Report {
        self.0.lock().clone()
    }
}
