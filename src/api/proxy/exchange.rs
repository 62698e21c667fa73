//! A proxied request as the metrics see it.
//!
//! Contract: a [`ProxiedExchange`] has exactly one outcome. If it is dropped without one, the client went away. It is
//! in progress until it is dropped, which is when the last byte of its answer has been sent.

use std::sync::Arc;
use std::time::Instant;

use hyper::{Request, StatusCode};
use prometheus::IntCounter;

use super::headers;
use crate::endpoint::http::UpstreamError;
use crate::metrics::{Metrics, ProxyClass, ProxyOutcome, ProxySide};

/// One proxied request in the metrics. Records exactly one outcome; dropped without one, it counts as a client that
/// went away.
#[derive(Debug)]
pub(super) struct ProxiedExchange {
    metrics: Arc<Metrics>,
    class: ProxyClass,
    begun: Instant,
    /// Whether no outcome has been recorded yet.
    is_open: bool,
}

impl ProxiedExchange {
    /// Begins the record of a request, whose headers must be as the client sent them.
    pub(super) fn begin<B>(metrics: &Arc<Metrics>, request: &Request<B>) -> Self {
        let class = match request.uri().path() {
            _ if headers::asks_for_protocol(request.headers()) => ProxyClass::Upgrade,
            path if path.starts_with("/api/v3/") => ProxyClass::Api,
            _ => ProxyClass::Other,
        };
        metrics.proxy.in_flight.inc();
        Self { metrics: Arc::clone(metrics), class, begun: Instant::now(), is_open: true }
    }

    /// Records the status of the endpoint's answer.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.metrics.proxy.answer_seconds.observe(self.begun.elapsed().as_secs_f64());
        self.end(ProxyOutcome::of_status(status.as_u16()));
    }

    /// Records that there is no answer.
    pub(super) fn failed(&mut self, error: &UpstreamError) {
        self.end(match error {
            UpstreamError::Busy { .. } => ProxyOutcome::Busy,
            UpstreamError::Unreachable { .. } => ProxyOutcome::Unreachable,
            UpstreamError::Late { .. } | UpstreamError::Unread { .. } => ProxyOutcome::Late,
            UpstreamError::Stalled(_) => ProxyOutcome::Stalled,
            UpstreamError::BadBody(_) | UpstreamError::TooLong { .. } => ProxyOutcome::Gone,
            UpstreamError::Broken { .. } | UpstreamError::LongAnswer { .. } | UpstreamError::Path => {
                ProxyOutcome::Broken
            }
        });
    }

    /// Records that the answer ended early.
    pub(super) fn cut_off(&self, side: ProxySide) {
        self.metrics.proxy.cut_off(side);
    }

    /// Returns the counter of bytes to the endpoint.
    pub(super) fn up(&self) -> IntCounter {
        self.metrics.proxy.up.clone()
    }

    /// Returns the counter of bytes from the endpoint.
    pub(super) fn down(&self) -> IntCounter {
        self.metrics.proxy.down.clone()
    }

    fn end(&mut self, outcome: ProxyOutcome) {
        self.is_open = false;
        self.metrics.proxy.ended(self.class, outcome);
    }
}

impl Drop for ProxiedExchange {
    fn drop(&mut self) {
        if self.is_open {
            self.end(ProxyOutcome::Gone);
        }
        self.metrics.proxy.in_flight.dec();
    }
}
