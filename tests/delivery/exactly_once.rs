//! Everybody gets exactly its events, once, in order, as they were posted, whatever the number of shards, with TLS and
//! without.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{Hydrant, PRINCIPAL, Seen, compact, spread, ws::Client};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

const STREAM: &str = include_str!("../data/drp-v3.ndjson");

/// Registered by everybody and posted last: what comes twice or too much comes before it.
const LAST: &str = "beeblebrox.ended.last";

/// A line of the recorded stream. The recording is of DRP v3, which knows neither Principal nor Original.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    time: &'a str,
    r#type: &'a str,
    action: &'a str,
    key: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// An event as it is posted, and as it must arrive.
struct Case {
    kind: String,
    key: String,
    posted: String,
    arrives: String,
}

/// The recorded events; those that have an earlier state of their object carry it as Original. White space everywhere.
fn cases() -> Vec<Case> {
    let mut before: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let lines: Vec<Line<'_>> = STREAM.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut cases = Vec::new();
    for Line { time, r#type, action, key, object } in lines {
        let original = before.insert((r#type, key), object.get()).unwrap_or("null");
        let (kind, action, name) = (r#type, Value::from(action), Value::from(key));
        let posted = format!(
            "{{\"Time\":\"{time}\",\"Type\":\"{kind}\",\"Action\":{action},\"Key\":{name},\"Object\":{object},\
             \"Original\":{original}}}"
        );
        let (object, original) = (compact(object.get()), compact(original));
        let (object, original) =
            if kind == "machines" { (without_secret(object), without_secret(original)) } else { (object, original) };
        let arrives = format!(
            "{{\"Time\":\"{time}\",\"Type\":\"{kind}\",\"Action\":{action},\"Key\":{name},\
             \"Principal\":\"{PRINCIPAL}\",\"Object\":{object},\"Original\":{original}}}"
        );
        cases.push(Case { kind: kind.to_owned(), key: key.to_owned(), posted: spread(&posted), arrives });
    }
    cases
}

/// Takes the secret out of a machine's text, in which another member always follows it.
fn without_secret(mut machine: String) -> String {
    if let Some(start) = machine.find(r#""Secret":""#) {
        let end = start + machine[start..].find(',').unwrap() + 1;
        machine.replace_range(start..end, "");
    }
    machine
}

/// Takes the secrets out of a user as the server has to.
fn without_secrets(event: &str) -> Value {
    let mut event: Value = serde_json::from_str(event).unwrap();
    for field in ["Object", "Original"] {
        if let Some(user) = event[field].as_object_mut() {
            user.remove("PasswordHash");
            user.remove("Secret");
        }
    }
    event
}

/// What Go writes for "no time"; the server puts the present one there.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

fn assert_same(found: &str, case: &Case) {
    let time = Seen::read(found).time;
    let found = &if case.arrives.starts_with(&format!(r#"{{"Time":"{NO_TIME}"#)) {
        found.replacen(&time, NO_TIME, 1)
    } else {
        found.to_owned()
    };
    if case.kind == "users" {
        assert_eq!(serde_json::from_str::<Value>(found).unwrap(), without_secrets(&case.arrives));
    } else {
        assert_eq!(*found, case.arrives);
    }
}

async fn check(mut client: Client, cases: Arc<Vec<Case>>, machine: Option<String>) {
    let wanted = |case: &&Case| machine.as_ref().is_none_or(|key| case.kind == "machines" && case.key == *key);
    for case in cases.iter().filter(wanted) {
        assert_same(&client.text().await, case);
    }
    let last = client.event().await;
    assert_eq!(last.name(), LAST, "{machine:?}: one too many: {last:?}");
}

async fn deliver(server: Hydrant) {
    let cases = Arc::new(cases());
    let mut machines: Vec<String> = cases.iter().filter(|c| c.kind == "machines").map(|c| c.key.clone()).collect();
    machines.sort();
    machines.dedup();
    assert_eq!((cases.len(), machines.len()), (303, 12));
    machines.push("00000000-0000-4000-8000-000000000000".to_owned());

    let all = join_all((0..200).map(|_| server.watch(&["*.*.*"]))).await;
    let some = join_all((0..100).map(|at| {
        let (server, spec) = (&server, format!("machines.*.{}", machines[at % machines.len()]));
        async move { server.watch(&[&spec, LAST]).await }
    }))
    .await;
    let mut readers: Vec<_> =
        all.into_iter().map(|client| tokio::spawn(check(client, Arc::clone(&cases), None))).collect();
    for (at, client) in some.into_iter().enumerate() {
        let machine = Some(machines[at % machines.len()].clone());
        readers.push(tokio::spawn(check(client, Arc::clone(&cases), machine)));
    }
    let lines: Vec<&str> = cases.iter().map(|case| case.posted.as_str()).collect();
    server.post_lines(&lines.join("\n")).await;
    server.announce("beeblebrox", "ended", "last").await;
    for reader in readers {
        reader.await.unwrap();
    }
    let machine_events = cases.iter().filter(|case| case.kind == "machines");
    let watchers = |key: &str| (0..100).filter(|at| machines[at % machines.len()] == key).count();
    let expected = 200 * cases.len() + 300 + machine_events.map(|case| watchers(&case.key)).sum::<usize>();
    law(&server, expected as u64).await;
    server.until_empty().await;
    assert_eq!(server.metric("hydrant_disconnects_total{reason=\"slow_consumer\"}").await, 0);
}

/// Queued is delivered and waiting and dropped; here everything was delivered.
async fn law(server: &Hydrant, expected: u64) {
    server.until("hydrant_deliveries_total", expected).await;
    assert_eq!(server.metric("hydrant_deliveries_matched_total").await, expected);
    assert_eq!(server.metric("hydrant_deliveries_dropped_total{reason=\"slow_consumer\"}").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_shard() {
    deliver(Hydrant::start("shards = 1").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_shards_with_tls() {
    deliver(Hydrant::start_tls("shards = 2").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_shards() {
    deliver(Hydrant::start("shards = 3").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_shard_with_tls() {
    deliver(Hydrant::start_tls("shards = 1").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_shards_with_tls() {
    deliver(Hydrant::start_tls("shards = 3").await).await;
}

#[test]
fn the_tests_own_compaction_undoes_its_spreading() {
    let json = r#"{"a":["b \"c\\",{"d : ,":1e+2}],"\\":"[ ]"}"#;
    assert!(spread(json).len() > json.len() + 20);
    assert_eq!(compact(&spread(json)), json);
}
