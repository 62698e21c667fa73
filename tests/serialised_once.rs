//! An event is written down once, whatever the number of subscribers and shards. Alone in its binary, because the counter
//! is the process's.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use common::Hydrant;
use futures_util::future::join_all;

const COUNTER: &str = "hydrant_event_serialisations_total{encoding=\"plain\"}";

const SUBSCRIBERS: usize = 1_000;

const EVENTS: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_serialised_once_for_a_thousand_subscribers() {
    for shards in [1, 4] {
        let server = Hydrant::start(&format!("shards = {shards}")).await;
        let mut clients = Vec::new();
        while clients.len() < SUBSCRIBERS {
            clients.extend(join_all((0..100).map(|_| server.watch(&["*.*.*"]))).await);
        }
        let before = server.metric(COUNTER).await;
        let events: Vec<String> = (0..EVENTS).map(|at| common::event("machines", "update", &at.to_string())).collect();
        server.post(&format!("[{}]", events.join(","))).await;
        for client in &mut clients {
            for at in 0..EVENTS {
                assert_eq!(client.event().await.key, at.to_string());
            }
        }
        assert_eq!(server.metric(COUNTER).await - before, EVENTS, "with {shards} shards");
        let deliveries = EVENTS * SUBSCRIBERS as u64;
        server.until("hydrant_deliveries_total", deliveries).await;
        server.until("hydrant_queue_events", 0).await;
        assert_eq!(server.metric("hydrant_deliveries_matched_total").await, deliveries);
        assert_eq!(server.metric("hydrant_deliveries_dropped_total{reason=\"slow_consumer\"}").await, 0);
    }
}
