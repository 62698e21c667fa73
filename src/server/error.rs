//! Why a server does not start, and what to do about it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::auth::StoreError;
use crate::cluster::NatsError;
use crate::transport::tls::TlsError;

/// Why a server does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("{path}: {source}")]
    DataDir {
        /// The data directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Users, keys or tokens cannot be read or made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The well-known password is for tries on the own machine.
    #[error(
        "{address} can be reached by others, and the user rocketskates still has its well-known password; change it \
         with `hydrant users passwd rocketskates --password-stdin`, or give --allow-default-credentials"
    )]
    DefaultCredentials {
        /// The address that is not loopback.
        address: SocketAddr,
    },
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}{}", hint(*address, source))]
    Bind {
        /// The address from the configuration.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
    /// NATS cannot be used as it is set.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// The shards' threads do not start.
    #[error("cannot start the shards: {0}")]
    Shards(io::Error),
}

impl StartError {
    /// Whether the settings are at fault, and not the state of the machine.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::DefaultCredentials { .. } | Self::Nats(_))
    }
}

/// What to look at when an address cannot be bound.
fn hint(address: SocketAddr, source: &io::Error) -> String {
    let port = address.port();
    match source.kind() {
        ErrorKind::AddrInUse => format!("; `ss -ltnp 'sport = :{port}'` shows who listens there"),
        ErrorKind::AddrNotAvailable => "; this machine has no such address".to_owned(),
        ErrorKind::PermissionDenied => "; ports below 1024 need the capability CAP_NET_BIND_SERVICE".to_owned(),
        _ => String::new(),
    }
}
