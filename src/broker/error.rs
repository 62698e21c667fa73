//! The reason why events were not accepted.

use thiserror::Error;

use crate::metrics::Source;

/// The reason why events were not accepted.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum PublishError {
    /// A shard is overloaded; retry shortly.
    #[error("the inboxes are full (inbox.events or inbox.bytes is reached; {events} events are queued); try again")]
    Full {
        /// The number of events queued for the slowest shard.
        events: usize,
    },
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Stopped,
}

impl PublishError {
    /// Returns how many of these events count as refused: posted ones that found the inboxes full. Other sources retry,
    /// or count what they drop themselves, and a broker that stops is not overloaded.
    pub(super) fn refused(self, source: Source, events: usize) -> u64 {
        match self {
            Self::Full { .. } if source == Source::Post => events as u64,
            Self::Full { .. } | Self::Stopped => 0,
        }
    }
}
