//! Five hundred clients come back at a node that has just started, while 400 events a second come in elsewhere.
//! `make soak` prints how long they take to be where the others are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hydrant::clock::now;
use jiff::Timestamp;

use crate::common::Hydrant;
use crate::process::NatsServer;
use crate::stream::{post, toml};

const CLIENTS: usize = 500;

/// 400 events a second.
async fn load(node: Arc<Hydrant>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(25));
    for batch in 0.. {
        ticks.tick().await;
        post(&node, 0, batch * 10..batch * 10 + 10).await;
    }
}

/// How long a client takes from the connection to the first event that was made after it, and whether it was told a
/// gap.
async fn catch_up(node: &Hydrant, since: Timestamp) -> (Duration, bool) {
    let (began, connected, mut gap) = (Instant::now(), now(), false);
    let query = format!("since={since}&register=machines.*.*");
    let mut client = node.connect_with(&query, false).await.unwrap();
    loop {
        let seen = client.event().await;
        gap |= seen.r#type == "hydrant";
        if seen.r#type == "machines" && seen.time.parse::<Timestamp>().unwrap() >= connected {
            return (began.elapsed(), gap);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures time: `make soak` runs it on a machine that has nothing else to do"]
async fn clients_catch_up_at_a_node_that_has_just_started() {
    let nats = NatsServer::with_streams();
    let whole = toml(&nats, "", "").replace("events = 10\n", "");
    let source = Arc::new(Hydrant::start(&whole).await);
    source.until("hydrant_nats_stream_usable", 1).await;
    let loading = tokio::spawn(load(Arc::clone(&source)));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let since = now();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let young = Hydrant::start(&whole).await;
    young.until("hydrant_nats_peers", 1).await;
    let mut all = join_all((0..CLIENTS).map(|_| catch_up(&young, since))).await;
    loading.abort();
    all.sort();
    let (at, gaps) = (|part: usize| all[part * (CLIENTS - 1) / 100].0, all.iter().filter(|(_, gap)| *gap).count());
    println!("caught up: 50% {:?}, 90% {:?}, all {:?}; told a gap: {gaps}", at(50), at(90), at(100));
    assert_eq!(gaps, 0, "nothing was lost");
}
