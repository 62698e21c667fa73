//! The REST API, and the entry point of websockets.
//!
//! Hydrant's own routes are all below `/api/v3` and declared in one table ([`routes`]), except the console's files
//! ([`console`]):
//!
//! | route | module |
//! |---|---|
//! | `GET /ws` (upgrade) | [`websocket`] |
//! | `GET /events` (Server-Sent Events, NDJSON) | [`stream`] |
//! | `POST /events` | [`events`] |
//! | `GET /info` | [`info`] |
//! | `GET /users/NAME/token`, `POST` likewise, `GET /machines/UUID/token` | [`token`] |
//! | `/connections` and its relatives | [`connections`] |
//! | `/hydrant/status`, `/hydrant/registrations` | [`status`] |
//! | `POST /hydrant/explain` | [`explain`] |
//! | `/hydrant/openapi.json`, `/hydrant/asyncapi.json` | [`openapi`] |
//! | `POST /hydrant/check`, `GET /hydrant/me` | [`check`], [`me`] |
//! | everything else, if there is an endpoint upstream | [`proxy`] |
//!
//! Contract: every answer below 400 except streams has `Content-Type: application/json`, even without a body (drpcli
//! fails otherwise); every answer from 400 on has a DRP Error as its body. The query string, which may contain a
//! credential, never appears in a log, metric or error. `/metrics`, `/healthz` and `/readyz` have a separate listener
//! ([`probe`]).

mod access;
pub mod answer;
mod body;
mod check;
mod client_gauge;
mod connections;
mod console;
mod cors;
mod error;
mod events;
mod explain;
mod failures;
mod http_shares;
mod inflate;
mod info;
mod lanes;
mod list_filter;
mod login;
mod long_answers;
mod me;
mod message;
pub mod openapi;
pub mod probe;
mod proxy;
mod query;
pub mod quota;
mod refusals;
mod routes;
mod snapshot;
pub mod status;
mod stream;
mod token;
mod turn;
mod websocket;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Method, Request};
use smallvec::SmallVec;

pub use error::ApiError;
pub use info::About;

use crate::auth::{Authority, Identity};
use crate::broker::connection::Connection;
use crate::broker::{Broker, PublishError};
use crate::endpoint::http::Upstream;
use crate::endpoint::identity::Delegation;
use crate::fanout::permit::ConnectionLimit;
use crate::fanout::pool::Pool;
use crate::overflow::Overflow;
use crate::transport::caller::Caller;
use crate::transport::listener::{Answer, Answering, Handler};
use crate::{AUDIT, clock, tasks};
use body::Bodies;
use client_gauge::ClientGauge;
use connections::{Listed, MissingError};
use cors::Visit;
use failures::Failures;
use http_shares::HttpShares;
use lanes::Lanes;
use long_answers::LongAnswers;
use proxy::merge::Theirs;
use proxy::vouch::Vouched;
use quota::PostQuota;
use refusals::Refusals;
use routes::{Access, Found, Route};
use snapshot::Snapshot;
use status::Status;
use turn::Turns;

/// The path prefix of the API.
const API: &str = "/api/v3/";

/// Number of segments of a path that are kept without an allocation.
const SEGMENTS: usize = 4;

/// The decoded segments of a path.
type Segments<'p> = SmallVec<[Cow<'p, str>; SEGMENTS]>;

/// Limits on requests.
#[derive(Debug, Clone, Copy)]
pub struct ApiLimits {
    /// Maximum length of a request's body in bytes.
    pub body_bytes: usize,
    /// Maximum length of a posted event in bytes.
    pub event_bytes: usize,
    /// Maximum number of events per POST.
    pub post_events: usize,
    /// The number of file descriptors that clients may have; one principal gets a part of them for HTTP.
    pub descriptors: u64,
}

/// Whether the endpoint receives the client's address in `X-Forwarded-For`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedFor {
    /// The client's address is appended to the header.
    Sent,
    /// The header is removed.
    LeftOut,
}

/// The state of the API's routes. Shared by all listeners.
#[derive(Debug)]
pub struct Api {
    parts: ApiParts,
    client_gauge: Arc<ClientGauge>,
    http_shares: HttpShares,
    refusals: Refusals,
    bodies: Bodies,
    long_answers: LongAnswers,
    vouched: Vouched,
    failures: Failures,
    status: Status,
    /// All connections, for callers that share them.
    present: Snapshot<Vec<Listed>>,
    /// The endpoint's connections, for callers for whom the service asks.
    theirs: Snapshot<Vec<Theirs>, MissingError>,
    /// Requests for the endpoint's connections that callers do not share.
    unshared: Lanes,
    /// Searches for a connection by its address.
    searching: Lanes,
    /// Turns to explain an event or to check a registration.
    explaining: Turns,
    /// Turns to look for the connections that have a registration.
    finding: Turns,
    /// Turns to have a shard report on the registrations of a connection.
    inspecting: Turns,
    /// Turns to parse the registrations of a stream.
    parsing: Turns,
}

impl std::ops::Deref for Api {
    type Target = ApiParts;

    fn deref(&self) -> &ApiParts {
        &self.parts
    }
}

/// The parts of an [`Api`].
#[derive(Debug)]
pub struct ApiParts {
    /// Accepts events.
    pub broker: Arc<Broker>,
    /// Checks credentials.
    pub authority: Arc<Authority>,
    /// Serves websockets.
    pub pool: Arc<Pool>,
    /// Limits the number of websockets and streams, in all and of each principal.
    pub connection_limit: ConnectionLimit,
    /// Limits the events that each principal posts.
    pub posts: PostQuota,
    /// Origins, besides the server's own, whose pages may use credentials that the browser adds by itself.
    pub allowed_origins: Vec<String>,
    /// Position in a chain of hydrants, 0 without upstreams; sent to clients that open a websocket.
    pub tier: u64,
    /// Interval between the pings of a connection; sent to clients that open a stream.
    pub ping: Duration,
    /// Whether connections are announced by events.
    pub connection_events: bool,
    /// What happens to a websocket that is a slow consumer, if neither its query nor a role says.
    pub overflow: Overflow,
    /// The policies that a websocket may choose in its query.
    pub query_overflow: Vec<Overflow>,
    /// Whether permessage-deflate is accepted.
    pub deflate: bool,
    /// Limits on requests.
    pub limits: ApiLimits,
    /// What `/info` reports.
    pub about: About,
    /// The endpoint that receives all requests not served here.
    pub upstream: Option<Arc<Upstream>>,
    /// Checks credentials that are not this server's own, at the endpoint `upstream`.
    pub delegation: Option<Arc<Delegation>>,
    /// Whether the endpoint receives the client's address.
    pub forwarded_for: ForwardedFor,
    /// Whether this server has users or tokens of its own.
    pub own_users: bool,
}

impl Handler for Api {
    fn left(&self, number: u64) {
        self.http_shares.left(number);
        for client in self.client_gauge.left(number) {
            self.announce("delete", &client);
        }
    }

    fn handle<'a>(&'a self, request: Request<Incoming>, caller: &'a Caller) -> Answering<'a> {
        Box::pin(self.answer(request, caller))
    }
}

impl Api {
    async fn answer(&self, request: Request<Incoming>, caller: &Caller) -> Answer {
        let peer = caller.peer;
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let path = uri.path();
        let visit = Visit::of(&request);
        let mut answer = self.route(request, caller).await.unwrap_or_else(|error| error.answer(&method, path));
        if path.starts_with(API) {
            visit.grant(&self.allowed_origins, answer.headers_mut());
        }
        self.broker.metrics().http_responses.count(answer.status().as_u16());
        tracing::debug!(%method, path, status = answer.status().as_u16(), %peer, "request");
        answer
    }

    /// Creates an API without any clients.
    pub fn new(parts: ApiParts) -> Self {
        let body_bytes = parts.limits.body_bytes;
        let (bodies, long_answers) = (Bodies::new(body_bytes), LongAnswers::new(body_bytes));
        let http_shares = HttpShares::new(parts.limits.descriptors);
        Self {
            parts,
            client_gauge: Arc::default(),
            http_shares,
            refusals: Refusals::default(),
            bodies,
            long_answers,
            vouched: Vouched::default(),
            failures: Failures::default(),
            status: Status::new(Instant::now()),
            present: Snapshot::default(),
            theirs: Snapshot::default(),
            unshared: Lanes::new(connections::UNSHARED),
            searching: Lanes::new(connections::SEARCHES),
            explaining: Turns::new("explanations"),
            finding: Turns::new("searches"),
            inspecting: Turns::new("questions about connections"),
            parsing: Turns::new("registrations"),
        }
    }

    /// Announces an HTTP connection by an event. While the inboxes are full the event is dropped; the list is
    /// unaffected.
    fn announce(&self, action: &str, connection: &Connection) {
        if !self.connection_events {
            return;
        }
        if let Err(PublishError::Full { .. }) = self.broker.announce(action, connection, clock::now()) {
            self.failures.omitted(action, connection.remote_addr);
        }
    }

    /// Works for a while on this thread, which must not delay events that wait for the shards to be woken.
    fn at_length<T>(&self, work: impl FnOnce() -> T) -> T {
        at_length(&self.broker, work)
    }

    async fn route(&self, request: Request<Incoming>, caller: &Caller) -> Result<Answer, ApiError> {
        message::check(&request)?;
        let uri = request.uri().clone();
        let path = uri.path();
        if let Some(answer) = cors::preflight(&request).filter(|_| path.starts_with(API)) {
            return Ok(answer);
        }
        if let Some(answer) = console::find(request.method(), path, self.upstream.is_none()) {
            return Ok(answer);
        }
        let segments: Option<Segments<'_>> =
            path.strip_prefix(API).map(|rest| rest.split('/').map(query::decoded).collect());
        let ours: SmallVec<[&str; SEGMENTS]> = segments.iter().flatten().map(AsRef::as_ref).collect();
        // Without a stream's media type the path may be one of the endpoint's.
        let is_ours = |found: &Found<'_>| {
            found.route != Route::Stream || self.upstream.is_none() || stream::form(&request).is_some()
        };
        match (routes::find(request.method(), &ours).filter(is_ours), &self.upstream) {
            (Some(Found { route, access: Access::Anybody, .. }), _) => open(route),
            (Some(found), _) => self.serve(found, request, caller).await,
            (None, Some(upstream)) => {
                if segments.is_some() {
                    self.forward_and_check_trust(upstream, request, caller).await
                } else {
                    self.forward(upstream, request, caller).await
                }
            }
            (None, None) => {
                if segments.is_some() {
                    self.authenticate(&request, caller).await?;
                }
                Err(ApiError::NoRoute)
            }
        }
    }

    async fn serve(
        &self,
        Found { route, value, .. }: Found<'_>,
        mut request: Request<Incoming>,
        caller: &Caller,
    ) -> Result<Answer, ApiError> {
        if self.is_endpoints(route, None) {
            return self.pass_to_endpoint(route, request, caller).await;
        }
        let is_lasting = matches!(route, Route::Websocket | Route::Stream);
        if request.method() == Method::HEAD && !is_lasting {
            // hyper omits the body.
            *request.method_mut() = Method::GET;
        }
        let peer = caller.peer;
        let identity = self.authenticate(&request, caller).await?;
        if self.is_endpoints(route, Some(&identity)) {
            return self.pass_to_endpoint(route, request, caller).await;
        }
        if !is_lasting && let Some(connection) = self.client_gauge.came(caller, &identity) {
            tracing::info!(target: AUDIT, principal = %identity.principal(), %peer, "login");
            self.announce("create", &connection);
        }
        if is_lasting {
            return self.perform((route, value), request, caller, identity).await;
        }
        let answer = self.perform((route, value), request, caller, Arc::clone(&identity)).await?;
        self.long_answers.hold(answer, identity.principal())
    }

    async fn perform(
        &self,
        (route, value): (Route, &str),
        mut request: Request<Incoming>,
        caller: &Caller,
        identity: Arc<Identity>,
    ) -> Result<Answer, ApiError> {
        let query = request.uri().query();
        match route {
            Route::Connections => self.list_connections(request, caller, &identity).await,
            Route::Connection => self.get_connection(value, request, caller, &identity).await,
            Route::DeleteConnection => self.delete_connection(value, request, caller, &identity).await,
            Route::RunnerConnections(scope) => self.runner_connections(scope, value, request, caller, &identity).await,
            Route::Websocket if request.method() == Method::GET => {
                self.websocket(&mut request, caller.peer, Arc::unwrap_or_clone(identity))
            }
            Route::Websocket => Err(ApiError::NotAHandshake(crate::transport::upgrade::UpgradeError::Method)),
            Route::Stream => self.stream(&request, caller, Arc::unwrap_or_clone(identity)).await,
            Route::Events => self.post_events(request, &identity).await,
            Route::Status => self.get_status(request.headers(), &identity).await,
            Route::Registrations => self.list_registrations(request.headers(), query, &identity).await,
            Route::Explain => self.explain(request, &identity).await,
            Route::Check => self.check(request, &identity).await,
            Route::Me => Ok(me::me(&identity, &*self.authority.access(&identity)?)),
            Route::Info => self.info(request, caller, &identity).await,
            Route::UserToken => self.user_token(query, value, &identity),
            Route::PostUserToken => self.post_user_token(request, value, &identity).await,
            Route::MachineToken => self.machine_token(query, value, &identity),
            Route::OpenApi | Route::AsyncApi => open(route),
        }
    }
}

/// See [`Api::at_length`].
fn at_length<T>(broker: &Broker, work: impl FnOnce() -> T) -> T {
    broker.wake_shards();
    tasks::block_in_place(work)
}

/// Returns the documents, which need no credentials.
fn open(route: Route) -> Result<Answer, ApiError> {
    match route {
        Route::OpenApi => Ok(openapi::answer(&openapi::OPENAPI)),
        Route::AsyncApi => Ok(openapi::answer(&openapi::ASYNCAPI)),
        _ => Err(ApiError::NoRoute),
    }
}

#[cfg(test)]
impl Api {
    /// Takes the turns of all kinds of expensive requests until the result is dropped.
    pub(crate) async fn take_all_turns(&self) -> impl Send + use<> {
        let nobody = crate::auth::Principal::user("nobody").expect("a name");
        let Self { explaining, finding, inspecting, parsing, .. } = self;
        let turns = [explaining, finding, inspecting, parsing].map(|turns| turns.take(&nobody));
        futures_util::future::join_all(turns).await
    }
}
