//! Registrations with many combinations: stored as lists, and checked for every event.
//!
//! Adding tens of thousands of combinations to the trie, or removing them, is one step that cannot be interrupted while
//! others wait, because a registration takes effect as a whole at its position in the order of events. So the trie
//! holds small registrations only ([`Limits::expanded`](super::Limits::expanded), and `expanded_in_all` for all of a
//! subscriber). A wide one costs its length once, and three searches per event ([`Wide::price`]), charged to its
//! subscriber like filter work. The wide registrations of a subscriber that may not see the event, is paused, or has
//! exhausted its budget are skipped with a single check.
//!
//! Contract: adding and removing take O(1), whatever the lists contain.

use std::cell::Cell;

use hashbrown::HashMap;

use super::Spec;
use super::filter::FilterId;
use super::filter::shrink::shrink_list;
use super::tallies::{Tallies, Tally};
use crate::event::Event;

/// Units of work for each step of a search.
const STEP: u64 = 8;

/// A registration with too many combinations for the trie, matched by binary search in its lists.
#[derive(Debug)]
pub(super) struct Wide {
    pub(super) slot: u32,
    /// The registration without its filter.
    lists: Spec,
    pub(super) filter: Option<FilterId>,
    /// Its index among those of its subscriber.
    at: usize,
    /// What it has matched and cost, except the work of its filter.
    tally: Cell<Tally>,
}

impl Wide {
    /// Creates the wide registration of a subscriber.
    pub(super) fn new(slot: u32, spec: &Spec, filter: Option<FilterId>) -> Self {
        let [kind, action, key] = [&spec.kind, &spec.action, &spec.key].map(Clone::clone);
        Self { slot, lists: Spec { kind, action, key, filter: None }, filter, at: 0, tally: Cell::default() }
    }

    /// Returns whether the lists match.
    pub(super) fn is_reached_by(&self, event: &Event) -> bool {
        self.lists.lists_match(event)
    }

    /// Returns the cost of checking it, in units of work.
    pub(super) fn price(&self) -> u64 {
        let steps = |names: usize| u64::from((names as u64 + 1).ilog2()) + 1;
        let Spec { kind, action, key, .. } = &self.lists;
        STEP * [kind, action, key].map(|field| steps(field.branches())).iter().sum::<u64>()
    }

    /// Counts a check, and whether it matched.
    pub(super) fn count(&self, hit: bool, tallies: &Tallies) {
        let mut tally = self.tally.get();
        tallies.note(&mut tally, self.price(), hit);
        self.tally.set(tally);
    }

    /// Returns what it has matched and cost.
    pub(super) fn tally(&self) -> Tally {
        self.tally.get()
    }

    /// Returns the number of combinations in its lists.
    pub(super) fn combinations(&self) -> usize {
        self.lists.combinations()
    }
}

/// All wide registrations, grouped by subscriber: rights and budget are checked once for all of a subscriber.
#[derive(Debug, Default)]
pub(super) struct Wides {
    all: Vec<Option<Wide>>,
    free: Vec<u32>,
    by_slot: Vec<Own>,
    /// The index in `by_slot` of each subscriber.
    places: HashMap<u32, usize>,
}

/// The wide registrations of one subscriber, by their numbers.
#[derive(Debug)]
struct Own {
    slot: u32,
    numbers: Vec<u32>,
}

impl Wides {
    /// Adds a registration and returns its number.
    pub(super) fn add(&mut self, mut wide: Wide) -> u32 {
        let slot = wide.slot;
        let place = *self.places.entry(slot).or_insert_with(|| {
            self.by_slot.push(Own { slot, numbers: Vec::new() });
            self.by_slot.len() - 1
        });
        let numbers = &mut self.by_slot[place].numbers;
        wide.at = numbers.len();
        let number = if let Some(free) = self.free.pop() {
            self.all[free as usize] = Some(wide);
            free
        } else {
            self.all.push(Some(wide));
            u32::try_from(self.all.len() - 1).expect("fewer than 4 billion registrations")
        };
        numbers.push(number);
        number
    }

    /// Removes a registration.
    pub(super) fn remove(&mut self, number: u32) {
        let Some(Wide { slot, at, .. }) = self.all[number as usize].take() else { return };
        self.free.push(number);
        let place = self.places[&slot];
        let numbers = &mut self.by_slot[place].numbers;
        numbers.swap_remove(at);
        shrink_list(numbers);
        if let Some(&moved) = numbers.get(at) {
            self.all[moved as usize].as_mut().expect("listed").at = at;
        }
        if numbers.is_empty() {
            self.places.remove(&slot);
            self.by_slot.swap_remove(place);
            if let Some(moved) = self.by_slot.get(place) {
                self.places.insert(moved.slot, place);
            }
        }
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Returns the registration with this number.
    pub(super) fn get(&self, number: u32) -> &Wide {
        self.find(number as usize).expect("named by its registration")
    }

    /// Returns the registration with this number, if there is one.
    pub(super) fn find(&self, number: usize) -> Option<&Wide> {
        self.all.get(number)?.as_ref()
    }

    /// Returns the subscribers with wide registrations, each with the numbers of its own.
    pub(super) fn by_slot(&self) -> impl Iterator<Item = (u32, &[u32])> {
        self.by_slot.iter().map(|own| (own.slot, own.numbers.as_slice()))
    }

    /// Returns how many numbers exist, free ones included.
    pub(super) fn numbers(&self) -> usize {
        self.all.len()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }
}
