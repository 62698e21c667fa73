//! `?since=` over real sockets: what was missed across a reconnect comes, once, before live events.

use crate::common;
use crate::common::ws::{Client, Refusal, Show};
use crate::common::{Hydrant, PATIENCE, Seen, event};

/// A connection that wants the past.
async fn since(server: &Hydrant, since: &str) -> Client {
    try_since(server, since).await.unwrap()
}

async fn try_since(server: &Hydrant, since: &str) -> Result<Client, Refusal> {
    let since: String = form_urlencoded::byte_serialize(since.as_bytes()).collect();
    let query = format!("token={}&since={since}", server.token().await);
    server.try_connect(&Show::Query(&query), &[]).await
}

/// Where the server says that the next event will stand.
fn position(client: &Client) -> String {
    client.answered["x-hydrant-sequence"].to_str().unwrap().to_owned()
}

async fn post(server: &Hydrant, keys: std::ops::Range<u32>) {
    let lines: Vec<String> = keys.map(|key| event("machines", "update", &key.to_string())).collect();
    server.post_lines(&lines.join("\n")).await;
}

async fn keys(client: &mut Client, count: usize) -> Vec<u32> {
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push(client.event().await.key.parse().unwrap());
    }
    keys
}

/// The next event must be the notice of a gap; its Object.
async fn gap(client: &mut Client) -> serde_json::Value {
    let seen = client.event().await;
    assert_eq!(seen.name(), "hydrant.gap.replay");
    serde_json::from_str(seen.object.get()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_what_was_missed_comes_before_what_is_live() {
    let server = Hydrant::start("shards = 2").await;
    let mut client = server.watch(&["machines.*.*"]).await;
    post(&server, 0..100).await;
    assert_eq!(keys(&mut client, 100).await, (0..100).collect::<Vec<_>>());
    // The handshake of the next connection tells the place; until then this one has got everything.
    let place = position(&server.connect().await);
    drop(client);
    post(&server, 100..5000).await;
    let mut client = since(&server, &place).await;
    client.say("register machines.*.*").await;
    client.answer("register", "machines.*.*").await;
    post(&server, 5000..6000).await;
    assert_eq!(keys(&mut client, 5900).await, (100..6000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_the_last_event_leads_to_it_and_to_all_behind_it() {
    let server = Hydrant::start("").await;
    let mut client = server.watch(&["machines.*.*"]).await;
    post(&server, 0..10).await;
    let mut last: Option<Seen> = None;
    for _ in 0..10 {
        last = Some(client.event().await);
    }
    drop(client);
    post(&server, 10..20).await;
    let last = last.unwrap();
    let mut client = since(&server, &last.time).await;
    client.register("machines.*.*").await;
    loop {
        // Events of one post may share a time; the one that we had proves that nothing is missing.
        let seen = client.event().await;
        if seen.key == last.key {
            break;
        }
    }
    assert_eq!(keys(&mut client, 10).await, (10..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_registration_looks_back_and_no_event_comes_twice() {
    let server = Hydrant::start("").await;
    let place = position(&server.connect().await);
    server.announce("machines", "update", "both").await;
    server.announce("jobs", "update", "j").await;
    server.announce("machines", "create", "m").await;
    let mut client = since(&server, &place).await;
    client.register("machines.update.*").await;
    assert_eq!(client.event().await.name(), "machines.update.both");
    client.register("machines.*.*").await;
    assert_eq!(client.event().await.name(), "machines.create.m");
    client.deregister("machines.*.*").await;
    client.register("jobs.*.*").await;
    assert_eq!(client.event().await.name(), "jobs.update.j");
    server.announce("machines", "create", "unwanted").await;
    client.register("machines.*.*").await;
    assert_eq!(client.event().await.name(), "machines.create.unwanted");
    server.announce("end", "x", "y").await;
    client.register("end.*.*").await;
    assert_eq!(client.event().await.name(), "end.x.y");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_retained_is_said() {
    let server = Hydrant::start("[replay]\nevents = 10").await;
    let place = position(&server.connect().await);
    post(&server, 0..25).await;
    let mut client = since(&server, &place).await;
    client.say("register machines.*.*").await;
    client.answer("register", "machines.*.*").await;
    let object = gap(&mut client).await;
    assert_eq!((&object["Events"], object["Requested"].as_str().unwrap()), (&serde_json::json!(15), place.as_str()));
    assert_eq!(keys(&mut client, 10).await, (15..25).collect::<Vec<_>>());

    for old in ["2020-01-01T00:00:00Z", "0123456789abcdef:3"] {
        let mut client = since(&server, old).await;
        client.say("register machines.*.*").await;
        client.answer("register", "machines.*.*").await;
        assert_eq!(gap(&mut client).await["Requested"], old);
        assert_eq!(keys(&mut client, 10).await, (15..25).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_that_cannot_be_are_refused() {
    let server = Hydrant::start("").await;
    let (epoch, _) =
        position(&server.connect().await).split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    for bad in ["yesterday", "17", "2099-01-01T00:00:00Z", &format!("{epoch}:1000000")] {
        let refusal = try_since(&server, bad).await.err().unwrap();
        assert_eq!(refusal.status, 400, "{bad}");
        assert!(refusal.body.contains("since"), "{}", refusal.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_hold_for_the_past_too() {
    let server = Hydrant::start("").await;
    let path = "/api/v3/users/rocketskates/token?ttl=3600&scope=machines&action=*&specific=mine";
    let token = server.request("GET", path, &[], "").await.json()["Token"].as_str().unwrap().to_owned();
    let place = position(&server.connect().await);
    server.announce("machines", "update", "hers").await;
    server.announce("machines", "update", "mine").await;
    let query = format!("token={token}&since={place}");
    let mut client = server.try_connect(&Show::Query(&query), &[]).await.unwrap();
    client.register("*.*.*").await;
    assert_eq!(client.event().await.name(), "machines.update.mine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_larger_than_the_outbox_comes_whole_to_a_slow_reader() {
    let server = Hydrant::start("shards = 1\n[outbox]\nevents = 64\nbytes = \"64KiB\"").await;
    let place = position(&server.connect().await);
    for start in (0..20_000).step_by(2000) {
        post(&server, start..start + 2000).await;
    }
    let mut client = since(&server, &place).await;
    client.say("register machines.*.*").await;
    client.answer("register", "machines.*.*").await;
    assert_eq!(keys(&mut client, 20_000).await, (0..20_000).collect::<Vec<_>>());
    tokio::time::timeout(PATIENCE, server.until_that("hydrant_queue_events", |n| n == 0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn info_tells_the_place() {
    let server = Hydrant::start("").await;
    let info = server.request("GET", "/api/v3/info", &[], "").await.json();
    assert_eq!(info["sequence"].as_str().unwrap(), position(&server.connect().await));
    assert!(info["features"].as_array().unwrap().contains(&"websocket-since".into()));
    assert!(info["replay_from"].is_null());
    server.announce("a", "b", "c").await;
    assert!(server.request("GET", "/api/v3/info", &[], "").await.json()["replay_from"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_may_allow_more_registrations_than_the_settings_to_a_connection_with_a_past() {
    let people = |store: &mut hydrant::auth::Store| {
        store.set_role("large", vec!["*/*/*".parse().unwrap()])?;
        store.set_role_limits("large", "registrations=5".parse().unwrap())?;
        store.add_user("many", common::people::HASH.clone(), &["large".to_owned()])
    };
    let server = Hydrant::with_people("shards = 1\nlimits.registrations = 2", people).await;
    let token = server.issue("user:many", &hydrant::auth::TokenRequest::default());
    // A place that is retained: the notice of a gap would come anywhere among the answers.
    let place = position(&server.try_connect(&Show::Query(&format!("token={token}")), &[]).await.unwrap());
    let query = format!("token={token}&since={place}");
    let mut client = server.try_connect(&Show::Query(&query), &[]).await.unwrap();
    for n in 0..5 {
        client.say(&format!("register none.*.{n}")).await;
    }
    for n in 0..5 {
        client.answer("register", &format!("none.*.{n}")).await;
    }
}
