//! The vectors of the protocol: what a filter says of an event, and what is not a filter.

use hydrant::event::Draft;
use hydrant::index::filter::{Engine, Filter, Leaf, Limits, View};
use serde_json::value::RawValue;

#[derive(serde::Deserialize)]
struct Vector<'t> {
    filter: String,
    #[serde(borrow)]
    event: &'t RawValue,
    matches: bool,
}

#[derive(serde::Deserialize)]
struct Invalid {
    spec: String,
    why: String,
}

fn vectors() -> Vec<Vector<'static>> {
    serde_json::from_str(include_str!("../data/filters.json")).unwrap()
}

#[test]
fn every_vector_is_answered() {
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let mut engine = Engine::new();
    let vectors = vectors();
    assert_eq!(vectors.len(), 556);
    for vector in &vectors {
        let filter = Filter::parse(&vector.filter, &Limits::default()).unwrap();
        let id = engine.intern(&filter);
        let event = Draft::read(vector.event.get()).unwrap().seal(now);
        let truth = engine.begin(View::event(&event)).matches(id);
        assert_eq!(truth, vector.matches, "{}\n{}", vector.filter, event.json());
        assert_eq!(Filter::parse(&filter.to_string(), &Limits::default()).unwrap(), filter, "{filter}");
    }
}

#[test]
fn every_vector_is_answered_by_one_leaf_with_all_filters() {
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let mut engine = Engine::new();
    let mut leaf = Leaf::default();
    let vectors = vectors();
    for (member, vector) in (0..).zip(&vectors) {
        let id = engine.intern(&Filter::parse(&vector.filter, &Limits::default()).unwrap());
        leaf.insert(&engine, id, member);
    }
    for (member, vector) in (0..).zip(&vectors) {
        let event = Draft::read(vector.event.get()).unwrap().seal(now);
        let mut found = false;
        leaf.candidates(&mut engine.begin(View::event(&event)), |candidate| found |= candidate == member);
        assert_eq!(found, vector.matches, "{}\n{}", vector.filter, event.json());
    }
}

#[test]
fn what_is_not_a_filter_is_refused_with_the_place() {
    let invalid: Vec<Invalid> = serde_json::from_str(include_str!("../data/invalid.json")).unwrap();
    let filters: Vec<_> = invalid.iter().filter_map(|bad| Some((bad.spec.splitn(4, '.').nth(3)?, bad))).collect();
    assert_eq!((invalid.len(), filters.len()), (18, 15));
    for (text, bad) in filters {
        let error = Filter::parse(text, &Limits::default()).expect_err(&bad.spec);
        assert!(error.offset <= text.len(), "{}: {error}", bad.why);
        assert!(error.to_string().contains(&format!("byte {}", error.offset)), "{}: {error}", bad.why);
    }
}
