//! Two nodes that follow one endpoint, each by its own link, and one that does not.
//!
//! What is promised (docs/operations.md, "Several nodes"; ADR 0013 and 0032): every node delivers each event of the
//! endpoint once and in the endpoint's order, whichever link brings it, and an endpoint's link that dies at one of two
//! nodes loses nothing. The gap of the link is told, because the node that lost it cannot know that the other one
//! stood.

use std::time::Duration;

use crate::common::Hydrant;
use crate::common::drp::Drp;
use crate::common::link::Link;
use crate::common::ws::Client;
use crate::nodes::node;
use crate::process::NatsServer;

/// Two nodes that hear each other and the endpoint. The first link is that of the first node.
async fn followers(nats: &NatsServer, drp: &Drp) -> [Hydrant; 2] {
    let first = node(nats, &drp.settings("")).await;
    drp.until_registered(1).await;
    let second = node(nats, &drp.settings("")).await;
    drp.until_registered(2).await;
    let nodes = [first, second];
    for node in &nodes {
        node.until("hydrant_nats_peers", 1).await;
        node.until(&upstream("connected", drp), 1).await;
    }
    nodes
}

fn upstream(name: &str, drp: &Drp) -> String {
    format!("hydrant_upstream_{name}{{endpoint=\"{}\"}}", drp.address)
}

/// Publishes events with these numbers, which `links` links must get, at a pace at which links and NATS are at work
/// together.
async fn publish(drp: &Drp, numbers: std::ops::Range<u64>, links: usize) {
    for number in numbers {
        let names = format!(r#""Type":"machines","Action":"update","Key":"{number}""#);
        let event = format!(r#"{{"Time":"2026-01-02T03:04:05.000000006Z",{names},"Object":{{"N":{number}}}}}"#);
        assert_eq!(drp.publish(&event), links);
        if number % 16 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn watchers(nodes: &[Hydrant; 2]) -> [Client; 2] {
    let specs = ["machines.*.*", "hydrant.*.*", "end.*.*"];
    [nodes[0].watch(&specs).await, nodes[1].watch(&specs).await]
}

/// Waits until a node has taken in so many events of the endpoint by its own link.
async fn until_taken(node: &Hydrant, drp: &Drp, count: u64) {
    node.until_that(&upstream("events_total", drp), |taken| taken >= count).await;
}

/// The numbers that a client heard and the keys of the gaps, up to markers of both nodes. A node's marker comes after
/// all that the node took in before, so what would be delivered twice is among them.
async fn heard(client: &mut Client) -> (Vec<u64>, Vec<String>) {
    let (mut numbers, mut gaps, mut ends) = (Vec::new(), Vec::new(), 0);
    while ends < 2 {
        let seen = client.event().await;
        match seen.r#type.as_str() {
            "machines" => numbers.push(seen.key.parse().unwrap()),
            "hydrant" => gaps.push(seen.key),
            _ => ends += 1,
        }
    }
    (numbers, gaps)
}

async fn end(nodes: &[Hydrant; 2]) {
    for (at, node) in nodes.iter().enumerate() {
        node.announce("end", "x", &at.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_two_nodes_follow_is_heard_once_and_in_order_at_both() {
    let (nats, drp) = (NatsServer::start(), Drp::start().await);
    let nodes = followers(&nats, &drp).await;
    let mut clients = watchers(&nodes).await;
    publish(&drp, 0..2000, 2).await;
    for node in &nodes {
        until_taken(node, &drp, 2000).await;
    }
    end(&nodes).await;
    for client in &mut clients {
        let (numbers, gaps) = heard(client).await;
        assert!(numbers.iter().copied().eq(0..2000), "{} events: {numbers:?}", numbers.len());
        assert!(gaps.is_empty(), "{gaps:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_follow_hears_the_order_of_the_endpoint() {
    let (nats, drp) = (NatsServer::start(), Drp::start().await);
    let nodes = followers(&nats, &drp).await;
    let third = node(&nats, "").await;
    third.until("hydrant_nats_peers", 2).await;
    nodes[0].until("hydrant_nats_peers", 2).await;
    let mut client = third.watch(&["machines.*.*", "hydrant.*.*", "end.*.*"]).await;
    publish(&drp, 0..5000, 2).await;
    for node in &nodes {
        until_taken(node, &drp, 5000).await;
    }
    end(&nodes).await;
    let (numbers, gaps) = heard(&mut client).await;
    assert!(numbers.iter().copied().eq(0..5000), "{} events: {numbers:?}", numbers.len());
    assert!(gaps.is_empty(), "{gaps:?}");
    for node in &nodes {
        assert!(node.metric("hydrant_nats_published_total").await > 0, "each had some first");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cut_link_misses_comes_once_by_the_other_node() {
    let (nats, drp) = (NatsServer::start(), Drp::start().await);
    let nodes = followers(&nats, &drp).await;
    let mut clients = watchers(&nodes).await;
    publish(&drp, 0..600, 2).await;
    drp.set_down(true);
    // What is on its way on this link is lost there, too.
    drp.cut_first();
    publish(&drp, 600..1200, 1).await;
    nodes[0].until(&upstream("connected", &drp), 0).await;
    let had = nodes[0].metric(&upstream("events_total", &drp)).await;
    publish(&drp, 1200..1400, 1).await;
    drp.set_down(false);
    drp.until_registered(3).await;
    publish(&drp, 1400..2000, 2).await;
    until_taken(&nodes[1], &drp, 2000).await;
    until_taken(&nodes[0], &drp, had + 600).await;
    end(&nodes).await;
    for (at, client) in clients.iter_mut().enumerate() {
        let (numbers, gaps) = heard(client).await;
        assert!(numbers.iter().copied().eq(0..2000), "node {at}: {numbers:?}");
        assert!(gaps.iter().all(|key| *key == drp.address.to_string()), "{gaps:?}");
        assert!(at != 0 || gaps.len() == 1, "the gap of the link that was cut: {gaps:?}");
    }
    assert!(nodes[0].metric("hydrant_nats_received_total").await >= 800, "what the link missed");
}

/// The way over NATS takes longer than a link that is cut needs to be back, so what came meanwhile is still on its way.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_link_has_missed_comes_before_what_it_brings_when_it_is_back() {
    let (nats, drp) = (NatsServer::start(), Drp::start().await);
    let to_nats = Link::to(nats.url().trim_start_matches("nats://").parse().unwrap());
    let of_nats = format!("\n[nats]\nurls = [\"nats://{}\"]\n", to_nats.address);
    let first = Hydrant::start(&format!("shards = 1\n{}{of_nats}", drp.settings(""))).await;
    drp.until_registered(1).await;
    let nodes = [first, node(&nats, &drp.settings("")).await];
    drp.until_registered(2).await;
    for node in &nodes {
        node.until("hydrant_nats_peers", 1).await;
        node.until(&upstream("connected", &drp), 1).await;
    }
    let [mut client, _] = watchers(&nodes).await;
    publish(&drp, 0..10, 2).await;
    for node in &nodes {
        until_taken(node, &drp, 10).await;
    }
    drp.set_down(true);
    drp.cut_first();
    nodes[0].until(&upstream("connected", &drp), 0).await;
    to_nats.delay(Duration::from_millis(300));
    publish(&drp, 10..20, 1).await;
    drp.set_down(false);
    drp.until_registered(3).await;
    publish(&drp, 20..30, 2).await;
    for (node, count) in nodes.iter().zip([20, 30]) {
        until_taken(node, &drp, count).await;
    }
    end(&nodes).await;
    let (numbers, gaps) = heard(&mut client).await;
    assert!(numbers.iter().copied().eq(0..30), "{numbers:?}");
    assert_eq!(gaps.len(), 1, "that of the link: {gaps:?}");
}
