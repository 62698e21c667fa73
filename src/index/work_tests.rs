//! Tests that rights precede filters, and the limits on the work and size of filters.

use super::*;
use crate::event::{Draft, Event};

const SECRET: &str = r#"{"Params":{"secret":"swordfish","list":[1,{"a":2}]},"Name":"m1"}"#;

/// Each kind of predicate, and enough of them on one field that it is looked up by hash.
fn every_filter() -> impl Iterator<Item = String> {
    let guesses = (0..20).map(|n| format!("Params.secret=Eq(guess{n})"));
    let others = [
        "Params.secret=Eq(swordfish)",
        "Params.secret=In(a,swordfish)",
        "Params.secret=Re(^s)",
        "Params=Eq({\"a\":1})",
        "Params=Changed()",
        "Not(Params.list.1.a=Exists())",
        "Or(Name=Ne(m1),Params.secret=Nin(x))",
    ];
    guesses.chain(others.map(str::to_owned))
}

fn event(kind: &str, key: &str, object: &str) -> Event {
    let mut draft = Draft::new(kind, "update", key);
    draft.object = object;
    draft.original = r#"{"Params":{"secret":"swordfish"}}"#;
    draft.seal(jiff::Timestamp::UNIX_EPOCH)
}

fn hits(index: &mut Index<u32>, event: &Event, allowed: impl FnMut(Class) -> bool) -> Vec<u32> {
    let mut hits = Vec::new();
    index.matches(event, allowed, |id| hits.push(id));
    hits.sort_unstable();
    hits
}

fn subscriber(index: &mut Index<u32>, id: u32, class: u32, owner: &str, filters: &[String]) -> Slot {
    let slot = index.subscribe_for(id, Class(class), Some(owner));
    for filter in filters {
        index.register(slot, &format!("*.*.*.{filter}")).unwrap();
    }
    slot
}

#[test]
fn filters_do_nothing_about_an_event_that_their_class_may_not_see() {
    let mut index = Index::new(Limits::default());
    let filters: Vec<String> = every_filter().collect();
    for id in 0..3 {
        subscriber(&mut index, id, 1, "mallory", &filters);
    }
    let event = event("profiles", "p", SECRET);
    assert!(hits(&mut index, &event, |_| false).is_empty());
    assert_eq!(index.filter_counters(), Counters::default(), "neither asked nor looked up");
    assert_eq!(hits(&mut index, &event, |_| true), [0, 1, 2]);
    let seen = index.filter_counters();
    assert!(seen.predicate_evaluations >= 6 && seen.field_lookups >= 3 && seen.work > 0, "{seen:?}");
}

#[test]
fn what_others_may_see_costs_the_same_whoever_else_waits_for_it() {
    let event = event("profiles", "p", SECRET);
    let cost = |spies: u32| {
        let mut index = Index::new(Limits::default());
        subscriber(&mut index, 0, 0, "alice", &["Params.secret=Re(fish$)".to_owned()]);
        for id in 1..=spies {
            subscriber(&mut index, id, 1, "mallory", &every_filter().collect::<Vec<_>>());
        }
        assert_eq!(hits(&mut index, &event, |class| class == Class(0)), [0]);
        index.filter_counters()
    };
    assert_eq!(cost(0).predicate_evaluations, 1);
    assert_eq!(cost(0), cost(5));
}

#[test]
fn an_owner_sees_what_is_about_it_and_nobody_else_of_its_class_is_asked() {
    let mut index = Index::new(Limits::default()).with_own_kind("connections");
    let filters: Vec<String> = every_filter().collect();
    let own = subscriber(&mut index, 7, 1, "alice", &["Name=Eq(m1)".to_owned()]);
    subscriber(&mut index, 8, 1, "alice", &["Name=Eq(m2)".to_owned()]);
    subscriber(&mut index, 9, 1, "mallory", &filters);
    let of = |index: &mut Index<u32>, owner: &str, all: bool| {
        let (mut hits, before) = (Vec::new(), index.filter_counters());
        index.matches_own(&event("connections", owner, SECRET), owner, |_| all, |id| hits.push(id));
        (hits, index.filter_counters().since(before).predicate_evaluations)
    };
    assert_eq!(of(&mut index, "alice", false), (vec![7], 2));
    assert_eq!(of(&mut index, "nobody", false), (vec![], 0));
    let (mut seen, _) = of(&mut index, "alice", true);
    seen.sort_unstable();
    assert_eq!(seen, [7, 9], "once each");
    index.unsubscribe(own);
    assert_eq!(of(&mut index, "alice", false), (vec![], 1));
}

/// Costs four units per byte.
fn long(bytes: usize) -> Event {
    event("a", "k", &format!(r#"{{"Name":"{}"}}"#, "x".repeat(bytes)))
}

fn patterns(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("Name=Re(x[^a]*{n}$)")).collect()
}

#[test]
fn an_expensive_event_stops_who_asks_too_much_and_nobody_who_shares_a_filter() {
    let work = Work { event: 300_000, ..Work::UNLIMITED };
    let mut index = Index::new(Limits { work, ..Limits::default() });
    let shared = "Name=Re(x$)".to_owned();
    // The greedy one comes first, so the shared filter is charged to it, and to the other once its budget is exhausted.
    let mut greedy = patterns(8);
    greedy.push(shared.clone());
    subscriber(&mut index, 1, 0, "mallory", &greedy);
    subscriber(&mut index, 2, 0, "alice", std::slice::from_ref(&shared));
    subscriber(&mut index, 3, 1, "bob", &[shared]);
    let found = hits(&mut index, &long(20_000), |_| true);
    assert!(found.contains(&2) && found.contains(&3), "{found:?}");
    assert_eq!(index.take_overdrawn(), Some((1, Overdrawn::Event)));
    assert_eq!(index.take_overdrawn(), None);
    let work = index.filter_counters().work;
    assert!(work < 300_000 + 3 * 100_000, "stopped at once: {work}");
    hits(&mut index, &long(100), |_| true);
    assert_eq!(index.take_overdrawn(), None, "the next event is another matter");
}

#[test]
fn a_question_that_is_too_dear_is_not_even_begun() {
    let work = Work { event: 100_000, ..Work::UNLIMITED };
    let mut index = Index::new(Limits { work, ..Limits::default() });
    subscriber(&mut index, 1, 0, "mallory", &["Name=Re(y)".to_owned(), "Params=Changed()".to_owned()]);
    hits(&mut index, &long(1 << 20), |_| true);
    assert_eq!(index.take_overdrawn(), Some((1, Overdrawn::Event)));
    assert!(index.filter_counters().work < 1 << 20, "{:?}", index.filter_counters());
}

#[test]
fn a_second_has_its_own_budget_and_an_owner_one_for_all() {
    let work = Work { event: u64::MAX, second: 1_600_000, owner: 2_400_000 };
    let mut index = Index::new(Limits { work, ..Limits::default() });
    subscriber(&mut index, 1, 0, "mallory", &patterns(1));
    let event = long(20_000);
    let events_until_overdrawn = |index: &mut Index<u32>| {
        let mut count = 0;
        loop {
            hits(index, &event, |_| true);
            if let Some(overdrawn) = index.take_overdrawn() {
                return (count, overdrawn.1);
            }
            count += 1;
        }
    };
    for second in 1..4 {
        index.begin_second(second);
        let (count, overdrawn) = events_until_overdrawn(&mut index);
        assert!((10..=20).contains(&count), "{count}");
        assert_eq!(overdrawn, Overdrawn::Second);
    }
    subscriber(&mut index, 2, 0, "mallory", &["Name=Re(x[^a]*y$)".to_owned()]);
    index.begin_second(9);
    assert_eq!(events_until_overdrawn(&mut index).1, Overdrawn::Owner);
}

#[test]
fn filters_have_a_size_by_subscriber_and_by_owner() {
    let mut index = Index::new(Limits { filter_bytes: 20_000, owner_filter_bytes: 30_000, ..Limits::default() });
    let slots = [1, 2].map(|id| index.subscribe_for(id, Class(0), Some("alice")));
    let spec =
        |n: usize| format!("a.b.c.Name=In({})", (0..50).map(|m| format!("{n}x{m}")).collect::<Vec<_>>().join(","));
    let fill = |index: &mut Index<u32>, slot: Slot| {
        (0..100).find_map(|n| index.register(slot, &spec(n)).err().map(|error| (n, error))).unwrap()
    };
    let (first, error) = fill(&mut index, slots[0]);
    assert!(matches!(error, IndexError::FilterBytes { limit: 20_000, .. }), "{error}");
    let (second, error) = fill(&mut index, slots[1]);
    assert!(matches!(error, IndexError::OwnerFilterBytes { limit: 30_000, .. }), "{error}");
    assert!(0 < second && second < first, "{second} of {first}");
    assert_eq!(index.register(slots[1], "a.b.c"), Ok(true), "what has no filter has no size");
    index.deregister(slots[0], &spec(0)).unwrap();
    assert_eq!(index.register(slots[1], &spec(second)), Ok(true), "what is given back can be used");
    slots.into_iter().for_each(|slot| index.unsubscribe(slot));
    assert!(index.is_empty());
    let other = index.subscribe_for(3, Class(0), Some("alice"));
    assert_eq!(fill(&mut index, other).0, first, "nothing is left of those that went");
}

#[test]
fn another_class_costs_no_parsing_and_keeps_filters_and_sizes() {
    let mut index = Index::new(Limits::default());
    let slot = subscriber(&mut index, 1, 0, "alice", &every_filter().collect::<Vec<_>>());
    let (stats, held) = (index.stats(), index.stats().filter_parts);
    for class in [3, 0, 7] {
        index.reclass(slot, Class(class));
        assert_eq!((index.stats(), index.stats().filter_parts), (stats, held));
        assert_eq!(hits(&mut index, &event("a", "k", SECRET), |other| other == Class(class)), [1]);
    }
    index.unsubscribe(slot);
    assert!(index.is_empty());
}

/// The cost does not depend on the number of matching registrations.
#[test]
fn what_is_about_the_owner_costs_by_subscriber_and_not_by_registration() {
    let mut index = Index::new(Limits::default()).with_own_kind("connections");
    let slot = index.subscribe_for(1, Class(0), Some("alice"));
    let cost = |index: &mut Index<u32>, hit: bool| {
        let (mut hits, before) = (Vec::new(), index.filter_counters().work);
        index.matches_own(&event("connections", "alice", "null"), "alice", |_| false, |id| hits.push(id));
        assert_eq!(hits.len(), usize::from(hit));
        index.filter_counters().work - before
    };
    assert_eq!(cost(&mut index, false), 0, "it watches nothing");
    let specs: Vec<String> = (0..1_000).map(|n| format!("connections,machines.*.*,{n}")).collect();
    index.register(slot, &specs[0]).unwrap();
    let one = cost(&mut index, true);
    specs[1..].iter().for_each(|spec| assert_eq!(index.register(slot, spec), Ok(true)));
    assert_eq!(cost(&mut index, true), one);
    index.register(slot, "connections.other.*").unwrap();
    specs.iter().for_each(|spec| index.deregister(slot, spec).unwrap());
    assert_eq!(cost(&mut index, false), one);
    index.deregister(slot, "connections.other.*").unwrap();
    assert_eq!(cost(&mut index, false), 0);
    index.unsubscribe(slot);
    assert!(index.is_empty());
}

#[test]
fn who_is_found_again_by_its_own_registrations_pays_for_it() {
    let work = Work { event: 2_000, ..Work::UNLIMITED };
    let mut index = Index::new(Limits { work, ..Limits::default() });
    let [few, many] = [1, 2].map(|id| index.subscribe(id, Class(0)));
    index.register(few, "*.*.*").unwrap();
    for n in 0..1_000 {
        index.register(many, &format!("a,t{n}.*.*")).unwrap();
    }
    assert_eq!(hits(&mut index, &event("a", "k", "null"), |_| true), [1, 2]);
    assert_eq!(index.take_overdrawn(), Some((2, Overdrawn::Event)));
    assert_eq!(index.take_overdrawn(), None);
}

#[test]
fn nothing_is_asked_for_who_is_paused() {
    let work = Work { event: 1_000, second: 16_000, owner: 16_000 };
    let mut index = Index::new(Limits { work, ..Limits::default() });
    let slot = subscriber(&mut index, 1, 0, "mallory", &patterns(8));
    index.pause(slot, true);
    assert!(hits(&mut index, &long(20_000), |_| true).is_empty());
    assert_eq!(index.take_overdrawn(), None);
    assert_eq!(index.filter_counters(), Counters { work: 8 * 4, ..Counters::default() }, "only passed over");
    index.pause(slot, false);
    hits(&mut index, &long(20_000), |_| true);
    assert_eq!(index.take_overdrawn(), Some((1, Overdrawn::Event)));
}

/// Otherwise every event would pass over them for nothing: a client that does not read could have thousands.
#[test]
fn filters_of_who_is_paused_are_passed_over_within_its_budget() {
    let work = Work { event: u64::MAX, second: 100_000, owner: u64::MAX };
    let mut index = Index::new(Limits { work, ..Limits::default() });
    let filters: Vec<String> = (0..1_000).map(|n| format!("Name=Ne({n})")).collect();
    let slot = subscriber(&mut index, 1, 0, "mallory", &filters);
    index.pause(slot, true);
    for second in 1..4 {
        index.begin_second(second);
        for _ in 0..25 {
            assert!(hits(&mut index, &long(100), |_| true).is_empty());
            assert_eq!(index.take_overdrawn(), None);
        }
    }
    hits(&mut index, &long(100), |_| true);
    assert_eq!(index.take_overdrawn(), Some((1, Overdrawn::Second)));
}

/// Thousands may lag and wait for values of one field. Asking each of them would cost more than to look it up.
#[test]
fn a_field_for_which_many_wait_is_looked_up_though_they_are_paused() {
    let mut index = Index::new(Limits::default());
    for id in 0..1_000 {
        let slot = subscriber(&mut index, id, 0, "alice", &[format!("Name=Eq(m{id})")]);
        index.pause(slot, id != 700);
    }
    let event = event("a", "k", r#"{"Name":"m700"}"#);
    for events in 1..4 {
        assert_eq!(hits(&mut index, &event, |_| true), [700], "it can pay, whoever is asked before");
        assert!(index.filter_counters().work < events * 200, "{:?}", index.filter_counters());
        assert_eq!(index.filter_counters().field_lookups, events);
    }
}

#[test]
fn the_lookup_of_a_field_is_billed_to_one_that_is_paused() {
    let work = Work { event: u64::MAX, second: 1_600_000, owner: u64::MAX };
    let mut index = Index::new(Limits { work, ..Limits::default() });
    let filters: Vec<String> = (0..1_000).map(|n| format!(r#"Params=Eq({{"a":{n}}})"#)).collect();
    let slot = subscriber(&mut index, 1, 0, "mallory", &filters);
    index.pause(slot, true);
    let long = |bytes: usize| event("a", "k", &format!(r#"{{"Params":{{"a":"{}"}}}}"#, "x".repeat(bytes)));
    let event = long(3_000);
    let events =
        (0..100).take_while(|_| hits(&mut index, &event, |_| true).is_empty() && index.take_overdrawn().is_none());
    let events = events.count();
    assert!((30..34).contains(&events), "{events} that take 50,000 units each");
    // What takes longer than to ask everybody is not done.
    index.begin_second(9);
    let before = index.filter_counters().work;
    assert!(hits(&mut index, &long(100_000), |_| true).is_empty());
    let taken = index.filter_counters().work - before;
    assert!((50_000 + 4_000..60_000).contains(&taken), "{taken} for walking over it and passing over all");
}

#[test]
fn elements_of_an_array_are_paid_for_up_to_the_last_that_somebody_asks_for() {
    let event = event("a", "k", &format!("[{}7]", "0,".repeat(10_000)));
    let cost = |filter: &str| {
        let mut index = Index::new(Limits::default());
        subscriber(&mut index, 1, 0, "mallory", &[filter.to_owned()]);
        assert_eq!(hits(&mut index, &event, |_| true), [1]);
        index.filter_counters().work
    };
    let (first, last) = (cost("0=Exists()"), cost("10000=Eq(7)"));
    assert!(first < 20_002 && last == first + 8 * 10_000, "{first} {last}");
}

/// Whoever is the first to look into an array would otherwise pay for what others look up in it.
#[test]
fn nobody_pays_for_elements_that_only_others_ask_for() {
    let event = event("a", "k", &format!("[{}7]", "0,".repeat(10_000)));
    let work = Work { event: 20_000, ..Work::UNLIMITED };
    for order in [[1, 2], [2, 1]] {
        let mut index = Index::new(Limits { work, ..Limits::default() });
        let slots = order.map(|id| {
            let filter = if id == 1 { "0=Exists()" } else { "9999999=Exists()" };
            subscriber(&mut index, id, 0, &format!("owner {id}"), &[filter.to_owned()])
        });
        assert_eq!(hits(&mut index, &event, |_| true), [1], "{order:?}");
        assert_eq!((index.take_overdrawn(), index.take_overdrawn()), (Some((2, Overdrawn::Event)), None), "{order:?}");
        index.pause(slots[usize::from(order[0] == 1)], true);
        let before = index.filter_counters().work;
        assert_eq!(hits(&mut index, &event, |_| true), [1]);
        assert!(index.filter_counters().work - before < 20_000, "nobody asks for the others");
    }
}
