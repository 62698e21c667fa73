//! REST, and the door to the websocket.
//!
//! Routes, all below `/api/v3` and all needing credentials:
//!
//! | route | module |
//! |---|---|
//! | `GET /ws` (upgrade) | [`websocket`] |
//! | `POST /events` | [`events`] |
//! | `GET /info` | [`info`] |
//! | `GET /users/NAME/token`, `POST` likewise | [`token`] |
//!
//! Contract: every answer below 400 says `Content-Type: application/json`, bodies or not (drpcli fails otherwise); every
//! answer from 400 on has a DRP Error as its body. The query string, which may hold a credential, reaches no log, metric or
//! error. `/metrics`, `/healthz` and `/readyz` have a listener of their own ([`probe`]).

mod access;
pub mod answer;
mod error;
mod events;
mod info;
pub mod probe;
mod query;
mod token;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request};

pub use error::ApiError;
pub use info::About;

use crate::auth::Authority;
use crate::broker::Broker;
use crate::transport::listener::{Answer, Handler};
use crate::transport::pool::{Admission, Pool};

/// Bounds of requests.
#[derive(Debug, Clone, Copy)]
pub struct ApiLimits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of one event as posted.
    pub event_bytes: usize,
}

/// What the routes work with. Shared by all listeners.
#[derive(Debug)]
pub struct Api {
    /// Takes events.
    pub broker: Arc<Broker>,
    /// Checks credentials.
    pub authority: Arc<Authority>,
    /// Takes websockets.
    pub pool: Arc<Pool>,
    /// Bounds websockets.
    pub admission: Admission,
    /// Origins besides the request's own from which a browser's own credentials are taken.
    pub allowed_origins: Vec<String>,
    /// Bounds of requests.
    pub limits: ApiLimits,
    /// What `/info` says.
    pub about: About,
}

impl Handler for Api {
    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = self.route(request, peer).await.unwrap_or_else(|error| error.answer(&method, &path));
        self.broker.metrics().http_responses.with_label_values(&[answer.status().as_str()]).inc();
        tracing::debug!(%method, path, status = answer.status().as_u16(), %peer, "request");
        answer
    }
}

impl Api {
    async fn route(&self, mut request: Request<Incoming>, peer: SocketAddr) -> Result<Answer, ApiError> {
        let path = request.uri().path().to_owned();
        let Some(rest) = path.strip_prefix("/api/v3/") else { return Err(ApiError::NoRoute) };
        let segments: Vec<String> = rest.split('/').map(query::decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let identity = self.authenticate(&request, peer).await?;
        match (request.method(), segments.as_slice()) {
            (&Method::GET, ["ws"]) => self.websocket(&mut request, peer, identity),
            (_, ["ws"]) => Err(ApiError::NotAHandshake(crate::transport::upgrade::UpgradeError::Method)),
            (&Method::POST, ["events"]) => self.post_events(request, &identity).await,
            (&Method::GET, ["info"]) => self.info(&request, &identity),
            (&Method::GET, ["users", name, "token"]) => self.user_token(request.uri().query(), name, &identity),
            (&Method::POST, ["users", name, "token"]) => self.post_user_token(request, name, &identity).await,
            (&Method::GET, ["machines", uuid, "token"]) => self.machine_token(request.uri().query(), uuid, &identity),
            _ => Err(ApiError::NoRoute),
        }
    }
}
