//! `GET /api/v3/events`: the events of a websocket as Server-Sent Events and as NDJSON.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use tokio::io::AsyncWriteExt;

use crate::common::http::Http;
use crate::common::stream::{SSE, Stream};
use crate::common::ws::Client;
use crate::common::{Hydrant, NDJSON, Seen, event, patiently, socket};

const ALL: &str = "register=machines.*.*&register=jobs.*.*";
const SELDOM_PINGED: &str = "shards = 2\n[timeouts]\nping = \"4m\"\nidle = \"10m\"";

/// So many events; every third is nobody's.
async fn post(server: &Hydrant, keys: std::ops::Range<u32>) {
    let kind = |key: u32| ["machines", "jobs", "tasks"][key as usize % 3];
    let lines: Vec<String> = keys.map(|key| event(kind(key), "update", &key.to_string())).collect();
    server.post_lines(&lines.join("\n")).await;
}

async fn all_forms_say_the_same(server: Hydrant) {
    let mut websocket = server.watch(&["machines.*.*", "jobs.*.*"]).await;
    let mut stream = server.stream(SSE, ALL, "").await;
    assert_eq!(stream.status(), "200");
    for header in [
        "content-type: text/event-stream",
        "cache-control: no-store",
        "connection: close",
        "x-hydrant-registered: 2",
        "x-hydrant-ping: 240",
    ] {
        assert!(stream.head.contains(&format!("\n{header}\n")), "{}", stream.head);
    }
    stream.answered("machines.*.*").await;
    stream.answered("jobs.*.*").await;
    let mut lines = server.stream(NDJSON, ALL, "").await;
    assert!(lines.head.contains("content-type: application/x-ndjson\n"), "{}", lines.head);
    // An empty line each: they are in force.
    assert_eq!((lines.line().await.unwrap(), lines.line().await.unwrap()), (String::new(), String::new()));
    post(&server, 0..300).await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let expected = websocket.text().await;
        let message = stream.message().await.unwrap();
        assert_eq!((message.event.as_str(), &message.data), ("", &expected));
        assert_eq!(lines.line().await.unwrap(), expected);
        assert!(ids.insert(message.id.split_once(':').unwrap().1.parse::<u64>().unwrap()));
    }
    // Two of three: the positions are those of the one order.
    assert_eq!(ids.last().unwrap() - ids.first().unwrap(), 298);
    drop((websocket, stream, lines));
    server.until_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_forms_say_the_same_in_the_same_order() {
    all_forms_say_the_same(Hydrant::start(SELDOM_PINGED).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_they_do_over_tls() {
    all_forms_say_the_same(Hydrant::start_tls(SELDOM_PINGED).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_again_and_again_skips_and_doubles_nothing() {
    const EVENTS: u32 = 10_000;
    let server = std::sync::Arc::new(Hydrant::start("shards = 2").await);
    let mut websocket = server.watch(&["machines.*.*", "jobs.*.*"]).await;
    let mut stream = server.stream(SSE, ALL, "").await;
    stream.answered("machines.*.*").await;
    stream.answered("jobs.*.*").await;
    let posting = std::sync::Arc::clone(&server);
    let posting = tokio::spawn(async move {
        for first in (0..EVENTS).step_by(100) {
            post(&posting, first..first + 100).await;
        }
    });
    // Cuts by a plain generator of numbers: from none to a thousand events apart, often within the past, often live.
    let (mut number, mut left, mut last, mut cuts) = (1_u32, 700, String::new(), 0);
    for key in (0..EVENTS).filter(|key| key % 3 < 2) {
        assert_eq!(websocket.event().await.key, key.to_string());
        if left == 0 {
            drop(stream);
            stream = server.stream(SSE, ALL, &format!("Last-Event-ID: {last}\r\n")).await;
            stream.answered("machines.*.*").await;
            stream.answered("jobs.*.*").await;
            number = number.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            left = (number >> 16) % 1000;
            cuts += 1;
        }
        left = left.saturating_sub(1);
        let message = stream.message().await.unwrap();
        assert_eq!((message.event.as_str(), Seen::read(&message.data).key), ("", key.to_string()), "after {cuts} cuts");
        last = message.id;
    }
    posting.await.unwrap();
    assert!(cuts > 5, "{cuts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn since_in_the_url_counts_until_the_browser_knows_better() {
    let server = Hydrant::start("shards = 1").await;
    let info = server.request("GET", "/api/v3/info", &[], "").await;
    let stream = server.stream(SSE, ALL, "").await;
    let place = stream.head.lines().find_map(|line| line.strip_prefix("x-hydrant-sequence: ")).unwrap().to_owned();
    drop((stream, info));
    post(&server, 0..6).await;
    let query = format!("{ALL}&since={place}");
    let mut stream = server.stream(SSE, &query, "").await;
    stream.answered("machines.*.*").await;
    stream.answered("jobs.*.*").await;
    let (first, second) = (stream.message().await.unwrap(), stream.message().await.unwrap());
    assert_eq!((Seen::read(&first.data).key, Seen::read(&second.data).key), ("0".to_owned(), "1".to_owned()));
    let mut again = server.stream(SSE, &query, &format!("Last-Event-ID: {}\r\n", second.id)).await;
    again.answered("machines.*.*").await;
    again.answered("jobs.*.*").await;
    assert_eq!(Seen::read(&again.message().await.unwrap().data).key, "3");
    // Where it is NDJSON, the Time does.
    let time = Seen::read(&second.data).time;
    let mut lines = server.stream(NDJSON, &format!("register=jobs.*.*&since={time}"), "").await;
    let seen = loop {
        let line = lines.line().await.unwrap();
        if !line.is_empty() {
            break Seen::read(&line);
        }
    };
    assert_eq!(seen.key, "1");
    for (id, status) in [("zzz", "400"), ("", "200")] {
        let stream = server.stream(SSE, ALL, &format!("Last-Event-ID: {id}\r\n")).await;
        assert_eq!(stream.status(), status, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_told_before_the_stream_begins() {
    let server = Hydrant::start("[limits]\nregistrations = 9\ncombinations = 2").await;
    let accept = [("accept", SSE)];
    let get = async |query: &str| server.request("GET", &format!("/api/v3/events?{query}"), &accept, "").await;
    let reply = get("register=machines.*.*&register=machines.update.*.Stage%3DEq(local").await;
    assert!(reply.error(400).starts_with("bad filter at byte "), "{}", reply.body);
    let messages = &reply.json()["Messages"];
    assert_eq!(messages[1], "machines.update.*.Stage=Eq(local");
    let caret = messages[2].as_str().unwrap();
    assert!(caret.ends_with('^') && caret.len() <= messages[1].as_str().unwrap().len() + 1, "{messages}");
    assert!(get("register=machines").await.error(400).contains("at least three parts"));
    assert!(get("").await.error(400).starts_with("register=SPEC is required"));
    assert!(get("register=a.b.c&since=tomorrow").await.error(400).starts_with("since must be"));
    assert!(get("register=a.b.c&since=").await.error(400).starts_with("since must be"));
    assert!(get("register=a.b.c&register=%ff.b.c").await.error(400).starts_with("register: the value is not UTF-8"));
    assert!(get("register=a.b.c&overflow=x").await.error(400).contains("overflow"));
    let wrong = server.request("GET", "/api/v3/events?register=a.b.c", &[("accept", "application/xml")], "").await;
    assert!(wrong.error(406).contains("text/event-stream"));
    let address = server.address();
    let unknown =
        crate::common::http::request(address, false, "GET", "/api/v3/events?register=a.b.c", &accept, "").await;
    unknown.error(401);
    assert!(get(&"register=a.b.c&".repeat(10)).await.error(400).starts_with("too many registrations"));
    let many: Vec<String> = (0..5).map(|key| format!("register=a.b.c,{key}")).collect();
    assert!(get(&many.join("&")).await.error(400).starts_with("too many combinations: all registrations"));
    let head = server.request("HEAD", "/api/v3/events?register=a.b.c", &accept, "").await;
    assert_eq!((head.status.as_u16(), head.header("content-type"), head.body.as_str()), (200, SSE, ""));
}

/// Only a shard knows the other connections of a principal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_connections_of_a_principal_exceed_is_told_by_the_answer() {
    let server = Hydrant::start("shards = 1\nlimits = { registration_bytes_per_principal = \"64KiB\" }").await;
    let query = |n: u32| format!("register=a.b.{n}{}", "x".repeat(30 << 10));
    let mut streams = [server.stream(NDJSON, &query(0), "").await, server.stream(NDJSON, &query(1), "").await];
    for stream in &mut streams {
        assert_eq!(stream.line().await.unwrap(), "");
    }
    let mut beyond = server.stream(NDJSON, &query(2), "").await;
    let told = Seen::read(&beyond.line().await.unwrap()).error();
    assert!(told.starts_with("registrations too long: those of all connections of the principal"), "{told}");
}

/// Each takes some milliseconds, and a query has room for hundreds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_of_a_stream_are_compiled_up_to_the_limit_of_a_connection() {
    let server = Hydrant::start("[limits]\nfilter_bytes = \"1MiB\"").await;
    let query = |count: u32| {
        let specs = (0..count).map(|n| format!("register=a.b.*.Name=Re((x|y){{100}}.{{10}}{n})"));
        specs.collect::<Vec<_>>().join("&")
    };
    assert_eq!(server.stream(SSE, &query(1), "").await.status(), "200");
    let accept = [("accept", SSE)];
    let reply = server.request("GET", &format!("/api/v3/events?{}", query(500)), &accept, "").await;
    let told = reply.error(400);
    assert!(told.starts_with("filters too large: those of the connection"), "{told}");
}

/// The entries of streams among the connections.
async fn listed(server: &Hydrant) -> Vec<serde_json::Value> {
    let reply = server.request("GET", "/api/v3/connections?Type=stream", &[], "").await;
    serde_json::from_str(&reply.body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_listed_and_says_why_it_ends() {
    let server = Hydrant::start("shards = 2\nconnection_events = true").await;
    let mut watcher = server.watch(&["connections.*.*"]).await;
    for (accept, encoding) in [(SSE, "sse"), (NDJSON, "ndjson")] {
        let mut stream = server.stream(accept, ALL, "").await;
        assert_eq!(connected(&mut watcher).await, ("create".to_owned(), "stream".to_owned()));
        // Until both registrations are in force.
        for _ in 0..if accept == SSE { 6 } else { 2 } {
            stream.line().await.unwrap();
        }
        let all = listed(&server).await;
        assert_eq!(
            (all.len(), &all[0]["Encoding"], &all[0]["Registrations"]),
            (1, &encoding.into(), &2.into()),
            "{all:?}"
        );
        let path = format!("/api/v3/connections/{}", all[0]["RemoteAddr"].as_str().unwrap());
        assert_eq!(server.request("DELETE", &path, &[], "").await.status.as_u16(), 200);
        let rest = stream.rest().await;
        let last = rest.trim_end().lines().last().unwrap();
        let last: serde_json::Value = serde_json::from_str(last.strip_prefix("data: ").unwrap_or(last)).unwrap();
        let object = if accept == SSE { &last } else { &last["Object"] };
        assert_eq!(object, &serde_json::json!({"Code": 1001, "Reason": "connection deleted"}), "{rest}");
        assert_eq!(rest.contains("event: close\n"), accept == SSE, "{rest}");
        assert_eq!(connected(&mut watcher).await, ("delete".to_owned(), "stream".to_owned()));
    }
    server.until("hydrant_disconnects_total{reason=\"deleted\"}", 2).await;
}

/// The next event about a connection that is no request: what happened, and to which kind.
async fn connected(watcher: &mut Client) -> (String, String) {
    loop {
        let seen = watcher.event().await;
        let object: serde_json::Value = serde_json::from_str(seen.object.get()).unwrap();
        if object["Type"] != "api" {
            return (seen.action, object["Type"].as_str().unwrap().to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_reader_is_kept_and_hears_that_the_server_lives() {
    let server = Hydrant::start("[timeouts]\nping = \"50ms\"\nidle = \"100ms\"").await;
    let mut stream = server.stream(SSE, "register=a.b.c", "").await;
    stream.answered("a.b.c").await;
    let mut lines = server.stream(NDJSON, "register=a.b.c", "").await;
    for _ in 0..10 {
        assert_eq!((stream.line().await.unwrap(), stream.line().await.unwrap()), (":".to_owned(), String::new()));
        assert_eq!(lines.line().await.unwrap(), "");
    }
    server.announce("a", "b", "c").await;
    assert_eq!(Seen::read(&stream.message().await.unwrap().data).name(), "a.b.c");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_follow_is_treated_by_its_policy() {
    let toml = "shards = 1\n[outbox]\nevents = 64\nbytes = \"1MiB\"\n[timeouts]\nclose = \"5m\"";
    let server = Hydrant::start(toml).await;
    let large = |key: u32| {
        let filler = "x".repeat(20_000);
        serde_json::json!({"Type": "machines", "Action": "update", "Key": key.to_string(), "Object": filler})
            .to_string()
    };
    let mut slow = server.stream_narrow(SSE, "register=machines.*.*&overflow=disconnect").await;
    let mut holes = server.stream_narrow(NDJSON, "register=machines.*.*&overflow=drop-oldest").await;
    slow.answered("machines.*.*").await;
    assert_eq!(holes.line().await.unwrap(), "");
    let (mut posted, dropped) = (0, "hydrant_deliveries_dropped_total{reason=\"slow_consumer\"}");
    while server.metric(dropped).await == 0 {
        assert!(posted < 400, "nobody is too slow");
        for key in posted..posted + 20 {
            server.post(&large(key)).await;
        }
        posted += 20;
    }
    let (mut last, mut messages) = (String::new(), 0);
    while let Some(message) = slow.message().await {
        (last, messages) = (message.event, messages + 1);
    }
    assert!(last == "close" && messages < posted, "{last} after {messages}");
    server.announce("machines", "update", "last").await;
    let (mut missing, mut seen) = (0, 0);
    loop {
        let line = holes.line().await.unwrap();
        let event = Seen::read(&line);
        match event.name().as_str() {
            "machines.update.last" => break,
            "hydrant.gap.queue" => {
                let object: serde_json::Value = serde_json::from_str(event.object.get()).unwrap();
                missing += object["Events"].as_u64().unwrap();
            }
            _ => seen += 1,
        }
    }
    assert_eq!(missing + seen, u64::from(posted));
    assert!(missing > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_narrowed_token_narrows_the_stream() {
    let server = Hydrant::start("shards = 1").await;
    let path = "/api/v3/users/rocketskates/token?scope=jobs&action=get";
    let token = server.request("GET", path, &[], "").await.json()["Token"].as_str().unwrap().to_owned();
    let mut socket = socket::connect(server.address(), false).await;
    let request = format!("GET /api/v3/events?{ALL}&token={token} HTTP/1.1\r\nHost: h\r\nAccept: {SSE}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut stream = Stream::begin(socket).await;
    stream.answered("machines.*.*").await;
    stream.answered("jobs.*.*").await;
    post(&server, 0..6).await;
    for key in ["1", "4"] {
        assert_eq!(Seen::read(&stream.message().await.unwrap().data).key, key);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_becomes_a_stream() {
    let server = Hydrant::start("shards = 1").await;
    let mut http = Http::connect(server.address(), false).await;
    let bearer = format!("Bearer {}", server.token().await);
    let reply = http.request("GET", "/api/v3/info", &[("authorization", &bearer)], "").await;
    assert_eq!(reply.status.as_u16(), 200);
    // Two requests at once: the stream comes behind the answer.
    let mut socket = socket::connect(server.address(), false).await;
    let line = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: {bearer}\r\n\r\n");
    let both = [line("/api/v3/info"), line("/api/v3/events?register=a.b.c")].concat();
    socket.write_all(both.as_bytes()).await.unwrap();
    let mut stream = Stream::begin(socket).await;
    let body = stream.head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().to_owned();
    let mut text = String::new();
    while !text.contains("event: answer") {
        text += &stream.line().await.unwrap();
        text.push('\n');
    }
    let (info, second) = text.split_at(body.parse().unwrap());
    assert!(info.ends_with('}') && second.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_is_enough() {
    let server = Hydrant::start("shards = 1").await;
    let url = format!("http://{}/api/v3/events?register=machines.*.*", server.address());
    let bearer = format!("Authorization: Bearer {}", server.token().await);
    let mut curl = Command::new("curl").args(["-sN", "-H", &bearer, &url]).stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(curl.stdout.take().unwrap());
    let (said, mut lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || out.lines().try_for_each(|line| said.blocking_send(line.unwrap())));
    let mut next = async || patiently("a line of curl", lines.recv()).await.unwrap();
    assert_eq!(next().await, "event: answer");
    server.announce("machines", "update", "m1").await;
    let data = loop {
        let line = next().await;
        if line.starts_with("id: ") {
            break next().await;
        }
    };
    assert_eq!(Seen::read(data.strip_prefix("data: ").unwrap()).name(), "machines.update.m1");
    curl.kill().unwrap();
    curl.wait().unwrap();
}
