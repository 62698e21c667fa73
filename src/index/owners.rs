//! Owners of subscribers: they share limits, and see events about themselves.
//!
//! Contract: an owner exists as long as it has a subscriber. Numbers are small and reused; [`NOBODY`] is the owner of
//! subscribers that have none, and has no limits.

use std::sync::Arc;

use hashbrown::HashMap;

use super::accounts::NOBODY;
use super::filter::FilterId;
use super::filter::shrink::{shrink_list, shrink_map};
use super::symbols::Symbol;

/// What one subscriber has registered for about its owner. Types and keys are compared when it registers, so the cost
/// of an event does not depend on the number of its registrations.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    /// By action; `None` stands for all actions.
    wanted: HashMap<Option<Symbol>, Wanted>,
    /// The wide registrations that may match.
    wide: Vec<u32>,
}

/// The number of registrations, without a filter and with each filter.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) plain: u32,
    filters: HashMap<FilterId, u32>,
}

impl Watch {
    /// Returns what is wanted for an action.
    pub(super) fn wanted(&self, action: Option<Symbol>) -> impl Iterator<Item = &Wanted> {
        let named = action.and_then(|action| self.wanted.get(&Some(action)));
        self.wanted.get(&None).into_iter().chain(named)
    }

    /// Returns the numbers of the wide registrations.
    pub(super) fn wide(&self) -> &[u32] {
        &self.wide
    }
}

impl Wanted {
    /// Returns the filters of the registrations that have one.
    pub(super) fn filters(&self) -> impl Iterator<Item = FilterId> {
        self.filters.keys().copied()
    }
}

#[derive(Debug, Clone, Default)]
struct Owner {
    name: Arc<str>,
    subscribers: usize,
    /// Bytes of all their filters.
    bytes: usize,
    /// Bytes of the texts of all their registrations.
    text_bytes: usize,
    /// The subscribers with registrations that may match events about the owner.
    watching: HashMap<u32, Watch>,
}

/// Reference-counted owners of subscribers, numbered densely.
#[derive(Debug)]
pub(super) struct Owners {
    by_name: HashMap<Arc<str>, u32>,
    all: Vec<Owner>,
    free: Vec<u32>,
}

impl Default for Owners {
    fn default() -> Self {
        Self { by_name: HashMap::new(), all: vec![Owner::default()], free: Vec::new() }
    }
}

impl Owners {
    /// Adds a subscriber to an owner. Returns the owner's number.
    pub(super) fn acquire(&mut self, name: &str) -> u32 {
        let number = self.by_name.get(name).copied().unwrap_or_else(|| self.add(name.into()));
        self.all[number as usize].subscribers += 1;
        number
    }

    fn add(&mut self, name: Arc<str>) -> u32 {
        let owner = Owner { name: Arc::clone(&name), ..Owner::default() };
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(Owner::default());
            u32::try_from(self.all.len() - 1).expect("fewer owners than subscribers")
        });
        self.all[number as usize] = owner;
        self.by_name.insert(name, number);
        number
    }

    /// Returns whether an owner has only one subscriber, so that its number may have been reused.
    pub(super) fn is_first(&self, number: u32) -> bool {
        number != NOBODY && self.all[number as usize].subscribers == 1
    }

    /// Removes a subscriber from an owner.
    fn release(&mut self, number: u32) {
        if number == NOBODY {
            return;
        }
        let owner = &mut self.all[number as usize];
        owner.subscribers -= 1;
        if owner.subscribers == 0 {
            self.by_name.remove(&owner.name);
            *owner = Owner::default();
            self.free.push(number);
        }
    }

    /// Returns the name of an owner, or `None` for [`NOBODY`].
    pub(super) fn name(&self, number: u32) -> Option<&str> {
        (number != NOBODY).then(|| &*self.all[number as usize].name)
    }

    /// Returns whether a subscriber has registrations that may match events about its owner.
    pub(super) fn is_watching(&self, number: u32, subscriber: u32) -> bool {
        self.all[number as usize].watching.contains_key(&subscriber)
    }

    /// Records a registration of a subscriber for an action, with or without a filter.
    pub(super) fn watch(&mut self, number: u32, subscriber: u32, action: Option<Symbol>, filter: Option<FilterId>) {
        let watch = self.all[number as usize].watching.entry(subscriber).or_default();
        let wanted = watch.wanted.entry(action).or_default();
        *filter.map_or(&mut wanted.plain, |filter| wanted.filters.entry(filter).or_default()) += 1;
    }

    /// Removes the record of such a registration.
    pub(super) fn unwatch(&mut self, number: u32, subscriber: u32, action: Option<Symbol>, filter: Option<FilterId>) {
        let watching = &mut self.all[number as usize].watching;
        let Some(wanted) = watching.get_mut(&subscriber).and_then(|watch| watch.wanted.get_mut(&action)) else {
            return;
        };
        if let Some(filter) = filter {
            let left = wanted.filters.entry(filter).and_modify(|count| *count -= 1).or_default();
            if *left == 0 {
                wanted.filters.remove(&filter);
                shrink_map(&mut wanted.filters);
            }
        } else {
            wanted.plain -= 1;
        }
        if wanted.plain == 0 && wanted.filters.is_empty() {
            watching.entry(subscriber).and_modify(|watch| {
                watch.wanted.remove(&action);
                shrink_map(&mut watch.wanted);
            });
        }
        self.forget_idle(number, subscriber);
    }

    /// Records a wide registration that may match.
    pub(super) fn watch_wide(&mut self, number: u32, subscriber: u32, wide: u32) {
        self.all[number as usize].watching.entry(subscriber).or_default().wide.push(wide);
    }

    /// Removes the record of a wide registration.
    pub(super) fn unwatch_wide(&mut self, number: u32, subscriber: u32, wide: u32) {
        if let Some(watch) = self.all[number as usize].watching.get_mut(&subscriber) {
            watch.wide.retain(|other| *other != wide);
            shrink_list(&mut watch.wide);
        }
        self.forget_idle(number, subscriber);
    }

    fn forget_idle(&mut self, number: u32, subscriber: u32) {
        let watching = &mut self.all[number as usize].watching;
        if watching.get(&subscriber).is_some_and(|watch| watch.wanted.is_empty() && watch.wide.is_empty()) {
            watching.remove(&subscriber);
            shrink_map(watching);
        }
    }

    /// Removes all records of a subscriber.
    pub(super) fn silence(&mut self, number: u32, subscriber: u32) {
        let watching = &mut self.all[number as usize].watching;
        watching.remove(&subscriber);
        shrink_map(watching);
    }

    /// Forgets a subscriber.
    pub(super) fn forget(&mut self, number: u32, subscriber: u32) {
        self.silence(number, subscriber);
        self.release(number);
    }

    /// Returns the subscribers with registrations that may match events about an owner.
    pub(super) fn watching(&self, name: &str) -> impl Iterator<Item = (u32, &Watch)> {
        let owner = self.by_name.get(name).map(|&number| &self.all[number as usize]);
        owner.into_iter().flat_map(|owner| owner.watching.iter().map(|(slot, watch)| (*slot, watch)))
    }

    /// Returns the bytes of the texts of all registrations of an owner.
    pub(super) fn all_text_bytes(&self, number: u32) -> usize {
        self.all[number as usize].text_bytes
    }

    /// Like [`Owners::all_text_bytes`], mutable.
    pub(super) fn text_bytes(&mut self, number: u32) -> &mut usize {
        &mut self.all[number as usize].text_bytes
    }

    /// Returns the bytes of all filters of an owner, mutable.
    pub(super) fn bytes(&mut self, number: u32) -> &mut usize {
        &mut self.all[number as usize].bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::{Engine, Filter, Limits};
    use super::*;

    /// A subscriber may have thousands of filters for one action, then for the next one.
    #[test]
    fn what_is_no_longer_watched_takes_no_memory() {
        let mut engine = Engine::new();
        let filters: Vec<FilterId> = (0..1_000)
            .map(|n| engine.intern(&Filter::parse(&format!("A=Ne({n})"), &Limits::default()).unwrap()))
            .collect();
        let mut owners = Owners::default();
        let owner = owners.acquire("alice");
        (0..200).for_each(|subscriber| owners.watch(owner, subscriber, None, Some(filters[0])));
        filters[1..].iter().for_each(|filter| owners.watch(owner, 0, None, Some(*filter)));
        (1..200).for_each(|subscriber| owners.unwatch(owner, subscriber, None, Some(filters[0])));
        filters[1..].iter().for_each(|filter| owners.unwatch(owner, 0, None, Some(*filter)));
        let watching = &owners.all[owner as usize].watching;
        let wanted = &watching[&0].wanted[&None];
        assert_eq!((watching.len(), wanted.filters.len()), (1, 1));
        assert!(watching.capacity() < 20 && wanted.filters.capacity() < 20);
        (0..500).for_each(|wide| owners.watch_wide(owner, 0, wide));
        (1..500).for_each(|wide| owners.unwatch_wide(owner, 0, wide));
        let watch = &owners.all[owner as usize].watching[&0];
        assert!(watch.wide == [0] && watch.wide.capacity() < 20);
    }
}
