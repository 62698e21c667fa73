//! `GET /api/v3/hydrant/me`: who the caller is and what the caller may see.
//!
//! Contract: reveals nothing about other users, so it needs no claim.

use hyper::StatusCode;
use serde::Serialize;

use super::answer;
use crate::auth::{Access, Identity};
use crate::transport::listener::Answer;

/// The caller's identity and rights, as text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Me {
    principal: String,
    claims: Vec<String>,
    /// The claims that the caller's token is narrowed to.
    narrowing: Vec<String>,
    has_tenant: bool,
    expires: Option<String>,
}

/// Returns the answer.
pub(super) fn me(identity: &Identity, access: &Access) -> Answer {
    let (claims, narrowing) = access.claims();
    let me = Me {
        principal: identity.principal().as_str().to_owned(),
        claims,
        narrowing,
        has_tenant: access.has_tenant(),
        expires: identity.expires_at().map(|time| time.to_string()),
    };
    answer::json(StatusCode::OK, serde_json::to_vec(&me).expect("texts are always written"))
}
