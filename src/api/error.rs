//! Errors of requests: the one table from errors to HTTP status, headers and DRP Error bodies.
//!
//! Contract: every refusal of the API is an [`ApiError`], and this file alone gives it its status, headers and body, so
//! that equal errors are answered alike on all paths, in the form that DRP's clients read.

use std::time::Duration;

use hyper::header::{ACCEPT_ENCODING, CONNECTION, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode};
use thiserror::Error;

use super::answer;
use super::quota::Spent;
use crate::auth::{AuthError, IssueError, RevokedError};
use crate::broker::PublishError;
use crate::endpoint::http::UpstreamError;
use crate::fanout::pool::PoolError;
use crate::index::{IndexError, excerpt};
use crate::protocol::DrpError;
use crate::transport::listener::Answer;
use crate::transport::refusal;
use crate::transport::upgrade::UpgradeError;

/// Why a request is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ApiError {
    /// There is no such path or method.
    #[error("No route")]
    NoRoute,
    /// Credentials are missing or invalid.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The credentials have been revoked.
    #[error("credentials are not valid")]
    Revoked(#[from] RevokedError),
    /// A page of another origin uses credentials that the browser adds by itself.
    #[error(
        "these credentials are not accepted from another origin; use a token, or add the origin to allowed_origins"
    )]
    Origin,
    /// The caller lacks a claim.
    #[error("{}", format!("Requires: {scope} {action} {specific}").trim_end())]
    Forbidden {
        /// The scope of the missing claim.
        scope: &'static str,
        /// The action of the missing claim.
        action: &'static str,
        /// The object of the missing claim.
        specific: String,
    },
    /// A user of a tenant requests data of all tenants; the message says what to do instead.
    #[error("{0}")]
    OfAll(&'static str),
    /// A token cannot be issued.
    #[error(transparent)]
    Token(#[from] IssueError),
    /// The request is not a websocket handshake.
    #[error(transparent)]
    NotAHandshake(#[from] UpgradeError),
    /// The transfer coding is not supported.
    #[error("Transfer-Encoding: only `chunked` is supported; declare compression with Content-Encoding")]
    TransferCoding,
    /// The content coding is not supported.
    #[error("Content-Encoding: {0:?} is not supported; use gzip or deflate, or send the body uncompressed")]
    ContentCoding(String),
    /// The head of the request is too large.
    #[error("{}", refusal::large_head())]
    LargeHead,
    /// The request is invalid; the message says what is wrong and where.
    #[error("{0}")]
    Bad(String),
    /// A registration is invalid.
    #[error("{reason}")]
    Spec {
        /// What is wrong with it.
        reason: String,
        /// The registration, and below it a caret at the error, if the error has a position.
        place: Option<[String; 2]>,
    },
    /// A stream was requested in an unsupported media type.
    #[error("this is a stream of events: send `Accept: text/event-stream` or `Accept: application/x-ndjson`")]
    NotAcceptable,
    /// The request is too long; the message says what is, and the limit.
    #[error("{0}")]
    TooLarge(String),
    /// The body ended early.
    #[error("the body ended early")]
    CutOff,
    /// The body stalled.
    #[error("no data of the body arrived for {} s", after.as_secs())]
    Still {
        /// The time without data.
        after: Duration,
    },
    /// The body arrives too slowly.
    #[error("the body arrives too slowly: at least {least} bytes per second are required")]
    Slow {
        /// The minimum rate in bytes per second.
        least: usize,
    },
    /// Other bodies use up the memory for bodies.
    #[error("too many large request bodies at the same time; try again")]
    Bodies,
    /// Other long answers use up the memory for them.
    #[error("too many long answers are being sent at the same time; read those that you have asked for, or try again")]
    LongAnswers,
    /// Events cannot be accepted now.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The principal has exceeded its quota of posted events.
    #[error("too many events: {per_second} per second are allowed")]
    Quota {
        /// The quota in events per second.
        per_second: u64,
        /// Time after which to retry.
        retry_after: Duration,
    },
    /// The principal has reached its limit of websockets.
    #[error("too many connections of this principal: at most {limit} are allowed")]
    Sockets {
        /// The maximum number of websockets.
        limit: u64,
    },
    /// The principal has reached its limit of HTTP connections. The connection ends with the answer.
    #[error("too many HTTP connections of this principal: at most {limit} are allowed")]
    HttpConnections {
        /// The maximum number of HTTP connections.
        limit: usize,
    },
    /// There is no such object, or the caller may not know of it.
    #[error("Not Found")]
    Unknown {
        /// The kind of object.
        model: &'static str,
        /// The requested key.
        key: String,
    },
    /// The server has reached its limit of connections.
    #[error("too many connections: the server has reached limits.connections; try again later")]
    TooManyConnections,
    /// Other requests of this kind, of which one is processed at a time, took too long.
    #[error("other {what} are in progress; try again")]
    Turn {
        /// What these requests ask for, in the plural.
        what: &'static str,
    },
    /// A shard has not answered.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The endpoint has not answered.
    #[error(transparent)]
    Upstream(UpstreamError),
    /// The endpoint refuses the server's own credential, or what its user may do does not suffice.
    #[error(
        "the endpoint refuses hydrant's own user (upstream.username or upstream.token) with status {status}; an \
         administrator must check its credential and its claims"
    )]
    ServiceRefused {
        /// The status of the endpoint's answer.
        status: u16,
    },
    /// The server's own credential for the endpoint is unusable; the log says why.
    #[error("the server has no usable credential for the endpoint")]
    NoCredential,
}

/// Removes the endpoint's address.
impl From<UpstreamError> for ApiError {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error.without_address())
    }
}

impl From<Spent> for ApiError {
    fn from(Spent { per_second, retry_after }: Spent) -> Self {
        Self::Quota { per_second, retry_after }
    }
}

impl ApiError {
    /// Creates the error for an invalid registration.
    pub(super) fn spec(spec: &str, error: &IndexError) -> Self {
        let place = error.offset().map(|offset| {
            let (shown, column) = excerpt(spec, offset);
            [shown, format!("{:>column$}", "^")]
        });
        Self::Spec { reason: error.to_string(), place }
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute | Self::Unknown { .. } => StatusCode::NOT_FOUND,
            Self::Auth(error) => StatusCode::from_u16(error.status()).expect("one of a fixed set"),
            Self::Revoked(_) | Self::Origin | Self::Forbidden { .. } | Self::OfAll(_) => StatusCode::FORBIDDEN,
            Self::Token(error) => match error {
                IssueError::Forbidden { .. } | IssueError::Revoked(_) => StatusCode::FORBIDDEN,
                IssueError::UnknownUser { .. } => StatusCode::NOT_FOUND,
                IssueError::Random => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::BAD_REQUEST,
            },
            Self::NotAHandshake(_) | Self::Bad(_) | Self::Spec { .. } | Self::CutOff => StatusCode::BAD_REQUEST,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::ContentCoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::LargeHead => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Still { .. } | Self::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Publish(PublishError::Full { .. })
            | Self::Quota { .. }
            | Self::Sockets { .. }
            | Self::HttpConnections { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Publish(PublishError::Stopped)
            | Self::TooManyConnections
            | Self::Bodies
            | Self::LongAnswers
            | Self::Turn { .. }
            | Self::Pool(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoCredential | Self::ServiceRefused { .. } => StatusCode::BAD_GATEWAY,
            Self::Upstream(error) => match error {
                UpstreamError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
                UpstreamError::Stalled(_) => StatusCode::REQUEST_TIMEOUT,
                UpstreamError::Late { .. } | UpstreamError::Unread { .. } => StatusCode::GATEWAY_TIMEOUT,
                UpstreamError::Path | UpstreamError::BadBody(_) => StatusCode::BAD_REQUEST,
                UpstreamError::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_GATEWAY,
            },
        }
    }

    /// Returns the number of seconds after which to retry, if a retry makes sense.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Auth(AuthError::Throttled { retry_after }) => Some(retry_after.as_secs().max(1)),
            // Rounded up: a retry one second too early would be refused again.
            Self::Quota { retry_after, .. } => Some(retry_after.as_secs() + 1),
            Self::Auth(AuthError::Unavailable)
            | Self::Publish(_)
            | Self::Bodies
            | Self::LongAnswers
            | Self::Turn { .. }
            | Self::Pool(_) => Some(1),
            Self::Auth(AuthError::EndpointAway | AuthError::EndpointHides(_))
            | Self::TooManyConnections
            | Self::Sockets { .. }
            | Self::HttpConnections { .. } => Some(5),
            Self::Upstream(error) => error.retry_after(),
            _ => None,
        }
    }

    /// Builds the answer with its DRP Error. As in DRP, the type is `AUTH` for errors about rights, otherwise the
    /// method.
    pub fn answer(&self, method: &Method, path: &str) -> Answer {
        let status = self.status();
        let kind = match self {
            Self::Auth(_)
            | Self::Revoked(_)
            | Self::Origin
            | Self::Token(_)
            | Self::Forbidden { .. }
            | Self::OfAll(_) => "AUTH",
            _ => method.as_str(),
        };
        let mut error = DrpError::new(kind, status.as_u16(), self.to_string());
        match self {
            Self::NoRoute => path.clone_into(&mut error.key),
            Self::Unknown { model, key } => error = error.about(model, key),
            Self::Spec { place: Some(place), .. } => error.messages.extend_from_slice(place),
            _ => {}
        }
        let mut answer = answer::json(status, error.to_json());
        let headers = answer.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("dr-provision"));
        }
        if matches!(self, Self::ContentCoding(_)) {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"));
        }
        if matches!(self, Self::NotAHandshake(_)) {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if matches!(self, Self::HttpConnections { .. }) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_does_not_answer_is_told_as_503() {
        let answer = ApiError::Pool(PoolError::Unanswered).answer(&Method::GET, "/api/v3/connections");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[RETRY_AFTER], "1");
    }
}
