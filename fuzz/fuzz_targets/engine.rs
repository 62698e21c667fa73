//! The filter engine against the naive evaluator of the tests, on filters and events made from a number: the same
//! answers, one by one and by a leaf.

#![no_main]

use hydrant::event::Draft;
use hydrant::index::filter::{Engine, Filter, Leaf, Limits, View};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../../tests/filter/naive.rs"]
mod naive;

/// Filters of one round.
const FILTERS: u32 = 12;

fuzz_target!(|seed: u64| {
    let mut random = naive::Random(seed);
    let (mut engine, mut leaf) = (Engine::new(), Leaf::default());
    let mut all = Vec::new();
    for member in 0..FILTERS {
        let filter = naive::filter(&mut random, 3);
        let text = filter.text(&mut random);
        let id = engine.intern(&Filter::parse(&text, &Limits::default()).expect("it is a filter"));
        assert!(leaf.insert(&engine, id, member));
        all.push((filter, id, text));
    }
    let event = naive::event(&mut random);
    let (object, original) = (event.object.compact(), event.original.compact());
    let mut draft = Draft::new(&event.kind, &event.action, &event.key);
    draft.principal = event.principal.as_str().into();
    (draft.object, draft.original) = (&object, &original);
    let sealed = draft.seal(Timestamp::UNIX_EPOCH);
    let mut evaluation = engine.begin(View::event(&sealed));
    let mut found = Vec::new();
    leaf.candidates(&mut evaluation, |member| found.push(member));
    for (member, (filter, id, text)) in (0..).zip(&all) {
        let expected = filter.is_true(&event);
        assert_eq!(evaluation.matches(*id), expected, "{text}\n{}", sealed.json());
        assert_eq!(found.contains(&member), expected, "by a leaf: {text}\n{}", sealed.json());
    }
});
