//! Tests that pings and pongs of connections that drop the oldest events reach their clients, whatever is dropped.

use super::*;
use crate::event::Draft;

const LIMITS: OutboxLimits = OutboxLimits { bytes: 4_000, events: 1_000 };

fn event(bytes: usize) -> Arc<Event> {
    let object = format!("\"{}\"", "x".repeat(bytes));
    let mut draft = Draft::new("machines", "update", "key");
    draft.object = &object;
    Arc::new(draft.seal(jiff::Timestamp::UNIX_EPOCH))
}

/// Delivers so many events of so many bytes, which all have to be queued.
fn deliver(fanout: &mut Fanout, conn: ConnId, events: usize, bytes: usize) {
    for _ in 0..events {
        let event = event(bytes);
        fanout.begin_event(&event);
        assert_eq!(fanout.deliver(&event, 0, conn), Delivery::Queued);
        fanout.end_event();
    }
}

fn text(fanout: &mut Fanout, conn: ConnId) -> String {
    let mut gathered = gather::Gathered::new();
    fanout.gather(conn, usize::MAX, &mut gathered);
    let bytes: Vec<u8> = gathered.iter().flat_map(|slice| slice.to_vec()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Opens a connection whose outbox is full.
fn full() -> (Fanout, ConnId) {
    let mut fanout = Fanout::new(LIMITS);
    let conn = fanout.open(Overflow::DropOldest);
    deliver(&mut fanout, conn, 100, 1);
    (fanout, conn)
}

fn beat(fanout: &mut Fanout, conn: ConnId, number: u8) {
    fanout.offer(conn, Frame::Constant(b"ping"));
    fanout.offer(conn, Frame::Pong([b'p', number].into()));
}

#[test]
fn what_is_dropped_takes_neither_the_only_ping_nor_the_latest_pong_with_it() {
    let (mut fanout, conn) = full();
    let begun = fanout.depth(conn).events;
    for number in b'0'..=b'9' {
        beat(&mut fanout, conn, number);
        assert!(fanout.depth(conn).events <= begun + 2, "one of each");
        deliver(&mut fanout, conn, 30, 1);
    }
    // Neither drops a large event them, nor do they take its place.
    deliver(&mut fanout, conn, 1, 2 * LIMITS.bytes);
    deliver(&mut fanout, conn, 5, 1);
    assert!(text(&mut fanout, conn).starts_with("p9ping"));
    assert_eq!(fanout.depth(conn).events, 2 + 1 + 1 + 5, "with a notice and the events");
    fanout.advance(conn, 6, 1);
    beat(&mut fanout, conn, b'a');
    assert!(text(&mut fanout, conn).starts_with("paping"));
    fanout.remove(conn);
    assert_eq!((fanout.frames(), fanout.waiting()), (0, Depth::default()));
}

#[test]
fn a_queue_that_is_dropped_at_once_leaves_its_ping_and_its_pong() {
    let (mut fanout, conn) = full();
    // A frame that is partly written precedes them.
    fanout.advance(conn, 10, 1);
    beat(&mut fanout, conn, b'0');
    fanout.effort.make_room(usize::MAX);
    fanout.effort.use_own_share(conn, fanout.effort.own_share(conn));
    deliver(&mut fanout, conn, 1, LIMITS.bytes / 3);
    assert!(fanout.has_leftovers(), "all at once");
    let left = event(1).frame().len() - 10;
    assert_eq!(&text(&mut fanout, conn)[left..][..6], "p0ping");
    assert_eq!(fanout.depth(conn).events, 1 + 2 + 1 + 1);
    assert_eq!(fanout.depth(conn).bytes, left + 6 + event(LIMITS.bytes / 3).frame().len());
}

/// What is partly written cannot be changed.
#[test]
fn a_later_pong_follows_the_one_that_is_partly_written() {
    let mut fanout = Fanout::new(LIMITS);
    let conn = fanout.open(Overflow::DropOldest);
    fanout.offer(conn, Frame::Pong((*b"p1").into()));
    fanout.advance(conn, 1, 1);
    fanout.offer(conn, Frame::Pong((*b"p2").into()));
    fanout.offer(conn, Frame::Pong((*b"p3").into()));
    assert_eq!(text(&mut fanout, conn), "1p3");
    assert_eq!((fanout.depth(conn).bytes, fanout.waiting().bytes), (3, 3));
    fanout.advance(conn, 3, 1);
    assert_eq!((fanout.frames(), fanout.depth(conn)), (0, Depth::default()));
}

/// It is moved behind no other then.
#[test]
fn a_pong_that_is_partly_written_is_no_answer_however_often_the_rest_is_dropped() {
    let mut fanout = Fanout::new(LIMITS);
    let conn = fanout.open(Overflow::DropOldest);
    fanout.offer(conn, Frame::Pong((*b"p1").into()));
    fanout.advance(conn, 1, 1);
    assert!((0..40).all(|_| fanout.send(conn, Frame::Control((*b"answer").into()))));
    assert!(!fanout.shrink(conn), "answers are not dropped");
    fanout.finish(conn, Frame::Control((*b"bye").into()), Some(Dropped::SlowConsumer));
    assert_eq!(text(&mut fanout, conn), "1bye");
    assert_eq!((fanout.depth(conn).events, fanout.totals(conn)), (2, (0, 0)));
    fanout.remove(conn);
    fanout.release_all();
    assert_eq!((fanout.frames(), fanout.waiting()), (0, Depth::default()));
}
