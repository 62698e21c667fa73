//! How to reach NATS and as whom.

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
    /// A secret.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// What is in a file with a secret.
    #[error("{path}: {source}")]
    Secret {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: LoginError,
    },
    /// An address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The stream of replays.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Everything about the connection.
pub struct NatsOptions {
    /// `nats://` and `tls://`, tried in random order.
    pub urls: Vec<String>,
    /// As whom.
    pub login: Arc<Login>,
    /// How it is protected.
    pub tls: Tls,
    /// The first token of all subjects.
    pub prefix: String,
    /// Messages that wait to be read; beyond it they are dropped, and a gap is told.
    pub pending: usize,
    /// Bytes of such messages.
    pub pending_bytes: usize,
    /// Bytes of the longest event.
    pub event_bytes: usize,
    /// For how long messages are gathered that nobody here has registered for.
    pub linger: Duration,
    /// This run of this node.
    pub node: u64,
    /// The stream that replays are read from, if there shall be one.
    pub stream: Option<StreamOptions>,
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions").field("urls", &self.urls).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Reads a file with one secret; white space around it does not count.
///
/// # Errors
/// [`LoginError::File`].
pub fn secret(path: &Path) -> Result<Secret, LoginError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| LoginError::File { path: path.to_owned(), source })?;
    Ok(Secret::new(text.trim()))
}

impl NatsOptions {
    /// Whoever connects to these servers.
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
