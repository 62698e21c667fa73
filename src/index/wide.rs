//! Registrations whose lists make many combinations: kept as lists, and looked at for every event.
//!
//! To put tens of thousands of combinations into the trie, or to take them out, is one piece of work that others would
//! wait for, and it can not be interrupted: a registration counts from its place in the order of events on, whole. So
//! the trie takes small ones only ([`Limits::expanded`](super::Limits::expanded), and `expanded_in_all` of a subscriber
//! together); a wide one costs its length once, and each event three searches ([`Wide::price`]), which its subscriber
//! pays for as it pays for filters. Those of a subscriber that may not see the event, is paused, or cannot pay any more
//! are not looked at: whatever their number, that costs one question.
//!
//! Contract: adding and removing take O(1), whatever the lists make.

use std::cell::Cell;

use hashbrown::HashMap;

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
    /// Where it is among those of its subscriber.
    at: usize,
    /// What it has done. The work of its filter is not in it.
    tally: Cell<Tally>,
}

impl Wide {
    /// A subscriber's registration.
    pub(super) fn new(slot: u32, spec: &Spec, filter: Option<FilterId>) -> Self {
        let [kind, action, key] = [&spec.kind, &spec.action, &spec.key].map(Clone::clone);
        Self { slot, lists: Spec { kind, action, key, filter: None }, filter, at: 0, tally: Cell::default() }
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

/// All wide registrations, those of each subscriber together: whether it may see an event and can pay is asked once for
/// all of them.
#[derive(Debug, Default)]
pub(super) struct Wides {
    all: Vec<Option<Wide>>,
    free: Vec<u32>,
    by_slot: Vec<Own>,
    /// Where each subscriber's are.
    places: HashMap<u32, usize>,
}

/// The wide registrations of one subscriber, by their numbers.
#[derive(Debug)]
struct Own {
    slot: u32,
    numbers: Vec<u32>,
}

impl Wides {
    /// Adds one; the number under which it is found again.
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

    /// Takes one out.
    pub(super) fn remove(&mut self, number: u32) {
        let Some(Wide { slot, at, .. }) = self.all[number as usize].take() else { return };
        self.free.push(number);
        let place = self.places[&slot];
        let numbers = &mut self.by_slot[place].numbers;
        numbers.swap_remove(at);
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
        if self.len() == 0 {
            *self = Self::default();
        }
    }

    /// The one with this number.
    pub(super) fn get(&self, number: u32) -> &Wide {
        self.find(number as usize).expect("named by its registration")
    }

    /// The one with this number, if there is one.
    pub(super) fn find(&self, number: usize) -> Option<&Wide> {
        self.all.get(number)?.as_ref()
    }

    /// The subscribers that have some, each with its own.
    pub(super) fn by_slot(&self) -> impl Iterator<Item = (u32, &[u32])> {
        self.by_slot.iter().map(|own| (own.slot, own.numbers.as_slice()))
    }

    /// How many numbers there are, free ones included.
    pub(super) fn numbers(&self) -> usize {
        self.all.len()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }
}
