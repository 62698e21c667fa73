//! Tests that filing filters by their values is bounded, and that what is not filed matches all the same.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::naive::Naive;
use super::tests::hits;
use super::*;
use crate::event::{Draft, Event};

fn list(prefix: &str, count: usize) -> String {
    (0..count).map(|at| format!("{prefix}{at}")).collect::<Vec<_>>().join(",")
}

fn event(key: &str, object: &str) -> Event {
    let mut draft = Draft::new("q", "q", key);
    draft.object = object;
    draft.seal(jiff::Timestamp::UNIX_EPOCH)
}

/// Returns the sum of what all leaves with filters have of something.
fn in_all_leaves(index: &mut Index<u32>, of_one: impl Fn(&filter::Leaf) -> usize) -> usize {
    let mut sum = 0;
    index.trie.each_leaf(|leaf| {
        let classes = leaf.filtered().into_iter().flat_map(by_class::ByClass::iter_mut);
        sum += classes.map(|(_, leaf)| of_one(leaf)).sum::<usize>();
    });
    sum
}

/// Returns the number of values that filters are filed under.
fn postings(index: &mut Index<u32>) -> usize {
    in_all_leaves(index, filter::Leaf::postings)
}

#[test]
fn a_list_of_topics_does_not_multiply_the_values_of_a_filter_without_bound() {
    let mut index = Index::new(Limits::default());
    let slot = index.subscribe(1, Class(0));
    let spec = |n: usize| format!("q.q.{}.N=In({})", list("k", 100), list(&format!("{n}v"), 100));
    for n in 0..12 {
        assert_eq!(index.register(slot, &spec(n)), Ok(true), "it is not refused");
    }
    assert_eq!((postings(&mut index), index.weight(slot)), (0, 1_200), "as they would be 120,000");
    assert_eq!(hits(&mut index, &event("k7", r#"{"N":"11v99"}"#)), [1]);
    assert_eq!(hits(&mut index, &event("k7", r#"{"N":"11v100"}"#)), [0; 0]);
    index.reclass(slot, Class(3));
    assert_eq!((postings(&mut index), index.weight(slot)), (0, 1_200));
    (0..12).for_each(|n| index.deregister(slot, &spec(n)).unwrap());
    assert_eq!(index.weight(slot), 0);
    index.unsubscribe(slot);
    assert!(index.is_empty());
}

#[test]
fn what_a_subscriber_files_in_all_is_bounded() {
    let limits = Limits::default();
    let mut index = Index::new(limits);
    let slot = index.subscribe(1, Class(0));
    // The first ones stay in the list that every leaf begins with.
    (0..9).for_each(|n| assert_eq!(index.register(slot, &format!("q.q.{}.M=Eq({n})", list("k", 30))), Ok(true)));
    let before = postings(&mut index);
    assert_eq!(before, 9 * 30, "what has few values is filed in every leaf");
    let spec = |n: usize| format!("q.q.{}.N=In({})", list("k", 30), list(&format!("{n}v"), 100));
    (0..20).for_each(|n| assert_eq!(index.register(slot, &spec(n)), Ok(true)));
    let filed = postings(&mut index) - before;
    assert_eq!(filed % 3_000, 0, "each is filed in all its leaves or in none");
    assert!((3_000..=4 * limits.expanded_in_all / 2).contains(&filed), "{filed}");
    assert!(index.weight(slot) <= limits.expanded_in_all, "{}", index.weight(slot));
    assert_eq!(hits(&mut index, &event("k7", r#"{"N":"19v99"}"#)), [1]);
    // What goes makes room.
    (0..20).for_each(|n| index.deregister(slot, &spec(n)).unwrap());
    assert_eq!((postings(&mut index), index.weight(slot)), (before, 9 * 30));
    (0..20).for_each(|n| assert_eq!(index.register(slot, &spec(n)), Ok(true)));
    assert_eq!(postings(&mut index) - before, filed);
}

#[test]
fn a_long_list_of_values_for_one_topic_is_filed_and_goes_by_parts() {
    let mut index = Index::new(Limits::default());
    let slot = index.subscribe(1, Class(0));
    for n in 0..16 {
        index.register(slot, &format!("q.q.q.N=In({})", list(&format!("{n}v"), 4_096))).unwrap();
    }
    assert_eq!(postings(&mut index), 8 * 4_096, "all but those that were in the list when the index began");
    assert!(index.weight(slot) >= 16 * 256, "{}", index.weight(slot));
    index.set_class(slot, Class(1));
    assert!(index.regroup(slot, None, 1_024).after.is_some(), "one turn is not enough");
    index.strip(slot, 1_024);
    assert!(index.registrations(slot) >= 12, "{}", index.registrations(slot));
    index.unsubscribe(slot);
    assert!(index.is_empty());
}

/// Returns the number of entries for which leaves have room.
fn room(index: &mut Index<u32>) -> usize {
    in_all_leaves(index, filter::Leaf::room)
}

/// Limits are given back with what is deregistered. If its memory were not, it would have no bound: there are tables
/// for each topic.
#[test]
fn the_values_of_what_was_deregistered_take_no_memory() {
    let mut index = Index::new(Limits::default());
    let slot = index.subscribe(1, Class(0));
    for topic in 0..4 {
        for n in 0..9 {
            index.register(slot, &format!("q.q.k{topic}.F=Eq(s{n})")).unwrap();
        }
        let spec = |n: usize| format!("q.q.k{topic}.F=In({})", list(&format!("{n}v"), 4_096));
        (0..8).for_each(|n| assert_eq!(index.register(slot, &spec(n)), Ok(true)));
        assert!(room(&mut index) > 8 * 4_096);
        (0..8).for_each(|n| index.deregister(slot, &spec(n)).unwrap());
        let room = room(&mut index);
        assert!(room < 1_000 * (topic + 1), "{room}");
        assert_eq!(hits(&mut index, &event(&format!("k{topic}"), r#"{"F":"s8"}"#)), [1]);
    }
}

#[test]
fn the_topics_of_what_was_deregistered_take_no_memory() {
    let mut index = Index::new(Limits::default());
    let slot = index.subscribe(1, Class(0));
    for action in ["a", "b", "c"] {
        let spec = |n: usize| format!("q.{action}.{}", list(&format!("{n}k"), 1_024));
        index.register(slot, &format!("q.{action}.k")).unwrap();
        (0..7).for_each(|n| assert_eq!(index.register(slot, &spec(n)), Ok(true)));
        assert!(index.trie.room() > 7 * 1_024);
        (0..7).for_each(|n| index.deregister(slot, &spec(n)).unwrap());
        assert!(index.trie.room() < 100, "{}", index.trie.room());
    }
    let event = Draft::new("q", "b", "k").seal(jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(hits(&mut index, &event), [1]);
}

#[derive(Debug, Clone)]
enum Step {
    Register(u32, String),
    Deregister(usize),
    Strip(u32, usize),
    SetClass(u32, u32),
    Regroup(u32, usize),
    Publish(String, u32, u32),
}

fn names() -> impl Strategy<Value = String> {
    let joined = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(",");
    prop_oneof![
        4 => prop::collection::btree_set("[a-d]", 1..4).prop_map(joined),
        1 => Just("*".to_owned()),
    ]
}

fn filter() -> impl Strategy<Value = String> {
    let values = |most: usize| {
        prop::collection::vec(0..16_u32, 1..most)
            .prop_map(|values| values.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
    };
    prop_oneof![
        3 => values(2).prop_map(|one| format!("A=Eq({one})")),
        4 => values(14).prop_map(|values| format!("A=In({values})")),
        2 => (values(8), values(8)).prop_map(|(a, b)| format!("Or(A=In({a}),B=In({b}))")),
        2 => (values(8), values(8)).prop_map(|(a, b)| format!("And(A=In({a}),B=In({b}))")),
        1 => values(8).prop_map(|values| format!("A=Nin({values})")),
        1 => values(4).prop_map(|values| format!("Not(B=In({values}))")),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let spec = (names(), names(), filter()).prop_map(|(kind, key, filter)| format!("{kind}.*.{key}.{filter}"));
    prop_oneof![
        10 => (0..3_u32, spec).prop_map(|(id, spec)| Step::Register(id, spec)),
        2 => any::<usize>().prop_map(Step::Deregister),
        1 => (0..3_u32, 0..4_usize).prop_map(|(id, most)| Step::Strip(id, most)),
        1 => (0..3_u32, 0..2_u32).prop_map(|(id, class)| Step::SetClass(id, class)),
        1 => (0..3_u32, 1..30_usize).prop_map(|(id, most)| Step::Regroup(id, most)),
        6 => ("[a-d]", 0..16_u32, 0..16_u32).prop_map(|(key, a, b)| Step::Publish(key, a, b)),
    ]
}

/// The index with small bounds and the model, driven by the same steps.
struct Pair {
    index: Index<u32>,
    slots: Vec<Slot>,
    naive: Naive,
}

impl Pair {
    fn new(expanded: usize, expanded_in_all: usize) -> Self {
        let mut index = Index::new(Limits { expanded, expanded_in_all, ..Limits::default() });
        let slots = (0..3).map(|id| index.subscribe(id, Class(0))).collect();
        Self { index, slots, naive: Naive::default() }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Register(id, spec) => {
                self.index.register(self.slots[id as usize], &spec).unwrap();
                self.naive.register(id, &spec);
            }
            Step::Deregister(at) if !self.naive.registrations.is_empty() => {
                let (id, text) = self.naive.registrations.swap_remove(at % self.naive.registrations.len());
                self.index.deregister(self.slots[id as usize], &text).unwrap();
            }
            Step::Deregister(_) => {}
            Step::Strip(id, most) => {
                let slot = self.slots[id as usize];
                self.index.strip(slot, most);
                self.naive.registrations.retain(|(other, text)| *other != id || self.index.has(slot, text));
            }
            Step::SetClass(id, class) => self.index.set_class(self.slots[id as usize], Class(class)),
            Step::Regroup(id, most) => {
                self.index.regroup(self.slots[id as usize], None, most);
            }
            Step::Publish(key, a, b) => {
                let mut draft = Draft::new(&key, "x", &key);
                let object = format!(r#"{{"A":{a},"B":{b}}}"#);
                draft.object = &object;
                let event = draft.seal(jiff::Timestamp::UNIX_EPOCH);
                assert_eq!(hits(&mut self.index, &event), self.naive.matches(&event), "{}", event.json());
            }
        }
    }

    fn check(&mut self, expanded_in_all: usize) {
        for &slot in &self.slots {
            let subscriber = self.index.subscriber(slot);
            assert!(subscriber.expanded as usize <= expanded_in_all);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn filed_or_not_the_index_agrees_with_the_naive_matcher(
        expanded in 0..24_usize, in_all in 0..120_usize, steps in prop::collection::vec(step(), 20..120),
    ) {
        let mut pair = Pair::new(expanded, in_all);
        for step in steps {
            pair.take(step);
            pair.check(in_all);
        }
        for (id, text) in std::mem::take(&mut pair.naive.registrations) {
            pair.index.deregister(pair.slots[id as usize], &text).unwrap();
        }
        prop_assert!(pair.slots.iter().all(|&slot| pair.index.weight(slot) == 0));
        prop_assert!(pair.index.is_empty());
    }
}
