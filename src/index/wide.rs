//! Registrations whose lists make many combinations: kept as lists, and looked at for every event.
//!
//! To put tens of thousands of combinations into the trie, or to take them out, is one piece of work that others would
//! wait for, and it can not be interrupted: a registration counts from its place in the order of events on, whole. So
//! the trie takes small ones only ([`Limits::expanded`](super::Limits::expanded), and `expanded_in_all` of a subscriber
//! together); a wide one costs its length once, and each event three searches ([`Wide::price`]), which its subscriber
//! pays for as it pays for filters.
//!
//! Contract: adding and removing take O(1), whatever the lists make.

use std::cell::Cell;

use super::Spec;
use super::filter::FilterId;
use super::tallies::{Tallies, Tally};
use crate::event::Event;

/// Units of work for each step of a search.
const STEP: u64 = 8;

/// Registrations with too many combinations for the trie, matched by binary search in their lists.
#[derive(Debug)]
pub(super) struct Wide {
    pub(super) slot: u32,
    /// Without its filter.
    lists: Spec,
    pub(super) filter: Option<FilterId>,
    /// What it has done. The work of its filter is not in it.
    tally: Cell<Tally>,
}

impl Wide {
    /// A subscriber's registration.
    pub(super) fn new(slot: u32, spec: &Spec, filter: Option<FilterId>) -> Self {
        let [kind, action, key] = [&spec.kind, &spec.action, &spec.key].map(Clone::clone);
        Self { slot, lists: Spec { kind, action, key, filter: None }, filter, tally: Cell::default() }
    }

    /// Whether the lists match.
    pub(super) fn is_reached_by(&self, event: &Event) -> bool {
        self.lists.lists_match(event)
    }

    /// What it costs to look.
    pub(super) fn price(&self) -> u64 {
        let steps = |names: usize| u64::from((names as u64 + 1).ilog2()) + 1;
        let Spec { kind, action, key, .. } = &self.lists;
        STEP * [kind, action, key].map(|field| steps(field.branches())).iter().sum::<u64>()
    }

    /// It was looked at, and matched or not.
    pub(super) fn count(&self, hit: bool, tallies: &Tallies) {
        let mut tally = self.tally.get();
        tallies.note(&mut tally, self.price(), hit);
        self.tally.set(tally);
    }

    /// What it has done.
    pub(super) fn tally(&self) -> Tally {
        self.tally.get()
    }

    /// How many combinations its lists make.
    pub(super) fn combinations(&self) -> usize {
        self.lists.combinations()
    }
}

/// All wide registrations.
#[derive(Debug, Default)]
pub(super) struct Wides {
    all: Vec<Option<Wide>>,
    free: Vec<u32>,
}

impl Wides {
    /// Adds one; the number under which it is found again.
    pub(super) fn add(&mut self, wide: Wide) -> u32 {
        if let Some(number) = self.free.pop() {
            self.all[number as usize] = Some(wide);
            return number;
        }
        self.all.push(Some(wide));
        u32::try_from(self.all.len() - 1).expect("fewer than 4 billion registrations")
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, number: u32) {
        self.all[number as usize] = None;
        self.free.push(number);
        if self.len() == 0 {
            *self = Self::default();
        }
    }

    /// The one with this number.
    pub(super) fn get(&self, number: u32) -> &Wide {
        self.all[number as usize].as_ref().expect("named by its registration")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Wide> {
        self.all.iter().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }
}
