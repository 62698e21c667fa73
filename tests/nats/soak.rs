//! Three nodes for a long time: events at a steady rate, clients that come and go with registrations of all kinds, and
//! rights and certificates that change again and again. Memory must not grow, latency must not drift, and nobody may
//! miss an event without being told. `make soak-nodes` runs it.
//!
//! `SOAK_MINUTES` is how long (3), `SOAK_EVENTS` the events a second in all (150), `SOAK_CHURN` the connections a
//! second that come and go (20), `SOAK_PERIOD` the seconds between two changes of rights and certificates (60). From
//! 30 minutes on, the slope of memory and the drift of the p99 are asserted; before that they say little.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use hydrant::auth::{TokenRequest, edit_store};
use hydrant::clock::now;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::common::http::{self, Http};
use crate::common::program::Program;
use crate::common::{NDJSON, socket, ws};
use crate::process::NatsServer;
use crate::processes::{between, number, say};

const NODES: usize = 3;
const WATCHERS: usize = 12;
/// Lines of one post.
const BATCH: u64 = 5;
/// Registrations of clients that come and go; `%` stands for a number.
const SPECS: [&str; 6] = [
    "soak.*.*",
    "soak,jobs.update.%",
    "soak.*.*.N=Re(^%)",
    "soak.*.*.And(Pad=Re((ab)+%$),N=Ne(%))",
    "machines,machine_jobs.*.%",
    "*.*.*.N=In(%,2,3)",
];

/// What all tasks share.
struct World {
    nodes: Vec<Program>,
    token: String,
    over: AtomicBool,
    /// Milliseconds, by when.
    latencies: Mutex<Vec<(Duration, u32)>>,
    begun: Instant,
    untold: AtomicU64,
    told: AtomicU64,
    received: AtomicU64,
    came: AtomicU64,
    failed: AtomicU64,
}

type Socket = WebSocketStream<socket::Socket>;

impl World {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A websocket with these registrations in its query.
    async fn open(&self, node: usize, registered: &[String]) -> Option<Socket> {
        let api = self.nodes[node].api;
        let socket = socket::try_over(tokio::net::TcpStream::connect(api).await.ok()?, true).await?;
        let specs: Vec<String> = registered.iter().map(|spec| format!("register={}", encoded(spec))).collect();
        let request =
            format!("wss://{api}/api/v3/ws?token={}&{}", self.token, specs.join("&")).into_client_request().unwrap();
        let made = tokio_tungstenite::client_async_with_config(request, socket, Some(ws::config())).await;
        made.ok().map(|(socket, _)| socket)
    }
}

fn encoded(spec: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'*' | b'-' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    spec.bytes().map(escape).collect()
}

/// Three nodes with the same users.
fn nodes(nats: &NatsServer) -> Vec<Program> {
    let toml = format!("shards = 1\nconnection_events = false\n[nats]\nurls = [\"{}\"]", nats.url());
    let mut nodes: Vec<Program> = Vec::new();
    for _ in 0..NODES {
        let dir = tempfile::tempdir().unwrap();
        if let Some(first) = nodes.first() {
            let data = dir.path().join("data");
            std::fs::create_dir(&data).unwrap();
            for name in ["auth.toml", "token-keys.toml"] {
                std::fs::copy(first.data_dir().join(name), data.join(name)).unwrap();
            }
        }
        nodes.push(Program::start_in(dir, &[], "self-signed", "level = 'info'", &toml));
    }
    nodes
}

/// Posts at a steady rate to one node until the end; how many it took.
async fn post(world: Arc<World>, node: usize, rate: u64) -> u64 {
    let bearer = format!("Bearer {}", world.token);
    let headers = [("authorization", bearer.as_str()), ("content-type", NDJSON)];
    let mut http = Http::connect(world.nodes[node].api, true).await;
    let mut pace = tokio::time::interval(Duration::from_micros(1_000_000 * BATCH / rate));
    let pad = "ab".repeat(100);
    let mut next = 0;
    while !world.is_over() {
        pace.tick().await;
        let line = |number: u64| {
            let time = now();
            format!(r#"{{"Time":"{time}","Type":"soak","Action":"update","Key":"{node}/{number}","#)
                + &format!(r#""Object":{{"N":"{number}","Pad":"{pad}"}}}}"#)
        };
        let lines: Vec<String> = (next..next + BATCH).map(line).collect();
        http.request("POST", "/api/v3/events", &headers, lines.join("\n")).await.taken();
        next += BATCH;
    }
    next
}

/// Watches one node until `ends` says how many each node posted and all of it has come, or was told as missing.
async fn watch(world: Arc<World>, node: usize, ends: tokio::sync::watch::Receiver<Option<[u64; NODES]>>) {
    let specs = ["soak.*.*", "hydrant.gap.*"].map(str::to_owned);
    let mut socket = world.open(node, &specs).await.expect("a watcher gets in");
    let (mut next, mut told) = (HashMap::<usize, u64>::new(), 0);
    let is_done = |next: &HashMap<usize, u64>| {
        let ends = *ends.borrow();
        ends.is_some_and(|ends| ends.iter().enumerate().all(|(node, end)| next.get(&node).is_some_and(|at| at >= end)))
    };
    let deadline = Duration::from_secs(20);
    while !is_done(&next) {
        let Ok(message) = tokio::time::timeout(deadline, socket.next()).await else {
            // All may have come before it was said how many there are.
            assert!(ends.borrow().is_none() || is_done(&next), "node {node}: the last events did not come: {next:?}");
            continue;
        };
        let Some(Ok(Message::Text(text))) = message else {
            assert!(matches!(message, Some(Ok(_))), "node {node}: a watcher was closed: {message:?}");
            continue;
        };
        let text = text.as_str();
        if text.contains("\"Type\":\"hydrant\"") {
            told += between(text, "\"Events\":", ",").and_then(|events| events.parse().ok()).unwrap_or(0);
            world.told.fetch_add(1, Ordering::Relaxed);
        } else if let Some((from, number)) = between(text, "\"Key\":\"", "\"").and_then(|key| key.split_once('/')) {
            let (from, number): (usize, u64) = (from.parse().unwrap(), number.parse().unwrap());
            let expected = next.insert(from, number + 1).unwrap_or(0);
            assert!(number >= expected, "node {node}: {from}/{number} comes after {expected}");
            let missing = number - expected;
            let known = missing.min(told);
            told -= known;
            world.untold.fetch_add(missing - known, Ordering::Relaxed);
            world.received.fetch_add(1, Ordering::Relaxed);
            if number % 16 == 0 {
                let sent: Timestamp = between(text, "\"Time\":\"", "\"").unwrap().parse().unwrap();
                let late = now().duration_since(sent).max(SignedDuration::ZERO).as_millis();
                world.latencies.lock().push((world.begun.elapsed(), u32::try_from(late).unwrap()));
            }
        }
    }
}

/// A client that comes, registers, reads a little, takes back what it registered, and goes in one of three ways.
async fn visit(world: Arc<World>, count: u64) {
    let spec = |at: u64| SPECS[usize::try_from(at).unwrap() % SPECS.len()].replace('%', &(count % 50).to_string());
    let specs = [spec(count), spec(count / 7)];
    let Some(mut socket) = world.open(usize::try_from(count).unwrap() % NODES, &specs).await else {
        world.failed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    world.came.fetch_add(1, Ordering::Relaxed);
    let _ = socket.send(Message::text(format!("register {}", spec(count / 3)))).await;
    for _ in 0..5 {
        let _ = tokio::time::timeout(Duration::from_millis(200), socket.next()).await;
    }
    match count % 3 {
        0 => drop(socket.close(None).await),
        1 => drop(socket.send(Message::text(format!("deregister {}", specs[0]))).await),
        _ => {}
    }
}

async fn churn(world: Arc<World>, rate: u64) {
    let mut pace = tokio::time::interval(Duration::from_micros(1_000_000 / rate));
    let mut visits = JoinSet::new();
    for count in 0.. {
        if world.is_over() {
            break;
        }
        pace.tick().await;
        visits.spawn(visit(Arc::clone(&world), count));
        while visits.try_join_next().is_some() {}
    }
    visits.join_all().await;
}

/// Other rights for a role, and another certificate, at every node; how often.
async fn change(world: Arc<World>, period: Duration) -> u64 {
    let mut changes = 0;
    let mut left = period;
    while !world.is_over() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        left = left.saturating_sub(Duration::from_millis(200));
        if !left.is_zero() {
            continue;
        }
        (left, changes) = (period, changes + 1);
        let claim = if changes % 2 == 0 { "soak/get/*" } else { "jobs/get/*" };
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        for node in &world.nodes {
            edit_store(&node.data_dir(), |store| store.set_role("changing", vec![claim.parse().unwrap()])).unwrap();
            std::fs::write(node.data_dir().join("tls-key.pem"), key.serialize_pem()).unwrap();
            std::fs::write(node.data_dir().join("tls-cert.pem"), made.pem()).unwrap();
        }
    }
    changes
}

/// Resident memory of all nodes, in MiB, every two seconds.
async fn measure(world: Arc<World>) -> Vec<(f64, f64)> {
    let mut samples = Vec::new();
    while !world.is_over() {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let bytes: u64 = world.nodes.iter().map(|node| node.memory("VmRSS")).sum();
        #[allow(clippy::cast_precision_loss, reason = "a figure")]
        samples.push((world.begun.elapsed().as_secs_f64() / 60.0, bytes as f64 / f64::from(1 << 20)));
    }
    samples
}

/// The slope of a line through these points.
fn slope(points: &[(f64, f64)]) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a figure")]
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let over: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    over / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}

/// The p99 of latencies between two times, in milliseconds.
fn p99(latencies: &[(Duration, u32)], from: Duration, to: Duration) -> u32 {
    let mut within: Vec<u32> =
        latencies.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, late)| *late).collect();
    within.sort_unstable();
    within.get(within.len() * 99 / 100).copied().unwrap_or(0)
}

/// Nothing is left of any connection.
async fn assert_empty(world: &World) {
    for node in &world.nodes {
        for gauge in ["connections", "registrations", "queue_events", "queue_bytes", "frames"] {
            http::metric_reaches(node.probe, &format!("hydrant_{gauge}"), 0).await;
        }
        assert_eq!(http::metric(node.probe, "hydrant_panics_total").await, 0);
    }
}

async fn start(nats: &NatsServer) -> Arc<World> {
    let nodes = nodes(nats);
    for node in &nodes {
        http::metric_reaches(node.probe, "hydrant_nats_peers", NODES as u64 - 1).await;
    }
    let token = issue(&nodes[0]);
    let count = AtomicU64::default;
    Arc::new(World {
        nodes,
        token,
        over: AtomicBool::new(false),
        latencies: Mutex::default(),
        begun: Instant::now(),
        untold: count(),
        told: count(),
        received: count(),
        came: count(),
        failed: count(),
    })
}

/// A token of the first user that lives as long as the test.
fn issue(node: &Program) -> String {
    use hydrant::auth::{AuthOptions, Authority};
    let authority = Authority::open_existing(&node.data_dir(), AuthOptions::default()).unwrap();
    let request = TokenRequest { ttl: Some(Duration::from_hours(24)), ..TokenRequest::default() };
    let issued = authority.issue_local(&"user:rocketskates".parse().unwrap(), &request, now()).unwrap();
    crate::common::canary::validator(issued.token.expose());
    issued.token.expose().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as it is told to: make soak-nodes"]
async fn three_nodes_for_a_long_time_do_not_grow_or_drift_or_lose() {
    let minutes = number("SOAK_MINUTES", 3);
    let (events, visits) = (number("SOAK_EVENTS", 150), number("SOAK_CHURN", 20));
    let period = Duration::from_secs(number("SOAK_PERIOD", 60));
    let nats = NatsServer::start();
    let world = start(&nats).await;
    let (all_posted, ends) = tokio::sync::watch::channel(None);
    let mut watchers = JoinSet::new();
    for at in 0..WATCHERS {
        watchers.spawn(watch(Arc::clone(&world), at % NODES, ends.clone()));
    }
    for node in &world.nodes {
        http::metric_reaches(node.probe, "hydrant_registrations", 2 * (WATCHERS / NODES) as u64).await;
    }
    let posters = [0, 1, 2].map(|node| tokio::spawn(post(Arc::clone(&world), node, events / NODES as u64)));
    let churn = tokio::spawn(churn(Arc::clone(&world), visits));
    let changes = tokio::spawn(change(Arc::clone(&world), period));
    let samples = tokio::spawn(measure(Arc::clone(&world)));
    tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
    world.over.store(true, Ordering::Relaxed);
    let whole = world.begun.elapsed();
    churn.await.unwrap();
    let (changes, samples) = (changes.await.unwrap(), samples.await.unwrap());
    let mut posted = [0; NODES];
    for (count, poster) in posted.iter_mut().zip(posters) {
        *count = poster.await.unwrap();
    }
    all_posted.send(Some(posted)).unwrap();
    watchers.join_all().await;
    assert_empty(&world).await;
    // What the first minutes need is not what grows.
    let settled = &samples[samples.len() / 6..];
    let latencies = world.latencies.lock().clone();
    let [early, late] = [(whole / 6, whole / 2), (whole / 2, whole)].map(|(from, to)| p99(&latencies, from, to));
    let slope = slope(settled);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    say(&format!(
        "{minutes} minutes, three nodes with TLS: {} events posted, {} received by {WATCHERS} watchers, \
         gap notices {}, missed untold {}; {} clients came and went ({} were refused), {changes} changes of rights \
         and certificates; memory of all {:.0} to {:.0} MiB, slope {slope:+.2} MiB a minute; p99 {early} ms in the \
         first half, {late} ms in the second",
        posted.iter().sum::<u64>(),
        count(&world.received),
        count(&world.told),
        count(&world.untold),
        count(&world.came),
        count(&world.failed),
        settled[0].1,
        settled[settled.len() - 1].1,
    ));
    assert_eq!(count(&world.untold), 0);
    if minutes >= 30 {
        assert!(slope < 1.0, "memory grows by {slope} MiB a minute");
        assert!(late * 10 <= early.max(10) * 11, "p99 drifts from {early} to {late} ms");
    }
}
