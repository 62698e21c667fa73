//! Why there is no answer from an endpoint.

use std::error::Error;
use std::time::Duration;

use hyper_util::client::legacy;
use thiserror::Error;

use crate::client::ClientError;

/// A body whose sender does not go on; what a body of a request fails with, to be told from a failure of the endpoint.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the body stood still for {} ms", after.as_millis())]
pub struct Stalled {
    /// How long.
    pub after: Duration,
}

/// Why there is no answer. The texts may be told to clients: no path, be it of a URL or of a file, no query and no
/// credential stands in them.
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
    Stalled(Stalled),
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
            Self::Late { .. } | Self::Unread { .. } | Self::Broken { .. } | Self::Stalled(_) | Self::Path => None,
        }
    }

    pub(super) fn of(endpoint: String, error: &legacy::Error) -> Self {
        if let Some(stalled) = causes(error).find_map(|cause| cause.downcast_ref()) {
            return Self::Stalled(*stalled);
        }
        let reason = reasons(error);
        if error.is_connect() { Self::Unreachable { endpoint, reason } } else { Self::Broken { endpoint, reason } }
    }
}

/// The causes; the pool's own text says nothing that they do not.
fn reasons(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> = causes(error).map(told).collect();
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// What a client may know of a cause. Where this server keeps its files is for its log.
fn told(cause: &(dyn Error + 'static)) -> String {
    match cause.downcast_ref() {
        Some(error @ (ClientError::CaFile { .. } | ClientError::SecretFile { .. })) => {
            tracing::error!(%error, "a file for connections to the endpoint cannot be used");
            "a file that the server needs for it cannot be used".to_owned()
        }
        _ => cause.to_string(),
    }
}
