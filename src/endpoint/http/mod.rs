//! An HTTP client for a DRP endpoint, used by the proxy and by everything else that asks the endpoint.
//!
//! Contract: an [`Upstream`] is one endpoint with a bounded number of concurrent requests ([`Upstream::slot`]) on
//! kept-alive connections. Unauthenticated connections may use three quarters of the slots, and checks of unknown
//! credentials half of the rest besides; clients with valid credentials share them by networks ([`slots`]). What
//! hydrant itself needs to know waits for none of them: it has a few slots of its own. Every wait has a limit: for a
//! slot and a connection, for the head of an answer (counted from the last byte that moved), and for the next part of a
//! body in either direction. A request is sent once; it is only repeated if a stale connection never accepted it.
//! Errors contain neither URLs nor credentials.
//!
//! The pool is hyper-util's. It has no limit of its own, so the slots provide it.

mod activity;
mod connector;
mod error;
mod slots;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub use activity::{Activity, Turn};
pub use error::{BodyError, StalledError, TooLongError, UpstreamError};

use crate::client::{ClientError, Endpoint, Login, Service};
use crate::clock;
use crate::logging::summary::Summary;
use crate::places::Network;
use connector::Connector;
use slots::{Permit, Slots};

/// Size of a connection's read buffer in bytes.
const BUFFER: usize = 64 << 10;

/// How long an unused connection is kept. Go servers, such as DRP, keep them longer.
const KEPT: Duration = Duration::from_secs(30);

/// Maximum number of headers in an answer.
const MAX_HEADERS: usize = 128;

/// Number of slots that only hydrant's own questions use, besides the others.
const OWN: usize = 8;

/// The body of a request.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Limits on requests to an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamLimits {
    /// Time limit for connecting, including the TLS handshake, and for getting a slot.
    pub connect: Duration,
    /// Time limit for the head of an answer, after the last part of the request.
    pub answer: Duration,
    /// Time limit for the next part of a body to arrive or to be accepted.
    pub idle: Duration,
    /// Maximum number of concurrent requests, besides hydrant's own.
    pub requests: usize,
}

/// The kind of caller that needs a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Hydrant itself. It takes a slot that is free or one of its own, so that what it needs to know, such as who was
    /// removed, waits for no client.
    Hydrant,
    /// A client in this network that has presented a valid credential.
    Known(Network),
    /// Hydrant, checking a credential that is not known yet. It takes a stranger's slot or one of a small share of its
    /// own, so that slow downloads do not block logins, and logins do not block known callers.
    Login,
    /// Any other client. Strangers together never hold the share of the slots that is reserved for others.
    Stranger,
}

/// A slot for a request to an endpoint; released when dropped.
#[derive(Debug)]
pub struct Slot {
    _any: Option<Permit>,
    _share: Option<OwnedSemaphorePermit>,
}

/// An HTTP client for one endpoint with a bounded number of concurrent requests.
pub struct Upstream {
    client: legacy::Client<Connector, Body>,
    service: Service,
    authority: Authority,
    /// The endpoint's authority as a `Host` header.
    host: HeaderValue,
    slots: Arc<Slots>,
    /// Hydrant's own.
    own: Arc<Semaphore>,
    /// The share of `slots` that unauthenticated connections may hold.
    unauthenticated_connections: Arc<Semaphore>,
    /// The further share that checks of credentials may hold.
    logins: Arc<Semaphore>,
    limits: UpstreamLimits,
    unusable_file: Summary,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("endpoint", &self.service.endpoint).finish_non_exhaustive()
    }
}

/// Returns how many of `requests` slots unauthenticated connections may hold: all but a quarter, at least one.
fn unauthenticated_connections(requests: usize) -> usize {
    (requests - requests.div_ceil(4).min(requests.saturating_sub(1))).max(1)
}

/// Returns how many further slots checks of unknown credentials may hold: half of those reserved for others.
fn logins(requests: usize) -> usize {
    (requests - unauthenticated_connections(requests).min(requests)) / 2
}

async fn acquire(share: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(share).acquire_owned().await.ok()
}

/// A complete answer.
#[derive(Debug)]
pub struct Whole {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

impl Whole {
    /// Returns whether the endpoint itself answers that it does not have what was requested. A server in front of the
    /// endpoint answers 404 too, for example while no backend is available, but not with the endpoint's own Error.
    pub fn is_missing(&self) -> bool {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct DrpError {
            code: u16,
            #[serde(rename = "Messages")]
            _messages: IgnoredAny,
        }
        let is_404 = |error: DrpError| error.code == StatusCode::NOT_FOUND.as_u16();
        self.status == StatusCode::NOT_FOUND && serde_json::from_slice(&self.body).is_ok_and(is_404)
    }
}

impl Upstream {
    /// Creates a client for an endpoint. Opens no connection yet.
    pub fn new(service: Service, limits: UpstreamLimits) -> Self {
        let authority = service.endpoint.authority();
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(limits.requests)
            .http1_max_buf_size(BUFFER)
            .http1_max_headers(MAX_HEADERS)
            .set_host(false);
        Self {
            client: builder.build(Connector::new(&service, limits)),
            host: HeaderValue::from_str(&authority).expect("it was read from a URL"),
            authority: authority.parse().expect("it was read from a URL"),
            service,
            slots: Arc::new(Slots::new(limits.requests)),
            own: Arc::new(Semaphore::new(OWN)),
            unauthenticated_connections: Arc::new(Semaphore::new(
                unauthenticated_connections(limits.requests).min(Semaphore::MAX_PERMITS),
            )),
            logins: Arc::new(Semaphore::new(logins(limits.requests).min(Semaphore::MAX_PERMITS))),
            limits,
            unusable_file: Summary::default(),
        }
    }

    /// Returns the endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.service.endpoint
    }

    /// Returns the limits.
    pub fn limits(&self) -> &UpstreamLimits {
        &self.limits
    }

    /// Returns how the service logs in.
    pub fn login(&self) -> &Login {
        &self.service.login
    }

    /// Returns the service's own credential as an `Authorization` header; read anew, since its file may have changed.
    ///
    /// # Errors
    /// As for [`Service::target`].
    pub fn own_credential(&self) -> Result<HeaderValue, ClientError> {
        Ok(self.service.target()?.authorization())
    }

    /// Waits for a slot, to be held until the request and its answer are complete.
    ///
    /// # Errors
    /// [`UpstreamError::Busy`] if none becomes free in time.
    pub async fn slot(&self, asker: Asker) -> Result<Slot, UpstreamError> {
        let wait = async {
            let (share, network) = match asker {
                Asker::Hydrant => return self.any_or_own().await,
                Asker::Known(network) => (None, Some(network)),
                Asker::Login => (Some(self.login_share().await?), None),
                Asker::Stranger => (Some(acquire(&self.unauthenticated_connections).await?), None),
            };
            Some(Slot { _any: Some(self.slots.acquire(network).await?), _share: share })
        };
        let slot = timeout(self.limits.connect, wait).await.ok().flatten();
        slot.ok_or_else(|| UpstreamError::Busy { endpoint: self.service.endpoint.to_string() })
    }

    async fn any_or_own(&self) -> Option<Slot> {
        tokio::select! {
            biased;
            any = self.slots.acquire(None) => Some(Slot { _any: Some(any?), _share: None }),
            own = acquire(&self.own) => Some(Slot { _any: None, _share: Some(own?) }),
        }
    }

    async fn login_share(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            share = acquire(&self.unauthenticated_connections) => share,
            share = acquire(&self.logins) => share,
        }
    }

    /// Returns whether a stranger would get a slot without waiting.
    pub fn has_slot_for_strangers(&self) -> bool {
        self.unauthenticated_connections.available_permits() > 0 && self.slots.has_free()
    }

    /// Sends a request and waits for the head of its answer, while `activity` records when parts of the request are
    /// sent. The request's URI is a path with an optional query; `Host` is set here.
    ///
    /// # Errors
    /// [`UpstreamError`] if there is no answer. An answer of any status is not an error.
    pub async fn send(
        &self,
        mut request: Request<Body>,
        activity: &Activity,
    ) -> Result<Response<Incoming>, UpstreamError> {
        *request.uri_mut() = self.uri(request.uri().path_and_query());
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(HOST, self.host.clone());
        tokio::select! {
            answer = self.client.request(request) => answer.map_err(|error| {
                self.note_unusable_file(&error);
                UpstreamError::of(self.service.endpoint.to_string(), &error)
            }),
            turn = activity.overdue(self.limits.idle, self.limits.answer) => Err(self.overdue(turn)),
        }
    }

    /// Logs why a file of this server cannot be used, which clients are not told. Each of their requests fails by it.
    fn note_unusable_file(&self, error: &legacy::Error) {
        if let Some(error) = error::unusable_file(error)
            && let Some(suppressed) = self.unusable_file.count(clock::instant())
        {
            tracing::error!(%error, suppressed, "cannot use a file for connections to the endpoint");
        }
    }

    fn overdue(&self, turn: Turn) -> UpstreamError {
        let endpoint = self.service.endpoint.to_string();
        match turn {
            Turn::Answer => UpstreamError::Late { endpoint, after: self.limits.answer },
            _ => UpstreamError::Unread { endpoint, after: self.limits.idle },
        }
    }

    /// Sends a GET request of hydrant's own and returns the complete answer, of at most `longest` bytes.
    ///
    /// # Errors
    /// [`UpstreamError`] if there is no complete answer.
    pub async fn get(&self, path: &str, authorization: &HeaderValue, longest: usize) -> Result<Whole, UpstreamError> {
        self.get_for(Asker::Hydrant, path, authorization, longest).await
    }

    /// Like [`get`](Self::get), for any kind of caller.
    ///
    /// # Errors
    /// [`UpstreamError`] if there is no complete answer.
    pub async fn get_for(
        &self,
        asker: Asker,
        path: &str,
        authorization: &HeaderValue,
        longest: usize,
    ) -> Result<Whole, UpstreamError> {
        let _slot = self.slot(asker).await?;
        let request = Request::get(path)
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, authorization.clone())
            .body(Empty::new().map_err(|never| match never {}).boxed_unsync())
            .map_err(|_| UpstreamError::Path)?;
        let answer = self.send(request, &Activity::default()).await?;
        let status = answer.status();
        let body = self.whole(answer.into_body(), longest).await?;
        Ok(Whole { status, body })
    }

    /// Reads a body to its end.
    ///
    /// # Errors
    /// [`UpstreamError`] if it is longer than `longest` bytes, ends early or does not arrive in time.
    pub async fn whole(&self, body: Incoming, longest: usize) -> Result<Bytes, UpstreamError> {
        let endpoint = || self.service.endpoint.to_string();
        match timeout(self.limits.answer, Limited::new(body, longest).collect()).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                Err(UpstreamError::LongAnswer { endpoint: endpoint(), allowed: longest })
            }
            Ok(Err(error)) => Err(UpstreamError::Broken { endpoint: endpoint(), reason: error.to_string() }),
            Err(_) => Err(UpstreamError::Broken { endpoint: endpoint(), reason: "the answer stalled".to_owned() }),
        }
    }

    fn uri(&self, path: Option<&PathAndQuery>) -> Uri {
        let scheme = if self.service.endpoint.tls { Scheme::HTTPS } else { Scheme::HTTP };
        let path = path.cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let parts = Uri::builder().scheme(scheme).authority(self.authority.clone()).path_and_query(path);
        parts.build().expect("all three parts are good ones")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{SecretSource, Trust};
    use crate::clock::simulated;
    use crate::logging::summary::{INTERVAL, captured};

    /// While it lasts, every request fails, and anybody may send requests.
    #[test]
    fn a_file_that_cannot_be_used_fills_no_log() {
        simulated::begin();
        let service = Service {
            endpoint: "https://127.0.0.1:1".parse().unwrap(),
            login: Login::Token(SecretSource::File("/nowhere/token".into())),
            trust: Trust::Ca("/nowhere/ca.pem".into()),
            receive_buffer: 0,
        };
        let second = Duration::from_secs(1);
        let limits = UpstreamLimits { connect: second, answer: second, idle: second, requests: 4 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let upstream = Upstream::new(service, limits);
        let ask = || runtime.block_on(upstream.get("/", &HeaderValue::from_static("Bearer x"), 1)).unwrap_err();
        let ask_often = || captured::lines(|| (0..10).for_each(|_| assert!(!ask().to_string().contains("ca.pem"))));
        let lines = ask_often();
        assert!(lines.len() == 1 && lines[0].contains("/nowhere/ca.pem"), "{lines:#?}");
        simulated::pass(INTERVAL);
        let lines = ask_often();
        assert!(lines.len() == 1 && lines[0].contains("suppressed=9"), "{lines:#?}");
    }

    #[test]
    fn strangers_and_logins_together_leave_some() {
        for requests in 1..600 {
            let held = unauthenticated_connections(requests) + logins(requests);
            assert!(held <= requests && (requests == 1 || held < requests), "{requests}");
        }
        assert_eq!((unauthenticated_connections(512), logins(512)), (384, 64));
    }
}
