//! Tests that wide registrations match what they would match in the trie, are cheap to register, and are charged.

use super::naive::Naive;
use super::tests::hits;
use super::*;
use crate::event::{Draft, Event};

fn event(kind: &str, action: &str, key: &str, machine: &str) -> Event {
    let object = format!(r#"{{"Machine":"{machine}","Name":"n"}}"#);
    let mut draft = Draft::new(kind, action, key);
    draft.object = &object;
    draft.seal(jiff::Timestamp::UNIX_EPOCH)
}

fn list(prefix: &str, count: usize) -> String {
    (0..count).map(|at| format!("{prefix}{at}")).collect::<Vec<_>>().join(",")
}

#[test]
fn lists_match_what_the_trie_would_match() {
    let specs = [
        "a,b.x,y.1,2",
        "*.x.*",
        "a.*.1",
        "machine_jobs,a.*.m",
        "machine_jobs,*.x.m,1",
        "work_order_jobs.y.m",
        r"a,jobs.x.\3,1",
        "a,b.*.*.Name=Eq(n)",
        "a,b.*.*.Name=Ne(n)",
        "jobs.x.,1",
    ];
    let mut index = Index::new(Limits { expanded: 0, ..Limits::default() });
    let mut naive = Naive::default();
    let slots: Vec<Slot> = (0..).zip(specs).map(|(id, _)| index.subscribe(id, Class(0))).collect();
    for ((id, spec), slot) in (0..).zip(specs).zip(&slots) {
        assert_eq!(index.register(*slot, spec), Ok(true), "{spec}");
        naive.register(id, spec);
    }
    let mut found = 0;
    for kind in ["a", "b", "jobs", "machine_jobs", "c"] {
        for (action, key, machine) in
            [("x", "1", "m"), ("y", "2", "m"), ("x", "*", "1"), ("z", "", ""), ("y", "m", "o")]
        {
            let event = event(kind, action, key, machine);
            assert_eq!(hits(&mut index, &event), naive.matches(&event), "{kind} {action} {key} {machine}");
            found += naive.matches(&event).len();
        }
    }
    assert!(found > 30, "{found}");
    for (spec, slot) in specs.iter().zip(slots) {
        index.deregister(slot, spec).unwrap();
    }
    assert!(index.is_empty());
}

/// What would be many entries in the trie is a single one, and so is every registration of a subscriber beyond its
/// total.
#[test]
fn no_registration_is_more_than_a_little_work() {
    let mut index = Index::new(Limits::default());
    let slot = index.subscribe(1, Class(0));
    let wide = format!("{}.{}.{}", list("t", 32), list("a", 32), list("k", 64));
    assert_eq!(index.register(slot, &wide), Ok(true), "65,536 combinations");
    assert_eq!((index.stats().groups, index.stats().symbols), (1, 0));
    assert_eq!(hits(&mut index, &event("t31", "a0", "k63", "")), [1]);
    assert_eq!(hits(&mut index, &event("t31", "a0", "k64", "")), [0; 0]);
    let some = |at: usize| format!("x{at}.{}.{}", list("a", 10), list("k", 100));
    for at in 0..20 {
        assert_eq!(index.register(slot, &some(at)), Ok(true));
    }
    let limits = Limits::default();
    assert!(index.stats().groups <= limits.expanded_in_all + 20, "{:?}", index.stats());
    assert_eq!(hits(&mut index, &event("x19", "a9", "k99", "")), [1]);
    // Removed combinations can be used again.
    for at in 0..20 {
        index.deregister(slot, &some(at)).unwrap();
    }
    assert_eq!(index.register(slot, &some(0)), Ok(true));
    assert!(index.stats().groups > 1000);
    index.reclass(slot, Class(3));
    assert_eq!(hits(&mut index, &event("t31", "a0", "k63", "")), [1]);
    let full = format!("{}.{}.*", list("t", 256), list("a", 256));
    assert!((0..4).any(|at| index.register(slot, &format!("z{at},{full}")).is_err()), "they count all the same");
    index.unsubscribe(slot);
    assert!(index.is_empty());
}

#[test]
fn nothing_is_done_for_those_who_may_not_see_the_event_and_the_others_pay() {
    let work = Work { event: 1_000, ..Work::UNLIMITED };
    let mut index = Index::new(Limits { expanded: 0, work, ..Limits::default() });
    for id in 0..2 {
        let slot = index.subscribe(id, Class(id));
        for at in 0..100 {
            index.register(slot, &format!("a,b{at}.x.*")).unwrap();
        }
    }
    let before = index.filter_counters();
    index.matches(&event("c", "x", "k", ""), |_| false, |_| panic!("nobody may see it"));
    assert_eq!(index.filter_counters(), before);
    index.matches(&event("c", "x", "k", ""), |class| class == Class(1), |_| panic!("nobody wants it"));
    let spent = index.filter_counters().since(before).work;
    assert!((900..=1_048).contains(&spent), "{spent}");
    assert_eq!(index.take_overdrawn(), Some((1, Overdrawn::Event)));
    assert_eq!(index.take_overdrawn(), None);
}

/// A connection in a replay is not charged for live events, so no work may be done for it either.
#[test]
fn nothing_is_done_for_those_who_are_paused_or_cannot_pay() {
    let work = Work { event: 1_000, ..Work::UNLIMITED };
    let mut index = Index::new(Limits { expanded: 0, work, ..Limits::default() });
    let slots: Vec<_> = (0..2).map(|id| index.subscribe(id, Class(0))).collect();
    for &slot in &slots {
        for at in 0..100 {
            index.register(slot, &format!("a,b{at}.x.*")).unwrap();
        }
    }
    index.pause(slots[0], true);
    let looks = |index: &mut Index<u32>, slot| index.usage(slot, 0).iter().filter(|usage| usage.tally.work > 0).count();
    index.matches(&event("c", "x", "k", ""), |_| true, |_| panic!("nobody wants it"));
    assert_eq!(looks(&mut index, slots[0]), 0, "paused");
    assert!((10..50).contains(&looks(&mut index, slots[1])), "as far as it could pay");
    assert_eq!(index.take_overdrawn(), Some((1, Overdrawn::Event)));
    assert_eq!(index.take_overdrawn(), None);
    index.pause(slots[0], false);
    index.deregister(slots[0], "a,b7.x.*").unwrap();
    index.matches(&event("b99", "x", "k", ""), |_| true, |_| {});
    assert!(looks(&mut index, slots[0]) > 10);
    slots.into_iter().for_each(|slot| index.unsubscribe(slot));
    assert!(index.is_empty());
}

#[test]
fn what_is_about_the_owner_is_found_by_lists_too() {
    let mut index = Index::new(Limits { expanded: 0, ..Limits::default() }).with_own_kind("connections");
    let slot = index.subscribe_for(1, Class(0), Some("alice"));
    let specs = ["a,connections.create,delete.*", "connections.*.alice,bob.Name=Eq(n)"];
    for spec in specs {
        index.register(slot, spec).unwrap();
    }
    let own = |index: &mut Index<u32>, action: &str| {
        let mut hits = Vec::new();
        index.matches_own(&event("connections", action, "alice", ""), "alice", |_| false, |id| hits.push(id));
        hits
    };
    assert_eq!((own(&mut index, "create"), own(&mut index, "update")), (vec![1], vec![1]));
    index.deregister(slot, specs[1]).unwrap();
    assert_eq!((own(&mut index, "create"), own(&mut index, "update")), (vec![1], vec![]));
    index.deregister(slot, specs[0]).unwrap();
    assert!(own(&mut index, "create").is_empty());
    assert!(index.is_empty());
}

/// The owner's events are looked at only for lists that name both its type and its key.
#[test]
fn lists_that_match_nothing_about_the_owner_cost_its_events_nothing() {
    let mut index = Index::new(Limits { expanded: 0, ..Limits::default() }).with_own_kind("connections");
    let slot = index.subscribe_for(1, Class(0), Some("alice"));
    let cost = |index: &mut Index<u32>| {
        let (before, event) = (index.filter_counters().work, event("connections", "create", "alice", ""));
        index.matches_own(&event, "alice", |_| false, |_| panic!("nothing is wanted"));
        index.filter_counters().work - before
    };
    for spec in ["a,connections.*.bob", "a,b.*.alice", "a,b.create.bob,carol"] {
        index.register(slot, spec).unwrap();
    }
    assert_eq!(cost(&mut index), 0);
    index.register(slot, "a,connections.delete.alice").unwrap();
    assert!(cost(&mut index) > 0, "another action is wanted");
}
