//! The splice: continuing from the archive, leaving out what was delivered of the history, and a model of both with
//! random orders and duplicates.

use proptest::prelude::*;

use super::*;
use crate::broker::dedup::RepeatIndex;
use crate::clock::{ClockReading, simulated};
use crate::event::Draft;

/// The same moment by both clocks.
fn both(seconds: i64) -> ClockReading {
    ClockReading { wall: at(seconds), instant: simulated::at(seconds).instant }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn event(key: u64) -> Event {
    Draft::new("machines", "update", &key.to_string()).seal(at(1))
}

fn trace(node: NodeId, number: u64, repeat_index: Option<RepeatIndex>) -> Trace {
    Trace { origin: Origin { node, number }, repeat_index }
}

/// A record of what is to be delivered.
fn begun(window: usize) -> Delivered {
    let mut delivered = Delivered::new(window);
    delivered.begin();
    delivered
}

#[test]
fn losses_show_and_repetitions_do_not_come() {
    let mut delivered = begun(10);
    let mut event = |number| delivered.event(trace(1, number, None), &event(0), 0, at(1));
    assert_eq!(event(5), Comparison { new: true, skipped: 5..5 }, "the first one seen");
    assert_eq!(event(8), Comparison { new: true, skipped: 6..8 });
    assert_eq!(event(8), Comparison { new: false, skipped: 0..0 });
    assert_eq!(delivered.reach(1, 10, at(1)), 9..10);
    assert!(delivered.reach(1, 10, at(1)).is_empty());
    assert!(delivered.event(trace(1, 10, None), &self::event(0), 0, at(1)).new);
}

#[test]
fn what_was_jumped_over_is_filled_once_and_not_left_out() {
    let mut delivered = begun(10);
    delivered.event(trace(1, 0, None), &event(0), 0, at(1));
    delivered.event(trace(1, 6, None), &event(6), 0, at(1));
    assert!(!delivered.has(trace(1, 3, None), &event(3)), "the history may have it");
    assert!(delivered.fill(trace(1, 3, None), &event(3), 0) && !delivered.fill(trace(1, 3, None), &event(3), 0));
    assert!(delivered.has(trace(1, 3, None), &event(3)) && delivered.has(trace(1, 0, None), &event(0)));
    assert!(!delivered.has(trace(1, 2, None), &event(2)) && !delivered.has(trace(1, 4, None), &event(4)));
    delivered.event(trace(2, 0, Some(1)), &event(7), 0, at(1));
    delivered.event(trace(3, 0, None), &event(0), 0, at(1));
    delivered.event(trace(3, 2, None), &event(0), 0, at(1));
    assert!(!delivered.fill(trace(3, 1, Some(1)), &event(7), 0), "its copy came by another node");
}

/// The archive is read from a little earlier than requested; the history holds what this node accepted later.
#[test]
fn what_was_only_passed_over_comes_from_the_history() {
    let mut delivered = Delivered::new(10);
    for number in [4, 5, 7] {
        delivered.event(trace(1, number, Some(1)), &event(number), 0, at(1));
    }
    delivered.reach(2, 3, at(1));
    assert!(!delivered.has(trace(1, 4, Some(1)), &event(4)), "nothing of it is requested");
    delivered.begin();
    assert_eq!(delivered.event(trace(1, 9, Some(1)), &event(9), 0, at(9)), Comparison { new: true, skipped: 8..9 });
    assert_eq!(delivered.event(trace(2, 3, None), &event(3), 0, at(9)), Comparison { new: true, skipped: 3..3 });
    let has = |node, number, repeat_index| delivered.has(trace(node, number, repeat_index), &event(number));
    assert!([3, 4, 5, 6, 7, 8].into_iter().all(|number| !has(1, number, Some(1))));
    assert!(has(1, 9, Some(1)) && has(2, 3, None) && !has(2, 2, None) && has(3, 9, Some(1)));
    assert!(!delivered.event(trace(1, 5, Some(1)), &event(5), 0, at(9)).new, "stored once more");
    delivered.event(trace(1, 6, None), &event(6), 0, at(10));
    assert!(delivered.has(trace(1, 6, None), &event(6)), "the number behind the jump was made up");
}

#[test]
fn the_jumps_of_a_page_of_unreadable_events_are_all_remembered() {
    let mut delivered = begun(10);
    delivered.event(trace(1, 0, None), &event(0), 0, at(1));
    for number in (2..2 + 2 * 256).step_by(2) {
        assert_eq!(delivered.lack(1, number, at(1)), number - 1..number + 1);
        assert!(delivered.lack(1, number, at(1)).is_empty(), "stored twice");
    }
    for number in 1..512 {
        assert!(!delivered.has(trace(1, number, None), &event(number)), "{number}");
    }
}

#[test]
fn a_number_that_somebody_made_up_hides_nothing() {
    let mut delivered = begun(10);
    delivered.event(trace(1, 57, None), &event(0), 0, at(1));
    delivered.event(trace(1, 1_000_000_000_000, None), &event(0), 0, at(1));
    for number in 58..70 {
        let comparison = delivered.event(trace(1, number, None), &event(number), 0, at(1));
        assert!(comparison.new && comparison.skipped.is_empty(), "{number}: {comparison:?}");
    }
    let mut watermarks = Watermarks::default();
    watermarks.note(1, 70, both(100));
    assert!(delivered.missing(&watermarks, at(0), both(100).instant).is_nothing());
    assert_eq!(delivered.ahead_of(&watermarks), 0);
}

/// Anyone who may publish can make up nodes, and the archive keeps what they publish.
#[test]
fn nodes_and_jumps_that_somebody_made_up_have_a_bound() {
    let mut delivered = begun(10);
    for node in 0..3 * NODES as u64 {
        assert!(!delivered.has_forgotten() || node > NODES as u64);
        delivered.reach(node, 7, at(node.cast_signed()));
        assert!(delivered.nodes.len() <= NODES);
    }
    assert!(delivered.has_forgotten());
    let latest = 3 * NODES as u64 - NODES as u64 / 2..3 * NODES as u64;
    assert!(latest.clone().all(|node| delivered.nodes.contains_key(&node)), "they are waited for");
    for (second, number) in (20_000..).zip((9..9 + 2 * 400).step_by(2)) {
        for node in latest.clone().take(100) {
            delivered.lack(node, number, at(second));
        }
        let holes: usize = delivered.nodes.values().map(Reached::holes).sum();
        assert!(holes <= ALL_HOLES && holes == delivered.holes, "{holes}");
    }
}

#[test]
fn an_event_comes_by_one_of_its_ways() {
    let mut delivered = begun(10);
    assert!(delivered.event(trace(1, 0, Some(1)), &event(7), 0, at(1)).new);
    assert!(!delivered.event(trace(2, 0, Some(1)), &event(7), 0, at(1)).new, "its copy");
    assert!(delivered.event(trace(2, 1, Some(2)), &event(7), 0, at(1)).new, "the endpoint sent it twice");
    assert!(delivered.has(trace(1, 1, Some(2)), &event(7)), "the other way, which the archive has not reached yet");
    assert!(!delivered.has(trace(1, 1, Some(3)), &event(7)));
    assert!(!delivered.has(trace(1, 1, None), &event(7)), "posts have no duplicates");
}

#[test]
fn the_archive_may_be_left_when_it_has_given_what_the_node_had() {
    let mut delivered = begun(10);
    let mut watermarks = Watermarks::default();
    watermarks.note(1, 3, both(100));
    watermarks.note(2, 9, both(10));
    watermarks.note(3, 0, both(100));
    let missing = |delivered: &Delivered, since| delivered.missing(&watermarks, at(since), both(100).instant);
    assert!(missing(&delivered, 50).unknown, "the first may have more");
    assert!(missing(&delivered, 101).is_nothing(), "it has published nothing since");
    delivered.event(trace(1, 0, None), &event(0), 0, at(1));
    assert_eq!(missing(&delivered, 50), Missing { numbers: vec![(1, 1..3)], unknown: false }, "the second is gone");
    delivered.reach(1, 3, at(1));
    assert!(missing(&delivered, 50).is_nothing());
    assert_eq!(delivered.ahead_of(&watermarks), 0);
    delivered.event(trace(4, 7, None), &event(0), 0, at(1));
    assert!(delivered.ahead_of(&watermarks) > 0, "an event that this node has not taken in yet");
    delivered.reach(1, 3, at(17));
    assert_eq!(delivered.ahead_of(&watermarks), 0, "whoever published it is gone");
}

#[test]
fn what_was_given_is_left_out_and_counted() {
    let mut splice = Splice::at(5);
    [6, 7, 8, 12].into_iter().for_each(|number| splice.leave_out(number));
    assert!([5, 9, 11, 13].into_iter().all(|number| !splice.leaves_out(number)));
    assert!([6, 8, 12].into_iter().all(|number| splice.leaves_out(number)));
    assert_eq!((splice.end(), Splice::at(5).end()), (13, 5));
    assert_eq!((splice.delivered.len(), splice.wanted(5..14), splice.wanted(7..9), splice.wanted(8..8)), (2, 5, 0, 0));
}

#[test]
fn what_the_history_no_longer_holds_is_forgotten_but_counted() {
    let mut splice = Splice::at(5);
    [6, 7, 8, 12].into_iter().for_each(|number| splice.leave_out(number));
    let before = splice.clone();
    assert!(!splice.is_past(12) && splice.is_past(13));
    splice.forget();
    assert!(splice.delivered.capacity() == 0 && !splice.is_past(13));
    for end in 13..20 {
        assert_eq!(splice.wanted(splice.first()..end), before.wanted(before.first()..end));
    }
}

/// An event that a node published.
#[derive(Debug, Clone)]
struct Passed {
    trace: Trace,
    key: u64,
}

/// A node that publishes.
#[derive(Debug)]
struct Sender {
    passed: Vec<Passed>,
    duplicates: Duplicates,
    /// How many of its events the archive and the replaying node have.
    archived: usize,
    taken: usize,
    /// How many of the endpoint's events it has read.
    read: usize,
}

/// Two nodes follow one endpoint and accept posts. A third serves the replay and has accepted a part of them. The
/// archive has stored a part, in its own order.
struct World {
    senders: [Sender; 2],
    keys: Keys,
    posts: u64,
    watermarks: Watermarks,
    here: Duplicates,
    history: Vec<Passed>,
    archive: Vec<Passed>,
    delivered: Delivered,
    out: Vec<(u64, Option<RepeatIndex>)>,
}

impl World {
    fn new() -> Self {
        let sender = || Sender { passed: Vec::new(), duplicates: Duplicates::new(100), archived: 0, taken: 0, read: 0 };
        Self {
            senders: [sender(), sender()],
            keys: Keys::default(),
            posts: 1000,
            watermarks: Watermarks::default(),
            here: Duplicates::new(100),
            history: Vec::new(),
            archive: Vec::new(),
            delivered: begun(100),
            out: Vec::new(),
        }
    }

    fn step(&mut self, node: usize, what: u8) {
        let sender = &mut self.senders[node];
        let origin = Origin { node: node as u64, number: sender.passed.len() as u64 };
        match what {
            0 => {
                self.posts += 1;
                sender.passed.push(Passed { trace: Trace { origin, repeat_index: None }, key: self.posts });
            }
            1 | 2 => {
                // The endpoint sends the same bytes now and then.
                let key = (sender.read % 5) as u64;
                sender.read += 1;
                let repeat_index = sender.duplicates.own(self.keys.digest(&event(key)));
                sender.passed.push(Passed { trace: Trace { origin, repeat_index }, key });
            }
            3 => self.take(node),
            _ => {
                self.archive.extend(sender.passed.get(sender.archived).cloned());
                sender.archived = (sender.archived + 1).min(sender.passed.len());
            }
        }
    }

    /// The replaying node accepts the next event of a sender.
    fn take(&mut self, node: usize) {
        let sender = &mut self.senders[node];
        let Some(passed) = sender.passed.get(sender.taken).cloned() else { return };
        sender.taken += 1;
        self.watermarks.note(node as u64, passed.trace.origin.number + 1, both(100));
        let digest = self.keys.digest(&event(passed.key));
        if passed.trace.repeat_index.is_none_or(|repeat_index| self.here.foreign(digest, repeat_index)) {
            self.history.push(passed);
        }
    }

    /// The archive stores the next event of a sender, and the reader reads it.
    fn store(&mut self, node: usize) {
        let sender = &mut self.senders[node];
        let Some(passed) = sender.passed.get(sender.archived).cloned() else { return };
        sender.archived += 1;
        self.read(&passed);
    }

    fn read(&mut self, passed: &Passed) {
        let comparison = self.delivered.event(passed.trace, &event(passed.key), 0, at(1));
        assert!(comparison.skipped.is_empty());
        if comparison.new {
            self.out.push((passed.key, passed.trace.repeat_index));
        }
    }

    fn has_delivered(&self, moment: &Watermarks) -> bool {
        (0..2).all(|node| self.delivered.nodes.get(&node).map_or(0, |reached| reached.next) >= moment.next(node))
    }

    fn splice(&self) -> Splice {
        let mut splice = Splice::at(0);
        for (number, passed) in (0..).zip(&self.history) {
            if self.delivered.has(passed.trace, &event(passed.key)) {
                splice.leave_out(number);
            }
        }
        splice
    }
}

/// Checks that the archive's events and the history's, without those that the splice leaves out, are all events once.
fn joined(steps: &[(u8, u8)], forgotten: usize, more: &[u8]) {
    let mut world = World::new();
    steps.iter().for_each(|&(node, what)| world.step(usize::from(node), what));
    let turns = || more.iter().map(|node| usize::from(*node)).chain([0, 1].into_iter().cycle().take(1000));
    // Read the archive until it has delivered what was accepted by this moment.
    let moment = world.watermarks.clone();
    std::mem::take(&mut world.archive).iter().for_each(|passed| world.read(passed));
    for node in turns() {
        if world.has_delivered(&moment) {
            break;
        }
        world.store(node);
    }
    assert!(world.delivered.missing(&moment, at(0), both(1000).instant).numbers.is_empty());
    // The node catches up with what the archive delivered, and accepts more events.
    for node in turns() {
        if world.delivered.ahead_of(&world.watermarks) == 0 {
            break;
        }
        world.take(node);
    }
    assert_eq!(world.delivered.ahead_of(&world.watermarks), 0);
    let splice = world.splice();
    (0..200).for_each(|turn| world.take(turn % 2));
    // Events accepted before that moment may be evicted by now.
    let old = |passed: &&Passed| passed.trace.origin.number < moment.next(passed.trace.origin.node);
    let forgotten = forgotten.min(world.history.iter().take_while(old).count());
    let rest = (0..).zip(&world.history).skip(forgotten).filter(|(number, _)| !splice.leaves_out(*number));
    let mut out = world.out.clone();
    out.extend(rest.map(|(_, passed)| (passed.key, passed.trace.repeat_index)));
    let passed = world.senders.iter().flat_map(|sender| &sender.passed);
    let mut all: Vec<_> = passed.map(|passed| (passed.key, passed.trace.repeat_index)).collect();
    all.sort_unstable();
    all.dedup();
    out.sort_unstable();
    assert_eq!(out, all);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_event_comes_once_over_the_splice(
        steps in prop::collection::vec((0..2_u8, 0..6_u8), 0..120), forgotten in 0..60_usize,
        more in prop::collection::vec(0..2_u8, 0..40),
    ) {
        joined(&steps, forgotten, &more);
    }
}
