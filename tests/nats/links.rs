//! Every link of a node with a fault of its own: to its clients, to its endpoint and to NATS. Slow, narrow, reset and
//! half open, and what is promised then (docs/reliability.md, "Faults"). `make faults` runs them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use hydrant::clock::now;
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::common::drp::{self, Drp};
use crate::common::link::Link;
use crate::common::ws::{Client, Show};
use crate::common::{Hydrant, Seen, patiently, socket};
use crate::process::NatsServer;
use crate::processes::{open, say};

const SPECS: [&str; 3] = ["machines.*.*", "hydrant.gap.*", "end.*.*"];

/// A node whose three links are in the test's hand, and another one that shares its events and has none.
struct World {
    node: Arc<Hydrant>,
    other: Hydrant,
    drp: Arc<Drp>,
    to_node: Link,
    to_drp: Link,
    to_nats: Link,
    _nats: NatsServer,
}

impl World {
    async fn start(of_upstream: &str, of_node: &str) -> Self {
        let (nats, drp) = (NatsServer::start(), Arc::new(Drp::start().await));
        let port = |url: &str| url.trim_start_matches("nats://").parse().unwrap();
        let (to_drp, to_nats) = (Link::to(drp.address), Link::to(port(&nats.url())));
        let of_upstream = format!("spread = \"10ms\"\n{of_upstream}");
        let upstream = drp::upstream(&format!("\"http://{}\"", to_drp.address), &of_upstream);
        let node = Hydrant::start(&format!(
            "shards = 1\n{of_node}\n{upstream}\n[nats]\nurls = [\"nats://{}\"]\n",
            to_nats.address
        ))
        .await;
        drp.until_registered(1).await;
        let other = crate::nodes::node(&nats, "").await;
        node.until("hydrant_nats_peers", 1).await;
        other.until("hydrant_nats_peers", 1).await;
        let to_node = Link::to(node.address());
        Self { node: Arc::new(node), other, drp, to_node, to_drp, to_nats, _nats: nats }
    }

    /// A client of the node, over its link.
    async fn far(&self, more: &str) -> Client {
        let registered: Vec<String> = SPECS.iter().map(|spec| format!("register={spec}")).collect();
        let query = format!("token={}&{}{more}", self.node.token().await, registered.join("&"));
        let socket = socket::connect(self.to_node.address, false).await;
        self.node.handshake(socket, &Show::Query(&query), &[]).await.unwrap()
    }
}

/// An event whose key tells where it came in and its number there.
fn numbered(from: &str, number: u64) -> String {
    format!(
        r#"{{"Time":"{}","Type":"machines","Action":"update","Key":"{from}/{number}","Object":{{"N":{number}}}}}"#,
        now()
    )
}

/// Has the endpoint and the node get events, a pair every two milliseconds, until told to stop or so many were.
fn load(world: &World, most: u64, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (node, drp, stop) = (Arc::clone(&world.node), Arc::clone(&world.drp), Arc::clone(stop));
    tokio::spawn(async move {
        let mut next = 0;
        while next < most && !stop.load(Ordering::SeqCst) {
            drp.publish(&numbered("drp", next));
            node.post(&numbered("post", next)).await;
            next += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        next
    })
}

/// What a client heard, each thing once.
#[derive(Default)]
struct Heard {
    keys: Vec<String>,
    known: HashSet<String>,
    gaps: Vec<(String, serde_json::Value)>,
    /// Where in `keys` the endpoint's gaps were told.
    told_at: Vec<usize>,
    last: Option<Timestamp>,
}

impl Heard {
    /// Whether that was the end.
    fn hear(&mut self, seen: Seen) -> bool {
        if seen.r#type == "websocket" {
            return false;
        }
        self.last = seen.time.parse().ok().max(self.last);
        if seen.r#type == "hydrant" {
            self.told_at.push(self.keys.len());
            self.gaps.push((seen.key, serde_json::from_str(seen.object.get()).unwrap()));
        } else if seen.r#type == "machines" && self.known.insert(seen.key.clone()) {
            self.keys.push(seen.key);
        }
        seen.r#type == "end"
    }

    /// The numbers of what came in there, with their positions.
    fn numbers(&self, from: &str) -> Vec<(usize, u64)> {
        let number = |(at, key): (usize, &String)| Some((at, key.strip_prefix(from)?.strip_prefix('/')?.parse().ok()?));
        self.keys.iter().enumerate().filter_map(number).collect()
    }

    fn assert_whole(&self, from: &str, count: u64) {
        let numbers = self.numbers(from);
        assert!(numbers.iter().map(|(_, number)| *number).eq(0..count), "{from}: {} of {count}", numbers.len());
    }

    /// In order, and nothing is missing without a notice in its place.
    fn assert_told(&self, from: &str) -> u64 {
        let (mut next, mut after, mut missing) = (0, 0, 0);
        for (at, number) in self.numbers(from) {
            assert!(number >= next, "{from}/{number} comes after {}", next - 1);
            let told = self.told_at.iter().any(|told| (after..=at).contains(told));
            assert!(number == next || told, "{from}: {next} to {number} are missing and nobody said so");
            missing += number - next;
            (next, after) = (number + 1, at);
        }
        missing
    }

    /// Events that NATS's gaps speak of.
    fn told_of_nodes(&self) -> u64 {
        let gaps = self.gaps.iter().filter(|(key, gap)| key == "nats" && gap["Reason"] != "disconnected");
        gaps.filter_map(|(_, gap)| gap["Events"].as_u64()).sum()
    }
}

async fn until_end(client: &mut Client) -> Heard {
    let mut heard = Heard::default();
    while !heard.hear(client.event().await) {}
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn slow_ways_change_no_order_and_lose_nothing() {
    const COUNT: u64 = 300;
    let world = World::start("", "").await;
    for link in [&world.to_node, &world.to_drp, &world.to_nats] {
        link.delay(Duration::from_millis(100));
    }
    let mut clients = [world.far("").await, world.other.watch(&SPECS).await];
    load(&world, COUNT, &Arc::default()).await.unwrap();
    world.other.until_that("hydrant_nats_received_total", |received| received >= 2 * COUNT).await;
    world.node.announce("end", "at", "node").await;
    for client in &mut clients {
        let heard = until_end(client).await;
        assert!(heard.gaps.is_empty(), "{:?}", heard.gaps);
        heard.assert_whole("drp", COUNT);
        heard.assert_whole("post", COUNT);
    }
    assert_eq!(world.node.metric("hydrant_nats_echoes_dropped_total").await, 0);
    say("100 ms on each link: 600 events at two nodes, 0 missing, 0 out of order, 0 gaps");
}

/// Follows the node over its link, and comes back by `?since=` whenever it is cut, until the end; how often that was.
async fn follow(world: Arc<World>) -> (Heard, u32) {
    // Whatever comes first may be cut off too.
    let (mut heard, mut cuts) = (Heard { last: Some(now()), ..Heard::default() }, 0);
    let (token, specs) = (world.node.token().await.to_owned(), SPECS.join("&register="));
    loop {
        let since = heard.last.map_or_else(String::new, |last| format!("&since={last}"));
        if let Some(mut socket) = patiently("a try", open(world.to_node.address, &token, &specs, &since)).await {
            while let Some(Ok(message)) = patiently("a message", socket.next()).await {
                if let Message::Text(text) = message
                    && heard.hear(Seen::read(&text))
                {
                    return (heard, cuts);
                }
            }
            cuts += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A load on all links, a client of the node that comes back whenever it is cut, and one of the other node.
struct Trial {
    world: Arc<World>,
    stop: Arc<AtomicBool>,
    load: JoinHandle<u64>,
    far: JoinHandle<(Heard, u32)>,
    beside: Client,
}

/// What a trial has cost.
struct Outcome {
    /// Posts, and as many events of the endpoint.
    posted: u64,
    /// Events of the endpoint.
    lost: u64,
    /// What the other node did not get.
    missing: u64,
    /// How often the client came back.
    cuts: u32,
}

impl Trial {
    async fn start() -> Self {
        let world = Arc::new(World::start("", "").await);
        let (stop, beside) = (Arc::default(), world.other.watch(&SPECS).await);
        let far = tokio::spawn(Box::pin(follow(Arc::clone(&world))));
        world.node.until("hydrant_registrations", 3).await;
        let load = load(&world, u64::MAX, &stop);
        Self { world, stop, load, far, beside }
    }

    /// Once all links stand again: posts are not lost, and all other losses have been told by their numbers.
    async fn end(mut self) -> Outcome {
        let world = &self.world;
        world.node.until("hydrant_nats_connected", 1).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.stop.store(true, Ordering::SeqCst);
        let posted = self.load.await.unwrap();
        // A heartbeat shows the loss of the last ones, too.
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.node.announce("end", "at", "node").await;
        let (far, cuts) = self.far.await.unwrap();
        let beside = until_end(&mut self.beside).await;
        far.assert_whole("post", posted);
        let lost = far.assert_told("drp");
        let missing = far.known.difference(&beside.known).count() as u64;
        let (told, notices) = (beside.told_of_nodes(), far.gaps.len() as u64);
        // Notices are events too, and may be among those that the other node has missed.
        assert!((missing..=missing + notices).contains(&told), "{missing} missing, {told} told: {:?}", beside.gaps);
        beside.assert_told("post");
        Outcome { posted, lost, missing, cuts }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { posted, lost, missing, cuts } = self;
        write!(
            f,
            "{posted} posts and as many events of the endpoint; the endpoint's link lost {lost}, the other node \
             {missing}, all told; the client resumed {cuts} times and missed no post"
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn ways_that_are_reset_lose_nothing_untold() {
    const RESETS: u32 = 12;
    let trial = Trial::start().await;
    let world = Arc::clone(&trial.world);
    for round in 0..RESETS {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Each is reset when it stands again.
        world.node.until("hydrant_registrations", 3).await;
        world.node.until("hydrant_nats_connected", 1).await;
        world.drp.until_registered(1 + (round as usize + 1) / 3).await;
        [&world.to_node, &world.to_drp, &world.to_nats][round as usize % 3].reset();
    }
    world.drp.until_registered(1 + RESETS as usize / 3).await;
    let outcome = trial.end().await;
    assert_eq!(outcome.cuts, RESETS / 3);
    say(&format!("{RESETS} resets: {outcome}"));
}

/// In the middle of a greeting, of an answer, of a frame: each time the link is made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn ways_that_break_after_so_many_bytes_lose_nothing_untold() {
    let trial = Trial::start().await;
    let world = Arc::clone(&trial.world);
    let mut breaks = 0;
    for (link, after) in [
        (&world.to_node, &[0, 1, 90, 200, 400, 1_000, 4_000][..]),
        (&world.to_drp, &[0, 1, 90, 200, 400, 1_000, 4_000][..]),
        (&world.to_nats, &[0, 90, 450, 600][..]),
    ] {
        for bytes in after {
            let before = link.accepted();
            link.break_after(*bytes);
            link.reset();
            // The second one comes when the first has broken.
            patiently("a link that breaks and another one", async {
                while link.accepted() < before + 2 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            breaks += link.accepted() - before;
            link.break_after(u64::MAX);
        }
        let registrations = world.drp.registrations();
        world.to_drp.reset();
        world.drp.until_registered(registrations + 1).await;
    }
    say(&format!("{breaks} links that broke after 0 to 4,000 bytes: {}", trial.end().await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn half_open_ways_are_found_wherever_they_are() {
    let times = "timeouts = { ping = \"500ms\", idle = \"4s\" }";
    let world = World::start("ping = \"500ms\"\nidle = \"4s\"\n", times).await;
    let mut near = world.node.watch(&SPECS).await;
    let far = world.far("").await;
    let begun = Instant::now();
    world.to_node.silence();
    let gone = world.node.until("hydrant_disconnects_total{reason=\"silent\"}", 1);
    // The one that answers pings stays, and it answers only while it is read.
    let stays = async { while near.stream.next().await.is_some() {} };
    tokio::select! { () = gone => {}, () = stays => panic!("a good connection was closed") }
    let client = begun.elapsed();
    assert_eq!(world.to_node.connections(), 1, "the link stands, and nobody was told");
    let begun = Instant::now();
    world.to_drp.silence();
    world.drp.until_registered(2).await;
    let endpoint = begun.elapsed();
    let begun = Instant::now();
    world.to_nats.silence();
    world.node.until("hydrant_nats_reconnects_total", 1).await;
    let nats = begun.elapsed();
    world.node.until("hydrant_nats_connected", 1).await;
    drop((near, far));
    world.node.until_empty().await;
    say(&format!(
        "half open: a client was found after {client:.1?} (idle 4 s), the endpoint after {endpoint:.1?} (idle 4 s), \
         NATS after {nats:.1?}; nothing was left of it"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn narrow_ways_cost_only_who_is_behind_them() {
    const COUNT: u64 = 3_000;
    let outbox = "[limits]\nsocket_buffer = \"8KiB\"\n[outbox]\nevents = 256\nage = \"off\"";
    let world = World::start("", outbox).await;
    world.to_node.narrow(100_000);
    let mut narrow = world.far("&overflow=drop-oldest").await;
    let mut patient = world.far("").await;
    for _ in SPECS {
        assert_eq!(patient.event().await.action, "register");
    }
    patient.deregister("machines.*.*").await;
    let mut healthy = world.node.watch(&SPECS).await;
    let reading = tokio::spawn(async move { (until_end(&mut healthy).await, healthy) });
    let filler = "x".repeat(1_000);
    for first in (0..COUNT).step_by(50) {
        let line =
            |number| format!(r#"{{"Type":"machines","Action":"update","Key":"post/{number}","Object":"{filler}"}}"#);
        world.node.post_lines(&(first..first + 50).map(line).collect::<Vec<_>>().join("\n")).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.node.announce("end", "at", "node").await;
    let (healthy, _client) = reading.await.unwrap();
    healthy.assert_whole("post", COUNT);
    assert!(healthy.gaps.is_empty());
    assert!(until_end(&mut patient).await.gaps.is_empty(), "who wants little is not closed");
    world.to_node.narrow(0);
    let heard = until_end(&mut narrow).await;
    let missing = heard.assert_told("post");
    let told: u64 = heard.gaps.iter().filter_map(|(_, gap)| gap["Events"].as_u64()).sum();
    assert_eq!((heard.keys.len() as u64 + told, missing), (COUNT, told));
    assert!(told > 0, "the way was not narrow");
    say(&format!(
        "100 KB/s: of {COUNT} events {} came and {told} were told as dropped; others lost 0",
        heard.keys.len()
    ));
}

/// Nothing else comes from the server meanwhile: there is no other node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn a_large_event_passes_a_narrow_way_to_nats() {
    let nats = NatsServer::start();
    let way = Link::to(nats.url().trim_start_matches("nats://").parse().unwrap());
    let node = Hydrant::start(&format!("shards = 1\n[nats]\nurls = [\"nats://{}\"]\n", way.address)).await;
    node.until("hydrant_nats_connected", 1).await;
    let beside = async_nats::connect(nats.url()).await.unwrap();
    let mut passed = beside.subscribe("hydrant.EVENTS.machines.>").await.unwrap();
    beside.flush().await.unwrap();
    way.narrow(150_000);
    let object = "x".repeat(1_000_000);
    node.post(&format!(r#"{{"Type":"machines","Action":"update","Key":"large","Object":"{object}"}}"#)).await;
    node.post(&numbered("post", 1)).await;
    for subject in ["hydrant.EVENTS.machines.update.large", "hydrant.EVENTS.machines.update.post=2F1"] {
        let message = patiently("an event", passed.next()).await.unwrap();
        assert_eq!(message.subject.as_str(), subject);
    }
    assert_eq!((node.metric("hydrant_nats_reconnects_total").await, way.accepted()), (0, 1));
    say("150 KB/s to NATS: an event of 1 MB and the next passed, over one connection");
}
