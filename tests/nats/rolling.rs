//! Two nodes behind HAProxy, restarted one after the other while 200 clients post and 500 watch: no post is refused,
//! and nobody misses an event without being told. `make rolling` runs it and prints what it saw; `ROLLING_PAUSE_MS` is
//! the time between two posts of one client, `ROLLING_WATCHERS` the number of those who watch, and
//! `ROLLING_LAME_DUCK=0s` shows what happens without a lame duck.
//!
//! The two are processes of the program under test, share their events over NATS and have the same users. Clients
//! behave as `docs/protocol.md` says: a poster keeps its connection, a watcher that is closed comes back at once and
//! asks for what it missed by the Time of its last event, less five seconds because it may meet the other node.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio_tungstenite::tungstenite::Message;

use crate::common::JSON;
use crate::common::balancer::{Balancer, Kind};
use crate::common::http::{self, Http};
use crate::process::NatsServer;
use crate::processes::{Process, between, number, open, say, token};

const POSTERS: u64 = 200;
/// What a watcher asks for again when it comes to another node.
const OVERLAP: SignedDuration = SignedDuration::from_secs(5);

/// What happened.
#[derive(Default)]
struct Seen {
    posted: Mutex<HashSet<u64>>,
    refused: Mutex<Vec<String>>,
    reconnects: AtomicU64,
    failed_connects: AtomicU64,
    gaps: AtomicU64,
    twice: AtomicU64,
    /// Times from a close to the next websocket.
    away: Mutex<Vec<Duration>>,
    over: AtomicBool,
}

/// Posts until the end, each post once.
async fn post(poster: u64, balancer: SocketAddr, token: Arc<str>, pause: Duration, seen: Arc<Seen>) {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
    let mut kept = Http::connect(balancer, false).await;
    tokio::time::sleep(pause.mul_f64(f64::from(u32::try_from(poster).unwrap()) / 200.0)).await;
    for number in 0.. {
        if seen.over.load(Ordering::Relaxed) {
            return;
        }
        let id = poster * 1_000_000 + number;
        let body = format!(r#"{{"Type":"rolling","Action":"post","Key":"{id}"}}"#);
        match kept.try_request("POST", "/api/v3/events", &headers, body).await {
            Some(reply) if reply.status.as_u16() == 204 => {
                seen.posted.lock().insert(id);
            }
            Some(reply) => seen.refused.lock().push(format!("{}: {}", reply.status, reply.body)),
            None => {
                seen.refused.lock().push("no answer".to_owned());
                kept = Http::connect(balancer, false).await;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Watches until it has seen everything; what it did not get.
struct Watcher {
    got: HashSet<u64>,
    last: Option<Timestamp>,
    told: bool,
}

impl Watcher {
    fn take(&mut self, text: &str, seen: &Seen) {
        let kind = between(text, "\"Type\":\"", "\"").unwrap_or_default();
        if kind == "hydrant" {
            self.told = true;
            seen.gaps.fetch_add(1, Ordering::Relaxed);
        } else if kind == "rolling" {
            let id = between(text, "\"Key\":\"", "\"").unwrap().parse().unwrap();
            let time = between(text, "\"Time\":\"", "\"").unwrap().parse().unwrap();
            self.last = self.last.max(Some(time));
            if !self.got.insert(id) {
                seen.twice.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn run(mut self, balancer: SocketAddr, token: Arc<str>, seen: Arc<Seen>) -> Self {
        let mut closed: Option<Instant> = None;
        loop {
            let since = self.last.map_or_else(String::new, |last| format!("&since={}", last - OVERLAP));
            let Some(mut socket) = open(balancer, &token, "rolling.post.*", &since).await else {
                seen.failed_connects.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if let Some(closed) = closed {
                seen.reconnects.fetch_add(1, Ordering::Relaxed);
                seen.away.lock().push(closed.elapsed());
            }
            loop {
                let message = tokio::time::timeout(Duration::from_millis(500), socket.next()).await;
                match message {
                    Ok(Some(Ok(Message::Text(text)))) => self.take(text.as_str(), &seen),
                    Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                    Ok(_) => break,
                    Err(_) if self.is_done(&seen) => return self,
                    Err(_) => {}
                }
            }
            closed = Some(Instant::now());
        }
    }

    fn is_done(&self, seen: &Seen) -> bool {
        seen.over.load(Ordering::Relaxed) && (self.told || seen.posted.lock().is_subset(&self.got))
    }
}

fn figures(seen: &Seen, restarts: &[Duration], pause: Duration, watchers: u64) -> String {
    let mut away = seen.away.lock().clone();
    away.sort_unstable();
    let at = |percent: usize| away.get((away.len() * percent / 100).min(away.len().saturating_sub(1))).copied();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "posters {POSTERS}, watchers {watchers}, pause {pause:?}: posted {}, refused {}; restarts {restarts:?}; \
         reconnects {}, of them tried again {}, away p50 {:?} p99 {:?}; came twice {}, gaps told {}",
        seen.posted.lock().len(),
        seen.refused.lock().len(),
        count(&seen.reconnects),
        count(&seen.failed_connects),
        at(50),
        at(99),
        count(&seen.twice),
        count(&seen.gaps),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes and needs haproxy: make rolling"]
async fn a_rolling_restart_refuses_no_post_and_loses_nothing_untold() {
    let pause = Duration::from_millis(number("ROLLING_PAUSE_MS", 10_000));
    let count = number("ROLLING_WATCHERS", 500);
    let nats = NatsServer::start();
    let lame_duck = std::env::var("ROLLING_LAME_DUCK").unwrap_or_else(|_| "5s".to_owned());
    let settings = format!("timeouts = {{ lame_duck = \"{lame_duck}\" }}");
    let mut nodes = Process::several(&nats, 2, &settings, "").await;
    let balancer = Balancer::start(Kind::HaproxyHttp, &[nodes[0].node, nodes[1].node], &[]).await;
    let (token, seen) = (token(nodes[0].node).await, Arc::new(Seen::default()));
    let watchers: Vec<_> = (0..count)
        .map(|_| {
            let watcher = Watcher { got: HashSet::new(), last: None, told: false };
            tokio::spawn(watcher.run(balancer.address, Arc::clone(&token), Arc::clone(&seen)))
        })
        .collect();
    for _ in 0..600 {
        let mut open = 0;
        for node in &nodes {
            open += http::metric(node.node.probe, "hydrant_registrations").await;
        }
        if open == count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let posters: Vec<_> = (0..POSTERS)
        .map(|poster| tokio::spawn(post(poster, balancer.address, Arc::clone(&token), pause, Arc::clone(&seen))))
        .collect();
    let calm = pause.max(Duration::from_secs(12));
    tokio::time::sleep(calm).await;
    let mut restarts = Vec::new();
    for node in &mut nodes {
        restarts.push(node.restart().await);
        tokio::time::sleep(calm).await;
    }
    seen.over.store(true, Ordering::Relaxed);
    for poster in posters {
        poster.await.unwrap();
    }
    let mut untold = 0;
    for watcher in watchers {
        match tokio::time::timeout(Duration::from_mins(1), watcher).await {
            Ok(watcher) => drop(watcher.unwrap()),
            Err(_) => untold += 1,
        }
    }
    let figures = figures(&seen, &restarts, pause, count);
    assert!(seen.refused.lock().is_empty(), "{figures}\n{:?}", seen.refused.lock());
    assert_eq!(untold, 0, "watchers that miss something: {figures}");
    say(&figures);
}
