//! `POST /api/v3/events`: what is taken, what becomes of it, and what is refused with which place named.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncWriteExt;

use crate::common;
use crate::common::http::{Http, Reply};
use crate::common::ws::Client;
use crate::common::{Hydrant, JSON, LOGIN, NDJSON, PRINCIPAL, basic, event, patiently};

async fn server() -> (Hydrant, Client) {
    let server = Hydrant::start("shards = 1").await;
    let client = server.watch(&["*.*.*"]).await;
    (server, client)
}

/// Nothing may have come before an event that is posted now.
async fn nothing_before_now(server: &Hydrant, client: &mut Client) {
    server.announce("end", "end", "end").await;
    assert_eq!(client.event().await.name(), "end.end.end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_an_array_and_lines_are_taken() {
    let (server, mut client) = server().await;
    let (a, b, c) = (event("a", "b", "1"), event("a", "b", "2"), event("a", "b", "3"));
    for (form, body, count) in [
        (JSON, a.clone(), 1),
        (JSON, format!(" \r\n{a}\n "), 1),
        ("Application/JSON; charset=utf-8", format!("[{a},\n {b} , {c}]"), 3),
        (JSON, "[]".to_owned(), 0),
        (NDJSON, format!("{a}\n{b}\n{c}"), 3),
        (NDJSON, format!("{a}\r\n\r\n\n  {b}\n"), 2),
        (NDJSON, String::new(), 0),
    ] {
        let reply = server.try_post(form, &body).await;
        reply.taken();
        assert_eq!((reply.header("content-type"), reply.body.as_str()), (JSON, ""), "drpcli fails without the type");
        for at in 1..=count {
            assert_eq!(client.event().await.name(), format!("a.b.{at}"), "{body}");
        }
    }
    nothing_before_now(&server, &mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_is_this_to_the_byte() {
    let (server, mut client) = server().await;
    let time = r#""Time":"2026-11-24T04:22:08.33567049+01:00""#;
    let by = format!(r#""Principal":"{PRINCIPAL}""#);
    for (posted, arrives) in [
        (
            format!(
                "{{\"oRIGINAL\":1,\"OBJECT\": [ ],\"key\":\"k\",\"ACTION\":\"b\",\"type\":\"a\",{time},\
                 \"Extra\":{{\"Type\":\"x\"}},\"Model\":7}}"
            ),
            format!(r#"{{{time},"Type":"a","Action":"b","Key":"k",{by},"Object":[],"Original":1}}"#),
        ),
        (
            format!(r#"{{{time},"Type":"a","Action":"b"}}"#),
            format!(r#"{{{time},"Type":"a","Action":"b","Key":"",{by},"Object":null,"Original":null}}"#),
        ),
        (
            format!(
                "{{{time},\"Type\":\"a\",\"Action\":\"b\",\"Key\":null,\"Object\":{{\"z\":12345678901234567890123,\
                 \"a\":1.0e+5,\"m\":-0.10,\"z\":\" \\u00e9\\/<>&\\u2028\"}},\"Original\":\" text \"}}"
            ),
            format!(
                "{{{time},\"Type\":\"a\",\"Action\":\"b\",\"Key\":\"\",{by},\
                 \"Object\":{{\"z\":12345678901234567890123,\"a\":1.0e+5,\"m\":-0.10,\
                 \"z\":\" \\u00e9\\/<>&\\u2028\"}},\"Original\":\" text \"}}"
            ),
        ),
        (
            format!(r#"{{{time},"Type":"\u0061","Action":"b","Key":"\"\\\u0007\u00e9","Object":true,"Object":false}}"#),
            format!(
                "{{{time},\"Type\":\"a\",\"Action\":\"b\",\"Key\":\"\\\"\\\\\\u0007\u{e9}\",{by},\"Object\":false,\
                 \"Original\":null}}"
            ),
        ),
    ] {
        server.post(&posted).await;
        assert_eq!(client.text().await, arrives);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_is_missing_or_zero_is_now() {
    let (server, mut client) = server().await;
    // What Go writes, and what others do for their own zero: .NET, Java, Python, and clocks that are not set to UTC.
    let zeros =
        ["Z", "+00:00", "-00:00", ".0Z", ".000Z", ".0000000+00:00"].map(|end| format!("0001-01-01T00:00:00{end}"));
    let local = ["0001-01-01T01:30:00+01:30", "0000-12-31T19:00:00-05:00"].map(str::to_owned);
    let zeros = zeros.into_iter().chain(local).map(|zero| format!(r#""Time":"{zero}","#));
    for time in ["", r#""Time":null,"#, r#""Time":"","#].map(str::to_owned).into_iter().chain(zeros) {
        let before = hydrant::clock::now();
        server.post(&format!(r#"{{{time}"Type":"a","Action":"b"}}"#)).await;
        let stamped: jiff::Timestamp = client.event().await.time.parse().unwrap();
        assert!(before <= stamped && stamped <= hydrant::clock::now(), "{time:?} became {stamped}");
    }
    let later = "0001-01-01T00:00:00.000000001Z";
    server.post(&format!(r#"{{"Time":"{later}","Type":"a","Action":"b"}}"#)).await;
    assert_eq!(client.event().await.time, later, "one that was given");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_named_and_nothing_of_it_is_taken() {
    let (server, mut client) = server().await;
    let good = event("a", "b", "c");
    for (form, body, expected) in [
        (JSON, String::new(), "not valid JSON"),
        (JSON, r#"{"Type":}"#.to_owned(), "not valid JSON at byte"),
        (JSON, format!("{good}{good}"), "not valid JSON at byte"),
        (JSON, "7".to_owned(), "at byte 0: an event must be a JSON object"),
        (JSON, r#"{"Action":"b"}"#.to_owned(), "at byte 13: Type is missing or empty"),
        (JSON, r#"{"Type":"","Action":"b"}"#.to_owned(), "at byte 8: Type is missing or empty"),
        (JSON, r#"{"Type":"a"}"#.to_owned(), "at byte 11: Action is missing or empty"),
        (
            JSON,
            r#"{"Type":"websocket","Action":"x"}"#.to_owned(),
            "at byte 8: Type `websocket` is reserved for answers",
        ),
        (JSON, r#"{"Type":1,"Action":"b"}"#.to_owned(), "at byte 8: Type must be a string"),
        (JSON, r#"{"Type":"a","Action":"b","Key":["k"]}"#.to_owned(), "at byte 31: Key must be a string"),
        (
            JSON,
            r#"{"Type":"a","Action":"b","Time":"yesterday"}"#.to_owned(),
            "at byte 32: Time is not an RFC 3339 time",
        ),
        (JSON, r#"{"Type":"a","Action":"b","Time":1700000000}"#.to_owned(), "at byte 32: Time must be a string"),
        (JSON, format!(r#"[{good},{good},{{"Type":"a"}}]"#), "element 2: at byte 11: Action is missing or empty"),
        (JSON, format!("[{good},[{good}]]"), "element 1: at byte 0: an event must be a JSON object"),
        (JSON, format!(r#"[{good}, {{"Type":"websocket"}}]"#), "element 1: at byte 8: Type `websocket`"),
        (JSON, format!("[{good}"), "not valid JSON at byte"),
        (NDJSON, format!("{good}\n\n{good}\n{{\"Type\":\n"), "line 4: not valid JSON at byte"),
        (NDJSON, format!("{good}\n[{good}]\n"), "line 2: at byte 0: an event must be a JSON object"),
        (NDJSON, format!("{good}\n {{\"Action\":\"b\"}}"), "line 2: at byte 14: Type is missing or empty"),
    ] {
        let error = server.try_post(form, &body).await.error(400);
        assert!(error.starts_with(expected), "{body}: {error}");
    }
    let raw = format!("Bearer {}", server.token().await);
    let headers = [("authorization", raw.as_str()), ("content-type", JSON)];
    let body = b"{\"Type\":\"a\xFF\",\"Action\":\"b\"}".to_vec();
    let mut http = Http::connect(server.address(), false).await;
    http.request("POST", "/api/v3/events", &headers, body).await.error(400);
    nothing_before_now(&server, &mut client).await;
    assert_eq!(server.metric("hydrant_events_received_total{source=\"post\"}").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_content_types_are_refused() {
    let (server, mut client) = server().await;
    for form in ["text/plain", "application/yaml", "application/x-www-form-urlencoded", ""] {
        let error = server.try_post(form, &event("a", "b", "c")).await.error(400);
        assert!(error.starts_with("Invalid content type: "), "{error}");
        assert!(error.contains(form), "{error}");
    }
    server.request("POST", "/api/v3/events", &[], &event("a", "b", "c")).await.error(400);
    nothing_before_now(&server, &mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_is_refused() {
    let server = Hydrant::start("limits = { event_bytes = 1000, body_bytes = 4000, post_events = 20 }").await;
    let mut client = server.watch(&["*.*.*"]).await;
    let sized = |bytes: usize| {
        let empty = event("a", "b", "");
        event("a", "b", &"x".repeat(bytes - empty.len()))
    };
    server.post(&sized(1000)).await;
    assert_eq!(client.event().await.r#type, "a");
    let error = server.try_post(JSON, &sized(1001)).await.error(413);
    assert!(error.contains("1001 bytes") && error.contains("1000"), "{error}");
    let body = format!("{}\n{}", sized(100), sized(1500));
    let error = server.try_post(NDJSON, &body).await.error(413);
    assert!(error.starts_with("line 2: ") && error.contains("1500 bytes"), "{error}");
    let body = format!("[{},{}]", sized(100), sized(1500));
    assert!(server.try_post(JSON, &body).await.error(413).starts_with("element 1: "));
    // Within the bound for bodies, and one byte beyond it.
    let lines = format!("{}\n", sized(799)).repeat(5);
    server.post_lines(&lines).await;
    for _ in 0..5 {
        assert_eq!(client.event().await.r#type, "a");
    }
    let error = server.try_post(NDJSON, &format!("{lines}\n")).await.error(413);
    assert!(error.contains("4000 bytes"), "{error}");
    // Many small ones take more memory than their text, so there is a bound on their number.
    let error = server.try_post(NDJSON, &format!("{}\n", event("a", "b", "c")).repeat(21)).await.error(413);
    assert!(error.starts_with("line 21: too many events in one request: at most 20"), "{error}");
    nothing_before_now(&server, &mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_principal_is_the_callers_unless_it_may_impersonate() {
    let (server, mut client) = server().await;
    let post = r#"{"Type":"a","Action":"b","Principal":"runner:somebody"}"#;
    server.post(post).await;
    assert_eq!(client.event().await.principal, "runner:somebody", "a superuser may");
    server.post(&event("a", "b", "c")).await;
    assert_eq!(client.event().await.principal, PRINCIPAL);
    let narrow = "/api/v3/users/rocketskates/token?scope=events&action=post&specific=*";
    let token = server.request("GET", narrow, &[], "").await.json()["Token"].as_str().unwrap().to_owned();
    post_as(&server, &token, post).await.taken();
    assert_eq!(client.event().await.principal, PRINCIPAL, "who may only post may not pretend");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_post_is_refused() {
    let (server, mut client) = server().await;
    let narrow = "/api/v3/users/rocketskates/token?scope=machines&action=get&specific=*";
    let token = server.request("GET", narrow, &[], "").await.json()["Token"].as_str().unwrap().to_owned();
    let error = post_as(&server, &token, &event("a", "b", "c")).await.error(403);
    assert!(error.contains("events post"), "{error}");
    nothing_before_now(&server, &mut client).await;
}

async fn post_as(server: &Hydrant, token: &str, body: &str) -> Reply {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
    common::http::request(server.address(), server.tls, "POST", "/api/v3/events", &headers, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_users_never_leave() {
    let (server, mut client) = server().await;
    let user = concat!(
        r#"{"Name":"bob", "PasswordHash":"CANARY","Roles":["a"],"secret":"CANARY","Secret":{"x":["CANARY"]},"#,
        r#""\u0053ecret":"CANARY","Meta":{}}"#,
    );
    for action in ["create", "update", "save", "delete"] {
        server
            .post(&format!(r#"{{"Type":"users","Action":"{action}","Key":"bob","Object":{user},"Original":{user}}}"#))
            .await;
        let seen = client.event().await;
        let left = r#"{"Name":"bob","Roles":["a"],"Meta":{}}"#;
        assert_eq!((seen.object.get(), seen.original.get()), (left, left), "{action}");
        let around = |user: &str| format!(r#"{{"Users":[{user}],"Old":{user},"By":{{"Name":"x","User":{user}}}}}"#);
        server.post(&format!(r#"{{"Type":"users","Action":"{action}","Key":"bob","Object":{}}}"#, around(user))).await;
        assert_eq!(client.event().await.object.get(), around(left), "below any member");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_agents_and_preferences_never_leave() {
    let (server, mut client) = server().await;
    let agent = (r#"{"Uuid":"u","Secret":"CANARY","Meta":{"Secret":"m"}}"#, r#"{"Uuid":"u","Meta":{"Secret":"m"}}"#);
    let preference = (
        r#"[{"Name":"baseTokenSecret","Value":"CANARY"},{"Prefs":{"systemGrantorSecret":"CANARY","x":"y"}}]"#,
        r#"[{"Name":"baseTokenSecret"},{"Prefs":{"x":"y"}}]"#,
    );
    let kinds = [("machines", agent), ("clusters", agent), ("resource_brokers", agent), ("preferences", preference)];
    for (kind, (object, left)) in kinds {
        let event = format!(r#"{{"Type":"{kind}","Action":"save","Key":"u","Object":{object},"Original":{object}}}"#);
        server.post(&event).await;
        let seen = client.event().await;
        assert_eq!((seen.object.get(), seen.original.get()), (left, left), "{kind}");
    }
}

/// One shard with room for one event, and many who post at once: some are turned away. What was taken arrives, what was
/// refused does not, and a second try is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn full_inboxes_are_told_and_nothing_is_lost() {
    let server = Hydrant::start("shards = 1\n[inbox]\nevents = 1").await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(server.watch(&["*.*.*"]).await);
    }
    let bearer: Arc<str> = format!("Bearer {}", server.token().await).into();
    let refusals = Arc::new(AtomicU64::new(0));
    let publishers = (0..8).map(|publisher| {
        let (bearer, refusals, address) = (Arc::clone(&bearer), Arc::clone(&refusals), server.address());
        tokio::spawn(async move {
            let mut http = Http::connect(address, false).await;
            let headers = [("authorization", &*bearer), ("content-type", JSON)];
            let mut number = 0;
            // Enough for sure, and then until somebody was refused; tries are bounded by the patience of every request.
            while number < 100 || (refusals.load(Ordering::SeqCst) == 0 && number < 10_000) {
                let body = event("a", &publisher.to_string(), &number.to_string());
                let reply = http.request("POST", "/api/v3/events", &headers, body).await;
                if reply.status == 204 {
                    number += 1;
                } else {
                    assert!(reply.error(429).contains("inboxes are full"), "{}", reply.body);
                    assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
                    refusals.fetch_add(1, Ordering::SeqCst);
                }
            }
            number
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut taken = 0;
    for publisher in publishers {
        taken += publisher.await.unwrap();
    }
    let refused = refusals.load(Ordering::SeqCst);
    assert!(refused > 0, "{taken} events were taken by a single place and nobody had to wait");
    assert_eq!(server.metric("hydrant_events_refused_total").await, refused);
    let mut last = server.try_post(JSON, &event("end", "end", "end")).await;
    while last.status != 204 {
        last = server.try_post(JSON, &event("end", "end", "end")).await;
    }
    for client in &mut clients {
        let mut next = [0; 8];
        for seen in client.until("end.end.end").await {
            let publisher: usize = seen.action.parse().unwrap();
            assert_eq!(seen.key, next[publisher].to_string(), "publisher {publisher}");
            next[publisher] += 1;
        }
        assert_eq!(next.iter().sum::<u64>(), taken);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_stand_still_hold_no_more_than_a_few_of_the_longest() {
    let server = Hydrant::start("limits = { body_bytes = \"64KiB\", event_bytes = \"32KiB\" }").await;
    let head = |length: usize| {
        format!(
            "POST /api/v3/events HTTP/1.1\r\nHost: h\r\nAuthorization: {}\r\nContent-Type: {NDJSON}\r\n\
             Content-Length: {length}\r\n\r\n",
            basic(LOGIN)
        )
    };
    let mut refused = server.dial().await;
    refused.send(head((64 << 10) + 1).as_bytes()).await;
    assert!(refused.head().await.starts_with("HTTP/1.1 413"));
    let mut standing = Vec::new();
    let mut busy = 0;
    for _ in 0..6 {
        let mut raw = server.dial().await;
        raw.send(head(60 << 10).as_bytes()).await;
        // Who is refused may be gone by then.
        let _ = patiently("a write", raw.0.write_all(&vec![b' '; 59 << 10])).await;
        standing.push(raw);
    }
    for raw in &mut standing {
        busy += u32::from(raw.head().await.starts_with("HTTP/1.1 503"));
    }
    assert!((1..6).contains(&busy), "{busy} of six were refused for want of memory, the others for standing still");
    server.announce("a", "b", "c").await;
}

/// A body is held in one buffer, whatever the pieces that it came in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_many_small_chunks_takes_no_more_memory_than_its_bytes() {
    let server = Hydrant::start("limits = { body_bytes = \"64KiB\", event_bytes = \"32KiB\" }").await;
    let mut client = server.watch(&["a.*.*"]).await;
    let head = format!(
        "POST /api/v3/events HTTP/1.1\r\nHost: h\r\nAuthorization: {}\r\nContent-Type: {JSON}\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        basic(LOGIN)
    );
    let mut event = event("a", "b", "c");
    event.push_str(&" ".repeat(2_000));
    let chunks = event.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect::<Vec<_>>().concat();
    let mut raw = server.dial().await;
    raw.send(format!("{head}{chunks}0\r\n\r\n").as_bytes()).await;
    let answer = raw.head().await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert_eq!(client.event().await.key, "c");
}
