//! Why the posting of an input stopped: the input is wrong, or the server refused a part of it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::cli::documents::InputError;
use crate::client::ClientError;

/// The reason why posting stopped before the end of the input.
#[derive(Debug, Error)]
pub(crate) enum TransferError {
    /// The input cannot be opened.
    #[error("{}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// The input is malformed. The fields are the name of the input and the error, with its line.
    #[error("{0}:{1}")]
    Input(String, InputError),
    /// The server refused an event; the message gives the location and the problem.
    #[error("{0}")]
    Event(String),
    /// The server accepted none of these lines.
    #[error("lines {first} to {last} of {name} were not posted: {source}")]
    NotTaken { name: String, first: u64, last: u64, source: ClientError },
    /// The system does not report signals.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// The user ended the command between two requests.
    #[error("interrupted")]
    Interrupted,
    /// The user ended the command while the server was answering.
    #[error("interrupted; it is unknown whether lines {first} to {last} of {name} were posted")]
    InterruptedWhile { name: String, first: u64, last: u64 },
    /// It is unknown whether the server accepted these lines.
    #[error("it is unknown whether lines {first} to {last} of {name} were posted: {source}")]
    Unknown { name: String, first: u64, last: u64, source: ClientError },
}
