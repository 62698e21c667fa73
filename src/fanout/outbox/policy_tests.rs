//! Tests the overflow policies against the model.

use proptest::prelude::*;

use super::gather::Gathered;
use super::policy_model::{BARRIERS, Item, KEYS, LIMITS, Model, POLICIES};
use super::*;
use crate::event::Draft;

fn event(step: usize, key: &str, action: &str, size: usize) -> Arc<Event> {
    let (object, original) = (format!("\"{step}{}\"", "x".repeat(size)), format!("\"before {step}\""));
    let mut draft = Draft::new("machines", action, key);
    draft.time = Some(format!("2026-01-02T03:04:{:02}.{step}Z", step % 60).into());
    (draft.object, draft.original) = (&object, &original);
    Arc::new(draft.seal(jiff::Timestamp::UNIX_EPOCH))
}

fn written(fanout: &mut Fanout, conn: ConnId) -> Vec<u8> {
    let mut gathered = Gathered::new();
    fanout.gather(conn, usize::MAX, &mut gathered);
    gathered.iter().flat_map(|slice| slice.to_vec()).collect()
}

/// Notes that `bytes` were written, at the end of a round or in its middle.
fn write(fanout: &mut Fanout, conn: ConnId, bytes: usize, ends_round: bool) {
    fanout.advance(conn, bytes, 10);
    if ends_round {
        fanout.end_round(10);
    }
}

/// Offers all of them a ping or a pong.
fn offer(fanout: &mut Fanout, conns: &[ConnId], models: &mut [Model], (step, is_pong): (usize, bool)) {
    let bytes = if is_pong { format!("pong {step}") } else { "ping".to_owned() }.into_bytes();
    for (&conn, model) in conns.iter().zip(models) {
        let frame = if is_pong { Frame::Pong(bytes.clone().into()) } else { Frame::Constant(b"ping") };
        fanout.offer(conn, frame);
        model.offer(is_pong, bytes.clone());
    }
}

/// Uses up what all share of a turn for dropping the oldest events, sometimes the connection's own share too; or begins
/// the next turn.
fn exhaust(fanout: &mut Fanout, conn: ConnId, model: &mut Model, mask: u8) {
    if mask == 0 {
        fanout.begin_turn();
        return model.begin_turn();
    }
    fanout.effort.make_room(usize::MAX);
    model.is_exhausted = true;
    if mask < 6 {
        fanout.effort.use_own_share(conn, fanout.effort.own_share(conn));
        model.own = 0;
    }
}

/// Releases what was dropped at once.
fn let_go(fanout: &mut Fanout) {
    while fanout.has_leftovers() {
        fanout.begin_turn();
    }
}

/// Makes some events larger than half of the limits, or than all of them.
fn sized(size: usize) -> usize {
    if size < 50 { 100 * size } else { size }
}

/// Fails unless what an outbox counts is what its model has.
fn check_counts(fanout: &Fanout, conn: ConnId, model: &Model) {
    let answers = model.items.iter().filter(|item| matches!(item, Item::Own(_)));
    let counted = if model.policy == Overflow::DropOldest { answers.count() } else { 0 };
    assert_eq!(fanout.answers.of(conn) as usize, counted);
    assert_eq!(fanout.depth(conn), Depth { events: model.items.len(), bytes: model.counted().1 });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Every connection's stream and counts always equal those of the model.
    #[test]
    fn every_policy_does_what_its_model_does(
        steps in prop::collection::vec((0..13_u8, 0..3_usize, 0..8_u8, 1..700_usize), 1..250)
    ) {
        BARRIERS.with_borrow_mut(Vec::clear);
        let mut fanout = Fanout::new(LIMITS);
        let conns = POLICIES.map(|policy| fanout.open(policy));
        let mut models = POLICIES.map(Model::new);
        let buckets: std::collections::BTreeSet<usize> =
            KEYS.iter().map(|key| fanout.barriers.object(&event(0, key, "update", 0)).bucket()).collect();
        prop_assume!(buckets.len() == KEYS.len());
        let (mut number, mut matched, mut notices) = (0, 0, 0);
        for (step, (what, which, mask, size)) in steps.into_iter().enumerate() {
            match what {
                0..=6 => {
                    let event = event(step, KEYS[which], if what == 6 { "delete" } else { "update" }, sized(size));
                    number += 1;
                    if what == 6 {
                        BARRIERS.with_borrow_mut(|all| all.push((number, KEYS[which].to_owned())));
                    }
                    fanout.begin_event(&event);
                    for (at, (&conn, model)) in conns.iter().zip(&mut models).enumerate() {
                        // Some connections are not registered for it.
                        if mask & 1 << at.min(2) == 0 || at == 3 {
                            matched += u64::from(!model.closed);
                            prop_assert_eq!(fanout.deliver(&event, 0, conn), model.deliver(&event, number));
                        }
                    }
                    fanout.end_event();
                }
                7 => {
                    let own: &'static [u8] = if size > 350 { b"answer" } else { b"an answer that takes more room" };
                    prop_assert_eq!(fanout.send(conns[which], Frame::Control(own.into())), models[which].send(own));
                }
                8 | 9 if mask > 0 => {
                    let stream = models[which].stream();
                    prop_assert_eq!(&written(&mut fanout, conns[which]), &stream);
                    let bytes = stream.len().min(size * usize::from(mask));
                    notices += models[which].items.iter().filter(|item| item.is_gap()).count();
                    write(&mut fanout, conns[which], bytes, step % 3 == 0);
                    models[which].write(bytes);
                    notices -= models[which].items.iter().filter(|item| item.is_gap()).count();
                }
                10 | 11 => offer(&mut fanout, &conns, &mut models, (step, what == 11)),
                12 => exhaust(&mut fanout, conns[1], &mut models[1], mask),
                _ => {
                    fanout.finish(conns[which], Frame::Control(b"bye".as_slice().into()), Some(Dropped::SlowConsumer));
                    models[which].finish(b"bye");
                }
            }
            conns.iter().zip(&models).for_each(|(&conn, model)| check_counts(&fanout, conn, model));
        }
        fanout.end_round(10);
        let_go(&mut fanout);
        for (&conn, model) in conns.iter().zip(&models) {
            prop_assert_eq!(written(&mut fanout, conn), model.stream());
            prop_assert_eq!(fanout.totals(conn), (model.done[0], model.done[1]));
        }
        let counts = fanout.take_counts();
        let sum = |at: usize| models.iter().map(|model| model.done[at]).sum::<u64>();
        let dropped: u64 = counts.dropped.iter().sum();
        prop_assert_eq!((counts.delivered, dropped, counts.conflated), (sum(0), sum(1), sum(2)));
        let waiting: u64 = models.iter().map(Model::events).sum();
        prop_assert_eq!(fanout.waiting().events as u64, waiting);
        prop_assert_eq!((counts.matched, counts.notices), (matched, notices as u64));
        prop_assert_eq!(matched, counts.delivered + dropped + counts.conflated + waiting);
        fanout.end_round(10);
        conns.into_iter().for_each(|conn| fanout.remove(conn));
        prop_assert_eq!((fanout.frames(), fanout.waiting(), fanout.answers.is_empty()), (0, Depth::default(), true));
    }
}

/// A quarter of the limits is where an outbox is conflated first, not how large an event may be.
#[test]
fn a_large_event_has_room_behind_a_small_one() {
    let mut fanout = Fanout::new(LIMITS);
    let conn = fanout.open(Overflow::Conflate);
    for (key, size) in [("a", 1), ("b", LIMITS.bytes / 2)] {
        let event = event(0, key, "create", size);
        fanout.begin_event(&event);
        assert_eq!(fanout.deliver(&event, 0, conn), Delivery::Queued);
        fanout.end_event();
    }
}

#[test]
fn a_merged_frame_is_made_once_for_all_connections_of_a_shard() {
    let mut fanout = Fanout::new(LIMITS);
    let conns: Vec<ConnId> = (0..10).map(|_| fanout.open(Overflow::Conflate)).collect();
    for step in 0..60 {
        let event = event(step, "a", "update", 10);
        fanout.begin_event(&event);
        for &conn in &conns {
            assert_eq!(fanout.deliver(&event, 0, conn), Delivery::Queued);
        }
        fanout.end_event();
        assert!(fanout.frames() <= LIMITS.events / 4 + 1, "{} frames", fanout.frames());
    }
    assert!(fanout.take_counts().conflated > 500);
}

#[test]
fn merged_frames_are_deflated_for_those_who_agreed() {
    let policy = DeflatePolicy { level: 1, min_bytes: 1, max_bytes: 1 << 20, skip_types: Vec::new() };
    let mut fanout = Fanout::new(LIMITS).with_deflate(policy);
    let (plain, deflated) = (fanout.open(Overflow::Conflate), fanout.open(Overflow::Conflate));
    fanout.set_encoding(deflated, Encoding::Deflate);
    for step in 0..20 {
        let event = event(step, "a", "update", 300);
        fanout.begin_event(&event);
        for conn in [plain, deflated] {
            assert_eq!(fanout.deliver(&event, 0, conn), Delivery::Queued);
        }
        fanout.end_event();
    }
    let (plain, deflated) = (written(&mut fanout, plain), written(&mut fanout, deflated));
    assert_eq!((plain[0], deflated[0]), (0x81, 0xC1));
    assert!(deflated.len() < plain.len() / 2, "{} of {}", deflated.len(), plain.len());
    assert!(fanout.take_counts().conflated > 20);
}

#[test]
fn a_reader_that_follows_gets_every_event_whatever_its_policy() {
    let mut fanout = Fanout::new(LIMITS);
    let conns: Vec<ConnId> = Overflow::ALL.iter().map(|&policy| fanout.open(policy)).collect();
    for step in 0..200 {
        let event = event(step, "a", "update", 10);
        fanout.begin_event(&event);
        for &conn in &conns {
            assert_eq!(fanout.deliver(&event, 0, conn), Delivery::Queued);
        }
        fanout.end_event();
        if step % 4 == 3 {
            for &conn in &conns {
                let all = written(&mut fanout, conn).len();
                fanout.advance(conn, all, 0);
            }
        }
    }
    let counts = fanout.take_counts();
    assert_eq!((counts.delivered, counts.conflated, counts.dropped), (600, 0, [0; 3]));
}
