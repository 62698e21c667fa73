//! An event is written down once and deflated once, whatever the number of subscribers and shards. Counted in the
//! program itself, because one of the counters is the process's.

use crate::common::program::Program;
use crate::common::raw::{Raw, masked};
use crate::common::{JSON, Seen, http, patiently};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::value::RawValue;

const STREAM: &str = include_str!("../data/drp-v3.ndjson");

const COUNTER: &str = "hydrant_event_serialisations_total{encoding=\"plain\"}";

const DEFLATED: &str = "hydrant_event_serialisations_total{encoding=\"deflate\"}";

/// Events that were refused for want of room, and refusals of principals that post too much.
const REFUSED: &str = "hydrant_events_refused_total";
const LIMITED: &str = "hydrant_limited_total{limit=\"posted_events\"}";

const SUBSCRIBERS: usize = 1_000;

const EVENTS: usize = 10;

/// The longest recorded objects.
fn events() -> Vec<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Line<'a> {
        #[serde(borrow)]
        object: &'a RawValue,
    }
    let objects = STREAM.lines().map(|line| serde_json::from_str::<Line<'_>>(line).unwrap().object.get());
    let large = objects.filter(|object| object.len() > 700).take(EVENTS).enumerate();
    let event = |(at, object)| format!(r#"{{"Type":"machines","Action":"update","Key":"{at}","Object":{object}}}"#);
    let events: Vec<String> = large.map(event).collect();
    assert_eq!(events.len(), EVENTS);
    events
}

async fn register(mut raw: Raw) -> Raw {
    raw.send(&masked(0x81, b"register *.*.*")).await;
    raw.text().await;
    raw
}

/// Half of the subscribers take deflated frames.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_serialised_and_deflated_once_for_a_thousand_subscribers() {
    for shards in [1, 4] {
        // Those who come would be events too.
        let toml = format!("connection_events = false\nshards = {shards}");
        let program = Program::start("off", "format = 'json'", &toml);
        let token = program.token().await;
        let metric = async |name: &str| http::metric(program.probe, name).await;
        let (mut plain, mut deflating) = (Vec::new(), Vec::new());
        while plain.len() + deflating.len() < SUBSCRIBERS {
            plain.extend(join_all((0..50).map(|_| async { register(program.raw(&token).await).await })).await);
            deflating
                .extend(join_all((0..50).map(|_| async { register(program.raw_deflate(&token).await).await })).await);
        }
        let (before, deflated) = (metric(COUNTER).await, metric(DEFLATED).await);
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
        let body = format!("[{}]", events().join(","));
        http::request(program.api, false, "POST", "/api/v3/events", &headers, &body).await.taken();
        let mut sent = Vec::new();
        for at in 0..EVENTS {
            let text = plain[0].text().await;
            assert_eq!(Seen::read(&text).key, at.to_string());
            sent.push(text);
        }
        for client in &mut plain[1..] {
            for expected in &sent {
                assert_eq!(client.text().await, *expected);
            }
        }
        for client in &mut deflating {
            for expected in &sent {
                assert_eq!(client.maybe_deflated().await, (true, expected.clone()));
            }
        }
        let (events, deliveries) = (EVENTS as u64, (EVENTS * SUBSCRIBERS) as u64);
        http::metric_reaches(program.probe, "hydrant_deliveries_total", deliveries).await;
        assert_eq!(metric(COUNTER).await - before, events, "with {shards} shards");
        assert_eq!(metric(DEFLATED).await - deflated, events, "with {shards} shards");
        http::metric_reaches(program.probe, "hydrant_queue_events", 0).await;
        assert_eq!(metric("hydrant_deliveries_matched_total").await, deliveries);
        assert_eq!(metric("hydrant_deliveries_dropped_total{reason=\"slow_consumer\"}").await, 0);
    }
}

/// What was refused is no event, however far its reading had come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_does_not_count_as_serialised() {
    let program = Program::start("off", "format = 'json'", "connection_events = false");
    let bearer = format!("Bearer {}", program.token().await);
    let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
    let good = r#"{"Type":"a","Action":"b","Key":"c"}"#;
    for (body, status) in
        [(format!("[{good},{good},{good}]"), 204), (format!("[{good},{good},{{}}]"), 400), (good.to_owned(), 204)]
    {
        let reply = http::request(program.api, false, "POST", "/api/v3/events", &headers, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{reply:?}");
    }
    assert_eq!(http::metric(program.probe, "hydrant_events_received_total{source=\"post\"}").await, 4);
    assert_eq!(http::metric(program.probe, COUNTER).await, 4);
}

/// What its principal may not post any more, and what the shards have no room for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_limit_refuses_does_not_count_as_serialised() {
    let batch = |events: usize| {
        let object = format!("\"{}\"", "x".repeat(1000));
        let event = format!(r#"{{"Type":"a","Action":"b","Key":"c","Object":{object}}}"#);
        format!("[{}]", vec![event; events].join(","))
    };
    for (limit, events) in [("limits = { posted_events_per_second = 10 }", 8), ("inbox = { events = 100 }", 90)] {
        let program =
            Program::start("off", "format = 'json'", &format!("connection_events = false\nshards = 1\n{limit}"));
        let bearer = format!("Bearer {}", program.token().await);
        let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
        let body = batch(events);
        let post = async || {
            let mut http = http::Http::connect(program.api, false).await;
            for _ in 0..20 {
                let reply = http.request("POST", "/api/v3/events", &headers, body.clone()).await;
                assert!(matches!(reply.status.as_u16(), 204 | 429), "{reply:?}");
            }
        };
        let refused = async || http::metric(program.probe, REFUSED).await + http::metric(program.probe, LIMITED).await;
        let refusing = async {
            while refused().await == 0 {
                join_all((0..8).map(|_| post())).await;
            }
        };
        patiently("a refusal", refusing).await;
        let received = http::metric(program.probe, "hydrant_events_received_total{source=\"post\"}").await;
        assert_eq!(http::metric(program.probe, COUNTER).await, received, "with {limit}");
    }
}
