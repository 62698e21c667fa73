//! Tests what outboxes weigh against what they hold, counted anew from their frames after every step.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::gather::Gathered;
use super::*;
use crate::event::Draft;

const LIMITS: OutboxLimits = OutboxLimits { bytes: 4000, events: 100 };

const ENCODINGS: [Encoding; Encoding::COUNT] =
    [Encoding::Plain, Encoding::Deflate, Encoding::EventStream, Encoding::Lines];

/// The texts of an event that are in memory because of a frame in this encoding.
fn texts(encoding: Encoding) -> &'static [Encoding] {
    match encoding {
        Encoding::Plain => &[Encoding::Plain],
        Encoding::Deflate => &[Encoding::Plain, Encoding::Deflate],
        Encoding::EventStream | Encoding::Lines => &[Encoding::Plain, Encoding::EventStream],
    }
}

/// One outbox of each encoding and policy, and the bytes that they hold as they report them.
struct World {
    fanout: Fanout,
    conns: Vec<(ConnId, Overflow, Encoding)>,
    held: i64,
}

impl World {
    fn new() -> Self {
        let policy = DeflatePolicy { level: 1, min_bytes: 1, max_bytes: 1 << 20, skip_types: Vec::new() };
        let kinds = Overflow::ALL.into_iter().flat_map(|policy| ENCODINGS.map(|encoding| (policy, encoding)));
        let mut world = Self { fanout: Fanout::new(LIMITS).with_deflate(policy), conns: Vec::new(), held: 0 };
        for (policy, encoding) in kinds {
            let conn = world.open(policy, encoding);
            world.conns.push((conn, policy, encoding));
        }
        world
    }

    fn open(&mut self, policy: Overflow, encoding: Encoding) -> ConnId {
        let conn = self.fanout.open(policy);
        self.fanout.set_encoding(conn, encoding);
        conn
    }

    /// Delivers an event, which may be easy to deflate, to some of the connections.
    fn publish(&mut self, step: usize, mask: u16, size: usize) {
        let noise = (0..size).map(|at| char::from(b'a' + u8::try_from((step + at * at * at) % 23).unwrap()));
        let object =
            format!("\"{step}{}\"", if step.is_multiple_of(2) { "x".repeat(8 * size) } else { noise.collect() });
        let key = (step % 5).to_string();
        let mut draft = Draft::new("machines", if step.is_multiple_of(7) { "delete" } else { "update" }, &key);
        draft.object = &object;
        let event = Arc::new(draft.seal(jiff::Timestamp::UNIX_EPOCH));
        self.fanout.begin_event(&event);
        let some = self.conns.iter().enumerate().filter(|(at, _)| mask & 1 << at != 0);
        let full: Vec<usize> = some
            .filter(|(_, (conn, ..))| self.fanout.deliver(&event, 0, *conn) == Delivery::Overflow)
            .map(|(at, _)| at)
            .collect();
        self.fanout.end_event();
        full.into_iter().for_each(|at| self.finish(at));
    }

    fn finish(&mut self, at: usize) {
        self.fanout.finish(self.conns[at].0, Frame::Constant(b"bye"), Some(Dropped::SlowConsumer));
    }

    fn reconnect(&mut self, at: usize) {
        let (conn, policy, encoding) = self.conns[at];
        self.fanout.remove(conn);
        self.conns[at].0 = self.open(policy, encoding);
    }

    fn write(&mut self, conn: ConnId, most: usize) {
        let mut gathered = Gathered::new();
        self.fanout.gather(conn, usize::MAX, &mut gathered);
        let bytes = gathered.iter().map(|slice| slice.len()).sum::<usize>().min(most);
        drop(gathered);
        self.fanout.advance(conn, bytes, 1);
        self.fanout.end_round(1);
    }

    fn step(&mut self, step: usize, (what, which, mask, size): (u8, usize, u16, usize)) {
        let (conn, ..) = self.conns[which];
        match what {
            0.. if self.fanout.is_closing(conn) && mask & 1 == 0 => self.reconnect(which),
            0.. if self.fanout.is_closing(conn) => {
                self.fanout.shrink(conn);
            }
            0..=4 => self.publish(step, mask, size),
            5 => {
                let answer = Draft::new("websocket", "register", "key").seal_for_one(jiff::Timestamp::UNIX_EPOCH);
                self.fanout.send(conn, Frame::Answer(Box::new(answer)));
            }
            6 => {
                // Many in a row: the last is replaced by one of another size.
                (0..70).for_each(|n| self.fanout.offer(conn, Frame::Pong(vec![0x8A; 1 + (size + n) % 9].into())));
                self.fanout.offer(conn, Frame::Constant(b"ping"));
            }
            7 => self.write(conn, 4 * size),
            8 => self.write(conn, usize::MAX),
            9 if mask & 2 == 0 => self.fanout.finish(conn, Frame::Control((*b"bye").into()), None),
            _ if self.fanout.shrink(conn) => {}
            _ => self.finish(which),
        }
        while self.fanout.has_leftovers() {
            self.fanout.begin_turn();
        }
        self.held += self.fanout.take_held();
    }

    /// Returns the memory of an outbox's frames, if no other has them.
    fn memory_of(&self, conn: ConnId) -> usize {
        let memory = |frame| match self.fanout.frames.frame(frame) {
            Frame::Event { event, encoding, .. } => {
                texts(*encoding).iter().map(|part| event.frame_in(*part).len()).sum()
            }
            Frame::Gap(_) => 0,
            own => own.bytes().len(),
        };
        self.fanout.outboxes[conn.at()].as_ref().unwrap().frames().map(memory).sum::<usize>()
    }

    /// Returns the bytes that these outboxes hold together.
    fn held_by(&self, conns: &[(ConnId, Overflow, Encoding)]) -> usize {
        let (mut frames, mut parts, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
        for outbox in conns.iter().filter_map(|(conn, ..)| self.fanout.outboxes[conn.at()].as_ref()) {
            bytes += outbox.ring.memory();
            for frame in outbox.frames().filter(|frame| !frames.contains(frame)).collect::<Vec<_>>() {
                frames.push(frame);
                bytes += frames::SIZE;
                match self.fanout.frames.frame(frame) {
                    Frame::Event { event, encoding, .. } => {
                        let new = |part: &&Encoding| parts.insert((Arc::as_ptr(event), **part as usize));
                        bytes +=
                            texts(*encoding).iter().filter(new).map(|part| event.frame_in(*part).len()).sum::<usize>();
                    }
                    Frame::Gap(_) | Frame::Constant(_) => {}
                    own => bytes += own.bytes().len(),
                }
            }
        }
        bytes
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// No outbox holds more than its footprint, which is of what it has queued and nothing else. While the budget is
    /// exceeded, an outbox is found that is not left alone.
    #[test]
    fn there_is_always_an_outbox_to_shed(
        limit in 500..20_000_usize,
        steps in prop::collection::vec((0..10_u8, 0..12_usize, 0..4096_u16, 1..300_usize), 1..120)
    ) {
        let mut world = World::new();
        for (step, what) in steps.into_iter().enumerate() {
            world.step(step, what);
            prop_assert_eq!(world.held, frames::size(world.held_by(&world.conns)), "all is held by an outbox");
            for one in &world.conns {
                let (footprint, held) = (world.fanout.footprint(one.0), world.held_by(&[*one]));
                prop_assert!(footprint >= held, "{footprint} of {held}: {one:?}");
                prop_assert_eq!(world.fanout.outboxes[one.0.at()].as_ref().unwrap().memory, world.memory_of(one.0));
            }
            let budget = Budget::new(limit, 1);
            budget.add(world.held);
            let Largest { found, waiting } = world.fanout.search_largest().unwrap();
            let largest = found.first().map_or(0, |&(bytes, _)| bytes);
            prop_assert!(!budget.is_exceeded() || largest >= budget.least(0, largest, waiting), "{largest}");
        }
        (0..world.conns.len()).for_each(|at| world.reconnect(at));
        prop_assert!(world.conns.iter().all(|one| world.fanout.footprint(one.0) == 0));
    }
}
