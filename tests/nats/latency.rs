//! How long an event takes to a client of its own node and to one of another node. `make soak` prints it.

use std::time::{Duration, Instant};

use crate::common::http::Http;
use crate::common::ws::Client;
use crate::common::{JSON, Seen};
use crate::nodes::{nodes, numbered};
use crate::process::NatsServer;

const RATE: u32 = 200;
const EVENTS: u32 = 5 * RATE;

/// When each event came, in the order of their numbers.
async fn arrivals(mut client: Client) -> Vec<Instant> {
    let mut all = Vec::new();
    while all.len() < EVENTS as usize {
        let text = client.text().await;
        all.push(Instant::now());
        assert_eq!(Seen::read(&text).key, format!("0/{}", all.len() - 1));
    }
    all
}

/// The middle of the times from post to arrival, and the one that a hundredth of them exceeds.
fn quantiles(posted: &[Instant], arrived: &[Instant]) -> (Duration, Duration) {
    let mut times: Vec<Duration> = posted.iter().zip(arrived).map(|(from, to)| *to - *from).collect();
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures time: `make soak` runs it on a machine that has nothing else to do"]
async fn latency_from_node_to_node() {
    let nats = NatsServer::start();
    let nodes = nodes(&nats, 2).await;
    let near = tokio::spawn(arrivals(nodes[0].watch(&["machines.*.*"]).await));
    let far = tokio::spawn(arrivals(nodes[1].watch(&["machines.*.*"]).await));
    let mut http = Http::connect(nodes[0].address(), false).await;
    let bearer = format!("Bearer {}", nodes[0].token().await);
    let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
    let mut posted = Vec::new();
    let mut beat = tokio::time::interval(Duration::from_secs(1) / RATE);
    for number in 0..EVENTS {
        beat.tick().await;
        let body = numbered(0, number.into());
        posted.push(Instant::now());
        http.request("POST", "/api/v3/events", &headers, body).await.taken();
    }
    println!("{EVENTS} posts of one event at {RATE}/s, from the post until a client has it");
    for (which, arrived) in [("the same node", near.await.unwrap()), ("another node, over NATS", far.await.unwrap())] {
        let (middle, high) = quantiles(&posted, &arrived);
        println!("{which}: p50 {middle:?}, p99 {high:?}");
    }
}
