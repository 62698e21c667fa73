//! Finds the members of a topic whose filter is true.
//!
//! A [`Leaf`] is a set of (filter, member) pairs. The index has one wherever filtered registrations meet; a member is
//! any number that the index assigns. With more than a few pairs the leaf builds an index of its own: a filter that
//! can only be true if some field equals one of some values (`Eq`, `In`, an `And` with one of these, an `Or` of
//! nothing else) is filed under those values, so an event finds it by hash. Ten thousand `Uuid=Eq(..)` cost an event
//! one lookup and one probe. Filters without such a field are evaluated one by one.
//!
//! Contract: inserting and removing are amortized O(1) in the number of pairs and of fields (and linear in the keys of
//! the filter). Memory is in proportion to what is in the leaf, and not to what was. A filter must stay interned as
//! long as it is in a leaf. Results are exact: filters found by hash are still evaluated completely.

use smallvec::SmallVec;

use super::eval::{Engine, Evaluation};
use super::payers::{Payers, try_all};
use super::plan::FilterId;
use super::spilled::Spilled;

/// Up to this many pairs a list is cheaper than an index, in time and in memory.
const SHORT: usize = 8;

/// With this many pairs left the index is given up. Fewer than [`SHORT`], so that it is not made again at once.
const LEFT: usize = 4;

/// Of the pairs that were there before the index, those with more keys are not filed: a list is fast enough for so few,
/// and adding a pair must not cost the keys of the others.
const FEW_KEYS: usize = 4;

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
            return spilled.insert(engine, filter, member, usize::MAX);
        }
        if self.inline.contains(&(filter, member)) {
            return false;
        }
        if self.inline.len() < SHORT {
            self.inline.push((filter, member));
            return true;
        }
        let mut spilled = Box::<Spilled>::default();
        for (filter, member) in std::mem::take(&mut self.inline) {
            spilled.insert(engine, filter, member, FEW_KEYS);
        }
        spilled.insert(engine, filter, member, usize::MAX);
        self.spilled = Some(spilled);
        true
    }

    /// Removes a pair; returns false if it does not exist.
    pub fn remove(&mut self, filter: FilterId, member: u32) -> bool {
        if let Some(spilled) = &mut self.spilled {
            let removed = spilled.remove(filter, member);
            if spilled.len() <= LEFT {
                self.inline = spilled.pairs().collect();
                self.spilled = None;
            }
            return removed;
        }
        let position = self.inline.iter().position(|pair| *pair == (filter, member));
        position.map(|position| self.inline.swap_remove(position)).is_some()
    }

    /// Returns the number of pairs.
    pub fn len(&self) -> usize {
        self.spilled.as_ref().map_or(self.inline.len(), |spilled| spilled.len())
    }

    /// Returns whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of values that filters are filed under.
    #[cfg(test)]
    pub(in crate::index) fn postings(&self) -> usize {
        self.spilled.as_ref().map_or(0, |spilled| spilled.postings())
    }

    /// Returns the number of entries for which there is room, in all tables together.
    #[cfg(test)]
    pub(in crate::index) fn room(&self) -> usize {
        self.inline.capacity() + self.spilled.as_ref().map_or(0, |spilled| spilled.room())
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

#[cfg(test)]
mod tests {
    use super::super::{Filter, Limits, View, steps};
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

    /// Returns the members whose filters are true for these values, by evaluating each filter.
    fn expected(engine: &mut Engine, pairs: &[(FilterId, u32)], object: &str) -> Vec<u32> {
        let mut evaluation = engine.begin(View::object(object));
        let mut members: Vec<u32> =
            pairs.iter().filter(|(id, _)| evaluation.matches(*id)).map(|(_, member)| *member).collect();
        members.sort_unstable();
        members
    }

    fn check(engine: &mut Engine, leaf: &mut Leaf, pairs: &[(FilterId, u32)]) {
        assert_eq!(leaf.len(), pairs.len());
        for (a, b) in [(0, 0), (3, 400), (401, 5), (1_999, 2_000)] {
            let object = format!(r#"{{"A":{a},"B":{b}}}"#);
            let mut found = Vec::new();
            leaf.candidates(&mut engine.begin(View::object(&object)), |member| found.push(member));
            found.sort_unstable();
            assert_eq!(found, expected(engine, pairs, &object), "{object} among {}", pairs.len());
        }
    }

    /// What a leaf has held would otherwise take memory as long as one filter is left in it, of whomever.
    #[test]
    fn a_leaf_that_was_large_is_small_again_and_finds_what_is_left() {
        let mut engine = Engine::new();
        let mut leaf = Leaf::default();
        let text = |n: u32| match n % 5 {
            0 => format!("A=In({n},{},{})", n + 1, n + 2),
            1 => format!("Or(A=Eq({n}),B=Eq({}))", n % 7),
            2 => format!("And(A=Ne({n}),B=Ne(x))"),
            3 => format!("And(A=Eq({}),B=Ne({n}))", n % 7),
            _ => format!("Or(A=Eq({n}),B=In({},{}))", n + 1, n % 5),
        };
        let mut pairs = Vec::new();
        for round in 0..3 {
            for n in round * 2_000..(round + 1) * 2_000 {
                let id = engine.intern(&Filter::parse(&text(n), &Limits::default()).unwrap());
                assert!(leaf.insert(&engine, id, n));
                pairs.push((id, n));
            }
            let mut at = 0;
            for left in (12 - round as usize * 4..pairs.len()).rev() {
                at = (at + 7_919) % pairs.len();
                let (id, member) = pairs.swap_remove(at);
                assert!(leaf.remove(id, member) && !leaf.remove(id, member));
                engine.release(id);
                if left % 150 == 0 || left < 20 {
                    check(&mut engine, &mut leaf, &pairs);
                }
            }
            let (room, held) = (leaf.room(), leaf.len() + leaf.postings());
            assert!(room <= 50 * held + 200, "room for {room} in {held}");
        }
    }

    /// Refuses to pay for all members but one.
    struct Payer {
        able: u32,
        asked: u64,
        found: Vec<u32>,
    }

    impl Payers for &mut Payer {
        fn ask<T>(
            &mut self,
            member: u32,
            evaluation: &mut Evaluation<'_>,
            mut question: impl FnMut(&mut Evaluation<'_>) -> Option<T>,
        ) -> Option<T> {
            self.asked += 1;
            evaluation.allow(u64::MAX);
            if member == self.able { question(evaluation) } else { None }
        }

        fn found(&mut self, member: u32) {
            self.found.push(member);
        }
    }

    #[test]
    fn whoever_can_pay_is_found_though_few_are_asked() {
        let mut engine = Engine::new();
        let mut leaf = Leaf::default();
        for member in 0..10_000 {
            let filter = Filter::parse(&format!("F=Eq({member})"), &Limits::default()).unwrap();
            let id = engine.intern(&filter);
            leaf.insert(&engine, id, member);
        }
        for able in [0, 5_000, 9_999] {
            let object = format!(r#"{{"F":{able}}}"#);
            let mut payer = Payer { able, asked: 0, found: Vec::new() };
            leaf.candidates(&mut engine.begin(View::object(&object)), &mut payer);
            assert_eq!(payer.found, [able]);
            assert!(payer.asked <= 17, "{}", payer.asked);
            let mut payer = Payer { able: able + 1, asked: 0, found: Vec::new() };
            leaf.candidates(&mut engine.begin(View::object(&object)), &mut payer);
            assert!(payer.found.is_empty() && payer.asked <= 17, "{}", payer.asked);
        }
    }

    /// Forty registrations of many fields each would otherwise be a search through all fields for each of their own.
    #[test]
    fn filing_a_filter_takes_no_more_steps_beside_many_fields() {
        let mut engine = Engine::new();
        let mut leaf = Leaf::default();
        let mut ids = Vec::new();
        let taken_by = |leaf: &mut Leaf, change: &mut dyn FnMut(&mut Leaf)| {
            let before = steps::taken();
            change(leaf);
            steps::taken() - before
        };
        for member in 0..48 {
            let fields: Vec<String> = (0..50).map(|n| format!("F{member}x{n}=Eq(1)")).collect();
            let filter = Filter::parse(&format!("Or({})", fields.join(",")), &Limits::default()).unwrap();
            ids.push(engine.intern(&filter));
            let taken = taken_by(&mut leaf, &mut |leaf| assert!(leaf.insert(&engine, ids[member as usize], member)));
            assert!(taken <= 50 * 12, "{taken} for number {member}");
        }
        assert_eq!(leaf.postings(), 40 * 50);
        for member in (0..48).rev().map(|at| (at * 7) % 48) {
            let taken = taken_by(&mut leaf, &mut |leaf| assert!(leaf.remove(ids[member as usize], member)));
            assert!(taken <= 50 * 12, "{taken} for number {member}");
        }
        assert!(leaf.is_empty());
    }
}
