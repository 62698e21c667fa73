//! `/metrics`, `/healthz` and `/readyz`, in plain HTTP on a listener of their own, without credentials.
//!
//! `/healthz` says that the process answers; `/readyz` that it takes connections, and 503 as soon as it drains, so that
//! balancers look elsewhere before anybody is disconnected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::{ApiError, answer};
use crate::broker::Broker;
use crate::transport::caller::Caller;
use crate::transport::listener::{Answer, Handler};

/// See the module's text.
#[derive(Debug)]
pub struct Probe {
    broker: Arc<Broker>,
    ready: Arc<AtomicBool>,
}

impl Probe {
    /// Answers from this broker's metrics, and with `ready` about readiness.
    pub fn new(broker: Arc<Broker>, ready: Arc<AtomicBool>) -> Self {
        Self { broker, ready }
    }
}

impl Handler for Probe {
    async fn handle(&self, request: Request<Incoming>, _: &Caller) -> Answer {
        let path = request.uri().path();
        match (request.method(), path) {
            (&Method::GET, "/metrics") => {
                answer::text(StatusCode::OK, self.broker.metrics().render(self.broker.waiting()))
            }
            (&Method::GET, "/healthz") => answer::text(StatusCode::OK, "ok\n"),
            (&Method::GET, "/readyz") if self.ready.load(Ordering::Acquire) => answer::text(StatusCode::OK, "ready\n"),
            (&Method::GET, "/readyz") => answer::text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            (method, path) => ApiError::NoRoute.answer(method, path),
        }
    }
}
