//! The state of the NATS connection and of the replay stream, as `/readyz` and the status report it.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use crate::metrics::Metrics;

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
    /// Events of other nodes that did not arrive, since the start.
    pub lost_in: u64,
    /// Events that other nodes do not receive, since the start.
    pub lost_out: u64,
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
pub struct Health {
    report: Mutex<Report>,
    /// Counts the lost events.
    metrics: Arc<Metrics>,
}

impl Health {
    /// Creates a report that says "not connected".
    pub(super) fn new(metrics: Arc<Metrics>, now: Timestamp) -> Self {
        let since = now.to_string();
        let report = Report { connected: false, since, error: None, stream: None, lost_in: 0, lost_out: 0 };
        Self { report: Mutex::new(report), metrics }
    }

    pub(super) fn set(&self, connected: bool, since: Timestamp) {
        let mut report = self.report.lock();
        report.connected = connected;
        report.since = since.to_string();
        if connected {
            report.error = None;
        }
    }

    /// Records why there is no connection. Returns whether the error differs from the last one.
    pub(super) fn set_error(&self, error: String) -> bool {
        let mut report = self.report.lock();
        let is_new = report.error.as_ref() != Some(&error);
        report.error = Some(error);
        is_new
    }

    /// Records the error of the stream `name`, or none. Returns whether its state has changed.
    pub(super) fn set_stream(&self, name: &str, error: Option<String>, since: Timestamp) -> bool {
        let mut report = self.report.lock();
        if report.stream.as_ref().is_some_and(|stream| stream.error == error) {
            return false;
        }
        let usable = error.is_none();
        report.stream = Some(StreamReport { name: name.to_owned(), usable, since: since.to_string(), error });
        true
    }

    /// Returns the current report.
    pub fn report(&self) -> Report {
        let [lost_out, lost_in] = self.metrics.nats.lost();
        Report { lost_in, lost_out, ..self.report.lock().clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_the_losses_of_both_directions() {
        let metrics = Arc::new(Metrics::new());
        let health = Health::new(Arc::clone(&metrics), Timestamp::UNIX_EPOCH);
        metrics.nats.lost_in(5);
        metrics.nats.lost_out(3);
        let report = health.report();
        assert_eq!((report.lost_in, report.lost_out), (5, 3));
    }
}
