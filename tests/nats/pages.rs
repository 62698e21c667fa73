//! Many replays of the same past read the stream once.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;
use futures_util::future::join_all;
use hydrant::clock::now;

use crate::common::patiently;
use crate::process::NatsServer;
use crate::stream::{node, numbers, post, since};

/// Clients that come back at once, as after a restart.
const CLIENTS: usize = 10;

const EVENTS: u64 = 1000;

/// The positions of the pages that were asked for, and how often each.
async fn asked(requests: &mut async_nats::Subscriber) -> BTreeMap<u64, usize> {
    let mut asked = BTreeMap::new();
    while let Ok(Some(request)) = tokio::time::timeout(Duration::from_millis(300), requests.next()).await {
        let request: serde_json::Value = serde_json::from_slice(&request.payload).unwrap();
        if let Some(position) = request["seq"].as_u64() {
            *asked.entry(position).or_default() += 1;
        }
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_miss_the_same_share_the_reading() {
    let nats = NatsServer::with_streams();
    let node = node(&nats, "", "").await;
    node.until("hydrant_nats_stream_usable", 1).await;
    let began = now();
    post(&node, 0, 0..EVENTS).await;
    // Who may subscribe sees the requests.
    let client = async_nats::connect(nats.url()).await.unwrap();
    let stream = jetstream::new(client.clone()).get_stream("EVENTS").await.unwrap();
    let stored = async {
        while stream.get_info().await.unwrap().state.messages < EVENTS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    patiently("the events in the stream", stored).await;
    let mut requests = client.subscribe("$JS.API.DIRECT.GET.>").await.unwrap();
    client.flush().await.unwrap();
    let replays = (0..CLIENTS).map(async |_| {
        let mut client = since(&node, began).await;
        client.register("machines,hydrant.*.*").await;
        numbers(&mut client, usize::try_from(EVENTS).unwrap()).await
    });
    for heard in join_all(replays).await {
        assert!(heard.into_iter().eq(0..EVENTS));
    }
    let asked = asked(&mut requests).await;
    // At the end there may be more each time, so it is looked at again.
    let whole: Vec<usize> = asked.range(..=EVENTS - 256).map(|(_, count)| *count).collect();
    assert_eq!(whole, [1; 3], "{asked:?}");
}
