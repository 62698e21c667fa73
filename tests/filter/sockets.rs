//! Whole registrations against a naive matcher, over real sockets: what a server delivers is what the rules of
//! `docs/protocol.md` say, pair by pair. The matcher is written from the document and shares nothing with the index.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use crate::common::ws::Client;
use crate::common::{Hydrant, PRINCIPAL};
use crate::naive;
use crate::naive::{Filter, Json, Random, Text};

/// Websockets, each with one registration.
const CLIENTS: usize = 40;

/// Events of a round.
const EVENTS: u64 = 50;

/// Pairs of a registration and an event; `make soak` takes a million.
fn pairs() -> u64 {
    if std::env::var_os("HYDRANT_SOAK").is_some() { 1_000_000 } else { 20_000 }
}

const KINDS: [&str; 9] =
    ["machines", "jobs", "jobs", "machine_jobs", "work_order_jobs", "local", "1", "machine_jobs", "with.dot"];
const ACTIONS: [&str; 4] = ["update", "create", "delete", "a,b"];
const KEYS: [&str; 10] = ["", "a b", "k", "uuid-1", "uuid-2", "x.y", "c,d", "*", "x.Stage=Eq", "é"];

fn pick(random: &mut Random, from: &[&str]) -> String {
    from[usize::try_from(random.below(from.len() as u64)).unwrap()].to_owned()
}

/// One of the three fields of a registration.
#[derive(Clone, Debug)]
struct Field {
    values: Vec<String>,
    any: bool,
}

impl Field {
    fn made(random: &mut Random, from: &[&str]) -> Self {
        let values = (0..=random.below(3)).map(|_| pick(random, from)).collect();
        Self { values, any: random.below(4) == 0 }
    }

    fn has(&self, value: &str) -> bool {
        self.values.iter().any(|other| other == value)
    }

    fn matches(&self, value: &str) -> bool {
        self.any || self.has(value)
    }

    /// Its text: the wildcard stands anywhere in the list, blanks around elements mean nothing.
    fn text(&self, random: &mut Random) -> String {
        let escaped = |value: &String| value.replace('.', "\\1").replace(',', "\\2").replace('*', "\\3");
        let mut all: Vec<String> = self.values.iter().map(escaped).collect();
        if self.any {
            let at = usize::try_from(random.below(all.len() as u64 + 1)).unwrap();
            all.insert(at, "*".to_owned());
        }
        if random.below(4) == 0 {
            all.iter_mut().skip(1).for_each(|value| *value = format!(" {value}"));
        }
        all.join(",")
    }
}

#[derive(Clone, Debug)]
struct Spec {
    kind: Field,
    action: Field,
    key: Field,
    filter: Option<Filter>,
}

impl Spec {
    fn made(random: &mut Random) -> Self {
        let filter = (random.below(3) > 0).then(|| naive::filter(random, 2));
        let [kind, action, key] = [&KINDS[..], &ACTIONS, &KEYS].map(|from| Field::made(random, from));
        Self { kind, action, key, filter }
    }

    fn text(&self, random: &mut Random) -> String {
        let [kind, action, key] = [&self.kind, &self.action, &self.key].map(|field| field.text(random));
        match &self.filter {
            Some(filter) => format!("{kind}.{action}.{key}.{}", filter.text(random)),
            // What follows the first dot of a key is no filter, so the dot is part of the key, as old clients write it.
            None if !self.key.any && random.below(2) == 0 => format!("{kind}.{action}.{}", key.replace("\\1", ".")),
            None => format!("{kind}.{action}.{key}"),
        }
    }

    /// The rules of registrations, one after the other.
    fn wants(&self, event: &naive::Event) -> bool {
        let owner = |field: &str| match &event.object {
            Json::Object(members) if event.kind == "jobs" => {
                let found = members.iter().rev().find(|(name, _)| name.value == field);
                match found {
                    Some((_, Json::Text(text))) if !text.value.is_empty() => Some(text.value.clone()),
                    _ => None,
                }
            }
            _ => None,
        };
        let by_owner =
            |name: &str, field: &str| self.kind.has(name) && owner(field).is_some_and(|owner| self.key.matches(&owner));
        let by_key = self.kind.matches(&event.kind) && self.key.matches(&event.key);
        self.action.matches(&event.action)
            && (by_key || by_owner("machine_jobs", "Machine") || by_owner("work_order_jobs", "WorkOrder"))
            && self.filter.as_ref().is_none_or(|filter| filter.is_true(event))
    }
}

fn text(value: &str) -> Text {
    Text { value: value.to_owned(), raw: serde_json::to_string(value).unwrap() }
}

/// An event of the naive model with types, keys and owners that the registrations know.
fn event(random: &mut Random) -> naive::Event {
    let mut event = naive::event(random);
    event.kind = pick(random, &KINDS);
    event.action = pick(random, &ACTIONS);
    event.key = pick(random, &KEYS);
    if event.principal.is_empty() {
        PRINCIPAL.clone_into(&mut event.principal);
    }
    if let Json::Object(members) = &mut event.object {
        for name in ["Machine", "WorkOrder"] {
            match random.below(4) {
                0 => {}
                1 => members.push((text(name), naive::json(random, 1))),
                _ => members.push((text(name), Json::Text(text(&pick(random, &KEYS))))),
            }
        }
    }
    event
}

/// The events of a round as they are posted. Each is known by its Time.
fn lines(round: u64, events: &[naive::Event]) -> String {
    let quote = |text: &str| serde_json::to_string(text).unwrap();
    let line = |(at, event): (u64, &naive::Event)| {
        let naive::Event { kind, action, key, principal, object, original, .. } = event;
        let (object, original) = (object.compact(), original.compact());
        format!(
            "{{\"Time\":\"2026-01-02T03:04:05.{at:09}Z\",\"Type\":{},\"Action\":{},\"Key\":{},\"Principal\":{},\
             \"Object\":{object},\"Original\":{original}}}",
            quote(kind),
            quote(action),
            quote(key),
            quote(principal)
        )
    };
    let mut all: Vec<String> = (0..).zip(events).map(line).collect();
    all.push(format!(r#"{{"Type":"end","Action":"of","Key":"{round}"}}"#));
    all.join("\n")
}

/// The numbers of the events that a client gets until the end of a round.
async fn got(client: &mut Client, round: u64) -> Vec<u64> {
    let mut got = Vec::new();
    loop {
        let seen = client.event().await;
        if seen.name() == format!("end.of.{round}") {
            return got;
        }
        let number = seen.time.rsplit_once('.').map_or("0Z", |(_, fraction)| fraction).trim_end_matches('Z');
        got.push(format!("{number:0<9}").parse().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_over_sockets_is_what_the_rules_say() {
    let server = Hydrant::start("shards = 2\nreplay = { events = 0 }").await;
    let mut clients = join_all((0..CLIENTS).map(|_| server.watch(&["end.of.*"]))).await;
    let (mut asked, mut matched, mut round) = (0, 0, 0);
    while asked < pairs() {
        round += 1;
        let mut random = Random(round);
        let specs: Vec<(Spec, String)> = (0..CLIENTS)
            .map(|_| {
                let spec = Spec::made(&mut random);
                // Blanks around a message mean nothing.
                let text = spec.text(&mut random).trim().to_owned();
                (spec, text)
            })
            .collect();
        join_all(clients.iter_mut().zip(&specs).map(|(client, (_, text))| client.register(text))).await;
        let events: Vec<naive::Event> = (0..EVENTS).map(|_| event(&mut random)).collect();
        server.post_lines(&lines(round, &events)).await;
        let all = join_all(clients.iter_mut().map(|client| got(client, round))).await;
        for (got, (spec, text)) in all.into_iter().zip(&specs) {
            let expected: Vec<u64> =
                (0..).zip(&events).filter(|(_, event)| spec.wants(event)).map(|(at, _)| at).collect();
            if got != expected {
                let (got, expected): (BTreeSet<u64>, BTreeSet<u64>) =
                    (got.into_iter().collect(), expected.into_iter().collect());
                let wrong = got.symmetric_difference(&expected).next().copied();
                let event = wrong.map(|at| &events[usize::try_from(at).unwrap()]);
                panic!("round {round}: {text}\ndelivered {got:?}\nexpected  {expected:?}\nof {event:?}");
            }
            matched += expected.len() as u64;
        }
        asked += CLIENTS as u64 * EVENTS;
        join_all(clients.iter_mut().zip(&specs).map(|(client, (_, text))| client.deregister(text))).await;
    }
    let rate = matched * 100 / asked;
    assert!((5..60).contains(&rate), "{rate} % matched says little");
}
