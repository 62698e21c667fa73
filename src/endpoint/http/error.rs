//! The reasons why an endpoint gives no answer.

use std::error::Error;
use std::time::Duration;

use hyper_util::client::legacy;
use thiserror::Error;

use crate::client::ClientError;

/// A body whose sender does not go on; what a body of a request fails with, to be told from a failure of the endpoint.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the body stood still for {} ms", after.as_millis())]
pub struct StalledError {
    /// How long.
    pub after: Duration,
}

/// A body that cannot be read to its end: its framing is malformed, or the client went away in the middle. What a body
/// of a request fails with, to be told from a failure of the endpoint.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the body of the request is malformed or ends early")]
pub struct BodyError;

/// A body of a request is longer than it may be.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the body is longer than {allowed} bytes")]
pub struct TooLongError {
    /// How long it may be.
    pub allowed: usize,
}

/// Why there is no answer. The texts may be told to clients but for the name of the endpoint
/// ([`UpstreamError::without_address`]): no path, be it of a URL or of a file, no query and no credential stands in
/// them.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamError {
    /// No connection.
    #[error("{endpoint} cannot be reached: {reason}")]
    Unreachable {
        /// Which endpoint.
        endpoint: String,
        /// Why not.
        reason: String,
    },
    /// A connection, but no answer in time.
    #[error("{endpoint} has not answered for {seconds} s")]
    Late {
        /// Which endpoint.
        endpoint: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A connection, but it does not take the rest of the request.
    #[error("{endpoint} has not read on for {seconds} s")]
    Unread {
        /// Which endpoint.
        endpoint: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The connection ended before the answer, or the answer is none.
    #[error("the connection to {endpoint} broke: {reason}")]
    Broken {
        /// Which endpoint.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The client has not sent its body.
    #[error(transparent)]
    Stalled(StalledError),
    /// The client's body cannot be read.
    #[error(transparent)]
    BadBody(BodyError),
    /// The client's body is longer than it may be.
    #[error("an event may have {allowed} bytes (limits.event_bytes); the body is longer")]
    TooLong {
        /// How long it may be.
        allowed: usize,
    },
    /// As many requests as allowed are under way.
    #[error("too many requests are waiting for {endpoint}")]
    Busy {
        /// Which endpoint.
        endpoint: String,
    },
    /// What was to be asked for cannot stand in a request.
    #[error("not a path")]
    Path,
}

impl UpstreamError {
    /// Seconds after which another try makes sense, if it is soon.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy { .. } => Some(1),
            Self::Unreachable { .. } => Some(5),
            Self::Late { .. }
            | Self::Unread { .. }
            | Self::Broken { .. }
            | Self::Stalled(_)
            | Self::BadBody(_)
            | Self::TooLong { .. }
            | Self::Path => None,
        }
    }

    /// The same for those who need not know where the endpoint is, nor what its certificate says.
    #[must_use]
    pub fn without_address(mut self) -> Self {
        match &mut self {
            Self::Unreachable { endpoint, reason } | Self::Broken { endpoint, reason } => {
                "the endpoint".clone_into(endpoint);
                if reason.starts_with(TLS) {
                    "its TLS cannot be used; the server's log says why".clone_into(reason);
                }
            }
            Self::Late { endpoint, .. } | Self::Unread { endpoint, .. } | Self::Busy { endpoint } => {
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

/// What reasons that are about TLS begin with.
const TLS: &str = "TLS: ";

/// The causes, each said once; the pool's own text says nothing that they do not.
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

/// What a cause says, without the endpoint, which the error names already. Where this server keeps its files is for its
/// log.
fn message_of(cause: &(dyn Error + 'static)) -> String {
    match cause.downcast_ref() {
        Some(error @ (ClientError::CaFile { .. } | ClientError::SecretFile { .. })) => {
            tracing::error!(%error, "a file for connections to the endpoint cannot be used");
            "a file that the server needs for it cannot be used".to_owned()
        }
        Some(ClientError::Connect { source, .. }) => source.to_string(),
        Some(ClientError::Tls { source, .. }) => format!("{TLS}{source}"),
        Some(ClientError::Timeout { after, .. }) => format!("no answer within {} s", after.as_secs()),
        Some(ClientError::Broken { reason, .. }) => reason.clone(),
        _ => cause.to_string(),
    }
}
