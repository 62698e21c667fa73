//! When an object was last created, deleted or otherwise changed than by an update: no two of its updates may be
//! conflated across that, even if the connection did not ask for the event in between.
//!
//! Contract: may say that there was something in between where there was nothing (objects share places in a table of a
//! fixed size), never the opposite. Costs nothing while no connection of the shard conflates.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use crate::event::Event;

/// Places; a power of two.
const PLACES: usize = 4096;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    hasher: DefaultHashBuilder,
    /// The number of the last such event by place; empty while nobody conflates.
    last: Box<[u64]>,
    users: usize,
}

/// Whether an event can be taken together with others of its object.
pub(super) fn is_update(event: &Event) -> bool {
    matches!(event.action(), "update" | "save")
}

impl Barriers {
    /// One more connection conflates.
    pub(super) fn acquire(&mut self) {
        self.users += 1;
        if self.last.is_empty() {
            self.last = vec![0; PLACES].into();
        }
    }

    /// One connection less conflates.
    pub(super) fn release(&mut self) {
        self.users -= 1;
        if self.users == 0 {
            self.last = Box::default();
        }
    }

    /// Notes an event, whoever gets it.
    pub(super) fn note(&mut self, event: &Event, number: u64) {
        if self.users > 0 && !is_update(event) {
            let place = self.place(event);
            self.last[place] = number;
        }
    }

    /// Whether something other than an update may have happened to the event's object since the event with this number.
    pub(super) fn any_since(&self, number: u64, event: &Event) -> bool {
        self.last[self.place(event)] > number
    }

    pub(super) fn place(&self, event: &Event) -> usize {
        let hash = self.hasher.hash_one((event.kind(), event.key()));
        usize::try_from(hash % PLACES as u64).expect("below the number of places")
    }
}
