//! All metrics of hydrant, declared in one place and served by `--metrics-listen` in the Prometheus text format.
//!
//! Contract: names follow the Prometheus conventions (base units, `_total`, prefix `hydrant_`). Label values come from
//! our enums and from the settings, never from clients, so the number of series is bounded. Handles are resolved here,
//! once. A shard keeps plain counts of its own and adds them with [`ShardMetrics::flush`] once per turn, not once per
//! delivery.
//!
//! `docs/operations.md` lists all metrics; a test compares the list with the registry.

mod declare;
mod deliveries;
mod identity;
mod labels;
mod latency;
mod logins;
mod nats;
mod newcomers;
mod process;
mod proxy;
mod resolved;
mod shard;
mod summary;
mod turns;
mod upstream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Registry, TextEncoder};

pub use identity::{IdentityDecision, IdentityFailure, IdentityMetrics};
pub use labels::{Limit, Outcome, Rejection, Reload, Source};
pub use logins::{LoginCounts, LoginMetrics, WatchedFile};
pub use nats::NatsMetrics;
pub use newcomers::{NewcomerMetrics, Wait};
pub use proxy::{ProxyClass, ProxyMetrics, ProxyOutcome, ProxySide};
pub use resolved::HttpResponses;
pub use shard::{FilterCost, ShardMetrics, ShardSize};
pub use summary::{Histogram, Queue, ShardSummary, Summary};
pub use turns::{HUNG, LONG_TURN, STALL};
pub use upstream::{EndpointMetrics, UpstreamMetrics};

use crate::event;
use crate::logging::{self, crash};
use crate::protocol::Close;
use declare::Declare;
use deliveries::Deliveries;
use latency::seconds;
use resolved::Resolved;
use shard::{Loads, Peaks};

/// The one metric whose series exists only with a certificate: without one, an alert would take its zero for 1970.
const CERTIFICATE_EXPIRY: &str = "hydrant_certificate_expiry_timestamp_seconds";

/// All metrics of the process, shared by all threads.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Connections that wait for a slot.
    pub newcomers: NewcomerMetrics,
    /// Open websockets.
    pub connections: IntGauge,
    /// Websockets opened so far.
    pub connections_opened: IntCounter,
    rejected: IntCounterVec,
    limited: IntCounterVec,
    disconnects: IntCounterVec,
    /// Registrations of all websockets.
    pub registrations: IntGauge,
    commands: IntCounterVec,
    events: Resolved,
    /// Bytes of accepted events in their wire form.
    pub event_bytes: IntCounter,
    /// Posted events refused because the inboxes were full.
    pub events_refused: IntCounter,
    /// Connection events omitted because their principal causes too many, or because the inboxes were full.
    pub connection_events_omitted: IntCounter,
    serialisations: IntCounterVec,
    deliveries: Deliveries,
    loads: Loads,
    longest_turn: Gauge,
    long_turns: IntCounter,
    inbox_events: IntGauge,
    predicate_evaluations: IntCounter,
    field_lookups: IntCounter,
    filter_matches: IntCounter,
    filter_work: IntCounter,
    certificate_reloads: IntCounterVec,
    /// Zero, and not part of the output, without a certificate.
    certificate_expiry: IntGauge,
    log_lines_dropped: IntCounter,
    panics: IntCounter,
    /// HTTP responses.
    pub http_responses: HttpResponses,
    /// Traffic between nodes.
    pub nats: NatsMetrics,
    /// Endpoints whose events are followed.
    pub upstream: UpstreamMetrics,
    /// Requests forwarded to an endpoint.
    pub proxy: ProxyMetrics,
    /// Credentials that an endpoint authenticates.
    pub identity: IdentityMetrics,
    /// Password logins, and the files that define rights.
    pub logins: LoginMetrics,
    shards: Mutex<Vec<Arc<Peaks>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates all metrics, at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let declare = Declare(&registry);
        let serialisations = declare.counters(
            "hydrant_event_serialisations_total",
            "Serialisations of accepted events, by encoding; one per event, whatever the number of subscribers",
            "encoding",
        );
        let metrics = Self {
            newcomers: NewcomerMetrics::declare(&declare),
            connections: declare.gauge("hydrant_connections", "Open connections that receive events"),
            connections_opened: declare.counter("hydrant_connections_opened_total", "Connections opened so far"),
            rejected: declare.counters("hydrant_handshakes_rejected_total", "Refused attempts to connect", "reason"),
            limited: declare.counters("hydrant_limited_total", "Refusals because a principal reached a limit", "limit"),
            disconnects: declare.counters("hydrant_disconnects_total", "Connections closed, by reason", "reason"),
            registrations: declare.gauge("hydrant_registrations", "Registrations of all connections"),
            commands: declare.counters("hydrant_commands_total", "Commands of clients, by outcome", "outcome"),
            events: Resolved::new(
                declare.counters("hydrant_events_received_total", "Events accepted, by source", "source"),
                Source::COUNT,
            ),
            event_bytes: declare
                .counter("hydrant_event_received_bytes_total", "Bytes of accepted events in their wire form"),
            events_refused: declare
                .counter("hydrant_events_refused_total", "Posted events refused because the inboxes were full"),
            connection_events_omitted: declare
                .counter("hydrant_connection_events_omitted_total", "Events about connections that were dropped"),
            deliveries: Deliveries::declare(&declare, &serialisations),
            loads: Loads::declare(&declare),
            longest_turn: declare.seconds(
                "hydrant_shard_turn_seconds_max",
                "Longest turn of a shard's thread in the last minute, including a turn that is still running",
            ),
            long_turns: declare
                .counter("hydrant_shard_long_turns_total", "Turns of a shard's thread that took longer than 50 ms"),
            serialisations,
            inbox_events: declare.gauge("hydrant_inbox_events", "Events queued for the slowest shard"),
            predicate_evaluations: declare.counter(
                "hydrant_predicate_evaluations_total",
                "Evaluated predicates of filters, each at most once per event and shard",
            ),
            field_lookups: declare.counter("hydrant_field_lookups_total", "Paths looked up in events by filters"),
            filter_matches: declare.counter("hydrant_filter_matches_total", "Filters found true, once per group"),
            filter_work: declare
                .counter("hydrant_filter_work_total", "Work done by filters, in units of about a nanosecond"),
            certificate_reloads: declare.counters(
                "hydrant_certificate_reloads_total",
                "Reloads of the TLS certificate, by outcome",
                "outcome",
            ),
            certificate_expiry: declare.gauge(CERTIFICATE_EXPIRY, "Time at which the TLS certificate expires"),
            log_lines_dropped: declare
                .counter("hydrant_log_lines_dropped_total", "Log lines dropped: queue full, or not writable"),
            panics: declare.counter("hydrant_panics_total", "Panics, each of them a bug"),
            http_responses: HttpResponses::declare(&declare),
            nats: NatsMetrics::new(&declare),
            upstream: UpstreamMetrics::declare(&declare),
            proxy: ProxyMetrics::declare(&declare),
            identity: IdentityMetrics::declare(&declare),
            logins: LoginMetrics::declare(&declare),
            shards: Mutex::new(Vec::new()),
            registry: registry.clone(),
        };
        declare.build_info();
        metrics.show_all_labels();
        metrics
    }

    /// Creates every series at the start, so that alerts can refer to it before its first event.
    fn show_all_labels(&self) {
        for close in Close::ALL {
            self.disconnects.with_label_values(&[close.label()]);
        }
        self.disconnects.with_label_values(&["vanished"]);
        for (_, label) in Rejection::ALL {
            self.rejected.with_label_values(&[label]);
        }
        Limit::ALL.into_iter().for_each(|limit| self.limited(limit, 0));
        for outcome in [Outcome::Registered, Outcome::Deregistered, Outcome::Refused] {
            self.command(outcome, 0);
        }
        self.serialisations.with_label_values(&["deflate"]);
        ["taken", "refused"]
            .iter()
            .for_each(|outcome| self.certificate_reloads.with_label_values(&[outcome]).inc_by(0));
        [Source::Post, Source::Connections, Source::Upstream, Source::Nats]
            .into_iter()
            .for_each(|source| self.received(source, 0, 0));
    }

    /// Counts a closed websocket; `None` if the client vanished.
    pub fn disconnected(&self, reason: Option<Close>) {
        self.disconnects.with_label_values(&[reason.map_or("vanished", Close::label)]).inc();
    }

    /// Counts a connection that did not become a websocket.
    pub fn rejected(&self, reason: Rejection) {
        self.rejected.with_label_values(&[reason.label()]).inc();
    }

    /// Counts refusals because principals have reached a limit.
    pub fn limited(&self, limit: Limit, count: u64) {
        self.limited.with_label_values(&[limit.label()]).inc_by(count);
    }

    /// Counts a reload of the certificate.
    pub fn certificate(&self, reload: Reload) {
        let label = match reload {
            Reload::Taken => "taken",
            Reload::Refused => "refused",
        };
        self.certificate_reloads.with_label_values(&[label]).inc();
    }

    /// Sets when the certificate in force expires, in seconds since 1970; `None` if that is unknown.
    pub fn set_certificate_expiry(&self, at: Option<i64>) {
        self.certificate_expiry.set(at.unwrap_or_default());
    }

    /// Counts commands with this outcome.
    pub fn command(&self, outcome: Outcome, count: u64) {
        let label = match outcome {
            Outcome::Registered => "registered",
            Outcome::Deregistered => "deregistered",
            Outcome::Refused => "refused",
        };
        self.commands.with_label_values(&[label]).inc_by(count);
    }

    /// Counts accepted events.
    pub fn received(&self, source: Source, events: u64, bytes: u64) {
        self.events.add(source as usize, events, || source.label().into());
        self.event_bytes.inc_by(bytes);
    }

    /// Returns the handle of the shard with this number.
    pub fn shard(self: &Arc<Self>, number: usize) -> ShardMetrics {
        self.shard_since(number, Instant::now())
    }

    /// Like [`Metrics::shard`], for turns that have begun since `epoch`.
    pub(crate) fn shard_since(self: &Arc<Self>, number: usize, epoch: Instant) -> ShardMetrics {
        let peaks = Arc::new(Peaks::new(epoch));
        self.shards.lock().push(Arc::clone(&peaks));
        ShardMetrics::new(Arc::clone(self), peaks, number)
    }

    /// Returns the number of shards whose current turn has taken longer than [`STALL`].
    pub fn stalled_shards(&self) -> usize {
        self.shards_in_turn_longer_than(STALL)
    }

    /// Returns whether the current turn of a shard has taken longer than [`HUNG`].
    pub fn is_hung(&self) -> bool {
        self.shards_in_turn_longer_than(HUNG) > 0
    }

    fn shards_in_turn_longer_than(&self, limit: Duration) -> usize {
        let now = Instant::now();
        self.shards.lock().iter().filter(|peaks| peaks.turns.running(now) > limit).count()
    }

    /// Returns the longest turn of any shard's thread in the last minute, including a turn that is still running.
    pub fn longest_turn(&self) -> Duration {
        let now = Instant::now();
        self.shards.lock().iter().map(|peaks| peaks.turns.longest(now)).max().unwrap_or_default()
    }

    /// Writes all metrics in the Prometheus text format. `inbox_events` is the number queued for the slowest shard.
    pub fn render(&self, inbox_events: usize) -> String {
        let largest = |pick: fn(&Peaks) -> &AtomicU64| {
            self.shards.lock().iter().map(|peaks| pick(peaks).load(Ordering::Relaxed)).max().unwrap_or(0)
        };
        self.deliveries.queue_events_max.set(signed(largest(|peaks| &peaks.events)));
        self.deliveries.queue_bytes_max.set(signed(largest(|peaks| &peaks.bytes)));
        self.deliveries.queue_age.set(seconds(largest(|peaks| &peaks.age_us)));
        self.longest_turn.set(self.longest_turn().as_secs_f64());
        self.inbox_events.set(signed(inbox_events as u64));
        let plain = self.serialisations.with_label_values(&["plain"]);
        plain.inc_by(event::serialisations().saturating_sub(plain.get()));
        // Both belong to the process, which has one log for all its servers.
        for (counter, count) in [(&self.log_lines_dropped, logging::dropped()), (&self.panics, crash::panics())] {
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        let mut families = self.registry.gather();
        let has_certificate = self.certificate_expiry.get() != 0;
        families.retain(|family| {
            self.nats.shows(family.name()) && (has_certificate || family.name() != CERTIFICATE_EXPIRY)
        });
        let mut text = TextEncoder::new().encode_to_string(&families).unwrap_or_default();
        process::append(&mut text);
        text
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::stats::{Counts, Depth};

    #[test]
    fn a_shard_adds_its_counts_and_replaces_its_gauges() {
        let metrics = Arc::new(Metrics::new());
        let (mut a, mut b) = (metrics.shard(0), metrics.shard(1));
        let mut counts = Counts { matched: 6, delivered: 2, dropped: [1, 0, 3], bytes: 50, ..Counts::default() };
        counts.latency.observe(40);
        let size = |events| ShardSize { waiting: Depth { events, bytes: 10 }, registrations: 4, frames: 1, held: 7 };
        a.flush(&counts, size(5));
        b.flush(&counts, size(2));
        a.flush(&Counts::default(), size(1));
        a.peak(Depth { events: 1, bytes: 10 }, Duration::from_millis(2500));
        b.turn(5, Duration::from_millis(1500));
        let text = metrics.render(7);
        for line in [
            "hydrant_deliveries_total 4",
            "hydrant_deliveries_matched_total 12",
            "hydrant_deliveries_dropped_total{reason=\"slow_consumer\"} 2",
            "hydrant_deliveries_dropped_total{reason=\"drop_oldest\"} 6",
            "hydrant_slow_consumers_total{policy=\"drop-oldest\"} 0",
            "hydrant_queue_events 3",
            "hydrant_queue_events_max 1",
            "hydrant_queue_age_seconds 2.5",
            "hydrant_registrations 8",
            "hydrant_frame_bytes 21",
            "hydrant_shard_events_total{shard=\"1\"} 5",
            "hydrant_shard_busy_seconds_total{shard=\"1\"} 1.5",
            "hydrant_inbox_events 7",
            "hydrant_delivery_latency_seconds_bucket{le=\"0.000032\"} 0",
            "hydrant_delivery_latency_seconds_bucket{le=\"0.000064\"} 2",
            "hydrant_delivery_latency_seconds_count 2",
            "hydrant_disconnects_total{reason=\"slow_consumer\"} 0",
            "process_start_time_seconds",
            "process_open_fds",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_shard_that_is_stuck_shows_while_it_is() {
        let metrics = Arc::new(Metrics::new());
        let long = 3 * STALL;
        // On a machine that has just booted, the clock cannot go back that far.
        let Some(begun) = Instant::now().checked_sub(long) else { return };
        let (stuck, idle) = (metrics.shard_since(0, begun), metrics.shard(1));
        idle.begin_turn(Instant::now());
        idle.turn(0, LONG_TURN);
        assert_eq!((metrics.stalled_shards(), metrics.longest_turn()), (0, LONG_TURN));
        stuck.begin_turn(begun);
        assert_eq!(metrics.stalled_shards(), 1);
        assert!(metrics.longest_turn() + STALL > long);
        assert!(metrics.render(0).contains("hydrant_shard_turn_seconds_max 3."), "it shows while it lasts");
        stuck.turn(0, 4 * long);
        assert_eq!((metrics.stalled_shards(), metrics.longest_turn()), (0, 4 * long));
        assert!(metrics.render(0).contains("hydrant_shard_long_turns_total 1\n"));
    }

    #[test]
    fn a_node_without_nats_tells_nothing_of_it() {
        let metrics = Metrics::new();
        assert!(!metrics.render(0).contains("hydrant_nats_"));
        metrics.nats.show(false);
        let text = metrics.render(0);
        assert!(text.contains("hydrant_nats_connected 0") && !text.contains("hydrant_nats_stream_usable"), "{text}");
        metrics.nats.show(true);
        assert!(metrics.render(0).contains("hydrant_nats_stream_usable 0"));
    }

    #[test]
    fn a_server_without_a_certificate_does_not_say_that_it_expires() {
        let metrics = Metrics::new();
        assert!(!metrics.render(0).contains(CERTIFICATE_EXPIRY), "zero would be an alert");
        metrics.set_certificate_expiry(Some(1_800_000_000));
        assert!(metrics.render(0).contains("hydrant_certificate_expiry_timestamp_seconds 1800000000\n"));
        metrics.set_certificate_expiry(None);
        assert!(!metrics.render(0).contains(CERTIFICATE_EXPIRY));
    }

    #[test]
    fn many_shards_make_few_series() {
        let metrics = Arc::new(Metrics::new());
        let shards: Vec<ShardMetrics> = (0..1024).map(|number| metrics.shard(number)).collect();
        shards.iter().for_each(|shard| shard.turn(1, Duration::ZERO));
        for endpoint in ["a:8092", "b:8092", "c:8092"] {
            metrics.upstream.endpoint(endpoint);
        }
        for status in 100..200 {
            metrics.http_responses.count(status);
        }
        let text = metrics.render(0);
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!(series <= 500, "{series} series");
        assert!(text.contains("hydrant_shard_events_total{shard=\"64+\"} 960"), "{text}");
    }
}
