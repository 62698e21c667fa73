//! Whether NATS is there and the stream of replays, for `/readyz`.

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
    /// Why there is none, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The stream that replays are read from, if there shall be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamReport>,
}

/// What is said of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StreamReport {
    /// The name of the stream.
    pub name: String,
    /// Whether it can be read.
    pub usable: bool,
    /// Since when it is so: RFC 3339.
    pub since: String,
    /// Why it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The state of the connection, written by the task that receives, and of the stream, by the one that looks after it.
#[derive(Debug)]
pub struct Health(Mutex<Report>);

impl Health {
    /// Not connected yet.
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

    /// Notes why there is no connection. Returns whether that is news.
    pub(super) fn set_error(&self, error: String) -> bool {
        let mut report = self.0.lock();
        let is_new = report.error.as_ref() != Some(&error);
        report.error = Some(error);
        is_new
    }

    /// Notes what is wrong with the stream of that name, if anything is. Returns whether that is news.
    pub(super) fn set_stream(&self, name: &str, error: Option<String>, since: Timestamp) -> bool {
        let mut report = self.0.lock();
        if report.stream.as_ref().is_some_and(|stream| stream.error == error) {
            return false;
        }
        let usable = error.is_none();
        report.stream = Some(StreamReport { name: name.to_owned(), usable, since: since.to_string(), error });
        true
    }

    /// How it is now.
    pub fn report(&self) -> Report {
        self.0.lock().clone()
    }
}
