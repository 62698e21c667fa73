//! Metrics of the endpoints that are followed, labelled `endpoint` with host and port as configured.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::declare::Declare;

/// Metrics of all endpoints.
#[derive(Debug)]
pub struct UpstreamMetrics {
    connected: IntGaugeVec,
    reconnects: IntCounterVec,
    gaps: IntCounterVec,
    events: IntCounterVec,
    unusable: IntCounterVec,
    pauses: IntCounterVec,
}

/// Metrics of one endpoint.
#[derive(Debug, Clone)]
pub struct EndpointMetrics {
    /// 1 while its events are received.
    pub connected: IntGauge,
    /// Reconnects.
    pub reconnects: IntCounter,
    /// Gaps reported.
    pub gaps: IntCounter,
    /// Events received.
    pub events: IntCounter,
    /// Messages that are not events.
    pub unusable: IntCounter,
    /// Pauses in reading because the inboxes were full.
    pub pauses: IntCounter,
}

impl UpstreamMetrics {
    pub(super) fn declare(declare: &Declare<'_>) -> Self {
        let counters = |name: &str, help: &str| declare.counters(name, help, "endpoint");
        Self {
            connected: declare.gauges(
                "hydrant_upstream_connected",
                "1 while the endpoint's events are received",
                "endpoint",
            ),
            reconnects: counters("hydrant_upstream_reconnects_total", "Reconnects to the endpoint"),
            gaps: counters("hydrant_upstream_gaps_total", "Gaps reported in the endpoint's events"),
            events: counters("hydrant_upstream_events_total", "Events received from the endpoint"),
            unusable: counters("hydrant_upstream_unusable_total", "Messages from the endpoint that are not events"),
            pauses: counters("hydrant_upstream_pauses_total", "Pauses in reading because the inboxes were full"),
        }
    }

    /// Creates the series of one endpoint and returns them.
    pub fn endpoint(&self, name: &str) -> EndpointMetrics {
        EndpointMetrics {
            connected: self.connected.with_label_values(&[name]),
            reconnects: self.reconnects.with_label_values(&[name]),
            gaps: self.gaps.with_label_values(&[name]),
            events: self.events.with_label_values(&[name]),
            unusable: self.unusable.with_label_values(&[name]),
            pauses: self.pauses.with_label_values(&[name]),
        }
    }
}
