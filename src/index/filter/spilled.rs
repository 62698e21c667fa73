//! The index of a leaf with more than a few filters: each is filed under the values that one of its fields must have.
//!
//! Contract: see [`leaf`](super::leaf). Filing a filter and removing it takes a step for each of its keys, whatever the
//! leaf contains otherwise.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use smallvec::SmallVec;

use super::eval::{Engine, Evaluation};
use super::fields::LookupId;
use super::payers::{Payers, try_all};
use super::plan::{FilterId, Keys};
use super::value::Value;

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
    postings: Vec<Posting>,
    free_postings: Vec<u32>,
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
    /// Under these postings, at these positions.
    Postings(Box<[(u32, u32)]>),
}

/// The values of one field that filters require.
#[derive(Debug)]
struct Access {
    lookup: LookupId,
    /// Postings by the hash of their value.
    values: HashTable<u32>,
    /// The number of values that are arrays or objects.
    compounds: usize,
}

/// The slots that require one value, each with the number of this posting among its own.
#[derive(Debug)]
struct Posting {
    lookup: LookupId,
    value: Value,
    slots: Vec<(u32, u32)>,
}

impl Spilled {
    /// Returns the number of pairs.
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    /// Returns the number of values that filters are filed under, once for each filter.
    #[cfg(test)]
    pub(super) fn postings(&self) -> usize {
        self.postings.iter().map(|posting| posting.slots.len()).sum()
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
        let slot = self.by_filter[&filter];
        let members = &mut self.slots[slot as usize].members;
        members.swap_remove(position as usize);
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
                let access = *self.by_lookup.get(lookup)?;
                self.posting(&self.access[access as usize], value.as_str().as_bytes())
                    .map(|id| self.postings[id as usize].slots.len())
            };
            let crowd: usize = keys.iter().filter_map(waiting).sum();
            let new = keys.iter().filter(|(lookup, _)| !self.by_lookup.contains_key(lookup)).count();
            (crowd, new, keys.len())
        })
    }

    fn posting(&self, access: &Access, value: &[u8]) -> Option<u32> {
        let is = |id: &u32| self.postings[*id as usize].value.as_str().as_bytes() == value;
        access.values.find(self.hasher.hash_one(value), is).copied()
    }

    fn file(&mut self, slot: u32, keys: Keys) -> Home {
        let mut positions = Vec::with_capacity(keys.len());
        for (number, (lookup, value)) in keys.into_iter().enumerate() {
            let posting = self.posting_for(lookup, value);
            let slots = &mut self.postings[posting as usize].slots;
            positions.push((posting, index(slots.len())));
            slots.push((slot, index(number)));
        }
        Home::Postings(positions.into())
    }

    fn posting_for(&mut self, lookup: LookupId, value: Value) -> u32 {
        let at = *self.by_lookup.entry(lookup).or_insert_with(|| {
            self.access.push(Access { lookup, values: HashTable::new(), compounds: 0 });
            index(self.access.len() - 1)
        }) as usize;
        if let Some(id) = self.posting(&self.access[at], value.as_str().as_bytes()) {
            return id;
        }
        self.access[at].compounds += usize::from(value.is_compound());
        let hash = self.hasher.hash_one(value.as_str().as_bytes());
        let posting = Posting { lookup, value, slots: Vec::new() };
        let id = if let Some(id) = self.free_postings.pop() {
            self.postings[id as usize] = posting;
            id
        } else {
            self.postings.push(posting);
            index(self.postings.len() - 1)
        };
        let (postings, hasher) = (&self.postings, &self.hasher);
        let rehash = |id: &u32| hasher.hash_one(postings[*id as usize].value.as_str().as_bytes());
        self.access[at].values.insert_unique(hash, id, rehash);
        id
    }

    fn remove_slot(&mut self, id: u32, filter: FilterId) {
        self.by_filter.remove(&filter);
        self.free.push(id);
        match std::mem::replace(&mut self.slots[id as usize].home, Home::Rest(0)) {
            Home::Rest(position) => {
                self.rest.swap_remove(position as usize);
                if let Some((_, moved)) = self.rest.get(position as usize) {
                    self.slots[*moved as usize].home = Home::Rest(position);
                }
            }
            Home::Postings(positions) => {
                // Read again for each: removing one moves another slot, never this one, which is in each once.
                for (posting, position) in positions {
                    self.unfile(posting, position);
                }
            }
        }
    }

    fn unfile(&mut self, id: u32, position: u32) {
        let posting = &mut self.postings[id as usize];
        posting.slots.swap_remove(position as usize);
        if let Some((slot, number)) = posting.slots.get(position as usize) {
            if let Home::Postings(positions) = &mut self.slots[*slot as usize].home {
                positions[*number as usize].1 = position;
            }
        } else if posting.slots.is_empty() {
            self.drop_posting(id);
        }
    }

    fn drop_posting(&mut self, id: u32) {
        let posting = &mut self.postings[id as usize];
        posting.slots = Vec::new();
        let hash = self.hasher.hash_one(posting.value.as_str().as_bytes());
        let lookup = posting.lookup;
        let Some(&at) = self.by_lookup.get(&lookup) else { return };
        let access = &mut self.access[at as usize];
        if let Ok(entry) = access.values.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        access.compounds -= usize::from(posting.value.is_compound());
        if access.values.is_empty() {
            self.by_lookup.remove(&lookup);
            self.access.swap_remove(at as usize);
            if let Some(moved) = self.access.get(at as usize) {
                self.by_lookup.insert(moved.lookup, at);
            }
        }
        self.free_postings.push(id);
    }

    pub(super) fn candidates(&mut self, evaluation: &mut Evaluation<'_>, members: &mut impl Payers) {
        self.visit += 1;
        let Self { slots, rest, access, postings, hasher, visit, .. } = self;
        for access in access {
            if find_key(access, postings, slots, evaluation, members).is_none() {
                continue;
            }
            let Some(value) = evaluation.key(access.lookup, access.compounds > 0) else { continue };
            let is = |id: &u32| postings[*id as usize].value.as_str().as_bytes() == value;
            let Some(id) = access.values.find(hasher.hash_one(value), is) else { continue };
            for (slot, _) in &postings[*id as usize].slots {
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
fn find_key(
    access: &Access,
    postings: &[Posting],
    slots: &[Slot],
    evaluation: &mut Evaluation<'_>,
    members: &mut impl Payers,
) -> Option<()> {
    let waiting = access.values.iter().flat_map(|id| &postings[*id as usize].slots);
    let mut waiting = waiting.flat_map(|(slot, _)| &slots[*slot as usize].members);
    let compounds = access.compounds > 0;
    waiting
        .find_map(|member| members.ask(*member, evaluation, |evaluation| evaluation.find_key(access.lookup, compounds)))
}

fn index(count: usize) -> u32 {
    u32::try_from(count).expect("fewer pairs than bytes of memory / 4")
}
