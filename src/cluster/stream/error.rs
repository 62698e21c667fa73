//! The reasons why a replay ends early.

use thiserror::Error;

use super::pages::PageError;

/// Why a replay ends early.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    /// The client or the broker is gone.
    #[error("the client or the broker is gone")]
    Gone,
    /// The stream cannot be read.
    #[error(transparent)]
    Unreadable(PageError),
    /// The client does not read.
    #[error("the client does not read")]
    Stalled,
    /// Too many other replays are in progress.
    #[error("too many replays are in progress")]
    Busy,
}
