//! The reasons why a recording ends early, or does not begin.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::cli::endpoint::EndpointError;
use crate::client::ClientError;

/// The reason why a recording did not begin, or ended early.
#[derive(Debug, Error)]
pub(crate) enum RecordError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error("- is not a file; `hydrant watch` writes events to standard output")]
    StandardOutput,
    #[error("{} already exists; use --append to add to it, or --force to replace it", .0.display())]
    Exists(PathBuf),
    #[error("another process is recording to {}", .0.display())]
    Busy(PathBuf),
    #[error("{}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{}: {source}; the events recorded before are intact", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("only {recorded} of {wanted} events arrived within {seconds} s")]
    Late { wanted: u64, recorded: u64, seconds: u64 },
    #[error("no connection within {seconds} s")]
    Unconnected { seconds: u64 },
}

impl RecordError {
    /// Returns whether the arguments are at fault.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::StandardOutput | Self::Exists(_))
    }
}
