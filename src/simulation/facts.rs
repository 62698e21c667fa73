//! What happened, independently of the product: events, and the plainest possible reading of registrations.

use jiff::Timestamp;

use super::random::Random;
use crate::event::{Draft, Event};

pub(super) const KINDS: [&str; 3] = ["machines", "leases", "tasks"];
pub(super) const ACTIONS: [&str; 4] = ["create", "update", "update", "save"];
pub(super) const KEYS: [&str; 4] = ["k0", "k1", "k2", "k3"];
const STAGES: [&str; 3] = ["a", "ab", "b"];

/// An event that a node has accepted.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    pub(super) kind: String,
    pub(super) action: String,
    pub(super) key: String,
    pub(super) stage: String,
    /// The number that its producer gave it; none for events about connections.
    pub(super) number: Option<u64>,
    pub(super) json: String,
    pub(super) original: String,
    pub(super) time: String,
}

impl Fact {
    pub(super) fn of(event: &Event) -> Self {
        let object: serde_json::Value = serde_json::from_str(event.object()).unwrap();
        Self {
            kind: event.kind().to_owned(),
            action: event.action().to_owned(),
            key: event.key().to_owned(),
            stage: object["Stage"].as_str().unwrap_or_default().to_owned(),
            number: object["N"].as_u64(),
            json: event.json().to_owned(),
            original: event.original().to_owned(),
            time: event.time().to_owned(),
        }
    }

    pub(super) fn is_update(&self) -> bool {
        matches!(self.action.as_str(), "update" | "save")
    }

    pub(super) fn is_of_one_object(&self, other: &Self) -> bool {
        self.kind == other.kind && self.key == other.key
    }
}

/// Makes the event with this number.
pub(super) fn event(number: u64, random: &mut Random, now: Timestamp) -> Event {
    let (kind, key) = (random.pick(&KINDS), random.pick(&KEYS));
    let action = if random.percent(8) { "delete" } else { random.pick(&ACTIONS) };
    let padding = match random.below(20) {
        0 => random.between(500, 3000),
        1..6 => random.between(50, 400),
        _ => 0,
    };
    let (stage, padding) = (random.pick(&STAGES), "x".repeat(padding));
    let object = format!(r#"{{"N":{number},"Stage":"{stage}","Pad":"{padding}"}}"#);
    let original = format!(r#"{{"Before":{number}}}"#);
    let mut draft = Draft::new(kind, action, key);
    (draft.object, draft.original) = (object.as_str(), original.as_str());
    draft.seal(now)
}

/// A registration, as its text says.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) text: String,
    parts: [Vec<String>; 3],
    filter: Option<(&'static str, &'static str)>,
}

impl Spec {
    pub(super) fn random(random: &mut Random) -> Self {
        let lists = [&KINDS[..], &ACTIONS[..2], &KEYS[..]];
        let mut parts = lists.map(|all| match random.below(4) {
            0 => vec![random.pick(all).to_owned()],
            1 => {
                let (one, other) = (random.pick(all), random.pick(all));
                if one == other { vec![one.to_owned()] } else { vec![one.to_owned(), other.to_owned()] }
            }
            _ => vec!["*".to_owned()],
        });
        if random.percent(3) {
            parts[0] = vec!["connections".to_owned()];
        }
        if random.percent(6) {
            // More entries than are handled at once, and longer than is parsed on the shard's thread.
            parts[2] = (0..90).map(|n| if n == 45 { "k1".to_owned() } else { format!("wide-key-{n}") }).collect();
        }
        let filter = match random.below(8) {
            0 => Some(("Eq", "a")),
            1 => Some(("Re", "a")),
            _ => None,
        };
        let names = parts.iter().map(|list| list.join(",")).collect::<Vec<_>>().join(".");
        let text = match filter {
            Some(("Re", value)) => format!("{names}.Stage=Re(^{value})"),
            Some((operator, value)) => format!("{names}.Stage={operator}({value})"),
            None => names,
        };
        Self { text, parts, filter }
    }

    pub(super) fn matches(&self, fact: &Fact) -> bool {
        let names = [&fact.kind, &fact.action, &fact.key];
        let is_named = self.parts.iter().zip(names).all(|(list, name)| list[0] == "*" || list.contains(name));
        is_named
            && match self.filter {
                None => true,
                Some(("Re", value)) => fact.stage.starts_with(value),
                Some((_, value)) => fact.stage == value,
            }
    }
}
