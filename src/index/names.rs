//! The types and actions that DRP's servers and hydrant use, and which of them a name is probably meant to be.
//!
//! Pure. Nothing is known about a name that resembles none of them: it is a producer's own.

use super::spec::Field;

/// The types of objects that DRP has, and those of hydrant.
const TYPES: [&str; 57] = [
    "activities",
    "alerts",
    "audit_logs",
    "batches",
    "blueprints",
    "bootenvs",
    "catalog_items",
    "clusters",
    "connections",
    "contents",
    "contexts",
    "endpoints",
    "events",
    "extended",
    "filters",
    "hydrant",
    "identity_providers",
    "interfaces",
    "isos",
    "files",
    "jobs",
    "leases",
    "licenses",
    "log",
    "machines",
    "machine_jobs",
    "objects",
    "params",
    "pipelines",
    "plugins",
    "plugin_providers",
    "pools",
    "preferences",
    "prefs",
    "profiles",
    "racks",
    "reservations",
    "resource_brokers",
    "roles",
    "stages",
    "store_objects",
    "subnets",
    "system",
    "tasks",
    "templates",
    "tenants",
    "trigger_providers",
    "triggers",
    "users",
    "ux_options",
    "ux_settings",
    "ux_views",
    "version_sets",
    "work_orders",
    "work_order_jobs",
    "workflows",
    "zones",
];

/// The actions of events of any type.
const ACTIONS: [&str; 20] = [
    "action",
    "alert",
    "archive",
    "attach",
    "config",
    "connect",
    "create",
    "delete",
    "detach",
    "disconnect",
    "gap",
    "load",
    "purge",
    "save",
    "start",
    "stop",
    "unload",
    "update",
    "upload",
    "write",
];

/// Further actions, which only events of these types have.
const OWN_ACTIONS: [(&str, &[&str]); 2] = [
    ("log", &["trace", "debug", "info", "warn", "error", "fatal", "panic", "audit"]),
    ("plugins", &["stopped", "configed", "remove"]),
];

/// Words that users write for an action, and the action they mean.
const SYNONYMS: [(&str, &str); 13] = [
    ("destroy", "delete"),
    ("destroyed", "delete"),
    ("remove", "delete"),
    ("removed", "delete"),
    ("deleted", "delete"),
    ("add", "create"),
    ("added", "create"),
    ("created", "create"),
    ("change", "update"),
    ("changed", "update"),
    ("modify", "update"),
    ("patch", "update"),
    ("updated", "update"),
];

/// Longer names (bytes) are not looked at.
pub(super) const LONGEST: usize = 32;

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guess<'k> {
    /// A known one.
    Known,
    /// Unknown, and probably meant to be this known one.
    Slip(&'k str),
    /// Unknown, and it resembles none.
    Foreign,
}

/// Returns what a type is; `further` are known ones too.
pub(super) fn guess_type<'k>(name: &str, further: &'k [Box<str>]) -> Guess<'k> {
    nearest(name, || TYPES.into_iter().chain(further.iter().map(Box::as_ref)))
}

/// Returns what an action of events of these types is.
pub(super) fn guess_action(name: &str, kind: &Field) -> Guess<'static> {
    let own = || OWN_ACTIONS.into_iter().filter(|(owner, _)| kind.matches(owner)).flat_map(|(_, own)| own);
    let guess = nearest(name, || ACTIONS.into_iter().chain(own().copied()));
    let synonym = SYNONYMS.iter().find(|(said, _)| name.eq_ignore_ascii_case(said));
    match (guess, synonym) {
        (Guess::Known, _) | (_, None) => guess,
        (_, Some((_, meant))) => Guess::Slip(meant),
    }
}

fn nearest<'k, I: Iterator<Item = &'k str>>(name: &str, known: impl Fn() -> I) -> Guess<'k> {
    if known().any(|other| other == name) {
        return Guess::Known;
    }
    if name.len() > LONGEST {
        return Guess::Foreign;
    }
    let lower = name.to_ascii_lowercase();
    let singular = lower.strip_suffix('s').unwrap_or(&lower);
    let alike = |other: &&str| {
        let most = if lower.len() < 5 { 0 } else { lower.len() / 4 };
        let may_be = lower.is_ascii() && lower.len().abs_diff(other.len()) <= most;
        let is_number = other.strip_suffix('s').unwrap_or(other) == singular;
        is_number || (may_be && distance(&lower, other) <= most)
    };
    known().find(alike).map_or(Guess::Foreign, Guess::Slip)
}

/// Returns the number of letters to insert, delete or replace to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in b.iter().enumerate() {
            let cost = corner + usize::from(letter != *other);
            corner = row[column + 1];
            row[column + 1] = cost.min(corner + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}
