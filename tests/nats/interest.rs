//! Events that no client of a node has registered for are taken in together, and none is lost by that.

use crate::common::Hydrant;
use crate::nodes::numbered;
use crate::process::NatsServer;

fn toml(nats: &NatsServer, linger: &str) -> String {
    format!("shards = 2\n[nats]\nurls = [\"{}\"]\nlinger = \"{linger}\"\n", nats.url())
}

/// A node that takes everything in at once, and one that would rather wait for a minute.
async fn two(nats: &NatsServer) -> [Hydrant; 2] {
    let nodes = [Hydrant::start(&toml(nats, "0s")).await, Hydrant::start(&toml(nats, "1m")).await];
    for node in &nodes {
        node.until("hydrant_nats_peers", 1).await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wanted_comes_at_once_and_behind_what_came_before() {
    let nats = NatsServer::start();
    let [first, second] = two(&nats).await;
    let mut jobs = second.watch(&["jobs.*.*"]).await;
    for number in 0..100 {
        first.post(&numbered(0, number)).await;
    }
    first.announce("jobs", "update", "end").await;
    assert_eq!(jobs.event().await.name(), "jobs.update.end");
    assert_eq!(second.metric("hydrant_nats_received_total").await, 101);
    // Whoever registers now gets what comes from now on, at once.
    let mut machines = second.watch(&["machines.*.*"]).await;
    for number in 100..200 {
        first.post(&numbered(0, number)).await;
        assert_eq!(machines.event().await.key, format!("0/{number}"));
    }
    machines.deregister("machines.*.*").await;
    machines.register("machine_jobs.*.m1").await;
    first.post(r#"{"Type":"jobs","Action":"update","Key":"j","Object":{"Machine":"m1"}}"#).await;
    assert_eq!(machines.event().await.key, "j");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_gathered_is_in_the_history() {
    let nats = NatsServer::start();
    let [first, second] = two(&nats).await;
    let began = hydrant::clock::now();
    for number in 0..100 {
        first.post(&numbered(0, number)).await;
    }
    let mut client = crate::stream::since(&second, began).await;
    client.register("machines.*.*").await;
    for number in 0..100 {
        assert_eq!(client.event().await.key, format!("0/{number}"));
    }
}
