//! What stalled readers cost in memory: no more than the bound of one outbox, however many they are, because they share
//! the frames that wait for them. Measured on the program itself, with its own allocator, in a process of its own.

use crate::common;
use crate::common::http::{self, Http};
use crate::common::program::Program;
use crate::common::{JSON, socket};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const MIB: u64 = 1 << 20;

/// `outbox.bytes`.
const BOUND: u64 = 8 * MIB;

/// Besides the bound: the batch under way, as posted and as framed, the threads' heaps, and what the allocator keeps.
const SLACK: u64 = 24 * MIB;

const STALLED: usize = 50;

/// Posted in all; many times the bound, so that a server that keeps it all is found out.
const POSTED: u64 = 192 * MIB;

const EVENT: usize = 64 << 10;

async fn watch(program: &Program, narrow: bool, token: &str) -> WebSocketStream<socket::Socket> {
    let socket = if narrow {
        socket::connect_narrow(program.api, false).await
    } else {
        socket::connect(program.api, false).await
    };
    let request = format!("ws://{}/api/v3/ws?token={token}", program.api).into_client_request().unwrap();
    let (mut stream, _) = tokio_tungstenite::client_async(request, socket).await.unwrap();
    stream.send("register load.*.*".into()).await.unwrap();
    let answer = common::patiently("the answer", stream.next()).await.unwrap().unwrap();
    assert!(answer.to_text().unwrap().contains("\"Action\":\"register\""));
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_readers_cost_no_more_than_the_bound() {
    // What the history retains is bounded by itself and no cost of stalled readers.
    let toml = "[outbox]\nbytes = \"8MiB\"\n[timeouts]\nclose = \"60s\"\n[replay]\nevents = 0";
    // Resident memory shall be what is in use, and not huge pages of which a part is.
    let env = [("MIMALLOC_ALLOW_THP", "0"), ("MIMALLOC_PURGE_DELAY", "0")];
    let program = Program::start_in(tempfile::tempdir().unwrap(), &env, "off", "format = 'json'", toml);
    let token = program.token().await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(watch(&program, true, &token).await);
    }
    let mut healthy = watch(&program, false, &token).await;

    let before = program.memory("VmRSS");
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
    let mut publisher = Http::connect(program.api, false).await;
    let filler = "x".repeat(EVENT);
    let body = format!(r#"{{"Type":"load","Action":"update","Key":"k","Object":"{filler}"}}"#);
    let batch = format!("[{}]", vec![body; 8].join(","));
    for _ in 0..POSTED / (8 * EVENT as u64) {
        publisher.request("POST", "/api/v3/events", &headers, batch.clone()).await.taken();
        for _ in 0..8 {
            // On a busy machine it takes longer than the time between two pings.
            let mut message = common::patiently("an event", healthy.next()).await.unwrap().unwrap();
            while message.is_ping() {
                message = common::patiently("an event", healthy.next()).await.unwrap().unwrap();
            }
            assert!(message.is_text(), "{message:?}");
        }
    }
    let grown = program.memory("VmHWM").saturating_sub(before);
    assert!(
        grown < BOUND + SLACK,
        "grown by {} MiB at its highest, {} MiB are allowed",
        grown / MIB,
        (BOUND + SLACK) / MIB
    );
    assert_eq!(http::metric(program.probe, "hydrant_registrations").await, 1, "all stalled readers were given up");
    assert!(http::metric(program.probe, "hydrant_queue_bytes").await < STALLED as u64 * 2 * EVENT as u64);
    drop(stalled);
}
