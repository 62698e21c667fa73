//! Metrics of the traffic between nodes.
//!
//! A node without NATS exports none of these, and one without a stream none about replays: a zero would look like a
//! failure.

use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::declare::Declare;

/// The prefix of the names of these metrics.
const PREFIX: &str = "hydrant_nats_";

/// The prefixes of the metrics about the stream for replays.
const STREAM: [&str; 2] = ["hydrant_nats_stream_", "hydrant_nats_replay_"];

/// Metrics of the connection to NATS.
#[derive(Debug)]
pub struct NatsMetrics {
    /// 1 while connected to a NATS server.
    pub connected: IntGauge,
    /// Other nodes heard over NATS.
    pub peers: IntGauge,
    /// Connections after the first.
    pub reconnects: IntCounter,
    /// Moves to another server before the old connection ended.
    pub moves: IntCounter,
    /// Events published to NATS.
    pub published: IntCounter,
    /// Events received from other nodes.
    pub received: IntCounter,
    /// Messages in this node's own name that came back.
    pub echoes: IntCounter,
    /// Events that had come before, or by another way.
    pub duplicates: IntCounter,
    lost: IntCounterVec,
    /// Messages that are not events, and errors reported by NATS servers.
    pub errors: IntCounter,
    /// 1 while the stream for replays can be read.
    pub stream_usable: IntGauge,
    /// Pages of the stream that were read.
    pub replay_pages: IntCounter,
    /// Events of the stream that were passed to replays.
    pub replay_events: IntCounter,
    /// Replays that ended early because the stream could not be read or had too many readers.
    pub replay_failures: IntCounter,
    is_used: AtomicBool,
    has_stream: AtomicBool,
}

impl NatsMetrics {
    pub(super) fn new(declare: &Declare<'_>) -> Self {
        let metrics = Self {
            connected: declare.gauge("hydrant_nats_connected", "1 while connected to a NATS server"),
            peers: declare.gauge("hydrant_nats_peers", "Other nodes heard over NATS"),
            reconnects: declare.counter("hydrant_nats_reconnects_total", "Connections to NATS after the first"),
            moves: declare
                .counter("hydrant_nats_moves_total", "Moves to another NATS server before the old one shut down"),
            published: declare.counter("hydrant_nats_published_total", "Events published to NATS for other nodes"),
            received: declare.counter("hydrant_nats_received_total", "Events of other nodes received over NATS"),
            echoes: declare.counter(
                "hydrant_nats_echoes_dropped_total",
                "Messages in this node's own name received over NATS: republished or forged",
            ),
            duplicates: declare.counter(
                "hydrant_nats_duplicates_dropped_total",
                "Duplicate events of other nodes: from two nodes that follow one endpoint, or sent again after a \
                 reconnect",
            ),
            lost: declare.counters(
                "hydrant_nats_lost_total",
                "Events lost on the way to other nodes (out: queue full, too large, or not accepted \
                 before this node ended) or from them (in: missing numbers)",
                "direction",
            ),
            errors: declare
                .counter("hydrant_nats_errors_total", "Messages that are not events, and errors of NATS servers"),
            stream_usable: declare.gauge("hydrant_nats_stream_usable", "1 while the stream for replays can be read"),
            replay_pages: declare.counter("hydrant_nats_replay_pages_total", "Pages of the stream read for replays"),
            replay_events: declare
                .counter("hydrant_nats_replay_events_total", "Events of the stream examined for replays"),
            replay_failures: declare.counter(
                "hydrant_nats_replay_failures_total",
                "Replays that ended with a gap because the stream could not be read or had too many readers",
            ),
            is_used: AtomicBool::new(false),
            has_stream: AtomicBool::new(false),
        };
        metrics.lost_out(0);
        metrics.lost_in(0);
        metrics
    }

    /// Includes these metrics in the output from now on, and those of replays if there `has_stream`.
    pub fn show(&self, has_stream: bool) {
        self.is_used.store(true, Ordering::Relaxed);
        self.has_stream.store(has_stream, Ordering::Relaxed);
    }

    /// Returns whether a metric is part of the output.
    pub(super) fn shows(&self, name: &str) -> bool {
        let is_of_stream = STREAM.iter().any(|prefix| name.starts_with(prefix));
        !name.starts_with(PREFIX)
            || (self.is_used.load(Ordering::Relaxed) && (!is_of_stream || self.has_stream.load(Ordering::Relaxed)))
    }

    /// Counts events that other nodes do not receive.
    pub fn lost_out(&self, events: u64) {
        self.lost.with_label_values(&["out"]).inc_by(events);
    }

    /// Counts events of other nodes that did not arrive.
    pub fn lost_in(&self, events: u64) {
        self.lost.with_label_values(&["in"]).inc_by(events);
    }

    /// Returns the number of events that did not leave this node, and of other nodes' events that did not arrive.
    pub fn lost(&self) -> [u64; 2] {
        ["out", "in"].map(|direction| self.lost.with_label_values(&[direction]).get())
    }
}
