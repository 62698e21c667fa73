//! Who may publish on the subjects can say anything: it costs a message, and no node its voice.

use std::time::Duration;

use async_nats::HeaderMap;
use hydrant::clock::now;
use hydrant::metrics::Source;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::brokers::{Node, options, until};
use crate::common::patiently;
use crate::nodes::numbered;
use crate::process::NatsServer;
use crate::stream;

/// Publishes a message with these header lines, whatever bytes they are.
async fn publish_raw(nats: &NatsServer, subject: &str, lines: &[u8]) {
    let mut socket = TcpStream::connect(nats.url().trim_start_matches("nats://")).await.unwrap();
    let block = [b"NATS/1.0\r\n", lines, b"\r\n"].concat();
    let publication = format!("HPUB {subject} {} {}\r\n", block.len(), block.len() + 2).into_bytes();
    let connect = br#"CONNECT {"verbose":false,"headers":true}"#;
    let all = [connect, &b"\r\n"[..], &publication, &block, b"{}\r\nPING\r\n"].concat();
    socket.write_all(&all).await.unwrap();
    let mut heard = Vec::new();
    while !heard.windows(4).any(|word| word == b"PONG") {
        assert!(socket.read_buf(&mut heard).await.unwrap() > 0, "{}", String::from_utf8_lossy(&heard));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_no_text_costs_that_message_only() {
    let nats = NatsServer::start();
    let nodes = Node::several(&nats, 2).await;
    for bad in [&b"X-Trace: \xff\xfe\r\n"[..], b"\xff: x\r\n", b"Hydrant-Node: \xff\r\n"] {
        publish_raw(&nats, "test.EVENTS.a.b.c", bad).await;
    }
    let metrics = &nodes[1].broker.metrics().nats;
    patiently("the count", until(|| metrics.errors.get() == 3)).await;
    nodes[0].publish(Source::Post, 0..10);
    let keys: Vec<String> = (0..10).map(|key: u64| key.to_string()).collect();
    assert_eq!(nodes[1].take(10).await, keys);
    assert_eq!(metrics.reconnects.get(), 0, "the connection stood");
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_step_over_a_header_that_is_no_text() {
    let nats = NatsServer::with_streams();
    let node = stream::node(&nats, "", "").await;
    let began = now();
    stream::post(&node, 0, 0..50).await;
    publish_raw(&nats, "hydrant.EVENTS.a.b.c", b"X-Trace: \xff\xfe\r\n").await;
    stream::post(&node, 0, 50..100).await;
    node.until("hydrant_nats_published_total", 100).await;
    let mut client = stream::since(&node, began).await;
    client.register("machines,hydrant.*.*").await;
    assert_eq!(stream::numbers(&mut client, 100).await, (0..100).collect::<Vec<_>>());
    node.post(&numbered(0, 100)).await;
    assert_eq!(stream::numbers(&mut client, 1).await, [100]);
}

fn headers(node: u64, number: u64, state: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Hydrant-Node", format!("{node:016x}").as_str());
    headers.insert("Hydrant-Sequence", number.to_string().as_str());
    if let Some(state) = state {
        headers.insert("Hydrant-State", state);
    }
    headers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_somebody_made_up_silences_no_living_node() {
    let nats = NatsServer::start();
    let nodes = Node::several(&nats, 2).await;
    nodes[0].publish(Source::Post, 0..10);
    nodes[1].take(10).await;
    let forger = async_nats::connect(nats.url()).await.unwrap();
    for made_up in [1_000_000_000_000, 100_000, 15] {
        forger.publish_with_headers("test.EVENTS.a", headers(1, made_up, Some("up")), "".into()).await.unwrap();
        let event = r#"{"Type":"a","Action":"b","Key":"77777"}"#;
        forger.publish_with_headers("test.EVENTS.a.b.c", headers(1, made_up, None), event.into()).await.unwrap();
    }
    forger.flush().await.unwrap();
    let metrics = &nodes[1].broker.metrics().nats;
    patiently("what was made up", until(|| metrics.received.get() == 13)).await;
    nodes[0].publish(Source::Post, 10..30);
    let mut keys = Vec::new();
    while keys.len() < 23 {
        keys.extend(nodes[1].take(1).await.into_iter().filter_map(|text| text.parse::<u64>().ok()));
    }
    keys.retain(|key| *key != 77_777);
    assert_eq!(keys, (10..30).collect::<Vec<_>>());
    assert_eq!(metrics.duplicates.get(), 0);
}

/// Somebody is always just ahead of the node: no number is skipped.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_numbers_that_somebody_used_first_silence_no_living_node() {
    let nats = NatsServer::start();
    let nodes = Node::several(&nats, 2).await;
    nodes[0].publish(Source::Post, 0..10);
    nodes[1].take(10).await;
    let forger = async_nats::connect(nats.url()).await.unwrap();
    for made_up in 10..20 {
        let event = r#"{"Type":"a","Action":"b","Key":"77777"}"#;
        forger.publish_with_headers("test.EVENTS.a.b.c", headers(1, made_up, None), event.into()).await.unwrap();
    }
    forger.flush().await.unwrap();
    assert_eq!(nodes[1].take(10).await, ["77777"; 10]);
    nodes[0].publish(Source::Post, 10..30);
    let keys: Vec<String> = (10..30).map(|key: u64| key.to_string()).collect();
    assert_eq!(nodes[1].take(20).await, keys);
    assert_eq!(nodes[1].broker.metrics().nats.duplicates.get(), 0);
}

/// Longer than the silence after which a node counts as lost.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_somebody_made_up_do_not_flood_those_who_listen_to_gaps() {
    let nats = NatsServer::start();
    let node = Node::start(&options(&nats, 1), 100_000).await;
    patiently("the connection", until(|| node.health.report().connected)).await;
    let forger = async_nats::connect(nats.url()).await.unwrap();
    for made_up in 100..1100 {
        forger.publish_with_headers("test.EVENTS.a", headers(made_up, 0, Some("up")), "".into()).await.unwrap();
    }
    forger.flush().await.unwrap();
    node.until_peers(1000).await;
    node.until_peers(0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    node.publish(Source::Post, [1]);
    let (mut gaps, mut joined) = (0, false);
    loop {
        let text = node.take(1).await.remove(0);
        if text == "1" {
            break;
        }
        joined |= text.contains(r#""Node":null"#);
        gaps += 1;
    }
    assert!((2..=50).contains(&gaps) && joined, "{gaps} notices");
}
