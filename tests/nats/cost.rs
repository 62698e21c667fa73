//! What an event costs a node that takes it in over NATS, by the number of nodes and what their clients want. `make
//! nodes` prints it; `NODES_EVENTS` (400) events a second are posted to one node, each by a request of its own, for
//! `NODES_SECONDS` (5).

use std::time::{Duration, Instant};

use crate::common::JSON;
use crate::common::http::{self, Http};
use crate::process::NatsServer;
use crate::processes::{Process, Socket, number, open, say, token};

/// Nodes up to which it is measured.
const MOST: u64 = 6;

/// A machine of about a kilobyte.
fn body(number: u64) -> String {
    let params = "\"param\":\"0123456789abcdef0123456789abcdef\",".repeat(20);
    format!(
        r#"{{"Type":"machines","Action":"update","Key":"m{number}","Object":{{"Params":{{{params}"n":{number}}}}}}}"#
    )
}

/// Posts at a steady pace.
async fn post(http: &mut Http, bearer: &str, numbers: std::ops::Range<u64>, pace: Duration) {
    let headers = [("authorization", bearer), ("content-type", JSON)];
    let mut ticks = tokio::time::interval(pace);
    for number in numbers {
        ticks.tick().await;
        http.request("POST", "/api/v3/events", &headers, body(number)).await.taken();
    }
}

/// Reads what comes, so that nothing waits.
fn drain(mut socket: Socket) {
    tokio::spawn(async move { while futures_util::StreamExt::next(&mut socket).await.is_some() {} });
}

/// Time on the processor of each node while it has nothing to do.
async fn rest(nodes: &[Process], span: Duration) -> Vec<Duration> {
    let before: Vec<Duration> = nodes.iter().map(Process::cpu).collect();
    tokio::time::sleep(span).await;
    nodes.iter().zip(before).map(|(node, before)| node.cpu().saturating_sub(before)).collect()
}

async fn measure(count: u64, registration: Option<&str>, more: &str) {
    let (rate, seconds) = (number("NODES_EVENTS", 400), number("NODES_SECONDS", 5));
    let nats = NatsServer::start();
    let nodes = Process::several(&nats, usize::try_from(count).unwrap(), more, "").await;
    let token = token(nodes[0].node).await;
    if let Some(registration) = registration {
        for node in &nodes[1..] {
            drain(open(node.node.api, &token, registration, "").await.unwrap());
        }
    }
    let idle = rest(&nodes, Duration::from_secs(2)).await;
    let before: Vec<Duration> = nodes.iter().map(Process::cpu).collect();
    let (began, mut http) = (Instant::now(), Http::connect(nodes[0].node.api, false).await);
    let bearer = format!("Bearer {token}");
    post(&mut http, &bearer, 0..rate * seconds, Duration::from_secs(1) / u32::try_from(rate).unwrap()).await;
    for node in &nodes[1..] {
        http::metric_reaches(node.node.probe, "hydrant_nats_received_total", rate * seconds).await;
    }
    let span = began.elapsed();
    let cost = |(node, (before, idle)): (&Process, (Duration, Duration))| {
        let idle = idle.mul_f64(span.as_secs_f64() / 2.0);
        node.cpu().saturating_sub(before).saturating_sub(idle) / u32::try_from(rate * seconds).unwrap()
    };
    let costs: Vec<Duration> = nodes.iter().zip(before.into_iter().zip(idle)).map(cost).collect();
    let others = costs[1..].iter().sum::<Duration>() / u32::try_from(costs.len() - 1).unwrap_or(1).max(1);
    say(&format!(
        "{count} nodes, {registration:?} {more:?}: node that is posted to {:?}, each other {others:?}",
        costs[0]
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures time: make nodes"]
async fn what_an_event_costs_by_the_number_of_nodes() {
    for count in [1, 2, 3, 4, 6].into_iter().filter(|count| *count <= MOST) {
        measure(count, Some("machines.*.*"), "").await;
    }
    for (registration, more) in [
        (None, ""),
        (Some("jobs.*.*"), ""),
        (Some("jobs.*.*"), "shards = 1"),
        (Some("jobs.*.*"), "shards = 1\nreplay = { events = 0 }"),
    ] {
        measure(3, registration, more).await;
    }
}
