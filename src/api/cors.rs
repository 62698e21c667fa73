//! Which pages may use this server from a browser (CORS), and comparison of origins.
//!
//! Contract: without `allowed_origins` any page may read answers, but none may use credentials that the browser adds
//! by itself: portals send `Authorization` themselves. With `allowed_origins` only those pages may read answers, and
//! they may use a browser's own credentials too. Preflights are answered here, also for routes of an endpoint, because
//! this server decides about origins.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, Request};

use super::answer;
use crate::transport::listener::Answer;

/// The methods that a page may use.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// The headers that a page may send if its preflight lists none.
const HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, Content-Encoding, Accept, Last-Event-ID");

/// Headers of answers that a page may read, besides the CORS-safelisted ones.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Accept-Encoding, Date, ETag, Location, Retry-After, WWW-Authenticate, X-Hydrant-Incomplete, X-Hydrant-Ping, \
     X-Hydrant-Registered, X-Hydrant-Sequence",
);

/// How long a browser may cache a preflight, in seconds; the most that browsers accept.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Chromium's request header for a public page that accesses a private network.
const REQUEST_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The origin of a request, from which its CORS headers follow.
#[derive(Debug)]
pub(super) struct Visit {
    origin: Option<HeaderValue>,
}

impl Visit {
    /// Reads the origin of a request.
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        Self { origin: request.headers().get(ORIGIN).cloned() }
    }

    /// Adds the headers that the origin is entitled to, unless the answer is the endpoint's and has them already.
    pub(super) fn grant(&self, allowed: &[String], headers: &mut HeaderMap) {
        let Some(origin) = &self.origin else { return };
        if headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            return;
        }
        if allowed.is_empty() {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            headers.append(VARY, HeaderValue::from_static("Origin"));
            if !origin.to_str().is_ok_and(|origin| is_allowed(origin, allowed)) {
                return;
            }
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// Returns the answer to a preflight if the request is one; the origin is granted separately.
pub(super) fn preflight<B>(request: &Request<B>) -> Option<Answer> {
    let asked = request.headers();
    let is_preflight = request.method() == Method::OPTIONS
        && asked.contains_key(ORIGIN)
        && asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if !is_preflight {
        return None;
    }
    let mut answer = answer::no_content();
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned().unwrap_or(HEADERS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    if asked.contains_key(REQUEST_PRIVATE) {
        headers.insert(ALLOW_PRIVATE, HeaderValue::from_static("true"));
    }
    Some(answer)
}

/// Returns whether an origin is one of the allowed ones, with or without default ports.
pub(super) fn is_allowed(origin: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|other| plain(other).eq_ignore_ascii_case(plain(origin)))
}

/// Returns whether an origin is the requested host. The scheme is ignored: TLS may end before this server.
pub(super) fn is_own(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default = default_port(scheme);
    let bare = |authority: &str| {
        default.and_then(|port| authority.strip_suffix(port)).unwrap_or(authority).to_ascii_lowercase()
    };
    bare(authority) == bare(host)
}

/// Removes the scheme's default port from an origin.
fn plain(origin: &str) -> &str {
    let scheme = origin.split_once("://").map_or("", |(scheme, _)| scheme);
    default_port(scheme).and_then(|port| origin.strip_suffix(port)).unwrap_or(origin)
}

fn default_port(scheme: &str) -> Option<&'static str> {
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Some(":443"),
        "http" => Some(":80"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(origin: &str, allowed: &[&str]) -> (Option<String>, bool) {
        let visit = Visit { origin: Some(origin.parse().unwrap()) };
        let mut headers = HeaderMap::new();
        visit.grant(&allowed.iter().map(|&one| one.to_owned()).collect::<Vec<_>>(), &mut headers);
        let origin = headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap().to_owned());
        (origin, headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS))
    }

    #[test]
    fn anybody_without_credentials_or_the_allowed_with() {
        let star = (Some("*".to_owned()), false);
        assert_eq!(granted("https://portal.rackn.io", &[]), star);
        assert_eq!(granted("null", &[]), star);
        let itself = |origin: &str| (Some(origin.to_owned()), true);
        assert_eq!(granted("https://a.lab", &["https://a.lab"]), itself("https://a.lab"));
        assert_eq!(granted("https://a.lab", &["https://A.lab:443"]), itself("https://a.lab"));
        assert_eq!(granted("https://b.lab", &["https://a.lab"]), (None, false));
    }

    #[test]
    fn what_an_answer_says_already_stays() {
        let visit = Visit { origin: Some(HeaderValue::from_static("https://a.lab")) };
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("https://theirs"));
        visit.grant(&[], &mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn default_ports_are_the_same_as_none() {
        for (origin, host, expected) in [
            ("https://drp.lab", "drp.lab:443", true),
            ("https://drp.lab:443", "drp.lab", true),
            ("http://drp.lab", "DRP.lab:80", true),
            ("http://drp.lab", "drp.lab:443", false),
            ("https://drp.lab", "drp.lab:8443", false),
            ("https://drp.lab:8443", "drp.lab:443", false),
            ("null", "drp.lab", false),
        ] {
            assert_eq!(is_own(origin, host), expected, "{origin} at {host}");
        }
    }
}
