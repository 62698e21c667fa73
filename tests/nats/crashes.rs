//! SIGKILL of a node under load, and the storm of its clients: where they go, what they miss, and that it is told.
//! `make faults` runs it. The nodes are processes of the program under test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::common::http::{self, Http};
use crate::common::{NDJSON, patiently, ws};
use crate::process::NatsServer;
use crate::processes::{Process, between, open, say, token};

const NODES: usize = 3;

/// Watchers of each node.
const WATCHERS: usize = 40;

/// What a client that comes to another node asks for again, as docs/protocol.md says.
const OVERLAP: SignedDuration = SignedDuration::from_secs(5);

/// What all tasks share.
struct World {
    nodes: Vec<SocketAddr>,
    token: Arc<str>,
    over: AtomicBool,
}

impl World {
    /// Posts five events at a time to one node until the end, or until the node is gone. Returns how many it took.
    async fn post(self: Arc<Self>, node: usize) -> u64 {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("content-type", NDJSON)];
        let mut http = Http::connect(self.nodes[node], false).await;
        let mut next = 0;
        while !self.over.load(Ordering::SeqCst) {
            let line = |number: u64| format!(r#"{{"Type":"crash","Action":"post","Key":"{node}/{number}"}}"#);
            let lines: Vec<String> = (next..next + 5).map(line).collect();
            match http.try_request("POST", "/api/v3/events", &headers, lines.join("\n")).await {
                Some(reply) if reply.status.as_u16() == 204 => next += 5,
                _ => break,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        next
    }
}

/// A client, and what it got of each node.
struct Watcher {
    node: usize,
    got: Vec<Vec<u64>>,
    last: Timestamp,
    /// Gap notices.
    told: Vec<String>,
    moves: usize,
}

impl Watcher {
    fn new(node: usize) -> Self {
        let (got, last) = (vec![Vec::new(); NODES], hydrant::clock::now());
        Self { node, got, last, told: Vec::new(), moves: 0 }
    }

    /// Watches until it has as many events of each node as that, and goes to the next node when it is cut off.
    async fn run(mut self, world: Arc<World>, mut ends: tokio::sync::watch::Receiver<Option<[u64; NODES]>>) -> Self {
        while !self.has_all(*ends.borrow()) {
            let since = format!("&since={}", self.last - OVERLAP);
            let specs = "crash.*.*&register=hydrant.gap.*";
            let opened = patiently("a try", open(world.nodes[self.node], &world.token, specs, &since)).await;
            let Some(mut socket) = opened else {
                self.node = (self.node + 1) % NODES;
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            while !self.has_all(*ends.borrow()) {
                let message = tokio::select! {
                    message = socket.next() => message,
                    changed = ends.changed() => { changed.unwrap(); continue }
                };
                match message {
                    Some(Ok(Message::Text(text))) => self.take(text.as_str()),
                    Some(Ok(_)) => {}
                    _ => {
                        self.moves += 1;
                        break;
                    }
                }
            }
        }
        self
    }

    fn has_all(&self, ends: Option<[u64; NODES]>) -> bool {
        ends.is_some_and(|ends| {
            self.got.iter().zip(ends).all(|(got, end)| got.last().is_some_and(|last| *last + 1 >= end))
        })
    }

    fn take(&mut self, text: &str) {
        if text.contains("\"Type\":\"hydrant\"") {
            self.told.push(text.to_owned());
        } else if let Some(key) = between(text, "\"Key\":\"", "\"")
            && let Some((node, number)) = key.split_once('/')
        {
            let (got, number): (_, u64) = (&mut self.got[node.parse::<usize>().unwrap()], number.parse().unwrap());
            // After a move some come again.
            if got.last().is_none_or(|last| *last < number) {
                got.push(number);
            }
            self.last = self.last.max(between(text, "\"Time\":\"", "\"").unwrap().parse().unwrap());
        }
    }

    /// Events of that node that are not among those that came.
    fn missing(&self, node: usize) -> u64 {
        self.got[node].last().map_or(0, |last| last + 1 - self.got[node].len() as u64)
    }
}

/// The clients of the dead node go to the others and miss nothing of those; of the dead node they miss at most its last
/// events. Nobody else notices anything but that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn clients_of_a_node_that_is_killed_go_on_at_the_others() {
    let nats = NatsServer::start();
    let mut processes = Process::several(&nats, NODES, "", "").await;
    let nodes: Vec<SocketAddr> = processes.iter().map(|process| process.node.api).collect();
    let token = token(processes[0].node).await;
    let world = Arc::new(World { nodes, token, over: AtomicBool::new(false) });
    let (all_posted, ends) = tokio::sync::watch::channel(None);
    let watch = |at: usize| tokio::spawn(Watcher::new(at % NODES).run(Arc::clone(&world), ends.clone()));
    let watchers: Vec<_> = (0..NODES * WATCHERS).map(watch).collect();
    for process in &processes {
        http::metric_reaches(process.node.probe, "hydrant_registrations", 2 * WATCHERS as u64).await;
    }
    let posters: Vec<_> = (0..NODES).map(|node| tokio::spawn(Arc::clone(&world).post(node))).collect();
    for process in &processes {
        http::metric_satisfies(process.node.probe, "hydrant_nats_received_total", |received| received > 100).await;
    }
    let killed = Instant::now();
    processes[0].kill();
    let refuge = async {
        let mut registered = 0;
        while registered < 2 * (NODES * WATCHERS) as u64 {
            registered = 0;
            for process in &processes[1..] {
                registered += http::metric(process.node.probe, "hydrant_registrations").await;
            }
        }
    };
    patiently("all clients at the other nodes", refuge).await;
    let back = killed.elapsed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.over.store(true, Ordering::SeqCst);
    let posted: Vec<u64> = join_all(posters).await.into_iter().map(Result::unwrap).collect();
    // What the dead one had taken in last is nowhere.
    all_posted.send(Some([1, posted[1], posted[2]])).unwrap();
    let mut moved = 0;
    for watcher in watchers {
        let watcher = patiently("the last events", watcher).await.unwrap();
        let missing: Vec<u64> = (0..NODES).map(|node| watcher.missing(node)).collect();
        assert_eq!(missing, [0; NODES], "{:?}", watcher.told);
        assert!(watcher.moves <= 1 && watcher.got[0].len() as u64 <= posted[0] + 5);
        moved += watcher.moves;
    }
    assert_eq!(moved, WATCHERS, "nobody else was cut off");
    say(&format!(
        "one of three nodes killed under load: its {WATCHERS} clients were at the others after {back:.1?}; of {} posts \
         at the others each of {} clients got all",
        posted[1] + posted[2],
        NODES * WATCHERS
    ));
}

/// A try to open a websocket: the status, 0 if there was none.
async fn try_open(address: SocketAddr, token: &str) -> Result<WebSocketStream<TcpStream>, (u16, Duration)> {
    let request = format!("ws://{address}/api/v3/ws?token={token}&register=crash.*.*").into_client_request().unwrap();
    let Ok(stream) = TcpStream::connect(address).await else { return Err((0, Duration::ZERO)) };
    match client_async_with_config(request, stream, Some(ws::config())).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => {
            let after = answer.headers().get("retry-after").map(|after| after.to_str().unwrap().parse().unwrap());
            Err((answer.status().as_u16(), Duration::from_secs(after.unwrap_or(0))))
        }
        Err(_) => Err((0, Duration::ZERO)),
    }
}

/// Comes back until it is let in, no sooner than it is told; what it was answered on the way.
async fn come_back(address: SocketAddr, token: Arc<str>) -> (WebSocketStream<TcpStream>, Vec<u16>) {
    let mut answers = Vec::new();
    loop {
        match patiently("an answer", try_open(address, &token)).await {
            Ok(socket) => return (socket, answers),
            Err((status, after)) => {
                answers.push(status);
                tokio::time::sleep(after.max(Duration::from_millis(50))).await;
            }
        }
    }
}

/// All at once, at a server that has just started: each is let in, or told by 503 when to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn a_thousand_clients_of_a_server_that_is_killed_come_back_at_once() {
    const CLIENTS: usize = 1_000;
    let nats = NatsServer::start();
    let mut process = Process::several(&nats, 1, "", "").await.remove(0);
    let (node, token) = (process.node, token(process.node).await);
    let all = || join_all((0..CLIENTS).map(|_| come_back(node.api, Arc::clone(&token))));
    let clients = patiently("all clients", all()).await;
    http::metric_reaches(node.probe, "hydrant_registrations", CLIENTS as u64).await;
    process.kill();
    drop(clients);
    let began = Instant::now();
    process.start_again();
    let clients = patiently("all clients again", all()).await;
    let back = began.elapsed();
    let mut answers = BTreeMap::new();
    clients.iter().flat_map(|(_, answers)| answers).for_each(|status| *answers.entry(*status).or_insert(0) += 1);
    assert!(answers.keys().all(|status| [0, 503].contains(status)), "{answers:?}");
    http::metric_reaches(node.probe, "hydrant_registrations", CLIENTS as u64).await;
    let headers = [("authorization", &*format!("Bearer {token}")), ("content-type", NDJSON)];
    let body = r#"{"Type":"crash","Action":"post","Key":"last"}"#;
    http::request(node.api, false, "POST", "/api/v3/events", &headers, body).await.taken();
    let hear = |(mut socket, _): (WebSocketStream<TcpStream>, Vec<u16>)| async move {
        loop {
            let message = patiently("the event", socket.next()).await.unwrap().unwrap();
            if message.to_text().is_ok_and(|text| text.contains("\"Key\":\"last\"")) {
                return;
            }
        }
    };
    join_all(clients.into_iter().map(hear)).await;
    say(&format!(
        "killed with {CLIENTS} clients, who came back at once: all were registered {back:.1?} after the new start, \
         answers before that {answers:?} (0: not yet listening)"
    ));
}
