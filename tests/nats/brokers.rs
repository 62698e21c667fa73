//! Nodes without sockets: a sequencer, the way over NATS, and an inbox that the test empties when it likes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hydrant::broker::Broker;
use hydrant::broker::export::ExportLimits;
use hydrant::broker::history::{History, HistoryLimits};
use hydrant::broker::inbox::{Inbox, InboxLimits, inbox};
use hydrant::clock::now;
use hydrant::cluster::{Health, Login, NatsOptions, Running, Tls, start};
use hydrant::event::{Draft, Event};
use hydrant::metrics::{Metrics, Source};
use tokio::sync::watch;

use crate::common::patiently;
use crate::process::NatsServer;

pub(crate) struct Node {
    pub(crate) broker: Arc<Broker>,
    inbox: Inbox,
    pub(crate) health: Arc<Health>,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

pub(crate) fn options(nats: &NatsServer, node: u64) -> NatsOptions {
    NatsOptions {
        urls: vec![nats.url()],
        login: Arc::new(Login::Nobody),
        tls: Tls::default(),
        prefix: "test".to_owned(),
        pending: 8192,
        pending_bytes: 64 << 20,
        event_bytes: 1 << 20,
        linger: Duration::ZERO,
        node,
        stream: None,
    }
}

impl Node {
    pub(crate) async fn start(options: &NatsOptions, inbox_events: usize) -> Self {
        let history = History::new(HistoryLimits { events: 10, bytes: 1 << 20 }, options.node, now());
        let broker = Arc::new(Broker::new(Arc::new(Metrics::new()), Instant::now(), history));
        let (inbox_sender, inbox) = inbox(InboxLimits { events: inbox_events, bytes: 64 << 20 }, || ());
        broker.attach(inbox_sender);
        let exports = broker.share(ExportLimits { batches: 8192, bytes: 64 << 20 }, 10_000);
        let (stop, stopped) = watch::channel(false);
        let Running { tasks, health } = start(options, &broker, exports, &stopped).await.unwrap();
        Self { broker, inbox, health, stop, tasks }
    }

    /// Ends as a process does that is killed: without a word.
    pub(crate) async fn end(self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        for task in self.tasks {
            let _ = task.await;
        }
    }

    /// Ends as a process does that is told to, as far as NATS is concerned.
    pub(crate) async fn stop(self) -> Arc<Broker> {
        self.stop.send(true).unwrap();
        for task in self.tasks {
            let _ = task.await;
        }
        self.broker
    }

    /// Nodes that hear each other.
    pub(crate) async fn several(nats: &NatsServer, count: u64) -> Vec<Self> {
        let mut nodes = Vec::new();
        for node in 1..=count {
            nodes.push(Self::start(&options(nats, node), 100_000).await);
        }
        for node in &nodes {
            node.until_peers(count - 1).await;
        }
        nodes
    }

    pub(crate) async fn until_peers(&self, count: u64) {
        let peers = || u64::try_from(self.broker.metrics().nats.peers.get()).unwrap();
        patiently("the other nodes", until(|| peers() == count)).await;
    }

    pub(crate) fn publish(&self, source: Source, keys: impl IntoIterator<Item = u64>) {
        let event = |key: u64| {
            let (key, time) = (key.to_string(), "2026-01-02T03:04:05.000000001Z");
            let mut draft = Draft::new("machines", "update", &key);
            draft.time = Some(time.into());
            draft.seal(now())
        };
        self.broker.publish(keys.into_iter().map(event).collect::<Vec<Event>>(), source).unwrap();
    }

    /// The next `count` events by key; gaps are texts of their Object.
    pub(crate) async fn take(&self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        let fill = async {
            while all.len() < count {
                match self.inbox.next() {
                    Some(batch) => all.extend(batch.events.iter().map(name)),
                    None => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        };
        patiently("events", fill).await;
        all
    }
}

fn name(event: &Arc<Event>) -> String {
    if event.kind() == "hydrant" { event.object().to_owned() } else { event.key().to_owned() }
}

pub(crate) async fn until(mut good: impl FnMut() -> bool) {
    while !good() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn keys(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|key| key.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_nodes_take_in_of_one_endpoint_is_delivered_once() {
    let nats = NatsServer::start();
    let nodes = Node::several(&nats, 3).await;
    // The same stream at two nodes, in chunks of different sizes; every tenth event is sent twice by the endpoint
    // itself.
    let stream: Vec<u64> = (0..2000).flat_map(|key| std::iter::repeat_n(key, 1 + usize::from(key % 10 == 0))).collect();
    for (a, b) in stream.chunks(50).zip(stream.chunks(50)) {
        nodes[0].publish(Source::Upstream, a.iter().copied());
        for chunk in b.chunks(7) {
            nodes[1].publish(Source::Upstream, chunk.iter().copied());
        }
        tokio::task::yield_now().await;
    }
    nodes[0].publish(Source::Post, [9999]);
    nodes[1].publish(Source::Post, [9999]);
    let expected = {
        let mut expected: Vec<String> = stream.iter().chain(&[9999, 9999]).map(ToString::to_string).collect();
        expected.sort();
        expected
    };
    for (at, node) in nodes.iter().enumerate() {
        let mut taken = node.take(stream.len() + 2).await;
        taken.sort();
        assert!(taken == expected, "node {at}: {} events", taken.len());
    }
    // Marks of both, which come after everything that was on its way.
    nodes[0].publish(Source::Post, [10_000]);
    nodes[1].publish(Source::Post, [10_001]);
    for node in &nodes {
        let mut marks = node.take(2).await;
        marks.sort();
        assert_eq!(marks, ["10000", "10001"], "more than was sent");
    }
    let dropped: u64 = nodes.iter().map(|node| node.broker.metrics().nats.duplicates.get()).sum();
    assert!(dropped >= stream.len() as u64, "{dropped}");
}

/// A node that has published so many events, and one whose inbox is full of them.
async fn filled(nats: &NatsServer, events: u64) -> (Node, Node) {
    let sender = Node::start(&options(nats, 1), 100_000).await;
    let slow = Node::start(&options(nats, 2), 10).await;
    sender.until_peers(1).await;
    slow.until_peers(1).await;
    for start in (0..events).step_by(100) {
        sender.publish(Source::Post, start..start + 100);
    }
    patiently("the inbox to fill", until(|| slow.broker.waiting() > 0)).await;
    (sender, slow)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_makes_the_way_wait_and_loses_nothing() {
    let nats = NatsServer::start();
    let (_sender, slow) = filled(&nats, 4000).await;
    assert_eq!(slow.take(4000).await, keys(0..4000));
}

/// Longer than the silence after which a node counts as lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_is_full_for_long_loses_no_node() {
    let nats = NatsServer::start();
    let (sender, slow) = filled(&nats, 1000).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    // Whether the look for silent nodes or the next message comes first after the wait is chance.
    assert_eq!(slow.take(1000).await, keys(0..1000));
    tokio::time::sleep(Duration::from_secs(1)).await;
    sender.publish(Source::Post, [1000]);
    assert_eq!(slow.take(1).await, ["1000"], "no node was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_that_nothing_is_received_once_that_has_ended() {
    let nats = NatsServer::start();
    let node = Node::start(&options(&nats, 1), 100).await;
    patiently("the connection", until(|| node.health.report().connected)).await;
    node.stop.send(true).unwrap();
    patiently("the end", until(|| !node.health.report().connected)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_the_queue_does_not_hold_are_told_in_their_place() {
    what_the_queue_does_not_hold_is_told(|options| NatsOptions { pending: 64, ..options }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_the_queue_does_not_hold_are_told_in_their_place() {
    what_the_queue_does_not_hold_is_told(|options| NatsOptions { pending_bytes: 20_000, ..options }).await;
}

async fn what_the_queue_does_not_hold_is_told(small: impl FnOnce(NatsOptions) -> NatsOptions) {
    let nats = NatsServer::start();
    let sender = Node::start(&options(&nats, 1), 100_000).await;
    let slow = Node::start(&small(options(&nats, 2)), 10).await;
    sender.until_peers(1).await;
    slow.until_peers(1).await;
    // A node that gets no time to read more than it holds loses nothing, and it is tried again.
    for first in (0..10).map(|round| 4000 * round) {
        if overrun(&sender, &slow, first).await > 0 {
            return;
        }
    }
    panic!("the buffer was to be too small");
}

/// Sends 4000 events to a node whose inbox is full meanwhile. Returns how many were lost, each of which must be told.
async fn overrun(sender: &Node, slow: &Node, first: u64) -> u64 {
    for start in (first..first + 4000).step_by(100) {
        sender.publish(Source::Post, start..start + 100);
    }
    let metrics = &sender.broker.metrics().nats;
    patiently("everything to be sent", until(|| metrics.published.get() == first + 4000)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    // A notice stands in the place of its gap, unless there are so many that several share one.
    let (mut next, mut came, mut missing, mut told) = (first, 0, 0, 0);
    while came + told < 4000 {
        for text in slow.take(1).await {
            if let Ok(key) = text.parse::<u64>() {
                assert!(key >= next, "{key} comes after {next}");
                (missing, came, next) = (missing + key - next, came + 1, key + 1);
                continue;
            }
            let gap: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&gap["Node"], &gap["Reason"]), (&"0000000000000001".into(), &"events missing".into()));
            told += gap["Events"].as_u64().unwrap();
        }
    }
    assert_eq!(told, missing + first + 4000 - next, "each loss is told by its number");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_too_large_for_the_nats_server_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("nats.conf");
    std::fs::write(&config, "max_payload: 2048\n").unwrap();
    let nats = NatsServer::with(&["-c", config.to_str().unwrap()]);
    let nodes = Node::several(&nats, 2).await;
    nodes[0].publish(Source::Post, [0]);
    let key = "x".repeat(3000);
    let large = Draft::new("machines", "update", &key).seal(now());
    nodes[0].broker.publish(vec![large], Source::Post).unwrap();
    nodes[0].publish(Source::Post, [1]);
    let taken = nodes[1].take(3).await;
    assert_eq!((taken[0].as_str(), taken[2].as_str()), ("0", "1"));
    assert!(taken[1].contains(r#""Events":1"#) && taken[1].contains("events missing"), "{}", taken[1]);
    assert_eq!(nodes[0].take(3).await[1], key, "the node's own clients get it");
}

/// The server counts the headers too, and closes the connection on which more comes.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_only_with_its_headers_is_told_and_costs_no_connection() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("nats.conf");
    std::fs::write(&config, "max_payload: 2048\n").unwrap();
    let nats = NatsServer::with(&["-c", config.to_str().unwrap()]);
    let nodes = Node::several(&nats, 2).await;
    let event = |bytes: usize| {
        let bare = Draft::new("machines", "update", "").seal(now()).json().len();
        Draft::new("machines", "update", &"x".repeat(bytes - bare)).seal(now())
    };
    let large = event(2040);
    assert!((2030..=2048).contains(&large.json().len()));
    nodes[0].broker.publish(vec![large, event(1900)], Source::Post).unwrap();
    let taken = nodes[1].take(2).await;
    assert!(taken[0].contains(r#""Events":1"#) && taken[1].starts_with("xxx"), "{taken:?}");
    let metrics = &nodes[0].broker.metrics().nats;
    assert_eq!((metrics.published.get(), metrics.reconnects.get(), metrics.errors.get()), (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_on_the_subject_are_counted_and_harm_nobody() {
    let nats = NatsServer::start();
    let nodes = Node::several(&nats, 2).await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let good = |name: &str, value: &str| {
        let mut headers = async_nats::HeaderMap::new();
        [("Hydrant-Node", "00000000000000aa"), ("Hydrant-Sequence", "0")]
            .iter()
            .for_each(|(n, v)| headers.insert(*n, *v));
        headers.insert(name, value);
        headers
    };
    client.publish("test.EVENTS.a.b.c", "no headers".into()).await.unwrap();
    client.publish_with_headers("test.EVENTS.a.b.c", good("Hydrant-Sequence", "x"), "{}".into()).await.unwrap();
    client.publish_with_headers("test.EVENTS.a.b.c", good("Hydrant-Node", ""), "{}".into()).await.unwrap();
    client.publish_with_headers("test.EVENTS.a", good("Hydrant-State", "?"), "{}".into()).await.unwrap();
    for (number, bad) in
        ["{", "[]", r#"{"Type":"websocket","Action":"register","Key":"x"}"#, "\u{fffd}"].iter().enumerate()
    {
        let headers = good("Hydrant-Sequence", &number.to_string());
        client.publish_with_headers("test.EVENTS.a.b.c", headers, (*bad).into()).await.unwrap();
    }
    client.flush().await.unwrap();
    let errors = || nodes[1].broker.metrics().nats.errors.get();
    patiently("the complaints", until(|| errors() == 8)).await;
    nodes[0].publish(Source::Post, [5]);
    let taken = nodes[1].take(5).await;
    assert_eq!(taken.last().unwrap(), "5");
    assert!(taken[..4].iter().all(|gap| gap.contains(r#""Events":1"#)), "{taken:?}");
}
