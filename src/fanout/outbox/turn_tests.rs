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
