//! The state of the NATS connection and of the replay stream, as `/readyz` reports it.

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

/// The state of the NATS connection.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    /// Whether the node is connected.
    pub connected: bool,
    /// When the connection entered this state, in RFC 3339.
    pub since: String,
    /// Why there is no connection, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The stream that replays are read from, if configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamReport>,
}

/// The state of the replay stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StreamReport {
    /// The name of the stream.
    pub name: String,
    /// Whether the stream can be read.
    pub usable: bool,
    /// When the stream entered this state, in RFC 3339.
    pub since: String,
    /// Why the stream cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The latest report: the receiving task writes the connection's state, the stream's keeper that of the stream.
#[derive(Debug)]
pub struct Health(Mutex<Report>);

impl Health {
    /// Creates a report that says "not connected".
    pub(super) fn new(now: Timestamp) -> Self {
        Self(Mutex::new(Report { connected: false, since: now.to_string(), error: None, stream: None }))
    }

    pub(super) fn set(&self, connected: bool, since: Timestamp) {
        let mut report = self.0.lock();
        report.connected = connected;
        report.since = since.to_string();
        if connected {
            report.error = None;
        }
    }

    /// Records why there is no connection. Returns whether the error differs from the last one.
    pub(super) fn set_error(&self, error: String) -> bool {
        let mut report = self.0.lock();
        let is_new = report.error.as_ref() != Some(&error);
        report.error = Some(error);
        is_new
    }

    /// Records the error of the stream `name`, or none. Returns whether its state has changed.
    pub(super) fn set_stream(&self, name: &str, error: Option<String>, since: Timestamp) -> bool {
        let mut report = self.0.lock();
        if report.stream.as_ref().is_some_and(|stream| stream.error == error) {
            return false;
        }
        let usable = error.is_none();
        report.stream = Some(StreamReport { name: name.to_owned(), usable, since: since.to_string(), error });
        true
    }

    /// Returns the current report.
    pub fn report(&self) -> Report {
        self.0.lock().clone()
    }
}
