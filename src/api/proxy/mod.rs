//! The reverse proxy: requests that hydrant does not serve itself go to the endpoint, with the caller's own
//! credential.
//!
//! Contract: bodies stream in both directions and are never stored whole. Status, headers (except hop-by-hop ones) and
//! body of an answer are the endpoint's, errors included. Hydrant answers itself only if there is no answer: 502 if
//! the endpoint cannot be reached, 503 with `Retry-After` if too many requests wait for it, 504 if it is too slow.
//! Nobody is authenticated here: the endpoint checks the credential, and the query, which may contain one, is
//! forwarded unread. Requests with the service's own credential are hydrant's own: the path and a few headers, without
//! the caller's query and body. If the endpoint refuses that credential, the answer is 502: a 401 or 403 would be about
//! the caller, whose session is good.

mod acceptances;
mod download;
mod exchange;
mod headers;
mod held;
pub(super) mod merge;
mod tunnel;
mod upload;
pub(super) mod vouch;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_CREDENTIALS, AUTHORIZATION, CONTENT_LENGTH, ETAG, HOST, HeaderName,
    HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE, TRANSFER_ENCODING, USER_AGENT,
};
use hyper::http::response::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use thiserror::Error;

use super::{Api, ApiError, ForwardedFor, query};
use crate::auth::Identity;
use crate::endpoint::http::{Activity, Asker, Slot, Upstream, UpstreamError, Whole};
use crate::places::network;
use crate::transport::caller::Caller;
use crate::transport::listener::Answer;
use crate::transport::reading::Reading;
use crate::transport::slices::Slices;
use exchange::ProxiedExchange;
use held::Held;
pub(super) use upload::BodyLimit;
use upload::{Gate, Upload};

/// Request headers that would make an answer partial or not plain text.
const PARTIAL: [HeaderName; 4] = [ACCEPT_ENCODING, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE];

/// The caller's headers that are forwarded with the service's own credential; `Host` becomes `X-Forwarded-Host` and is
/// replaced. `traceparent` and `tracestate` name the caller's trace.
const ALONG: [HeaderName; 5] =
    [ACCEPT, HOST, USER_AGENT, HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];

/// Maximum length in bytes of an answer that hydrant adds to, one for each slot.
const LONGEST_EDITED: usize = 1 << 20;

/// The same of a list, of which only a few are read at a time.
const LONGEST_LIST: usize = 16 << 20;

/// The same of an Error.
const LONGEST_ERROR: usize = 64 << 10;

/// Marks a request with the service's own credential.
#[derive(Debug, Clone, Copy)]
struct AsService;

/// A request to the endpoint: the caller's, or one of hydrant's own, which has no body.
pub(super) type Inquiry = Request<Option<Incoming>>;

/// Why there is nothing to read at the endpoint.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    /// There is no answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The endpoint has no such resource.
    #[error("the endpoint has no such resource")]
    Missing,
    /// The answer has another status than 200.
    #[error("the endpoint answered with status {0}")]
    Status(StatusCode),
}

/// An answered request.
struct Sent {
    answer: Response<Incoming>,
    /// The client's side of the upgrade, if it requested one.
    client: Option<OnUpgrade>,
    held: Held,
}

impl Api {
    /// Forwards a request and returns the answer.
    pub(super) async fn forward(
        &self,
        upstream: &Upstream,
        request: Request<Incoming>,
        caller: &Caller,
    ) -> Result<Answer, ApiError> {
        // Clients of the endpoint do not need tunnels to other hosts.
        if request.method() == Method::CONNECT {
            return Err(ApiError::NoRoute);
        }
        let Sent { answer, client, held } = self.send(upstream, request.map(Some), caller).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(passed(answer, upstream, held, caller));
        }
        let client = client.ok_or_else(|| UpstreamError::Broken {
            endpoint: upstream.endpoint().to_string(),
            reason: "it changes the protocol though nobody asked".to_owned(),
        })?;
        Ok(switched(answer, client, held))
    }

    /// Like [`forward`](Self::forward), and records whether the caller has presented a valid credential.
    pub(super) async fn forward_and_check_trust(
        &self,
        upstream: &Upstream,
        request: Request<Incoming>,
        caller: &Caller,
    ) -> Result<Answer, ApiError> {
        let shown = vouch::shown(&request).filter(|_| request.method() != Method::OPTIONS);
        let answer = self.forward(upstream, request, caller).await?;
        self.check_trust(upstream, shown, answer.status(), caller).await;
        Ok(answer)
    }

    /// After a successful request, checks its credential at the endpoint, unless the caller is trusted already. The
    /// response is delayed until the check is done, so that the caller's next request is trusted. The check is skipped
    /// if it would have to queue, or to wait for a slot: this request still holds one, which may be the last.
    pub(super) async fn check_trust(
        &self,
        upstream: &Upstream,
        shown: Option<HeaderValue>,
        status: StatusCode,
        caller: &Caller,
    ) {
        let Some(credential) = shown.filter(|_| status.is_success() && !caller.is_trusted()) else { return };
        if self.vouched.ask_if_free(upstream, &credential, caller.peer.ip()).await {
            caller.trust();
        }
    }

    /// Forwards a request and applies `edit` to the body of a 200 answer; the body stays as it is if `edit` returns
    /// `None`.
    pub(super) async fn forward_edited(
        &self,
        upstream: &Upstream,
        mut request: Inquiry,
        caller: &Caller,
        edit: impl FnOnce(&[u8]) -> Option<String> + Send,
    ) -> Result<Answer, ApiError> {
        PARTIAL.iter().for_each(|name| drop(request.headers_mut().remove(name)));
        let Sent { answer, held, .. } = self.send(upstream, request, caller).await?;
        if answer.status() != StatusCode::OK {
            return Ok(passed(answer, upstream, held, caller));
        }
        let (mut parts, body) = to_client(answer, false);
        let whole = held.whole(upstream, body, LONGEST_EDITED).await?;
        let body = match self.at_length(|| edit(&whole)) {
            Some(edited) => {
                parts.headers.remove(ETAG);
                Bytes::from(edited)
            }
            None => whole,
        };
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
        let idle = upstream.limits().idle;
        Ok(Response::from_parts(parts, download::send(body, idle, held, caller.accepting().clone())))
    }

    /// Returns the body of the endpoint's answer.
    ///
    /// # Errors
    /// There is no answer, or its status is not 200.
    pub(super) async fn fetch(
        &self,
        upstream: &Upstream,
        mut request: Inquiry,
        caller: &Caller,
    ) -> Result<Bytes, FetchError> {
        PARTIAL.iter().for_each(|name| drop(request.headers_mut().remove(name)));
        let Sent { answer, held, .. } = self.send(upstream, request, caller).await?;
        let status = answer.status();
        let longest = match status {
            StatusCode::OK => LONGEST_LIST,
            StatusCode::NOT_FOUND => LONGEST_ERROR,
            _ => return Err(FetchError::Status(status)),
        };
        let body = held.whole(upstream, answer.into_body(), longest).await.map_err(ApiError::from)?;
        let answer = Whole { status, body };
        match status {
            StatusCode::OK => Ok(answer.body),
            _ if answer.is_missing() => Err(FetchError::Missing),
            _ => Err(FetchError::Status(status)),
        }
    }

    async fn send(&self, upstream: &Upstream, mut request: Inquiry, caller: &Caller) -> Result<Sent, ApiError> {
        let is_foreign = self.check_forwarded(&request, caller)?;
        let mut exchange = ProxiedExchange::begin(self.broker.metrics(), &request);
        let client = hyper::upgrade::on(&mut request);
        let asker = self.asker(upstream, &request, caller).await;
        let origin = headers::Origin {
            peer: caller.connection,
            secure: caller.forwarded.and_then(|forwarded| forwarded.secure).unwrap_or(self.about.secure),
            forwarded: self.forwarded_for == ForwardedFor::Sent,
            client: caller.forwarded.map(|forwarded| forwarded.client.ip()),
        };
        let asks = headers::inbound(request.headers_mut(), origin);
        let as_service = request.extensions().get::<AsService>().is_some();
        let sent = run_exchange(upstream, request, asker, &exchange).await;
        let (mut answer, slot, gate) = sent.inspect_err(|error| {
            exchange.failed(error);
            self.failures.unanswered(error);
        })?;
        exchange.answered(answer.status());
        if is_foreign {
            // Without it, no browser lets the page read what was answered to the browser's own credentials.
            answer.headers_mut().remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        }
        if as_service {
            check_service(answer.status()).inspect_err(|error| self.failures.refused(error))?;
        }
        Ok(Sent { answer, client: asks.then_some(client), held: Held::new(exchange, slot, gate) })
    }

    /// Creates hydrant's own request for the resource that the caller requests, with the service's credential, for a
    /// caller that the endpoint does not know. The path is re-encoded, so that it is the one whose rights were checked,
    /// however it was spelled; ambiguous paths are refused. Of the caller's request only a few harmless headers are
    /// copied: no query, no body, and nothing that could make the endpoint use the service's rights for more than an
    /// answer.
    pub(super) fn as_service<B>(&self, upstream: &Upstream, request: &Request<B>) -> Result<Inquiry, ApiError> {
        let path = query::plain_path(request.uri().path()).ok_or(ApiError::NoRoute)?;
        let own = upstream.own_credential().map_err(|error| {
            self.failures.credential(&error);
            ApiError::NoCredential
        })?;
        let mut inquiry =
            Request::builder().method(request.method()).uri(path).body(None).map_err(|_| ApiError::NoRoute)?;
        for name in ALONG {
            for value in request.headers().get_all(&name) {
                inquiry.headers_mut().append(name.clone(), value.clone());
            }
        }
        inquiry.headers_mut().insert(AUTHORIZATION, own);
        inquiry.extensions_mut().insert(AsService);
        Ok(inquiry)
    }

    /// Like [`as_service`](Self::as_service), unless the endpoint knows the caller, whose own credential it then
    /// checks.
    pub(super) fn as_service_unless_known(
        &self,
        upstream: &Upstream,
        request: Request<Incoming>,
        identity: &Identity,
    ) -> Result<Inquiry, ApiError> {
        if identity.is_endpoints() { Ok(request.map(Some)) } else { self.as_service(upstream, &request) }
    }

    /// Determines the class of the caller for its slot. While unauthenticated connections have free slots, or if none
    /// is reserved for others, no credential is checked.
    async fn asker(&self, upstream: &Upstream, request: &Inquiry, caller: &Caller) -> Asker {
        let known = Asker::Known(network(caller.peer.ip()));
        if caller.is_trusted() {
            return known;
        }
        let Some(credential) = vouch::shown(request) else { return Asker::Stranger };
        let crowded = upstream.limits().requests > 1 && !upstream.has_slot_for_strangers();
        let peer = caller.peer.ip();
        if self.vouched.knows(&credential) || (crowded && self.vouched.ask(upstream, &credential, peer).await) {
            caller.trust();
            return known;
        }
        Asker::Stranger
    }
}

/// Sends a request with prepared headers. Returns the answer and what must be held until it is complete.
async fn run_exchange(
    upstream: &Upstream,
    request: Inquiry,
    asker: Asker,
    exchange: &ProxiedExchange,
) -> Result<(Response<Incoming>, Arc<Slot>, Option<Gate>), UpstreamError> {
    let slot = Arc::new(upstream.slot(asker).await?);
    let waits = headers::waits(request.headers());
    let activity = Activity::default();
    let (parts, body) = request.into_parts();
    let mut request = Request::from_parts(parts, ());
    let Some(body) = body else {
        let request = request.map(|()| Empty::new().map_err(|never| match never {}).boxed_unsync());
        return Ok((upstream.send(request, &activity).await?, slot, None));
    };
    let waits = waits && !body.is_end_stream();
    let read = Reading::of(&request);
    let limit = request.extensions().get().copied();
    let idle = upstream.limits().idle;
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        // Otherwise hyper drops the body of a GET.
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let (body, mut gate) = Upload::new(body, Arc::clone(&slot), activity.clone(), idle, exchange.up());
    let mut body = body.noting(read).within(limit);
    if waits {
        body.wait(&mut request, &mut gate);
    }
    let answer = upstream.send(request.map(|()| body.into()), &activity).await?;
    gate.answered();
    Ok((answer, slot, Some(gate)))
}

/// Checks that the endpoint has not refused the service's own credential.
fn check_service(status: StatusCode) -> Result<(), ApiError> {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ApiError::ServiceRefused { status: status.as_u16() }),
        _ => Ok(()),
    }
}

/// Rewrites the head of an answer. Its version is hydrant's own (RFC 9110, section 2.5): an answer of HTTP/1.0 could
/// not be sent in chunks, so that its client would take a part of it for the whole.
fn to_client(answer: Response<Incoming>, is_switched: bool) -> (Parts, Incoming) {
    let (mut parts, body) = answer.into_parts();
    headers::outbound(&mut parts.headers, is_switched);
    parts.version = Version::HTTP_11;
    (parts, body)
}

fn passed(answer: Response<Incoming>, upstream: &Upstream, held: Held, caller: &Caller) -> Answer {
    let (parts, body) = to_client(answer, false);
    Response::from_parts(parts, download::download(body, upstream.limits().idle, held, caller.accepting().clone()))
}

fn switched(mut answer: Response<Incoming>, client: OnUpgrade, held: Held) -> Answer {
    tunnel::join(client, hyper::upgrade::on(&mut answer), held);
    let (parts, _) = to_client(answer, true);
    Response::from_parts(parts, Either::Left(Slices::default()))
}
