//! Tests that a turn deflates a bounded part of what conflation merges, and that nobody is closed for that.

use std::fmt::Write;

use super::*;
use crate::event::Draft;

const LIMITS: OutboxLimits = OutboxLimits { bytes: 1 << 20, events: 32_768 };

/// Bytes of an event's object.
const BYTES: usize = 4_000;

/// Objects that are updated by turns.
const OBJECTS: usize = 60;

/// What passes may deflate in a turn, and the frame that begins within that.
const MOST: u64 = (256 << 10) + 2 * BYTES as u64;

/// Returns an update that deflates to about half.
fn update(number: usize) -> Arc<Event> {
    let key = (number % OBJECTS).to_string();
    let mut state = number as u64 + 1;
    let mut hex = String::new();
    for _ in 0..BYTES / 16 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        write!(hex, "{:016x}", state ^ state >> 29).unwrap();
    }
    let object = format!("\"{hex}\"");
    let mut draft = Draft::new("machines", "update", &key);
    (draft.object, draft.original) = (&object, "\"before\"");
    Arc::new(draft.seal(jiff::Timestamp::UNIX_EPOCH))
}

struct World {
    fanout: Fanout,
    conns: Vec<ConnId>,
    events: usize,
}

impl World {
    fn new(conns: usize, encoding: Encoding) -> Self {
        let policy = DeflatePolicy { level: 1, min_bytes: 1, max_bytes: 1 << 20, skip_types: Vec::new() };
        let mut fanout = Fanout::new(LIMITS).with_deflate(policy);
        let conns: Vec<ConnId> = (0..conns).map(|_| fanout.open(Overflow::Conflate)).collect();
        conns.iter().for_each(|&conn| fanout.set_encoding(conn, encoding));
        Self { fanout, conns, events: 0 }
    }

    /// Delivers the next event to some of them. Returns the bytes that were deflated for merged frames.
    fn deliver(&mut self, to: impl Fn(usize) -> bool) -> u64 {
        let event = update(self.events);
        self.events += 1;
        let Self { fanout, conns, .. } = self;
        fanout.begin_event(&event);
        for (_, &conn) in conns.iter().enumerate().filter(|(at, _)| to(*at)) {
            assert_eq!(fanout.deliver(&event, 0, conn), Delivery::Queued);
        }
        fanout.end_event();
        let counts = fanout.take_counts();
        counts.deflate_input.saturating_sub(if counts.deflated > 0 { event.json().len() as u64 } else { 0 })
    }

    fn begin_turn(&mut self) -> u64 {
        self.fanout.begin_turn();
        self.fanout.take_counts().deflate_input
    }
}

/// Each has got other events, so that no merged frame is of use to another.
#[test]
fn a_turn_deflates_a_part_of_what_is_merged_and_the_next_ones_the_rest() {
    let mut world = World::new(6, Encoding::Deflate);
    let mut turns = Vec::new();
    for round in 0..300 {
        // Events of one turn.
        let mut deflated = world.begin_turn();
        for at in 0..6 {
            deflated += world.deliver(|other| other == (at + round) % 6 || (at + round) % 7 == other);
        }
        turns.push(deflated);
    }
    while world.fanout.has_leftovers() {
        turns.push(world.begin_turn());
        assert!(turns.len() < 1_000, "it ends");
    }
    assert!(turns.iter().all(|&deflated| deflated <= MOST), "{turns:?}");
    assert!(turns.iter().filter(|&&deflated| deflated > 100 << 10).count() > 3, "{turns:?}");
    for &conn in &world.conns {
        let Depth { events, bytes } = world.fanout.depth(conn);
        assert!(bytes <= LIMITS.bytes / 2 && events >= OBJECTS / 2, "{events} frames of {bytes} bytes");
    }
}

/// It holds a little more until the next turns have merged the rest.
#[test]
fn nobody_is_closed_because_others_have_spent_what_a_turn_deflates() {
    let mut world = World::new(1, Encoding::Deflate);
    let conn = world.conns[0];
    world.begin_turn();
    let mut most = 0;
    while most <= LIMITS.bytes {
        world.fanout.effort.deflate(u64::MAX);
        assert_eq!(world.deliver(|_| true), 0);
        most = world.fanout.depth(conn).bytes;
    }
    while world.fanout.has_leftovers() {
        assert!((1..=MOST).contains(&world.begin_turn()));
        world.deliver(|_| true);
        assert!(world.fanout.depth(conn).bytes <= LIMITS.bytes + LIMITS.bytes / 4);
    }
    assert!(world.fanout.depth(conn).events <= 2 * OBJECTS);
    // What is merged is in order: the last event of each object, the oldest first.
    world.fanout.set_encoding(conn, Encoding::Plain);
    let waiting: Vec<_> = world.fanout.outbox(conn).frames().collect();
    let places = waiting.iter().map(|&frame| world.fanout.frames.event(frame).unwrap().1.last);
    assert!(places.is_sorted());
}

/// Frames for which nothing is deflated cost no share of it.
#[test]
fn passes_of_plain_connections_do_not_wait_for_it() {
    let mut world = World::new(1, Encoding::Plain);
    world.begin_turn();
    world.fanout.effort.deflate(u64::MAX);
    for _ in 0..10 * OBJECTS {
        world.deliver(|_| true);
    }
    assert!(!world.fanout.has_leftovers() && world.fanout.depth(world.conns[0]).events < 3 * OBJECTS);
}
