//! `GET /api/v3/events`: the events of a websocket as an ordinary answer, Server-Sent Events or NDJSON.
//!
//! `curl -N` and a browser's `EventSource` are enough to watch. The connection is handed to a shard as a websocket is,
//! with its registrations, rights, queue and policy; only what is written differs ([`crate::event`],
//! [`crate::protocol::stream`]). Its body ends with the connection.
//!
//! Contract: whatever can be told before the stream begins is told by a status: a registration that cannot be read is
//! 400, with the place. `Last-Event-ID`, which a browser sends when it comes back, goes before `since=`, which stands
//! in the URL for good.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::websocket::{Opening, adopt};
use super::{Api, ApiError, answer, query};
use crate::auth::Identity;
use crate::broker::history::{Since, Start};
use crate::clock;
use crate::fanout::control::Newcomer;
use crate::metrics::Rejection;
use crate::transport::caller::Caller;
use crate::transport::listener::Answer;
use crate::websocket::frame::Encoding;

/// Where a client was before it lost the connection.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Keeps nginx from collecting the stream.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

impl Api {
    pub(super) fn stream(
        &self,
        request: &Request<Incoming>,
        caller: &Caller,
        identity: Identity,
    ) -> Result<Answer, ApiError> {
        let bad = |error| {
            self.broker.metrics().rejected(Rejection::BadRequest);
            error
        };
        let encoding = form(request).ok_or(ApiError::NotAcceptable).map_err(bad)?;
        let query = request.uri().query();
        let since = self.resume(request).map_err(bad)?;
        // The place comes first: it bounds how many have their registrations read at a time.
        let opening = self.opening(query, &identity)?;
        tokio::task::block_in_place(|| self.check_registrations(query, &identity)).map_err(bad)?;
        let mut answer = answer::text(StatusCode::OK, Bytes::new());
        let headers = answer.headers_mut();
        headers.extend(opening.headers());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(encoding)));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(BUFFERING, HeaderValue::from_static("no"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if request.method() == Method::GET {
            let Opening { registrations, warnings, overflow, permit, .. } = opening;
            let (pool, peer) = (Arc::clone(&self.pool), caller.peer);
            caller.take_socket(move |(stream, tls), head| {
                let (head, early) = (Some(head), Bytes::new());
                adopt(
                    &pool,
                    Newcomer {
                        stream,
                        tls,
                        head,
                        early,
                        encoding,
                        identity,
                        overflow,
                        peer,
                        since,
                        warnings,
                        registrations,
                        permit,
                    },
                );
            });
        }
        Ok(answer)
    }

    fn check_registrations(&self, query: Option<&str>, identity: &Identity) -> Result<(), ApiError> {
        let registrations = query::values(query, "register");
        if registrations.is_empty() {
            return Err(ApiError::Bad("register=SPEC is missing, such as register=machines.*.*".to_owned()));
        }
        let most = self.authority.access(identity)?.limits().registrations();
        self.pool.check(&registrations, most).map_err(|(spec, error)| ApiError::spec(spec, &error))
    }

    /// From where on the client wants the past.
    fn resume(&self, request: &Request<Incoming>) -> Result<Option<Start>, ApiError> {
        let last = request.headers().get(LAST_EVENT_ID).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let Some(last) = last.as_deref().map(str::trim).filter(|last| !last.is_empty()) else {
            return self.since(request.uri().query());
        };
        let bad = |error| ApiError::Bad(format!("Last-Event-ID: {error}"));
        let since = match last.parse().map_err(bad)? {
            // That event was received. An id that is a time may be that of several.
            Since::Position(mut position) => {
                position.sequence = position.sequence.saturating_add(1);
                Since::Position(position)
            }
            since @ Since::Time(_) => since,
        };
        self.broker.resolve(since, last, clock::now()).map(Some).map_err(bad)
    }
}

fn content_type(encoding: Encoding) -> &'static str {
    if encoding == Encoding::Lines { "application/x-ndjson" } else { "text/event-stream" }
}

/// The form of the stream that a request asks for, if it asks for one: the first that `Accept` names, or Server-Sent
/// Events if it takes anything and registers for something, as curl does without further ado.
pub(super) fn form<B>(request: &Request<B>) -> Option<Encoding> {
    let registers = query::value(request.uri().query(), "register").is_some();
    let mut types = accepted(request.headers());
    if types.is_empty() {
        types.push("*/*".to_owned());
    }
    types.iter().find_map(|kind| match kind.as_str() {
        "text/event-stream" => Some(Encoding::EventStream),
        "application/x-ndjson" | "application/ndjson" => Some(Encoding::Lines),
        "*/*" | "text/*" if registers => Some(Encoding::EventStream),
        _ => None,
    })
}

/// The media types that a request accepts, in their order, without parameters.
fn accepted(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let types = values.flat_map(|value| value.split(','));
    types.map(|one| one.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_type_that_is_spoken_here_counts() {
        for (accept, query, expected) in [
            (Some("text/event-stream"), "", Some(Encoding::EventStream)),
            (Some("Application/X-NDJSON; q=1, text/event-stream"), "", Some(Encoding::Lines)),
            (Some("application/json"), "?register=a.b.c", None),
            (Some("*/*"), "?register=a.b.c", Some(Encoding::EventStream)),
            (Some("text/html, */*"), "?register=a.b.c", Some(Encoding::EventStream)),
            (None, "?register=a.b.c", Some(Encoding::EventStream)),
            (Some("*/*"), "", None),
            (None, "", None),
        ] {
            let mut request = Request::builder().uri(format!("/api/v3/events{query}"));
            if let Some(accept) = accept {
                request = request.header("accept", accept);
            }
            assert_eq!(form(&request.body(()).unwrap()), expected, "{accept:?} {query}");
        }
    }
}
