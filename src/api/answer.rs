//! Builds answers.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue};
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

fn with_type(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}
