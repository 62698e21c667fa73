//! `?since=` beyond the recent past, from a `JetStream` stream: exactly what was missed, at whichever node, and what is
//! not there told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, stream::Config};
use hydrant::clock::now;
use hydrant::server::Server;
use jiff::{SignedDuration, Timestamp};

use crate::common::drp::Drp;
use crate::common::http;
use crate::common::ws::{Client, Show};
use crate::common::{Hydrant, Seen, event, patiently, settings};
use crate::nodes::{Heard, numbered};
use crate::process::NatsServer;

/// A node with a recent past of ten events, and more settings: some before its tables, some of NATS.
pub(crate) async fn node(nats: &NatsServer, more: &str, of_nats: &str) -> Hydrant {
    let node = Hydrant::start(&toml(nats, more, of_nats)).await;
    node.until("hydrant_nats_connected", 1).await;
    node
}

pub(crate) fn toml(nats: &NatsServer, more: &str, of_nats: &str) -> String {
    let nats = nats.url();
    format!("shards = 2\n{more}\n[replay]\nevents = 10\n[nats]\nurls = [\"{nats}\"]\nstream = \"EVENTS\"\n{of_nats}")
}

/// Two of them that hear each other.
async fn two(nats: &NatsServer) -> [Hydrant; 2] {
    let nodes = [node(nats, "", "").await, node(nats, "", "").await];
    for node in &nodes {
        node.until("hydrant_nats_peers", 1).await;
    }
    nodes
}

/// A connection that wants what came since.
pub(crate) async fn since(node: &Hydrant, time: Timestamp) -> Client {
    let query = format!("token={}&since={time}", node.token().await);
    node.try_connect(&Show::Query(&query), &[]).await.unwrap()
}

pub(crate) async fn post(node: &Hydrant, at: usize, numbers: std::ops::Range<u64>) {
    for start in numbers.clone().step_by(100) {
        let lines: Vec<String> = (start..numbers.end.min(start + 100)).map(|number| numbered(at, number)).collect();
        node.post_lines(&lines.join("\n")).await;
    }
}

fn time(seen: &Seen) -> Timestamp {
    seen.time.parse().unwrap()
}

/// The numbers of the next events of one node.
pub(crate) async fn numbers(client: &mut Client, count: usize) -> Vec<u64> {
    let mut heard = Heard::new(1);
    for _ in 0..count {
        heard.hear(&client.event().await);
    }
    heard.numbers.remove(0)
}

/// The Object of a notice that must come next.
async fn gap(client: &mut Client) -> serde_json::Value {
    let seen = client.event().await;
    assert_eq!(seen.name(), "hydrant.gap.replay");
    serde_json::from_str(seen.object.get()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_what_was_missed_comes_though_the_recent_past_is_shorter() {
    let nats = NatsServer::with_streams();
    let node = node(&nats, "", "").await;
    let mut client = node.watch(&["machines.*.*"]).await;
    post(&node, 0, 0..99).await;
    numbers(&mut client, 99).await;
    node.post(&numbered(0, 99)).await;
    let last = client.event().await;
    drop(client);
    post(&node, 0, 100..2000).await;
    let mut client = since(&node, time(&last)).await;
    client.say("register machines.*.*").await;
    client.answer("register", "machines.*.*").await;
    post(&node, 0, 2000..3000).await;
    // The one that it had comes again, maybe behind some that were stored late: the proof that nothing is missing.
    let mut next = numbers(&mut client, 1).await[0];
    assert!(next <= 99, "{next} is the first");
    while next < 2999 {
        assert_eq!(numbers(&mut client, 1).await, [next + 1]);
        next += 1;
    }
    assert!(node.metric("hydrant_nats_replay_events_total").await >= 1890);
    assert_eq!(node.metric("hydrant_nats_replay_failures_total").await, 0);
    node.announce("machines", "update", "0/3000").await;
    assert_eq!(numbers(&mut client, 1).await, [3000], "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_moves_to_another_node_gets_what_it_missed_though_that_node_came_later() {
    let nats = NatsServer::with_streams();
    let [first, second] = two(&nats).await;
    // What was before there was a stream is a gap: it has to be older than the overlap below.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut client = first.watch(&["machines.*.*"]).await;
    post(&first, 0, 0..10).await;
    let mut last = None;
    for _ in 0..10 {
        last = Some(client.event().await);
    }
    let last = last.unwrap();
    post(&first, 0, 10..500).await;
    second.until_that("hydrant_nats_received_total", |n| n == 500).await;
    first.stop().await;
    drop(client);
    let young = node(&nats, "", "").await;
    for node in [&second, &young] {
        // A second of overlap, as the documentation asks for.
        let mut client = since(node, time(&last) - SignedDuration::from_secs(1)).await;
        client.register("machines.*.*").await;
        let mut next = client.event().await.key.strip_prefix("0/").unwrap().parse::<u64>().unwrap();
        assert!(next <= 9, "{next} is the first");
        while next < 499 {
            assert_eq!(numbers(&mut client, 1).await, [next + 1]);
            next += 1;
        }
        node.announce("machines", "update", "0/500").await;
        assert_eq!(numbers(&mut client, 1).await, [500], "and nothing else before what is live");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_nodes_follow_comes_once() {
    let (nats, drp) = (NatsServer::with_streams(), Drp::start().await);
    let upstream = drp.settings("");
    let nodes = [node(&nats, &upstream, "").await, node(&nats, &upstream, "").await];
    drp.until_registered(2).await;
    for node in &nodes {
        node.until("hydrant_nats_peers", 1).await;
    }
    let began = now();
    for number in 0..1000_u64 {
        let names = format!(r#""Type":"machines","Action":"update","Key":"0/{number}""#);
        // The clock of the endpoint is far behind: the time of the stream counts.
        let event = format!(r#"{{"Time":"2026-01-02T03:04:05.000000006Z",{names},"Object":{{"N":{number}}}}}"#);
        assert_eq!(drp.publish(&event), 2);
        if number % 16 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let taken = format!("hydrant_upstream_events_total{{endpoint=\"{}\"}}", drp.address);
    for node in &nodes {
        node.until(&taken, 1000).await;
    }
    for (at, node) in nodes.iter().enumerate() {
        let mut client = since(node, began).await;
        client.register("machines.*.*").await;
        let mut all = numbers(&mut client, 1000).await;
        assert!(all.is_sorted(), "node {at}: {all:?}");
        all.dedup();
        assert_eq!(all.len(), 1000, "node {at}");
        node.announce("machines", "update", "0/1000").await;
        assert_eq!(numbers(&mut client, 1).await, [1000]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_comes_twice_while_events_flow_over_the_splice() {
    let nats = NatsServer::with_streams();
    // Room for what comes while a busy machine lets the client wait.
    let more = "[replay]\nevents = 1000\n";
    let start = async || {
        let toml = toml(&nats, "", "").replace("[replay]\nevents = 10\n", more);
        Hydrant::start(&toml).await
    };
    let nodes = Arc::new([start().await, start().await]);
    for node in nodes.iter() {
        node.until("hydrant_nats_peers", 1).await;
    }
    let began = now();
    let stop = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = (0..2)
        .map(|at| {
            let (nodes, stop) = (Arc::clone(&nodes), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut next = 0;
                while !stop.load(Ordering::SeqCst) {
                    post(&nodes[at], at, next..next + 10).await;
                    next += 10;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                next
            })
        })
        .collect();
    for node in nodes.iter() {
        node.until_that("hydrant_nats_received_total", |n| n > 1500).await;
    }
    let mut clients = Vec::new();
    for node in nodes.iter().chain(nodes.iter()) {
        let mut client = since(node, began).await;
        client.register("machines,end,hydrant.*.*").await;
        clients.push(client);
    }
    for node in nodes.iter() {
        let before = node.metric("hydrant_nats_received_total").await;
        node.until_that("hydrant_nats_received_total", |n| n > before + 300).await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut posted = Vec::new();
    for load in loads {
        posted.push(load.await.unwrap());
    }
    // A mark of each node comes after everything of that node.
    nodes[0].announce("end", "x", "0").await;
    nodes[1].announce("end", "x", "1").await;
    for client in &mut clients {
        let (mut heard, mut ends) = (Heard::new(2), 0);
        while ends < 2 {
            let seen = client.event().await;
            assert_ne!(seen.name(), "hydrant.gap.replay", "{}", seen.object);
            if seen.r#type == "end" { ends += 1 } else { heard.hear(&seen) }
        }
        for (numbers, posted) in heard.numbers.iter().zip(&posted) {
            assert!(numbers.iter().copied().eq(0..*posted), "{} of {posted}: {numbers:?}", numbers.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_registration_looks_back_and_rights_hold() {
    let nats = NatsServer::with_streams();
    let node = node(&nats, "", "").await;
    let began = now();
    for number in 0..100 {
        let lines =
            [event("machines", "update", &format!("m{number}")), event("jobs", "create", &format!("j{number}"))];
        node.post_lines(&lines.join("\n")).await;
    }
    let mut client = since(&node, began).await;
    client.register("machines.*.*").await;
    for number in 0..100 {
        assert_eq!(client.event().await.name(), format!("machines.update.m{number}"));
    }
    client.say("register *.*.*").await;
    assert_eq!(client.event().await.name(), "jobs.create.j0", "the others came before");
    client.answer("register", "*.*.*").await;
    for number in 1..100 {
        assert_eq!(client.event().await.name(), format!("jobs.create.j{number}"));
    }
    node.announce("end", "x", "y").await;
    assert_eq!(client.event().await.name(), "end.x.y");

    let path = "/api/v3/users/rocketskates/token?ttl=3600&scope=machines&action=*&specific=m7";
    let token = node.request("GET", path, &[], "").await.json()["Token"].as_str().unwrap().to_owned();
    let mut client = node.try_connect(&Show::Query(&format!("token={token}&since={began}")), &[]).await.unwrap();
    client.register("*.*.*").await;
    assert_eq!(client.event().await.name(), "machines.update.m7");
    node.announce("machines", "update", "m8").await;
    node.announce("machines", "delete", "m7").await;
    assert_eq!(client.event().await.name(), "machines.delete.m7");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_lost_on_the_way_is_in_the_stream() {
    let mut nats = NatsServer::with_streams();
    let whole = |of_nats: &str| toml(&nats, "", of_nats).replace("events = 10\n", "");
    let sender = Hydrant::start(&whole("")).await;
    let narrow = Hydrant::start(&whole("queue_events = 1")).await;
    for node in [&sender, &narrow] {
        node.until("hydrant_nats_peers", 1).await;
    }
    narrow.announce("old", "x", "y").await;
    let began = now();
    let mut next = 0;
    patiently("a loss", async {
        while narrow.metric("hydrant_nats_lost_total{direction=\"in\"}").await == 0 {
            post(&sender, 0, next..next + 1000).await;
            next += 1000;
        }
    })
    .await;
    sender.until("hydrant_nats_published_total", next).await;
    let mut client = since(&narrow, began).await;
    client.register("machines.*.*").await;
    assert!(numbers(&mut client, usize::try_from(next).unwrap()).await.into_iter().eq(0..next), "of {next}");
    narrow.announce("machines", "update", &format!("0/{next}")).await;
    assert_eq!(numbers(&mut client, 1).await, [next]);

    // Without the stream the recent past comes alone, from the time on that was asked for, and what is missing is told.
    nats.kill();
    narrow.until("hydrant_nats_connected", 0).await;
    let mut client = since(&narrow, began).await;
    client.say("register old,end.*.*").await;
    client.answer("register", "old,end.*.*").await;
    narrow.announce("end", "x", "y").await;
    assert!(gap(&mut client).await["Events"].is_null());
    assert_eq!(client.event().await.name(), "end.x.y");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_does_not_hold_any_more_is_told() {
    let nats = NatsServer::with_streams();
    let node = node(&nats, "", "stream_bytes = \"64KiB\"").await;
    let began = now();
    post(&node, 0, 0..3000).await;
    node.until("hydrant_nats_published_total", 3000).await;
    let mut client = since(&node, began).await;
    client.say("register machines.*.*").await;
    client.answer("register", "machines.*.*").await;
    let object = gap(&mut client).await;
    assert_eq!(object["From"].as_str().unwrap().parse::<Timestamp>().unwrap(), began, "{object}");
    let to: Timestamp = object["To"].as_str().unwrap().parse().unwrap();
    assert!(to > began);
    let first = client.event().await;
    let first: u64 = first.key.strip_prefix("0/").unwrap().parse().unwrap();
    assert!((100..2990).contains(&first), "{first} is the first: more than the recent past, less than all");
    assert!(numbers(&mut client, usize::try_from(2999 - first).unwrap()).await.into_iter().eq(first + 1..3000));

    let mut client = since(&node, began - SignedDuration::from_hours(1)).await;
    client.say("register none.*.*").await;
    client.answer("register", "none.*.*").await;
    assert!(gap(&mut client).await["Events"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_has_dropped_since_is_told_to_a_later_registration() {
    let nats = NatsServer::with_streams();
    let node = node(&nats, "", "stream_bytes = \"64KiB\"").await;
    let began = now();
    post(&node, 0, 0..100).await;
    node.until("hydrant_nats_published_total", 100).await;
    let mut client = since(&node, began).await;
    client.register("machines.*.*").await;
    assert!(numbers(&mut client, 100).await.into_iter().eq(0..100));
    // This is answered when the client gets events live; before, the short history could not hold those that follow.
    client.register("none.*.*").await;
    client.deregister("none.*.*").await;
    post(&node, 0, 100..3000).await;
    assert!(numbers(&mut client, 2900).await.into_iter().eq(100..3000));
    node.until("hydrant_nats_published_total", 3000).await;
    client.say("register jobs.*.*").await;
    assert!(gap(&mut client).await["Events"].is_null());
    loop {
        let seen = client.event().await;
        if seen.name() == "websocket.register.jobs.*.*" {
            break;
        }
        assert_eq!(seen.name(), "hydrant.gap.replay");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_purged_is_told_by_a_node_that_has_never_heard_of_it() {
    let nats = NatsServer::with_streams();
    let old = node(&nats, "", "").await;
    let began = now();
    post(&old, 0, 0..100).await;
    old.until("hydrant_nats_published_total", 100).await;
    old.stop().await;
    let context = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    context.get_stream("EVENTS").await.unwrap().purge().await.unwrap();
    let young = node(&nats, "", "").await;
    young.until("hydrant_nats_stream_usable", 1).await;
    let mut client = since(&young, began).await;
    client.say("register none.*.*").await;
    client.answer("register", "none.*.*").await;
    let object = gap(&mut client).await;
    let to: Timestamp = object["To"].as_str().unwrap().parse().unwrap();
    assert!(to > began && to <= now(), "{object}");
}

/// A node with 5,000 large events in its stream, and a client that has read a hundred of them and takes no more unless
/// it reads.
async fn half_read(nats: &NatsServer) -> (Hydrant, Client) {
    let node = node(nats, "[outbox]\nevents = 64\nbytes = \"64KiB\"", "").await;
    let began = now();
    let large = "x".repeat(4000);
    let line = |number: u64| {
        format!(r#"{{"Type":"machines","Action":"update","Key":"0/{number}","Object":{{"N":"{large}"}}}}"#)
    };
    for start in (0..5000).step_by(100) {
        node.post_lines(&(start..start + 100).map(line).collect::<Vec<_>>().join("\n")).await;
    }
    node.until("hydrant_nats_published_total", 5000).await;
    let mut client = node.connect_with(&format!("since={began}"), true).await.unwrap();
    client.register("machines.*.*").await;
    assert_eq!(numbers(&mut client, 100).await, (0..100).collect::<Vec<_>>());
    (node, client)
}

/// The same, and then NATS is away.
async fn half_read_and_cut_off(nats: &mut NatsServer) -> (Hydrant, Client) {
    let (node, client) = half_read(nats).await;
    nats.kill();
    node.until("hydrant_nats_connected", 0).await;
    (node, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_that_starts_again_is_waited_for() {
    let mut nats = NatsServer::with_streams();
    let (node, mut client) = half_read_and_cut_off(&mut nats).await;
    nats.revive();
    assert!(numbers(&mut client, 4900).await.into_iter().eq(100..5000));
    node.announce("machines", "update", "0/5000").await;
    assert_eq!(numbers(&mut client, 1).await, [5000]);
    assert_eq!(node.metric("hydrant_nats_replay_failures_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_outlives_nats_and_says_what_it_did_not_get() {
    let mut nats = NatsServer::with_streams();
    let (node, mut client) = half_read_and_cut_off(&mut nats).await;
    let mut next = 100;
    let object = loop {
        let seen = client.event().await;
        if seen.r#type == "hydrant" {
            break serde_json::from_str::<serde_json::Value>(seen.object.get()).unwrap();
        }
        assert_eq!(seen.key, format!("0/{next}"));
        next += 1;
    };
    assert!(next < 4900, "{next}: the stream was to be cut off");
    assert!(object["Events"].is_null() && object["From"].is_string(), "{object}");
    // What the recent past holds, and what is live; the connection has lived through it.
    assert_eq!(numbers(&mut client, 10).await, (4990..5000).collect::<Vec<_>>());
    node.announce("machines", "update", "0/5000").await;
    assert_eq!(numbers(&mut client, 1).await, [5000]);
    assert_eq!(node.metric("hydrant_nats_replay_failures_total").await, 1);
}

/// What `/readyz` says of the stream.
pub(crate) async fn stream(node: &Hydrant) -> serde_json::Value {
    let reply = http::request(node.server.probe_address().unwrap(), false, "GET", "/readyz", &[], "").await;
    assert_eq!(reply.status.as_u16(), 200);
    reply.json()["Nats"]["Stream"].clone()
}

async fn refused(nats: &NatsServer) -> String {
    let dir = tempfile::tempdir().unwrap();
    // Nobody has connected yet, so nobody has to be moved.
    let toml = toml(nats, "timeouts = { lame_duck = \"1h\" }", "");
    match patiently("an answer", Box::pin(Server::start(settings(dir.path(), &toml, "off")))).await {
        Ok(_) => panic!("it starts"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_says_what_is_wrong_with_the_stream() {
    let plain = NatsServer::start();
    let error = refused(&plain).await;
    assert!(error.contains("JetStream is not enabled"), "{error}");

    let nats = NatsServer::with_streams();
    let client = async_nats::connect(nats.url()).await.unwrap();
    let context = jetstream::new(client);
    let config = |subject: &str| Config { name: "EVENTS".into(), subjects: vec![subject.into()], ..Config::default() };
    context.create_stream(config("other.>")).await.unwrap();
    let error = refused(&nats).await;
    assert!(error.contains("does not capture hydrant.EVENTS.>"), "{error}");
    context.update_stream(config("hydrant.>")).await.unwrap();
    let error = refused(&nats).await;
    assert!(error.contains("allow_direct"), "{error}");
    // Its bounds are whoever's made it.
    context.update_stream(Config { allow_direct: true, max_messages: 7, ..config("hydrant.>") }).await.unwrap();
    let node = node(&nats, "", "").await;
    assert_eq!(stream(&node).await["Usable"], true);
    assert_eq!(context.get_stream("EVENTS").await.unwrap().cached_info().config.max_messages, 7);
    drop(node);
    context.delete_stream("EVENTS").await.unwrap();
    context.create_stream(Config { name: "OTHER".into(), ..config("hydrant.>") }).await.unwrap();
    let error = refused(&nats).await;
    assert!(error.contains("another stream already captures"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_of_the_stream_and_a_start_does_not_wait_for_nats() {
    let mut nats = NatsServer::with_streams();
    nats.kill();
    let node = Hydrant::start(&toml(&nats, "", "")).await;
    let state = stream(&node).await;
    assert_eq!((&state["Name"], &state["Usable"]), (&"EVENTS".into(), &false.into()), "{state}");
    assert!(state["Error"].as_str().unwrap().contains("no connection"), "{state}");
    nats.revive();
    node.until("hydrant_nats_stream_usable", 1).await;
    let state = stream(&node).await;
    assert_eq!((&state["Usable"], &state["Error"]), (&true.into(), &serde_json::Value::Null), "{state}");
    // Somebody deletes it: it is made again.
    let client = async_nats::connect(nats.url()).await.unwrap();
    jetstream::new(client.clone()).delete_stream("EVENTS").await.unwrap();
    let made = async {
        while jetstream::new(client.clone()).get_stream("EVENTS").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    patiently("the stream", made).await;
}
