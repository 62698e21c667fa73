//! Tests of the fleet through its public interface.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::*;
use crate::event::Draft;
use crate::json::{self, Validator};

/// FNV-1a over the lines of a run; implemented here so that a library's change of its hash cannot look like a change of
/// ours.
fn fingerprint(seed: u64, machines: u32, steps: usize) -> u64 {
    let mut fleet = Fleet::new(seed, machines);
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    let mut line = Vec::new();
    for _ in 0..steps {
        line.clear();
        fleet.step().write_json(&mut line);
        for byte in &line {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
    hash
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let first = fingerprint(42, 20, 3_000);
    assert_eq!(first, fingerprint(42, 20, 3_000));
    assert_ne!(first, fingerprint(43, 20, 3_000));
    assert_eq!(
        first, 15_039_561_444_026_763_923,
        "the generator's output has changed; recorded results are not comparable any more"
    );
}

#[test]
fn the_catalogue_and_the_machines_come_first() {
    let mut fleet = Fleet::new(1, 5);
    let mut kinds = Vec::new();
    while !fleet.is_set_up() {
        let event = fleet.step();
        assert_eq!((event.action, event.original.as_str()), ("create", "null"));
        if kinds.last() != Some(&event.kind) {
            kinds.push(event.kind);
        }
    }
    assert_eq!(kinds, ["params", "tasks", "stages", "workflows", "profiles", "machines"]);
    assert_eq!(fleet.machine_count(), 5);
}

/// README shows how to watch for this.
#[test]
fn in_a_fleet_that_is_underway_machines_soon_reach_the_last_stage() {
    let reached = |mut fleet: Fleet| {
        while !fleet.is_set_up() {
            fleet.step();
        }
        let is_local = |object: &str| parsed(object)["Stage"] == "local";
        let updates =
            (0..3_000).map(|_| fleet.step()).filter(|event| (event.kind, event.action) == ("machines", "update"));
        updates.filter(|event| is_local(&event.object) && !is_local(&event.original)).count()
    };
    assert_eq!(reached(Fleet::new(1, 200)), 0, "they begin together");
    let reached = reached(Fleet::new(1, 200).underway());
    assert!(reached >= 10, "a minute at the demo's rate has {reached} of them");
}

#[test]
fn every_event_is_valid_compact_json_in_both_forms() {
    let mut fleet = Fleet::new(2, 10);
    let mut validator = Validator::default();
    for _ in 0..3_000 {
        let event = fleet.step();
        let mut line = Vec::new();
        event.write_json(&mut line);
        let text = validator.validate(&line).unwrap();
        let mut compact = Vec::new();
        json::compact(text, &mut compact);
        assert_eq!(compact, line);
        let read = Draft::read(text).unwrap();
        assert_eq!(read, event.draft());
        let value = parsed(&event.object);
        let name = if value.get("Uuid").is_some() { "Uuid" } else { "Name" };
        assert_eq!(value[name], event.key.as_str());
    }
}

#[test]
fn machines_are_as_big_as_real_ones() {
    let mut fleet = Fleet::new(3, 100);
    let (mut least, mut most) = (usize::MAX, 0);
    for _ in 0..10_000 {
        let event = fleet.step();
        if event.kind == "machines" {
            least = least.min(event.object.len());
            most = most.max(event.object.len());
        }
    }
    assert!(least >= 4_096 && most <= 16_384, "from {least} to {most} bytes");
    assert!(most > 2 * least, "from {least} to {most} bytes: too much alike");
}

#[test]
fn original_is_what_the_object_was() {
    let mut fleet = Fleet::new(4, 10);
    let mut last: HashMap<(&str, String), String> = HashMap::new();
    for _ in 0..20_000 {
        let event = fleet.step();
        let id = (event.kind, event.key.clone());
        match event.action {
            "create" => assert!(!last.contains_key(&id), "{id:?} is created twice"),
            "update" | "save" => {
                assert_eq!(Some(&event.original), last.get(&id), "{id:?}");
                assert_ne!(event.original, event.object, "{id:?} has not changed");
            }
            "delete" => assert_eq!(Some(&event.object), last.get(&id), "{id:?}"),
            other => panic!("{other}"),
        }
        if event.action == "delete" {
            last.remove(&id);
        } else {
            last.insert(id, event.object);
        }
    }
}

#[test]
fn jobs_and_work_orders_name_a_machine_that_exists() {
    let mut fleet = Fleet::new(5, 10);
    let (mut machines, mut orders) = (HashSet::new(), HashSet::new());
    let mut seen = HashSet::new();
    for _ in 0..20_000 {
        let event = fleet.step();
        let object = parsed(&event.object);
        seen.insert(format!("{}.{}.{}", event.kind, event.action, object["State"].as_str().unwrap_or_default()));
        match (event.kind, event.action) {
            ("machines", "create") => assert!(machines.insert(event.key)),
            ("machines", "delete") => assert!(machines.remove(&event.key)),
            ("machines", _) => assert!(machines.contains(&event.key)),
            ("work_orders", "create") => assert!(orders.insert(event.key)),
            ("jobs", _) => {
                assert!(machines.contains(object["Machine"].as_str().unwrap()));
                let order = object["WorkOrder"].as_str().unwrap();
                assert!(order.is_empty() || orders.contains(order));
                assert_eq!(event.principal, format!("runner:{}", object["Machine"].as_str().unwrap()));
            }
            _ => {}
        }
    }
    assert_eq!(machines, fleet.machine_keys().collect());
    for needed in [
        "jobs.create.created",
        "jobs.update.running",
        "jobs.update.finished",
        "jobs.update.failed",
        "jobs.save.finished",
        "work_orders.create.created",
        "work_orders.update.running",
        "work_orders.update.finished",
        "machines.update.",
        "machines.save.",
        "machines.delete.",
        "profiles.save.",
        "params.save.",
    ] {
        assert!(seen.contains(needed), "{needed} never happened; {seen:?}");
    }
}

#[test]
fn the_fleet_keeps_its_size() {
    for wanted in [0, 1, 7, 200] {
        let mut fleet = Fleet::new(6, wanted);
        while !fleet.is_set_up() {
            fleet.step();
        }
        let (mut least, mut most) = (usize::MAX, 0);
        for _ in 0..10_000 {
            fleet.step();
            least = least.min(fleet.machine_count());
            most = most.max(fleet.machine_count());
        }
        let wanted = wanted.max(1) as usize;
        assert!(least >= wanted - wanted / 10 - 1 && most <= wanted + wanted / 10 + 1, "{wanted}: {least} to {most}");
        assert!(least > 0);
    }
}

#[test]
fn times_follow_the_caller() {
    let mut fleet = Fleet::new(7, 1);
    let now: Timestamp = "2030-05-06T07:08:09Z".parse().unwrap();
    while !fleet.is_set_up() {
        fleet.step();
    }
    fleet.set_now(now);
    let event = std::iter::repeat_with(|| fleet.step()).find(|event| event.kind == "machines").unwrap();
    let modified: Timestamp = parsed(&event.object)["LastModifiedAt"].as_str().unwrap().parse().unwrap();
    assert!(modified > now && modified.duration_since(now).as_secs() < 60, "{modified}");
}
