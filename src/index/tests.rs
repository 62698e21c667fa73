//! Tests the index against the naive matcher, and its limits.

use proptest::prelude::*;

use super::naive::Naive;
use super::*;
use crate::event::{Draft, Event};
use crate::json;

fn event(kind: &str, action: &str, key: &str, object: &str) -> Event {
    let mut draft = Draft::new(kind, action, key);
    draft.object = object;
    draft.seal(jiff::Timestamp::UNIX_EPOCH)
}

pub(super) fn hits(index: &mut Index<u32>, event: &Event) -> Vec<u32> {
    let mut hits = Vec::new();
    index.matches(event, |_| true, |id| hits.push(id));
    hits.sort_unstable();
    hits
}

/// An idle connection with three registrations costs one subscriber, three registrations and, in a fleet, two groups.
#[test]
fn what_an_idle_subscriber_pays_for_is_small() {
    assert!(size_of::<Option<Subscriber>>() <= 56, "{}", size_of::<Option<Subscriber>>());
    assert!(size_of::<Mark<u32>>() <= 8);
    const { assert!(groups::SIZE <= 96) };
}

#[test]
fn golden_registrations() {
    let text = include_str!("../../tests/data/registrations.json");
    let member = |name: &str| json::members(text).find(|m| m.name() == name).unwrap().value;
    let events: Vec<Event> =
        json::elements(member("events")).map(|e| Draft::read(e).unwrap().seal(jiff::Timestamp::UNIX_EPOCH)).collect();
    let mut checked = 0;
    for row in json::elements(member("registrations")) {
        let field = |name: &str| json::members(row).find(|m| m.name() == name).unwrap().value;
        let spec = json::unquote(field("spec"));
        let mut index = Index::new(Limits::default());
        let slot = index.subscribe(7, Class(0));
        assert_eq!(index.register(slot, &spec), Ok(true), "{spec}");
        let expected: Vec<usize> = json::elements(field("matches")).map(|n| n.parse().unwrap()).collect();
        let found: Vec<usize> = (0..events.len()).filter(|&at| !hits(&mut index, &events[at]).is_empty()).collect();
        assert_eq!(found, expected, "{spec}");
        index.deregister(slot, &spec).unwrap();
        assert!(index.is_empty());
        checked += 1;
    }
    assert_eq!(checked, 208);
}

/// `docs/protocol.md`, "SPEC": if a list has the wildcard and a special type, both apply, and an event of such a type
/// matches like any other.
#[test]
fn special_types_stand_beside_the_wildcard_and_are_types_too() {
    let mut index = Index::new(Limits::default());
    for (id, spec) in [(1, "machine_jobs,*.*.m"), (2, "*.*.m"), (3, "machine_jobs.*.m"), (4, "work_order_jobs.*.m")] {
        let slot = index.subscribe(id, Class(0));
        index.register(slot, spec).unwrap();
    }
    for (kind, key, owner, expected) in [
        ("jobs", "j", "m", &[1, 3][..]),
        ("jobs", "m", "other", &[1, 2]),
        ("machines", "m", "", &[1, 2]),
        ("machine_jobs", "m", "", &[1, 2, 3]),
        ("machine_jobs", "j", "m", &[]),
        ("work_order_jobs", "m", "", &[1, 2, 4]),
    ] {
        let found = hits(&mut index, &event(kind, "update", key, &format!("{{\"Machine\":\"{owner}\"}}")));
        assert_eq!(found, expected, "{kind} {key} of {owner}");
    }
}

/// RackN's event router uses the name `event` for the event itself in its filters.
#[test]
fn event_names_the_event_itself_unless_the_object_has_such_a_field() {
    for (filter, object, expected) in [
        ("event.Key=Eq(k)", r#"{"Key":"other"}"#, true),
        ("event.Object.Key=Eq(other)", r#"{"Key":"other"}"#, true),
        ("event.Key=Eq(k)", r#"{"event":{"Key":"x"}}"#, false),
        ("event.Key=Eq(x)", r#"{"event":{"Key":"x"}}"#, true),
        ("event=Exists()", "{}", false),
        ("event.Stage=Exists()", r#"{"Stage":1}"#, false),
    ] {
        let mut index = Index::new(Limits::default());
        let slot = index.subscribe(7, Class(0));
        index.register(slot, &format!("*.*.*.{filter}")).unwrap();
        let found = !hits(&mut index, &event("a", "b", "k", object)).is_empty();
        assert_eq!(found, expected, "{filter} of {object}");
    }
}

#[test]
fn every_field_of_an_event_is_named_by_event_whatever_the_object_has() {
    let of = |object: &str| {
        let rest = r#""Principal":"user:p","Original":{"Stage":"o"},"Time":"2026-01-02T03:04:05Z""#;
        let text = format!(r#"{{"Type":"a","Action":"b","Key":"k","Object":{object},{rest}}}"#);
        Draft::read(&text).unwrap().seal(jiff::Timestamp::UNIX_EPOCH)
    };
    // The Object has fields of the same names, and in one case the field `event` as well.
    let fields = r#""Type":1,"Action":1,"Key":1,"Principal":1,"Time":1,"Object":{"Stage":1},"Original":1,"Stage":"s""#;
    let events = [of(&format!("{{{fields}}}")), of(&format!(r#"{{{fields},"event":{{}}}}"#))];
    for filter in [
        "event.Type=Eq(a)",
        "event.Action=Eq(b)",
        "event.Key=Eq(k)",
        "event.Principal=Eq(user:p)",
        "event.Time=Re(^2026-)",
        "event.Object.Stage=Eq(s)",
        "event.Original.Stage=Eq(o)",
        "/event/Object/Stage=In(s)",
    ] {
        let mut index = Index::new(Limits::default());
        let slot = index.subscribe(7, Class(0));
        index.register(slot, &format!("*.*.*.{filter}")).unwrap();
        let found = events.each_ref().map(|event| !hits(&mut index, event).is_empty());
        assert_eq!(found, [true, false], "{filter}");
    }
}

#[test]
fn bad_registrations_are_refused() {
    for row in json::elements(include_str!("../../tests/data/invalid.json")) {
        let field = |name: &str| json::members(row).find(|m| m.name() == name).unwrap().value;
        let spec = json::unquote(field("spec"));
        let mut index = Index::new(Limits::default());
        let slot = index.subscribe(7, Class(0));
        assert!(index.register(slot, &spec).is_err(), "{spec}: {}", field("why"));
        assert!(index.is_empty());
    }
}

#[test]
fn a_subscriber_is_hit_once_and_a_class_is_judged_once() {
    let mut index = Index::new(Limits::default());
    for id in 0..4 {
        let slot = index.subscribe(id, Class(id % 2));
        for spec in ["a.b.c", "*.b.c", "a,x.*.c,d", "*.*.*"] {
            assert!(index.register(slot, spec).unwrap());
        }
    }
    let mut judged = Vec::new();
    let mut hit = Vec::new();
    index.matches(
        &event("a", "b", "c", "null"),
        |class| {
            judged.push(class);
            class == Class(1)
        },
        |id| hit.push(id),
    );
    judged.sort_unstable();
    hit.sort_unstable();
    assert_eq!((judged, hit), (vec![Class(0), Class(1)], vec![1, 3]));
}

#[test]
fn the_same_text_again_changes_nothing_and_one_deregister_removes_it() {
    let mut index = Index::new(Limits::default());
    let slot = index.subscribe(1, Class(0));
    assert_eq!(index.register(slot, "a.b.c"), Ok(true));
    assert_eq!(index.register(slot, "a.b.c"), Ok(false));
    assert_eq!(index.registrations(slot), 1);
    assert_eq!(index.deregister(slot, "a.b.c"), Ok(()));
    assert!(hits(&mut index, &event("a", "b", "c", "null")).is_empty());
    assert!(matches!(index.deregister(slot, "a.b.c"), Err(IndexError::NotRegistered { .. })));
    assert!(index.is_empty());
}

#[test]
fn limits_are_checked_before_anything_is_expanded() {
    let limits = Limits { registrations: 2, combinations: 100, combinations_in_all: 120, ..Limits::default() };
    let mut index = Index::new(limits);
    let slot = index.subscribe(1, Class(0));
    let list = |n: usize| (0..n).map(|i| format!("x{i}")).collect::<Vec<_>>().join(",");
    let product = |n: usize| format!("{}.{}.{}", list(n), list(n), list(n));
    assert_eq!(
        index.register(slot, &product(100)),
        Err(IndexError::TooManyCombinations { combinations: 1_000_000, limit: 100 })
    );
    assert!(index.is_empty());
    index.register(slot, &format!("a.b.{}", list(100))).unwrap();
    assert!(matches!(index.register(slot, &format!("a.c.{}", list(21))), Err(IndexError::TooManyInAll { .. })));
    index.register(slot, &format!("a.c.{}", list(20))).unwrap();
    assert_eq!(index.register(slot, "a.b.c"), Err(IndexError::TooManyRegistrations { limit: 2 }));
    index.unsubscribe(slot);
    assert!(index.is_empty());
}

#[test]
fn a_new_class_keeps_the_registrations() {
    let mut index = Index::new(Limits::default());
    let slot = index.subscribe(1, Class(0));
    index.register(slot, "a,b.*.c").unwrap();
    index.reclass(slot, Class(5));
    let mut judged = Vec::new();
    index.matches(
        &event("b", "x", "c", "null"),
        |class| {
            judged.push(class);
            true
        },
        |id| assert_eq!(id, 1),
    );
    assert_eq!(judged, [Class(5)]);
    index.deregister(slot, "a,b.*.c").unwrap();
    assert!(index.is_empty());
}

#[test]
fn numbers_of_events_begin_anew() {
    let mut index = Index::new(Limits::default());
    for id in 0..6 {
        let slot = index.subscribe(id, Class(id % 2));
        index.register(slot, "a.b.c").unwrap();
        index.register(slot, "*.*.*").unwrap();
    }
    let event = event("a", "b", "c", "null");
    assert_eq!(hits(&mut index, &event).len(), 6);
    index.event = u32::MAX;
    let mut judged = 0;
    for _ in 0..3 {
        let mut hits = 0;
        let odd = |class| {
            judged += 1;
            class == Class(1)
        };
        index.matches(&event, odd, |_| hits += 1);
        assert_eq!(hits, 3, "event {}", index.event);
    }
    assert_eq!(judged, 6, "both classes, for each event");
}

#[test]
fn a_leaf_of_many_classes_loses_them_in_any_order() {
    let mut index = Index::new(Limits::default());
    let slots: Vec<Slot> = (0..50).map(|id| index.subscribe(id, Class(id / 5))).collect();
    for &slot in &slots {
        index.register(slot, "a.b.c").unwrap();
    }
    let event = event("a", "b", "c", "null");
    let mut left: Vec<u32> = (0..50).collect();
    for round in 0..50 {
        assert_eq!(hits(&mut index, &event), left);
        let gone = left.remove(round * 7 % left.len());
        index.deregister(slots[gone as usize], "a.b.c").unwrap();
    }
    assert!(index.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Register(u32, String),
    Deregister(u32, String),
    Reconnect(u32),
    Reclass(u32, u32),
    Publish(String, String, String, String),
}

const NAMES: [&str; 6] = ["a", "b", "jobs", "machine_jobs", "work_order_jobs", ""];

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned)
}

fn list() -> impl Strategy<Value = String> {
    let element = prop_oneof![4 => name(), 1 => Just("*".to_owned()), 1 => Just(" a ".to_owned())];
    prop::collection::vec(element, 1..4).prop_map(|names| names.join(","))
}

fn step() -> impl Strategy<Value = Step> {
    let filter =
        prop::sample::select(vec!["", "", ".Machine=Eq(a)", ".Not(Machine=Eq(a))", ".Machine=In(a,b)", ".Key=Eq(b)"]);
    let spec = (list(), list(), list(), filter)
        .prop_map(|(kind, action, key, filter)| format!("{kind}.{action}.{key}{filter}"))
        .boxed();
    let owner =
        prop_oneof![name().prop_map(|n| format!("\"{n}\"")), Just("null".to_owned()), Just("7".to_owned())].boxed();
    let object = (owner.clone(), owner).prop_map(|(m, w)| format!("{{\"Machine\":{m},\"WorkOrder\":{w}}}"));
    prop_oneof![
        4 => (0..4_u32, spec.clone()).prop_map(|(id, spec)| Step::Register(id, spec)),
        2 => (0..4_u32, spec).prop_map(|(id, spec)| Step::Deregister(id, spec)),
        1 => (0..4_u32).prop_map(Step::Reconnect),
        1 => (0..4_u32, 0..3_u32).prop_map(|(id, class)| Step::Reclass(id, class)),
        6 => (name(), name(), name(), object).prop_map(|(k, a, key, o)| Step::Publish(k, a, key, o)),
    ]
}

/// The index and the model, driven by the same steps.
struct Pair {
    index: Index<u32>,
    slots: Vec<Slot>,
    naive: Naive,
}

impl Pair {
    fn new() -> Self {
        let mut index = Index::new(Limits::default());
        let slots = (0..4).map(|id| index.subscribe(id, Class(0))).collect();
        Self { index, slots, naive: Naive::default() }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Register(id, spec) => {
                self.index.register(self.slots[id as usize], &spec).unwrap();
                self.naive.register(id, &spec);
            }
            Step::Deregister(id, spec) => {
                let registered = self.index.deregister(self.slots[id as usize], &spec).is_ok();
                assert_eq!(registered, self.naive.deregister(id, &spec));
            }
            Step::Reconnect(id) => {
                self.index.unsubscribe(self.slots[id as usize]);
                self.slots[id as usize] = self.index.subscribe(id, Class(1));
                self.naive.unsubscribe(id);
            }
            Step::Reclass(id, class) => self.index.reclass(self.slots[id as usize], Class(class)),
            Step::Publish(kind, action, key, object) => {
                let event = event(&kind, &action, &key, &object);
                assert_eq!(hits(&mut self.index, &event), self.naive.matches(&event), "{}", event.json());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_trie_agrees_with_the_naive_matcher(steps in prop::collection::vec(step(), 1..40)) {
        let mut pair = Pair::new();
        steps.into_iter().for_each(|step| pair.take(step));
        prop_assert_eq!(pair.index.stats().registrations, pair.naive.registrations.len());
        pair.slots.iter().for_each(|&slot| pair.index.unsubscribe(slot));
        prop_assert!(pair.index.is_empty());
    }
}

#[test]
fn a_subscriber_can_have_a_limit_of_its_own() {
    let mut index = Index::new(Limits { registrations: 2, ..Limits::default() });
    let (more, fewer) = (index.subscribe(1, Class(0)), index.subscribe(2, Class(0)));
    index.allow(more, Some(3));
    index.allow(fewer, Some(1));
    let taken =
        |index: &mut Index<i32>, slot| (0..5).filter(|n| index.register(slot, &format!("a.b.{n}")).is_ok()).count();
    assert_eq!((taken(&mut index, more), taken(&mut index, fewer)), (3, 1));
    assert_eq!(index.register(fewer, "a.b.9"), Err(IndexError::TooManyRegistrations { limit: 1 }));
    index.allow(more, None);
    assert_eq!(index.registrations(more), 3, "what is there stays");
    assert_eq!(index.register(more, "a.b.9"), Err(IndexError::TooManyRegistrations { limit: 2 }));
    assert_eq!(index.register(more, "a.b.0"), Ok(false), "the same again changes nothing");
}
