//! The index of a leaf with more than a few filters: each is filed under the values that one of its fields must have.
//!
//! Contract: see [`leaf`](super::leaf). Filing a filter and removing it takes a step for each of its keys, whatever the
//! leaf contains otherwise; removing takes amortized so many, since tables are made smaller
//! ([`shrink`](super::shrink)). All memory is in proportion to the pairs and keys that are there, not to those
//! that were.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use smallvec::SmallVec;

use super::eval::{Engine, Evaluation};
use super::fields::LookupId;
use super::payers::{Payers, try_all};
use super::plan::{FilterId, Keys};
use super::shrink::{is_sparse, shrink_inline, shrink_list, shrink_map, shrink_table};
use super::value::Value;

/// Members that are asked to pay for the lookup of a field, besides the first, before it is made for all.
const ASKED: usize = 15;

/// About what it takes to find a member and to be refused by it, in units of work.
const VISIT: u64 = 64;

/// Units that such a lookup may take in any case: enough for all scalars and for short arrays and objects.
const LEAST_LENT: u64 = 10_000;

/// A leaf with an index. Positions are indexes into lists, so anything is removed by swapping the last item in.
#[derive(Debug, Default)]
pub(super) struct Spilled {
    /// The distinct filters; free slots have no members.
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_filter: HashMap<FilterId, u32>,
    /// The position of each pair among its filter's members.
    positions: HashMap<(FilterId, u32), u32>,
    /// The slots that cannot be found by a value.
    rest: Vec<(FilterId, u32)>,
    access: Vec<Access>,
    /// The position of each field in `access`.
    by_lookup: HashMap<LookupId, u32>,
    /// The number of keys under which slots are filed.
    filed: usize,
    hasher: DefaultHashBuilder,
    /// The number of the last call of `candidates`.
    visit: u64,
}

#[derive(Debug)]
struct Slot {
    filter: FilterId,
    members: SmallVec<[u32; 2]>,
    home: Home,
    /// The last visit that evaluated it; filters with keys under several lookups can be found twice.
    visit: u64,
}

/// Where a slot is filed.
#[derive(Debug)]
enum Home {
    /// In `rest`, at this position.
    Rest(u32),
    /// Under these keys, by number.
    Filed(Box<[Place]>),
}

/// The place of a slot among those that require a value.
#[derive(Debug, Clone, Copy)]
struct Place {
    lookup: LookupId,
    position: u32,
    /// The hash of the value, by which the posting is found.
    hash: u64,
}

/// The values of one field that filters require.
#[derive(Debug)]
struct Access {
    lookup: LookupId,
    /// In the table themselves and not in a list beside it: a list could be made smaller only by moving postings, and
    /// then all slots of a posting would have to be told.
    values: HashTable<Posting>,
    /// The number of values that are arrays or objects.
    compounds: usize,
    /// The number of slots in all postings.
    filed: usize,
}

/// The slots that require one value, each with the number of this key among its own.
#[derive(Debug)]
struct Posting {
    hash: u64,
    value: Value,
    slots: SmallVec<[(u32, u32); 2]>,
}

impl Posting {
    fn is_of(&self, value: &[u8]) -> bool {
        self.value.as_str().as_bytes() == value
    }
}

impl Spilled {
    /// Returns the number of pairs.
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    /// Returns the number of values that filters are filed under, once for each filter.
    #[cfg(test)]
    pub(super) fn postings(&self) -> usize {
        self.access.iter().flat_map(|access| &access.values).map(|posting| posting.slots.len()).sum()
    }

    /// Returns the number of entries for which there is room, in all tables together.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        let values = self.access.iter().map(|access| access.values.num_buckets()).sum::<usize>();
        let lists = [self.slots.capacity(), self.free.capacity(), self.rest.capacity(), self.access.capacity()];
        let maps = [self.by_filter.capacity(), self.positions.capacity(), self.by_lookup.capacity()];
        values + lists.into_iter().chain(maps).sum::<usize>()
    }

    /// Returns all pairs.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (FilterId, u32)> {
        self.positions.keys().copied()
    }

    /// Adds a pair; files a new filter by its values if it has a set of at most this number of keys.
    pub(super) fn insert(&mut self, engine: &Engine, filter: FilterId, member: u32, most_keys: usize) -> bool {
        if self.positions.contains_key(&(filter, member)) {
            return false;
        }
        let known = self.by_filter.get(&filter).copied();
        let slot = known.unwrap_or_else(|| self.add_slot(filter, engine.keys(filter, most_keys)));
        let members = &mut self.slots[slot as usize].members;
        self.positions.insert((filter, member), index(members.len()));
        members.push(member);
        true
    }

    pub(super) fn remove(&mut self, filter: FilterId, member: u32) -> bool {
        let Some(position) = self.positions.remove(&(filter, member)) else {
            return false;
        };
        shrink_map(&mut self.positions);
        let slot = self.by_filter[&filter];
        let members = &mut self.slots[slot as usize].members;
        members.swap_remove(position as usize);
        shrink_inline(members);
        if let Some(moved) = members.get(position as usize) {
            self.positions.insert((filter, *moved), position);
        } else if members.is_empty() {
            self.remove_slot(slot, filter);
        }
        true
    }

    fn add_slot(&mut self, filter: FilterId, key_sets: Vec<Keys>) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| index(self.slots.len()));
        let home = if let Some(keys) = self.best(key_sets) {
            self.file(id, keys)
        } else {
            self.rest.push((filter, id));
            Home::Rest(index(self.rest.len() - 1))
        };
        let slot = Slot { filter, members: SmallVec::new(), home, visit: 0 };
        if id as usize == self.slots.len() {
            self.slots.push(slot);
        } else {
            self.slots[id as usize] = slot;
        }
        self.by_filter.insert(filter, id);
        id
    }

    /// Returns the keys that lead to the fewest other filters; prefers fields that other filters already use.
    fn best(&self, sets: Vec<Keys>) -> Option<Keys> {
        sets.into_iter().min_by_key(|keys| {
            let waiting = |(lookup, value): &(LookupId, Value)| {
                let access = &self.access[*self.by_lookup.get(lookup)? as usize];
                let value = value.as_str().as_bytes();
                let posting = access.values.find(self.hasher.hash_one(value), |posting| posting.is_of(value))?;
                Some(posting.slots.len())
            };
            let crowd: usize = keys.iter().filter_map(waiting).sum();
            let new = keys.iter().filter(|(lookup, _)| !self.by_lookup.contains_key(lookup)).count();
            (crowd, new, keys.len())
        })
    }

    fn file(&mut self, slot: u32, keys: Keys) -> Home {
        self.filed += keys.len();
        let mut places = Vec::with_capacity(keys.len());
        for (number, (lookup, value)) in keys.into_iter().enumerate() {
            let Posting { hash, slots, .. } = self.posting_for(lookup, value);
            places.push(Place { lookup, position: index(slots.len()), hash: *hash });
            slots.push((slot, index(number)));
        }
        Home::Filed(places.into())
    }

    /// Returns the posting of a value, to which the caller adds a slot.
    fn posting_for(&mut self, lookup: LookupId, value: Value) -> &mut Posting {
        let at = *self.by_lookup.entry(lookup).or_insert_with(|| {
            self.access.push(Access { lookup, values: HashTable::new(), compounds: 0, filed: 0 });
            index(self.access.len() - 1)
        });
        let Access { values, compounds, filed, .. } = &mut self.access[at as usize];
        *filed += 1;
        let hash = self.hasher.hash_one(value.as_str().as_bytes());
        match values.entry(hash, |posting| posting.value == value, |posting| posting.hash) {
            Entry::Occupied(posting) => posting.into_mut(),
            Entry::Vacant(vacant) => {
                *compounds += usize::from(value.is_compound());
                vacant.insert(Posting { hash, value, slots: SmallVec::new() }).into_mut()
            }
        }
    }

    fn remove_slot(&mut self, id: u32, filter: FilterId) {
        self.by_filter.remove(&filter);
        shrink_map(&mut self.by_filter);
        self.free.push(id);
        match std::mem::replace(&mut self.slots[id as usize].home, Home::Rest(0)) {
            Home::Rest(position) => {
                self.rest.swap_remove(position as usize);
                if let Some((_, moved)) = self.rest.get(position as usize) {
                    self.slots[*moved as usize].home = Home::Rest(position);
                }
                shrink_list(&mut self.rest);
            }
            Home::Filed(places) => {
                self.filed -= places.len();
                // Removing it moves other slots, whose places are updated; it is in each posting once.
                for (number, place) in places.into_iter().enumerate() {
                    self.unfile((id, index(number)), place);
                }
            }
        }
        if is_sparse(self.by_filter.len() + self.filed, self.slots.len()) {
            self.renumber();
        }
    }

    /// Removes a slot, with the number of the key among its own, from where it is filed.
    fn unfile(&mut self, slot: (u32, u32), Place { lookup, position, hash }: Place) {
        let Some(&at) = self.by_lookup.get(&lookup) else { return };
        let Access { values, compounds, filed, .. } = &mut self.access[at as usize];
        let is = |posting: &Posting| posting.slots.get(position as usize) == Some(&slot);
        let Ok(mut posting) = values.find_entry(hash, is) else { return };
        let Posting { value, slots, .. } = posting.get_mut();
        *filed -= 1;
        slots.swap_remove(position as usize);
        if let Some((moved, number)) = slots.get(position as usize)
            && let Home::Filed(places) = &mut self.slots[*moved as usize].home
        {
            places[*number as usize].position = position;
        }
        shrink_inline(slots);
        if slots.is_empty() {
            *compounds -= usize::from(value.is_compound());
            posting.remove();
            self.shrink_access(at, lookup);
        }
    }

    /// Makes the table of a field smaller, or removes it if it is empty.
    fn shrink_access(&mut self, at: u32, lookup: LookupId) {
        let values = &mut self.access[at as usize].values;
        if !values.is_empty() {
            return shrink_table(values, |posting| posting.hash);
        }
        self.by_lookup.remove(&lookup);
        shrink_map(&mut self.by_lookup);
        self.access.swap_remove(at as usize);
        if let Some(moved) = self.access.get(at as usize) {
            self.by_lookup.insert(moved.lookup, at);
        }
        shrink_list(&mut self.access);
    }

    /// Gives the slots new numbers without gaps. Takes a step for each slot and each key, so it is called only after
    /// many times that many slots were removed.
    fn renumber(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.free = Vec::new();
        let mut numbers = vec![0; old.len()];
        for (at, slot) in old.into_iter().enumerate().filter(|(_, slot)| !slot.members.is_empty()) {
            numbers[at] = index(self.slots.len());
            self.slots.push(slot);
        }
        let filed = self.access.iter_mut().flat_map(|access| &mut access.values);
        let filed = filed.flat_map(|posting| &mut posting.slots).map(|(slot, _)| slot);
        let rest = self.rest.iter_mut().map(|(_, slot)| slot);
        filed.chain(rest).chain(self.by_filter.values_mut()).for_each(|slot| *slot = numbers[*slot as usize]);
    }

    pub(super) fn candidates(&mut self, evaluation: &mut Evaluation<'_>, members: &mut impl Payers) {
        self.visit += 1;
        let Self { slots, rest, access, hasher, visit, .. } = self;
        for access in access {
            if find_key(access, slots, evaluation, members).is_none() {
                continue;
            }
            let Some(value) = evaluation.key(access.lookup, access.compounds > 0) else { continue };
            let posting = access.values.find(hasher.hash_one(value), |posting| posting.is_of(value));
            let Some(posting) = posting else { continue };
            for (slot, _) in &posting.slots {
                let slot = &mut slots[*slot as usize];
                if slot.visit != *visit {
                    slot.visit = *visit;
                    try_all(evaluation, slot.filter, &slot.members, members);
                }
            }
        }
        for (filter, slot) in rest {
            try_all(evaluation, *filter, &slots[*slot as usize].members, members);
        }
    }
}

/// Looks up a field and charges a member that requires one of its values; returns `None` if no member can pay.
fn find_key(access: &Access, slots: &[Slot], evaluation: &mut Evaluation<'_>, members: &mut impl Payers) -> Option<()> {
    let waiting = access.values.iter().flat_map(|posting| &posting.slots);
    let mut waiting = waiting.flat_map(|(slot, _)| slots[*slot as usize].members.iter().copied());
    let (first, compounds) = (waiting.next()?, access.compounds > 0);
    members
        .ask(first, evaluation, |evaluation| evaluation.find_key(access.lookup, compounds))
        .or_else(|| find_key_of_others(access, first, waiting, evaluation, members))
}

/// Like [`find_key`], when the `first` member cannot pay. If none of the next ones can either, the field is looked up
/// all the same and the first is billed: there may be one among the others that can pay for its filter, and asking all
/// of them would take longer. Only if the lookup would take still longer are they asked.
#[cold]
fn find_key_of_others(
    access: &Access,
    first: u32,
    mut waiting: impl Iterator<Item = u32>,
    evaluation: &mut Evaluation<'_>,
    members: &mut impl Payers,
) -> Option<()> {
    let compounds = access.compounds > 0;
    let mut find_key = |evaluation: &mut Evaluation<'_>| evaluation.find_key(access.lookup, compounds);
    let paid = waiting.by_ref().take(ASKED).find_map(|member| members.ask(member, evaluation, &mut find_key));
    let next = if paid.is_none() { waiting.next() } else { None };
    let Some(next) = next else { return paid };
    let units = (access.filed as u64).saturating_mul(VISIT).max(LEAST_LENT);
    let before = evaluation.spent();
    evaluation.allow(units);
    let found = find_key(evaluation);
    members.bill(first, evaluation.spent() - before);
    found.or_else(|| {
        let mut others = std::iter::once(next).chain(waiting);
        others.find_map(|member| members.ask(member, evaluation, &mut find_key))
    })
}

fn index(count: usize) -> u32 {
    u32::try_from(count).expect("fewer pairs than bytes of memory / 4")
}
