//! Warns about odd registrations: those that can never match, or are probably a mistake.
//!
//! Contract: pure; nothing is ever refused because of a warning. A warning is written for a person: it names what is
//! odd and what to write instead. The work is bounded: [`NAMES`] names of each list, and [`TERMS`] children of one
//! `And`. The broker's own names, and those that occurred in events, are never odd.

use std::sync::Arc;

use hashbrown::HashSet;

use super::filter::{self, Filter, Limits, Op, Term, Test, Value};
use super::names::{Guess, LONGEST, guess_action, guess_type};
use super::spec::{Field, Spec};

/// What may stand before the first `=` of a comparison in another language, and after it.
const BEFORE: [char; 9] = ['!', '<', '>', '~', '^', '$', '*', ':', '|'];
const AFTER: [char; 4] = ['=', '~', '<', '>'];

/// Longer filters (bytes) are not advised word for word.
const ADVISED: usize = 128;

/// Names of a list that are checked.
const NAMES: usize = 16;

/// Conjunctions of one filter that are checked.
const ANDS: usize = 16;

/// Children of one `And` that are compared with each other.
const TERMS: usize = 32;

/// Pairs of values of two lists that are compared.
const COMPARED: usize = 64;

/// Size of each of the two generations of remembered names.
const REMEMBERED: usize = 512;

/// Names seen in events, for one field.
///
/// Names in use stay, whatever other events are posted: when the recent generation is full it becomes the older one,
/// and a name that is seen again enters the recent one again. A name is only forgotten if it is not seen while
/// [`REMEMBERED`] others are. A copy shares both generations until another name is seen: a shard makes one for
/// everybody who has a registration checked.
#[derive(Debug, Default, Clone)]
struct Names {
    of_late: Arc<HashSet<Box<str>>>,
    before: Arc<HashSet<Box<str>>>,
}

impl Names {
    fn note(&mut self, name: &str) {
        if name.len() > LONGEST || self.of_late.contains(name) {
            return;
        }
        if self.of_late.len() == REMEMBERED {
            self.before = std::mem::take(&mut self.of_late);
        }
        Arc::make_mut(&mut self.of_late).insert(name.into());
    }

    fn contains(&self, name: &str) -> bool {
        self.of_late.contains(name) || self.before.contains(name)
    }
}

/// Names seen in events, and further known object types.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    kinds: Names,
    actions: Names,
    types: Arc<[Box<str>]>,
}

impl Seen {
    /// Notes the names of an event.
    pub fn note(&mut self, kind: &str, action: &str) {
        self.kinds.note(kind);
        self.actions.note(action);
    }

    /// Sets the object types that exist besides the built-in ones.
    pub fn set_types(&mut self, types: Arc<[Box<str>]>) {
        self.types = types;
    }
}

/// Returns warnings about a registration; usually none. Without `seen`, there are none about names.
pub fn warnings(text: &str, spec: &Spec, seen: Option<&Seen>) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(seen) = seen {
        all.extend(odd_names(spec, seen));
    }
    match &spec.filter {
        None => all.extend(odd_key(text)),
        Some(filter) => all.extend(contradictions(filter).chain(costly(spec, filter))),
    }
    all
}

fn names(field: &Field) -> impl Iterator<Item = &str> {
    field.iter().flatten().take(NAMES)
}

/// Warns about names that resemble one in use. What the actions of a type are that resembles none, only its producer
/// knows.
fn odd_names(spec: &Spec, seen: &Seen) -> Vec<String> {
    let guess = |name| match guess_type(name, &seen.types) {
        Guess::Slip(_) if seen.kinds.contains(name) => Guess::Foreign,
        guess => guess,
    };
    let kinds: Vec<(&str, Guess<'_>)> = names(&spec.kind).map(|name| (name, guess(name))).collect();
    let mut all: Vec<String> = kinds.iter().filter_map(|(name, guess)| odd_type(name, *guess)).collect();
    if kinds.iter().all(|(_, guess)| *guess != Guess::Foreign) {
        let actions = names(&spec.action).filter(|name| !seen.actions.contains(name));
        all.extend(actions.filter_map(|name| odd_action(name, &spec.kind)));
    }
    all
}

fn odd_type(name: &str, guess: Guess<'_>) -> Option<String> {
    if name == "websocket" {
        return Some(
            "nothing matches the type `websocket`: it is the type of answers to commands, which need no registration"
                .to_owned(),
        );
    }
    let Guess::Slip(near) = guess else { return None };
    Some(format!("unknown type `{name}`: did you mean `{near}`?"))
}

fn odd_action(name: &str, kind: &Field) -> Option<String> {
    let Guess::Slip(meant) = guess_action(name, kind) else { return None };
    Some(format!("unknown action `{name}`: did you mean `{meant}`?"))
}

/// Warns if a comparison in the notation of another language was parsed as part of the key.
fn odd_key(text: &str) -> Option<String> {
    let rest = text.splitn(3, '.').nth(2)?;
    let at = rest.find('=')?;
    let start = rest[..at].find('.').map_or(0, |dot| dot + 1);
    let comparison = &rest[start..];
    let field = rest[start..at].trim_end_matches(BEFORE);
    let value = rest[at..].trim_start_matches(AFTER);
    let operator = &comparison[field.len()..comparison.len() - value.len()];
    let (field, value) = (field.trim(), value.trim());
    if field.is_empty() || value.is_empty() {
        return None;
    }
    let advice = match operator {
        "=" | "==" | "===" => match operator_in(value) {
            Some((operator, value)) => form_of(field, operator, value),
            None => form_of(field, "Eq", value),
        },
        "!=" | "!==" => form_of(field, "Ne", value),
        other => format!("there is no operator `{}`, and a filter is written as `.field=Op(value)`", cut(other)),
    };
    Some(format!("`{}` is read as part of the key; {advice}", cut(comparison)))
}

/// Returns the operator with which a text begins that is not followed by its arguments, and these: `Exists`,
/// `Eq local`.
fn operator_in(text: &str) -> Option<(&'static str, &str)> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    // In small letters only if there is nothing else: `in progress` may be a value.
    let is_meant = |name: &&str| *name == word || rest.is_empty() && name.eq_ignore_ascii_case(word);
    filter::parse::operators().find(is_meant).map(|name| (name, rest.trim()))
}

/// Returns how a comparison is written as a filter, or only the form if the value would need quotes or is long.
fn form_of(field: &str, operator: &str, value: &str) -> String {
    let filter = format!("{field}={operator}({value})");
    if filter.len() <= ADVISED && Filter::parse(&filter, &Limits::default()).is_ok() {
        format!("write a filter as `.{filter}`")
    } else {
        format!("write a filter as `.field={operator}(value)`")
    }
}

/// Truncates what a warning quotes.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Warns about terms of one `And` that cannot be true together.
fn contradictions(filter: &Filter) -> impl Iterator<Item = String> {
    let ands = filter.terms().iter().enumerate().filter(|(_, term)| matches!(term, Term::And(_)));
    ands.take(ANDS).filter_map(|(at, _)| {
        let tests = filter.children(at).take(TERMS).filter_map(|child| match &filter.terms()[child] {
            Term::Test(test) => Some(&**test),
            _ => None,
        });
        let tests: Vec<&Test> = tests.collect();
        let pairs =
            tests.iter().enumerate().flat_map(|(at, one)| tests[at + 1..].iter().map(move |other| (one, other)));
        let (one, other) =
            pairs.into_iter().find(|(one, other)| one.path == other.path && exclude(&one.op, &other.op))?;
        Some(format!("`{one}` and `{other}` can never both be true"))
    })
}

/// Returns whether two predicates on one field cannot both be true. Returns false for long lists.
fn exclude(one: &Op, other: &Op) -> bool {
    let are_short = |one: &[Value], other: &[Value]| one.len() * other.len() <= COMPARED;
    let are_all_in =
        |values: &[Value], all: &[Value]| are_short(values, all) && values.iter().all(|value| all.contains(value));
    match (allowed(one), allowed(other)) {
        (Some(one), Some(other)) => are_short(one, other) && !one.iter().any(|value| other.contains(value)),
        (Some(values), None) => are_all_in(values, forbidden(other)),
        (None, Some(values)) => are_all_in(values, forbidden(one)),
        (None, None) => false,
    }
}

/// Returns the only values that make the predicate true, or `None` if others may.
fn allowed(op: &Op) -> Option<&[Value]> {
    match op {
        Op::Eq(value) => Some(std::slice::from_ref(value)),
        Op::In(values) => Some(values),
        Op::Changed { to: Some(to), .. } => Some(std::slice::from_ref(to)),
        _ => None,
    }
}

/// Returns the values that make the predicate false.
fn forbidden(op: &Op) -> &[Value] {
    match op {
        Op::Ne(value) => std::slice::from_ref(value),
        Op::Nin(values) => values,
        _ => &[],
    }
}

/// Warns about a regular expression for whose events neither a type nor an action nor a key is named.
fn costly(spec: &Spec, filter: &Filter) -> Option<String> {
    let is_pattern = |term: &&Term| matches!(term, Term::Test(test) if matches!(test.op, Op::Re(_)));
    let everything = [&spec.kind, &spec.action, &spec.key].iter().all(|field| matches!(field, Field::Any));
    let pattern = filter.terms().iter().find(is_pattern).filter(|_| everything)?;
    let Term::Test(test) = pattern else { return None };
    Some(format!("the regular expression of `{}` may be evaluated on every event: name a type to limit it", test.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let mut seen = Seen::default();
        seen.note("gadget", "frobbed");
        warnings(text, &Spec::parse(text, &Limits::default()).unwrap(), Some(&seen))
    }

    #[test]
    fn a_copy_of_what_was_seen_copies_no_names() {
        let mut seen = Seen::default();
        (0..2 * REMEMBERED).for_each(|n| seen.note(&n.to_string(), "update"));
        let copy = seen.clone();
        seen.note("1023", "update");
        let shares = |of: fn(&Seen) -> &Arc<HashSet<Box<str>>>| Arc::ptr_eq(of(&copy), of(&seen));
        assert!(shares(|seen| &seen.kinds.before) && shares(|seen| &seen.kinds.of_late));
        assert!(shares(|seen| &seen.actions.of_late));
        seen.note("another", "update");
        assert!(seen.kinds.contains("another") && !copy.kinds.contains("another"));
    }

    #[test]
    fn what_is_odd_is_told_with_what_to_write() {
        for (spec, expected) in [
            ("machine.update.*", "unknown type `machine`: did you mean `machines`?"),
            ("Machines.update.*", "did you mean `machines`?"),
            ("machnies,jobs.*.*", "did you mean `machines`?"),
            ("work_order.*.*", "did you mean `work_orders`?"),
            ("machines.destroy.*", "unknown action `destroy`: did you mean `delete`?"),
            ("machines.updte.*", "did you mean `update`?"),
            ("websocket.*.*", "nothing matches the type `websocket`"),
            (
                "machines.update.*.Stage=local",
                "`Stage=local` is read as part of the key; write a filter as `.Stage=Eq(local)`",
            ),
            (
                "machines.update.*.Stage=Exists",
                "`Stage=Exists` is read as part of the key; write a filter as `.Stage=Exists()`",
            ),
            ("machines.update.*.Stage=Eq local", "write a filter as `.Stage=Eq(local)`"),
            ("machines.update.*.Stage=eq", "write a filter as `.field=Eq(value)`"),
            ("machines.update.*.Stage=changed", "write a filter as `.Stage=Changed()`"),
            ("machines.update.*.State=in progress", "write a filter as `.State=Eq(in progress)`"),
            ("machines.update.*.Stage==local", "write a filter as `.Stage=Eq(local)`"),
            (
                "machines.update.*.Stage!=local",
                "`Stage!=local` is read as part of the key; write a filter as `.Stage=Ne(local)`",
            ),
            ("machines.update.*.Params.site != lab", "write a filter as `.Params.site=Ne(lab)`"),
            (
                "machines.update.*.Tags=a,b",
                "`Tags=a,b` is read as part of the key; write a filter as `.field=Eq(value)`",
            ),
            (
                "machines.update.*.N>=5",
                "`N>=5` is read as part of the key; there is no operator `>=`, and a filter is written as",
            ),
            ("machines.update.*.N <= 5", "there is no operator `<=`"),
            ("machines.update.*.N=>5", "there is no operator `=>`"),
            ("machines.update.*.Name=~^node", "there is no operator `=~`"),
            ("machines.update.*.Name*=node", "there is no operator `*=`"),
            ("machines.update.a=b.c", "`a=b.c` is read as part of the key"),
            ("logs.*.*", "unknown type `logs`: did you mean `log`?"),
            ("log.Error.*", "did you mean `error`?"),
            ("machines.remove.*", "did you mean `delete`?"),
            ("machines.configed.*", "did you mean `config`?"),
            ("machines,jobs.created.*", "did you mean `create`?"),
            ("*.destroy.*", "did you mean `delete`?"),
            (
                "machines.*.*.And(Stage=Eq(a),Stage=Eq(b))",
                "`Stage=Eq(\"a\")` and `Stage=Eq(\"b\")` can never both be true",
            ),
            ("machines.*.*.Or(A=Eq(1),And(B=In(1,2),C=Eq(1),B=Nin(2,1.0)))", "can never both be true"),
            ("machines.*.*.And(Stage=Changed(,a),Stage=Eq(b))", "can never both be true"),
            ("*.*.*.Name=Re(^a)", "the regular expression of `Name` may be evaluated on every event"),
        ] {
            let found = of(spec);
            assert!(found.len() == 1 && found[0].contains(expected), "{spec}: {found:?}");
        }
    }

    #[test]
    fn names_in_use_are_known_whatever_else_is_posted() {
        let mut seen = Seen::default();
        let odd =
            |seen: &Seen, text: &str| warnings(text, &Spec::parse(text, &Limits::default()).unwrap(), Some(seen)).len();
        for n in 0..10 * REMEMBERED {
            if n % 100 == 0 {
                seen.note("machine", "updated");
            }
            seen.note(&format!("junk{n}"), &format!("junk{n}"));
        }
        assert_eq!(odd(&seen, "machine.updated.*"), 0, "seen all the while");
        seen.note("job", "added");
        assert_eq!(odd(&seen, "job.added.*"), 0, "seen after all the junk");
        assert!(seen.kinds.of_late.len() + seen.kinds.before.len() <= 2 * REMEMBERED);
        assert_eq!(odd(&seen, "machines.remove.*"), 1, "never seen");
    }

    #[test]
    fn the_types_of_an_endpoint_are_known() {
        let mut seen = Seen::default();
        seen.set_types(["dns_zones".into(), "machine".into()].into());
        let of = |text: &str| warnings(text, &Spec::parse(text, &Limits::default()).unwrap(), Some(&seen));
        assert_eq!(of("dns_zones,machine.update.*"), Vec::<String>::new());
        assert!(of("dns_zone.update.*")[0].ends_with("did you mean `dns_zones`?"));
    }

    /// The types of DRP's objects.
    const OBJECTS: &str = "activities alerts batches blueprints bootenvs catalog_items clusters contexts endpoints \
        filters identity_providers interfaces jobs leases machines params pipelines plugin_providers plugins pools \
        preferences profiles reservations resource_brokers roles stages store_objects subnets tasks templates tenants \
        trigger_providers triggers users ux_options ux_settings ux_views version_sets work_orders workflows zones";

    /// A server's events, by type and action, beside those of its objects.
    const OTHERS: [(&str, &str); 6] = [
        ("contents", "create update delete"),
        ("plugins", "start stop stopped config configed remove"),
        ("log", "trace debug info warn error fatal panic audit"),
        ("connections", "create delete"),
        ("hydrant", "gap"),
        ("machine_jobs work_order_jobs", "create update save delete"),
    ];

    #[test]
    fn what_servers_publish_is_never_odd() {
        let recorded = include_str!("../../tests/data/drp-v3.ndjson").lines();
        let recorded = recorded.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let recorded = recorded.map(|event| ["Type", "Action"].map(|field| event[field].as_str().unwrap().to_owned()));
        let known = [(OBJECTS, "create update save delete")].into_iter().chain(OTHERS);
        let known = known.flat_map(|(types, actions)| {
            types.split_whitespace().flat_map(|kind| actions.split_whitespace().map(move |action| [kind, action]))
        });
        let pairs: Vec<[String; 2]> = recorded.chain(known.map(|pair| pair.map(str::to_owned))).collect();
        assert!(pairs.len() > 303);
        for [kind, action] in pairs {
            for spec in [format!("{kind}.{action}.*"), format!("{kind}.*.*"), format!("*.{action}.a\\1b")] {
                let parsed = Spec::parse(&spec, &Limits::default()).unwrap();
                let is_anybodys = spec.starts_with('*') && kind == "beeblebrox";
                assert!(is_anybodys || warnings(&spec, &parsed, Some(&Seen::default())).is_empty(), "{spec}");
            }
        }
    }

    #[test]
    fn what_is_not_odd_is_not() {
        for spec in [
            "*.*.*",
            "machines,machine_jobs,work_order_jobs.update,save.*.Stage=Changed(,local)",
            "gadget.frobbed.x",
            "a.b.c",
            "job_x.run.k",
            "templates.update.foo.tmpl",
            "machines.*.*.And(Stage=Eq(a),Stage=Ne(b),Name=Re(^a))",
            "machines.*.*.And(Stage=In(a,b),Stage=In(b,c))",
            "machines.*.*.Or(Stage=Eq(a),Stage=Eq(b))",
            "connections.create,delete.user:x",
            "profiles.update.a=",
            "beeblebrox.created.*",
            "machines,beeblebrox.destroy.*",
            "plugins,machines.remove.*",
        ] {
            assert_eq!(of(spec), Vec::<String>::new(), "{spec}");
        }
        assert!(
            of(&format!("{}.*.*", (0..500).map(|n| format!("machine{n}")).collect::<Vec<_>>().join(","))).len()
                <= NAMES
        );
    }
}
