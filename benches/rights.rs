//! What rights cost, and what logins cost others: whole servers in this process, real sockets, ratios within one run.
//!
//! - `claims`: the processor time of the shards for each delivery to 1,000 websockets, with 20 distinct sets of claims
//!   against all superusers, in bursts of 16 events.
//! - `logins`: the 99th percentile of the delivery latency on 100 websockets while 50 passwords are checked, against
//!   none.
//! - `users`: how long a wrong password takes for a user that exists, against one that does not.
//!
//! `cargo bench --bench rights -- [claims|logins|users] [--rounds N]`. The rounds of the two sides are interleaved, and
//! the ratio is that of the medians. Figures of a machine that does something else are noise.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and prints"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::people::{HASH, PASSWORD};
use common::ws::Client;
use common::{Hydrant, basic, http};
use futures_util::StreamExt;
use hydrant::auth::{Store, StoreError, TokenRequest};
use tokio::task::JoinSet;

const SUBSCRIBERS: usize = 1000;
const CLAIM_SETS: usize = 20;
const BURST: usize = 16;
const BURSTS: usize = 20;

fn main() {
    common::canary::stand_aside();
    let arguments: Vec<String> = std::env::args().collect();
    let rounds =
        arguments.iter().position(|word| word == "--rounds").map_or(5, |at| arguments[at + 1].parse().unwrap());
    let wanted = |name: &str| arguments.iter().any(|word| word == name);
    let all = !["claims", "logins", "users"].into_iter().any(wanted);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if all || wanted("claims") {
            Box::pin(claims(rounds)).await;
        }
        if all || wanted("logins") {
            Box::pin(logins(rounds)).await;
        }
        if all || wanted("users") {
            Box::pin(users(rounds)).await;
        }
    });
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(name: &str, unit: &str, base: Vec<f64>, other: Vec<f64>, bound: f64) {
    let (base, other) = (median(base), median(other));
    println!("{name}: {base:.3} {unit} against {other:.3} {unit}, ratio {:.3} (at most {bound})", other / base);
}

/// Processor time of threads by their ids, in nanoseconds.
fn cpu(threads: &[u32]) -> u64 {
    let of = |id: &u32| {
        let text = std::fs::read_to_string(format!("/proc/self/task/{id}/schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    threads.iter().map(of).sum()
}

/// The threads of this process that deliver events.
fn shards() -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is_shard = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("shard-"))
    };
    tasks.filter(is_shard).map(|path| path.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect()
}

fn sets(store: &mut Store) -> Result<(), StoreError> {
    for n in 0..CLAIM_SETS {
        let claims = vec!["bench/get/*".parse().unwrap(), format!("machines/get/m{n}").parse().unwrap()];
        store.set_role(&format!("set{n}"), claims)?;
        store.add_user(&format!("user{n}"), HASH.clone(), &[format!("set{n}")])?;
    }
    Ok(())
}

/// One side: a server with its subscribers, and the threads that are its shards.
struct Side {
    server: Hydrant,
    clients: Vec<Client>,
    shards: Vec<u32>,
}

impl Side {
    async fn start(principal: impl Fn(usize) -> String) -> Self {
        let before = shards();
        let server = Hydrant::with_people("shards = 1\nthrottle = { failures = 1000000 }", sets).await;
        let mut clients = Vec::with_capacity(SUBSCRIBERS);
        for n in 0..SUBSCRIBERS {
            let mut client = server.connect_as(&principal(n), &TokenRequest::default()).await;
            client.register("bench.*.*").await;
            clients.push(client);
        }
        // Only now have the threads said their names for sure: they have answered.
        let shards: Vec<u32> = shards().into_iter().filter(|id| !before.contains(id)).collect();
        assert_eq!(shards.len(), 1);
        Self { server, clients, shards }
    }

    /// Nanoseconds of the shards for each delivery.
    async fn round(&mut self) -> f64 {
        let object = "x".repeat(900);
        let one = serde_json::json!({"Type": "bench", "Action": "update", "Key": "k", "Object": {"Text": object}})
            .to_string();
        let body = format!("[{}]", vec![one; BURST].join(","));
        let before = cpu(&self.shards);
        for _ in 0..BURSTS {
            self.server.post(&body).await;
            let mut reading = JoinSet::new();
            for mut client in self.clients.drain(..) {
                reading.spawn(async move {
                    for _ in 0..BURST {
                        client.stream.next().await.unwrap().unwrap();
                    }
                    client
                });
            }
            self.clients = reading.join_all().await;
        }
        #[allow(clippy::cast_precision_loss, reason = "a mean")]
        let each = (cpu(&self.shards) - before) as f64 / (BURSTS * BURST * SUBSCRIBERS) as f64;
        each
    }
}

async fn claims(rounds: usize) {
    let mut root = Side::start(|_| "user:rocketskates".to_owned()).await;
    let mut mixed = Side::start(|n| format!("user:user{}", n % CLAIM_SETS)).await;
    root.round().await;
    mixed.round().await;
    let (mut base, mut other) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        base.push(root.round().await);
        other.push(mixed.round().await);
    }
    report("claims: 20 sets against superusers, shard CPU a delivery", "ns", base, other, 1.05);
}

/// The 99th percentile of the latency of two seconds of events, in milliseconds.
async fn latency(server: &Hydrant, clients: &mut Vec<Client>, epoch: Instant) -> f64 {
    let events = 400;
    let mut reading = JoinSet::new();
    for mut client in clients.drain(..) {
        reading.spawn(async move {
            let mut late = Vec::with_capacity(events);
            for _ in 0..events {
                let seen = client.event().await;
                late.push(epoch.elapsed().saturating_sub(Duration::from_nanos(seen.key.parse().unwrap())));
            }
            (client, late)
        });
    }
    for _ in 0..events {
        server.announce("bench", "update", &epoch.elapsed().as_nanos().to_string()).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut all = Vec::new();
    for (client, late) in reading.join_all().await {
        clients.push(client);
        all.extend(late);
    }
    all.sort_unstable();
    all[all.len() * 99 / 100].as_secs_f64() * 1e3
}

fn many(store: &mut Store, count: usize) -> Result<(), StoreError> {
    (0..count).try_for_each(|n| store.add_user(&format!("login{n}"), HASH.clone(), &[]))
}

async fn logins(rounds: usize) {
    let toml = "throttle = { failures = 1000000 }";
    let server = Hydrant::with_people(toml, |store| many(store, 50 * rounds)).await;
    let (mut clients, epoch) = (Vec::new(), Instant::now());
    for _ in 0..100 {
        clients.push(server.watch(&["bench.*.*"]).await);
    }
    latency(&server, &mut clients, epoch).await;
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        quiet.push(latency(&server, &mut clients, epoch).await);
        let mut attempts = JoinSet::new();
        for n in 0..50 {
            // Right passwords of users who were not here yet, so that each is hashed and none is held back.
            let (address, login) = (server.address(), basic(&format!("login{}:{PASSWORD}", 50 * round + n)));
            attempts.spawn(async move {
                let reply =
                    http::request(address, false, "GET", "/api/v3/info", &[("authorization", &login)], "").await;
                assert_eq!(reply.status.as_u16(), 200);
            });
        }
        busy.push(latency(&server, &mut clients, epoch).await);
        attempts.join_all().await;
    }
    report("logins: delivery p99 while 50 log in against none", "ms", quiet, busy, 1.2);
}

async fn users(rounds: usize) {
    let server = Hydrant::with_people("throttle = { failures = 1000000 }", |store| many(store, 20)).await;
    let mut times: BTreeMap<bool, Vec<f64>> = BTreeMap::new();
    // Wrong passwords of one network are held back after 60.
    for n in 0..(rounds * 5).min(25) {
        for known in [true, false] {
            let name = if known { format!("login{}", n % 20) } else { format!("nobody{}", n % 20) };
            let (login, start) = (basic(&format!("{name}:wrong")), Instant::now());
            let headers = [("authorization", login.as_str())];
            let reply = http::request(server.address(), false, "GET", "/api/v3/info", &headers, "").await;
            assert_eq!(reply.status.as_u16(), 403);
            times.entry(known).or_default().push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let (known, unknown) = (times.remove(&true).unwrap(), times.remove(&false).unwrap());
    report("users: a wrong password of nobody against one of a user", "ms", known, unknown, 1.1);
}
