//! What a front costs beside a direct connection, in one run. Prints figures and judges none of them:
//! `cargo test --release --test front cost -- --ignored --nocapture`.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]
#![allow(clippy::print_stdout, reason = "figures are what it is for")]

use std::time::{Duration, Instant};

use crate::common::drp::{self, Drp};
use crate::common::http::{self, Http};
use crate::common::program::Program;
use crate::common::{NDJSON, canary, patiently, socket, ws};
use futures_util::StreamExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const CLIENTS: usize = 100;
/// A phase of fan-out takes so long.
const PHASE: Duration = Duration::from_secs(3);
/// Events that go through the link alone.
const FLOOD: usize = 100_000;

fn start(toml: &str) -> Program {
    Program::start("off", "format = 'json'", &format!("connection_events = false\n{toml}"))
}

async fn metric(program: &Program, name: &str) -> f64 {
    let text = http::request(program.probe, false, "GET", "/metrics", &[], "").await.body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

async fn cpu_of(program: &Program) -> f64 {
    metric(program, "process_cpu_seconds_total").await
}

async fn ready(program: &Program) {
    patiently("readiness", async {
        while http::request(program.probe, false, "GET", "/readyz", &[], "").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn shown(program: &Program) -> String {
    format!("Bearer {}", program.token().await)
}

type Client = WebSocketStream<socket::Socket>;

async fn connect(program: &Program, bearer: &str) -> Client {
    use futures_util::SinkExt;
    let mut request = format!("ws://{}/api/v3/ws", program.api).into_client_request().unwrap();
    request.headers_mut().insert("authorization", bearer.parse().unwrap());
    let stream = socket::connect(program.api, false).await;
    let (mut client, _) =
        tokio_tungstenite::client_async_with_config(request, stream, Some(ws::config())).await.unwrap();
    client.send(Message::text("register *.*.*")).await.unwrap();
    take(&mut client, 1).await;
    client
}

async fn take(client: &mut Client, mut count: usize) {
    while count > 0 {
        if let Message::Text(_) = patiently("an event", client.next()).await.unwrap().unwrap() {
            count -= 1;
        }
    }
}

fn event(number: usize) -> String {
    let object = "x".repeat(900);
    format!(
        "{{\"Time\":\"2026-01-02T03:04:05Z\",\"Type\":\"n\",\"Action\":\"a\",\"Key\":\"{number}\",\
         \"Principal\":\"\",\"Object\":\"{object}\",\"Original\":null}}"
    )
}

/// Rounds of `batch` events, posted at the first and awaited by all clients of the last of these servers. Returns the
/// median time of a round and the CPU time of each server by delivery.
async fn rounds(servers: &[&Program], batch: usize) -> (Duration, Vec<f64>) {
    let (first, last) = (servers[0], servers[servers.len() - 1]);
    let bearer = shown(last).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(connect(last, &bearer).await);
    }
    let (mut poster, bearer) = (Http::connect(first.api, false).await, shown(first).await);
    let body = (0..batch).map(event).collect::<Vec<_>>().join("\n");
    let headers = [("authorization", bearer.as_str()), ("content-type", NDJSON)];
    let mut before = Vec::new();
    for server in servers {
        before.push(cpu_of(server).await);
    }
    let (mut times, started) = (Vec::new(), Instant::now());
    while started.elapsed() < PHASE {
        let begun = Instant::now();
        poster.request("POST", "/api/v3/events", &headers, body.clone()).await.taken();
        for client in &mut clients {
            take(client, batch).await;
        }
        times.push(begun.elapsed());
    }
    let mut cpu = Vec::new();
    for (server, before) in servers.iter().zip(before) {
        cpu.push((cpu_of(server).await - before) * 1e6 / (times.len() * batch * CLIENTS) as f64);
    }
    times.sort();
    (times[times.len() / 2], cpu)
}

fn behind(url: &str) -> String {
    drp::upstream(&format!("{url:?}"), "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "prints figures and takes a while"]
async fn a_front_beside_a_direct_connection() {
    canary::stand_aside();
    let upstream = start("");
    let front = start(&behind(&format!("http://{}", upstream.api)));
    ready(&front).await;
    println!("{CLIENTS} clients, events of 1 KB; CPU in microseconds by delivery");
    for batch in [1, 16] {
        let (direct, cpu) = rounds(&[&upstream], batch).await;
        let (behind, both) = rounds(&[&upstream, &front], batch).await;
        println!(
            "K={batch}: direct {direct:?}, {:.2} us; behind a front {behind:?}, endpoint {:.2} us, front {:.2} us; \
             time {:.2}x, added {:?}; front beside direct {:.2}x; endpoint beside direct {:.2}x",
            cpu[0],
            both[0],
            both[1],
            behind.as_secs_f64() / direct.as_secs_f64(),
            behind.saturating_sub(direct),
            both[1] / cpu[0],
            both[0] / cpu[0],
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "prints figures and takes a while"]
async fn events_through_a_link() {
    const CHUNK: usize = 500;
    canary::stand_aside();
    let drp = Drp::start().await;
    let front = start(&behind(&drp.url()));
    ready(&front).await;
    let chunk: Vec<u8> = (0..CHUNK).flat_map(|number| drp::text(&event(number))).collect();
    let (before, started) = (cpu_of(&front).await, Instant::now());
    (0..FLOOD / CHUNK).for_each(|_| drp.send_raw(&chunk));
    let name = format!("hydrant_upstream_events_total{{endpoint=\"{}\"}}", drp.address);
    patiently("the flood", async {
        while metric(&front, &name).await < FLOOD as f64 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_of(&front).await - before);
    println!(
        "{FLOOD} events of 1 KB through one link: {:.0} a second, {:.2} us of CPU each",
        FLOOD as f64 / seconds,
        cpu * 1e6 / FLOOD as f64
    );
}
