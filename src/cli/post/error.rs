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
    #[error("cannot post {} of {name}: {source}", lines(*first, *last))]
    NotTaken { name: String, first: u64, last: u64, source: ClientError },
    /// The system does not report signals.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// The user ended the command between two requests.
    #[error("interrupted")]
    Interrupted,
    /// The user ended the command while the server was answering.
    #[error("interrupted; it is unknown whether the server accepted {} of {name}", lines(*first, *last))]
    InterruptedWhile { name: String, first: u64, last: u64 },
    /// It is unknown whether the server accepted these lines.
    #[error("it is unknown whether the server accepted {} of {name}: {source}", lines(*first, *last))]
    Unknown { name: String, first: u64, last: u64, source: ClientError },
}

/// Names the lines from one to another.
fn lines(first: u64, last: u64) -> String {
    if first == last { format!("line {first}") } else { format!("lines {first} to {last}") }
}
