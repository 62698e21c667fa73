//! What the server does to those who hold it up, how many it takes, and how it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common;
use crate::common::program::Program;
use crate::common::raw::{Raw, masked};
use crate::common::ws::{Client, Show};
use crate::common::{Hydrant, NDJSON, event, http, patiently};
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// The server must end the connection, whatever it says before; how long it took.
async fn ended(raw: &mut Raw, begun: Instant) -> Duration {
    let mut said = Vec::new();
    // A reset is an end too.
    let _ = patiently("the end", raw.0.read_to_end(&mut said)).await;
    assert!(!said.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&said));
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_never_ends_is_cut() {
    let server = Hydrant::start("timeouts = { header = \"300ms\" }").await;
    for head in ["", "GET /api/v3/info HTTP/1.1\r\nHost: x\r\nAuthoriz", "GET /api/v3/in"] {
        let begun = Instant::now();
        let mut raw = server.dial().await;
        raw.send(head.as_bytes()).await;
        let took = ended(&mut raw, begun).await;
        assert!(took >= Duration::from_millis(100), "{head:?} after {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_handshake_that_never_ends_is_cut() {
    let server = Hydrant::start_tls("timeouts = { handshake = \"300ms\" }").await;
    let begun = Instant::now();
    let mut raw = Raw(common::socket::connect(server.address(), false).await);
    raw.send(&[0x16, 0x03, 0x01]).await;
    let took = ended(&mut raw, begun).await;
    assert!(took >= Duration::from_millis(300), "after {took:?}");
    server.until("hydrant_handshakes_rejected_total{reason=\"tls\"}", 1).await;
    // Somebody who is honest may be as slow on a busy machine, and comes again.
    let honest = async {
        loop {
            let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
            if let Some(socket) = common::socket::try_over(stream, true).await {
                return Raw(socket);
            }
        }
    };
    let mut honest = patiently("a handshake", honest).await;
    honest.send(b"GET /api/v3/info HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(honest.head().await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_connections_and_no_more() {
    let server = Hydrant::start("limits = { connections = 5 }").await;
    let token = format!("token={}", server.token().await);
    let mut clients = join_all((0..5).map(|_| server.watch(&["a.b.c"]))).await;
    for _ in 0..3 {
        let Err(refusal) = server.try_connect(&Show::Query(&token), &[]).await else { panic!("a sixth was let in") };
        assert_eq!(refusal.status, 503, "{refusal:?}");
        assert!(refusal.headers.contains_key("retry-after"));
        assert!(refusal.body.contains("too many connections"), "{refusal:?}");
    }
    assert_eq!(server.metric("hydrant_handshakes_rejected_total{reason=\"limited\"}").await, 3);
    // REST goes on, and so do those inside; a place that is given back can be taken.
    server.announce("a", "b", "c").await;
    for client in &mut clients {
        assert_eq!(client.event().await.key, "c");
    }
    drop(clients.pop());
    server.until("hydrant_connections", 4).await;
    server.watch(&["a.b.c"]).await;
}

const FILLER: usize = 4 << 10;

/// Lines of events of about 4 KiB.
fn load(count: usize) -> String {
    let filler = "x".repeat(FILLER);
    let line = |at| format!(r#"{{"Type":"load","Action":"update","Key":"{at}","Object":"{filler}"}}"#);
    (0..count).map(line).collect::<Vec<_>>().join("\n")
}

async fn read_all_and_the_close(mut client: Client, count: usize) {
    for at in 0..count {
        assert_eq!(client.event().await.key, at.to_string());
    }
    assert_eq!(client.closed().await, (1001, "server is shutting down".to_owned(), 0));
}

/// Everything that was taken in is delivered, however much it is, then everybody gets a close.
async fn graceful(server: Hydrant, readers: usize, count: usize) {
    let clients = join_all((0..readers).map(|_| server.watch(&["load.*.*"]))).await;
    let silent = server.connect().await;
    let mut tasks: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(read_all_and_the_close(client, count))).collect();
    tasks.push(tokio::spawn(read_all_and_the_close(silent, 0)));
    readiness(&server).await;
    server.try_post(NDJSON, &load(count)).await.taken();
    let address = server.address();
    // Those who read have a patience of their own, for each event.
    server.stop().await;
    for task in tasks {
        task.await.unwrap();
    }
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_end_delivers_what_was_taken_and_closes_everybody() {
    let toml = "shards = 2\ntimeouts = { drain = \"10m\" }";
    graceful(Hydrant::start(toml).await, 20, 100).await;
    graceful(Hydrant::start_tls(toml).await, 20, 100).await;
}

/// What a server tells of itself once it is ready. A shard that the machine gives no time for a second is stalled.
async fn readiness(server: &Hydrant) -> serde_json::Value {
    let probe = server.server.probe_address().unwrap();
    let ready = async {
        loop {
            let reply = http::request(probe, false, "GET", "/readyz", &[], "").await;
            if reply.status == 200 {
                return reply.json();
            }
        }
    };
    patiently("readiness", ready).await
}

/// More than the kernel holds. The outbox has room for all of it, because until the server is told to end it does not
/// wait for readers, and how far they are by then is the machine's business.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_end_does_not_outrun_its_readers() {
    let toml = "shards = 1\n[outbox]\nbytes = \"48MiB\"\n[timeouts]\ndrain = \"10m\"";
    graceful(Hydrant::start(toml).await, 8, 4_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_waits_no_longer_than_told_for_those_who_do_not_go() {
    let server = Hydrant::start("timeouts = { close = \"100ms\", drain = \"300ms\" }").await;
    // It neither reads nor goes: it is cut when its time to close is over, within the drain's.
    let stuck = server.raw().await;
    let begun = Instant::now();
    patiently("the end of the server", server.stop()).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(100), "after {took:?}");
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simulated_fleet_comes_through_the_same_door() {
    let server = Hydrant::start("demo = 3\ndemo_rate = 500").await;
    let mut client = server.watch(&["*.*.*"]).await;
    for _ in 0..20 {
        let seen = client.event().await;
        assert!(!seen.r#type.is_empty() && !seen.action.is_empty(), "{seen:?}");
    }
    server.until_that("hydrant_events_received_total{source=\"demo\"}", |events| events >= 20).await;
    server.post(&event("a", "b", "c")).await;
    client.until("a.b.c").await;
}

/// So many messages are one read of the server's.
const BURST: usize = 1_400;

/// No more messages than this of one connection are dealt with in a turn of its shard.
const MESSAGES_A_TURN: usize = 64;

/// The turns that a shard takes to answer a burst of messages that come together.
async fn turns_for(server: &Hydrant, frame: impl Fn(usize) -> Vec<u8>) -> u64 {
    let mut raw = server.raw().await;
    server.until("hydrant_connections", 1).await;
    let burst: Vec<u8> = (0..BURST).flat_map(frame).collect();
    assert!(burst.len() < 64 << 10, "{} bytes", burst.len());
    let before = server.metric("hydrant_shard_turns_total{shard=\"0\"}").await;
    raw.send(&burst).await;
    for _ in 0..BURST {
        raw.frame().await;
    }
    let after = server.metric("hydrant_shard_turns_total{shard=\"0\"}").await;
    drop(raw);
    server.until("hydrant_connections", 0).await;
    after - before
}

/// Whatever a client sends, the others' turn comes in between: commands that are taken, refused or in vain, and control
/// frames.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_client_sends_together_is_spread_over_many_turns() {
    let server = Hydrant::start("shards = 1").await;
    let text = |text: String| masked(0x81, text.as_bytes());
    let least = (BURST / MESSAGES_A_TURN) as u64;
    for (what, turns) in [
        ("registers", turns_for(&server, |at| text(format!("register a.b.{at}"))).await),
        ("bad filters", turns_for(&server, |at| text(format!("register a.b.c.x=Re(({at}"))).await),
        ("deregisters in vain", turns_for(&server, |at| text(format!("deregister a.b.{at}"))).await),
        ("unknown verbs", turns_for(&server, |_| text("x".to_owned())).await),
        ("binary messages", turns_for(&server, |_| masked(0x82, b"x")).await),
        ("pings", turns_for(&server, |_| masked(0x89, b"x")).await),
    ] {
        assert!(turns >= least, "{what}: {turns} turns");
    }
}

/// Lists that make this many combinations.
fn wide(names: usize) -> String {
    let list = |prefix| (0..names).map(|at| format!("{prefix}{at}")).collect::<Vec<_>>().join(",");
    format!("{}.{}.{}", list("t"), list("a"), list("k"))
}

/// However much others send: they go on until the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_does_not_wait_for_all_the_commands_of_others() {
    let server = Hydrant::start("shards = 1\n[outbox]\nevents = 100000\nbytes = \"48MiB\"").await;
    let mut healthy = server.watch(&["x.y.z"]).await;
    // As many combinations as the trie takes.
    let spec = wide(10);
    let pair = [format!("register {spec}"), format!("deregister {spec}")];
    let frames: Vec<u8> = pair.iter().flat_map(|text| masked(0x81, text.as_bytes())).collect();
    let frames = Arc::new(frames.repeat(50));
    let mut floods = JoinSet::new();
    for _ in 0..3 {
        let (mut read, mut write) = tokio::io::split(server.raw().await.0);
        let (frames, mut answers) = (Arc::clone(&frames), vec![0; 64 << 10]);
        floods.spawn(async move { while write.write_all(&frames).await.is_ok() {} });
        // What is answered has to be read.
        floods.spawn(async move { while read.read(&mut answers).await.is_ok_and(|count| count > 0) {} });
    }
    server.until_that("hydrant_commands_total{outcome=\"deregistered\"}", |done| done > 100).await;
    server.announce("x", "y", "z").await;
    assert_eq!(healthy.event().await.key, "z");
    // A command of somebody else's comes in between too.
    healthy.register("x.y.a").await;
    assert!(floods.try_join_next().is_none(), "a flood has ended");
}

/// A machine that gives the server no time is the server's own silence and nobody else's. The client may be held up for
/// as long as it may be silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_closed_for_silence_because_the_server_was_held_up() {
    let program = Program::start("off", "level = 'info'", "[timeouts]\nping = \"1s\"\nidle = \"6s\"");
    let token = program.token().await;
    let socket = common::socket::connect(program.api, false).await;
    let request = format!("ws://{}/api/v3/ws?token={token}", program.api).into_client_request().unwrap();
    let (stream, answer) = tokio_tungstenite::client_async(request, socket).await.unwrap();
    let mut client = Client { stream, answered: answer.headers().clone() };
    client.register("a.b.c").await;
    program.hold_up(Duration::from_secs(8)).await;
    // Longer than a client may be silent; it answers pings as it reads.
    for _ in 0..8 {
        let message = patiently("a ping", client.stream.next()).await.expect("it is open").unwrap();
        assert!(message.is_ping(), "{message:?}");
    }
    client.register("a.b.d").await;
    assert_eq!(http::metric(program.probe, "hydrant_disconnects_total{reason=\"silent\"}").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_tells_of_the_shards() {
    let server = Hydrant::start("shards = 2").await;
    let shards = &readiness(&server).await["Shards"];
    assert_eq!(shards["Stalled"], 0, "{shards}");
    assert!(shards["LongestTurnMilliseconds"].is_u64(), "{shards}");
}
