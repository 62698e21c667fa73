//! How a server ends: clients that do not answer do not hold it up, and who is told twice ends at once.

use std::time::Duration;

use crate::common::program::Program;
use crate::common::raw::{Raw, masked};
use crate::common::{Hydrant, http, patiently, socket};

/// The close frame has to come; it is not answered.
async fn awaits_close(raw: &mut Raw) {
    let (first, payload) = raw.frame().await;
    assert_eq!((first, &payload[..2]), (0x88, &1001_u16.to_be_bytes()[..]));
}

fn handshake(token: &str) -> String {
    format!(
        "GET /api/v3/ws HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_answer_its_close_is_cut_while_the_server_drains() {
    for tls in [false, true] {
        let settings = "shards = 1\ntimeouts = { close = \"200ms\", drain = \"10m\" }";
        let server = if tls { Hydrant::start_tls(settings).await } else { Hydrant::start(settings).await };
        let mut raw = server.raw().await;
        raw.send(&masked(0x81, b"register a.b.c")).await;
        raw.text().await;
        let ending = tokio::spawn(server.stop());
        awaits_close(&mut raw).await;
        patiently("the end of the server", ending).await.unwrap();
    }
}

/// A client that takes nothing: it cannot even be told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_the_end_up_no_longer_than_the_drain() {
    let settings = "shards = 1\ntimeouts = { drain = \"1s\" }\noutbox = { age = \"off\" }";
    let server = Hydrant::start(settings).await;
    let handshake = server.handshake_text().await;
    let mut raw = Raw(socket::connect_narrow(server.address(), false).await);
    raw.send(handshake.as_bytes()).await;
    raw.head().await;
    raw.send(&masked(0x81, b"register a.b.*")).await;
    raw.text().await;
    let large = format!(r#"{{"Type":"a","Action":"b","Object":"{}"}}"#, "x".repeat(2 << 20));
    server.post(&large).await;
    server.until_that("hydrant_queue_bytes", |bytes| bytes > 0).await;
    patiently("the end of the server", server.stop()).await;
}

/// Neither it nor the metrics can be asked any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_what_was_not_delivered_when_the_time_to_drain_is_over() {
    for reads in [false, true] {
        let settings = "shards = 2\ntimeouts = { drain = \"1s\", close = \"100ms\" }\noutbox = { age = \"off\" }";
        let program = Program::start("off", "level = \"info\"", settings);
        let token = program.token().await;
        let mut raw = Raw(socket::connect_narrow(program.api, false).await);
        raw.send(handshake(&token).as_bytes()).await;
        raw.head().await;
        raw.send(&masked(0x81, b"register a.b.*")).await;
        raw.text().await;
        let large = format!(r#"{{"Type":"a","Action":"b","Object":"{}"}}"#, "x".repeat(2 << 20));
        let bearer = format!("Bearer {token}");
        for _ in 0..3 {
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            let reply = http::request(program.api, false, "POST", "/api/v3/events", &headers, &large).await;
            assert_eq!(reply.status.as_u16(), 204);
        }
        program.signal("TERM");
        if reads {
            for _ in 0..3 {
                raw.frame().await;
            }
            awaits_close(&mut raw).await;
        }
        let (status, said) = patiently("the end", tokio::task::spawn_blocking(move || program.wait())).await.unwrap();
        assert_eq!(status.code(), Some(0));
        let since = said.iter().skip_while(|line| !line.contains("stopping: "));
        let warnings: Vec<_> = since.filter(|line| line.contains("WARN")).collect();
        if reads {
            assert!(warnings.is_empty(), "{warnings:#?}");
        } else {
            assert!(warnings.len() == 1 && warnings[0].contains("connections=1 events=3 unmatched=0"), "{warnings:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_process_at_once() {
    let program = Program::start("off", "level = \"info\"", "timeouts = { close = \"10m\", drain = \"10m\" }");
    let token = program.token().await;
    let mut raw = Raw(socket::connect(program.api, false).await);
    raw.send(handshake(&token).as_bytes()).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
    program.signal("TERM");
    awaits_close(&mut raw).await;
    ends_at_once(program).await;
}

/// The second signal.
async fn ends_at_once(program: Program) {
    tokio::time::sleep(Duration::from_millis(50)).await;
    program.signal("TERM");
    let (status, _) = patiently("the end", tokio::task::spawn_blocking(move || program.wait())).await.unwrap();
    assert_eq!(status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_lame_duck_at_once() {
    let program = Program::start("off", "level = \"info\"", "timeouts = { lame_duck = \"10m\" }");
    program.signal("TERM");
    let unready = async {
        while http::request(program.probe, false, "GET", "/readyz", &[], "").await.status.as_u16() == 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently("the server to be unready", unready).await;
    ends_at_once(program).await;
}
