//! A cluster of three NATS servers with a stream on all of them: the leader of the stream dies, the server that a node
//! is connected to dies, and a server says that it is about to end. `make faults` runs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, Context, stream::Config};
use hydrant::clock::now;
use tokio::task::JoinHandle;

use crate::common::ws::Client;
use crate::common::{Hydrant, patiently};
use crate::nodes::Heard;
use crate::process::NatsServer;
use crate::processes::say;
use crate::stream::{post, since};

/// A stream on all three servers, and which of them leads it.
async fn stream(servers: &[NatsServer; 3]) -> (Context, usize) {
    let context = jetstream::new(async_nats::connect(servers[0].url()).await.unwrap());
    let config = || Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["hydrant.EVENTS.>".to_owned()],
        num_replicas: 3,
        allow_direct: true,
        ..Config::default()
    };
    let made = async {
        // The servers have to agree on who leads them first.
        while context.create_stream(config()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    patiently("the stream", made).await;
    let leader = leader(&context).await;
    (context, leader)
}

/// Which server leads the stream.
async fn leader(context: &Context) -> usize {
    let leader = async {
        loop {
            let info = context.get_stream("EVENTS").await.ok().map(|stream| stream.cached_info().clone());
            let leader = info.and_then(|info| info.cluster?.leader);
            if let Some(leader) = leader {
                return leader.strip_prefix("server").unwrap().parse().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    patiently("a leader", leader).await
}

/// A node that knows these servers, whose history holds all that the test posts.
async fn node(servers: &[&NatsServer]) -> Hydrant {
    let urls: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.url())).collect();
    let node =
        Hydrant::start(&format!("shards = 1\n[nats]\nurls = [{}]\nstream = \"EVENTS\"\n", urls.join(", "))).await;
    node.until("hydrant_nats_stream_usable", 1).await;
    node
}

/// Two nodes that hear each other, and a time before the second was there: it asks the stream for what was then, though
/// its history holds it all.
async fn two(servers: &[&NatsServer]) -> ([Arc<Hydrant>; 2], jiff::Timestamp) {
    let first = node(servers).await;
    let began = now();
    let nodes = [first, node(servers).await].map(Arc::new);
    for node in &nodes {
        node.until("hydrant_nats_peers", 1).await;
    }
    (nodes, began)
}

/// Posts to each of the nodes until told to stop; how many each took.
fn load(nodes: &[Arc<Hydrant>; 2], stop: &Arc<AtomicBool>) -> [JoinHandle<u64>; 2] {
    [0, 1].map(|at| {
        let (node, stop) = (Arc::clone(&nodes[at]), Arc::clone(stop));
        tokio::spawn(async move {
            let mut next = 0;
            while !stop.load(Ordering::SeqCst) {
                post(&node, at, next..next + 5).await;
                next += 5;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            next
        })
    })
}

/// How many events each node took.
async fn ended(loads: [JoinHandle<u64>; 2], stop: &AtomicBool) -> [u64; 2] {
    stop.store(true, Ordering::SeqCst);
    let [first, second] = loads;
    [first.await.unwrap(), second.await.unwrap()]
}

/// Has a client that asks for everything get it, each node's events in its order, and no gap.
async fn assert_all(node: &Hydrant, began: jiff::Timestamp, posted: [u64; 2]) {
    let mut client = since(node, began).await;
    client.register("machines,hydrant.*.*").await;
    let mut heard = Heard::new(2);
    for _ in 0..posted.iter().sum() {
        heard.hear(&client.event().await);
        assert!(heard.gaps.is_empty(), "{:?}", heard.gaps);
    }
    for (numbers, posted) in heard.numbers.iter().zip(posted) {
        assert!(numbers.iter().copied().eq(0..posted));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts three servers: make faults"]
async fn a_client_that_resumes_gets_what_went_past_a_stream_without_a_leader() {
    for _ in 0..5 {
        if leaderless().await {
            return;
        }
    }
    panic!("servers that do not keep their leader");
}

/// Whether the leader was still the same when it was killed; otherwise nothing was tried.
async fn leaderless() -> bool {
    let mut servers = NatsServer::cluster();
    let (context, first) = stream(&servers).await;
    let others: Vec<&NatsServer> = (0..3).filter(|at| *at != first).map(|at| &servers[at]).collect();
    let (nodes, began) = two(&others).await;
    let stop = Arc::default();
    let loads = load(&nodes, &stop);
    tokio::time::sleep(Duration::from_secs(1)).await;
    if leader(&context).await != first {
        ended(loads, &stop).await;
        return false;
    }
    servers[first].kill();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_ne!(leader(&context).await, first);
    let posted = ended(loads, &stop).await;
    for (at, node) in nodes.iter().enumerate() {
        node.until("hydrant_nats_received_total", posted[1 - at]).await;
    }
    assert_all(&nodes[1], began, posted).await;
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts three servers: make faults"]
async fn nodes_leave_a_server_that_says_that_it_ends_and_lose_nothing() {
    let servers = NatsServer::cluster();
    stream(&servers).await;
    let (nodes, began) = two(&[&servers[0]]).await;
    let stop = Arc::default();
    let loads = load(&nodes, &stop);
    tokio::time::sleep(Duration::from_secs(1)).await;
    servers[0].signal("USR2");
    for node in &nodes {
        node.until("hydrant_nats_moves_total", 1).await;
    }
    servers[0].signal("KILL");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let posted = ended(loads, &stop).await;
    for (at, node) in nodes.iter().enumerate() {
        node.until("hydrant_nats_received_total", posted[1 - at]).await;
        assert_eq!(node.metric("hydrant_nats_reconnects_total").await, 0);
        for direction in ["in", "out"] {
            assert_eq!(node.metric(&format!("hydrant_nats_lost_total{{direction=\"{direction}\"}}")).await, 0);
        }
    }
    assert_all(&nodes[1], began, posted).await;
}

/// A client that listens to everything, gaps included.
async fn listener(node: &Hydrant) -> Client {
    node.watch(&["machines.*.*", "hydrant.gap.*", "end.*.*"]).await
}

/// What it has heard until the end, which its node announces once as many are told as lost as there are. A heartbeat
/// shows the loss of the last ones, too.
async fn heard(at: usize, node: &Hydrant, client: &mut Client, posted: [u64; 2]) -> Heard {
    let mut heard = Heard::new(2);
    while heard.numbers[at].len() as u64 != posted[at]
        || heard.told("events missing").unwrap_or(0) < posted[1 - at] - heard.numbers[1 - at].len() as u64
    {
        heard.hear(&client.event().await);
    }
    node.announce("end", "at", "last").await;
    client.until("end.at.last").await.iter().for_each(|seen| heard.hear(seen));
    heard
}

/// What the dead server had received and not forwarded is lost, and told by its number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts three servers: make faults"]
async fn a_node_whose_server_is_killed_goes_to_another_and_each_loss_is_told() {
    let mut servers = NatsServer::cluster();
    stream(&servers).await;
    // Each knows one server, and hears of the others from it.
    let nodes = [node(&[&servers[0]]).await, node(&[&servers[1]]).await].map(Arc::new);
    for node in &nodes {
        node.until("hydrant_nats_peers", 1).await;
    }
    let mut clients = [listener(&nodes[0]).await, listener(&nodes[1]).await];
    let stop = Arc::default();
    let loads = load(&nodes, &stop);
    nodes[1].until_that("hydrant_nats_received_total", |received| received > 100).await;
    servers[0].kill();
    nodes[0].until("hydrant_nats_reconnects_total", 1).await;
    nodes[0].until("hydrant_nats_connected", 1).await;
    let before = nodes[1].metric("hydrant_nats_received_total").await;
    nodes[1].until_that("hydrant_nats_received_total", |received| received > before + 100).await;
    let posted = ended(loads, &stop).await;
    let mut lost = Vec::new();
    for (at, (node, client)) in nodes.iter().zip(&mut clients).enumerate() {
        let heard = heard(at, node, client, posted).await;
        heard.assert_ordered();
        assert!(heard.numbers[at].iter().copied().eq(0..posted[at]), "local delivery goes on");
        let missing = posted[1 - at] - heard.numbers[1 - at].len() as u64;
        assert_eq!(heard.told("events missing").unwrap_or(0), missing, "{:?}", heard.gaps);
        assert_eq!(heard.told("disconnected").is_some(), at == 0, "{:?}", heard.gaps);
        lost.push(missing);
    }
    assert_eq!(nodes[1].metric("hydrant_nats_reconnects_total").await, 0);
    say(&format!(
        "the NATS server of a node killed under {} posts: the node went to another, {lost:?} events were lost between \
         the nodes, all told",
        posted.iter().sum::<u64>()
    ));
}
