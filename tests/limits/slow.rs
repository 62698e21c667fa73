//! Clients that do not read, and clients that come and go: nobody else loses anything and nothing is left of them.

use std::ops::RangeInclusive;

use crate::common;
use crate::common::ws::{Client, Show};
use crate::common::{Hydrant, Seen};
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio_tungstenite::tungstenite::Message;

const SLOW: &str = "hydrant_disconnects_total{reason=\"slow_consumer\"}";

const HEALTHY: usize = 100;

/// Bytes of an event's object; the kernel's buffers hold a few hundred of them at most.
const LARGE: usize = 16 << 10;

const BATCH: usize = 8;

/// Batches after which the slow reader must have been found; many times what the kernel can hold.
const MOST_BATCHES: usize = 100;

fn batch(number: usize) -> String {
    let filler = "x".repeat(LARGE);
    let event = |at: usize| {
        format!(r#"{{"Type":"load","Action":"update","Key":"{}","Object":"{filler}"}}"#, number * BATCH + at)
    };
    format!("[{}]", (0..BATCH).map(event).collect::<Vec<_>>().join(","))
}

async fn read_batch(client: &mut Client, number: usize) {
    for at in 0..BATCH {
        let seen = client.event().await;
        assert_eq!(
            (seen.key.as_str(), seen.object.get().len()),
            ((number * BATCH + at).to_string().as_str(), LARGE + 2)
        );
    }
}

/// Posts until the slow one is given up. Each batch waits for all healthy readers, so that these are never behind.
async fn post_until_given_up(server: &Hydrant, healthy: &mut [Client]) -> usize {
    for number in 0..MOST_BATCHES {
        server.post(&batch(number)).await;
        join_all(healthy.iter_mut().map(|client| read_batch(client, number))).await;
        if server.metric("hydrant_registrations").await == HEALTHY as u64 {
            return number + 1;
        }
    }
    panic!("a reader that never reads was never given up");
}

/// The numbers of `slow consumer: N events, M bytes queued`; nothing else may stand there.
fn numbers(reason: &str) -> (u64, u64) {
    let rest = reason.strip_prefix("slow consumer: ").and_then(|rest| rest.strip_suffix(" bytes queued"));
    let (events, bytes) = rest.and_then(|rest| rest.split_once(" events, ")).unwrap_or_else(|| panic!("{reason:?}"));
    (events.parse().unwrap(), bytes.parse().unwrap())
}

struct Bound {
    events: RangeInclusive<u64>,
    bytes: RangeInclusive<u64>,
}

async fn a_stalled_reader(server: Hydrant, bound: Bound) {
    let mut healthy = join_all((0..HEALTHY).map(|_| server.watch(&["load.*.*"]))).await;
    let mut slow = server.connect_narrow().await;
    slow.register("load.*.*").await;
    server.until("hydrant_registrations", HEALTHY as u64 + 1).await;

    let batches = post_until_given_up(&server, &mut healthy).await;
    let posted = (batches * BATCH) as u64;
    let (code, reason, received) = slow.closed().await;
    assert_eq!(code, 1013, "{reason}");
    let (events, bytes) = numbers(&reason);
    assert!(bound.events.contains(&events), "{reason}");
    assert!(bound.bytes.contains(&bytes), "{reason}");
    drop(slow);

    server.until(SLOW, 1).await;
    server.until("hydrant_connections", HEALTHY as u64).await;
    let received = received as u64;
    assert!(received < posted, "{received} of {posted}");
    // Of those that waited, one may have been on its way already; it is delivered to its end. One was refused.
    let dropped = server.metric("hydrant_deliveries_dropped_total{reason=\"slow_consumer\"}").await;
    assert!(dropped == events + 1 || dropped == events, "{dropped} dropped, {reason}");
    let delivered = HEALTHY as u64 * posted + received;
    server.until("hydrant_deliveries_total", delivered).await;
    assert_eq!(server.metric("hydrant_deliveries_matched_total").await, delivered + dropped);
    server.announce("load", "update", "end").await;
    for client in &mut healthy {
        assert_eq!(client.event().await.name(), "load.update.end");
    }
    drop(healthy);
    server.until_empty().await;
    assert_eq!(server.metric(SLOW).await, 1);
}

const EVENTS: &str = "shards = 2\n[outbox]\nevents = 64\nage = \"off\"\n[timeouts]\nclose = \"5m\"";
const BYTES: &str = "shards = 2\n[outbox]\nbytes = \"1MiB\"\nage = \"off\"\n[timeouts]\nclose = \"5m\"";

/// Frames of an event: its object and less than 200 bytes around it.
const FRAME: u64 = LARGE as u64 + 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_events_close_a_reader_that_does_not_read() {
    let bound = Bound { events: 64..=64, bytes: 63 * LARGE as u64..=64 * FRAME };
    a_stalled_reader(Hydrant::start(EVENTS).await, bound).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_bytes_close_a_reader_that_does_not_read() {
    let bound = Bound { events: 60..=65, bytes: (1 << 20) - FRAME..=1 << 20 };
    a_stalled_reader(Hydrant::start(BYTES).await, bound).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_behind_tls_is_closed_too() {
    let bound = Bound { events: 64..=64, bytes: 63 * LARGE as u64..=64 * FRAME };
    a_stalled_reader(Hydrant::start_tls(EVENTS).await, bound).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_that_never_comes_back_is_cut() {
    let server = Hydrant::start("[outbox]\nevents = 16\n[timeouts]\nclose = \"200ms\"").await;
    let mut slow = server.connect_narrow().await;
    slow.register("load.*.*").await;
    let mut number = 0;
    while server.metric(SLOW).await == 0 {
        assert!(number < 4 * MOST_BATCHES, "never cut");
        server.post(&batch(number)).await;
        number += 1;
    }
    server.until_empty().await;
    // What the kernel had taken comes whole and in order; the close frame only if there was room for it behind.
    let mut next = 0;
    while let Some(Ok(message)) = common::patiently("the end", slow.stream.next()).await {
        if let Message::Close(close) = message {
            assert_eq!(u16::from(close.unwrap().code), 1013);
            break;
        }
        let seen = Seen::read(message.to_text().unwrap());
        assert_eq!(seen.key, next.to_string());
        next += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_commands_without_reading_the_answers_is_cut() {
    // Without the bound the kernel holds thousands of answers, and reading as many commands takes a machine its time.
    let toml = "[limits]\nsocket_buffer = \"8KiB\"\n[outbox]\nevents = 64\n[timeouts]\nclose = \"200ms\"";
    let server = Hydrant::start(toml).await;
    let mut flooder = server.connect_narrow().await;
    let junk = "x".repeat(60_000);
    let flood = async {
        use futures_util::SinkExt;
        // Each costs an answer of some hundred bytes.
        while flooder.stream.send(junk.as_str().into()).await.is_ok() {}
    };
    common::patiently("the end of the flood", flood).await;
    server.until(SLOW, 1).await;
    server.until_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_that_come_and_go_leave_nothing() {
    let server = Hydrant::start("shards = 2").await;
    let query = format!("token={}", server.token().await);
    for chunk in 0..20 {
        let come = (0..500).map(|_| async {
            let mut client = server.try_connect(&Show::Query(&query), &[]).await.unwrap();
            client.register("machines,jobs.*.a,b,c").await;
            client
        });
        let mut clients = join_all(come).await;
        server.until("hydrant_connections", 500).await;
        if chunk % 10 == 0 {
            server.announce("machines", "update", "a").await;
            join_all(clients.iter_mut().map(async |client| assert_eq!(client.event().await.key, "a"))).await;
        }
        // Half of them say good-bye.
        join_all(clients.iter_mut().step_by(2).map(async |client| client.stream.close(None).await.unwrap())).await;
        drop(clients);
        server.until("hydrant_connections", 0).await;
    }
    server.until_empty().await;
    assert_eq!(server.metric("hydrant_connections_opened_total").await, 10_000);
    assert_eq!(server.metric(SLOW).await, 0);
    let gone = async |reason: &str| server.metric(&format!("hydrant_disconnects_total{{reason=\"{reason}\"}}")).await;
    assert_eq!(gone("normal").await + gone("vanished").await, 10_000);
}
