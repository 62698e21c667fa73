//! Errors that keep a server from starting, and what to do about them.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::auth::StoreError;
use crate::cluster::NatsError;
use crate::spans::SpansError;
use crate::transport::tls::TlsError;

/// The reason why a server does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("{path}: {source}")]
    DataDir {
        /// The data directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Users, keys or tokens cannot be read or created.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The well-known password, which is meant for trials on the local machine, is in use on a reachable address.
    #[error(
        "{address} can be reached from other machines, and the user rocketskates still has its well-known password; \
         change it, as the user of the server, with `hydrant users passwd rocketskates --password-stdin --data-dir \
         {data_dir}`, or use --allow-default-credentials"
    )]
    DefaultCredentials {
        /// The address that is not loopback.
        address: SocketAddr,
        /// The directory with the users.
        data_dir: PathBuf,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}{}", hint(*address, source))]
    Bind {
        /// The address from the configuration.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The system provides no random numbers.
    #[error("cannot get random numbers from the system: {0}")]
    Random(String),
    /// The NATS settings cannot be used.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// Spans cannot be sent.
    #[error(transparent)]
    Spans(#[from] SpansError),
    /// The shards' threads cannot be started.
    #[error("cannot start the shards: {0}")]
    Shards(io::Error),
}

impl StartError {
    /// Returns whether the settings are at fault rather than the state of the machine.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Nats(error) => error.is_configuration(),
            _ => matches!(self, Self::DefaultCredentials { .. } | Self::Spans(_)),
        }
    }
}

/// Returns advice for an address that cannot be bound.
fn hint(address: SocketAddr, source: &io::Error) -> String {
    let port = address.port();
    match source.kind() {
        ErrorKind::AddrInUse => format!("; `ss -ltnp 'sport = :{port}'` shows which process uses the port"),
        ErrorKind::AddrNotAvailable => "; this machine has no such address".to_owned(),
        ErrorKind::PermissionDenied => "; ports below 1024 need the capability CAP_NET_BIND_SERVICE".to_owned(),
        _ => String::new(),
    }
}
