//! Builds answers.

use bytes::Bytes;
use http_body_util::Either;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::transport::listener::Answer;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Builds an answer with a JSON body.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, JSON, body.into())
}

/// Builds an answer 204. drpcli requires the content type even without content.
pub fn no_content() -> Answer {
    with_type(StatusCode::NO_CONTENT, JSON, Bytes::new())
}

/// Builds a plain text answer, for metrics and probes.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"), body.into())
}

/// The header of a list that lacks something.
const INCOMPLETE: HeaderName = HeaderName::from_static("x-hydrant-incomplete");

/// What a list lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incomplete {
    /// The endpoint's part: the endpoint has not returned it.
    Endpoint,
    /// Warnings about names: no shard has returned the names of events.
    Warnings,
}

impl Incomplete {
    fn value(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Warnings => "warnings",
        }
    }
}

/// Builds an answer with a list of JSON values, which says what is missing.
pub fn list(values: &[impl AsRef<str>], missing: Option<Incomplete>) -> Answer {
    let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    let mut answer = json(StatusCode::OK, format!("[{}]", values.join(",")));
    if let Some(missing) = missing {
        answer.headers_mut().insert(INCOMPLETE, HeaderValue::from_static(missing.value()));
    }
    answer
}

fn with_type(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Response::new(Either::Left(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}
