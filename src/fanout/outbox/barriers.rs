//! Remembers when an object last had an event other than an update (created, deleted, and so on). Updates on both
//! sides of such an event must not be conflated, even if the connection did not register for it.
//!
//! Contract: may report a barrier where there is none (objects share buckets in a fixed-size table), never the
//! opposite. Costs nothing while no connection of the shard conflates.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use crate::event::Event;

/// Number of buckets; a power of two.
const BUCKETS: usize = 4096;

/// What a frame stores of its event, so that a pass over an outbox hashes nothing: a hash of the object's Type and Key,
/// and in the lowest bit whether the event is an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Object(u32);

impl Object {
    /// Returns whether the event may be conflated with others of its object.
    pub(super) fn is_update(self) -> bool {
        self.0 & 1 == 1
    }

    /// Returns whether two objects may be the same.
    pub(super) fn may_be(self, other: Self) -> bool {
        self.0 >> 1 == other.0 >> 1
    }

    /// Returns a hash for a table of objects.
    pub(super) fn hash(self) -> u64 {
        u64::from(self.0 >> 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    /// Returns the bucket that records the last non-update event of this object, shared with other objects.
    pub(super) fn bucket(self) -> usize {
        (self.0 >> 1) as usize % BUCKETS
    }
}

/// Records non-update events per object in a fixed-size table, so that conflation never crosses one. May report a
/// barrier where there is none, never the opposite.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    hasher: DefaultHashBuilder,
    /// The number of the last such event by bucket; empty while no connection conflates.
    last: Box<[u64]>,
    users: usize,
}

/// Returns whether an event may be conflated with others of its object.
fn is_update(event: &Event) -> bool {
    matches!(event.action(), "update" | "save")
}

impl Barriers {
    /// Adds a conflating connection.
    pub(super) fn acquire(&mut self) {
        self.users += 1;
        if self.last.is_empty() {
            self.last = vec![0; BUCKETS].into();
        }
    }

    /// Removes a conflating connection.
    pub(super) fn release(&mut self) {
        self.users -= 1;
        if self.users == 0 {
            self.last = Box::default();
        }
    }

    /// Returns the number of conflating connections.
    pub(super) fn users(&self) -> usize {
        self.users
    }

    /// Records an event of the shard, whether or not any connection receives it.
    pub(super) fn note(&mut self, event: &Event, number: u64) {
        if self.users > 0 && !is_update(event) {
            let bucket = self.object(event).bucket();
            self.last[bucket] = number;
        }
    }

    /// Returns whether the object may have had an event other than an update since the event with this number.
    pub(super) fn any_since(&self, number: u64, object: Object) -> bool {
        self.last[object.bucket()] > number
    }

    /// Returns the object of an event; the default one while no connection conflates.
    pub(super) fn object(&self, event: &Event) -> Object {
        if self.users == 0 {
            return Object::default();
        }
        let hash = self.hasher.hash_one((event.kind(), event.key()));
        let [.., a, b, c, d] = hash.to_be_bytes();
        Object(u32::from_be_bytes([a, b, c, d]) & !1 | u32::from(is_update(event)))
    }
}
