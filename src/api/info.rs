//! `GET /api/v3/info`: what this server is.

use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde_json::json;

use super::{Api, ApiError, answer};
use crate::auth::Identity;
use crate::transport::listener::Answer;

/// What clients look for before they use something.
const FEATURES: [&str; 7] =
    ["api-v3", "sane-exit-codes", "roles", "tenants", "websocket-changed-filter", "websocket-since", "hydrant"];

/// What stays the same while the server runs.
#[derive(Debug, Clone)]
pub struct About {
    /// Identifies this data directory.
    pub id: String,
    /// The first address that is listened on.
    pub address: SocketAddr,
}

impl Api {
    pub(super) fn info(&self, _request: &Request<Incoming>, identity: &Identity) -> Result<Answer, ApiError> {
        self.require(identity, "info", "get", "")?;
        let metrics = self.broker.metrics();
        let count = |name: &str, count: i64| json!({"name": name, "count": count});
        let info = json!({
            "arch": arch(),
            "os": std::env::consts::OS,
            "version": concat!("v", env!("CARGO_PKG_VERSION"), "+hydrant"),
            "id": self.about.id,
            "local_id": self.about.id,
            "api_port": self.about.address.port(),
            "address": self.about.address.ip().to_string(),
            "features": FEATURES,
            "stats": [
                count("connections.count", metrics.connections.get()),
                count("registrations.count", metrics.registrations.get()),
            ],
            "scopes": scopes(),
            "sequence": self.broker.history().position().to_string(),
            "replay_from": self.broker.history().oldest().map(|time| time.to_string()),
        });
        Ok(answer::json(StatusCode::OK, info.to_string()))
    }
}

/// The claims that this server itself asks for, by scope and action, in DRP's form.
fn scopes() -> serde_json::Value {
    json!({
        "connections": {"list": {}, "get": {}, "delete": {}},
        "events": {"post": {}, "impersonate": {}},
        "info": {"get": {}},
        "machines": {"token": {}},
        "users": {"get": {}, "password": {}, "token": {}},
    })
}

/// Go's name of the architecture, which is what DRP tells.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
