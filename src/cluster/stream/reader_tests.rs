//! Tests of what a reader waits for, and for how long.

use std::ops::Range;
use std::time::Instant as Moment;

use tokio::time::{Instant, timeout};

use super::*;
use crate::broker::history::{History, HistoryLimits};
use crate::cluster::nats::dial::Dialer;
use crate::cluster::nats::requests::{Requests, requests};
use crate::cluster::stream::source::NatsStream;
use crate::cluster::stream::world::World;
use crate::cluster::{Login, Tls};
use crate::event::Draft;
use crate::metrics::{Metrics, Source};

/// The identifier of the other node.
const NODE: u64 = 7;

pub(in crate::cluster::stream) fn broker() -> Arc<Broker> {
    let history = History::new(HistoryLimits { events: 10, bytes: 1 << 20 }, 1, clock::now());
    Arc::new(Broker::new(Arc::new(Metrics::new()), Moment::now(), history))
}

/// Returns requests to NATS to which nobody connects.
pub(in crate::cluster::stream) fn away() -> Requests {
    let dialer = Dialer::new(Vec::new(), Arc::new(Login::Nobody), Tls::default(), "test".to_owned());
    requests(dialer, 1).0
}

/// Returns a reader that never reaches the stream.
fn reader(broker: &Arc<Broker>) -> Reader {
    let stream = NatsStream::new(Arc::new(away()), "EVENTS".to_owned());
    let pages = Arc::new(PageCache::new(Arc::new(stream), 1 << 20));
    let reading = Reading { time: clock::now(), begin: None, first: 0, until: None, given: None, brought: None };
    Reader::new(ReaderOptions { pages, window: 100, broker: Arc::downgrade(broker) }, reading)
}

fn until_almost_given_up(mut goal: Goal) -> Goal {
    while goal.patience > POLL_INTERVAL {
        goal = goal.waited();
    }
    goal
}

/// Makes the stream deliver the node's events with these numbers.
fn deliver(reader: &mut Reader, numbers: Range<u64>) {
    for number in numbers {
        let event = Draft::new("machines", "update", &number.to_string()).seal(clock::now());
        let trace = Trace { origin: Origin { node: NODE, number }, repeat_index: None };
        assert!(reader.delivered.event(trace, &event, number, clock::now()).new);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_gets_on_with_what_the_stream_had_is_waited_for_and_no_other() {
    let broker = broker();
    let mut reader = reader(&broker);
    deliver(&mut reader, 0..10);
    let waited = async |reader: &Reader| {
        let begun = Instant::now();
        reader.handoff().unwrap().settle(&mut GRACE.clone()).await;
        begun.elapsed()
    };
    let step = GRACE.saturating_sub(Duration::from_millis(500));
    let get_on = async {
        for next in 1..=10 {
            sleep(step).await;
            broker.heard(NODE, next, clock::now());
        }
    };
    let (waited_for, ()) = tokio::join!(waited(&reader), get_on);
    assert!(waited_for >= 10 * step, "{waited_for:?}: each step of it is progress");
    deliver(&mut reader, 10..12);
    let waited_for = timeout(10 * GRACE, waited(&reader)).await.expect("it is given up");
    assert!((GRACE..2 * GRACE).contains(&waited_for), "{waited_for:?}: it has stopped");
}

#[tokio::test]
async fn the_stream_is_waited_for_anew_whenever_it_has_delivered_some_of_what_it_lacks() {
    let broker = broker();
    let mut reader = reader(&broker);
    broker.heard(NODE, 10, clock::now());
    deliver(&mut reader, 0..5);
    let goal = reader.handoff().unwrap().assess(None);
    assert_eq!((goal.gap.as_ref().map(|gap| gap.events), goal.patience), (Some(Some(5)), LAG));
    let goal = reader.handoff().unwrap().assess(Some(until_almost_given_up(goal)));
    assert_eq!(goal.patience, POLL_INTERVAL, "nothing has come");
    deliver(&mut reader, 5..6);
    let goal = reader.handoff().unwrap().assess(Some(goal));
    assert_eq!((goal.gap.as_ref().map(|gap| gap.events), goal.patience), (Some(Some(4)), LAG));
    deliver(&mut reader, 6..10);
    assert!(reader.handoff().unwrap().assess(Some(goal)).gap.is_none());
}

/// Its own mark says when it last published, like those of the others.
#[tokio::test(start_paused = true)]
async fn a_node_that_published_nothing_lately_does_not_wait_for_itself() {
    let mut world = World::new(10);
    world.broker.publish(vec![Draft::new("machines", "update", "own").seal(clock::now())], Source::Post).unwrap();
    clock::simulated::pass(Duration::from_mins(10));
    let time = clock::now();
    world.publish(600);
    let mut client = world.read(Reading { time, ..world.reading() });
    let begun = Instant::now();
    client.finish().await;
    assert_eq!((client.gaps.as_slice(), client.got.len()), (&[][..], 600));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// Its connection stalls, but is not given up; or its inboxes are full for longer.
#[tokio::test(start_paused = true)]
async fn what_the_node_accepts_after_the_stream_has_delivered_it_comes_once_or_a_gap_is_reported() {
    let mut ended = Vec::new();
    for seconds in [4, 7] {
        let mut world = World::new(100);
        world.publish(5);
        (0..20).for_each(|_| world.store(false));
        let mut client = world.read(world.reading());
        sleep(Duration::from_secs(seconds)).await;
        world.accept_all();
        client.finish().await;
        let gaps: Vec<_> = client.gaps.iter().map(|gap| gap.events).collect();
        ended.push((client.got.len(), world.rest(&client.settled()).0.len(), gaps));
    }
    assert_eq!(ended, [(25, 0, vec![]), (25, 20, vec![None])]);
}

/// Of the nodes that published, some are forgotten.
#[tokio::test(start_paused = true)]
async fn what_too_many_nodes_have_published_may_come_twice_and_a_gap_is_reported() {
    for (nodes, gaps) in [(4000, 0), (5000, 1)] {
        let mut world = World::new(100);
        world.publish(5);
        let event = Draft::new("machines", "update", "1").seal(clock::now());
        for node in 0..nodes {
            let trace = Trace { origin: Origin { node: 1000 + node, number: 0 }, repeat_index: None };
            world.shelf.put(trace, event.json(), clock::now());
        }
        clock::simulated::pass(Duration::from_mins(1));
        world.publish(5);
        let mut client = world.read(world.reading());
        client.finish().await;
        assert_eq!((client.gaps.len(), client.got.len() as u64), (gaps, 10 + nodes), "{:?}", client.gaps);
    }
}
