//! Metrics of the reverse proxy, by fixed classes and outcomes. Neither paths nor clients create series.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};

use super::declare::Declare;

/// What kind of request goes through; the value of the label `class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyClass {
    /// Below `/api/v3`
    Api,
    /// Everything else: the user interface, files
    Other,
    /// One that asks for another protocol
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

/// What became of a request; the value of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyOutcome {
    /// The endpoint has changed the protocol.
    Switched,
    /// The endpoint has answered with 200 to 299.
    Success,
    /// With 300 to 399.
    Redirect,
    /// With 400 to 499.
    ClientError,
    /// With anything else.
    ServerError,
    /// No slot came free in time.
    Busy,
    /// No connection.
    Unreachable,
    /// No answer in time, or the request was not read on.
    Late,
    /// The connection ended before the answer.
    Broken,
    /// The client did not send on.
    Stalled,
    /// The client went away before the answer.
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

    /// What an answer with this status is.
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

/// Whose fault it is that an answer ended in the middle; the value of the label `side`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxySide {
    /// The client took no more.
    Client,
    /// The endpoint sent no more.
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

/// Of all requests that are handed on.
#[derive(Debug)]
pub struct ProxyMetrics {
    requests: IntCounterVec,
    /// Requests that wait for a slot, for their answer or for its end, and tunnels.
    pub in_flight: IntGauge,
    /// Seconds from the arrival of a request to the head of its answer.
    pub answer_seconds: Histogram,
    cut_off: IntCounterVec,
    /// Bytes of bodies and tunnels on their way to the endpoint.
    pub up: IntCounter,
    /// The same, from it.
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

    /// A request has come to this.
    pub fn ended(&self, class: ProxyClass, outcome: ProxyOutcome) {
        self.series(class, outcome).inc();
    }

    /// An answer has ended in the middle.
    pub fn cut_off(&self, side: ProxySide) {
        self.cut_off.with_label_values(&[side.label()]).inc();
    }
}

/// From a millisecond in steps of four to over four minutes: `proxy.answer` is five by default.
fn bounds() -> Vec<f64> {
    std::iter::successors(Some(0.001), |bound| Some(bound * 4.0)).take(10).collect()
}
