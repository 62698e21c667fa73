//! Collects an endpoint's messages into batches for the broker.
//!
//! All messages that are available are published together, so that a storm is written to clients in large pieces. At
//! most one batch of [`BATCH_EVENTS`] or [`BATCH_BYTES`] (and one more event) is held here, besides what the session
//! buffers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;
use tokio::time::{self, sleep};

use crate::broker::{Broker, PublishError};
use crate::client::Endpoint;
use crate::clock;
use crate::event::{Draft, ENDPOINT, Event, EventError, EventFault};
use crate::json::{JsonError, Validator};
use crate::logging::summary::Summary;
use crate::metrics::{EndpointMetrics, Source};
use crate::protocol::gap::{GAP, HYDRANT, QUEUE};

/// Maximum number of events per batch: as many as a shard processes in one turn.
const BATCH_EVENTS: usize = 256;
/// Maximum size of a batch in bytes.
const BATCH_BYTES: usize = 1 << 20;
/// Delay between attempts to publish while the inboxes are full. They hold far more than a shard matches in that time.
const PAUSE: Duration = Duration::from_millis(5);

/// How long the first event of a connection waits for other nodes that follow the endpoint; if all of them lost their
/// link at the same time, none has received more.
const OTHERS: Duration = Duration::from_secs(1);

/// The broker has stopped accepting events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// Why a message is not an event that can be published.
#[derive(Debug, Error)]
enum IntakeError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error(transparent)]
    Event(#[from] EventError),
    #[error("Type `hydrant` is reserved for hydrant, and this endpoint is not one")]
    Notice,
}

impl IntakeError {
    /// Returns whether the message is an event all the same, which clients of the endpoint receive.
    fn is_about_an_event(&self) -> bool {
        match self {
            Self::Json(error) => error.fault.is_choice(),
            Self::Event(error) => matches!(error.fault, EventFault::BadTime { .. } | EventFault::NotAString { .. }),
            Self::Notice => false,
        }
    }
}

/// Collects an endpoint's messages into batches for the broker.
#[derive(Debug)]
pub(super) struct Intake {
    broker: Arc<Broker>,
    metrics: EndpointMetrics,
    endpoint: Endpoint,
    /// Whether the endpoint is a hydrant, whose notices are published.
    is_hydrant: bool,
    batch: Vec<Event>,
    bytes: usize,
    /// The number of the endpoint's events in the batch; gap notices are not counted.
    received: u64,
    /// When the last batch was published.
    published: Instant,
    /// The number of binary messages received over this connection.
    binaries: u64,
    skipped: Summary,
    unusable: Summary,
    /// Whether the link has just begun, so its first event is not published yet.
    begins: bool,
    /// Until when that event waits for other nodes.
    waits_until: Option<time::Instant>,
}

impl Intake {
    pub(super) fn new(broker: Arc<Broker>, endpoint: Endpoint) -> Self {
        let metrics = broker.metrics().upstream.endpoint(&endpoint.authority());
        Self {
            broker,
            metrics,
            endpoint,
            is_hydrant: false,
            batch: Vec::new(),
            bytes: 0,
            received: 0,
            published: clock::instant(),
            binaries: 0,
            skipped: Summary::default(),
            unusable: Summary::default(),
            begins: true,
            waits_until: None,
        }
    }

    /// Sets whether the endpoint of the current connection is a hydrant.
    pub(super) fn set_hydrant(&mut self, is_hydrant: bool) {
        self.is_hydrant = is_hydrant;
    }

    pub(super) fn metrics(&self) -> &EndpointMetrics {
        &self.metrics
    }

    /// Returns whether the batch should be published before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_EVENTS || self.bytes >= BATCH_BYTES
    }

    /// Adds a message of the endpoint to the batch. A notice replaces an event that hydrant does not accept; a message
    /// that is not an event is counted and dropped.
    pub(super) fn add(&mut self, text: &str) {
        match read(text, self.is_hydrant) {
            Ok(Some(event)) => {
                self.received += 1;
                self.push(event);
            }
            Ok(None) => self.add_gap(self.published),
            Err(error) if error.is_about_an_event() => self.leave_out(&error),
            Err(error) => self.note_unusable(1, &error),
        }
    }

    /// Records the number of binary messages received over this connection, which are not events.
    pub(super) fn note_binaries(&mut self, binaries: u64) {
        // A new connection counts from zero.
        let new = binaries.checked_sub(self.binaries).unwrap_or(binaries);
        self.binaries = binaries;
        if new > 0 {
            self.note_unusable(new, &"it is binary");
        }
    }

    fn note_unusable(&self, count: u64, reason: &dyn std::fmt::Display) {
        if let Some(suppressed) = self.unusable.count(clock::instant()) {
            let endpoint = &self.endpoint;
            tracing::warn!(%endpoint, error = %reason, suppressed, "ignoring a message that is not an event");
        }
        self.metrics.unusable.inc_by(count);
    }

    /// Adds a notice that events since this moment may be missing.
    pub(super) fn add_gap(&mut self, since: Instant) {
        let (from, to) = interval(since);
        tracing::warn!(endpoint = %self.endpoint, %from, %to, "events of this endpoint may be missing");
        self.metrics.gaps.inc();
        self.push(gap(&self.endpoint, from, to, None));
    }

    /// Adds a notice in place of an event that is longer than allowed.
    pub(super) fn add_skipped(&mut self, bytes: u64) {
        self.leave_out(&format_args!("{bytes} bytes are more than limits.event_bytes"));
    }

    /// Adds a notice in place of one event that cannot be published.
    fn leave_out(&mut self, reason: &dyn std::fmt::Display) {
        // Whoever may write objects at the endpoint can cause it.
        if let Some(suppressed) = self.skipped.count(clock::instant()) {
            let endpoint = &self.endpoint;
            tracing::warn!(%endpoint, %reason, suppressed, "left out an event of an endpoint");
        }
        self.metrics.gaps.inc();
        let (from, to) = interval(self.published);
        self.push(gap(&self.endpoint, from, to, Some(1)));
    }

    fn push(&mut self, event: Event) {
        self.bytes += event.frame().len();
        self.batch.push(event);
    }

    /// Records that a connection begins.
    pub(super) fn begin(&mut self) {
        (self.begins, self.waits_until) = (true, None);
    }

    /// If other nodes follow the endpoint too, they have the events of the gap before the first event of a connection.
    /// That event therefore waits until it has arrived from them, with the events before it.
    async fn wait_for_others(&mut self) {
        let Some(first) = self.batch.iter().find(|event| event.kind() != HYDRANT).filter(|_| self.begins) else {
            return;
        };
        let until = *self.waits_until.get_or_insert_with(|| time::Instant::now() + OTHERS);
        while time::Instant::now() < until && self.broker.waits_for_others(first, clock::instant()) {
            sleep(PAUSE).await;
        }
        self.begins = false;
    }

    /// Publishes the batch; waits while the inboxes are full.
    ///
    /// # Cancel safety
    /// Events that are not published stay in the batch.
    pub(super) async fn publish(&mut self) -> Result<(), Stopped> {
        self.wait_for_others().await;
        self.publish_all().await
    }

    async fn publish_all(&mut self) -> Result<(), Stopped> {
        let mut paused = false;
        while !self.batch.is_empty() {
            match self.broker.publish_or_return(std::mem::take(&mut self.batch), Source::Upstream) {
                Ok(_) => {
                    self.metrics.events.inc_by(std::mem::take(&mut self.received));
                    self.bytes = 0;
                    self.published = clock::instant();
                }
                Err((PublishError::Stopped, _)) => return Err(Stopped),
                Err((PublishError::Full { .. }, events)) => {
                    self.batch = events;
                    if !std::mem::replace(&mut paused, true) {
                        self.metrics.pauses.inc();
                    }
                    sleep(PAUSE).await;
                }
            }
        }
        Ok(())
    }
}

/// Parses an event; returns `None` for a hydrant's notice that it dropped events of this very link.
fn read(text: &str, from_hydrant: bool) -> Result<Option<Event>, IntakeError> {
    Validator::lend(|validator| {
        let draft = Draft { store: ENDPOINT, ..Draft::of(&validator.read(text.as_bytes())?)? };
        if draft.kind == HYDRANT && !from_hydrant {
            return Err(IntakeError::Notice);
        }
        let for_us = draft.kind == HYDRANT && draft.action == GAP && draft.key == QUEUE;
        Ok((!for_us).then(|| draft.seal_by(clock::now)))
    })
}

/// Returns the wall clock times of an earlier moment and of now. The clock may have been set in between.
fn interval(since: Instant) -> (Timestamp, Timestamp) {
    let now = clock::both();
    (now.wall_at(since), now.wall)
}

/// Creates a gap notice (`docs/protocol.md`, "Events"), with the number of missing events if it is known.
fn gap(endpoint: &Endpoint, from: Timestamp, to: Timestamp, events: Option<u64>) -> Event {
    let url = endpoint.to_string();
    let (from, until) = (from.to_string(), to.to_string());
    let object = serde_json::json!({"Endpoint": url, "From": from, "To": until, "Events": events}).to_string();
    let key = endpoint.authority();
    let mut draft = Draft::new(HYDRANT, GAP, &key);
    draft.object = &object;
    draft.seal(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::history::{History, HistoryLimits};
    use crate::clock::simulated;
    use crate::logging::summary::{INTERVAL, captured};
    use crate::metrics::Metrics;

    #[test]
    fn a_gap_names_the_endpoint_and_the_times() {
        let endpoint = "https://[::1]:8092".parse().unwrap();
        let event = gap(&endpoint, Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap(), None);
        let expected = concat!(
            r#"{"Time":"1970-01-01T00:01:00Z","Type":"hydrant","Action":"gap","Key":"[::1]:8092","Principal":"","#,
            concat!(
                r#""Object":{"Endpoint":"https://[::1]:8092","Events":null,"From":"1970-01-01T00:00:00Z","#,
                r#""To":"1970-01-01T00:01:00Z"},"Original":null}"#,
            )
        );
        assert_eq!(event.json(), expected);
    }

    fn intake() -> Intake {
        let history = History::new(HistoryLimits { events: 10, bytes: 1 << 20 }, 1, clock::now());
        let broker = Broker::new(Arc::new(Metrics::new()), clock::instant(), history);
        Intake::new(Arc::new(broker), "https://drp:8092".parse().unwrap())
    }

    #[test]
    fn messages_that_are_no_events_are_logged_now_and_then() {
        simulated::begin();
        let mut intake = intake();
        let mut hear = |text: &str| captured::lines(|| (0..100).for_each(|_| intake.add(text)));
        let lines = hear("garbage");
        assert!(lines.len() == 1 && lines[0].contains("suppressed=0"), "{lines:#?}");
        simulated::pass(INTERVAL);
        let lines = hear("[1]");
        assert!(lines.len() == 1 && lines[0].contains("suppressed=99") && lines[0].contains("object"), "{lines:#?}");
        assert_eq!(intake.metrics.unusable.get(), 200);
    }

    #[test]
    fn long_events_are_all_reported_and_fill_no_log() {
        let mut intake = intake();
        let lines = captured::lines(|| (0..100).for_each(|_| intake.add_skipped(1 << 20)));
        assert_eq!((lines.len(), intake.batch.len(), intake.metrics.gaps.get()), (1, 100, 100), "{lines:#?}");
    }

    /// A client of the endpoint gets these, so a client of hydrant learns that it does not.
    #[test]
    fn an_event_that_is_not_accepted_is_reported_and_what_is_none_only_counted() {
        let history = History::new(HistoryLimits { events: 10, bytes: 1 << 20 }, 1, clock::now());
        let broker = Broker::new(Arc::new(Metrics::new()), clock::instant(), history);
        let mut intake = Intake::new(Arc::new(broker), "https://drp:8092".parse().unwrap());
        let with = |object: &str| format!(r#"{{"Type":"a","Action":"b","Object":{object}}}"#);
        let deep = with(&["[".repeat(2000), "]".repeat(2000)].concat());
        let (late, number) = (r#"{"Time":"12026-01-01T00:00:00Z","Type":"a","Action":"b"}"#, r#"{"Type":"a","Key":5}"#);
        let lost = [&with("1e400"), &with(r#""\ud800""#), &deep, late, number];
        for (at, text) in lost.iter().enumerate() {
            intake.add(text);
            assert_eq!((intake.batch.len(), intake.metrics.gaps.get()), (at + 1, at as u64 + 1), "{text}");
        }
        for nonsense in ["", "nonsense", "[1]", &with("1 2"), r#"{"Type":"hydrant","Action":"gap"}"#] {
            intake.add(nonsense);
        }
        assert_eq!((intake.batch.len(), intake.metrics.unusable.get()), (lost.len(), 5));
        assert!(intake.batch.iter().all(|event| event.json().contains(r#""Events":1,"#)), "{:?}", intake.batch);
    }

    #[test]
    fn events_are_read_and_notices_for_us_are_not_passed_on() {
        let key = |text: &str| read(text, true).map(|event| event.map(|event| event.key().to_owned()));
        assert_eq!(key(r#"{"Type":"a","Action":"b","Key":"c"}"#).unwrap().as_deref(), Some("c"));
        assert_eq!(key(r#"{"Type":"hydrant","Action":"gap","Key":"queue"}"#).unwrap(), None);
        assert_eq!(key(r#"{"Type":"hydrant","Action":"gap","Key":"drp:8092"}"#).unwrap().as_deref(), Some("drp:8092"));
        let forged = read(r#"{"Type":"hydrant","Action":"gap","Key":"drp:8092"}"#, false);
        assert!(matches!(forged, Err(IntakeError::Notice)), "of an endpoint that is none");
        for bad in ["", "garbage", "[]", r#"{"Type":"websocket","Action":"b"}"#] {
            assert!(key(bad).is_err(), "{bad}");
        }
    }

    /// DRP publishes whatever is posted to it, so its clients get such events.
    #[test]
    fn an_event_passes_whatever_its_names_are() {
        let mut intake = intake();
        let whole = |kind: &str, action: &str, key: &str| {
            format!(
                "{{\"Time\":\"0001-01-01T00:00:00Z\",\"Type\":\"{kind}\",\"Action\":\"{action}\",\"Key\":\"{key}\",\
                 \"Principal\":\"\",\"Object\":null,\"Original\":null}}"
            )
        };
        for (kind, action, key) in [("alarm", "", "k"), ("", "b", "k"), ("a", "b", ""), ("", "", ""), ("*", "*", "*")] {
            let text = whole(kind, action, key);
            intake.add(&text);
            assert_eq!(intake.batch.pop().map(|event| event.json().to_owned()), Some(text));
        }
        let time = r#""Time":"0001-01-01T00:00:00Z""#;
        for (sent, [kind, action, key]) in [
            (format!("{{{time}}}"), ["", "", ""]),
            (format!(r#"{{{time},"Type":"alarm"}}"#), ["alarm", "", ""]),
            (format!(r#"{{{time},"Type":null,"Action":"b","Key":null}}"#), ["", "b", ""]),
        ] {
            intake.add(&sent);
            assert_eq!(intake.batch.pop().map(|event| event.json().to_owned()), Some(whole(kind, action, key)));
        }
        assert_eq!((intake.received, intake.metrics.unusable.get(), intake.metrics.gaps.get()), (8, 0, 0));
    }
}
