//! The reasons why an endpoint gives no answer.

use std::error::Error;
use std::time::Duration;

use hyper_util::client::legacy;
use thiserror::Error;

use crate::client::ClientError;

/// The sender of a request's body has stopped sending. Distinguished from a failure of the endpoint.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("no data of the body arrived for {after:?}")]
pub struct StalledError {
    /// Time without data after which the body was given up.
    pub after: Duration,
}

/// A request's body cannot be read to its end: its framing is malformed, or the client disconnected. Distinguished from
/// a failure of the endpoint.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the body of the request is malformed or ends early")]
pub struct BodyError;

/// The body of a request is longer than allowed.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the body is longer than {allowed} bytes")]
pub struct TooLongError {
    /// The maximum length in bytes.
    pub allowed: usize,
}

/// Why the endpoint gave no answer. The messages contain no path (of a URL or a file), no query and no credential;
/// without the endpoint's name ([`UpstreamError::without_address`]) they may be sent to clients.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamError {
    /// No connection could be made.
    #[error("cannot reach {endpoint}: {reason}")]
    Unreachable {
        /// The endpoint's address.
        endpoint: String,
        /// Why the connection failed.
        reason: String,
    },
    /// The endpoint did not answer in time.
    #[error("{endpoint} did not answer within {after:?}")]
    Late {
        /// The endpoint's address.
        endpoint: String,
        /// The time limit.
        after: Duration,
    },
    /// The endpoint does not read the rest of the request.
    #[error("{endpoint} did not read the request for {after:?}")]
    Unread {
        /// The endpoint's address.
        endpoint: String,
        /// The time limit.
        after: Duration,
    },
    /// The connection ended before the answer, or the answer is malformed.
    #[error("the connection to {endpoint} failed: {reason}")]
    Broken {
        /// The endpoint's address.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The answer is longer than can be used.
    #[error("the answer of {endpoint} is longer than {allowed} bytes")]
    LongAnswer {
        /// The endpoint's address.
        endpoint: String,
        /// The maximum length in bytes.
        allowed: usize,
    },
    /// The client has stopped sending its body.
    #[error(transparent)]
    Stalled(StalledError),
    /// The client's body cannot be read.
    #[error(transparent)]
    BadBody(BodyError),
    /// The client's body is longer than allowed.
    #[error("the body is longer than an event may be: {allowed} bytes (limits.event_bytes)")]
    TooLong {
        /// The maximum length in bytes.
        allowed: usize,
    },
    /// The maximum number of concurrent requests is in progress.
    #[error("too many requests are waiting for {endpoint}; try again")]
    Busy {
        /// The endpoint's address.
        endpoint: String,
    },
    /// The requested path cannot be used in a request.
    #[error("the request target is not a path")]
    Path,
}

impl UpstreamError {
    /// Returns the number of seconds after which to retry, if a retry may succeed soon.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy { .. } => Some(1),
            Self::Unreachable { .. } => Some(5),
            Self::Late { .. }
            | Self::Unread { .. }
            | Self::Broken { .. }
            | Self::LongAnswer { .. }
            | Self::Stalled(_)
            | Self::BadBody(_)
            | Self::TooLong { .. }
            | Self::Path => None,
        }
    }

    /// Removes the endpoint's address and what its certificate says, for clients that need not know them.
    #[must_use]
    pub fn without_address(mut self) -> Self {
        match &mut self {
            Self::Unreachable { endpoint, reason } | Self::Broken { endpoint, reason } => {
                "the endpoint".clone_into(endpoint);
                if reason.starts_with(TLS) {
                    "TLS failed; see the server's log".clone_into(reason);
                }
            }
            Self::Late { endpoint, .. }
            | Self::Unread { endpoint, .. }
            | Self::LongAnswer { endpoint, .. }
            | Self::Busy { endpoint } => {
                "the endpoint".clone_into(endpoint);
            }
            Self::Stalled(_) | Self::BadBody(_) | Self::TooLong { .. } | Self::Path => {}
        }
        self
    }

    pub(super) fn of(endpoint: String, error: &legacy::Error) -> Self {
        if let Some(stalled) = causes(error).find_map(|cause| cause.downcast_ref()) {
            return Self::Stalled(*stalled);
        }
        if let Some(bad) = causes(error).find_map(|cause| cause.downcast_ref()) {
            return Self::BadBody(*bad);
        }
        if let Some(TooLongError { allowed }) = causes(error).find_map(|cause| cause.downcast_ref()) {
            return Self::TooLong { allowed: *allowed };
        }
        let reason = reasons(error);
        if error.is_connect() { Self::Unreachable { endpoint, reason } } else { Self::Broken { endpoint, reason } }
    }
}

/// The prefix of reasons that concern TLS.
const TLS: &str = "TLS: ";

/// Returns the messages of all causes, without repetitions; the pool's own message adds nothing to them.
fn reasons(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in causes(error).map(message_of) {
        if !texts.iter().any(|said| said.contains(&text)) {
            texts.push(text);
        }
    }
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// Returns the cause that is about a file of this server, if one is. Its message has a path, so it is for the log only.
pub(super) fn unusable_file<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e ClientError> {
    let mut found = causes(error).filter_map(|cause| cause.downcast_ref());
    found.find(|error| matches!(error, ClientError::CaFile { .. } | ClientError::SecretFile { .. }))
}

/// Returns the message of a cause, without the endpoint, which the error names already, and without paths.
fn message_of(cause: &(dyn Error + 'static)) -> String {
    match cause.downcast_ref() {
        Some(ClientError::CaFile { .. } | ClientError::SecretFile { .. }) => {
            "the server cannot use one of its files for this connection; see its log".to_owned()
        }
        Some(ClientError::Connect { source, .. }) => source.to_string(),
        Some(ClientError::Tls { source, .. }) => format!("{TLS}{source}"),
        Some(ClientError::Timeout { after, .. }) => format!("no answer within {after:?}"),
        Some(ClientError::Broken { reason, .. }) => reason.clone(),
        _ => cause.to_string(),
    }
}
