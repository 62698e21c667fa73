//! Where an event stands in the order of the broker that sequenced it.

use std::fmt;

/// A place in the order of events: one event's number in this process, or the next event's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Which run of the process.
    pub epoch: u64,
    /// Which event.
    pub sequence: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}", self.epoch, self.sequence)
    }
}
