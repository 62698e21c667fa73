//! `GET /api/v3/users/NAME/token` and `GET /api/v3/machines/UUID/token`: issues tokens, optionally with fewer rights.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::body::object;
use super::{Api, ApiError, answer, query};
use crate::auth::{Identity, Issued, TokenRequest, parse_ttl};
use crate::clock;
use crate::json::Validator;
use crate::transport::listener::Answer;

/// Maximum length in bytes of the body of a token request, which contains only a few names.
const WISH_BYTES: usize = 64 << 10;

/// The parameters of a token request as text, with the same names in the query and in the body of a POST.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    ttl: Option<String>,
    roles: Option<String>,
    scope: Option<String>,
    action: Option<String>,
    specific: Option<String>,
}

impl Wanted {
    fn from_query(text: Option<&str>) -> Self {
        let value = |name| query::value(text, name).map(std::borrow::Cow::into_owned);
        Self {
            ttl: value("ttl"),
            roles: value("roles"),
            scope: value("scope"),
            action: value("action"),
            specific: value("specific"),
        }
    }

    fn request(self) -> Result<TokenRequest, ApiError> {
        let ttl = self.ttl.map(|text| parse_ttl(&text)).transpose();
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
        let request = Wanted::from_query(query).request()?;
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
        let request = Wanted::from_query(query).request()?;
        Ok(issued(&self.authority.issue_machine(identity, uuid, &request, clock::now())?))
    }
}

fn issued(issued: &Issued) -> Answer {
    let body = json!({"Token": issued.token.expose(), "Info": issued.info});
    answer::json(StatusCode::OK, body.to_string())
}
