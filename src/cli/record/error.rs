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
    #[error("- is no file; `hydrant watch` writes events to standard output")]
    StandardOutput,
    #[error("{} is there already; --append writes behind what is in it, --force replaces it", .0.display())]
    Exists(PathBuf),
    #[error("{} is being recorded to by another process", .0.display())]
    Busy(PathBuf),
    #[error("{}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{}: {source}; what was recorded before is whole", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{recorded} of {wanted} events came within {seconds} s")]
    Late { wanted: u64, recorded: u64, seconds: u64 },
}

impl RecordError {
    /// Returns whether the arguments are at fault.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::StandardOutput | Self::Exists(_))
    }
}
