//! The filter engine against a naive evaluator, on made-up filters and events.

use std::collections::BTreeSet;

use crate::naive;
use crate::naive::{Random, event, filter};
use hydrant::event::{Draft, Event};
use hydrant::index::filter::{Engine, Filter, FilterId, Leaf, Limits, View};
use hydrant::index::{Class, Index, Limits as IndexLimits};

/// Pairs of a filter and an event; a soak run takes ten times as many.
fn pairs() -> u64 {
    if std::env::var_os("HYDRANT_SOAK").is_some() { 1_000_000 } else { 100_000 }
}

fn parse(text: &str) -> Filter {
    Filter::parse(text, &Limits::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn sealed(event: &naive::Event) -> Event {
    let (object, original) = (event.object.compact(), event.original.compact());
    let mut draft = Draft::new(&event.kind, &event.action, &event.key);
    draft.principal = event.principal.as_str().into();
    draft.object = &object;
    draft.original = &original;
    draft.seal("2026-01-02T03:04:05Z".parse().unwrap())
}

struct Registered {
    naive: naive::Filter,
    text: String,
    id: FilterId,
}

fn register(engine: &mut Engine, random: &mut Random) -> Registered {
    let naive = filter(random, 3);
    let text = naive.text(random);
    let parsed = parse(&text);
    assert_eq!(parse(&parsed.to_string()), parsed, "{text}: what is printed reads back");
    Registered { naive, id: engine.intern(&parsed), text }
}

/// Asks the leaf and the filters one by one; returns the number of pairs and how many of them were true.
fn compare(seed: u64, engine: &mut Engine, leaf: &mut Leaf, all: &[Registered], random: &mut Random) -> (u64, u64) {
    let mut naive = event(random);
    let event = sealed(&naive);
    naive.plain = random.below(5) == 0;
    let object = naive.object.compact();
    let view = if naive.plain { View::object(&object) } else { View::event(&event) };
    let before = engine.counters();
    let mut evaluation = engine.begin(view);
    let ask_first = random.below(2) == 0;
    let truths = |evaluation: &mut hydrant::index::filter::Evaluation<'_>| -> Vec<bool> {
        all.iter().map(|registered| evaluation.matches(registered.id)).collect()
    };
    let early = ask_first.then(|| truths(&mut evaluation));
    let mut found = Vec::new();
    leaf.candidates(&mut evaluation, |member| found.push(member));
    let one_by_one = early.unwrap_or_else(|| truths(&mut evaluation));
    let unique: BTreeSet<u32> = found.iter().copied().collect();
    assert_eq!(unique.len(), found.len(), "seed {seed}: nobody twice");
    for (member, registered) in (0..).zip(all) {
        let expected = registered.naive.is_true(&naive);
        let context =
            || format!("seed {seed}\nfilter {}\nevent {}\nplain {}", registered.text, event.json(), naive.plain);
        assert_eq!(one_by_one[member as usize], expected, "{}", context());
        assert_eq!(unique.contains(&member), expected, "leaf\n{}", context());
    }
    let after = engine.counters();
    assert!(after.filter_matches - before.filter_matches == 2 * found.len() as u64, "seed {seed}");
    (all.len() as u64, found.len() as u64)
}

#[test]
fn the_engine_agrees_with_the_naive_evaluator() {
    let (mut asked, mut matched, mut seed) = (0, 0, 0);
    while asked < pairs() {
        seed += 1;
        let mut random = Random(seed);
        let mut engine = Engine::new();
        let mut leaf = Leaf::default();
        let count = 1 + random.below(40);
        let mut all: Vec<Registered> = (0..count).map(|_| register(&mut engine, &mut random)).collect();
        for (member, registered) in (0..).zip(&all) {
            assert!(leaf.insert(&engine, registered.id, member));
        }
        for round in 0..8 {
            let (pairs, hits) = compare(seed, &mut engine, &mut leaf, &all, &mut random);
            (asked, matched) = (asked + pairs, matched + hits);
            // Some go and others come, in the same places.
            if round % 3 == 1 {
                for (member, registered) in (0..).zip(&mut all) {
                    if random.below(3) == 0 {
                        assert!(leaf.remove(registered.id, member));
                        engine.release(registered.id);
                        *registered = register(&mut engine, &mut random);
                        assert!(leaf.insert(&engine, registered.id, member));
                    }
                }
            }
        }
        for (member, registered) in (0..).zip(&all) {
            assert!(leaf.remove(registered.id, member));
            engine.release(registered.id);
        }
        assert!(leaf.is_empty() && engine.held() == 0, "seed {seed}: nothing is left");
    }
    let rate = matched * 100 / asked;
    assert!((10..90).contains(&rate), "{rate} % true says little");
}

#[test]
fn ten_thousand_subscribers_who_share_fifty_filters_cost_fifty_evaluations() {
    let mut index = Index::new(IndexLimits::default());
    for n in 0..10_000 {
        let slot = index.subscribe(n, Class(0));
        index.register(slot, &format!("machines.update.*.Field{}=Ne(other)", n % 50)).unwrap();
    }
    let mut draft = Draft::new("machines", "update", "k");
    draft.object = r#"{"Field7":"other","Field8":"mine"}"#;
    let event = draft.seal("2026-01-02T03:04:05Z".parse().unwrap());
    for round in 1..=3 {
        let mut hits = 0;
        index.matches(&event, |_| true, |_| hits += 1);
        assert_eq!(hits, 49 * 200, "all but those who share the filter that is false");
        let counters = index.filter_counters();
        assert_eq!((counters.predicate_evaluations, counters.field_lookups), (50 * round, 50 * round));
        assert_eq!(counters.filter_matches, 49 * round, "once for everybody who shares it");
    }
}
