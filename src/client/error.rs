//! Errors between a command and an endpoint.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// The reason why a request or a session failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The endpoint is invalid. The input is not repeated if it may contain a password.
    #[error("endpoint: {0}; expected a URL such as https://127.0.0.1:8092")]
    Endpoint(String),
    /// The credentials cannot be sent.
    #[error("credentials: {0}")]
    Credentials(&'static str),
    /// The file with CA certificates is unusable.
    #[error("{}: {reason}", path.display())]
    CaFile {
        /// Path of the file, as given.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// The file with a password or token is unusable.
    #[error("{}: {reason}", path.display())]
    SecretFile {
        /// Path of the file, as given.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// No connection could be established.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// The URL of the endpoint.
        endpoint: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The TLS handshake failed, or the certificate is not trusted.
    #[error("TLS with {endpoint} failed: {source}")]
    Tls {
        /// The URL of the endpoint.
        endpoint: String,
        /// The error from rustls.
        source: io::Error,
    },
    /// The peer does not speak TLS.
    #[error("{endpoint} answered without TLS; did you mean http://{authority}?")]
    NotTls {
        /// The URL of the endpoint.
        endpoint: String,
        /// Host and port.
        authority: String,
    },
    /// The peer does not speak HTTP.
    #[error("{endpoint} did not answer with HTTP ({reason}){hint}")]
    NotHttp {
        /// The URL of the endpoint.
        endpoint: String,
        /// What is wrong with the answer.
        reason: String,
        /// A guess at the right URL, or empty.
        hint: String,
    },
    /// The peer did not answer in time.
    #[error("{endpoint} did not answer within {after:?}")]
    Timeout {
        /// The URL of the endpoint.
        endpoint: String,
        /// The time limit.
        after: Duration,
    },
    /// Nothing was received from the peer, not even answers to pings.
    #[error("{endpoint} sent nothing for {after:?}")]
    Silent {
        /// The URL of the endpoint.
        endpoint: String,
        /// The time limit.
        after: Duration,
    },
    /// The connection broke, or the answer is not HTTP.
    #[error("the connection to {endpoint} failed: {reason}")]
    Broken {
        /// The URL of the endpoint.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The connection was closed before a request was sent.
    #[error("{endpoint} closed the connection before the request was sent")]
    Unsent {
        /// The URL of the endpoint.
        endpoint: String,
    },
    /// The server answered a request with an error.
    #[error(transparent)]
    Refused(RefusedError),
    /// The answer to the upgrade is not that of a websocket server.
    #[error("{endpoint} did not open a websocket: {reason}")]
    NotWebsocket {
        /// The URL of the endpoint.
        endpoint: String,
        /// What is wrong with the answer.
        reason: &'static str,
    },
    /// The server's answer to the request for a stream is not one.
    #[error("{endpoint} did not answer with a stream of events but with `{kind}`")]
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
        /// Message from the server.
        message: String,
    },
    /// The server closed the websocket.
    #[error("the server closed the connection: {code}{}", with_reason(reason))]
    Closed {
        /// The close code; 1005 if there was none.
        code: u16,
        /// The server's reason; may be empty.
        reason: String,
    },
}

fn with_reason(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

impl ClientError {
    /// Returns how long the server asks to wait before a retry, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// Returns whether a retry is pointless, because it would fail in the same way.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Silent { .. }
            | Self::Broken { .. }
            | Self::Unsent { .. } => false,
            Self::Refused(refusal) => refusal.is_final(),
            // Errors of this client (1002, 1003, 1007, 1009, 1010) and revoked rights (1008) are final; all others may
            // pass.
            Self::Closed { code, .. } => matches!(code, 1002 | 1003 | 1007..=1010),
            Self::Tls { source, .. } => source.kind() == io::ErrorKind::InvalidData,
            _ => true,
        }
    }
}

/// An answer with status 300 or above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedError {
    /// The HTTP status.
    pub status: u16,
    /// The messages of the DRP Error in the body, or else the beginning of the body.
    pub messages: Vec<String>,
    /// How long the server asks to wait before a retry.
    pub retry_after: Option<Duration>,
    /// The Type of the object that the DRP Error is about; empty if it is about none.
    pub model: String,
}

impl RefusedError {
    /// Returns whether a later retry is pointless.
    pub fn is_final(&self) -> bool {
        (300..500).contains(&self.status) && !matches!(self.status, 408 | 429)
    }
}

impl std::error::Error for RefusedError {}

impl fmt::Display for RefusedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = hyper::StatusCode::from_u16(self.status).ok();
        let name = status.and_then(|status| status.canonical_reason()).unwrap_or("unknown status");
        write!(f, "the server answered {} ({name})", self.status)?;
        // The server may show the text that it refuses, with a caret under the place: these two are lines of their own.
        let is_shown = self.messages.last().is_some_and(|last| last.trim_start() == "^");
        let (reasons, shown) = self.messages.split_at(self.messages.len().saturating_sub(if is_shown { 2 } else { 0 }));
        if !reasons.is_empty() {
            write!(f, ": {}", reasons.join("; "))?;
        }
        shown.iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}

/// Returns whether a terminal interprets a character, or shows it in another position. Besides the control characters
/// (C0, DEL and C1, of which U+009B begins an escape sequence like ESC [) these are the characters that end a line or
/// change the direction of writing, which a text can use to pretend to be another.
pub fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Replaces such characters, so that the text stays on its line.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if acts(c) { char::REPLACEMENT_CHARACTER } else { c }).collect())
}
