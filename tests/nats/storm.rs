//! Three nodes behind HAProxy are restarted one right after the other, while events come in and many clients watch:
//! each node's clients come back together, some seconds later, and most of them at the node that has started last and
//! remembers nothing. `make storm` prints how long they take to be where the events are.
//!
//! `STORM_CLIENTS` (500) is how many watch, `STORM_EVENTS` (400) how many events come in a second, `STORM_PARTS` (1)
//! into how many parts they fall, of which each client wants one, `STORM_AWAY_MS` (3000) how long a client that was
//! closed waits. With `HYDRANT_UNDER_TEST=/path/to/hydrant` another build is measured: `git worktree add ../before
//! 84c3713` is what there was before replays shared what they read.
//!
//! Clients behave as `docs/protocol.md` says: they ask for what they missed by the Time of their last event, less five
//! seconds because they may meet another node. A client has caught up when it gets the first event that is younger than
//! its connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use hydrant::clock::now;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio_tungstenite::tungstenite::Message;

use crate::common::NDJSON;
use crate::common::balancer::{Balancer, Kind};
use crate::common::http::{self, Http};
use crate::process::NatsServer;
use crate::processes::{Process, Socket, between, number, open, say, token};

const OVERLAP: SignedDuration = SignedDuration::from_secs(5);

/// Between two posts.
const TICK: Duration = Duration::from_millis(25);

/// A set of small numbers.
#[derive(Default)]
struct Numbers(Vec<u64>);

impl Numbers {
    /// Returns whether it is new.
    fn insert(&mut self, number: usize) -> bool {
        let (at, bit) = (number / 64, 1 << (number % 64));
        self.0.resize(self.0.len().max(at + 1), 0);
        let new = self.0[at] & bit == 0;
        self.0[at] |= bit;
        new
    }

    fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & 1 << (number % 64) != 0)
    }
}

struct World {
    balancer: SocketAddr,
    token: Arc<str>,
    parts: usize,
    away: Duration,
    /// Those that were answered 204.
    posted: Mutex<Vec<usize>>,
    over: AtomicBool,
}

impl World {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Posts so many events at each tick until the end. Returns how many posts were not answered 204.
    async fn post(self: Arc<Self>, batch: usize) -> usize {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("content-type", NDJSON)];
        let mut http = Http::connect(self.balancer, false).await;
        let (mut ticks, mut next, mut refused) = (tokio::time::interval(TICK), 0, 0);
        while !self.is_over() {
            ticks.tick().await;
            let numbers: Vec<usize> = (next..next + batch).collect();
            next += batch;
            let line = |n: &usize| format!(r#"{{"Type":"storm","Action":"part{}","Key":"{n}"}}"#, n % self.parts);
            let body = numbers.iter().map(line).collect::<Vec<_>>().join("\n");
            match http.try_request("POST", "/api/v3/events", &headers, body).await {
                Some(reply) if reply.status.as_u16() == 204 => self.posted.lock().extend(numbers),
                _ => {
                    refused += 1;
                    http = Http::connect(self.balancer, false).await;
                }
            }
        }
        refused
    }
}

/// One that watches.
#[derive(Default)]
struct Watcher {
    got: Numbers,
    /// The Time of the last event.
    last: Option<String>,
    /// How long each return took from the connection to the first event that is younger.
    returns: Vec<Duration>,
    told: usize,
    twice: usize,
}

impl Watcher {
    async fn run(mut self, part: usize, world: Arc<World>) -> Self {
        while !world.is_over() {
            let (began, connected) = (Instant::now(), now());
            let since = self.last.as_ref().map(|last| last.parse::<Timestamp>().unwrap() - OVERLAP);
            let since = since.map_or_else(String::new, |since| format!("&since={since}"));
            match open(world.balancer, &world.token, &format!("storm.part{part}.*"), &since).await {
                Some(socket) => self.watch(socket, &world, (began, connected)).await,
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        self
    }

    /// Reads until it is closed, and waits before it comes back.
    async fn watch(&mut self, mut socket: Socket, world: &World, (began, connected): (Instant, Timestamp)) {
        let mut lags = self.last.is_some();
        while !world.is_over() {
            match tokio::time::timeout(Duration::from_millis(500), socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    let live = self.take(text.as_str(), lags.then_some(connected));
                    if lags && live {
                        self.returns.push(began.elapsed());
                        lags = false;
                    }
                }
                Ok(Some(Ok(_))) | Err(_) => {}
                Ok(_) => return tokio::time::sleep(world.away).await,
            }
        }
        if lags {
            self.returns.push(Duration::MAX);
        }
    }

    /// Returns whether the event is younger than that.
    fn take(&mut self, text: &str, than: Option<Timestamp>) -> bool {
        match between(text, "\"Type\":\"", "\"") {
            Some("hydrant") => self.told += 1,
            Some("storm") => {
                let time = between(text, "\"Time\":\"", "\"").unwrap();
                self.twice +=
                    usize::from(!self.got.insert(between(text, "\"Key\":\"", "\"").unwrap().parse().unwrap()));
                self.last = Some(time.to_owned());
                return than.is_some_and(|than| time.parse::<Timestamp>().unwrap() >= than);
            }
            _ => {}
        }
        false
    }
}

fn figures(watchers: &[Watcher], restarts: &[Duration]) -> String {
    let mut returns: Vec<Duration> = watchers.iter().flat_map(|watcher| watcher.returns.clone()).collect();
    returns.sort();
    let within = |limit: Duration| returns.partition_point(|span| *span <= limit) * 100 / returns.len().max(1);
    let at = |percent: usize| returns.get(percent * (returns.len().max(1) - 1) / 100).copied().unwrap_or_default();
    let sum = |of: fn(&Watcher) -> usize| watchers.iter().map(of).sum::<usize>();
    format!(
        "{} returns: {}% caught up within 2 s, {}% within 10 s; p50 {:?}, p90 {:?}, p99 {:?}, all {:?}; told a gap {}; \
         came twice {}; restarts {restarts:?}",
        returns.len(),
        within(Duration::from_secs(2)),
        within(Duration::from_secs(10)),
        at(50),
        at(90),
        at(99),
        at(100),
        sum(|watcher| watcher.told),
        sum(|watcher| watcher.twice),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute and needs haproxy: make storm"]
async fn clients_of_three_nodes_that_are_restarted_catch_up() {
    let [clients, events] = [number("STORM_CLIENTS", 500), number("STORM_EVENTS", 400)];
    let parts = usize::try_from(number("STORM_PARTS", 1)).unwrap();
    let nats = NatsServer::with_streams();
    let mut nodes = Process::several(&nats, 3, "timeouts = { lame_duck = \"3s\" }", "stream = \"EVENTS\"").await;
    let all: Vec<_> = nodes.iter().map(|process| process.node).collect();
    let balancer = Balancer::start(Kind::HaproxyHttp, &all, &[]).await;
    let world = Arc::new(World {
        balancer: balancer.address,
        token: token(all[0]).await,
        parts,
        away: Duration::from_millis(number("STORM_AWAY_MS", 3000)),
        posted: Mutex::default(),
        over: AtomicBool::new(false),
    });
    let watch = |client: usize| tokio::spawn(Watcher::default().run(client % parts, Arc::clone(&world)));
    let watchers: Vec<_> = (0..usize::try_from(clients).unwrap()).map(watch).collect();
    let registered = async {
        loop {
            let mut open = 0;
            for node in &all {
                open += http::metric(node.probe, "hydrant_registrations").await;
            }
            if open == clients {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), registered).await.expect("all watch");
    let batch = usize::try_from(u128::from(events) * TICK.as_millis() / 1000).unwrap().max(1);
    let poster = tokio::spawn(Arc::clone(&world).post(batch));
    tokio::time::sleep(Duration::from_secs(12)).await;
    let mut restarts = Vec::new();
    for node in &mut nodes {
        restarts.push(node.restart().await);
        // The balancer sends it clients from now on.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    world.over.store(true, Ordering::Relaxed);
    let refused = poster.await.unwrap();
    let mut done = Vec::new();
    for watcher in watchers {
        done.push(watcher.await.unwrap());
    }
    let accepted = world.posted.lock();
    // The last second's may still have been on their way.
    let old = &accepted[..accepted.len().saturating_sub(usize::try_from(events).unwrap())];
    let lacks = |(client, watcher): (usize, &Watcher)| {
        watcher.told == 0 && old.iter().any(|number| number % parts == client % parts && !watcher.got.contains(*number))
    };
    let untold = done.iter().enumerate().filter(|one| lacks(*one)).count();
    say(&format!(
        "{clients} clients, {events} events/s in {parts} parts: {}; posted {}, posts refused {refused}; clients that \
         miss something untold: {untold}",
        figures(&done, &restarts),
        accepted.len()
    ));
    assert_eq!(untold, 0);
}
