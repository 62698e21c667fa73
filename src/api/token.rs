//! `GET /api/v3/users/NAME/token` and `GET /api/v3/machines/UUID/token`: issues tokens, optionally with fewer rights.

use std::{fmt, mem};

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::body::{Fields, object};
use super::{Api, ApiError, answer, query};
use crate::auth::{Identity, Issued, TokenRequest, parse_ttl};
use crate::clock;
use crate::json::Validator;
use crate::transport::listener::Answer;

/// Maximum length in bytes of the body of a token request, which contains only a few names.
const WISH_BYTES: usize = 64 << 10;

/// The parameters of a token request, with the same names in the query and in the body of a POST.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    ttl: Option<Ttl>,
    roles: Option<String>,
    scope: Option<String>,
    action: Option<String>,
    specific: Option<String>,
}

/// A lifetime: a number of seconds, or a text with a unit.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Ttl {
    Seconds(u64),
    Text(String),
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => seconds.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl Fields for Wanted {
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("ttl", "a number of seconds, or a string such as `30m`"),
        ("roles", "a string: names of roles, separated by commas"),
        ("scope", "a string: scopes, separated by commas"),
        ("action", "a string: actions, separated by commas"),
        ("specific", "a string: keys, separated by commas"),
    ];
}

impl Wanted {
    /// Reads the parameters of a query. A slip in a name would yield a token that is not narrowed, so it is refused.
    fn from_query(text: Option<&str>) -> Result<Self, ApiError> {
        let mut wanted = Self::default();
        let mut seen = [false; Self::FIELDS.len()];
        for (given, value) in query::pairs(text) {
            let Some(at) = Self::FIELDS.iter().position(|(name, _)| is_meant(name, &given)) else { continue };
            let name = Self::FIELDS[at].0;
            if given != name {
                let given: String = given.chars().take(16).collect();
                return Err(ApiError::Bad(format!("unknown parameter {given:?}: did you mean {name:?}?")));
            }
            if mem::replace(&mut seen[at], true) {
                return Err(ApiError::Bad(format!("the parameter {name:?} occurs more than once")));
            }
            // As everywhere in queries, an empty value is the same as none.
            let value = Some(value.into_owned()).filter(|value| !value.is_empty());
            match name {
                "ttl" => wanted.ttl = value.map(Ttl::Text),
                "roles" => wanted.roles = value,
                "scope" => wanted.scope = value,
                "action" => wanted.action = value,
                _ => wanted.specific = value,
            }
        }
        Ok(wanted)
    }

    fn request(self) -> Result<TokenRequest, ApiError> {
        let ttl = self.ttl.map(|ttl| parse_ttl(&ttl.to_string())).transpose();
        let list = |text: String| -> Vec<String> { text.split(',').map(|name| name.trim().to_owned()).collect() };
        Ok(TokenRequest {
            ttl: ttl.map_err(|error| ApiError::Bad(format!("ttl: {error}")))?,
            roles: self.roles.map(list).unwrap_or_default(),
            scope: self.scope,
            action: self.action,
            specific: self.specific,
        })
    }
}

impl Api {
    pub(super) fn user_token(&self, query: Option<&str>, name: &str, identity: &Identity) -> Result<Answer, ApiError> {
        let request = Wanted::from_query(query)?.request()?;
        Ok(issued(&self.authority.issue(identity, name, &request, clock::now())?))
    }

    pub(super) async fn post_user_token(
        &self,
        request: Request<Incoming>,
        name: &str,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        // The body is not read if the caller may not have the token anyway.
        self.authority.check_issue(identity, name)?;
        let body = self.read_body(request, WISH_BYTES.min(self.limits.body_bytes)).await?;
        let text = Validator::default().validate(&body.bytes).map_err(|error| ApiError::Bad(error.to_string()))?;
        let wanted: Wanted = object(text.as_bytes())?;
        Ok(issued(&self.authority.issue(identity, name, &wanted.request()?, clock::now())?))
    }

    pub(super) fn machine_token(
        &self,
        query: Option<&str>,
        uuid: &str,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        let request = Wanted::from_query(query)?.request()?;
        Ok(issued(&self.authority.issue_machine(identity, uuid, &request, clock::now())?))
    }
}

/// Returns whether a name is this one, but for the case of its letters and an `s` at its end.
fn is_meant(name: &str, given: &str) -> bool {
    let stem = |name: &str| name.strip_suffix(['s', 'S']).unwrap_or(name).to_ascii_lowercase();
    given.len() <= name.len() + 1 && stem(given) == stem(name)
}

fn issued(issued: &Issued) -> Answer {
    let body = json!({"Token": issued.token.expose(), "Info": issued.info});
    answer::json(StatusCode::OK, body.to_string())
}
