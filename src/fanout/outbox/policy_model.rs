//! A simple and slow model of one connection with an overflow policy: whole lists, searched again for every step.

use super::*;
use crate::event::Draft;

pub(super) const LIMITS: OutboxLimits = OutboxLimits { bytes: 4000, events: 16 };

pub(super) const POLICIES: [Overflow; 4] =
    [Overflow::Disconnect, Overflow::DropOldest, Overflow::Conflate, Overflow::Conflate];

/// Frames that are dropped for each event, and for each connection in a turn, whatever the others do.
const EACH: usize = 2;
const OWN: usize = 64;

pub(super) const KEYS: [&str; 3] = ["a", "b", "c"];

/// A queued item in the model.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// An event, its number, and the number of the first event that it stands for.
    Event {
        event: Arc<Event>,
        original: Arc<Event>,
        number: u64,
    },
    Own(&'static [u8]),
    /// A ping, or a pong.
    Beat {
        is_pong: bool,
        bytes: Vec<u8>,
    },
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
            Self::Beat { bytes, .. } => bytes.clone(),
            Self::Gap { count, first, last } => {
                let object = format!(r#"{{"From":"{first}","To":"{last}","Events":{count}}}"#);
                let mut draft = Draft::new("hydrant", "gap", "queue");
                draft.time = Some(last.into());
                draft.object = &object;
                seal(draft)
            }
        }
    }

    pub(super) fn is_gap(&self) -> bool {
        matches!(self, Self::Gap { .. })
    }

    fn is_event(&self) -> bool {
        matches!(self, Self::Event { .. })
    }

    fn is_beat(&self) -> bool {
        matches!(self, Self::Beat { .. })
    }
}

/// One connection in the model.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) policy: Overflow,
    pub(super) items: Vec<Item>,
    written: usize,
    shift: u32,
    pub(super) closed: bool,
    /// With drop-oldest, the number of items before those that were not passed yet.
    kept: usize,
    /// How many frames it may still drop in this turn whatever the others do, and whether they have left anything.
    pub(super) own: usize,
    pub(super) is_exhausted: bool,
    /// The numbers of delivered, dropped and conflated events.
    pub(super) done: [u64; 3],
}

impl Model {
    pub(super) fn new(policy: Overflow) -> Self {
        let shift = if policy == Overflow::Conflate { 2 } else { 0 };
        let (items, own, is_exhausted) = (Vec::new(), OWN, false);
        Self { policy, items, written: 0, shift, closed: false, kept: 0, own, is_exhausted, done: [0; 3] }
    }

    pub(super) fn begin_turn(&mut self) {
        (self.own, self.is_exhausted) = (OWN, false);
    }

    pub(super) fn counted(&self) -> (usize, usize) {
        let counted: Vec<&Item> = self.items.iter().filter(|item| !item.is_gap()).collect();
        let bytes: usize = counted.iter().map(|item| item.bytes().len()).sum();
        let begun = if self.items.first().is_some_and(Item::is_gap) { 0 } else { self.written };
        (counted.len(), bytes - begun)
    }

    /// The number of queued frames, and the bytes of those that count.
    fn limited(&self) -> (usize, usize) {
        let is_free = |item: &Item| item.is_gap() || (self.policy == Overflow::DropOldest && item.is_beat());
        let counts = self.items.iter().enumerate().filter(|(_, item)| !is_free(item));
        let sizes = counts.map(|(at, item)| (item.bytes().len(), if at == 0 { self.written } else { 0 }));
        let sizes: Vec<(usize, usize)> = sizes.collect();
        let is_large = sizes.first().is_some_and(|(size, _)| *size > LIMITS.bytes / 2);
        (sizes.len(), sizes.iter().skip(usize::from(is_large)).map(|(size, written)| size - written).sum())
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
            Overflow::Disconnect => false,
            Overflow::DropOldest => self.drop_oldest(more),
            Overflow::Conflate => {
                let at_bounds = self.shift == 0;
                self.conflate(at_bounds, more) && self.fits(more)
            }
        }
    }

    fn drop_oldest(&mut self, more: usize) -> bool {
        let (mut passed, free) = (0, EACH + self.own);
        while !self.fits(more) && self.kept < self.items.len() {
            if passed >= free && self.is_exhausted {
                let has_answer = self.items.iter().any(|item| matches!(item, Item::Own(_)));
                while !has_answer && self.kept < self.items.len() {
                    self.pass();
                }
                break;
            }
            self.pass();
            passed += 1;
        }
        self.own -= passed.min(free).saturating_sub(EACH);
        self.fits(more)
    }

    /// Drops the first item that was not passed yet, unless it has to stay.
    fn pass(&mut self) {
        let is_begun = self.kept == 0 && self.written > 0;
        if is_begun || !self.items[self.kept].is_event() {
            self.kept += 1;
        } else if let Item::Event { event, .. } = self.items.remove(self.kept) {
            self.lose(self.kept, event.time());
        }
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
            self.kept += 1;
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

    pub(super) fn deliver(&mut self, event: &Arc<Event>, number: u64) -> Delivery {
        if self.closed {
            return Delivery::Closed;
        }
        if self.make_room(event.frame().len()) {
            self.items.push(Item::Event { event: Arc::clone(event), original: Arc::clone(event), number });
            return Delivery::Queued;
        }
        if self.policy == Overflow::DropOldest && self.kept == self.items.len() {
            self.lose(self.kept, event.time());
            return Delivery::Dropped;
        }
        self.done[1] += 1;
        Delivery::Overflow
    }

    pub(super) fn send(&mut self, bytes: &'static [u8]) -> bool {
        let room = !self.closed && self.make_room(bytes.len());
        if room {
            self.items.push(Item::Own(bytes));
        }
        room
    }

    pub(super) fn offer(&mut self, is_pong: bool, bytes: Vec<u8>) {
        let beat = Item::Beat { is_pong, bytes };
        if self.closed {
            return;
        }
        if self.policy != Overflow::DropOldest {
            if self.fits(beat.bytes().len()) {
                self.items.push(beat);
            }
            return;
        }
        let begun = usize::from(self.written > 0);
        let first = if is_pong { begun } else { 0 };
        let same = |item: &Item| matches!(item, Item::Beat { is_pong: other, .. } if *other == is_pong);
        if let Some(earlier) = self.items.iter_mut().skip(first).find(|item| same(item)) {
            *earlier = beat;
        } else {
            self.kept = self.kept.max(begun) + 1;
            self.items.insert(begun, beat);
        }
    }

    pub(super) fn finish(&mut self, last: &'static [u8]) {
        if !self.closed {
            let keep = usize::from(self.written > 0);
            self.done[1] += self.items.drain(keep..).filter(Item::is_event).count() as u64;
            self.items.push(Item::Own(last));
            self.closed = true;
        }
    }

    pub(super) fn stream(&self) -> Vec<u8> {
        let all: Vec<u8> = self.items.iter().flat_map(Item::bytes).collect();
        all[self.written..].to_vec()
    }

    pub(super) fn write(&mut self, bytes: usize) {
        self.written += bytes;
        while let Some(item) = self.items.first() {
            let size = item.bytes().len();
            if self.written < size {
                break;
            }
            self.written -= size;
            self.done[0] += u64::from(item.is_event());
            self.items.remove(0);
            self.kept = self.kept.saturating_sub(1);
            if self.items.iter().all(Item::is_gap) && self.policy == Overflow::Conflate {
                self.shift = 2;
            }
        }
    }

    pub(super) fn events(&self) -> u64 {
        self.items.iter().filter(|item| item.is_event()).count() as u64
    }
}

thread_local! {
    /// The numbers and keys of all events other than updates, whether delivered or not.
    pub(super) static BARRIERS: std::cell::RefCell<Vec<(u64, String)>> = const { std::cell::RefCell::new(Vec::new()) };
}
