//! What is promised when something dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::http::{self, Http};
use crate::common::program::Program;
use crate::common::{Hydrant, LOGIN, NDJSON, PATIENCE, basic};
use crate::nodes::{Heard, node, nodes, numbered};
use crate::process::NatsServer;

/// Posts numbered events, a few at a time, until told to stop or refused; how many were taken.
async fn load(http: &mut Http, authorization: &str, node: usize, stop: &AtomicBool) -> u64 {
    let mut next = 0;
    while !stop.load(Ordering::SeqCst) {
        let lines: Vec<String> = (next..next + 5).map(|number| numbered(node, number)).collect();
        let headers = [("authorization", authorization), ("content-type", NDJSON)];
        let reply = http.try_request("POST", "/api/v3/events", &headers, lines.join("\n")).await;
        if reply.is_none_or(|reply| reply.status != 204) {
            break;
        }
        next += 5;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    next
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_go_on_alone_while_nats_is_dead_and_tell_what_they_missed() {
    let mut nats = NatsServer::start();
    let nodes = nodes(&nats, 2).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(node.watch(&["machines.*.*", "hydrant.*.*", "end.*.*"]).await);
    }
    let mut loads = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let (mut http, stop) = (Http::connect(node.address(), false).await, Arc::clone(&stop));
        let bearer = format!("Bearer {}", node.token().await);
        loads.push(tokio::spawn(async move { load(&mut http, &bearer, at, &stop).await }));
    }
    for node in &nodes {
        node.until_that("hydrant_nats_received_total", |n| n > 100).await;
    }
    nats.kill();
    for node in &nodes {
        node.until("hydrant_nats_connected", 0).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    nats.revive();
    for node in &nodes {
        node.until("hydrant_nats_connected", 1).await;
    }
    let before = nodes[0].metric("hydrant_nats_received_total").await;
    nodes[0].until_that("hydrant_nats_received_total", |n| n > before + 100).await;
    stop.store(true, Ordering::SeqCst);
    let mut posted = Vec::new();
    for load in loads {
        posted.push(load.await.unwrap());
    }
    for (at, (node, client)) in nodes.iter().zip(&mut clients).enumerate() {
        let mut heard = Heard::new(2);
        let missing = |heard: &Heard| posted[1 - at] - heard.numbers[1 - at].len() as u64;
        // A heartbeat shows the loss of the last ones, too.
        while heard.numbers[at].len() as u64 != posted[at]
            || heard.told("events missing").unwrap_or(0) < missing(&heard)
            || heard.told("disconnected").is_none()
        {
            let seen = client.event().await;
            if seen.r#type != "end" {
                heard.hear(&seen);
            }
        }
        heard.assert_ordered();
        assert_eq!(heard.told("events missing").unwrap_or(0), missing(&heard), "{:?}", heard.gaps);
        node.announce("end", "x", &at.to_string()).await;
        let last = client.names_until(&format!("end.x.{at}")).await;
        assert!(last.iter().all(|name| name.starts_with("end.")), "more than was posted: {last:?}");
        assert_eq!(node.metric("hydrant_nats_echoes_dropped_total").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_takes_only_its_last_events_along_and_the_others_are_told() {
    let nats = NatsServer::start();
    let mut victim = Program::start("off", "level = 'info'", &format!("[nats]\nurls = [\"{}\"]", nats.url()));
    let survivor = node(&nats, "").await;
    survivor.until("hydrant_nats_peers", 1).await;
    let mut client = survivor.watch(&["machines.*.*", "hydrant.*.*"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut http = Http::connect(victim.api, false).await;
    let basic = basic(LOGIN);
    let load = tokio::spawn(async move { load(&mut http, &basic, 0, &AtomicBool::new(false)).await });
    survivor.until_that("hydrant_nats_received_total", |n| n > 500).await;
    victim.kill();
    let taken = load.await.unwrap();
    drop(stop);
    let mut heard = Heard::new(1);
    while heard.told("node lost").is_none() {
        heard.hear(&client.event().await);
    }
    heard.assert_ordered();
    let numbers = &heard.numbers[0];
    // What came is a beginning of what was posted, without a hole; the request that was cut off may have been taken.
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "a hole");
    assert!(numbers.len() as u64 <= taken + 5);
    assert_eq!(heard.told("events missing"), None);
    survivor.until("hydrant_nats_peers", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_in_good_order_loses_nothing_and_is_not_missed() {
    let nats = NatsServer::start();
    let mut nodes = nodes(&nats, 2).await;
    let mut client = nodes[1].watch(&["machines.*.*", "hydrant.*.*", "end.*.*"]).await;
    let lines: Vec<String> = (0..2000).map(|number| numbered(0, number)).collect();
    nodes[0].post_lines(&lines.join("\n")).await;
    let leaving = nodes.remove(0);
    tokio::time::timeout(PATIENCE, leaving.stop()).await.unwrap();
    nodes[0].until("hydrant_nats_peers", 0).await;
    nodes[0].announce("end", "x", "y").await;
    let mut heard = Heard::new(1);
    client.until("end.x.y").await.iter().for_each(|seen| heard.hear(seen));
    assert!(heard.numbers[0].iter().copied().eq(0..2000));
    assert!(heard.gaps.is_empty(), "{:?}", heard.gaps);
}

/// What `/readyz` says.
async fn readyz(node: &Hydrant) -> (u16, serde_json::Value) {
    let probe = node.server.probe_address().unwrap();
    let reply = http::request(probe, false, "GET", "/readyz", &[], "").await;
    (reply.status.as_u16(), reply.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_of_nats_and_does_not_depend_on_it() {
    let mut nats = NatsServer::start();
    let node = node(&nats, "").await;
    let (status, there) = readyz(&node).await;
    assert_eq!((status, &there["Nats"]["Connected"]), (200, &true.into()), "{there}");
    nats.kill();
    node.until("hydrant_nats_connected", 0).await;
    let (status, away) = readyz(&node).await;
    assert_eq!((status, &away["Ready"], &away["Nats"]["Connected"]), (200, &true.into(), &false.into()), "{away}");
    let since = |body: &serde_json::Value| body["Nats"]["Since"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(since(&there) <= since(&away));
    nats.revive();
    node.until("hydrant_nats_connected", 1).await;
    let (_, back) = readyz(&node).await;
    assert_eq!(back["Nats"]["Connected"], true, "{back}");
    assert!(since(&away) <= since(&back));
}
