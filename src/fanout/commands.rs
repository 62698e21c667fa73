//! Counts commands by their outcome.
//!
//! Contract: plain numbers of one shard, collected once a turn.

use crate::metrics::Outcome;

/// Commands since they were last asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Commands {
    counts: [u64; 3],
    /// Registrations that were one too many.
    too_many: u64,
}

impl Commands {
    pub(super) fn count(&mut self, outcome: Outcome) {
        self.counts[outcome as usize] += 1;
    }

    /// A registration was one too many.
    pub(super) fn count_too_many(&mut self) {
        self.too_many += 1;
    }

    /// How many registrations were refused because the connection had as many as it may.
    pub fn too_many(&self) -> u64 {
        self.too_many
    }

    /// The counts by outcome.
    pub fn iter(self) -> impl Iterator<Item = (Outcome, u64)> {
        [Outcome::Registered, Outcome::Deregistered, Outcome::Refused].into_iter().zip(self.counts)
    }
}
