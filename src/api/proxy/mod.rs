//! The reverse proxy: what hydrant does not serve itself goes to the endpoint, with the caller's own credential.
//!
//! Contract: bodies stream in both directions and are never held whole. Status, headers (but for those between neighbours) and
//! body of an answer are the endpoint's, errors included; hydrant answers itself only when there is no answer: 502 when
//! the endpoint cannot be reached, 503 with `Retry-After` when too many requests are waiting for it, 504 when it is too slow. Nobody is
//! authenticated here: the endpoint checks the credential, and the query that may hold one is handed on unread.

mod download;
mod headers;
pub(super) mod merge;
mod passage;
mod tunnel;
mod upload;

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, ETAG, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};

use super::{Api, ApiError, query};
use crate::auth::Identity;
use crate::endpoint::http::{Activity, Slot, Upstream, UpstreamError};
use crate::metrics::ProxySide;
use crate::transport::listener::Answer;
use passage::Passage;
use upload::{Gate, Upload};

/// The longest answer that something is added to.
const LONGEST_MERGED: usize = 16 << 20;

/// With these an answer would not be whole, or not be text.
const PARTIAL: [HeaderName; 4] = [ACCEPT_ENCODING, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE];

/// What is held until an answer is through.
struct Held {
    passage: Passage,
    _slot: Slot,
    _gate: Option<Gate>,
}

/// A request that was answered.
struct Sent {
    answer: Response<Incoming>,
    /// The client's side of another protocol, if it has asked for one.
    client: Option<OnUpgrade>,
    held: Held,
}

impl Api {
    /// Sends a request on and the answer back.
    pub(super) async fn forward(
        &self,
        upstream: &Upstream,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Answer, ApiError> {
        // A tunnel to anywhere is not what the endpoint's clients ask for.
        if request.method() == Method::CONNECT {
            return Err(ApiError::NoRoute);
        }
        let Sent { answer, client, held } = self.send(upstream, request, peer).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(passed(answer, upstream, held));
        }
        let client = client.ok_or_else(|| UpstreamError::Broken {
            endpoint: upstream.endpoint().to_string(),
            reason: "it changes the protocol though nobody asked".to_owned(),
        })?;
        Ok(switched(answer, client, held))
    }

    /// Sends a request on, and the answer back with `edit` applied to its body if that is one that something can be added to.
    pub(super) async fn forward_edited(
        &self,
        upstream: &Upstream,
        mut request: Request<Incoming>,
        peer: SocketAddr,
        edit: impl FnOnce(&[u8]) -> Option<String> + Send,
    ) -> Result<Answer, ApiError> {
        PARTIAL.iter().for_each(|name| drop(request.headers_mut().remove(name)));
        let Sent { answer, held, .. } = self.send(upstream, request, peer).await?;
        if answer.status() != StatusCode::OK {
            return Ok(passed(answer, upstream, held));
        }
        let (mut parts, body) = answer.into_parts();
        let whole = held.whole(upstream, body).await?;
        headers::outbound(&mut parts.headers, false);
        let body = match edit(&whole) {
            Some(edited) => {
                [CONTENT_LENGTH, ETAG].iter().for_each(|name| drop(parts.headers.remove(name)));
                Bytes::from(edited)
            }
            None => whole,
        };
        Ok(Response::from_parts(parts, Either::Left(Full::new(body))))
    }

    /// The body of the endpoint's answer, if that is 200.
    pub(super) async fn fetch(
        &self,
        upstream: &Upstream,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Option<Bytes>, ApiError> {
        PARTIAL.iter().for_each(|name| drop(request.headers_mut().remove(name)));
        let Sent { answer, held, .. } = self.send(upstream, request, peer).await?;
        if answer.status() != StatusCode::OK {
            return Ok(None);
        }
        Ok(Some(held.whole(upstream, answer.into_body()).await?))
    }

    async fn send(
        &self,
        upstream: &Upstream,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Sent, ApiError> {
        let mut passage = Passage::begin(self.broker.metrics(), &request);
        let client = hyper::upgrade::on(&mut request);
        let asks = headers::inbound(request.headers_mut(), peer, self.about.secure);
        let sent = exchange(upstream, request, &passage).await;
        let (answer, slot, gate) = sent.inspect_err(|error| passage.failed(error))?;
        passage.answered(answer.status());
        Ok(Sent { answer, client: asks.then_some(client), held: Held { passage, _slot: slot, _gate: gate } })
    }
}

/// The answer to a request whose headers are the endpoint's already, and what is to be held until it is through.
async fn exchange(
    upstream: &Upstream,
    request: Request<Incoming>,
    passage: &Passage,
) -> Result<(Response<Incoming>, Slot, Option<Gate>), UpstreamError> {
    let slot = upstream.slot().await?;
    let waits = headers::waits(request.headers()) && !request.body().is_end_stream();
    let activity = Activity::default();
    let (parts, body) = request.into_parts();
    let mut body = Upload::new(body, activity.clone(), upstream.limits().idle, passage.up());
    let mut request = Request::from_parts(parts, ());
    let gate = waits.then(|| body.wait(&mut request));
    let answer = upstream.send(request.map(|()| body.into()), &activity).await?;
    if let Some(gate) = &gate {
        gate.answered();
    }
    Ok((answer, slot, gate))
}

impl Held {
    /// The whole body of an answer that something is to be added to.
    async fn whole(&self, upstream: &Upstream, body: Incoming) -> Result<Bytes, UpstreamError> {
        let whole = upstream.whole(body, LONGEST_MERGED).await;
        match &whole {
            Ok(whole) => self.passage.down().inc_by(whole.len() as u64),
            Err(_) => self.passage.cut_off(ProxySide::Endpoint),
        }
        whole
    }
}

/// Puts the service's own credential in place of the caller's, which the endpoint does not know. The path is written anew, so that
/// it is the one whose rights were checked here however it was spelled; one that could be read as another is refused.
pub(super) fn as_service<B>(upstream: &Upstream, request: &mut Request<B>) -> Result<(), ApiError> {
    let path = query::plain_path(request.uri().path()).ok_or(ApiError::NoRoute)?;
    let own = upstream.own_credential().map_err(|error| {
        tracing::error!(%error, "the credential for the endpoint cannot be used");
        ApiError::NoCredential
    })?;
    request.headers_mut().insert(AUTHORIZATION, own);
    *request.uri_mut() = query::without_credential(&path, request.uri()).ok_or(ApiError::NoRoute)?;
    Ok(())
}

/// Likewise, unless the endpoint knows the caller, whose own credential it then judges.
pub(super) fn as_service_unless_known<B>(
    upstream: &Upstream,
    request: &mut Request<B>,
    identity: &Identity,
) -> Result<(), ApiError> {
    if identity.is_endpoints() { Ok(()) } else { as_service(upstream, request) }
}

fn passed(answer: Response<Incoming>, upstream: &Upstream, held: Held) -> Answer {
    let (mut parts, body) = answer.into_parts();
    headers::outbound(&mut parts.headers, false);
    Response::from_parts(parts, download::download(body, upstream.limits().idle, held))
}

fn switched(mut answer: Response<Incoming>, client: OnUpgrade, held: Held) -> Answer {
    tunnel::join(client, hyper::upgrade::on(&mut answer), held);
    let (mut parts, _) = answer.into_parts();
    headers::outbound(&mut parts.headers, true);
    Response::from_parts(parts, Either::Left(Full::default()))
}
