//! Tests that a turn does a bounded part of the work that many stalled or closed connections leave behind.

use super::*;
use crate::event::Draft;

/// Limits so large that a turn has no time for many such outboxes.
const DEEP: OutboxLimits = OutboxLimits { bytes: 64 << 20, events: 32_768 };

/// The number of stalled connections.
const STALLED: usize = 40;

/// Creates the stalled connections and delivers `events` events to each.
fn stalled(policy: Overflow, events: usize) -> (Fanout, Vec<ConnId>) {
    let mut fanout = Fanout::new(DEEP);
    let conns: Vec<ConnId> = (0..STALLED).map(|_| fanout.open(policy)).collect();
    for at in 0..events {
        assert!(give(&mut fanout, &conns, at).iter().all(|delivery| *delivery == Delivery::Queued));
        if at % 64 == 0 {
            fanout.begin_turn();
        }
    }
    (fanout, conns)
}

/// Delivers an update of one of a hundred objects to all of them.
fn give(fanout: &mut Fanout, conns: &[ConnId], at: usize) -> Vec<Delivery> {
    let key = (at % 100).to_string();
    let event = Arc::new(Draft::new("machines", "update", &key).seal(jiff::Timestamp::UNIX_EPOCH));
    fanout.begin_event(&event);
    let deliveries = conns.iter().map(|&conn| fanout.deliver(&event, 0, conn)).collect();
    fanout.end_event();
    deliveries
}

#[test]
fn many_that_stall_together_are_not_gone_through_in_one_turn() {
    let quarter = DEEP.events / 4;
    let (mut fanout, conns) = stalled(Overflow::Conflate, quarter);
    assert_eq!(fanout.take_counts().overflows, [0; 3]);
    fanout.begin_turn();
    let mut turns = Vec::new();
    for at in quarter..quarter + 2 * STALLED {
        assert!(give(&mut fanout, &conns, at).iter().all(|delivery| *delivery == Delivery::Queued));
        turns.push(fanout.take_counts().overflows[Overflow::Conflate as usize]);
        fanout.begin_turn();
    }
    assert_eq!(turns.iter().sum::<u64>(), STALLED as u64, "{turns:?}");
    assert!(turns.iter().all(|&passes| passes <= 20), "{turns:?}");
    assert!(!fanout.has_leftovers());
    assert!(conns.iter().all(|&conn| fanout.depth(conn).events < 300));
}

#[test]
fn what_many_leave_behind_is_let_go_bit_by_bit_and_counted() {
    let (events, all) = (10_000, 10_000 * STALLED);
    for discard in [true, false] {
        let (mut fanout, conns) = stalled(Overflow::Disconnect, events);
        for &conn in &conns {
            if discard {
                fanout.finish(conn, Frame::Constant(b"close"), Some(Dropped::SlowConsumer));
            } else {
                fanout.remove(conn);
            }
        }
        let close = if discard { 5 * STALLED } else { 0 };
        assert_eq!((fanout.waiting().events, fanout.waiting().bytes), (all, close));
        let mut turns = Vec::new();
        while fanout.has_leftovers() {
            fanout.begin_turn();
            turns.push(fanout.take_counts().dropped.iter().sum::<u64>());
        }
        assert_eq!(turns.iter().sum::<u64>(), all as u64, "{turns:?}");
        assert!(turns.len() > 3 && turns.iter().all(|&dropped| dropped <= 100_000), "{turns:?}");
        assert_eq!((fanout.waiting().events, fanout.frames()), (0, if discard { STALLED } else { 0 }));
    }
}

/// Each answer is queued for one connection: its memory is freed with it, which takes far longer than removing a
/// reference.
#[test]
fn what_only_one_connection_held_is_let_go_in_smaller_parts() {
    let (conns, each) = (10, 3_000);
    let mut fanout = Fanout::new(DEEP);
    let all: Vec<ConnId> = (0..conns).map(|_| fanout.open(Overflow::Disconnect)).collect();
    for &conn in &all {
        assert!((0..each).all(|_| fanout.send(conn, Frame::Control(vec![0; 100].into()))));
    }
    all.into_iter().for_each(|conn| fanout.remove(conn));
    let mut left = vec![fanout.frames()];
    assert_eq!(left[0], conns * each, "nothing at once");
    while fanout.has_leftovers() {
        fanout.begin_turn();
        left.push(fanout.frames());
    }
    let most = left.windows(2).map(|pair| pair[0] - pair[1]).max().unwrap();
    assert!(most <= 65_536 / 32 && left.last() == Some(&0), "{most} in a turn");
}

/// Outboxes that one event fills.
const SMALL: OutboxLimits = OutboxLimits { bytes: 1 << 20, events: 32_768 };

/// Events that one event takes the place of.
const OLD: usize = 4_000;

/// Returns an event of this time with an object of this many bytes.
fn timed(at: usize, bytes: usize) -> Arc<Event> {
    let object = format!("\"{}\"", "x".repeat(bytes));
    let mut draft = Draft::new("machines", "update", "key");
    (draft.time, draft.object) = (Some(time(at).into()), &object);
    Arc::new(draft.seal(jiff::Timestamp::UNIX_EPOCH))
}

fn time(at: usize) -> String {
    format!("2026-01-02T03:{:02}:{:02}.5Z", at / 60, at % 60)
}

/// Delivers an event to all of them.
fn deliver(fanout: &mut Fanout, conns: &[ConnId], event: &Arc<Event>) -> Vec<Delivery> {
    fanout.begin_event(event);
    let deliveries = conns.iter().map(|&conn| fanout.deliver(event, 0, conn)).collect();
    fanout.end_event();
    deliveries
}

/// Opens connections that drop the oldest events and have `OLD` of them, with this frame between the halves.
fn lagging(frame: impl Fn(usize) -> Option<Frame>) -> (Fanout, Vec<ConnId>) {
    let mut fanout = Fanout::new(SMALL);
    let conns: Vec<ConnId> = (0..STALLED).map(|_| fanout.open(Overflow::DropOldest)).collect();
    for at in 0..OLD {
        if at == OLD / 2 {
            for (which, &conn) in conns.iter().enumerate() {
                frame(which).into_iter().for_each(|frame| fanout.offer(conn, frame));
            }
        }
        assert!(deliver(&mut fanout, &conns, &timed(at % 3600, 1)).iter().all(|one| *one == Delivery::Queued));
    }
    fanout.begin_turn();
    (fanout, conns)
}

/// Returns the text that is to be written to a connection, without the large object.
fn text(fanout: &mut Fanout, conn: ConnId) -> String {
    let mut gathered = gather::Gathered::new();
    fanout.gather(conn, usize::MAX, &mut gathered);
    let bytes: Vec<u8> = gathered.iter().flat_map(|slice| slice.to_vec()).collect();
    String::from_utf8_lossy(&bytes).replace("xx", "")
}

fn gap(first: usize, last: usize, events: usize) -> String {
    format!(r#""Object":{{"From":"{}","To":"{}","Events":{events}}}"#, time(first), time(last))
}

#[test]
fn a_large_event_does_not_wait_until_thousands_are_dropped_for_each_that_stalls() {
    // A ping is none of the events, and does not go with them.
    let (mut fanout, conns) = lagging(|_| Some(Frame::Constant(b"ping")));
    let large = timed(0, SMALL.bytes);
    let deliveries = deliver(&mut fanout, &conns, &large);
    assert!(deliveries.iter().all(|delivery| *delivery == Delivery::Queued));
    let mut turns = vec![fanout.take_counts().dropped[Dropped::Oldest as usize]];
    for &conn in &conns {
        assert_eq!((fanout.depth(conn).events, fanout.totals(conn)), (3, (0, OLD as u64)));
        assert_eq!(fanout.footprint(conn), large.frame().len() + b"ping".len() + 3 * frames::SIZE);
        let text = text(&mut fanout, conn);
        assert!(text.starts_with("ping") && text.contains(&gap(0, (OLD - 1) % 3600, OLD)), "{text}");
    }
    while fanout.has_leftovers() {
        fanout.begin_turn();
        turns.push(fanout.take_counts().dropped[Dropped::Oldest as usize]);
    }
    assert_eq!(turns.iter().sum::<u64>(), (OLD * STALLED) as u64, "{turns:?}");
    assert!(turns.iter().all(|&dropped| dropped <= 69_000), "{turns:?}");
    assert_eq!((fanout.waiting().events, fanout.frames()), (STALLED, 2 * STALLED + 1));
    conns.into_iter().for_each(|conn| fanout.remove(conn));
    assert_eq!((fanout.frames(), fanout.waiting(), fanout.answers.is_empty()), (0, Depth::default(), true));
}

/// One event takes the place of hundreds in each of a thousand outboxes, turn after turn.
#[test]
fn what_is_dropped_does_not_pile_up_however_much_is_queued() {
    let limits = OutboxLimits { bytes: 64 << 10, events: 1_000 };
    let mut fanout = Fanout::new(limits);
    let conns: Vec<ConnId> = (0..1_000).map(|_| fanout.open(Overflow::DropOldest)).collect();
    for _ in 0..4 {
        for at in 0..255 {
            deliver(&mut fanout, &conns, &timed(at, 1));
        }
        deliver(&mut fanout, &conns, &timed(0, limits.bytes));
        assert!(fanout.has_leftovers());
        fanout.begin_turn();
        assert_eq!(fanout.waiting().events, conns.len(), "the large one");
    }
}

/// A client that lags a little, and needs the place of some small events for each larger one, loses no more because
/// others drop thousands.
#[test]
fn who_drops_a_few_does_not_depend_on_what_others_drop() {
    let (mut fanout, conns) = lagging(|_| None);
    let few = conns[STALLED - 1];
    let (small, larger) = (timed(0, 1).frame().len(), timed(0, 1_000));
    let free = SMALL.bytes - fanout.depth(few).bytes;
    (0..free / small).for_each(|at| assert_eq!(deliver(&mut fanout, &[few], &timed(at % 3600, 1)), [Delivery::Queued]));
    deliver(&mut fanout, &conns[..STALLED - 1], &timed(0, SMALL.bytes));
    assert!(!fanout.effort.may_make_room(), "the others have used up what all share");
    let each = larger.frame().len().div_ceil(small);
    assert!(each > 5, "{each}");
    let (mut lost, each) = (0, each as u64);
    while lost + each <= 64 {
        assert_eq!(deliver(&mut fanout, &[few], &larger), [Delivery::Queued]);
        let dropped = fanout.totals(few).1 - lost;
        assert!(dropped <= each, "{dropped} of {each} after {lost}");
        lost += dropped;
    }
    deliver(&mut fanout, &[few], &timed(0, SMALL.bytes / 2));
    assert!(fanout.totals(few).1 > 1_000, "its own share is used up too");
    fanout.begin_turn();
    assert_eq!(fanout.effort.own_share(few), 64, "the next turn has time again");
}

/// The next turn has time again.
#[test]
fn answers_are_not_dropped_for_lack_of_time() {
    let (mut fanout, conns) = lagging(|which| (which % 2 == 0).then(|| Frame::Control(b"answer".as_slice().into())));
    // It leaves room for an answer, but for no other event.
    let large = timed(0, SMALL.bytes - timed(0, 0).frame().len() - 50);
    let deliveries = deliver(&mut fanout, &conns, &large);
    let (mut kept, mut full) = (0, 0);
    for (which, (&conn, delivery)) in conns.iter().zip(deliveries).enumerate() {
        let (half, last) = (OLD / 2, (OLD - 1) % 3600);
        match delivery {
            Delivery::Overflow => {
                assert!(which % 2 == 0 && fanout.depth(conn).events > 1, "its caller closes it");
                full += 1;
            }
            _ if which % 2 == 0 => {
                let text = text(&mut fanout, conn);
                let places = [&gap(0, half - 1, half), "answer", &gap(half, last, half)].map(|part| text.find(part));
                assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
                kept += 1;
            }
            _ => assert!(text(&mut fanout, conn).contains(&gap(0, last, OLD))),
        }
    }
    assert!(kept > 0 && full > 0, "{kept} kept, {full} full");
}

/// Neither the frame that is partly written nor a notice is lost, and a started notice is not changed.
#[test]
fn what_is_partly_written_precedes_what_is_dropped_at_once() {
    let (mut fanout, conns) = lagging(|_| None);
    for &conn in &conns {
        fanout.advance(conn, 10, 1);
    }
    let large = timed(0, SMALL.bytes);
    assert!(deliver(&mut fanout, &conns, &large).iter().all(|delivery| *delivery == Delivery::Dropped));
    // That of the first event is still to be written, and one event more is missing behind the others.
    let last = *conns.last().unwrap();
    assert_eq!(fanout.footprint(last), timed(0, 1).frame().len() + 2 * frames::SIZE);
    let text = text(&mut fanout, last);
    assert!(text.contains(&time(0)) && text.contains(&gap(1, 0, OLD)), "{text}");
}

/// What only one connection has is freed with it, which takes far longer than removing a reference.
#[test]
fn shedding_the_oldest_frees_a_part_in_each_turn() {
    let mut fanout = Fanout::new(DEEP);
    let conns = [fanout.open(Overflow::DropOldest)];
    let [conn] = conns;
    let all = 10_000;
    (0..all).for_each(|at| assert_eq!(deliver(&mut fanout, &conns, &timed(at % 3600, 1)), [Delivery::Queued]));
    let mut turns = Vec::new();
    while fanout.depth(conn).events > all / 2 {
        fanout.begin_turn();
        let before = fanout.frames();
        assert!(fanout.shrink(conn), "there is more to drop in the next turn");
        turns.push(before - fanout.frames());
    }
    assert!(turns.len() == 3 && turns.iter().all(|&freed| freed <= 65_536 / 32), "{turns:?}");
    let dropped = all - fanout.waiting().events;
    assert_eq!((fanout.totals(conn), fanout.frames()), ((0, dropped as u64), all - dropped + 1));
    assert!(text(&mut fanout, conn).contains(&gap(0, (dropped - 1) % 3600, dropped)));
}

/// What is queued besides events is no event, nor is what stays because it is partly written.
#[test]
fn only_events_count_as_dropped_when_a_long_queue_goes() {
    for policy in Overflow::ALL {
        let mut fanout = Fanout::new(DEEP);
        let conns = [fanout.open(policy)];
        let [conn] = conns;
        (0..100).for_each(|at| assert_eq!(give(&mut fanout, &conns, at), [Delivery::Queued]));
        fanout.advance(conn, 10, 1);
        if policy == Overflow::DropOldest {
            assert!(fanout.send(conn, Frame::Control(b"answer".as_slice().into())));
            fanout.offer(conn, Frame::Constant(b"ping"));
            assert!(fanout.shrink(conn) && fanout.totals(conn).1 > 30);
        }
        fanout.finish(conn, Frame::Constant(b"bye"), Some(Dropped::SlowConsumer));
        assert_eq!((fanout.totals(conn), fanout.depth(conn).events), ((0, 99), 2), "{policy:?}");
        while fanout.has_leftovers() {
            fanout.begin_turn();
        }
        assert_eq!(fanout.take_counts().dropped.iter().sum::<u64>(), 99, "{policy:?}");
    }
}

/// A pass that was forced meanwhile leaves its connection among those that wait for one. Without a pass, others would
/// reach their bounds.
#[test]
fn a_pass_that_is_not_needed_any_more_takes_no_time_from_others() {
    let limits = OutboxLimits { bytes: 64 << 20, events: 65_536 };
    let mut fanout = Fanout::new(limits);
    let [forced, waiting] = [(); 2].map(|()| fanout.open(Overflow::Conflate));
    let give = |fanout: &mut Fanout, conn, at: usize| {
        let event = Draft::new("machines", "update", &at.to_string()).seal(jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(deliver(fanout, &[conn], &Arc::new(event)), [Delivery::Queued]);
    };
    while fanout.effort.try_pass(usize::MAX) {}
    (0..=limits.events).for_each(|at| give(&mut fanout, forced, at % 40_000));
    assert_eq!((fanout.depth(forced).events, fanout.has_leftovers()), (40_001, true), "at its bounds");
    (0..=limits.events / 4).for_each(|at| give(&mut fanout, waiting, at % 100));
    assert!(fanout.depth(waiting).events > limits.events / 4);
    // Nothing is left of what these deliveries have earned.
    fanout.effort.renew();
    fanout.begin_turn();
    assert_eq!((fanout.depth(waiting).events, fanout.has_leftovers()), (100, false));
}

/// Pings that are answered and not read, for example.
#[test]
fn the_memory_for_a_burst_of_frames_is_given_back_when_they_are_gone() {
    let frames = 300_000;
    let mut fanout = Fanout::new(OutboxLimits { bytes: 64 << 20, events: frames });
    let [stalled, other] = [(); 2].map(|()| fanout.open(Overflow::Disconnect));
    (0..frames).for_each(|_| fanout.offer(stalled, Frame::Pong([0; 6].into())));
    assert!(fanout.frames() == frames && fanout.frames.capacity() >= frames);
    fanout.remove(stalled);
    let mut turns = 0;
    while fanout.has_leftovers() || turns < 200 {
        fanout.offer(other, Frame::Pong([0; 6].into()));
        fanout.advance(other, 6, 0);
        fanout.begin_turn();
        turns += 1;
    }
    assert_eq!((fanout.frames(), fanout.take_held()), (0, 0));
    assert!(fanout.frames.capacity() <= 65_536, "{}", fanout.frames.capacity());
}
