//! Registrations that come and go during a storm of events, and the one order that everybody sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::common;
use crate::common::http::Http;
use crate::common::ws::Client;
use crate::common::{Hydrant, JSON, Seen};
use futures_util::future::join_all;
use tokio::task::JoinHandle;

const PUBLISHERS: usize = 4;

/// Publishers that go on until told to stop. Each numbers its own events and posts one after the other.
struct Storm {
    /// For each publisher, the number of the next event: those from it on have not been posted yet.
    next: Arc<[AtomicU64; PUBLISHERS]>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Storm {
    async fn begin(server: &Hydrant) -> Self {
        let (next, stop): (Arc<[AtomicU64; PUBLISHERS]>, Arc<AtomicBool>) = Default::default();
        let bearer = format!("Bearer {}", server.token().await);
        let spawn = |publisher| {
            let (next, stop, bearer) = (Arc::clone(&next), Arc::clone(&stop), bearer.clone());
            tokio::spawn(publish(server.address(), server.tls, bearer, publisher, next, stop))
        };
        let tasks = (0..PUBLISHERS).map(spawn).collect();
        Self { next, stop, tasks }
    }

    fn not_yet_posted(&self) -> [u64; PUBLISHERS] {
        std::array::from_fn(|publisher| self.next[publisher].load(Ordering::SeqCst))
    }

    /// Ends the storm; how many events each publisher has posted.
    async fn end(self) -> [u64; PUBLISHERS] {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::array::from_fn(|publisher| self.next[publisher].load(Ordering::SeqCst))
    }
}

async fn publish(
    address: std::net::SocketAddr,
    tls: bool,
    bearer: String,
    publisher: usize,
    next: Arc<[AtomicU64; PUBLISHERS]>,
    stop: Arc<AtomicBool>,
) {
    let mut http = Http::connect(address, tls).await;
    let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
    while !stop.load(Ordering::SeqCst) {
        let number = next[publisher].fetch_add(1, Ordering::SeqCst);
        let body = common::event("storm", &publisher.to_string(), &number.to_string());
        http.request("POST", "/api/v3/events", &headers, body).await.taken();
    }
}

/// Publisher and number of an event of the storm.
fn origin(seen: &Seen) -> (usize, u64) {
    assert_eq!(seen.r#type, "storm", "{seen:?}");
    (seen.action.parse().unwrap(), seen.key.parse().unwrap())
}

/// One registration, from its answer to the answer of its deregistration.
async fn window(client: &mut Client, storm: &Storm, spec: &str) {
    client.register(spec).await; // Fails if an event of the storm comes before the answer.
    let not_yet_posted = storm.not_yet_posted();
    let mut runs: [Option<(u64, u64)>; PUBLISHERS] = [None; PUBLISHERS];
    let mut extend = |seen: &Seen| {
        let (publisher, number) = origin(seen);
        let first = match runs[publisher] {
            Some((first, last)) => {
                assert_eq!(number, last + 1, "publisher {publisher}: missed, twice or out of order");
                first
            }
            None => number,
        };
        runs[publisher] = Some((first, number));
        runs.iter().all(|run| run.is_some_and(|(first, last)| last - first >= 5))
    };
    while !extend(&client.event().await) {}
    client.say(&format!("deregister {spec}")).await;
    loop {
        let seen = client.event().await;
        if seen.r#type == "websocket" {
            assert_eq!(seen.name(), format!("websocket.deregister.{spec}"));
            break;
        }
        extend(&seen);
    }
    for (publisher, run) in runs.iter().enumerate() {
        let (first, _) = run.unwrap();
        assert!(
            first <= not_yet_posted[publisher],
            "publisher {publisher}: {first} is the first seen, but {} was posted after the answer",
            not_yet_posted[publisher]
        );
    }
}

async fn storm(server: Hydrant) {
    let mut clients = join_all((0..6).map(|_| server.connect())).await;
    let storm = Arc::new(Storm::begin(&server).await);
    let mut tasks = Vec::new();
    for (at, mut client) in clients.drain(..).enumerate() {
        let storm = Arc::clone(&storm);
        tasks.push(tokio::spawn(async move {
            for round in 0..15 {
                // Different places in the index: wildcard, list, keys by wildcard.
                let spec = ["*.*.*", "storm.0,1,2,3.*", "other,storm.*.*"][(at + round) % 3];
                window(&mut client, &storm, spec).await;
            }
            client
        }));
    }
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await.unwrap());
    }
    let Ok(storm) = Arc::try_unwrap(storm).map_err(|_| ()) else { panic!("the tasks are done") };
    storm.end().await;
    // After the last answer to a deregister nothing of the storm comes any more.
    for mut client in clients {
        client.register("the.very.end").await;
        server.announce("the", "very", "end").await;
        assert_eq!(client.event().await.name(), "the.very.end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_in_a_storm_miss_nothing_and_leave_nothing() {
    storm(Hydrant::start("shards = 2").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_in_a_storm_with_tls() {
    storm(Hydrant::start_tls("shards = 3").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_sees_the_same_order() {
    let server = Hydrant::start("shards = 3").await;
    let clients = join_all((0..6).map(|_| server.watch(&["*.*.*"]))).await;
    let storm = Storm::begin(&server).await;
    let mut readers = Vec::new();
    for mut client in clients {
        readers.push(tokio::spawn(async move {
            let mut order = Vec::new();
            loop {
                let seen = client.event().await;
                if seen.r#type == "end" {
                    return order;
                }
                order.push(origin(&seen));
            }
        }));
    }
    server.until_that("hydrant_events_received_total{source=\"post\"}", |events| events >= 1_000).await;
    let posted = storm.end().await;
    server.announce("end", "end", "end").await;
    let mut orders = Vec::new();
    for reader in readers {
        orders.push(reader.await.unwrap());
    }
    for order in &orders {
        assert!(*order == orders[0], "two connections saw different orders");
    }
    for (publisher, &count) in posted.iter().enumerate() {
        let own: Vec<u64> =
            orders[0].iter().filter(|(from, _)| *from == publisher).map(|(_, number)| *number).collect();
        assert_eq!(own, (0..count).collect::<Vec<_>>(), "publisher {publisher}");
    }
}

/// More than a shard takes in at once, so that most of them still wait for it when they have been answered.
const DEEP: usize = 5_000;

/// Posts so many events of this Type in one batch.
async fn post_deep(server: &Hydrant, kind: &str) {
    let events: Vec<String> = (0..DEEP).map(|at| common::event(kind, "x", &at.to_string())).collect();
    server.post(&format!("[{}]", events.join(","))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_answer_to_a_deregister_stand_all_events_that_were_posted_before() {
    let server = Hydrant::start("shards = 1").await;
    let mut client = server.watch(&["load.*.*"]).await;
    post_deep(&server, "load").await;
    client.say("deregister load.*.*").await;
    let before = client.names_until("websocket.deregister.load.*.*").await;
    let expected: Vec<String> = (0..DEEP).map(|at| format!("load.x.{at}")).collect();
    assert_eq!(before.len(), DEEP);
    assert!(before == expected, "in order");
    client.register("load.*.*").await;
    server.announce("load", "the", "end").await;
    assert_eq!(client.event().await.name(), "load.the.end", "nothing comes late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_brings_nothing_that_was_posted_before() {
    let server = Hydrant::start("shards = 1").await;
    // They make it take long until the shard has come so far.
    let others = join_all((0..30).map(|_| server.watch(&["load.*.*"]))).await;
    let mut client = server.connect().await;
    post_deep(&server, "load").await;
    client.register("load.*.*").await;
    server.announce("load", "the", "end").await;
    assert_eq!(client.event().await.name(), "load.the.end");
    drop(others);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_sent_together_keep_their_order_among_the_events() {
    let server = Hydrant::start("shards = 1").await;
    let mut client = server.watch(&["a.*.*", "b.*.*"]).await;
    let mut other = server.watch(&["*.*.*"]).await;
    for kind in ["a", "b", "c"] {
        post_deep(&server, kind).await;
    }
    let commands = ["deregister a.*.*", "register c.*.*", "nonsense", "deregister b.*.*", "deregister b.*.*"];
    for command in commands {
        client.say(command).await;
    }
    let before = client.until("websocket.deregister.a.*.*").await;
    assert_eq!(before.len(), 2 * DEEP);
    client.answer("register", "c.*.*").await;
    client.answer("error", "nonsense").await;
    client.answer("deregister", "b.*.*").await;
    assert!(client.event().await.error().contains("not registered"));
    server.announce("b", "the", "end").await;
    server.announce("c", "the", "end").await;
    assert_eq!(client.event().await.name(), "c.the.end");
    // Who says nothing is not held up, and gets everything.
    assert_eq!(other.until("c.the.end").await.len(), 3 * DEEP + 1);
}
