//! Replays from the stream whose clients do not read: their principal has its share of the readers, and no more.

use futures_util::future::join_all;
use hydrant::auth::TokenRequest;
use hydrant::clock::now;

use crate::common::people::HASH;
use crate::common::ws::{Client, Show};
use crate::common::{Hydrant, PATIENCE};
use crate::process::NatsServer;
use crate::stream::{numbers, post, since, toml};

/// More than there are readers.
const DEAF: usize = 300;

/// More than outboxes and sockets hold beside two pages.
const EVENTS: u64 = 1000;

/// Little fits into the outbox and the socket of a client that does not read.
const NARROW: &str = "[limits]\nsocket_buffer = \"8KiB\"\n[outbox]\nevents = 128\nage = \"off\"";

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_their_replays_keep_no_other_principal_waiting() {
    let nats = NatsServer::with_streams();
    let portal = |store: &mut hydrant::auth::Store| store.add_user("portal", HASH.clone(), &["superuser".to_owned()]);
    let node = Hydrant::with_people(&toml(&nats, NARROW, ""), portal).await;
    node.until("hydrant_nats_stream_usable", 1).await;
    let began = now();
    post(&node, 0, 0..EVENTS).await;
    node.until("hydrant_nats_published_total", EVENTS).await;
    let query = format!("since={began}");
    let connect = async |_| {
        let mut client = node.connect_with(&query, true).await.unwrap();
        client.register("machines.*.*").await;
        client
    };
    node.token().await;
    let deaf: Vec<Client> = join_all((0..DEAF).map(connect)).await;
    // Half of the readers, with two pages each.
    node.until_that("hydrant_nats_replay_pages_total", |pages| pages >= 256).await;

    let token = node.issue("user:portal", &TokenRequest::default());
    let query = format!("token={token}&since={began}");
    let mut client = node.try_connect(&Show::Query(&query), &[]).await.unwrap();
    client.register("machines.*.*").await;
    // Sooner than those who do not read are given up, which is after a minute.
    let all = tokio::time::timeout(PATIENCE / 2, numbers(&mut client, usize::try_from(EVENTS).unwrap())).await;
    assert!(all.expect("the replay").into_iter().eq(0..EVENTS));
    // It reads again for this one.
    client.say("register jobs.*.*").await;
    client.answer("register", "jobs.*.*").await;

    // Once they are gone, their principal may have its places again.
    drop(deaf);
    let mut client = since(&node, began).await;
    client.register("machines.*.*").await;
    assert!(numbers(&mut client, usize::try_from(EVENTS).unwrap()).await.into_iter().eq(0..EVENTS));
}
