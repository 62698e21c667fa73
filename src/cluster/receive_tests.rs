//! The receiver with its queue, its order and a simulated clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::*;
use crate::broker::export::ExportLimits;
use crate::broker::history::{History, HistoryLimits};
use crate::broker::inbox::{InboxLimits, inbox};
use crate::clock::simulated;
use crate::cluster::gathering::SIGNS;
use crate::cluster::nats::op::Op;
use crate::cluster::peers::NodeId;
use crate::cluster::simulated::Member;
use crate::cluster::subject;
use crate::cluster::wire::{State, event_headers, heartbeat_headers};
use crate::metrics::Metrics;

const PREFIX: &str = "h";

fn message(sid: u64, subject: String, headers: String, payload: &str) -> Op {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Op::Message(Message { sid, subject: subject.into(), headers: headers.into(), payload })
}

fn heartbeat(node: NodeId, number: u64) -> Op {
    let beat = Beat { state: State::Up, greets: false, idle: Duration::ZERO, ahead: None };
    message(SIGNS, subject::sign(PREFIX), heartbeat_headers(NodePosition { node, number }, beat), "")
}

/// Returns an event of an endpoint. Its node had the events of `after` before it.
fn event(node: NodeId, number: u64, after: &[(NodeId, u64)]) -> Op {
    let event = Draft::new("machines", "update", "k").seal(Timestamp::UNIX_EPOCH);
    let headers = event_headers(NodePosition { node, number }, Some(1), after);
    message(SIGNS + 1, subject::event(PREFIX, "machines", "update", "k"), headers, event.json())
}

/// Returns an event that a client has posted at a node.
fn posted(node: NodeId, number: u64) -> Op {
    let event = Draft::new("users", "update", "posted").seal(Timestamp::UNIX_EPOCH);
    let headers = event_headers(NodePosition { node, number }, None, &[]);
    message(SIGNS + 1, subject::event(PREFIX, "users", "update", "posted"), headers, event.json())
}

/// The events that a node has accepted.
type Accepted = Arc<Mutex<Vec<(String, serde_json::Value)>>>;

/// Returns the keys of accepted events.
fn keys(accepted: &Accepted) -> Vec<String> {
    accepted.lock().iter().map(|(key, _)| key.clone()).collect()
}

/// Returns node 1, which is connected, and the keys and objects of the events that it has accepted.
fn member() -> (Member, Accepted) {
    let (member, accepted, _) = member_and_broker();
    (member, accepted)
}

fn member_and_broker() -> (Member, Accepted, Arc<Broker>) {
    simulated::begin();
    let history = History::new(HistoryLimits { events: 10, bytes: 1 << 16 }, 1, clock::now());
    let broker = Arc::new(Broker::new(Arc::new(Metrics::new()), clock::instant(), history));
    let exports = broker.share(ExportLimits { batches: 10, bytes: 1 << 20 }, 10);
    let accepted = Accepted::default();
    let noted = Arc::clone(&accepted);
    broker.observe(move |event, _, _| {
        noted.lock().push((event.key().to_owned(), serde_json::from_str(event.object()).unwrap()));
    });
    let mut member = Member::new(&broker, exports, 1, 100);
    member.connect(1 << 20);
    (member, accepted, broker)
}

/// Lets time pass for a node whose task runs.
async fn pass(member: &mut Member, time: Duration) {
    for _ in 0..time.as_millis() / POLL_INTERVAL.as_millis() {
        simulated::pass(POLL_INTERVAL);
        member.look().await;
    }
}

/// Of messages that wait for another node's, the oldest are accepted as soon as they take too many bytes.
#[tokio::test]
async fn messages_that_wait_for_their_order_have_a_bound_of_bytes() {
    let (mut member, accepted) = member();
    [heartbeat(2, 0), heartbeat(3, 0)].into_iter().for_each(|op| member.hear(op));
    member.receive().await;
    // Of 64 MiB a quarter; 17 of these fit.
    let object = format!("\"{}\"", "x".repeat(950_000));
    for number in 0..20 {
        let key = number.to_string();
        let mut draft = Draft::new("machines", "update", &key);
        draft.object = &object;
        let headers = event_headers(NodePosition { node: 2, number }, Some(1), &[(3, 9)]);
        let event = draft.seal(Timestamp::UNIX_EPOCH);
        member.hear(message(SIGNS + 1, subject::event(PREFIX, "machines", "update", &key), headers, event.json()));
        member.receive().await;
    }
    assert_eq!(keys(&accepted)[..], ["0", "1", "2"], "and not only at the next look");
}

/// Events of small posts wait until their thread has no other post, which may be the one that receives.
#[tokio::test]
async fn a_batch_does_not_delay_events_that_wait_for_the_shards_to_be_woken() {
    let (mut member, _, broker) = member_and_broker();
    let rings = Arc::new(AtomicUsize::new(0));
    let rung = Arc::clone(&rings);
    let (sender, _inbox) = inbox(InboxLimits { events: 10, bytes: 1 << 20 }, move || {
        rung.fetch_add(1, Ordering::SeqCst);
    });
    broker.attach(sender);
    let event = Draft::new("a", "b", "c").seal(clock::now());
    let queued = broker.queue(vec![event], Source::Post).unwrap();
    assert_eq!(rings.load(Ordering::SeqCst), 0);
    member.hear(heartbeat(2, 0));
    member.receive().await;
    assert_eq!(rings.load(Ordering::SeqCst), 1);
    drop(queued);
}

/// A message that waits for another node's was heard: its node is not reported as lost meanwhile.
#[tokio::test]
async fn a_node_whose_message_waits_for_another_is_not_lost() {
    let (mut member, accepted) = member();
    [heartbeat(2, 0), heartbeat(3, 0)].into_iter().for_each(|op| member.hear(op));
    member.receive().await;
    pass(&mut member, Duration::from_secs(9)).await;
    [heartbeat(3, 0), event(2, 0, &[(3, 1)])].into_iter().for_each(|op| member.hear(op));
    member.receive().await;
    simulated::pass(Duration::from_millis(1_500));
    member.look().await;
    assert_eq!(keys(&accepted)[..], [""; 0], "10.5 s after the last message of 2 that waited for nothing");
    simulated::pass(Duration::from_secs(1));
    member.look().await;
    assert_eq!(keys(&accepted)[..], ["k"], "it does not wait for ever");
}

/// The wall clock may be set at any time, forward or back: silence and waiting are measured by another clock, and a
/// notice names an interval of the past.
#[tokio::test]
async fn a_clock_that_is_set_hides_no_loss_and_delays_no_message() {
    for hours in [-1, 1] {
        let (mut member, accepted) = member();
        [heartbeat(2, 0), heartbeat(3, 0)].into_iter().for_each(|op| member.hear(op));
        member.receive().await;
        member.hear(event(2, 0, &[(3, 1)]));
        member.receive().await;
        simulated::set_wall(SignedDuration::from_hours(hours));
        member.look().await;
        assert_eq!(keys(&accepted)[..], [""; 0], "set by {hours} h: nothing is late or lost yet");
        pass(&mut member, Duration::from_millis(2_200)).await;
        member.look().await;
        assert_eq!(keys(&accepted)[..], ["k"], "set by {hours} h: a message waits for two seconds");
        pass(&mut member, Duration::from_secs(9)).await;
        member.hear(heartbeat(2, 1));
        member.receive().await;
        member.look().await;
        let accepted = accepted.lock();
        assert_eq!(accepted.len(), 2, "set by {hours} h: {accepted:?}");
        let (key, notice) = &accepted[1];
        assert_eq!(
            (&**key, &notice["Reason"], &notice["Node"]),
            (NATS, &"node lost".into(), &"0000000000000003".into())
        );
        let time = |name: &str| notice[name].as_str().unwrap().parse::<Timestamp>().unwrap();
        let (now, silence) = (clock::now(), SignedDuration::from_secs(12));
        assert!(
            time("From") < time("To") && time("To") <= now && now.duration_since(time("From")) < silence,
            "{notice}"
        );
    }
}

/// The same is true of a notice that waits because there are too many.
#[tokio::test]
async fn a_postponed_notice_does_not_end_in_the_future() {
    let (mut member, accepted) = member();
    member.receive().await;
    for node in 2..40 {
        [heartbeat(node, 0), heartbeat(node, 5)].into_iter().for_each(|op| member.hear(op));
    }
    member.receive().await;
    simulated::set_wall(SignedDuration::from_hours(-1));
    simulated::pass(Duration::from_secs(2));
    member.look().await;
    let accepted = accepted.lock();
    let (_, notice) = accepted.last().unwrap();
    assert_eq!((accepted.len(), &notice["Events"], &notice["Node"]), (33, &30.into(), &serde_json::Value::Null));
    let time = |name: &str| notice[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(time("From") <= time("To") && time("To") <= clock::now(), "{notice}");
}

/// An observer can tell what came over another node's link from what was posted there.
#[tokio::test]
async fn observers_learn_which_events_a_link_has_delivered() {
    simulated::begin();
    let history = History::new(HistoryLimits { events: 10, bytes: 1 << 16 }, 1, clock::now());
    let broker = Arc::new(Broker::new(Arc::new(Metrics::new()), clock::instant(), history));
    let exports = broker.share(ExportLimits { batches: 10, bytes: 1 << 20 }, 10);
    let traces = Arc::<Mutex<Vec<_>>>::default();
    let noted = Arc::clone(&traces);
    broker.observe(move |event, _, trace| {
        noted.lock().push((event.key().to_owned(), trace.map(|trace| trace.repeat_index)));
    });
    let mut member = Member::new(&broker, exports, 1, 100);
    member.connect(1 << 20);
    [event(2, 0, &[]), posted(2, 1), heartbeat(2, 3)].into_iter().for_each(|op| member.hear(op));
    member.receive().await;
    let traces = traces.lock();
    let traces: Vec<_> = traces.iter().map(|(key, trace)| (key.as_str(), *trace)).collect();
    assert_eq!(traces, [("k", Some(Some(1))), ("posted", Some(None)), (NATS, None)]);
}

/// Otherwise a replay would wait for events that this node has accepted already.
#[tokio::test]
async fn a_heartbeat_before_events_of_the_same_batch_does_not_take_them_back() {
    let (mut member, _, broker) = member_and_broker();
    let mark = || broker.frontier().watermarks.iter().find(|(node, _)| *node == 2).unwrap().1;
    let idle = Beat { state: State::Up, greets: false, idle: Duration::from_secs(100), ahead: None };
    let beat = |number| {
        let headers = heartbeat_headers(NodePosition { node: 2, number }, idle);
        message(SIGNS, subject::sign(PREFIX), headers, "")
    };
    member.hear(beat(10));
    (10..20).for_each(|number| member.hear(posted(2, number)));
    member.receive().await;
    assert_eq!((mark().next, mark().moved), (20, clock::now()));
    member.hear(beat(20));
    member.receive().await;
    assert_eq!((mark().next, mark().moved), (20, clock::now() - SignedDuration::from_secs(100)));
}

#[tokio::test]
async fn it_is_reported_since_when_there_is_a_connection_or_none() {
    let (mut member, _, broker) = member_and_broker();
    let metrics = &broker.metrics().nats;
    for (connected, losses) in [(true, 0), (false, 0), (true, 1), (false, 1)] {
        if !connected {
            member.disconnect();
        } else if losses > 0 {
            member.connect(1 << 20);
        }
        simulated::pass(Duration::from_secs(5));
        member.look().await;
        let (report, changed) = (member.report(), clock::now());
        simulated::pass(Duration::from_secs(5));
        member.look().await;
        assert_eq!((report.connected, &report.since), (connected, &changed.to_string()));
        assert_eq!(member.report().since, report.since, "it is still so");
        assert_eq!((metrics.connected.get(), metrics.reconnects.get()), (i64::from(connected), losses));
    }
}

/// Its machine was moved, or had no memory: what came meanwhile is still to be read.
#[tokio::test]
async fn a_node_that_got_no_time_reports_no_other_as_lost_and_keeps_the_order() {
    let (mut member, accepted) = member();
    [heartbeat(2, 0), heartbeat(3, 0), event(2, 0, &[(3, 1)])].into_iter().for_each(|op| member.hear(op));
    member.receive().await;
    pass(&mut member, Duration::from_secs(1)).await;
    simulated::pass(Duration::from_secs(12));
    member.look().await;
    assert_eq!(keys(&accepted), [""; 0], "nobody is lost, and the message of 3 may have come too");
    [heartbeat(2, 1), posted(3, 0)].into_iter().for_each(|op| member.hear(op));
    member.receive().await;
    assert_eq!(keys(&accepted), ["posted", "k"]);
    for _ in 0..6 {
        pass(&mut member, Duration::from_secs(2)).await;
        member.hear(heartbeat(2, 1));
        member.receive().await;
    }
    assert_eq!(keys(&accepted)[2..], [NATS], "3 is silent");
}
