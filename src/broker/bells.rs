//! Wakes the shards for which batches are queued, once for all batches queued since they last looked.

use std::sync::Arc;

use parking_lot::RwLock;

use super::inbox::Bell;

/// The bells of all shards.
#[derive(Debug, Default)]
pub(super) struct Bells(RwLock<Vec<Arc<Bell>>>);

impl Bells {
    /// Adds the bell of a shard.
    pub(super) fn add(&self, bell: Arc<Bell>) {
        self.0.write().push(bell);
    }

    /// Wakes every shard for which batches are queued and that may be asleep.
    pub(super) fn ring(&self) {
        self.0.read().iter().for_each(|bell| bell.ring());
    }
}

/// Events that were sequenced and queued for all shards. Dropping it wakes the shards.
#[derive(Debug)]
#[must_use = "dropping it wakes the shards at once"]
pub struct Queued<'b> {
    /// The sequence number of the first event.
    pub(super) first: u64,
    pub(super) bells: &'b Bells,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.bells.ring();
    }
}
