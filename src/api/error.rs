//! Errors of requests: the one table from errors to HTTP status, headers and DRP Error bodies.

use std::time::Duration;

use hyper::header::{ACCEPT_ENCODING, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode};
use thiserror::Error;

use super::answer;
use super::quota::Spent;
use crate::auth::{AuthError, IssueError, RevokedError};
use crate::broker::PublishError;
use crate::endpoint::http::UpstreamError;
use crate::index::{IndexError, excerpt};
use crate::protocol::DrpError;
use crate::transport::listener::Answer;
use crate::transport::upgrade::UpgradeError;

/// Why a request is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ApiError {
    /// No such path or method.
    #[error("No route")]
    NoRoute,
    /// Credentials are missing or not good.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The credentials were good a moment ago.
    #[error("credentials are not valid")]
    Revoked(#[from] RevokedError),
    /// A browser's own credentials from somebody else's page.
    #[error("credentials of this kind are not taken from another origin; use a token")]
    Origin,
    /// The caller may not.
    #[error("Requires: {scope} {action} {specific}")]
    Forbidden {
        /// The claim that is missing.
        scope: &'static str,
        /// The claim that is missing.
        action: &'static str,
        /// The claim that is missing.
        specific: String,
    },
    /// A look at what belongs to everybody, by somebody of a tenant; the text says what to do instead.
    #[error("{0}")]
    OfAll(&'static str),
    /// A token cannot be issued.
    #[error(transparent)]
    Token(#[from] IssueError),
    /// Not a websocket handshake.
    #[error(transparent)]
    NotAHandshake(#[from] UpgradeError),
    /// A transfer coding that is not spoken here.
    #[error("Transfer-Encoding: only `chunked` is spoken here; compressed bodies go by Content-Encoding")]
    TransferCoding,
    /// A content coding that is not known here.
    #[error("Content-Encoding: {0:?} is not known here; send gzip, deflate or nothing")]
    ContentCoding(String),
    /// What was sent is wrong; the text says what and where.
    #[error("{0}")]
    Bad(String),
    /// A registration cannot be one: why, and the place if there is one.
    #[error("{reason}")]
    Spec {
        /// What is wrong.
        reason: String,
        /// The registration, and below it a caret.
        place: Option<[String; 2]>,
    },
    /// A stream in a form that is not spoken here.
    #[error("this is a stream of events: say `Accept: text/event-stream` or `Accept: application/x-ndjson`")]
    NotAcceptable,
    /// What was sent is too long; the text says what and how long it may be.
    #[error("{0}")]
    TooLarge(String),
    /// The body was cut off.
    #[error("the body ended early")]
    CutOff,
    /// The body did not go on.
    #[error("the body stood still for {} s", after.as_secs())]
    Still {
        /// How long.
        after: Duration,
    },
    /// The body comes too slowly.
    #[error("the body comes more slowly than {least} bytes a second")]
    Slow {
        /// What is the least.
        least: usize,
    },
    /// The bodies of others take all the memory that there is for them.
    #[error("too many large bodies at a time")]
    Bodies,
    /// Events cannot be taken now.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The principal has posted more than its share.
    #[error("too many events: {per_second} a second are allowed")]
    Quota {
        /// Its share.
        per_second: u64,
        /// When to come again.
        retry_after: Duration,
    },
    /// The principal has as many websockets as it may.
    #[error("too many connections of this principal: {limit} are allowed")]
    Sockets {
        /// How many that is.
        limit: u64,
    },
    /// There is no such object, or the caller may not know of it.
    #[error("Not Found")]
    Unknown {
        /// What kind of object.
        model: &'static str,
        /// The key that was asked for.
        key: String,
    },
    /// As many connections as allowed.
    #[error("too many connections")]
    TooManyConnections,
    /// Others are having events explained.
    #[error("others are having events explained; try again")]
    Explaining,
    /// The endpoint has not answered.
    #[error(transparent)]
    Upstream(UpstreamError),
    /// The server's own credential for the endpoint is of no use; the log says why.
    #[error("the server has no usable credential for the endpoint")]
    NoCredential,
}

/// Where the endpoint is stays here.
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
    /// A registration that was refused.
    pub(super) fn spec(spec: &str, error: &IndexError) -> Self {
        let place = error.offset().map(|offset| {
            let (shown, column) = excerpt(spec, offset);
            [shown, format!("{:>column$}", "^")]
        });
        Self::Spec { reason: error.to_string(), place }
    }

    /// The HTTP status.
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
            Self::Still { .. } | Self::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Publish(PublishError::Full { .. }) | Self::Quota { .. } | Self::Sockets { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Publish(PublishError::Stopped) | Self::TooManyConnections | Self::Bodies | Self::Explaining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::NoCredential => StatusCode::BAD_GATEWAY,
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

    /// Seconds after which another try makes sense.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Auth(AuthError::Throttled { retry_after }) => Some(retry_after.as_secs().max(1)),
            // Rounded up: a second too early would be refused again.
            Self::Quota { retry_after, .. } => Some(retry_after.as_secs() + 1),
            Self::Auth(AuthError::Unavailable) | Self::Publish(_) | Self::Bodies | Self::Explaining => Some(1),
            Self::Auth(AuthError::EndpointAway | AuthError::EndpointHides(_))
            | Self::TooManyConnections
            | Self::Sockets { .. } => Some(5),
            Self::Upstream(error) => error.retry_after(),
            _ => None,
        }
    }

    /// The answer with its DRP Error. The type of errors about rights is `AUTH`, otherwise the method, as DRP does it.
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
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}
