//! The ordinary case: three nodes, everything everywhere.

use std::time::Duration;

use futures_util::future::join_all;

use crate::common::drp::Drp;
use crate::common::{Hydrant, Seen, http, patiently};
use crate::nodes::{Heard, nodes, numbered};
use crate::process::NatsServer;
use crate::processes::Process;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_posted_to_one_node_is_delivered_once_by_all() {
    let nats = NatsServer::start();
    let nodes = nodes(&nats, 3).await;
    let mut clients = join_all(nodes.iter().map(|node| node.watch(&["machines.*.*", "hydrant.*.*"]))).await;
    let posts = nodes.iter().enumerate().map(|(at, node)| async move {
        for batch in 0..20 {
            let lines: Vec<String> = (batch * 50..batch * 50 + 50).map(|number| numbered(at, number)).collect();
            node.post_lines(&lines.join("\n")).await;
        }
    });
    join_all(posts).await;
    for client in &mut clients {
        let mut heard = Heard::new(3);
        for _ in 0..3000 {
            heard.hear(&client.event().await);
        }
        heard.assert_ordered();
        assert!(heard.numbers.iter().all(|numbers| numbers.len() == 1000), "{heard:?}");
        assert!(heard.gaps.is_empty(), "{:?}", heard.gaps);
    }
    for node in &nodes {
        node.until("hydrant_nats_published_total", 1000).await;
        assert_eq!(node.metric("hydrant_nats_received_total").await, 2000);
        for none in ["echoes_dropped_total", "duplicates_dropped_total", "errors_total"] {
            assert_eq!(node.metric(&format!("hydrant_nats_{none}")).await, 0, "{none}");
        }
        for direction in ["in", "out"] {
            assert_eq!(node.metric(&format!("hydrant_nats_lost_total{{direction=\"{direction}\"}}")).await, 0);
        }
    }
    // Nothing goes round: the counts stay when everybody has said everything.
    let markers = join_all(clients.iter_mut().map(|client| client.register("end.*.*"))).await;
    assert_eq!(markers.len(), 3);
    nodes[0].announce("end", "x", "y").await;
    for client in &mut clients {
        assert_eq!(client.event().await.name(), "end.x.y");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_different_prefixes_share_nothing() {
    let nats = NatsServer::start();
    let start = async |prefix: &str| {
        let node = Hydrant::start(&format!("[nats]\nurls = [\"{}\"]\nprefix = {prefix:?}\n", nats.url())).await;
        node.until("hydrant_nats_connected", 1).await;
        node
    };
    let nodes = [start("east").await, start("west").await, start("east").await];
    for (node, peers) in nodes.iter().zip([1, 0, 1]) {
        node.until("hydrant_nats_peers", peers).await;
    }
    let mut clients = join_all(nodes.iter().map(|node| node.watch(&["*.*.*"]))).await;
    nodes[0].announce("machines", "update", "east").await;
    assert_eq!(clients[2].event().await.key, "east");
    nodes[1].announce("machines", "update", "west").await;
    assert_eq!(clients[1].event().await.key, "west");
    nodes[0].announce("end", "x", "y").await;
    for client in [0, 2] {
        let names = clients[client].names_until("end.x.y").await;
        assert!(!names.contains(&"machines.update.west".to_owned()), "{names:?}");
    }
    for name in ["hydrant_nats_peers", "hydrant_nats_received_total", "hydrant_nats_errors_total"] {
        assert_eq!(nodes[1].metric(name).await, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_arrives_byte_for_byte() {
    let nats = NatsServer::start();
    let nodes = nodes(&nats, 2).await;
    let (mut near, mut far) = (nodes[0].watch(&["*.*.*"]).await, nodes[1].watch(&["*.*.*"]).await);
    let object = r#"{"z":12345678901234567890123,"a":"\u00e9 <","n":1.0}"#;
    for key in ["k", "", "a.b", "*", "> \u{e9}\n", &"long.".repeat(300)] {
        let key = serde_json::to_string(key).unwrap();
        let fields = format!(r#""Type":"a b.*","Action":"x>","Key":{key},"Object":{object},"Original":[{object}]"#);
        nodes[0]
            .post(&format!(r#"{{"Time":"2026-01-02T03:04:05.000000001+01:00","Principal":"user:x",{fields}}}"#))
            .await;
        let sent = near.text().await;
        assert_eq!(far.text().await, sent);
        assert!(sent.contains(object));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_stay_where_they_are() {
    let nats = NatsServer::start();
    let told = crate::nodes::node(&nats, "connection_events = true").await;
    let other = crate::nodes::node(&nats, "connection_events = true").await;
    other.until("hydrant_nats_peers", 1).await;
    let mut client = other.connect().await;
    client.register("end.*.*").await;
    client.say("register connections.*.*").await;
    client.until("websocket.register.connections.*.*").await;
    let mut near = told.watch(&["connections.*.*"]).await;
    let mut passing = told.connect().await;
    passing.register("a.b.c").await;
    let listed = told.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    let addresses: Vec<String> =
        listed.as_array().unwrap().iter().map(|one| format!("\"{}\"", one["RemoteAddr"].as_str().unwrap())).collect();
    assert_eq!(addresses.len(), 2, "{listed}");
    let names = |seen: &Seen| addresses.iter().any(|address| seen.object.get().contains(address));
    drop(passing);
    let told_near = near.until("connections.delete.user:rocketskates").await;
    assert!(told_near.iter().any(names), "{told_near:?}");
    told.announce("end", "x", "y").await;
    let before: Vec<Seen> = client.until("end.x.y").await;
    assert!(!before.iter().any(names), "{before:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_missed_on_one_node_comes_on_another() {
    let nats = NatsServer::start();
    let nodes = nodes(&nats, 2).await;
    let mut client = nodes[0].watch(&["a.*.*"]).await;
    nodes[0].announce("a", "b", "first").await;
    let first = client.event().await;
    drop(client);
    nodes[1].announce("a", "b", "second").await;
    nodes[0].announce("a", "b", "third").await;
    nodes[1].until_that("hydrant_nats_received_total", |n| n == 2).await;
    // A second of overlap, as the documentation asks for.
    let since = first.time.parse::<jiff::Timestamp>().unwrap() - jiff::SignedDuration::from_secs(1);
    let query = format!("token={}&since={since}", nodes[1].token().await);
    // The other node opened later than that, so it cannot vouch for everything.
    let mut client = nodes[1].try_connect(&crate::common::ws::Show::Query(&query), &[]).await.unwrap();
    client.register("a.*.*").await;
    let mut keys = std::collections::BTreeSet::new();
    while keys.len() < 3 {
        let seen = client.event().await;
        if seen.r#type == "a" {
            assert!(keys.insert(seen.key.clone()), "{} twice", seen.key);
        }
    }
}

/// An event as an endpoint sends it. Without its Time every node would give it another, and no two would be the same.
fn timed(number: u64) -> String {
    let names = r#""Type":"machines","Action":"update""#;
    format!(r#"{{"Time":"2026-01-02T03:04:05.000000006Z",{names},"Key":"{number}"}}"#)
}

/// What a process has counted: serialized events, received ones, and those that came twice.
async fn counted(node: &Process) -> [u64; 3] {
    let text = http::request(node.node.probe, false, "GET", "/metrics", &[], "").await.body;
    let sum = |name: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(|rest| rest.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    [
        "hydrant_event_serialisations_total{encoding=\"plain\"}",
        "hydrant_events_received_total{",
        "hydrant_nats_duplicates_dropped_total",
    ]
    .map(sum)
}

/// Processes, because they count for themselves.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_the_link_and_from_another_node_counts_as_serialised_once() {
    const EVENTS: u64 = 500;
    let (nats, drp) = (NatsServer::start(), Drp::start().await);
    let nodes = Process::several(&nats, 2, &drp.settings(""), "").await;
    drp.until_registered(2).await;
    for number in 0..EVENTS {
        drp.publish(&timed(number));
    }
    // Each event comes twice to one node at least: to the first that has it, from the other, or by its own link.
    let twice = async {
        while counted(&nodes[0]).await[2] + counted(&nodes[1]).await[2] < EVENTS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    patiently("every event to come twice", twice).await;
    // A look in the middle of the work may see more, which the next events make up for.
    let mut next = EVENTS..;
    for node in &nodes {
        let agree = async {
            while !matches!(counted(node).await, [made, taken, _] if made == taken && taken >= EVENTS) {
                for number in next.by_ref().take(50) {
                    drp.publish(&timed(number));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        patiently("both counts to agree", agree).await;
    }
}
