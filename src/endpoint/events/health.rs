//! The state of a link, for `/readyz` and the status.

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus::IntCounter;
use serde::Serialize;

/// The state of one link, shared by the link, which writes it, and the probe.
#[derive(Debug)]
pub struct Health {
    report: Mutex<Report>,
    /// The metric of the gaps in the endpoint's events.
    gaps: IntCounter,
}

/// The state of a link at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    /// The endpoint's URL.
    pub endpoint: String,
    /// Whether the link receives events: its registrations are answered.
    pub connected: bool,
    /// When the link entered this state.
    pub since: String,
    /// Why it is not connected; empty if it is, or if the first attempt is in progress.
    pub error: String,
    /// Gaps reported in the endpoint's events since the start.
    pub gaps: u64,
}

impl Health {
    /// Creates the state of a link that is not connected yet; `gaps` counts the gaps in its events.
    pub fn new(endpoint: String, gaps: IntCounter, now: Timestamp) -> Self {
        let report = Report { endpoint, connected: false, since: now.to_string(), error: String::new(), gaps: 0 };
        Self { report: Mutex::new(report), gaps }
    }

    /// Returns the current state.
    pub fn report(&self) -> Report {
        Report { gaps: self.gaps.get(), ..self.report.lock().clone() }
    }

    pub(super) fn connected(&self, now: Timestamp) {
        self.set(true, String::new(), now);
    }

    pub(super) fn lost(&self, error: String, now: Timestamp) {
        self.set(false, error, now);
    }

    fn set(&self, connected: bool, error: String, now: Timestamp) {
        let mut report = self.report.lock();
        if report.connected != connected {
            report.since = now.to_string();
        }
        report.connected = connected;
        report.error = error;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_of_the_last_change() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let gaps = IntCounter::new("gaps", "Gaps").unwrap();
        let health = Health::new("https://drp:8092".to_owned(), gaps.clone(), at(0));
        health.lost("first".to_owned(), at(1));
        assert_eq!(health.report().since, at(0).to_string());
        health.connected(at(2));
        assert!(health.report().connected && health.report().error.is_empty());
        health.lost("second".to_owned(), at(3));
        health.lost("third".to_owned(), at(4));
        let report = health.report();
        assert_eq!((report.since, report.error.as_str(), report.gaps), (at(3).to_string(), "third", 0));
        gaps.inc();
        assert_eq!(health.report().gaps, 1);
    }
}
