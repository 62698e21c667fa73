//! `GET /api/v3/info`: describes this server.

use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use super::proxy::{Inquiry, merge};
use super::{Api, ApiError, answer};
use crate::auth::Identity;
use crate::endpoint::http::Upstream;
use crate::transport::caller::Caller;
use crate::transport::listener::Answer;

/// Features that clients check before they use them.
const FEATURES: [&str; 7] =
    ["api-v3", "sane-exit-codes", "roles", "tenants", "websocket-changed-filter", "websocket-since", "hydrant"];

/// The properties of this server that do not change while it runs.
#[derive(Debug, Clone)]
pub struct About {
    /// The id of this data directory.
    pub id: String,
    /// The first address the server listens on.
    pub address: SocketAddr,
    /// Whether clients connect over TLS.
    pub secure: bool,
}

impl Api {
    /// Returns this server's info or, in front of an endpoint, the endpoint's with ours added.
    pub(super) async fn info(
        &self,
        request: Request<Incoming>,
        caller: &Caller,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        self.require(identity, "info", "get", "")?;
        let Some(upstream) = &self.upstream else { return Ok(self.own_info()) };
        self.their_info(upstream, self.as_service(upstream, &request)?, caller).await
    }

    /// Returns the endpoint's info with ours added; the endpoint checks the request's credential.
    pub(super) async fn their_info(
        &self,
        upstream: &Upstream,
        request: Inquiry,
        caller: &Caller,
    ) -> Result<Answer, ApiError> {
        self.forward_edited(upstream, request, caller, |theirs| merge::info(theirs, &self.extras())).await
    }

    /// Returns what is added to the endpoint's info.
    fn extras(&self) -> merge::Extras {
        let text = |value: Value| value.to_string();
        merge::Extras {
            features: FEATURES.iter().map(|feature| text(json!(feature))).collect(),
            stats: self.stats().into_iter().map(text).collect(),
        }
    }

    fn stats(&self) -> [Value; 2] {
        let metrics = self.broker.metrics();
        let count = |name: &str, count: i64| json!({"name": name, "count": count});
        [
            count("connections.count", metrics.connections.get()),
            count("registrations.count", metrics.registrations.get()),
        ]
    }

    fn own_info(&self) -> Answer {
        let info = json!({
            "arch": arch(),
            "os": std::env::consts::OS,
            "version": concat!("v", env!("CARGO_PKG_VERSION"), "+hydrant"),
            "id": self.about.id,
            "local_id": self.about.id,
            "api_port": self.about.address.port(),
            "address": self.about.address.ip().to_string(),
            "features": FEATURES,
            "stats": self.stats(),
            "scopes": scopes(),
            "sequence": self.broker.history().position().to_string(),
            "replay_from": self.broker.history().oldest().map(|time| time.to_string()),
        });
        answer::json(StatusCode::OK, info.to_string())
    }
}

/// Returns the claims that this server itself checks, by scope and action, in DRP's form.
fn scopes() -> serde_json::Value {
    json!({
        "connections": {"list": {}, "get": {}, "delete": {}},
        "events": {"post": {}, "impersonate": {}},
        "info": {"get": {}},
        "machines": {"token": {}},
        "users": {"get": {}, "password": {}, "token": {}},
    })
}

/// Returns Go's name of the architecture, which DRP uses.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
