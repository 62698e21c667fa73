//! NATS goes and comes back, whole or in part: what fitted into the queues reaches everybody, whoever is back first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hydrant::cluster::NatsOptions;
use hydrant::metrics::Source;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::brokers::{Node, options, until};
use crate::common::patiently;
use crate::process::NatsServer;

/// A way to a NATS server that can be shut.
struct Relay {
    address: String,
    open: Arc<AtomicBool>,
}

impl Relay {
    async fn to(nats: &NatsServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("nats://{}", listener.local_addr().unwrap());
        let open = Arc::new(AtomicBool::new(true));
        let (target, is_open) = (nats.url().trim_start_matches("nats://").to_owned(), Arc::clone(&open));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if !is_open.load(Ordering::SeqCst) {
                    continue;
                }
                let target = target.clone();
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(target).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { address, open }
    }
}

fn keys(taken: &[String]) -> Vec<u64> {
    let mut keys: Vec<u64> = taken.iter().filter_map(|key| key.parse().ok()).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_nats_reaches_who_is_back_last() {
    let mut nats = NatsServer::start();
    let relay = Relay::to(&nats).await;
    let mut nodes = Vec::new();
    for node in 1..=2 {
        nodes.push(Node::start(&options(&nats, node), 100_000).await);
    }
    let last = NatsOptions { urls: vec![relay.address.clone()], ..options(&nats, 3) };
    nodes.push(Node::start(&last, 100_000).await);
    for node in &nodes {
        node.until_peers(2).await;
    }
    nats.kill();
    for node in &nodes {
        patiently("the loss", until(|| !node.health.report().connected)).await;
    }
    for (at, node) in (0..).zip(&nodes) {
        for key in 0..444 {
            node.publish(Source::Post, [at * 1000 + key]);
        }
    }
    relay.open.store(false, Ordering::SeqCst);
    nats.revive();
    for node in &nodes[..2] {
        patiently("NATS", until(|| node.health.report().connected)).await;
    }
    // Two are back, and what they would send now the third does not hear.
    tokio::time::sleep(Duration::from_secs(1)).await;
    relay.open.store(true, Ordering::SeqCst);
    let all: Vec<u64> = (0..3).flat_map(|at| at * 1000..at * 1000 + 444).collect();
    for node in &nodes {
        // One notice each that it was disconnected.
        let taken = node.take(all.len() + 1).await;
        assert!(!taken.iter().any(|text| text.contains("events missing")), "{taken:?}");
        assert_eq!(keys(&taken), all);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_back_is_not_waited_for_for_ever() {
    let mut nats = NatsServer::start();
    let nodes = Node::several(&nats, 3).await;
    nats.kill();
    for node in &nodes {
        patiently("the loss", until(|| !node.health.report().connected)).await;
    }
    let [first, second, third] = <[Node; 3]>::try_from(nodes).ok().unwrap();
    third.end().await;
    first.publish(Source::Post, 0..10);
    nats.revive();
    assert_eq!(keys(&second.take(11).await), (0..10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_that_it_ends_is_left_before_it_does() {
    let [first, second] = NatsServer::pair();
    let nodes = Node::several(&first, 3).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut published = 0;
    let mut publish = async |nodes: &[Node], until: &dyn Fn() -> bool| {
        while !until() {
            for node in nodes {
                node.publish(Source::Post, [published]);
            }
            published += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let moved = || nodes.iter().all(|node| node.broker.metrics().nats.moves.get() == 1);
    let counted = std::cell::Cell::new(0);
    let some = || counted.replace(counted.get() + 1) >= 300;
    patiently("a beginning", publish(&nodes, &some)).await;
    first.signal("USR2");
    patiently("the move", publish(&nodes, &moved)).await;
    counted.set(0);
    patiently("some more", publish(&nodes, &some)).await;
    drop(first);
    counted.set(0);
    patiently("some more", publish(&nodes, &some)).await;
    stop.store(true, Ordering::SeqCst);
    for node in &nodes {
        let taken = node.take(usize::try_from(3 * published).unwrap()).await;
        assert!(taken.iter().all(|text| text.parse::<u64>().is_ok()), "no gap");
        assert!(keys(&taken).into_iter().eq((0..published).flat_map(|key| [key; 3])));
        assert_eq!(node.broker.metrics().nats.reconnects.get(), 0);
    }
    drop(second);
}

/// It does not close anything: only that it says nothing shows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_is_noticed() {
    let nats = NatsServer::start();
    let node = Node::start(&options(&nats, 1), 100).await;
    patiently("the connection", until(|| node.health.report().connected)).await;
    nats.signal("STOP");
    // More than the kernel takes: nothing can be written any more.
    node.publish(Source::Post, 0..100_000);
    patiently("the loss", until(|| !node.health.report().connected)).await;
    nats.signal("CONT");
    patiently("the connection", until(|| node.health.report().connected)).await;
}

/// Longer than the time that a node takes for its last events.
#[tokio::test(flavor = "multi_thread")]
async fn what_nats_does_not_take_before_the_end_counts_as_lost() {
    let nats = NatsServer::start();
    let node = Node::start(&options(&nats, 1), 100_000).await;
    patiently("the connection", until(|| node.health.report().connected)).await;
    nats.signal("STOP");
    node.publish(Source::Post, 0..1000);
    let health = Arc::clone(&node.health);
    let broker = patiently("the end", node.stop()).await;
    nats.signal("CONT");
    broker.metrics().nats.show(false);
    let text = broker.metrics().render(0);
    assert!(text.contains("hydrant_nats_lost_total{direction=\"out\"} 1000\n"), "{text}");
    let report = health.report();
    assert_eq!((report.lost_out, report.lost_in), (1000, 0));
}

/// A server that lets everybody in and closes. Returns its address, and counts who comes.
async fn revolving_door() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("nats://{}", listener.local_addr().unwrap());
    let counted = Arc::new(AtomicU64::new(0));
    let came = Arc::clone(&counted);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            came.fetch_add(1, Ordering::SeqCst);
            client.write_all(b"INFO {\"max_payload\":1048576}\r\n").await.unwrap();
            let mut said = [0; 4096];
            let _ = client.read(&mut said).await;
            let _ = client.write_all(b"PONG\r\n").await;
        }
    });
    (address, counted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_closes_right_after_the_login_is_not_dialled_without_pause() {
    let nats = NatsServer::start();
    let (address, came) = revolving_door().await;
    let node = Node::start(&NatsOptions { urls: vec![address], ..options(&nats, 1) }, 100).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let came = came.load(Ordering::SeqCst);
    assert!((1..20).contains(&came), "{came} connections in four seconds");
    node.end().await;
}
