//! `?since=` over real sockets: what was missed across a reconnect comes, once, before live events.

use crate::common;
use crate::common::stream::SSE;
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
    let start = position(&server.connect().await);
    drop(client);
    post(&server, 100..5000).await;
    let mut client = since(&server, &start).await;
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
    let start = position(&server.connect().await);
    server.announce("machines", "update", "both").await;
    server.announce("jobs", "update", "j").await;
    server.announce("machines", "create", "m").await;
    let mut client = since(&server, &start).await;
    client.register("machines.update.*").await;
    assert_eq!(client.event().await.name(), "machines.update.both");
    late(&mut client, "machines.*.*", "machines.create.m").await;
    client.deregister("machines.*.*").await;
    late(&mut client, "jobs.*.*", "jobs.update.j").await;
    server.announce("machines", "create", "unwanted").await;
    late(&mut client, "machines.*.*", "machines.create.unwanted").await;
    server.announce("end", "x", "y").await;
    late(&mut client, "end.*.*", "end.x.y").await;
}

/// The event about a connection itself drops one from a full history, after the start of its replay was found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_history_drops_at_the_start_is_part_of_the_first_gap() {
    let server = Hydrant::start("shards = 1\nconnection_events = true\n[replay]\nevents = 50\n").await;
    post(&server, 0..200).await;
    let mut client = since(&server, "2020-01-01T00:00:00Z").await;
    client.register("machines.*.*").await;
    let (gap, first) = (gap(&mut client).await, keys(&mut client, 1).await[0]);
    assert_eq!((&gap["Events"], &gap["From"]), (&serde_json::Value::Null, &"2020-01-01T00:00:00Z".into()));
    assert!(first > 150, "{first}");
    assert_eq!(keys(&mut client, 199 - first as usize).await, (first + 1..200).collect::<Vec<_>>());
}

/// A registration that comes after events: the first event of the past stands before its answer, or what the shard had
/// yet to take behind it.
async fn late(client: &mut Client, spec: &str, first: &str) {
    client.say(&format!("register {spec}")).await;
    let mut names = [client.event().await.name(), client.event().await.name()];
    names.sort();
    let mut expected = [first.to_owned(), format!("websocket.register.{spec}")];
    expected.sort();
    assert_eq!(names, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_registrations_a_moment_apart_and_a_cut_lose_nothing() {
    let server = Hydrant::start("shards = 1").await;
    let start = position(&server.connect().await);
    for start in (0..10_000).step_by(50) {
        let kind = |key: u32| if key.is_multiple_of(2) { "x" } else { "y" };
        let lines: Vec<String> = (start..start + 50).map(|key| event(kind(key), "update", &key.to_string())).collect();
        server.post_lines(&lines.join("\n")).await;
    }
    let (mut since_when, mut got) = (start, std::collections::BTreeSet::new());
    for (cut, pause) in [(100, 0), (1500, 3), (40, 20), (3500, 7), (usize::MAX, 2)] {
        let mut client = since(&server, &since_when).await;
        client.say("register x.*.*").await;
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        client.say("register y.*.*").await;
        let (mut events, mut answers, mut last) = (0, 0, None);
        while events < cut && got.len() < 10_000 {
            let seen = client.event().await;
            if seen.r#type == "websocket" {
                answers += 1;
                continue;
            }
            events += 1;
            got.insert(seen.key.parse::<u32>().unwrap());
            last = Some(seen.time);
        }
        // As the documentation says: once both are answered. Usually they are before anything comes.
        since_when = last.filter(|_| answers == 2).unwrap_or(since_when);
    }
    assert!(got.iter().copied().eq(0..10_000), "{} of 10,000", got.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_query_registers_before_anything_comes() {
    let server = Hydrant::start("").await;
    let start = position(&server.connect().await);
    server.announce("a", "x", "1").await;
    server.announce("b", "x", "2").await;
    let bad = "a.b.c.X%3DEq(";
    for since in ["", &format!("since={start}&")] {
        let query = format!("{since}register=a.*.*&register={bad}&register=b.*.*&register=");
        let mut client = server.connect_with(&query, false).await.unwrap();
        assert_eq!(client.answered["x-hydrant-registered"], "4");
        client.answer("register", "a.*.*").await;
        client.answer("error", "register a.b.c.X=Eq(").await;
        client.answer("register", "b.*.*").await;
        client.answer("error", "register").await;
        if !since.is_empty() {
            assert_eq!(client.event().await.name(), "a.x.1");
            assert_eq!(client.event().await.name(), "b.x.2");
        }
        server.announce("b", "x", "3").await;
        assert_eq!(client.event().await.name(), "b.x.3");
    }
    assert!(!server.connect().await.answered.contains_key("x-hydrant-registered"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_bears_a_time_to_resume_from_and_so_does_an_event_of_a_far_future() {
    let server = Hydrant::start("[replay]\nevents = 10").await;
    let start = position(&server.connect().await);
    post(&server, 0..25).await;
    let mut client = since(&server, &start).await;
    client.register("machines.*.*").await;
    let notice = client.event().await;
    assert_eq!(notice.name(), "hydrant.gap.replay");
    drop(client);
    let mut client = since(&server, &notice.time).await;
    client.register("machines.*.*").await;
    assert_eq!(client.event().await.name(), "hydrant.gap.replay", "what is gone stays gone");
    let all = keys(&mut client, 10).await;
    assert!(all.ends_with(&[24]), "{all:?}");
    server.post(r#"{"Type":"machines","Action":"update","Key":"25","Time":"9999-01-02T03:04:05Z"}"#).await;
    let last = client.event().await;
    server.announce("machines", "update", "26").await;
    let mut client = since(&server, &last.time).await;
    client.register("machines.*.*").await;
    assert_eq!(keys(&mut client, 2).await, [25, 26]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_time_that_can_be_posted_is_one_to_resume_from() {
    let server = Hydrant::start("").await;
    let mut client = server.watch(&["machines.*.*"]).await;
    let late = ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999999999-23:59", "9999-12-30T22:00:01+00:00"];
    let others = ["2026-01-02T03:04:05.000000006+23:59", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00.000000001Z"];
    for time in late.into_iter().chain(others) {
        server.post(&format!(r#"{{"Type":"machines","Action":"update","Key":"1","Time":"{time}"}}"#)).await;
        let last = client.event().await;
        assert_eq!(last.time, time, "it passes as it is");
        server.announce("machines", "update", "2").await;
        assert_eq!(client.event().await.key, "2");
        let mut websocket = since(&server, &last.time).await;
        websocket.register("machines.*.*").await;
        until_both_came(async || websocket.event().await, &last).await;
        let id = format!("Last-Event-ID: {time}\r\n");
        let mut stream = server.stream(SSE, "register=machines.*.*", &id).await;
        assert_eq!(stream.status(), "200", "{time}");
        stream.answered("machines.*.*").await;
        until_both_came(async || Seen::read(&stream.message().await.unwrap().data), &last).await;
    }
}

/// The event comes, and the one behind it; before them may come others, or a notice.
async fn until_both_came(mut next: impl AsyncFnMut() -> Seen, event: &Seen) {
    while next().await.time != event.time {}
    while next().await.key != "2" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_connects_pushes_out_nothing_but_events_about_connections() {
    let server = Hydrant::start("connection_events = true\n[replay]\nevents = 80").await;
    let start = position(&server.connect().await);
    post(&server, 0..30).await;
    for _ in 0..100 {
        server.connect().await;
    }
    server.until("hydrant_connections", 0).await;
    let mut client = since(&server, &start).await;
    client.register("machines.*.*").await;
    assert_eq!(keys(&mut client, 30).await, (0..30).collect::<Vec<_>>(), "and no gap");
    let mut client = since(&server, &start).await;
    client.register("connections.*.*").await;
    let object = gap(&mut client).await;
    assert!(object["Events"].as_u64().unwrap() > 80, "{object}");
    assert_eq!(client.event().await.r#type, "connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_retained_is_said() {
    let server = Hydrant::start("[replay]\nevents = 10").await;
    let start = position(&server.connect().await);
    post(&server, 0..25).await;
    let mut client = since(&server, &start).await;
    client.say("register machines.*.*").await;
    client.answer("register", "machines.*.*").await;
    let object = gap(&mut client).await;
    assert_eq!((&object["Events"], object["Requested"].as_str().unwrap()), (&serde_json::json!(15), start.as_str()));
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
    for bad in ["", " ", "yesterday", "17", "2099-01-01T00:00:00Z", &format!("{epoch}:1000000")] {
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
    let start = position(&server.connect().await);
    server.announce("machines", "update", "hers").await;
    server.announce("machines", "update", "mine").await;
    let query = format!("token={token}&since={start}");
    let mut client = server.try_connect(&Show::Query(&query), &[]).await.unwrap();
    client.register("*.*.*").await;
    assert_eq!(client.event().await.name(), "machines.update.mine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_larger_than_the_outbox_comes_whole_to_a_slow_reader() {
    let server = Hydrant::start("shards = 1\n[outbox]\nevents = 64\nbytes = \"64KiB\"").await;
    let start = position(&server.connect().await);
    for start in (0..20_000).step_by(2000) {
        post(&server, start..start + 2000).await;
    }
    let mut client = since(&server, &start).await;
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
        store.set_role_limits(
            "large",
            hydrant::auth::RoleLimits::default().changed(&["registrations=5".parse().unwrap()]),
        )?;
        store.add_user("many", common::people::HASH.clone(), &["large".to_owned()])
    };
    let server = Hydrant::with_people("shards = 1\nlimits.registrations = 2", people).await;
    let token = server.issue("user:many", &hydrant::auth::TokenRequest::default());
    // A place that is retained: the notice of a gap would come anywhere among the answers.
    let start = position(&server.try_connect(&Show::Query(&format!("token={token}")), &[]).await.unwrap());
    let query = format!("token={token}&since={start}");
    let mut client = server.try_connect(&Show::Query(&query), &[]).await.unwrap();
    for n in 0..5 {
        client.say(&format!("register none.*.{n}")).await;
    }
    for n in 0..5 {
        client.answer("register", &format!("none.*.{n}")).await;
    }
}
