//! Tests of outboxes, rounds and runs by their output, and of all counts.

use proptest::prelude::*;

use super::gather::Gathered;
use super::*;
use crate::event::Draft;

#[test]
fn what_an_idle_outbox_and_a_frame_take_is_small() {
    assert!(size_of::<Option<Outbox>>() <= 104, "{}", size_of::<Option<Outbox>>());
    const { assert!(frames::SIZE <= 64) };
}

#[test]
fn rings_of_a_turn_are_used_again_in_the_next() {
    let mut fanout = Fanout::new(OutboxLimits { bytes: 1 << 20, events: 1_000 });
    let conns: Vec<ConnId> = (0..1_000).map(|_| fanout.open(Overflow::Disconnect)).collect();
    let mut draft = Draft::new("a", "b", "c");
    draft.object = "1";
    let event = Arc::new(draft.seal(jiff::Timestamp::UNIX_EPOCH));
    for _ in 0..256 {
        fanout.begin_event(&event);
        assert!(conns.iter().all(|&conn| fanout.deliver(&event, 0, conn) == Delivery::Queued));
        fanout.end_event();
    }
    assert_eq!(fanout.spare.len(), 0);
    for &conn in &conns {
        fanout.advance(conn, fanout.depth(conn).bytes, 1);
    }
    assert_eq!((fanout.spare.len(), fanout.frames(), fanout.waiting()), (1_000, 0, Depth::default()));
    assert_eq!((fanout.totals(conns[999]), fanout.take_counts().delivered), ((256, 0), 256_000));
}

const LIMITS: OutboxLimits = OutboxLimits { bytes: 2000, events: 12 };

fn event(key: &str) -> Arc<Event> {
    Arc::new(Draft::new("a", "b", key).seal(jiff::Timestamp::UNIX_EPOCH))
}

fn written(fanout: &mut Fanout, conn: ConnId, max: usize) -> Vec<u8> {
    let mut gathered = Gathered::new();
    fanout.gather(conn, max, &mut gathered);
    gathered.iter().flat_map(|slice| slice.to_vec()).collect()
}

#[test]
fn frames_leave_in_order_across_partial_writes() {
    let mut fanout = Fanout::new(LIMITS);
    let conn = fanout.open(Overflow::Disconnect);
    let mut expected = Vec::new();
    for i in 0..10 {
        let event = event(&i.to_string());
        expected.extend_from_slice(event.frame());
        assert_eq!(fanout.deliver(&event, 0, conn), Delivery::Queued);
        fanout.end_event();
    }
    let mut out = Vec::new();
    for step in [1, 2, 3, 100, 7, 150].iter().cycle() {
        let bytes = written(&mut fanout, conn, usize::MAX);
        if bytes.is_empty() {
            break;
        }
        let n = bytes.len().min(*step);
        out.extend_from_slice(&bytes[..n]);
        fanout.advance(conn, n, 50);
    }
    assert_eq!(out, expected);
    let counts = fanout.take_counts();
    assert_eq!((counts.matched, counts.delivered, counts.dropped), (10, 10, [0; 3]));
    assert_eq!(counts.bytes, expected.len() as u64);
    assert_eq!((fanout.frames(), fanout.waiting()), (0, Depth::default()));
}

#[test]
fn a_full_outbox_overflows_and_leaves_a_close_frame_behind_the_started_one() {
    let mut fanout = Fanout::new(LIMITS);
    let (slow, fast) = (fanout.open(Overflow::Disconnect), fanout.open(Overflow::Disconnect));
    let first = event("0");
    let mut overflows = 0;
    for i in 0..20 {
        let event = if i == 0 { Arc::clone(&first) } else { event(&i.to_string()) };
        overflows += u32::from(fanout.deliver(&event, 0, slow) == Delivery::Overflow);
        assert_eq!(fanout.deliver(&event, 0, fast), Delivery::Queued);
        fanout.end_event();
        let all = written(&mut fanout, fast, usize::MAX).len();
        fanout.advance(fast, all, 0);
        if i == 0 {
            fanout.advance(slow, 5, 0);
        }
    }
    assert_eq!(overflows, 8, "twelve fit by count");
    fanout.finish(slow, Frame::Constant(b"bye"), Some(Dropped::SlowConsumer));
    assert_eq!(fanout.deliver(&event("x"), 0, slow), Delivery::Closed);
    fanout.end_event();
    assert_eq!(written(&mut fanout, slow, usize::MAX), [&first.frame()[5..], b"bye"].concat());
    let rest = written(&mut fanout, slow, usize::MAX).len();
    fanout.advance(slow, rest, 0);
    let counts = fanout.take_counts();
    assert_eq!((counts.matched, counts.delivered, counts.dropped), (40, 21, [11 + 8, 0, 0]));
    assert_eq!((fanout.frames(), fanout.waiting()), (0, Depth::default()));
}

#[test]
fn an_empty_outbox_takes_one_frame_of_any_size() {
    let mut fanout = Fanout::new(LIMITS);
    let conn = fanout.open(Overflow::Disconnect);
    let large = event(&"x".repeat(5000));
    assert_eq!(fanout.deliver(&large, 0, conn), Delivery::Queued);
    fanout.end_event();
    assert_eq!(fanout.deliver(&large, 0, conn), Delivery::Overflow);
    fanout.end_event();
}

/// A client that reads is not closed, and loses nothing, because of what follows an event too large for its socket. One
/// that does not read is bounded as usual.
#[test]
fn what_is_behind_a_large_frame_has_the_room_of_an_outbox() {
    for (policy, bytes) in Overflow::ALL.into_iter().flat_map(|policy| [1_100, 5_000].map(|bytes| (policy, bytes))) {
        let mut fanout = Fanout::new(LIMITS);
        let conn = fanout.open(policy);
        let (large, small) = (event(&"x".repeat(bytes)), event(&"y".repeat(300)));
        deliver_all(&mut fanout, &[conn], &[large]);
        fanout.advance(conn, 10, 1);
        let left = fanout.depth(conn).bytes;
        let fit = LIMITS.bytes / small.frame().len();
        for _ in 0..fit {
            deliver_all(&mut fanout, &[conn], std::slice::from_ref(&small));
            fanout.offer(conn, Frame::Constant(b"ping"));
        }
        let pings = if policy == Overflow::DropOldest { 1 } else { fit };
        assert_eq!((fanout.depth(conn).events, fanout.totals(conn)), (1 + fit + pings, (0, 0)), "{policy:?} {bytes}");
        let refused = fanout.deliver(&small, 1, conn);
        fanout.end_event();
        let expected = if policy == Overflow::DropOldest { Delivery::Queued } else { Delivery::Overflow };
        assert_eq!((refused, fanout.totals(conn).1), (expected, 1), "{policy:?} {bytes}");
        assert!(fanout.depth(conn).bytes <= left + LIMITS.bytes);
        // What is left is smaller than the limit once the large one is written.
        fanout.advance(conn, left, 1);
        assert!(fanout.depth(conn).bytes <= LIMITS.bytes);
    }
}

#[test]
fn a_blocked_connection_is_not_dirty_until_it_can_write() {
    let mut fanout = Fanout::new(LIMITS);
    let conn = fanout.open(Overflow::Disconnect);
    fanout.set_blocked(conn);
    fanout.send(conn, Frame::Constant(b"x"));
    assert!(!fanout.has_dirty());
    fanout.mark_dirty(conn);
    fanout.mark_dirty(conn);
    let mut dirty = Vec::new();
    fanout.take_dirty(&mut dirty);
    assert_eq!(dirty, [conn]);
    fanout.take_dirty(&mut dirty);
    assert!(dirty.is_empty());
}

#[test]
fn dirty_connections_come_in_the_order_of_their_numbers() {
    let mut fanout = Fanout::new(LIMITS);
    let mut conns: Vec<ConnId> = (0..5).map(|_| fanout.open(Overflow::Disconnect)).collect();
    for at in [3, 0, 4, 2] {
        assert!(fanout.send(conns[at], Frame::Constant(b"x")));
    }
    let mut dirty = Vec::new();
    assert_eq!(fanout.take_dirty(&mut dirty), 4);
    conns.remove(1);
    assert_eq!(dirty, conns);
}

#[test]
fn dirty_streams_come_after_the_websockets() {
    let mut fanout = Fanout::new(LIMITS);
    let conns: Vec<ConnId> = (0..6).map(|_| fanout.open(Overflow::Disconnect)).collect();
    for (conn, encoding) in [(0, Encoding::EventStream), (2, Encoding::Lines), (3, Encoding::Deflate)] {
        fanout.set_encoding(conns[conn], encoding);
    }
    let mut dirty = Vec::new();
    for _ in 0..2 {
        for at in [4, 3, 2, 1, 0] {
            assert!(fanout.send(conns[at], Frame::Constant(b"x")));
        }
        assert_eq!(fanout.take_dirty(&mut dirty), 3);
        assert_eq!(dirty, [1, 3, 4, 0, 2].map(|at| conns[at]), "each kind in the order of numbers");
        assert!(!fanout.has_dirty());
    }
    fanout.mark_dirty(conns[0]);
    assert_eq!((fanout.take_dirty(&mut dirty), &dirty[..]), (0, &conns[..1]));
}

/// Delivers events to these connections.
fn deliver_all(fanout: &mut Fanout, conns: &[ConnId], events: &[Arc<Event>]) {
    for (at, event) in events.iter().enumerate() {
        fanout.begin_event(event);
        for &conn in conns {
            assert_eq!(fanout.deliver(event, 10 * at as u64, conn), Delivery::Queued);
        }
        fanout.end_event();
    }
}

#[test]
fn what_many_wait_for_is_put_together_once_and_counted_for_each() {
    let mut fanout = Fanout::new(LIMITS);
    let conns: Vec<ConnId> = (0..30).map(|_| fanout.open(Overflow::Disconnect)).collect();
    let events: Vec<Arc<Event>> = (0..8).map(|at| event(&at.to_string())).collect();
    let (all, some) = conns.split_at(20);
    for round in 1..=2 {
        deliver_all(&mut fanout, all, &events);
        deliver_all(&mut fanout, some, &events[..5]);
        fanout.send(conns[19], Frame::Constant(b"answer"));
        let mut chunks = Vec::new();
        // Two kinds of subscribers alternate.
        for conn in all.iter().zip(some.iter().chain(some)).flat_map(|(&a, &b)| [a, b]) {
            let mut gathered = Gathered::new();
            fanout.gather(conn, 1 << 20, &mut gathered);
            chunks.push(gathered.len());
            let bytes: Vec<u8> = gathered.iter().flat_map(|slice| slice.to_vec()).collect();
            drop(gathered);
            let count = if conn < conns[20] { 8 } else { 5 };
            let answer: &[u8] = if conn == conns[19] { b"answer" } else { b"" };
            let expected: Vec<u8> = events[..count].iter().flat_map(|event| event.frame().to_vec()).collect();
            assert!(bytes.is_empty() && conn >= conns[20] || bytes == [&expected, answer].concat());
            let n = if conn == conns[18] { bytes.len() - 1 } else { bytes.len() };
            fanout.advance(conn, n, 100);
        }
        // From the fourth of each kind on; the last of the first kind has an answer too.
        assert_eq!(chunks.iter().filter(|&&chunks| chunks == 1).count(), 16 + 7);
        assert_eq!(fanout.waiting().events, 1);
        fanout.end_round(100);
        assert_eq!((fanout.frames(), fanout.depth(conns[18]).bytes), (1, 1));
        fanout.advance(conns[18], 1, 100);
        let counts = fanout.take_counts();
        assert_eq!((counts.matched, counts.delivered), (210, 210));
        assert_eq!(counts.latency.counts.iter().sum::<u64>(), 210);
        let one = |count: u64| (0..count).map(|at| 100 - 10 * at).sum::<u64>();
        assert_eq!(counts.latency.sum_us, 20 * one(8) + 10 * one(5));
        assert_eq!((fanout.totals(conns[0]), fanout.totals(conns[29])), ((8 * round, 0), (5 * round, 0)));
    }
}

#[test]
fn a_connection_may_go_while_others_have_the_same_in_one_piece() {
    let mut fanout = Fanout::new(LIMITS);
    let conns: Vec<ConnId> = (0..6).map(|_| fanout.open(Overflow::Disconnect)).collect();
    let events: Vec<Arc<Event>> = (0..8).map(|at| event(&at.to_string())).collect();
    deliver_all(&mut fanout, &conns, &events);
    let all = fanout.depth(conns[0]).bytes;
    for &conn in &conns[..5] {
        assert_eq!(written(&mut fanout, conn, usize::MAX).len(), all);
        if conn == conns[1] {
            fanout.advance(conn, all, 1);
        }
    }
    conns[1..].iter().for_each(|&conn| fanout.remove(conn));
    // In the same round, so the numbers of their frames are not reused yet.
    assert_eq!(fanout.open(Overflow::Disconnect), conns[5]);
    deliver_all(&mut fanout, &conns[5..], &[event("new")]);
    assert_eq!(written(&mut fanout, conns[5], usize::MAX), event("new").frame());
    assert_eq!(written(&mut fanout, conns[0], usize::MAX).len(), all);
    fanout.advance(conns[0], all, 1);
    fanout.end_round(1);
    fanout.remove(conns[5]);
    let counts = fanout.take_counts();
    assert_eq!((counts.matched, counts.delivered, counts.dropped[Dropped::Closed as usize]), (49, 16, 33));
    assert_eq!((fanout.frames(), fanout.waiting()), (0, Depth::default()));
}

proptest! {
    /// matched = delivered + waiting + dropped, no frame is held without a reference, and every byte is sent in order.
    #[test]
    fn nothing_is_lost_uncounted(steps in prop::collection::vec((0..4_u8, 0..3_u32, 1..400_usize), 1..200)) {
        let mut fanout = Fanout::new(LIMITS);
        let mut conns: Vec<ConnId> = (0..3).map(|_| fanout.open(Overflow::Disconnect)).collect();
        let mut expected: Vec<Vec<u8>> = vec![Vec::new(); 3];
        let mut matched = 0;
        for (step, (what, which, size)) in steps.into_iter().enumerate() {
            let at = which as usize;
            match what {
                0 | 1 => {
                    let event = event(&format!("{step}-{}", "x".repeat(size)));
                    for (conn, expected) in conns.iter().zip(&mut expected) {
                        matched += 1;
                        if fanout.deliver(&event, 0, *conn) == Delivery::Queued {
                            expected.extend_from_slice(event.frame());
                        }
                    }
                    fanout.end_event();
                }
                2 => {
                    let bytes = written(&mut fanout, conns[at], size);
                    let n = bytes.len().min(size);
                    prop_assert_eq!(&bytes[..n], &expected[at][..n]);
                    expected[at].drain(..n);
                    fanout.advance(conns[at], n, 10);
                    if size % 5 == 0 {
                        fanout.end_round(10);
                    }
                }
                _ => {
                    fanout.remove(conns[at]);
                    conns[at] = fanout.open(Overflow::Disconnect);
                    expected[at].clear();
                }
            }
            prop_assert_eq!(fanout.waiting().bytes, expected.iter().map(Vec::len).sum::<usize>());
        }
        fanout.end_round(10);
        let waiting = fanout.waiting().events as u64;
        let counts = fanout.take_counts();
        prop_assert_eq!(matched, counts.delivered + counts.dropped.iter().sum::<u64>() + waiting);
        conns.into_iter().for_each(|conn| fanout.remove(conn));
        prop_assert_eq!((fanout.frames(), fanout.waiting()), (0, Depth::default()));
    }
}

#[test]
fn pings_and_pongs_get_the_room_that_there_is_and_no_other() {
    for policy in [Overflow::Disconnect, Overflow::Conflate] {
        let mut fanout = Fanout::new(LIMITS);
        let conn = fanout.open(policy);
        for i in 0..LIMITS.events {
            let event = event(&i.to_string());
            fanout.begin_event(&event);
            assert_eq!(fanout.deliver(&event, 0, conn), Delivery::Queued);
            fanout.end_event();
        }
        let before = fanout.depth(conn);
        fanout.offer(conn, Frame::Constant(b"ping"));
        assert_eq!((fanout.depth(conn), fanout.totals(conn)), (before, (0, 0)), "{policy:?}");
        fanout.advance(conn, before.bytes, 1);
        fanout.offer(conn, Frame::Constant(b"ping"));
        assert_eq!(fanout.depth(conn).bytes, 4, "{policy:?}");
    }
}

#[test]
fn an_outbox_that_takes_no_events_needs_no_room_for_them() {
    let mut fanout = Fanout::new(LIMITS);
    let conn = fanout.open(Overflow::Conflate);
    (0..2).for_each(|_| assert!(fanout.send(conn, Frame::Constant(b"answer"))));
    for (paused, has_room) in [(false, false), (true, true), (false, false)] {
        fanout.set_paused(conn, paused);
        assert_eq!((fanout.dirty_have_room(2, 1), fanout.all_have_room(2, 1)), (has_room, has_room));
        let depth = if paused { Depth::default() } else { fanout.depth(conn) };
        assert_eq!(fanout.deepest_dirty(), depth);
    }
    fanout.finish(conn, Frame::Constant(b"bye"), None);
    assert!(fanout.dirty_have_room(2, 1) && fanout.all_have_room(2, 1), "nor does one that closes");
}

/// With short events they take as much memory as the frames, for each of thousands of connections.
#[test]
fn the_lists_of_frames_count_in_the_budget() {
    const EACH: usize = 10_000;
    let mut fanout = Fanout::new(OutboxLimits { bytes: 1 << 30, events: 1 << 20 });
    let conns: Vec<ConnId> = (0..100).map(|at| fanout.open(Overflow::ALL[at % 2])).collect();
    let event = event("x");
    let length = event.frame().len();
    for _ in 0..EACH {
        fanout.begin_event(&event);
        assert!(conns.iter().all(|&conn| fanout.deliver(&event, 0, conn) == Delivery::Queued));
        fanout.end_event();
    }
    let list = size_of::<FrameId>() * EACH;
    let mut held = fanout.take_held();
    assert!(held >= i64::try_from(list * conns.len()).unwrap(), "{held}");
    assert!(fanout.footprint(conns[0]) >= EACH * length + list);
    // One that reads on has something queued all the time.
    fanout.advance(conns[0], (EACH - 100) * length, 1);
    assert!(fanout.footprint(conns[0]) < 100 * (length + frames::SIZE) + list / 10);
    // Dropping the oldest frees memory too.
    let dropping = conns.iter().copied().find(|&conn| fanout.policy(conn) == Some(Overflow::DropOldest)).unwrap();
    (0..4).for_each(|_| assert!(fanout.shrink(dropping)));
    assert!(fanout.footprint(dropping) < EACH / 15 * (length + frames::SIZE) + list / 2);
    held += fanout.take_held();
    conns.iter().for_each(|&conn| fanout.remove(conn));
    held += fanout.take_held();
    assert!(held >= i64::try_from(list * (conns.len() - 2)).unwrap(), "until they are released: {held}");
    while fanout.has_leftovers() {
        fanout.begin_turn();
    }
    assert_eq!((held + fanout.take_held(), fanout.frames()), (0, 0));
}

/// Thousands of them are in few bytes.
#[test]
fn what_is_queued_for_one_connection_counts_with_its_entry() {
    let mut fanout = Fanout::new(OutboxLimits { bytes: 1 << 20, events: 1 << 16 });
    let conn = fanout.open(Overflow::Disconnect);
    (0..5).for_each(|_| fanout.offer(conn, Frame::Pong(vec![0x8A, 0].into())));
    let held = 5 * (2 + frames::SIZE);
    assert_eq!(fanout.take_held(), i64::try_from(held).unwrap());
    assert!(fanout.footprint(conn) >= held, "otherwise nobody could be shed for it");
    fanout.advance(conn, 10, 1);
    assert_eq!(fanout.take_held(), -i64::try_from(5 * (2 + frames::SIZE)).unwrap());
}
