//! Finds the members of a topic whose filter is true.
//!
//! A [`Leaf`] is a set of (filter, member) pairs. The index has one wherever filtered registrations meet; a member is
//! any number that the index assigns. With more than a few pairs the leaf builds an index of its own: a filter that
//! can only be true if some field equals one of some values (`Eq`, `In`, an `And` with one of these, an `Or` of
//! nothing else) is filed under those values, so an event finds it by hash. Ten thousand `Uuid=Eq(..)` cost an event
//! one lookup and one probe. Filters without such a field are evaluated one by one.
//!
//! Contract: inserting and removing are O(1) in the number of pairs (and linear in the values of the filter). A filter
//! must stay interned as long as it is in a leaf. Results are exact: filters found by hash are still evaluated
//! completely.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use smallvec::SmallVec;

use super::eval::{Engine, Evaluation};
use super::fields::LookupId;
use super::plan::{FilterId, Keys};
use super::value::Value;

/// The members of a leaf, and the accounts that pay for evaluation.
///
/// An evaluation is charged to a member that wants it, the first that can pay. A known result costs nothing. So all
/// work is charged exactly once, and no member pays more than its own filters would cost alone: a filter that several
/// members share may be charged to any of them, but never twice to one, and never to a member without it.
pub trait Payers {
    /// Evaluates `question` and charges it to `member`; returns `None` if the member cannot pay.
    fn ask<T>(
        &mut self,
        member: u32,
        evaluation: &mut Evaluation<'_>,
        question: impl FnMut(&mut Evaluation<'_>) -> Option<T>,
    ) -> Option<T>;

    /// Reports a member whose filter is true.
    fn found(&mut self, member: u32);
}

/// Reports members without charging them.
impl<F: FnMut(u32)> Payers for F {
    fn ask<T>(
        &mut self,
        _: u32,
        evaluation: &mut Evaluation<'_>,
        mut question: impl FnMut(&mut Evaluation<'_>) -> Option<T>,
    ) -> Option<T> {
        question(evaluation)
    }

    fn found(&mut self, member: u32) {
        self(member);
    }
}

/// Up to this many pairs a list is cheaper than an index, in time and in memory.
const SHORT: usize = 8;

/// A set of (filter, member) pairs, with a hash index over fields that must have certain values.
///
/// ```
/// use hydrant::index::filter::{Engine, Filter, Leaf, Limits, View};
///
/// let mut engine = Engine::new();
/// let mut leaf = Leaf::default();
/// let filter = Filter::parse("Stage=Eq(local)", &Limits::default()).unwrap();
/// let id = engine.intern(&filter);
/// leaf.insert(&engine, id, 7);
///
/// let mut evaluation = engine.begin(View::object(r#"{"Stage":"local"}"#));
/// let mut members = Vec::new();
/// leaf.candidates(&mut evaluation, |member| members.push(member));
/// assert_eq!(members, [7]);
///
/// leaf.remove(id, 7);
/// engine.release(id);
/// assert_eq!(engine.held(), 0);
/// ```
#[derive(Debug, Default)]
pub struct Leaf {
    /// All pairs, while there are few.
    inline: SmallVec<[(FilterId, u32); 2]>,
    spilled: Option<Box<Spilled>>,
}

impl Leaf {
    /// Adds a pair; returns false if it already exists.
    pub fn insert(&mut self, engine: &Engine, filter: FilterId, member: u32) -> bool {
        if let Some(spilled) = &mut self.spilled {
            return spilled.insert(engine, filter, member);
        }
        if self.inline.contains(&(filter, member)) {
            return false;
        }
        self.inline.push((filter, member));
        if self.inline.len() > SHORT {
            let mut spilled = Box::<Spilled>::default();
            for (filter, member) in std::mem::take(&mut self.inline) {
                spilled.insert(engine, filter, member);
            }
            self.spilled = Some(spilled);
        }
        true
    }

    /// Removes a pair; returns false if it does not exist.
    pub fn remove(&mut self, filter: FilterId, member: u32) -> bool {
        if let Some(spilled) = &mut self.spilled {
            let removed = spilled.remove(filter, member);
            if spilled.positions.is_empty() {
                self.spilled = None;
            }
            return removed;
        }
        let position = self.inline.iter().position(|pair| *pair == (filter, member));
        position.map(|position| self.inline.swap_remove(position)).is_some()
    }

    /// Returns the number of pairs.
    pub fn len(&self) -> usize {
        self.spilled.as_ref().map_or(self.inline.len(), |spilled| spilled.positions.len())
    }

    /// Returns whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls [`Payers::found`] once for every pair whose filter is true for the event, in no particular order.
    pub fn candidates(&mut self, evaluation: &mut Evaluation<'_>, mut members: impl Payers) {
        if let Some(spilled) = &mut self.spilled {
            spilled.candidates(evaluation, &mut members);
        }
        for (filter, member) in &self.inline {
            try_all(evaluation, *filter, &[*member], &mut members);
        }
    }
}

/// A leaf with an index. Positions are indexes into lists, so anything is removed by swapping the last item in.
#[derive(Debug, Default)]
struct Spilled {
    /// The distinct filters; free slots have no members.
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_filter: HashMap<FilterId, u32>,
    /// The position of each pair among its filter's members.
    positions: HashMap<(FilterId, u32), u32>,
    /// The slots that cannot be found by a value.
    rest: Vec<(FilterId, u32)>,
    access: Vec<Access>,
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
    fn insert(&mut self, engine: &Engine, filter: FilterId, member: u32) -> bool {
        if self.positions.contains_key(&(filter, member)) {
            return false;
        }
        let slot = self.by_filter.get(&filter).copied().unwrap_or_else(|| self.add_slot(engine, filter));
        let members = &mut self.slots[slot as usize].members;
        self.positions.insert((filter, member), index(members.len()));
        members.push(member);
        true
    }

    fn remove(&mut self, filter: FilterId, member: u32) -> bool {
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

    fn add_slot(&mut self, engine: &Engine, filter: FilterId) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| index(self.slots.len()));
        let home = if let Some(keys) = self.best(engine.keys(filter)) {
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
                let access = self.access.iter().find(|access| access.lookup == *lookup)?;
                self.posting(access, value.as_str().as_bytes()).map(|id| self.postings[id as usize].slots.len())
            };
            let crowd: usize = keys.iter().filter_map(waiting).sum();
            let new =
                keys.iter().filter(|(lookup, _)| self.access.iter().all(|access| access.lookup != *lookup)).count();
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
        let known = self.access.iter().position(|access| access.lookup == lookup);
        let at = known.unwrap_or_else(|| {
            self.access.push(Access { lookup, values: HashTable::new(), compounds: 0 });
            self.access.len() - 1
        });
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
        let Some(at) = self.access.iter().position(|access| access.lookup == posting.lookup) else {
            return;
        };
        let access = &mut self.access[at];
        if let Ok(entry) = access.values.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        access.compounds -= usize::from(posting.value.is_compound());
        if access.values.is_empty() {
            self.access.swap_remove(at);
        }
        self.free_postings.push(id);
    }

    fn candidates(&mut self, evaluation: &mut Evaluation<'_>, members: &mut impl Payers) {
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

/// Evaluates the filter of all these members.
#[inline]
fn try_all(evaluation: &mut Evaluation<'_>, filter: FilterId, all: &[u32], members: &mut impl Payers) {
    let truth = evaluation.known(filter).or_else(|| {
        all.iter().find_map(|member| members.ask(*member, evaluation, |evaluation| evaluation.is_true(filter)))
    });
    if truth == Some(true) {
        evaluation.matched(all.len() as u64);
        all.iter().for_each(|member| members.found(*member));
    }
}

fn index(count: usize) -> u32 {
    u32::try_from(count).expect("fewer pairs than bytes of memory / 4")
}

#[cfg(test)]
mod tests {
    use super::super::{Filter, Limits, View};
    use super::*;

    #[test]
    fn a_filter_that_two_fields_lead_to_is_found_once() {
        let mut engine = Engine::new();
        let mut leaf = Leaf::default();
        for member in 0..20 {
            let text = format!("Or(A=Eq({member}),B=In({member},x))");
            let id = engine.intern(&Filter::parse(&text, &Limits::default()).unwrap());
            leaf.insert(&engine, id, member);
        }
        let before = engine.counters();
        let mut found = Vec::new();
        leaf.candidates(&mut engine.begin(View::object(r#"{"A":7,"B":7}"#)), |member| found.push(member));
        assert_eq!(found, [7], "once, although both fields hold");
        assert_eq!(engine.counters().predicate_evaluations - before.predicate_evaluations, 1, "nobody else is asked");
    }
}
