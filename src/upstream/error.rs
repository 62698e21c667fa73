//! Why there is no answer from an endpoint.

use std::error::Error;

use hyper_util::client::legacy;
use thiserror::Error;

/// Why there is no answer. The texts may be told to clients: no path, query or credential stands in them.
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
    /// The connection ended before the answer, or the answer is none.
    #[error("the connection to {endpoint} broke: {reason}")]
    Broken {
        /// Which endpoint.
        endpoint: String,
        /// What happened.
        reason: String,
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
            Self::Late { .. } | Self::Broken { .. } | Self::Path => None,
        }
    }

    pub(super) fn of(endpoint: String, error: &legacy::Error) -> Self {
        let reason = reasons(error);
        if error.is_connect() { Self::Unreachable { endpoint, reason } } else { Self::Broken { endpoint, reason } }
    }
}

/// The causes; the pool's own text says nothing that they do not.
fn reasons(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}
