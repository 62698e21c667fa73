//! The reason why events were not accepted.

use thiserror::Error;

/// The reason why events were not accepted.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum PublishError {
    /// A shard is overloaded; retry shortly.
    #[error("the inboxes are full: {events} events are queued; try again")]
    Full {
        /// The number of events queued for the slowest shard.
        events: usize,
    },
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Stopped,
}
