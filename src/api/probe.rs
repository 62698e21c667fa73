//! `/metrics`, `/healthz` and `/readyz`: plain HTTP on a separate listener, without credentials.
//!
//! `/healthz` says that the process answers and that no shard hangs. It is 503 once a shard's thread has been in one
//! turn for as long as systemd's watchdog allows ([`HUNG`]), because only a restart helps then, and Kubernetes restarts
//! by this probe. It stays 200 while a server drains or has no upstream. `/readyz` says that it accepts connections and
//! that events arrive. It is 503 as soon as the server drains, so that balancers look elsewhere before anybody is
//! disconnected; while none of the configured upstream endpoints is connected; and while a shard's thread is stuck in
//! its turn ([`STALL`](crate::metrics::STALL)). Its body lists the endpoints, and says whether NATS is connected and
//! whether the endpoint discloses its users. Without NATS the node continues alone, and without the users existing
//! connections continue, so the node stays ready. The body also lists files whose last change is not in force, because
//! a removed user may still be connected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Serialize;

use super::{ApiError, answer, message};
use crate::auth::{AuthFile, Authority};
use crate::broker::Broker;
use crate::cluster;
use crate::endpoint::events::{Health, Report};
use crate::endpoint::identity;
use crate::endpoint::identity::Delegation;
use crate::files::Refusal;
use crate::metrics::{HUNG, LoginCounts, Metrics, WatchedFile};
use crate::transport::caller::Caller;
use crate::transport::listener::{Answer, Answering, Handler};
use crate::transport::tls::LiveTls;

/// Serves `/metrics`, `/healthz` and `/readyz` without credentials.
#[derive(Debug)]
pub struct Probe {
    broker: Arc<Broker>,
    accepting: Arc<AtomicBool>,
    upstreams: Vec<Arc<Health>>,
    nats: Option<Arc<cluster::Health>>,
    delegation: Option<Arc<Delegation>>,
    files: WatchedFiles,
}

/// The objects that are reloaded when their files change.
#[derive(Debug)]
pub struct WatchedFiles {
    /// Users, token keys and the other issuer's keys.
    pub authority: Arc<Authority>,
    /// The certificate, if configured.
    pub tls: Option<Arc<LiveTls>>,
}

impl WatchedFiles {
    /// Returns the files whose last change was refused, and why.
    fn refusals(&self) -> Vec<(WatchedFile, Refusal)> {
        let of_auth = self.authority.refusals().into_iter().map(|(file, refusal)| {
            let file = match file {
                AuthFile::Users => WatchedFile::Users,
                AuthFile::TokenKeys => WatchedFile::TokenKeys,
                AuthFile::IssuerKeys => WatchedFile::IssuerKeys,
            };
            (file, refusal)
        });
        let of_tls = self.tls.as_ref().and_then(|tls| tls.refusal()).map(|refusal| (WatchedFile::Certificate, refusal));
        of_auth.chain(of_tls).collect()
    }
}

/// A file whose last change is not in force.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NotInForce {
    file: &'static str,
    since: String,
    reason: String,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Readiness {
    ready: bool,
    draining: bool,
    shards: Shards,
    upstreams: Vec<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nats: Option<cluster::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<identity::Report>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_in_force: Vec<NotInForce>,
}

/// The state of the shards.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shards {
    /// Number of shards whose current turn has already exceeded [`STALL`](crate::metrics::STALL).
    stalled: usize,
    /// The longest turn of the last minute, including current ones.
    longest_turn_milliseconds: u128,
}

impl Shards {
    fn of(metrics: &Metrics) -> Self {
        Self { stalled: metrics.stalled_shards(), longest_turn_milliseconds: metrics.longest_turn().as_millis() }
    }
}

impl Probe {
    /// Creates a probe of this broker. Readiness depends on `accepting`, `upstreams` and the shards; `nats` and
    /// `delegation` are reported too, if configured.
    pub fn new(
        broker: Arc<Broker>,
        accepting: Arc<AtomicBool>,
        upstreams: Vec<Arc<Health>>,
        nats: Option<Arc<cluster::Health>>,
        delegation: Option<Arc<Delegation>>,
        files: WatchedFiles,
    ) -> Self {
        Self { broker, accepting, upstreams, nats, delegation, files }
    }

    fn health(&self) -> Answer {
        if self.broker.metrics().is_hung() {
            let text = format!("a shard has been stuck for more than {HUNG:?}\n");
            return answer::text(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        answer::text(StatusCode::OK, "ok\n")
    }

    fn readiness(&self) -> Answer {
        let upstreams: Vec<Report> = self.upstreams.iter().map(|health| health.report()).collect();
        let draining = !self.accepting.load(Ordering::Acquire);
        let nats = self.nats.as_ref().map(|health| health.report());
        let fed = upstreams.is_empty() || upstreams.iter().any(|report| report.connected);
        let not_in_force = self.files.refusals().into_iter().map(|(file, Refusal { since, reason })| NotInForce {
            file: file.label(),
            since: since.to_string(),
            reason,
        });
        let not_in_force = not_in_force.collect();
        let identity = self.delegation.as_ref().map(|delegation| delegation.report());
        let shards = Shards::of(self.broker.metrics());
        let ready = fed && !draining && shards.stalled == 0;
        let readiness = Readiness { ready, draining, shards, upstreams, nats, identity, not_in_force };
        let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = serde_json::to_vec(&readiness).expect("texts and flags are always written");
        answer::json(status, body)
    }
}

impl Probe {
    /// Updates the metrics of logins from the authority's counters.
    fn count_logins(&self) {
        let (logins, authority) = (&self.broker.metrics().logins, &self.files.authority);
        let counts = LoginCounts { hashed: authority.passwords_hashed(), verified: authority.credentials_verified() };
        logins.set(counts, authority.logins_waiting());
        let refused: Vec<WatchedFile> = self.files.refusals().into_iter().map(|(file, _)| file).collect();
        logins.not_in_force(&refused);
    }
}

impl Handler for Probe {
    fn handle<'a>(&'a self, request: Request<Incoming>, _: &'a Caller) -> Answering<'a> {
        Box::pin(std::future::ready(self.answer(&request)))
    }
}

impl Probe {
    fn answer(&self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        if let Err(error) = message::check(request) {
            return error.answer(request.method(), path);
        }
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        match (method, path) {
            (&Method::GET, "/metrics") => {
                self.count_logins();
                answer::text(StatusCode::OK, self.broker.metrics().render(self.broker.waiting()))
            }
            (&Method::GET, "/healthz") => self.health(),
            (&Method::GET, "/readyz") => self.readiness(),
            (method, path) => ApiError::NoRoute.answer(method, path),
        }
    }
}
