//! Overflow policies on real sockets: who does not read is closed, told of its gap, or gets the latest of each object;
//! the others get everything; and every event is accounted for.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common;
use crate::common::ws::Client;
use crate::common::{Hydrant, Seen, patiently};
use futures_util::future::join_all;

/// Bytes of an event's object.
const LARGE: usize = 16 << 10;

const BATCH: usize = 8;

/// Many times what the kernel takes for a reader that does not read.
const BATCHES: usize = 100;

const POSTED: u64 = (BATCHES * BATCH) as u64;

const SMALL: &str = "shards = 2\n[outbox]\nevents = 64\n[timeouts]\nclose = \"5m\"";

fn time(number: usize) -> String {
    format!("2026-01-02T03:{:02}:{:02}Z", number / 60, number % 60)
}

/// The state of an object after so many updates.
fn state(number: usize) -> String {
    format!("{{\"N\":{number},\"F\":\"{}\"}}", "x".repeat(LARGE))
}

/// The update of that number: three objects take turns.
fn update(number: usize) -> String {
    let (key, object) = (number % 3, state(number));
    let original = number.checked_sub(3).map_or("null".to_owned(), |before| format!("{{\"N\":{before}}}"));
    let time = time(number);
    format!(
        r#"{{"Time":"{time}","Type":"load","Action":"update","Key":"{key}","Object":{object},"Original":{original}}}"#
    )
}

fn number(json: &serde_json::value::RawValue) -> Option<usize> {
    let value: serde_json::Value = serde_json::from_str(json.get()).unwrap();
    value["N"].as_u64().map(|number| usize::try_from(number).unwrap())
}

/// Posts all batches, each when the healthy readers have got the one before.
async fn post_all(server: &Hydrant, healthy: &mut [Client]) {
    for batch in 0..BATCHES {
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        let body = numbers.clone().map(update).collect::<Vec<_>>().join(",");
        server.post(&format!("[{body}]")).await;
        let read = async |client: &mut Client| {
            for expected in numbers.clone() {
                assert_eq!(number(&client.event().await.object), Some(expected));
            }
        };
        join_all(healthy.iter_mut().map(read)).await;
    }
    server.announce("load", "end", "end").await;
    for client in healthy {
        assert_eq!(client.event().await.name(), "load.end.end");
    }
}

/// What became of the events of all connections: matched, delivered, dropped by reason, conflated.
async fn accounts(server: &Hydrant) -> [u64; 6] {
    let dropped =
        async |reason: &str| server.metric(&format!("hydrant_deliveries_dropped_total{{reason=\"{reason}\"}}")).await;
    [
        server.metric("hydrant_deliveries_matched_total").await,
        server.metric("hydrant_deliveries_total").await,
        dropped("slow_consumer").await,
        dropped("closed").await,
        dropped("drop_oldest").await,
        server.metric("hydrant_deliveries_conflated_total").await,
    ]
}

/// The same at a moment when they balance: what is matched waits, or something has become of it. A shard's counts are
/// flushed at the end of its iteration, which may be after the last event was read. The accounts, and what waits.
async fn balanced_accounts(server: &Hydrant) -> ([u64; 6], u64) {
    let balanced = async {
        loop {
            let before = accounts(server).await;
            let waiting = server.metric("hydrant_queue_events").await;
            let counts = accounts(server).await;
            if before == counts && counts[0] == counts[1..].iter().sum::<u64>() + waiting {
                return (counts, waiting);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently("accounts that balance", balanced).await
}

/// The same once nothing is on its way.
async fn settled_accounts(server: &Hydrant) -> [u64; 6] {
    server.until("hydrant_queue_events", 0).await;
    balanced_accounts(server).await.0
}

async fn stalled(server: &Hydrant, query: &str) -> Client {
    let mut client = server.connect_with(query, true).await.unwrap();
    client.register("load.*.*").await;
    client
}

async fn a_reader_that_stalls_is_told_of_its_gap(server: Hydrant) {
    let mut healthy = join_all((0..10).map(|_| server.watch(&["load.*.*"]))).await;
    let mut slow = stalled(&server, "overflow=drop-oldest").await;
    post_all(&server, &mut healthy).await;
    // An answer is never dropped, and comes in its place.
    slow.say("register another.*.*").await;

    let (mut next, mut missing, mut notices) = (0, 0, 0);
    for seen in slow.until("load.end.end").await {
        if seen.name() == "hydrant.gap.queue" {
            let object: serde_json::Value = serde_json::from_str(seen.object.get()).unwrap();
            let count = usize::try_from(object["Events"].as_u64().unwrap()).unwrap();
            let (first, last) = (object["From"].as_str().unwrap(), object["To"].as_str().unwrap());
            assert_eq!((first, last), (time(next).as_str(), time(next + count - 1).as_str()));
            assert_eq!((seen.time.as_str(), seen.original.get()), (last, "null"));
            (next, missing, notices) = (next + count, missing + count as u64, notices + 1);
        } else {
            assert_eq!(number(&seen.object), Some(next), "in order, with gaps only where they are told");
            next += 1;
        }
    }
    assert_eq!(next as u64, POSTED);
    slow.answer("register", "another.*.*").await;
    assert!(missing > POSTED / 2 && notices >= 1, "{missing} missing in {notices} notices");

    // A shard's counts are flushed at the end of its iteration, which may be after the last event was read.
    server.until("hydrant_deliveries_total", 11 * (POSTED + 1) - missing).await;
    let [matched, delivered, slow_consumer, closed, oldest, conflated] = accounts(&server).await;
    assert_eq!((slow_consumer, closed, oldest, conflated), (0, 0, missing, 0));
    assert_eq!((matched, delivered), (11 * (POSTED + 1), 11 * (POSTED + 1) - missing));
    assert_eq!(server.metric("hydrant_gap_notices_total").await, notices);
    assert!(server.metric("hydrant_slow_consumers_total{policy=\"drop-oldest\"}").await >= notices);
    assert_eq!(server.metric("hydrant_disconnects_total{reason=\"slow_consumer\"}").await, 0);
    drop((slow, healthy));
    server.until_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_oldest_tells_of_every_gap_in_its_place() {
    a_reader_that_stalls_is_told_of_its_gap(Hydrant::start(SMALL).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_oldest_tells_of_every_gap_behind_tls_too() {
    a_reader_that_stalls_is_told_of_its_gap(Hydrant::start_tls(SMALL).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflate_keeps_the_latest_of_each_object_and_tells_the_whole_change() {
    let settings = SMALL.replace("events = 64", "events = 64\noverflow = \"conflate\"");
    let server = Hydrant::start(&settings).await;
    let mut healthy = join_all((0..10).map(|_| server.watch(&["load.*.*"]))).await;
    let mut slow = stalled(&server, "").await;
    post_all(&server, &mut healthy).await;

    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    let seen: Vec<Seen> = slow.until("load.end.end").await;
    for event in &seen {
        let now = number(&event.object).unwrap();
        assert_eq!(number(&event.original), last.get(&event.key).copied(), "each change begins where the last ended");
        last.insert(event.key.clone(), now);
    }
    let all = usize::try_from(POSTED).unwrap();
    assert_eq!(last.into_values().max(), Some(all - 1));
    let missing = POSTED - seen.len() as u64;
    assert!(missing > POSTED / 2, "{missing} conflated");
    server.until("hydrant_deliveries_total", 11 * (POSTED + 1) - missing).await;
    let [matched, delivered, slow_consumer, closed, oldest, conflated] = accounts(&server).await;
    assert_eq!((slow_consumer, closed, oldest, conflated), (0, 0, 0, missing));
    assert_eq!((matched, delivered), (11 * (POSTED + 1), 11 * (POSTED + 1) - missing));
    assert!(server.metric("hydrant_slow_consumers_total{policy=\"conflate\"}").await > 0);
    let plain = server.metric("hydrant_event_serialisations_total{encoding=\"plain\"}").await;
    assert!(plain >= POSTED);
    drop((slow, healthy));
    server.until_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflate_closes_whom_it_cannot_help() {
    let server = Hydrant::start(SMALL).await;
    let mut slow = stalled(&server, "overflow=conflate").await;
    let filler = "x".repeat(LARGE);
    let mut posted = 0;
    while server.metric("hydrant_slow_consumers_total{policy=\"disconnect\"}").await == 0 {
        assert!(posted < 10 * POSTED, "never closed");
        let event = |at| format!(r#"{{"Type":"load","Action":"update","Key":"{at}","Object":"{filler}"}}"#);
        server.post(&format!("[{}]", (posted..posted + 8).map(event).collect::<Vec<_>>().join(","))).await;
        posted += 8;
    }
    let (code, reason, received) = slow.closed().await;
    assert_eq!(code, 1013);
    assert!(reason.starts_with("slow consumer: 64 events, "), "{reason}");
    let [matched, delivered, slow_consumer, ..] = settled_accounts(&server).await;
    assert_eq!((delivered, matched), (received as u64, delivered + slow_consumer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_query_beats_the_role_and_the_role_the_setting() {
    let server = Hydrant::start("[outbox]\noverflow = \"drop-oldest\"").await;
    let policies = async || {
        let listed = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
        let policy = |row: &serde_json::Value| row["Overflow"].as_str().unwrap().to_owned();
        listed.as_array().unwrap().iter().map(policy).collect::<Vec<_>>()
    };
    // An answer shows that its shard has the connection.
    let connect = async |query: &str| {
        let mut client = server.connect_with(query, false).await.unwrap();
        client.register("a.b.c").await;
        client
    };
    let by_setting = connect("").await;
    assert_eq!(policies().await, ["drop-oldest"]);
    hydrant::auth::edit_store(&server.data_dir(), |store| {
        for (name, policy) in [("portal", "conflate"), ("another", "disconnect")] {
            store.set_role(name, Vec::new())?;
            store.set_role_overflow(name, Some(policy.parse().unwrap()))?;
        }
        store.set_user_roles("rocketskates", &["superuser", "another", "portal"].map(str::to_owned))
    })
    .unwrap();
    server.server.reload();
    let by_role = connect("").await;
    let by_query = connect("overflow=disconnect").await;
    let mut found = policies().await;
    found.sort();
    assert_eq!(found, ["conflate", "disconnect", "drop-oldest"]);
    drop((by_setting, by_role, by_query));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_and_roles_say_what_a_query_may_ask_for() {
    let server = Hydrant::start("[outbox]\noverflow = \"drop-oldest\"\nquery_overflow = [\"disconnect\"]").await;
    server.connect_with("overflow=disconnect", false).await.unwrap();
    // What it has without asking can always be asked for.
    server.connect_with("overflow=drop-oldest", false).await.unwrap();
    let refusal = async |policy: &str| {
        let Err(refusal) = server.connect_with(&format!("overflow={policy}"), false).await else {
            panic!("{policy} was taken")
        };
        let body: serde_json::Value = serde_json::from_str(&refusal.body).unwrap();
        (refusal.status, body["Messages"][0].as_str().unwrap().to_owned())
    };
    let message = "overflow=conflate is not allowed here; allowed: disconnect, drop-oldest";
    assert_eq!(refusal("conflate").await, (400, message.to_owned()));
    hydrant::auth::edit_store(&server.data_dir(), |store| {
        store.set_role("portal", Vec::new())?;
        store.set_role_query_overflow("portal", Some(["conflate".parse().unwrap()].into()))?;
        store.set_user_roles("rocketskates", &["superuser", "portal"].map(str::to_owned))
    })
    .unwrap();
    server.server.reload();
    server.connect_with("overflow=conflate", false).await.unwrap();
    let message = "overflow=disconnect is not allowed here; allowed: drop-oldest, conflate";
    assert_eq!(refusal("disconnect").await, (400, message.to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_policy_is_refused_with_those_that_there_are() {
    let server = Hydrant::start("").await;
    let Err(refusal) = server.connect_with("overflow=drop-newest", false).await else { panic!("it was taken") };
    assert_eq!(refusal.status, 400);
    let body: serde_json::Value = serde_json::from_str(&refusal.body).unwrap();
    let message = body["Messages"][0].as_str().unwrap();
    for word in ["drop-newest", "disconnect", "drop-oldest", "conflate"] {
        assert!(message.contains(word), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_waits_too_long_closes_its_connection_and_nobody_elses() {
    let server = Hydrant::start("shards = 2\n[outbox]\nage = \"300ms\"\n[timeouts]\nclose = \"5m\"").await;
    let mut healthy = server.watch(&["load.*.*"]).await;
    let mut slow = stalled(&server, "").await;
    let mut told = stalled(&server, "overflow=drop-oldest").await;
    for at in 0..40 {
        server.post(&format!("[{}]", (at * BATCH..(at + 1) * BATCH).map(update).collect::<Vec<_>>().join(","))).await;
        for _ in 0..BATCH {
            healthy.event().await;
        }
    }
    server.until("hydrant_slow_consumers_total{policy=\"disconnect\"}", 1).await;
    // The kernel may have taken more for this one, so that its oldest event has come later.
    let old = async {
        let path = "/api/v3/connections?Type=websocket&sort=queued&limit=1";
        loop {
            let listed = server.request("GET", path, &[], "").await.json();
            assert_eq!(listed.as_array().unwrap().len(), 1);
            assert_eq!(listed[0]["Overflow"], "drop-oldest", "{listed}");
            if listed[0]["QueuedAgeMilliseconds"].as_u64().unwrap() >= 300 {
                return;
            }
        }
    };
    patiently("an event that waits for longer and closes nobody", old).await;
    let bad = server.request("GET", "/api/v3/connections?limit=x", &[], "").await;
    assert_eq!(bad.status, 400);
    let (code, reason, _) = slow.closed().await;
    // How late the shard looks is the machine's business.
    let waited = reason.strip_prefix("slow consumer: an event has waited ").and_then(|rest| rest.strip_suffix(" s"));
    assert!(code == 1013 && waited.is_some_and(|seconds| seconds.parse::<u64>().is_ok()), "{code} {reason}");
    server.announce("load", "end", "end").await;
    assert_eq!(healthy.event().await.name(), "load.end.end");
    told.until("load.end.end").await;
}

/// Posts batches in step with the healthy readers until something holds.
async fn post_until(server: &Hydrant, healthy: &mut [Client], mut done: impl AsyncFnMut() -> bool) -> usize {
    let mut posted = 0;
    while !done().await {
        assert!(posted < 20 * BATCHES * BATCH, "it never comes");
        let numbers = posted..posted + BATCH;
        server.post(&format!("[{}]", numbers.clone().map(update).collect::<Vec<_>>().join(","))).await;
        let read = async |client: &mut Client| {
            for expected in numbers.clone() {
                assert_eq!(number(&client.event().await.object), Some(expected));
            }
        };
        join_all(healthy.iter_mut().map(read)).await;
        posted += BATCH;
    }
    posted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_budget_sheds_the_largest_and_the_healthy_lose_nothing() {
    let budget = 2 << 20;
    let settings = format!("shards = 2\n[outbox]\ntotal_bytes = {budget}\n[timeouts]\nclose = \"5m\"");
    let server = Hydrant::start(&settings).await;
    let mut healthy = join_all((0..10).map(|_| server.watch(&["load.*.*"]))).await;
    let mut stalled_readers = Vec::new();
    for at in 0..20 {
        // Those of the other policies stay, and are told.
        let query = ["", "", "overflow=drop-oldest", "overflow=conflate"][at % 4];
        stalled_readers.push(stalled(&server, query).await);
    }
    let most = std::cell::Cell::new(0);
    let shed = async || {
        most.set(most.get().max(server.metric("hydrant_frame_bytes").await));
        server.metric("hydrant_slow_consumers_total{policy=\"disconnect\"}").await >= 10
            && server.metric("hydrant_slow_consumers_total{policy=\"drop-oldest\"}").await >= 5
    };
    let posted = post_until(&server, &mut healthy, shed).await;
    // A turn's worth of events may be there before the budget is looked at.
    assert!(most.get() <= budget + (1 << 20), "{} bytes were held", most.get());
    assert!(posted * LARGE > 1 << 20, "{posted} events are not too many");
    assert!(server.metric("hydrant_queue_bytes_max").await < 8 << 20, "no outbox reached its own bound");
    server.announce("load", "end", "end").await;
    for client in &mut healthy {
        assert_eq!(client.event().await.name(), "load.end.end");
    }
    for (at, client) in stalled_readers.iter_mut().enumerate() {
        if at % 4 < 2 {
            let (code, reason, _) = client.closed().await;
            assert_eq!(code, 1013, "{reason}");
        } else {
            client.until("load.end.end").await;
        }
    }
    let [matched, delivered, slow_consumer, closed, oldest, conflated] = settled_accounts(&server).await;
    assert_eq!(matched, delivered + slow_consumer + closed + oldest + conflated);
    drop((healthy, stalled_readers));
    server.until_empty().await;
    server.until("hydrant_frame_bytes", 0).await;
}

/// A dozen outboxes, but less than the kernel takes for a reader that is late on a busy machine (some 60 KB).
const EVENTS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_large_batch_closes_nobody_who_reads() {
    let server = Hydrant::start("shards = 1\n[outbox]\nevents = 8\nbytes = \"4KiB\"").await;
    let mut clients = join_all((0..20).map(|_| server.watch(&["load.*.*"]))).await;
    let mut conflated = server.connect_with("overflow=conflate", false).await.unwrap();
    conflated.register("load.*.*").await;
    clients.push(conflated);
    let event = |at: usize| {
        let (key, filler) = (at % 3, "x".repeat(at % 700));
        format!(r#"{{"Type":"load","Action":"update","Key":"{key}","Object":"{at}{filler}"}}"#)
    };
    server.post(&format!("[{}]", (0..EVENTS).map(event).collect::<Vec<_>>().join(","))).await;
    for client in &mut clients {
        for at in 0..EVENTS {
            assert!(client.event().await.object.get().starts_with(&format!("\"{at}")));
        }
    }
    for policy in ["disconnect", "drop-oldest", "conflate"] {
        assert_eq!(server.metric(&format!("hydrant_slow_consumers_total{{policy=\"{policy}\"}}")).await, 0);
    }
}

/// An event that is larger than an outbox, and than what the kernel takes for a reader at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_event_closes_nobody_who_reads_and_one_who_does_not() {
    let server = Hydrant::start("shards = 1\n[outbox]\nbytes = \"64KiB\"\n[timeouts]\nclose = \"30s\"").await;
    let mut reader = server.watch(&["load.*.*"]).await;
    let mut deaf = stalled(&server, "").await;
    let event = |key: usize, size: usize| {
        let filler = "x".repeat(size);
        format!(r#"{{"Type":"load","Action":"update","Key":"{key}","Object":"{filler}"}}"#)
    };
    let post = async |size: usize, behind: usize| {
        let events: Vec<String> = (0..=behind).map(|at| event(at, if at == 0 { size } else { 1 << 10 })).collect();
        server.post(&format!("[{}]", events.join(","))).await;
    };
    post(12 << 20, 50).await;
    server.until("hydrant_deliveries_matched_total", 2 * 51).await;
    for at in 0..=50 {
        assert_eq!(reader.event().await.key, at.to_string());
    }
    assert_eq!(server.metric("hydrant_slow_consumers_total{policy=\"disconnect\"}").await, 0);
    post(1 << 10, 20).await;
    for at in 0..=20 {
        assert_eq!(reader.event().await.key, at.to_string());
    }
    assert_eq!(deaf.closed().await.0, 1013);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_of_a_storm_is_accounted_for_in_few_series() {
    let server = Hydrant::start(SMALL).await;
    let mut healthy = join_all((0..5).map(|_| server.watch(&["load.*.*"]))).await;
    let mut slow = Vec::new();
    for query in ["overflow=disconnect", "overflow=drop-oldest", "overflow=conflate"].into_iter().cycle().take(9) {
        slow.push(stalled(&server, query).await);
    }
    let behind = async || {
        let mut behind = true;
        for (policy, least) in [("disconnect", 3), ("drop-oldest", 3), ("conflate", 3)] {
            behind &= server.metric(&format!("hydrant_slow_consumers_total{{policy=\"{policy}\"}}")).await >= least;
        }
        behind
    };
    post_until(&server, &mut healthy, behind).await;
    let text =
        common::http::request(server.server.probe_address().unwrap(), false, "GET", "/metrics", &[], "").await.body;
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!((50..=500).contains(&series), "{series} series");
    // While six still stall.
    let settled = balanced_accounts(&server).await;
    let ([_, _, slow_consumer, _, oldest, conflated], waiting) = settled;
    assert!(waiting > 0 && slow_consumer > 0 && oldest > 0 && conflated > 0, "{settled:?}");
    // And when they are gone.
    drop(slow);
    server.until("hydrant_connections", 5).await;
    let [_, _, _, closed, ..] = settled_accounts(&server).await;
    assert!(closed > 0);
    let events = server.metric("hydrant_shard_events_total{shard=\"0\"}").await;
    assert_eq!(events, server.metric("hydrant_events_received_total{source=\"post\"}").await);
    drop(healthy);
    server.until_empty().await;
}
