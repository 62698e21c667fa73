//! Errors between a command and an endpoint.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Why a request or a session failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The endpoint cannot be one. The input is not repeated where it may hold a password.
    #[error("endpoint: {0}; it looks like https://127.0.0.1:8092")]
    Endpoint(String),
    /// The credentials cannot be sent.
    #[error("credentials: {0}")]
    Credentials(&'static str),
    /// The file with CA certificates is of no use.
    #[error("{}: {reason}", path.display())]
    CaFile {
        /// The file as it was named.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file with a password or token is of no use.
    #[error("{}: {reason}", path.display())]
    SecretFile {
        /// The file as it was named.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// Where to.
        endpoint: String,
        /// What the system says.
        source: io::Error,
    },
    /// No TLS on the connection, or a certificate that is not trusted.
    #[error("TLS with {endpoint} failed: {source}")]
    Tls {
        /// With whom.
        endpoint: String,
        /// What rustls says.
        source: io::Error,
    },
    /// The other side does not speak TLS.
    #[error("{endpoint} answers without TLS; is it http://{authority}?")]
    NotTls {
        /// The URL of the endpoint.
        endpoint: String,
        /// Host and port.
        authority: String,
    },
    /// The other side does not speak HTTP.
    #[error("what {endpoint} answers is no HTTP ({reason}){hint}")]
    NotHttp {
        /// The URL of the endpoint.
        endpoint: String,
        /// What is wrong with the answer.
        reason: String,
        /// What it may be instead.
        hint: String,
    },
    /// The other side takes too long.
    #[error("{endpoint} did not answer within {} s", after.as_secs())]
    Timeout {
        /// The URL of the endpoint.
        endpoint: String,
        /// The time that was granted.
        after: Duration,
    },
    /// Nothing was heard of the other side, not even answers to pings.
    #[error("{endpoint} was silent for {} ms", after.as_millis())]
    Silent {
        /// The URL of the endpoint.
        endpoint: String,
        /// The time that was granted.
        after: Duration,
    },
    /// The connection broke or the answer is not HTTP.
    #[error("the connection to {endpoint} failed: {reason}")]
    Broken {
        /// To whom.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The server answered a request with an error.
    #[error(transparent)]
    Refused(RefusedError),
    /// The server's answer to the upgrade is not one of a websocket server.
    #[error("{endpoint} does not speak websocket: {reason}")]
    NotWebsocket {
        /// The URL of the endpoint.
        endpoint: String,
        /// What is missing.
        reason: &'static str,
    },
    /// The server's answer to the request for a stream is not one.
    #[error("{endpoint} has no stream of events: it answered with `{kind}`")]
    NotStream {
        /// The endpoint, as it was asked.
        endpoint: String,
        /// The media type of what it answered with.
        kind: String,
    },
    /// The server did not take a registration.
    #[error("the server refused to register `{spec}`: {message}")]
    Registration {
        /// The registration.
        spec: String,
        /// The server's message.
        message: String,
    },
    /// The server closed the websocket.
    #[error("the server closed the connection: {code}{}", with_reason(reason))]
    Closed {
        /// The close code; 1005 if there was none.
        code: u16,
        /// The server's reason, perhaps empty.
        reason: String,
    },
}

fn with_reason(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

impl ClientError {
    /// When the server wants to be asked again, if it says.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// Whether trying again is of no use: the same would happen.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Silent { .. } | Self::Broken { .. } => false,
            Self::Refused(refusal) => refusal.is_final(),
            // Mistakes of this client (1002, 1003, 1007, 1009, 1010) and revoked rights (1008); all else may pass.
            Self::Closed { code, .. } => matches!(code, 1002 | 1003 | 1007..=1010),
            Self::Tls { source, .. } => source.kind() == io::ErrorKind::InvalidData,
            _ => true,
        }
    }
}

/// An answer of 400 or above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedError {
    /// The HTTP status.
    pub status: u16,
    /// The messages of the DRP Error in the body, or the body's beginning.
    pub messages: Vec<String>,
    /// When the server wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl RefusedError {
    /// Whether asking again later is of no use.
    pub fn is_final(&self) -> bool {
        (400..500).contains(&self.status) && !matches!(self.status, 408 | 429)
    }
}

impl std::error::Error for RefusedError {}

impl fmt::Display for RefusedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = hyper::StatusCode::from_u16(self.status).ok();
        let name = status.and_then(|status| status.canonical_reason()).unwrap_or("unknown status");
        write!(f, "the server answered {} ({name})", self.status)?;
        if self.messages.is_empty() { Ok(()) } else { write!(f, ": {}", self.messages.join("; ")) }
    }
}

/// The text without characters that a terminal acts on.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
