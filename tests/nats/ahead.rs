//! Where a replay begins to read the stream: as much earlier than was asked for as producers' clocks are known to be
//! ahead, measured by the node itself or told by others. Who knows nothing reads five and a half minutes more.

use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt;
use hydrant::clock::now;
use jiff::{SignedDuration, Timestamp};

use crate::common::{Hydrant, patiently};
use crate::process::NatsServer;
use crate::stream::{node, numbers, post, since};

/// What every replay reads more than was asked for.
const OVERLAP: SignedDuration = SignedDuration::from_secs(5);

/// The difference of two clocks that is allowed for.
const CLOCKS: SignedDuration = SignedDuration::from_secs(30);

/// Has the events since `time` replayed. Returns the time from which the stream was read, and the client.
async fn read_from(nats: &NatsServer, node: &Hydrant, time: Timestamp) -> (Timestamp, crate::common::ws::Client) {
    node.until("hydrant_nats_stream_usable", 1).await;
    // Who may subscribe sees the requests.
    let watcher = async_nats::connect(nats.url()).await.unwrap();
    let mut requests = watcher.subscribe("$JS.API.DIRECT.GET.>").await.unwrap();
    watcher.flush().await.unwrap();
    let mut client = since(node, time).await;
    client.register("machines.*.*").await;
    let asked = async {
        loop {
            let request: serde_json::Value = serde_json::from_slice(&requests.next().await.unwrap().payload).unwrap();
            if let Some(from) = request["start_time"].as_str() {
                break from.parse().unwrap();
            }
        }
    };
    (patiently("a request of the stream", asked).await, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_begins_where_the_node_took_in_what_was_ahead() {
    let nats = NatsServer::with_streams();
    let node = node(&nats, "", "").await;
    post(&node, 0, 0..5).await;
    // The next note of when an event was taken in.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let taken = now();
    let ahead = taken + SignedDuration::from_secs(200);
    node.post(&format!(r#"{{"Time":"{ahead}","Type":"machines","Action":"update","Key":"0/5"}}"#)).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    post(&node, 0, 6..100).await;
    node.until("hydrant_nats_published_total", 100).await;
    let (from, mut client) = read_from(&nats, &node, ahead).await;
    let latest = taken - CLOCKS;
    assert!(from <= latest && from >= latest - OVERLAP - SignedDuration::from_secs(5), "{from} for {taken}");
    assert_eq!(
        numbers(&mut client, 1).await,
        [5],
        "though its clock was far ahead, and what was before is not asked for"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_just_started_begins_where_others_tell_it_to() {
    let nats = NatsServer::with_streams();
    let old = node(&nats, "", "").await;
    let began = now();
    post(&old, 0, 0..100).await;
    old.until("hydrant_nats_published_total", 100).await;
    let fresh = node(&nats, "", "").await;
    fresh.until("hydrant_nats_peers", 1).await;
    // What it has measured itself says nothing of what others accepted before.
    fresh.announce("jobs", "update", "own").await;
    let (from, _client) = read_from(&nats, &fresh, began).await;
    assert!(from < began - SignedDuration::from_mins(5), "{from} for {began}: nobody has told it yet");
    // A node that has measured for long enough.
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("Node", "00000000000000aa"), ("Sequence", "0"), ("State", "up"), ("Idle", "0"), ("Ahead", "4000")]
    {
        headers.insert(format!("Hydrant-{name}"), value);
    }
    let other = async_nats::connect(nats.url()).await.unwrap();
    other.publish_with_headers("hydrant.NODES.heartbeat", headers, "".into()).await.unwrap();
    other.flush().await.unwrap();
    fresh.until("hydrant_nats_peers", 2).await;
    let (from, mut client) = read_from(&nats, &fresh, began).await;
    assert_eq!(from, began - OVERLAP - CLOCKS - SignedDuration::from_secs(4));
    assert!(numbers(&mut client, 100).await.into_iter().eq(0..100));
}
