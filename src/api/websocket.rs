//! `GET /api/v3/ws`: turns a request into a websocket owned by a shard. Also parses the options of a connection for
//! streams ([`super::stream`]).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Api, ApiError, query};
use crate::auth::{Identity, Rights};
use crate::broker::history::{Position, SinceError, Start};
use crate::clock;
use crate::endpoint::events::TIER_HEADER;
use crate::fanout::control::Newcomer;
use crate::fanout::permit::Permit;
use crate::fanout::socket::Accepted;
use crate::metrics::{Limit, Rejection};
use crate::overflow::{Overflow, OverflowError};
use crate::transport::listener::Answer;
use crate::transport::upgrade::{self, UpgradeError};
use crate::websocket::frame::Encoding;

/// The position of the next event, for a later `?since=`.
const POSITION: HeaderName = HeaderName::from_static("x-hydrant-sequence");

/// The number of registrations in the query that will be answered, so that the client need not send them.
const REGISTERED: HeaderName = HeaderName::from_static("x-hydrant-registered");

/// What is known about a connection before it is opened.
pub(super) struct Opening {
    /// The position of the next event.
    position: Position,
    pub(super) registrations: Vec<Box<str>>,
    warnings: bool,
    overflow: Overflow,
    rights: Rights,
    permit: Permit,
}

impl Opening {
    /// Returns the headers of the answer that describe the connection.
    pub(super) fn headers(&self) -> HeaderMap {
        let position = HeaderValue::try_from(self.position.to_string()).expect("digits and a colon");
        let mut headers = HeaderMap::new();
        headers.insert(POSITION, position);
        if !self.registrations.is_empty() {
            headers.insert(REGISTERED, self.registrations.len().into());
        }
        headers
    }

    /// Returns the connection for a shard, without a head to be written or bytes that came early.
    pub(super) fn newcomer(
        self,
        socket: Accepted,
        encoding: Encoding,
        (identity, peer): (Identity, SocketAddr),
        since: Option<Start>,
    ) -> Newcomer {
        let Self { registrations, warnings, overflow, rights, permit, .. } = self;
        Newcomer {
            socket,
            head: None,
            early: Bytes::new(),
            encoding,
            identity,
            rights,
            overflow,
            peer,
            since,
            warnings,
            registrations,
            permit,
        }
    }
}

impl Api {
    pub(super) fn websocket(
        &self,
        request: &mut Request<Incoming>,
        peer: SocketAddr,
        identity: Identity,
    ) -> Result<Answer, ApiError> {
        let rejected = |reason, error: ApiError| {
            self.broker.metrics().rejected(reason);
            error
        };
        let bad = |error: UpgradeError| rejected(Rejection::BadRequest, error.into());
        upgrade::check(request).map_err(bad)?;
        let since = self.since(request.uri().query()).map_err(|error| rejected(Rejection::BadRequest, error))?;
        let opening = self.opening(request.uri().query(), &identity)?;
        let headers = opening.headers();
        let pool = Arc::clone(&self.pool);
        let then = move |socket: crate::transport::socket::Socket, early, encoding| async move {
            let Ok((stream, tls)) = socket.into_parts() else { return };
            let newcomer = opening.newcomer(Accepted { stream, tls }, encoding, (identity, peer), since);
            pool.adopt(Box::new(Newcomer { early, ..newcomer }));
        };
        let mut answer = upgrade::accept(request, self.deflate, then).map_err(bad)?;
        answer.headers_mut().extend(headers);
        answer.headers_mut().insert(TIER_HEADER, self.tier.into());
        Ok(answer)
    }

    /// Parses the options of a new connection from the query, and gets a permit for it.
    pub(super) fn opening(&self, query: Option<&str>, identity: &Identity) -> Result<Opening, ApiError> {
        let rejected = |reason, error: ApiError| {
            self.broker.metrics().rejected(reason);
            error
        };
        let position = self.broker.history().position();
        let registrations = query::registrations(query).map_err(|error| rejected(Rejection::BadRequest, error))?;
        let overflow = self.overflow(query, identity).map_err(|error| rejected(Rejection::BadRequest, error))?;
        let Some(permit) = self.connection_limit.admit() else {
            return Err(rejected(Rejection::Limited, ApiError::TooManyConnections));
        };
        let rights = self.authority.rights(identity)?;
        let own = rights.access().limits().connections();
        let permit = permit.of(identity.principal(), own).map_err(|limit| {
            self.broker.metrics().limited(Limit::Connections, 1);
            rejected(Rejection::Limited, ApiError::Sockets { limit })
        })?;
        let warnings = query::value(query, "warnings").is_none_or(|said| said != "0");
        Ok(Opening { position, registrations, warnings, overflow, rights, permit })
    }

    /// Parses from where the client wants a replay.
    pub(super) fn since(&self, query: Option<&str>) -> Result<Option<Start>, ApiError> {
        // An empty one is no time either: who has lost the time would otherwise miss events and not know it.
        let Some(text) = query::first(query, "since") else { return Ok(None) };
        // An unencoded `+` of a time zone arrives as a space.
        let text = text.replace(' ', "+");
        let bad = |error: SinceError| ApiError::Bad(error.to_string());
        let since = text.parse().map_err(bad)?;
        self.broker.resolve(since, &text, clock::both()).map(Some).map_err(bad)
    }

    /// Returns the policy for this websocket if it is a slow consumer: the query's if it may be chosen, otherwise that
    /// of the caller's roles, otherwise the configured one.
    fn overflow(&self, query: Option<&str>, identity: &Identity) -> Result<Overflow, ApiError> {
        let roles = self.authority.overflow(identity);
        let own = roles.policy.unwrap_or(self.overflow);
        let Some(asked) = query::value(query, "overflow") else { return Ok(own) };
        let asked = asked.parse().map_err(|error: OverflowError| ApiError::Bad(error.to_string()))?;
        let may_ask = |policy| {
            policy == own
                || match &roles.askable {
                    Some(askable) => askable.contains(&policy),
                    None => self.query_overflow.contains(&policy),
                }
        };
        if may_ask(asked) {
            return Ok(asked);
        }
        let allowed = Overflow::ALL.into_iter().filter(|&policy| may_ask(policy)).map(Overflow::name);
        let allowed = allowed.collect::<Vec<_>>().join(", ");
        Err(ApiError::Bad(format!("overflow={} is not allowed here; allowed: {allowed}", asked.name())))
    }
}
