//! Metrics of the reverse proxy, by fixed classes and outcomes. Neither paths nor clients create series.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};

use super::declare::Declare;

/// The kind of a forwarded request; the value of the label `class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyClass {
    /// Below `/api/v3`.
    Api,
    /// Everything else: the user interface, files.
    Other,
    /// A request to switch to another protocol.
    Upgrade,
}

impl ProxyClass {
    const ALL: [Self; 3] = [Self::Api, Self::Other, Self::Upgrade];

    fn label(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Other => "other",
            Self::Upgrade => "upgrade",
        }
    }
}

/// The result of a request; the value of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyOutcome {
    /// The endpoint has switched the protocol.
    Switched,
    /// Status 200 to 299.
    Success,
    /// Status 300 to 399.
    Redirect,
    /// Status 400 to 499.
    ClientError,
    /// Any other status.
    ServerError,
    /// No slot became free in time.
    Busy,
    /// The endpoint could not be connected.
    Unreachable,
    /// The endpoint did not respond in time, or stopped reading the request.
    Late,
    /// The connection ended before the response.
    Broken,
    /// The client stopped sending.
    Stalled,
    /// The client disconnected before the response.
    Gone,
}

impl ProxyOutcome {
    const ALL: [Self; 11] = [
        Self::Switched,
        Self::Success,
        Self::Redirect,
        Self::ClientError,
        Self::ServerError,
        Self::Busy,
        Self::Unreachable,
        Self::Late,
        Self::Broken,
        Self::Stalled,
        Self::Gone,
    ];

    /// Returns the outcome for a response with this status.
    pub fn of_status(status: u16) -> Self {
        match status {
            100..=199 => Self::Switched,
            200..=299 => Self::Success,
            300..=399 => Self::Redirect,
            400..=499 => Self::ClientError,
            _ => Self::ServerError,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Switched => "1xx",
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::Late => "late",
            Self::Broken => "broken",
            Self::Stalled => "stalled",
            Self::Gone => "gone",
        }
    }
}

/// The side that ended a response early; the value of the label `side`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxySide {
    /// The client stopped receiving.
    Client,
    /// The endpoint stopped sending.
    Endpoint,
}

impl ProxySide {
    fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Endpoint => "endpoint",
        }
    }
}

/// Metrics of all forwarded requests.
#[derive(Debug)]
pub struct ProxyMetrics {
    requests: IntCounterVec,
    /// Requests that wait for a slot, for their response or for its end, and tunnels.
    pub in_flight: IntGauge,
    /// Seconds from the arrival of a request to the head of its response.
    pub answer_seconds: Histogram,
    cut_off: IntCounterVec,
    /// Bytes of bodies and tunnels sent to the endpoint.
    pub up: IntCounter,
    /// Bytes of bodies and tunnels received from the endpoint.
    pub down: IntCounter,
}

impl ProxyMetrics {
    pub(super) fn declare(declare: &Declare<'_>) -> Self {
        let bytes = declare.counters(
            "hydrant_proxy_bytes_total",
            "Bytes of bodies and tunnels forwarded, by direction",
            "direction",
        );
        let requests = Opts::new("hydrant_proxy_requests_total", "Requests for the endpoint, by class and outcome");
        let seconds = HistogramOpts::new(
            "hydrant_proxy_answer_seconds",
            "Time from the arrival of a request for the endpoint to the head of the endpoint's answer",
        );
        let metrics = Self {
            requests: declare.add(IntCounterVec::new(requests, &["class", "outcome"])),
            in_flight: declare.gauge(
                "hydrant_proxy_requests_in_flight",
                "Requests for the endpoint in progress, including those waiting for a slot, and tunnels",
            ),
            answer_seconds: declare.add(Histogram::with_opts(seconds.buckets(bounds()))),
            cut_off: declare.counters(
                "hydrant_proxy_cut_off_total",
                "Answers of the endpoint cut off before their end, by the side that ended or stalled",
                "side",
            ),
            up: bytes.with_label_values(&["up"]),
            down: bytes.with_label_values(&["down"]),
        };
        metrics.show_all_labels();
        metrics
    }

    fn show_all_labels(&self) {
        for class in ProxyClass::ALL {
            ProxyOutcome::ALL.iter().for_each(|outcome| drop(self.series(class, *outcome)));
        }
        [ProxySide::Client, ProxySide::Endpoint]
            .iter()
            .for_each(|side| self.cut_off.with_label_values(&[side.label()]).inc_by(0));
    }

    fn series(&self, class: ProxyClass, outcome: ProxyOutcome) -> IntCounter {
        self.requests.with_label_values(&[class.label(), outcome.label()])
    }

    /// Counts a request with its outcome.
    pub fn ended(&self, class: ProxyClass, outcome: ProxyOutcome) {
        self.series(class, outcome).inc();
    }

    /// Counts a response that ended early.
    pub fn cut_off(&self, side: ProxySide) {
        self.cut_off.with_label_values(&[side.label()]).inc();
    }
}

/// Returns bounds in seconds, from 0.001 to 262 in steps of four; `proxy.answer` is 300 by default.
fn bounds() -> Vec<f64> {
    std::iter::successors(Some(0.001), |bound| Some(bound * 4.0)).take(10).collect()
}
