//! Tests of a connection whose server is played by the test.

use std::pin::pin;
use std::time::Instant as Moment;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::broker::Broker;
use crate::broker::export::ExportLimits;
use crate::broker::history::{History, HistoryLimits};
use crate::cluster::waiting::{Waiting, WaitingLimits, waiting};
use crate::cluster::wire::{Beat, NodePosition, State, heartbeat_headers};
use crate::cluster::{Login, Tls};

const PREFIX: &str = "h";

/// This node.
const NODE: u64 = 1;

/// Less time than anything takes that has a limit.
const SOON: Duration = Duration::from_millis(500);

fn link() -> (Link, Waiting) {
    let history = History::new(HistoryLimits { events: 1, bytes: 1 }, 1, Timestamp::UNIX_EPOCH);
    let metrics = Arc::new(Metrics::new());
    let broker = Arc::new(Broker::new(Arc::clone(&metrics), Moment::now(), history));
    let exports = broker.share(ExportLimits { batches: 1, bytes: 1 }, 1);
    let (filler, queue) = waiting(WaitingLimits { messages: 100, bytes: 100_000 });
    let gathering = Gathering::new(&broker, filler, PREFIX, Duration::ZERO);
    let health = Arc::new(Health::new(Arc::clone(&metrics), Timestamp::UNIX_EPOCH));
    let gate = Arc::<Gate>::default();
    let (name, stopped) = ((NODE, PREFIX.to_owned()), watch::channel(false).1);
    let sender = Sender::new(broker, exports, name.clone(), Arc::clone(&gate), stopped);
    let dialer = Dialer::new(Vec::new(), Arc::new(Login::Nobody), Tls::default(), "test".to_owned());
    let status = watch::channel(Status::default()).0;
    (Link::new((dialer, gathering, sender), (gate, health, metrics), status, name), queue)
}

/// Returns a heartbeat of a node as the server sends it.
fn heartbeat(node: u64) -> String {
    beat(node, false)
}

fn beat(node: u64, greets: bool) -> String {
    let beat = Beat { state: State::Up, greets, idle: Duration::ZERO, ahead: None };
    let headers = heartbeat_headers(NodePosition { node, number: 0 }, beat);
    let length = headers.len();
    format!("HMSG {} {SIGNS} {length} {length}\r\n{headers}\r\n", subject::sign(PREFIX))
}

#[tokio::test(start_paused = true)]
async fn why_a_connection_was_lost_is_reported() {
    let (mut link, _queue) = link();
    let (session, mut server) = Session::in_memory();
    server.write_all(b"-ERR 'Stale Connection'\r\n").await.unwrap();
    drop(server);
    assert!(!link.serve(session).await, "another connection is needed");
    let error = link.health.report().error.expect("it has an error");
    assert!(error.contains("closed the connection"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_is_left_when_it_announces_its_end_and_not_before() {
    let (Link { gathering, .. }, _queue) = link();
    let (mut session, mut server) = Session::in_memory();
    let (line, leaving) = (Line::default(), Leaving::default());
    let mut reading = pin!(read(&mut session.incoming, &line, &leaving, (&gathering, 1), |_| ()));
    server.write_all(b"INFO {\"max_payload\":7}\r\n").await.unwrap();
    assert!(timeout(SOON, &mut reading).await.is_err(), "it reads on");
    assert_eq!(line.max_payload(), 7);
    assert!(leaving.asked.notified().now_or_never().is_none());
    server.write_all(b"INFO {\"ldm\":true,\"connect_urls\":[\"other:4222\"]}\r\n").await.unwrap();
    assert!(timeout(SOON, &mut reading).await.is_err(), "it reads on");
    assert!(leaving.asked.notified().now_or_never().is_some());
    assert_eq!(*leaving.named.lock(), ["other:4222"]);
}

#[tokio::test(start_paused = true)]
async fn a_move_waits_until_all_known_nodes_are_heard_over_the_new_connection_and_no_longer() {
    let gate = Gate::default();
    gate.set_peers(vec![2, 3]);
    let (session, mut server) = Session::in_memory();
    let mut settling = pin!(settle(session, (NODE, PREFIX), &gate, |_, _| ()));
    server.write_all(format!("PONG\r\n{}{}", heartbeat(NODE), heartbeat(2)).as_bytes()).await.unwrap();
    assert!(timeout(SOON, &mut settling).await.is_err(), "one was not heard");
    server.write_all(heartbeat(3).as_bytes()).await.unwrap();
    let settled = timeout(SOON, settling).await.expect("all were heard");
    assert_eq!(settled.unwrap().1.messages.len(), 2, "what this node sends comes back, and is not taken");
}

#[tokio::test(start_paused = true)]
async fn a_move_does_not_wait_for_ever_and_fails_if_the_new_server_does_not_answer() {
    for answer in ["", "PONG\r\n"] {
        let gate = Gate::default();
        gate.set_peers(vec![2]);
        let (session, mut server) = Session::in_memory();
        server.write_all(answer.as_bytes()).await.unwrap();
        let settled = timeout(2 * OVERLAP, settle(session, (NODE, PREFIX), &gate, |_, _| ())).await;
        match settled.expect("it ends") {
            Ok(_) => assert!(!answer.is_empty()),
            Err(error) => assert!(answer.is_empty() && matches!(error, SessionError::Silent), "{error}"),
        }
    }
}

/// It says so once, and it may be the next one to be restarted.
#[tokio::test(start_paused = true)]
async fn a_server_that_announces_its_end_during_the_move_is_left_after_it() {
    let (mut next, mut server) = Session::in_memory();
    let info = r#"INFO {"max_payload":7,"ldm":true,"connect_urls":["other:4222"]}"#;
    server.write_all(format!("{info}\r\n{}", beat(NODE, true)).as_bytes()).await.unwrap();
    assert!(echo(&mut next, &mut Ahead::default(), NODE).await.unwrap());
    assert_eq!((next.info.ldm, next.info.max_payload), (true, 7));
    assert_eq!(next.info.connect_urls, ["other:4222"]);
}

#[test]
fn number_and_bytes_bind_what_comes_ahead() {
    let message = |length| Message { sid: 1, subject: "a".into(), headers: "".into(), payload: vec![0; length].into() };
    let until_full = |length: usize| {
        let mut ahead = Ahead::default();
        while !ahead.is_full() {
            ahead.push(message(length));
        }
        ahead.messages.len()
    };
    assert_eq!((until_full(1), until_full(1 << 20)), (AHEAD, AHEAD_BYTES >> 20));
}
