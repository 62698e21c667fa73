//! The position of an event in the order of the broker that sequenced it.

use std::fmt;

/// A position in the order of events: the number of an event in this process, or of the next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Identifies a run of the process.
    pub epoch: u64,
    /// Number of the event in that run.
    pub sequence: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}", self.epoch, self.sequence)
    }
}
