//! Tests the counts of groups against a model that counts every hit of every member.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::naive::wants;
use super::*;
use crate::event::{Draft, Event};

const TEXTS: [&str; 8] = [
    "a.b.k",
    "a.b.j",
    "a.*.k",
    "*.*.*",
    "a.b.k.N=Eq(1)",
    "a.*.k.N=Ne(2)",
    "a.*.*.And(M=Exists(),N=Ne(3))",
    "a.*.*.And(M=Exists(),N=Eq(1))",
];

#[derive(Debug, Clone, Copy)]
enum Step {
    Register(u32, usize),
    Deregister(u32, usize),
    Reconnect(u32),
    Reclass(u32, u32),
    Second,
    /// Some events with this key and this N.
    Publish(&'static str, u32, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let text = || (0..5_u32, 0..TEXTS.len());
    prop_oneof![
        4 => text().prop_map(|(id, text)| Step::Register(id, text)),
        2 => text().prop_map(|(id, text)| Step::Deregister(id, text)),
        1 => (0..5_u32).prop_map(Step::Reconnect),
        1 => (0..5_u32, 0..2_u32).prop_map(|(id, class)| Step::Reclass(id, class)),
        1 => Just(Step::Second),
        6 => (prop::sample::select(vec!["k", "j", "x"]), 0..4_u32, 1..100_usize)
            .prop_map(|(key, n, count)| Step::Publish(key, n, count)),
    ]
}

/// Hits, deliveries, and the second of the last hit.
type Counts = (u64, u64, Option<u32>);

/// What a group should have counted. The texts above have one combination each, so a group is a text of a class.
#[derive(Debug, Default)]
struct Expected {
    members: BTreeSet<u32>,
    counts: Counts,
}

struct Pair {
    index: Index<u32>,
    slots: Vec<Slot>,
    classes: Vec<u32>,
    second: u32,
    groups: BTreeMap<(usize, u32), Expected>,
}

impl Pair {
    fn new() -> Self {
        let mut index = Index::new(Limits::default());
        let slots = (0..5).map(|id| index.subscribe(id, Class(0))).collect();
        Self { index, slots, classes: vec![0; 5], second: 0, groups: BTreeMap::new() }
    }

    fn slot(&self, id: u32) -> Slot {
        self.slots[id as usize]
    }

    fn join(&mut self, id: u32, text: usize, class: u32) {
        self.groups.entry((text, class)).or_default().members.insert(id);
    }

    /// A group's counts are gone with its last member.
    fn leave(&mut self, id: u32, text: usize, class: u32) {
        if let Some(group) = self.groups.get_mut(&(text, class)) {
            group.members.remove(&id);
        }
        self.groups.retain(|_, group| !group.members.is_empty());
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Register(id, text) => {
                self.index.register(self.slot(id), TEXTS[text]).unwrap();
                self.join(id, text, self.classes[id as usize]);
            }
            Step::Deregister(id, text) => {
                let _unless_registered = self.index.deregister(self.slot(id), TEXTS[text]);
                self.leave(id, text, self.classes[id as usize]);
            }
            Step::Reconnect(id) => {
                self.index.unsubscribe(self.slot(id));
                self.slots[id as usize] = self.index.subscribe(id, Class(0));
                (0..TEXTS.len()).for_each(|text| self.leave(id, text, self.classes[id as usize]));
                self.classes[id as usize] = 0;
            }
            Step::Reclass(id, class) => {
                self.index.reclass(self.slot(id), Class(class));
                let from = std::mem::replace(&mut self.classes[id as usize], class);
                for text in (0..TEXTS.len()).filter(|_| from != class) {
                    if self.groups.get(&(text, from)).is_some_and(|group| group.members.contains(&id)) {
                        self.join(id, text, class);
                        self.leave(id, text, from);
                    }
                }
            }
            Step::Second => {
                self.second += 1;
                self.index.begin_second(self.second);
            }
            Step::Publish(key, n, count) => self.publish(key, n, count),
        }
    }

    fn publish(&mut self, key: &str, n: u32, count: usize) {
        let object = format!("{{\"N\":{n},\"M\":1}}");
        let mut draft = Draft::new("a", "b", key);
        draft.object = &object;
        let event: Event = draft.seal(jiff::Timestamp::UNIX_EPOCH);
        let (before, worked) = (self.all_work(), self.index.engine.counters().work);
        (0..count).for_each(|_| self.index.matches(&event, |_| true, |_| {}));
        assert_eq!(self.all_work() - before, self.index.engine.counters().work - worked, "all work is some group's");
        for ((text, _), Expected { members, counts }) in &mut self.groups {
            if wants(&Spec::parse(TEXTS[*text], &filter::Limits::default()).unwrap(), &event) {
                let hits = counts.0 + count as u64;
                *counts = (hits, counts.1 + (count * members.len()) as u64, Some(self.second));
            }
        }
    }

    /// Returns the work of all groups, each counted once.
    fn all_work(&mut self) -> u64 {
        let first = |((text, _), group): (&(usize, u32), &Expected)| (*text, *group.members.first().unwrap());
        let firsts: Vec<(usize, u32)> = self.groups.iter().map(first).collect();
        firsts.into_iter().map(|(text, id)| self.tally(id, text).work).sum()
    }

    fn tally(&mut self, id: u32, text: usize) -> Tally {
        let usage = self.index.usage(self.slots[id as usize], 100);
        usage.iter().find(|usage| &*usage.spec == TEXTS[text]).unwrap().tally
    }

    fn check(&mut self) {
        let members = |(&(text, _), group): (&(usize, u32), &Expected)| {
            group.members.iter().map(|&id| (text, id, group.counts)).collect::<Vec<_>>()
        };
        let all: Vec<(usize, u32, Counts)> = self.groups.iter().flat_map(members).collect();
        for (text, id, expected) in all {
            let tally = self.tally(id, text);
            assert_eq!((tally.hits, tally.deliveries, tally.last()), expected, "{} of {id}", TEXTS[text]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn counts_are_exact_whoever_comes_and_goes(steps in prop::collection::vec((step(), 0..4_u32), 1..40)) {
        let mut pair = Pair::new();
        pair.index.begin_second(0);
        for (step, look) in steps {
            pair.take(step);
            // Not after every step: looking at a count settles it.
            if look == 0 {
                pair.check();
            }
        }
        pair.check();
        pair.slots.iter().for_each(|&slot| pair.index.unsubscribe(slot));
        prop_assert!(pair.index.is_empty() && pair.index.group_numbers() == 0);
    }
}
