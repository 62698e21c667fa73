//! A stream that lacks what a node has: the history fills it. And what a stream need not hold.

use std::time::Duration;

use async_nats::jetstream::{self, Context};
use hydrant::clock::now;

use crate::common::Hydrant;
use crate::nodes::numbered;
use crate::process::NatsServer;
use crate::stream::{node, numbers, post, since, toml};

/// Has the stream store what is published, or not.
async fn store(context: &Context, on: bool) {
    let mut config = context.get_stream("EVENTS").await.unwrap().cached_info().config.clone();
    config.subjects = vec![if on { "hydrant.EVENTS.>" } else { "nothing.>" }.to_owned()];
    context.update_stream(config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_lacks_comes_from_the_history_in_its_place() {
    let nats = NatsServer::with_streams();
    let whole = toml(&nats, "", "").replace("events = 10\n", "");
    let first = Hydrant::start(&whole).await;
    first.until("hydrant_nats_stream_usable", 1).await;
    let began = now();
    let nodes = [first, Hydrant::start(&whole).await];
    for node in &nodes {
        node.until("hydrant_nats_peers", 1).await;
        node.until("hydrant_nats_stream_usable", 1).await;
    }
    let context = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let mut next = 0;
    // The last part is not stored, and no message behind it shows that.
    for stored in [true, false, true, false] {
        store(&context, stored).await;
        post(&nodes[0], 0, next..next + 500).await;
        post(&nodes[1], 1, next..next + 500).await;
        next += 500;
        for node in &nodes {
            node.until("hydrant_nats_published_total", next).await;
            node.until("hydrant_nats_received_total", next).await;
        }
    }
    for at in 0..2 {
        // The node was not connected then, so it asks the stream though its history is whole.
        let mut client = since(&nodes[1], began).await;
        client.register(&format!("machines,hydrant.*.*.Key=Re(^({at}/|replay|nats))")).await;
        let all = numbers_of(&mut client, at, 2000).await;
        assert!(all.into_iter().eq(0..2000), "node {at}");
        nodes[1].post(&numbered(at, 2000)).await;
        assert_eq!(numbers_of(&mut client, at, 1).await, [2000]);
    }
}

async fn numbers_of(client: &mut crate::common::ws::Client, at: usize, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    for _ in 0..count {
        let seen = client.event().await;
        assert_eq!(seen.r#type, "machines", "{}", seen.object);
        let (node, number) = seen.key.split_once('/').unwrap();
        assert_eq!(node, at.to_string());
        all.push(number.parse().unwrap());
    }
    all
}

/// Three heartbeats long.
#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeats_of_an_idle_node_are_not_stored() {
    let nats = NatsServer::with_streams();
    let nodes = [node(&nats, "", "").await, node(&nats, "", "").await];
    for node in &nodes {
        node.until("hydrant_nats_peers", 1).await;
    }
    let context = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let stored = async || context.get_stream("EVENTS").await.unwrap().cached_info().state.messages;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = stored().await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(stored().await, before);
    for node in &nodes {
        assert_eq!(node.metric("hydrant_nats_peers").await, 1, "they are heard all the same");
    }
    // Who has published nothing since is not waited for.
    let mut client = since(&nodes[0], now()).await;
    client.register("machines,hydrant.*.*").await;
    post(&nodes[0], 0, 0..10).await;
    assert_eq!(numbers(&mut client, 10).await, (0..10).collect::<Vec<_>>());
}
