//! What clients say and hear, over real websockets: every command answered once and in order, errors that change
//! nothing, exact answers, limits, pings. Frames that break RFC 6455 are in `frames.rs`.

use crate::common::ws::Client;
use crate::common::{Hydrant, PRINCIPAL, Seen, patiently};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Message;

#[derive(Deserialize)]
struct Table {
    events: Vec<Box<RawValue>>,
    registrations: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    spec: String,
    matches: Vec<usize>,
}

#[derive(Deserialize)]
struct Invalid {
    spec: String,
    why: String,
}

/// Events are told apart by their place in the table, which is put into the principal: the first user may impersonate.
fn numbered(at: usize, event: &RawValue) -> String {
    let mut event: serde_json::Value = serde_json::from_str(event.get()).unwrap();
    event["Principal"] = format!("user:row-{at}").into();
    event.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_registration_of_the_table_gets_its_events() {
    let table: Table = serde_json::from_str(include_str!("../data/registrations.json")).unwrap();
    let rows = &table.registrations;
    let with_filter = rows.iter().filter(|row| row.spec.contains('(')).count();
    assert!(rows.len() - with_filter >= 40 && with_filter >= 150, "{with_filter} of {} with a filter", rows.len());
    let server = Hydrant::start("shards = 2").await;
    let mut clients = Vec::new();
    for row in rows {
        clients.push(server.watch(&[&row.spec, "end.of.table"]).await);
    }
    let events: Vec<String> = table.events.iter().enumerate().map(|(at, event)| numbered(at, event)).collect();
    server.post(&format!("[{}]", events.join(","))).await;
    server.announce("end", "of", "table").await;
    for (row, client) in rows.iter().zip(&mut clients) {
        let mut found = client.until("end.of.table").await;
        // `*.*.*` also matches the event that ends the table.
        found.retain(|seen| seen.r#type != "end");
        let expected: Vec<String> = row.matches.iter().map(|at| format!("user:row-{at}")).collect();
        let found: Vec<String> = found.into_iter().map(|seen| seen.principal).collect();
        assert_eq!(found, expected, "{}", row.spec);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_invalid_registration_is_an_error_and_changes_nothing() {
    let rows: Vec<Invalid> = serde_json::from_str(include_str!("../data/invalid.json")).unwrap();
    let server = Hydrant::start("shards = 1").await;
    let mut client = server.watch(&["machines.update.a"]).await;
    for Invalid { spec, why } in &rows {
        client.say(&format!("register {spec}")).await;
        let answer = client.event().await;
        assert_eq!(answer.key, format!("register {spec}").trim(), "{why}");
        assert!(!answer.error().is_empty(), "{why}");
        server.announce("machines", "update", "a").await;
        assert_eq!(client.event().await.name(), "machines.update.a", "after {spec}: {why}");
    }
    assert_eq!(server.metric("hydrant_commands_total{outcome=\"refused\"}").await, rows.len() as u64);
    assert_eq!(server.metric("hydrant_registrations").await, 1);
}

/// Verb and key of an answer, or a part of the error and its key.
type Expected = Result<(&'static str, &'static str), (&'static str, &'static str)>;

/// What is sent, and what has to come back.
const COMMANDS: &[(&str, Expected)] = &[
    ("register a.b.c", Ok(("register", "a.b.c"))),
    ("register a.b.c", Ok(("register", "a.b.c"))),
    ("  register \t a.*.x y \r\n", Ok(("register", "a.*.x y"))),
    ("register\ta.b.d", Ok(("register", "a.b.d"))),
    ("register\na.b.e", Ok(("register", "a.b.e"))),
    ("register a.b.", Ok(("register", "a.b."))),
    ("register templates.update.foo.tmpl", Ok(("register", "templates.update.foo.tmpl"))),
    ("register a.b.\"quoted\\1 \u{e9}\u{1f6b0}\"", Ok(("register", "a.b.\"quoted\\1 \u{e9}\u{1f6b0}\""))),
    ("register websocket.*.*", Ok(("register", "websocket.*.*"))),
    ("deregister a.b.c", Ok(("deregister", "a.b.c"))),
    ("deregister a.b.c", Err(("not registered: \"a.b.c\"", "deregister a.b.c"))),
    ("deregister a.*.*", Err(("not registered: \"a.*.*\"", "deregister a.*.*"))),
    ("deregister a", Err(("at least three parts", "deregister a"))),
    // What is not there is not read.
    ("deregister a.b.c.X=Re((", Err(("not registered: \"a.b.c.X=Re((\"", "deregister a.b.c.X=Re(("))),
    ("register", Err(("at least three parts", "register"))),
    ("register a", Err(("at least three parts", "register a"))),
    ("register a.b", Err(("at least three parts", "register a.b"))),
    ("", Err(("empty message", ""))),
    (" \r\n\t ", Err(("empty message", ""))),
    ("REGISTER a.b.c", Err(("unknown command \"REGISTER\"", "REGISTER a.b.c"))),
    ("Register a.b.c", Err(("unknown command \"Register\"", "Register a.b.c"))),
    ("registera.b.c", Err(("unknown command \"registera.b.c\"", "registera.b.c"))),
    ("subscribe a.b.c", Err(("unknown command \"subscribe\"", "subscribe a.b.c"))),
    ("{\"register\":\"a.b.c\"}", Err(("unknown command", "{\"register\":\"a.b.c\"}"))),
    ("\u{0}\u{1}", Err(("unknown command", "\u{0}\u{1}"))),
    ("\u{1f6b0}", Err(("unknown command \"\u{1f6b0}\"", "\u{1f6b0}"))),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_is_answered_once_and_in_order() {
    let server = Hydrant::start("").await;
    let mut client = server.connect().await;
    // All at once, twenty times over: the answers must not depend on waiting for each other.
    for _ in 0..20 {
        for (command, _) in COMMANDS {
            client.say(command).await;
        }
        client.say("deregister a.b.d").await;
    }
    for _ in 0..20 {
        for (command, expected) in COMMANDS {
            let answer = client.event().await;
            match expected {
                Ok((verb, key)) => assert_eq!(answer.name(), format!("websocket.{verb}.{key}"), "{command:?}"),
                Err((reason, key)) => {
                    assert_eq!(answer.key, *key, "{command:?}");
                    assert!(answer.error().contains(reason), "{command:?}: {answer:?}");
                }
            }
            assert_eq!(answer.principal, PRINCIPAL);
        }
        client.answer("deregister", "a.b.d").await;
    }
    // Nothing is left over: the next thing heard is the answer to the next thing said.
    client.register("the.very.end").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_have_this_form_to_the_byte() {
    let server = Hydrant::start("").await;
    let mut client = server.connect().await;
    for (command, rest) in [
        (
            "register a.b.*",
            concat!(
                r#","Type":"websocket","Action":"register","Key":"a.b.*","Principal":"user:rocketskates","#,
                r#""Object":null,"Original":null}"#,
            )
            .to_owned(),
        ),
        (
            "deregister a.b.*",
            concat!(
                r#","Type":"websocket","Action":"deregister","Key":"a.b.*","Principal":"user:rocketskates","#,
                r#""Object":null,"Original":null}"#,
            )
            .to_owned(),
        ),
    ] {
        client.say(command).await;
        check_form(&client.text().await, &rest);
    }
    let long = format!("junk {}", "\u{e9}".repeat(200));
    for (command, key) in [("junk \"1\"", "junk \\\"1\\\""), (&long, &format!("junk {}", "\u{e9}".repeat(125)))] {
        client.say(command).await;
        let reason = "unknown command \\\"junk\\\": expected `register SPEC` or `deregister SPEC`";
        let object = format!(r#"{{"Model":"","Key":"","Type":"WEBSOCKET","Messages":["{reason}"],"Code":400}}"#);
        let rest = format!(
            ",\"Type\":\"websocket\",\"Action\":\"error\",\"Key\":\"{key}\",\"Principal\":\"user:rocketskates\",\
             \"Object\":{object},\"Original\":null}}"
        );
        check_form(&client.text().await, &rest);
    }
    client.send(Message::binary(b"register a.b.*".as_slice())).await;
    let answer = client.event().await;
    assert_eq!(answer.key, "");
    assert!(answer.error().contains("binary message"));
    client.register("a.b.*").await;
}

/// Time first, in RFC 3339 and UTC, then exactly `rest`.
fn check_form(text: &str, rest: &str) {
    let time = &Seen::read(text).time;
    assert_eq!(text, format!(r#"{{"Time":"{time}"{rest}"#));
    assert!(time.starts_with("20") && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_is_one_registration_and_an_event_comes_once() {
    let server = Hydrant::start("shards = 1").await;
    let mut client = server.connect().await;
    for spec in ["a.b.c", "a.b.c", "a.*.c", "*.*.*", "a,a.b.c,*", " a.b.c"] {
        client.say(&format!("register {spec}")).await;
        client.answer("register", spec.trim()).await;
    }
    server.until("hydrant_registrations", 4).await;
    server.announce("a", "b", "c").await;
    server.announce("a", "b", "d").await;
    assert_eq!(client.names_until("a.b.d").await, ["a.b.c"]);
    for spec in ["*.*.*", "a,a.b.c,*", "a.*.c"] {
        client.deregister(spec).await;
    }
    server.announce("a", "b", "d").await;
    server.announce("a", "b", "c").await;
    assert_eq!(client.event().await.name(), "a.b.c");
    client.deregister("a.b.c").await;
    server.until("hydrant_registrations", 0).await;
    server.announce("a", "b", "c").await;
    client.register("end.end.end").await;
    server.announce("end", "end", "end").await;
    assert_eq!(client.event().await.name(), "end.end.end", "one deregister takes a registration away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_before_something_is_registered() {
    let server = Hydrant::start("shards = 1").await;
    let (mut silent, mut other) = (server.connect().await, server.watch(&["a.*.*"]).await);
    server.announce("a", "b", "c").await;
    assert_eq!(other.event().await.name(), "a.b.c");
    // One shard has seen the event; the silent one's first words are the answer to its first command.
    silent.register("a.*.*").await;
    server.announce("a", "b", "d").await;
    assert_eq!(silent.event().await.name(), "a.b.d");
}

async fn refused(client: &mut Client, command: &str, reason: &str) {
    client.say(command).await;
    let error = client.event().await.error();
    assert!(error.contains(reason), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_bind_at_their_defaults() {
    let server = Hydrant::start("").await;
    let mut client = server.connect().await;
    for round in 0..8 {
        for at in 0..512 {
            client.say(&format!("register t.a.{round}-{at}")).await;
        }
        for at in 0..512 {
            client.answer("register", &format!("t.a.{round}-{at}")).await;
        }
    }
    refused(&mut client, "register one.too.many", "at most 4096").await;
    client.register("t.a.0-0").await;
    client.deregister("t.a.0-0").await;
    client.register("now.it.fits").await;
    server.announce("one", "too", "many").await;
    server.announce("t", "a", "7-511").await;
    assert_eq!(client.event().await.name(), "t.a.7-511");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_bounded_by_what_they_make() {
    let server = Hydrant::start("limits = { combinations = 1000 }").await;
    let mut client = server.watch(&["before.*.*"]).await;
    let list = |prefix: char, n: usize| (0..n).map(|at| format!("{prefix}{at}")).collect::<Vec<_>>().join(",");
    let spec = |a, b, c| format!("{}.{}.{}", list('a', a), list('b', b), list('c', c));
    client.register(&spec(10, 10, 10)).await;
    refused(&mut client, &format!("register {}", spec(11, 10, 10)), "make 1100, at most 1000 are allowed").await;
    refused(&mut client, &format!("register {}", spec(300, 300, 300)), "27000000, at most 1000 are allowed").await;
    server.announce("a10", "b0", "c0").await;
    server.announce("a9", "b9", "c9").await;
    server.announce("before", "x", "y").await;
    assert_eq!(client.names_until("before.x.y").await, ["a9.b9.c9"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_may_be_so_long_and_no_longer() {
    let server = Hydrant::start("limits = { message_bytes = 1000 }").await;
    let mut client = server.connect().await;
    let spec = format!("a.b.{}", "x".repeat(1000 - "register a.b.".len()));
    client.register(&spec).await;
    client.say(&format!("register {spec}y")).await;
    assert_eq!(client.closed().await, (1009, "message too big".to_owned(), 0));
    server.until("hydrant_disconnects_total{reason=\"too_big\"}", 1).await;
    server.until_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_pings_and_a_client_that_answers_stays() {
    let server = Hydrant::start("timeouts = { ping = \"300ms\", idle = \"6s\" }").await;
    let mut client = server.connect().await;
    // Reading answers pings; forty of them take twice the idle time, which a busy machine may hold the client up for.
    for _ in 0..40 {
        let message = patiently("a ping", client.stream.next()).await.unwrap().unwrap();
        assert_eq!(message, Message::Ping(Vec::new().into()));
    }
    client.say("register a.b.c").await;
    client.answer("register", "a.b.c").await;
}
