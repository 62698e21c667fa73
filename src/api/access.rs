//! Authenticates requests: credentials from the header, the query or the TLS handshake, and the check of origins.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN, UPGRADE};
use hyper::{Method, Request};

use super::http_shares::Full;
use super::{Api, ApiError, cors, query};
use crate::auth::{AuthError, Credential, Identity, Recognized};
use crate::metrics::{Limit, Rejection};
use crate::transport::caller::Caller;
use crate::{AUDIT, clock};

impl Api {
    /// Checks the credentials of a request: the `Authorization` header if there is one, otherwise `token=` or `Token=`,
    /// otherwise the client's certificate.
    pub(super) async fn authenticate(
        &self,
        request: &Request<Incoming>,
        caller: &Caller,
    ) -> Result<Arc<Identity>, ApiError> {
        let identified = self.identify(request, caller).await;
        let result = identified.and_then(|identity| self.share(&identity, caller).map(|()| identity));
        if result.is_ok() {
            caller.trust();
        }
        result.inspect_err(|error| self.note_refusal(error, request, caller))
    }

    /// Counts a connection for its principal once it has shown valid credentials.
    fn share(&self, identity: &Identity, caller: &Caller) -> Result<(), ApiError> {
        if caller.forwarded.is_some() || caller.is_counted() {
            return Ok(());
        }
        self.http_shares.came(caller.number, identity.principal()).map_err(|Full { limit }| {
            self.broker.metrics().limited(Limit::Connections, 1);
            ApiError::HttpConnections { limit }
        })?;
        caller.count();
        Ok(())
    }

    fn note_refusal<B>(&self, error: &ApiError, request: &Request<B>, caller: &Caller) {
        let peer = caller.peer;
        tracing::info!(target: AUDIT, %peer, path = request.uri().path(), %error, "refused");
        self.refusals.report(error, peer, request.uri().path());
        self.broker.metrics().rejected(match error {
            ApiError::Auth(AuthError::Missing | AuthError::Malformed(_)) => Rejection::Unauthenticated,
            ApiError::Auth(
                AuthError::Throttled { .. }
                | AuthError::Unavailable
                | AuthError::EndpointAway
                | AuthError::EndpointHides(_),
            )
            | ApiError::HttpConnections { .. } => Rejection::Limited,
            _ => Rejection::Forbidden,
        });
    }

    /// Checks the origin of a request for the endpoint. Returns whether it has Basic credentials from a foreign page;
    /// unless that page itself put them there, it may not read the answer. Then the request may only read: a browser
    /// sends other requests, and opens websockets, with its own credentials without asking first.
    pub(super) fn check_forwarded<B>(&self, request: &Request<B>, caller: &Caller) -> Result<bool, ApiError> {
        let headers = request.headers();
        let is_basic = headers.get(AUTHORIZATION).is_some_and(|value| is_basic(value.as_bytes()));
        let checked = if is_basic { check_origin(headers, &self.allowed_origins) } else { Ok(()) };
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        match checked {
            Err(_) if reads && !headers.contains_key(UPGRADE) => Ok(true),
            checked => checked.map(|()| false).inspect_err(|error| self.note_refusal(error, request, caller)),
        }
    }

    async fn identify(&self, request: &Request<Incoming>, caller: &Caller) -> Result<Arc<Identity>, ApiError> {
        let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        if let Some(known) = header.and_then(|header| self.recognize(header, caller)) {
            if known.is_ambient {
                check_origin(request.headers(), &self.allowed_origins)?;
            }
            return Ok(known.identity);
        }
        let from_header = header.map(from_header).transpose()?.flatten();
        let header = header.filter(|_| from_header.is_some());
        let credential = from_header.map_or_else(|| elsewhere(request, caller), Ok)?;
        if (header.is_some() && credential.is_ambient()) || matches!(credential, Credential::Certificate(_)) {
            check_origin(request.headers(), &self.allowed_origins)?;
        }
        let generation = self.authority.generation();
        let peer = caller.peer.ip();
        let identity = Arc::new(self.login(credential.clone(), peer).await?);
        if let Some(header) = header {
            self.authority.remember(&caller.remembered, (header, generation), (&credential, peer), &identity);
        }
        Ok(identity)
    }

    /// Returns the caller if it has shown the same on this connection before.
    fn recognize(&self, header: &[u8], caller: &Caller) -> Option<Recognized> {
        self.authority.recognize(&caller.remembered, header, caller.peer.ip(), clock::both())
    }

    /// Returns whether the caller has a claim.
    pub(super) fn permits(
        &self,
        identity: &Identity,
        scope: &'static str,
        action: &'static str,
        specific: &str,
    ) -> Result<bool, ApiError> {
        Ok(self.authority.permits(identity, scope, action, specific)?)
    }

    /// Refuses a caller that lacks a claim.
    pub(super) fn require(
        &self,
        identity: &Identity,
        scope: &'static str,
        action: &'static str,
        specific: &str,
    ) -> Result<(), ApiError> {
        if self.permits(identity, scope, action, specific)? {
            return Ok(());
        }
        Err(ApiError::Forbidden { scope, action, specific: specific.to_owned() })
    }
}

fn from_header(value: &[u8]) -> Result<Option<Credential>, AuthError> {
    let text = std::str::from_utf8(value).unwrap_or("\u{fffd}");
    Ok(Credential::from_authorization(text)?)
}

/// Returns the credential of the query, otherwise that of the TLS handshake.
fn elsewhere(request: &Request<Incoming>, caller: &Caller) -> Result<Credential, AuthError> {
    let from_query = query::credential(request.uri().query()).and_then(|value| Credential::from_query(&value));
    from_query.or_else(|| caller.certificate.clone().map(Credential::Certificate)).ok_or(AuthError::Missing)
}

fn is_basic(authorization: &[u8]) -> bool {
    authorization.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"))
}

/// A browser adds Basic credentials and certificates by itself, even for a page of another site; they are accepted only
/// from pages of our own host and from allowed ones. A request without `Origin` does not come from a browser.
fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), ApiError> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().map_err(|_| ApiError::Origin)?.trim();
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    if own.is_some_and(|own| cors::is_own(origin, own)) || cors::is_allowed(origin, allowed) {
        return Ok(());
    }
    Err(ApiError::Origin)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn decision(origin: Option<&'static str>, allowed: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("drp.lab:8092"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        let allowed: Vec<String> = allowed.iter().map(|&origin| origin.to_owned()).collect();
        check_origin(&headers, &allowed).is_ok()
    }

    #[test]
    fn basic_credentials_need_the_own_or_an_allowed_origin() {
        for (origin, allowed, expected) in [
            (None, [].as_slice(), true),
            (Some("https://drp.lab:8092"), &[], true),
            (Some("https://DRP.lab:8092"), &[], true),
            (Some("http://drp.lab:8092"), &[], true),
            (Some("https://drp.lab"), &[], false),
            (Some("https://drp.lab:8093"), &[], false),
            (Some("https://evil.lab:8092"), &[], false),
            (Some("https://drp.lab:8092.evil.lab"), &[], false),
            (Some("https://evil.drp.lab:8092"), &[], false),
            (Some("null"), &[], false),
            (Some(""), &[], false),
            (Some("https://portal.rackn.io"), &["https://portal.rackn.io"], true),
            (Some("https://portal.rackn.io.evil"), &["https://portal.rackn.io"], false),
        ] {
            assert_eq!(decision(origin, allowed), expected, "{origin:?} with {allowed:?}");
        }
    }
}
