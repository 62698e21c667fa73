//! How to reach NATS and as whom.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use async_nats::{ConnectOptions, Event, ServerAddr};
use thiserror::Error;
use tokio::sync::Notify;

use super::stream::StreamOptions;
use super::stream::ensure::StreamError;
use crate::auth::Secret;
use crate::metrics::Metrics;

/// Between pings to the server; two without an answer end the connection.
const PING: Duration = Duration::from_secs(10);

/// The ceilings of the waits before a further try: they double from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Messages under way to the connection; what waits longer waits in the queue of exports, which is bounded by bytes too.
const UNDER_WAY: usize = 256;

/// Why NATS cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NatsError {
    /// A file with a secret or a certificate.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An address is none.
    #[error("{url} is not the address of a NATS server: {source}")]
    Address {
        /// The address.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// The client refuses its options.
    #[error("cannot use NATS: {0}")]
    Options(String),
    /// The stream of replays.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// As whom; at most one of these is needed.
#[derive(Debug, Default)]
pub enum Login {
    /// As anybody.
    #[default]
    Nobody,
    /// By name and password.
    Password {
        /// Name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// By a token.
    Token(Secret),
    /// By an nkey's seed.
    Nkey(Secret),
    /// By a credentials file's content: a JWT and a seed.
    Credentials(Secret),
}

/// TLS beyond what the addresses say (`tls://`).
#[derive(Debug, Default, Clone)]
pub struct Tls {
    /// Whom to trust instead of the system's authorities; asks for TLS.
    pub ca_file: Option<PathBuf>,
    /// A certificate of our own, with its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Everything about the connection.
pub struct NatsOptions {
    /// `nats://` and `tls://`, tried in random order.
    pub urls: Vec<String>,
    /// As whom.
    pub login: Login,
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
/// [`NatsError::File`].
pub fn secret(path: &Path) -> Result<Secret, NatsError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| NatsError::File { path: path.to_owned(), source })?;
    Ok(Secret::new(text.trim()))
}

impl NatsOptions {
    /// The addresses.
    pub(super) fn addresses(&self) -> Result<Vec<ServerAddr>, NatsError> {
        let parse =
            |url: &String| url.parse::<ServerAddr>().map_err(|source| NatsError::Address { url: url.clone(), source });
        self.urls.iter().map(parse).collect()
    }

    /// The client's options. When the connection comes or goes `news` says so. That is a hint: the library drops what does not
    /// fit into its own queue of such notices, so the state itself is read from the client.
    pub(super) fn client(&self, news: Arc<Notify>, metrics: Arc<Metrics>) -> Result<ConnectOptions, NatsError> {
        let options = ConnectOptions::new()
            .name(format!("hydrant {:016x}", self.node))
            .no_echo()
            .retry_on_initial_connect()
            .ping_interval(PING)
            .subscription_capacity(self.pending)
            .client_capacity(UNDER_WAY)
            .reconnect_delay_callback(wait)
            .event_callback(move |event| {
                hear(&event, &news, &metrics);
                std::future::ready(())
            });
        Ok(self.protect(self.log_in(options)?))
    }

    fn log_in(&self, options: ConnectOptions) -> Result<ConnectOptions, NatsError> {
        Ok(match &self.login {
            Login::Nobody => options,
            Login::Password { user, password } => options.user_and_password(user.clone(), password.expose().to_owned()),
            Login::Token(token) => options.token(token.expose().to_owned()),
            Login::Nkey(seed) => options.nkey(seed.expose().to_owned()),
            // What is wrong with it is not repeated: it is a secret.
            Login::Credentials(text) => options
                .credentials(text.expose())
                .map_err(|_| NatsError::Options("the credentials file holds no JWT and seed".to_owned()))?,
        })
    }

    fn protect(&self, mut options: ConnectOptions) -> ConnectOptions {
        if let Some(ca) = &self.tls.ca_file {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        if let Some((certificate, key)) = &self.tls.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
        }
        options
    }
}

/// Never waits: whoever waits here lets the library's queue of notices fill.
fn hear(event: &Event, news: &Notify, metrics: &Metrics) {
    match event {
        Event::Connected | Event::Disconnected | Event::Closed => news.notify_one(),
        Event::SlowConsumer(_) => tracing::debug!("messages over NATS come faster than they are taken"),
        Event::ServerError(error) => {
            metrics.nats.errors.inc();
            tracing::error!(%error, "the NATS server complains");
        }
        Event::ClientError(error) => tracing::warn!(%error, "NATS"),
        Event::LameDuckMode | Event::Draining => {}
    }
}

/// Full jitter, so that nodes that lost the same server do not come back at one moment.
fn wait(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let ceiling = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    ceiling.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_random_and_bounded() {
        assert!((0..200).all(|_| wait(1) <= FIRST_WAIT));
        let late: Vec<Duration> = (0..200).map(|_| wait(usize::MAX)).collect();
        assert!(late.iter().all(|wait| *wait <= LONGEST_WAIT) && late.iter().any(|wait| *wait > FIRST_WAIT));
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let options = NatsOptions {
            urls: vec!["nats://h:1".into()],
            login: Login::Password { user: "u".into(), password: Secret::new("CANARY") },
            tls: Tls::default(),
            prefix: "hydrant".into(),
            pending: 1,
            pending_bytes: 1,
            event_bytes: 1,
            node: 1,
            stream: None,
        };
        assert!(!format!("{options:?} {:?}", options.login).contains("CANARY"));
    }
}
