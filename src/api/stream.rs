//! `GET /api/v3/events`: the events of a websocket as an HTTP response, in Server-Sent Events or NDJSON.
//!
//! `curl -N` or a browser's `EventSource` can consume it. Like a websocket, the connection is handed to a shard, with
//! its registrations, rights, queue and overflow policy; only the encoding differs ([`crate::event`],
//! [`crate::protocol::stream`]). The response ends when the connection does.
//!
//! Contract: errors known before the stream begins are reported by the status: an invalid registration is 400, with the
//! position of the error. Registrations that take long to parse are parsed in portions, principals in turn, and within
//! the limits of one connection. `Last-Event-ID`, which a browser sends when it reconnects, takes precedence over
//! `since=`, which stays in the URL.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::{Api, ApiError, answer, query};
use crate::auth::Identity;
use crate::broker::history::{Since, Start};
use crate::clock;
use crate::fanout::control::Newcomer;
use crate::fanout::execute::{SHORT_SPEC, is_long};
use crate::fanout::socket::Accepted;
use crate::index::{Checking, IndexError};
use crate::metrics::Rejection;
use crate::transport::caller::Caller;
use crate::transport::listener::Answer;
use crate::websocket::frame::Encoding;

/// The id of the last event that a client received before it lost the connection.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The interval between pings in seconds, by which a client detects a lost connection.
const PING: HeaderName = HeaderName::from_static("x-hydrant-ping");

/// Keeps nginx from buffering the stream.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

impl Api {
    pub(super) async fn stream(
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
        // The permit comes first: it limits how many clients wait for their registrations to be parsed.
        let opening = self.opening(query, &identity)?;
        self.check_registrations(&opening.registrations, &identity).await?;
        let mut answer = answer::text(StatusCode::OK, Bytes::new());
        let headers = answer.headers_mut();
        headers.extend(opening.headers());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(encoding)));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(BUFFERING, HeaderValue::from_static("no"));
        headers.insert(PING, (self.ping.as_secs() + u64::from(self.ping.subsec_nanos() > 0)).into());
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if request.method() == Method::GET {
            let (pool, peer) = (Arc::clone(&self.pool), caller.peer);
            caller.take_socket(move |(stream, tls), head| {
                let newcomer = opening.newcomer(Accepted { stream, tls }, encoding, (identity, peer), since);
                pool.adopt(Box::new(Newcomer { head: Some(head), ..newcomer }));
            });
        }
        Ok(answer)
    }

    async fn check_registrations(&self, registrations: &[Box<str>], identity: &Identity) -> Result<(), ApiError> {
        let bad = |error| {
            self.broker.metrics().rejected(Rejection::BadRequest);
            error
        };
        if registrations.is_empty() {
            let missing = "register=SPEC is required, such as register=machines.*.*";
            return Err(bad(ApiError::Bad(missing.to_owned())));
        }
        let limits = self.pool.limits(self.authority.access(identity)?.limits().registrations());
        if let Some(beyond) = registrations.get(limits.registrations) {
            let error = IndexError::TooManyRegistrations { limit: limits.registrations };
            return Err(bad(ApiError::spec(beyond.trim(), &error)));
        }
        let mut checking = Checking::new(limits);
        let mut check = |portion: &[Box<str>]| {
            let mut specs = portion.iter().map(|spec| spec.trim());
            specs.try_for_each(|spec| checking.add(spec).map_err(|error| bad(ApiError::spec(spec, &error))))
        };
        if is_short(registrations) {
            return check(registrations);
        }
        for portion in portions(registrations, is_long) {
            let turn = self.parsing.take(identity.principal()).await.inspect_err(|_| {
                self.broker.metrics().rejected(Rejection::Limited);
            })?;
            self.at_length(|| check(portion))?;
            drop(turn);
            // If the client has gone, the request ends here.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Returns from where the client wants a replay.
    fn resume(&self, request: &Request<Incoming>) -> Result<Option<Start>, ApiError> {
        let last = request.headers().get(LAST_EVENT_ID).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let Some(last) = last.as_deref().map(str::trim).filter(|last| !last.is_empty()) else {
            return self.since(request.uri().query());
        };
        let bad = |error| ApiError::Bad(format!("Last-Event-ID: {error}"));
        let since = match last.parse().map_err(bad)? {
            // The client has received that event. An id that is a time may be that of several events.
            Since::Position(mut position) => {
                position.sequence = position.sequence.saturating_add(1);
                Since::Position(position)
            }
            since @ Since::Time(_) => since,
        };
        self.broker.resolve(since, last, clock::both()).map(Some).map_err(bad)
    }
}

/// Returns whether registrations together are parsed as fast as one command.
fn is_short(registrations: &[Box<str>]) -> bool {
    let bytes: usize = registrations.iter().map(|spec| spec.len()).sum();
    bytes <= SHORT_SPEC && !registrations.iter().any(|spec| is_long(spec))
}

/// Splits registrations into portions, one per turn: those that are short together, or a single one.
/// Each is looked at twice at most.
fn portions(mut rest: &[Box<str>], mut is_long: impl FnMut(&str) -> bool) -> impl Iterator<Item = &[Box<str>]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut fits = |spec: &str| {
            bytes += spec.len();
            bytes <= SHORT_SPEC && !is_long(spec)
        };
        let count = rest.iter().take_while(|spec| fits(spec)).count().max(1);
        let (portion, others) = rest.split_at_checked(count)?;
        rest = others;
        Some(portion)
    })
}

fn content_type(encoding: Encoding) -> &'static str {
    if encoding == Encoding::Lines { "application/x-ndjson" } else { "text/event-stream" }
}

/// Returns the encoding of the stream that a request asks for, if any: the first that `Accept` names, or Server-Sent
/// Events if it accepts anything and has a registration, as with plain curl.
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

/// Returns the media types that a request accepts, in order, without parameters.
fn accepted(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let types = values.flat_map(|value| value.split(','));
    types.map(|one| one.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_registrations_are_parsed_alone_and_short_ones_together() {
        let long = "x".repeat(SHORT_SPEC + 1);
        let half = "y".repeat(SHORT_SPEC / 2);
        let texts = ["a", "b", "Re(x)", "c", &long, &half, &half, "d"].map(Box::<str>::from);
        let portions: Vec<usize> = portions(&texts, is_long).map(<[_]>::len).collect();
        assert_eq!(portions, [2, 1, 1, 1, 2, 1]);
        assert!(is_short(&texts[..2]) && !is_short(&texts[2..3]) && !is_short(&texts[5..]));
    }

    /// Empty ones add nothing to the length of a portion.
    #[test]
    fn each_registration_is_looked_at_twice_at_most() {
        let mut texts = vec![Box::<str>::default(); 3000];
        texts.push("x".repeat(SHORT_SPEC + 1).into());
        let mut looked = 0;
        let count = |spec: &str| {
            looked += 1;
            is_long(spec)
        };
        assert_eq!(portions(&texts, count).map(<[_]>::len).collect::<Vec<_>>(), [3000, 1]);
        assert!(looked <= 2 * texts.len(), "{looked}");
    }

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
