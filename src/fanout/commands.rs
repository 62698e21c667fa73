//! Counts commands by their outcome.
//!
//! Contract: plain numbers of one shard, collected once per turn.

use crate::metrics::Outcome;

/// The number of commands by outcome since the last collection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Commands {
    counts: [u64; 3],
    /// Registrations refused because the connection's limit was reached.
    too_many: u64,
}

impl Commands {
    pub(super) fn count(&mut self, outcome: Outcome) {
        self.counts[outcome as usize] += 1;
    }

    /// Counts a registration that was refused because the connection's limit was reached.
    pub(super) fn count_too_many(&mut self) {
        self.too_many += 1;
    }

    /// Returns the number of registrations that were refused because the connection's limit was reached.
    pub fn too_many(&self) -> u64 {
        self.too_many
    }

    /// Returns the counts by outcome.
    pub fn iter(self) -> impl Iterator<Item = (Outcome, u64)> {
        [Outcome::Registered, Outcome::Deregistered, Outcome::Refused].into_iter().zip(self.counts)
    }
}
