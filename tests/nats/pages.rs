//! Many replays of the same past read the stream once, and none of them is given up while a page arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;
use futures_util::future::join_all;
use hydrant::clock::now;

use crate::common::link::Link;
use crate::common::{Hydrant, patiently};
use crate::process::NatsServer;
use crate::stream::{node, numbers, post, since, toml};

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

/// Longer than any single message may take: what counts is that something comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_comes_slowly_is_not_given_up() {
    const LARGE: u64 = 80;
    let nats = NatsServer::with_streams();
    let link = Link::to(nats.url().trim_start_matches("nats://").parse().unwrap());
    let toml = toml(&nats, "", "").replace(&nats.url(), &format!("nats://{}", link.address));
    let node = Hydrant::start(&toml).await;
    node.until("hydrant_nats_stream_usable", 1).await;
    let began = now();
    let object = "x".repeat(2000);
    let event = |n| format!(r#"{{"Type":"machines","Action":"update","Key":"0/{n}","Object":{{"N":"{object}"}}}}"#);
    node.post_lines(&(0..LARGE).map(event).collect::<Vec<_>>().join("\n")).await;
    node.until("hydrant_nats_published_total", LARGE).await;
    // The page takes five seconds.
    link.narrow(32 << 10);
    let mut client = since(&node, began).await;
    client.register("machines,hydrant.*.*").await;
    assert!(numbers(&mut client, usize::try_from(LARGE).unwrap()).await.into_iter().eq(0..LARGE));
    assert_eq!(node.metric("hydrant_nats_replay_failures_total").await, 0);
}
