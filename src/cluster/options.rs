//! Settings for the connection to NATS.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::nats::{Address, AddressError, Dialer, Login, LoginError, Tls};
use super::stream::StreamOptions;
use super::stream::ensure::StreamError;
use crate::auth::Secret;

/// Why NATS cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NatsError {
    /// A secret cannot be read or used.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// A file contains an invalid secret.
    #[error("{path}: {source}")]
    Secret {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with the secret.
        source: LoginError,
    },
    /// An address is invalid.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The replay stream cannot be used.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl NatsError {
    /// Returns whether the settings are at fault rather than the state of the NATS servers.
    pub fn is_configuration(&self) -> bool {
        if let Self::Stream(error) = self { error.is_configuration() } else { true }
    }
}

/// Settings of the connection to NATS and of what is exchanged over it.
pub struct NatsOptions {
    /// Server addresses (`nats://` and `tls://`), tried in random order.
    pub urls: Vec<String>,
    /// How the node authenticates.
    pub login: Arc<Login>,
    /// The TLS settings.
    pub tls: Tls,
    /// The first token of all subjects.
    pub prefix: String,
    /// Maximum number of received messages in the queue; further ones are dropped, and a gap is reported.
    pub pending: usize,
    /// Maximum size of the queued messages, in bytes.
    pub pending_bytes: usize,
    /// Maximum length of an event in bytes.
    pub event_bytes: usize,
    /// How long messages are batched that no local client has registered for.
    pub linger: Duration,
    /// The id of this run of this node.
    pub node: u64,
    /// The stream that replays are read from, if configured.
    pub stream: Option<StreamOptions>,
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions").field("urls", &self.urls).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Reads a file that contains one secret; surrounding white space is ignored.
///
/// # Errors
/// [`LoginError::File`] if the file cannot be read.
pub fn secret(path: &Path) -> Result<Secret, LoginError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| LoginError::File { path: path.to_owned(), source })?;
    Ok(Secret::new(text.trim()))
}

impl NatsOptions {
    /// Creates the dialer for the configured servers.
    pub(super) fn dialer(&self) -> Result<Dialer, AddressError> {
        let addresses = self.urls.iter().map(|url| url.parse::<Address>()).collect::<Result<_, _>>()?;
        Ok(Dialer::new(addresses, Arc::clone(&self.login), self.tls.clone(), format!("hydrant {:016x}", self.node)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let options = NatsOptions {
            urls: vec!["nats://h:1".into()],
            login: Arc::new(Login::Password { user: "u".into(), password: Secret::new("CANARY") }),
            tls: Tls::default(),
            prefix: "hydrant".into(),
            pending: 1,
            pending_bytes: 1,
            event_bytes: 1,
            linger: Duration::ZERO,
            node: 1,
            stream: None,
        };
        assert!(!format!("{options:?} {:?}", options.login).contains("CANARY"));
    }
}
