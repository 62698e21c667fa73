//! Tests the overflow policies against a simple and slow model: whole lists, searched again for every step.

use proptest::prelude::*;

use super::gather::Gathered;
use super::*;
use crate::event::Draft;

const LIMITS: OutboxLimits = OutboxLimits { bytes: 4000, events: 16 };

const POLICIES: [Overflow; 4] = [Overflow::Disconnect, Overflow::DropOldest, Overflow::Conflate, Overflow::Conflate];

const KEYS: [&str; 3] = ["a", "b", "c"];

/// A queued item in the model.
#[derive(Debug, Clone)]
enum Item {
    /// An event, its number, and the number of the first event that it stands for.
    Event {
        event: Arc<Event>,
        original: Arc<Event>,
        number: u64,
    },
    Own(&'static [u8]),
    Gap {
        count: u64,
        first: String,
        last: String,
    },
}

impl Item {
    fn bytes(&self) -> Vec<u8> {
        let seal = |draft: Draft<'_>| draft.seal(jiff::Timestamp::UNIX_EPOCH).frame().to_vec();
        match self {
            Self::Event { event, original, .. } => {
                let mut draft = Draft::new(event.kind(), event.action(), event.key());
                draft.time = Some(event.time().into());
                (draft.object, draft.original) = (event.object(), original.original());
                seal(draft)
            }
            Self::Own(bytes) => bytes.to_vec(),
            Self::Gap { count, first, last } => {
                let object = format!(r#"{{"From":"{first}","To":"{last}","Events":{count}}}"#);
                let mut draft = Draft::new("hydrant", "gap", "queue");
                draft.time = Some(last.into());
                draft.object = &object;
                seal(draft)
            }
        }
    }

    fn is_gap(&self) -> bool {
        matches!(self, Self::Gap { .. })
    }

    fn is_event(&self) -> bool {
        matches!(self, Self::Event { .. })
    }
}

/// One connection in the model.
#[derive(Debug)]
struct Model {
    policy: Overflow,
    items: Vec<Item>,
    written: usize,
    shift: u32,
    closed: bool,
    /// The numbers of delivered, dropped and conflated events.
    done: [u64; 3],
}

impl Model {
    fn new(policy: Overflow) -> Self {
        let shift = if policy == Overflow::Conflate { 2 } else { 0 };
        Self { policy, items: Vec::new(), written: 0, shift, closed: false, done: [0; 3] }
    }

    fn counted(&self) -> (usize, usize) {
        let counted: Vec<&Item> = self.items.iter().filter(|item| !item.is_gap()).collect();
        let bytes: usize = counted.iter().map(|item| item.bytes().len()).sum();
        let begun = if self.items.first().is_some_and(Item::is_gap) { 0 } else { self.written };
        (counted.len(), bytes - begun)
    }

    /// The number of queued frames, and the bytes of those that count.
    fn limited(&self) -> (usize, usize) {
        let (events, bytes) = self.counted();
        let first = self.items.iter().position(|item| !item.is_gap());
        let size = first.map_or(0, |at| self.items[at].bytes().len());
        let left = size - if first == Some(0) { self.written } else { 0 };
        (events, if size > LIMITS.bytes / 2 { bytes - left } else { bytes })
    }

    fn fits(&self, more: usize) -> bool {
        let (events, bytes) = self.limited();
        events == 0 || (events < LIMITS.events >> self.shift && bytes + more <= LIMITS.bytes >> self.shift)
    }

    fn make_room(&mut self, more: usize) -> bool {
        if self.fits(more) {
            return true;
        }
        match self.policy {
            Overflow::Disconnect => return false,
            Overflow::DropOldest => {
                while !self.fits(more) {
                    let begun = usize::from(self.written > 0);
                    let oldest = (begun..self.items.len()).find(|&at| self.items[at].is_event());
                    let Some(oldest) = oldest else { return false };
                    let Item::Event { event, .. } = self.items.remove(oldest) else { unreachable!() };
                    self.lose(oldest, event.time());
                }
            }
            Overflow::Conflate => {
                let at_bounds = self.shift == 0;
                return self.conflate(at_bounds, more) && self.fits(more);
            }
        }
        true
    }

    /// Notes that an event of this time is missing before the item at `at`.
    fn lose(&mut self, at: usize, time: &str) {
        self.done[1] += 1;
        let open = at.checked_sub(1).filter(|&before| before > 0 || self.written == 0);
        if let Some(Item::Gap { count, last, .. }) = open.map(|before| &mut self.items[before]) {
            *count += 1;
            time.clone_into(last);
        } else {
            self.items.insert(at, Item::Gap { count: 1, first: time.to_owned(), last: time.to_owned() });
        }
    }

    fn conflate(&mut self, at_bounds: bool, more: usize) -> bool {
        let mut at = usize::from(self.written > 0);
        while at < self.items.len() {
            let later = self.later(at);
            if let (Some(later), Item::Event { original, .. }) = (later, self.items[at].clone()) {
                if let Item::Event { original: kept, .. } = &mut self.items[later] {
                    *kept = original;
                }
                self.items.remove(at);
                self.done[2] += 1;
            } else {
                at += 1;
            }
        }
        let (events, bytes) = self.limited();
        let good = |shift: &u32| {
            let limit = LIMITS.bytes >> shift;
            2 * events <= LIMITS.events >> shift && 2 * bytes <= limit && bytes + more <= limit
        };
        self.shift = [2, 1].into_iter().find(good).unwrap_or(0);
        !at_bounds || (4 * events <= 3 * LIMITS.events && 4 * bytes <= 3 * LIMITS.bytes)
    }

    /// Returns the next update of the same object, if it had no other event in between.
    fn later(&self, at: usize) -> Option<usize> {
        let Item::Event { event, number, .. } = &self.items[at] else { return None };
        if event.action() != "update" {
            return None;
        }
        let same = |item: &Item| matches!(item, Item::Event { event: other, .. } if other.key() == event.key());
        let later = (at + 1..self.items.len()).find(|&at| same(&self.items[at]))?;
        let Item::Event { event: other, number: until, .. } = &self.items[later] else { return None };
        let between =
            BARRIERS.with_borrow(|all| all.iter().any(|(n, key)| key == event.key() && n > number && n < until));
        // The shard remembers only the last barrier, so it does not conflate updates before it either.
        let after = BARRIERS.with_borrow(|all| all.iter().any(|(n, key)| key == event.key() && n > until));
        (other.action() == "update" && !between && !after).then_some(later)
    }

    fn deliver(&mut self, event: &Arc<Event>, number: u64) -> Delivery {
        if self.closed {
            return Delivery::Closed;
        }
        if self.make_room(event.frame().len()) {
            self.items.push(Item::Event { event: Arc::clone(event), original: Arc::clone(event), number });
            return Delivery::Queued;
        }
        if self.policy == Overflow::DropOldest {
            self.lose(self.items.len(), event.time());
            return Delivery::Dropped;
        }
        self.done[1] += 1;
        Delivery::Overflow
    }

    fn send(&mut self, bytes: &'static [u8]) -> bool {
        let room = !self.closed && self.make_room(bytes.len());
        if room {
            self.items.push(Item::Own(bytes));
        }
        room
    }

    fn finish(&mut self, last: &'static [u8]) {
        if !self.closed {
            let keep = usize::from(self.written > 0);
            self.done[1] += self.items.drain(keep..).filter(Item::is_event).count() as u64;
            self.items.push(Item::Own(last));
            self.closed = true;
        }
    }

    fn stream(&self) -> Vec<u8> {
        let all: Vec<u8> = self.items.iter().flat_map(Item::bytes).collect();
        all[self.written..].to_vec()
    }

    fn write(&mut self, bytes: usize) {
        self.written += bytes;
        while let Some(item) = self.items.first() {
            let size = item.bytes().len();
            if self.written < size {
                break;
            }
            self.written -= size;
            self.done[0] += u64::from(item.is_event());
            self.items.remove(0);
            if self.items.iter().all(Item::is_gap) && self.policy == Overflow::Conflate {
                self.shift = 2;
            }
        }
    }

    fn events(&self) -> u64 {
        self.items.iter().filter(|item| item.is_event()).count() as u64
    }
}

thread_local! {
    /// The numbers and keys of all events other than updates, whether delivered or not.
    static BARRIERS: std::cell::RefCell<Vec<(u64, String)>> = const { std::cell::RefCell::new(Vec::new()) };
}

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

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Every connection's stream and counts always equal those of the model.
    #[test]
    fn every_policy_does_what_its_model_does(
        steps in prop::collection::vec((0..10_u8, 0..3_usize, 0..8_u8, 1..700_usize), 1..250)
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
                    // Some are larger than half of the limits, or than all of them.
                    let size = if size < 50 { 100 * size } else { size };
                    let event = event(step, KEYS[which], if what == 6 { "delete" } else { "update" }, size);
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
                _ => {
                    fanout.finish(conns[which], Frame::Constant(b"bye"), Some(Dropped::SlowConsumer));
                    models[which].finish(b"bye");
                }
            }
            for (&conn, model) in conns.iter().zip(&models) {
                let answers = model.items.iter().filter(|item| matches!(item, Item::Own(own) if *own != b"bye"));
                let counted = if model.policy == Overflow::DropOldest { answers.count() } else { 0 };
                prop_assert_eq!(fanout.asides.of(conn).answers as usize, counted);
                prop_assert_eq!(fanout.depth(conn), Depth { events: model.items.len(), bytes: model.counted().1 });
            }
        }
        fanout.end_round(10);
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
        prop_assert_eq!((fanout.frames(), fanout.waiting(), fanout.asides.is_empty()), (0, Depth::default(), true));
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
