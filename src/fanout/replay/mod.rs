//! What one connection has yet to get of the past, and by which of its registrations it has got what.
//!
//! A connection that came with `?since=` is *behind* until it has been given every retained event from its start up to the place
//! of its shard; only then do live events go to it. A registration that comes later puts it behind again, for a *pass* over the
//! events that its other registrations have gone through already.
//!
//! Contract: pure. Every event is delivered at most once: [`Replay::wants`] is true only for events that a registration new to
//! this part of the past matches and none before it did. A registration that was taken back keeps its mark up to the position where
//! it ended, so that registering again does not repeat anything; there is a bound on such marks ([`MARKS`]), beyond which the
//! caller gives up. Within a pass, and from the end of the passes on, events come in the broker's order.
//!
//! A replay that begins in the archive goes through one line of places all the same: the archive's stand before [`POSITIONS`], those
//! of the history behind it. So passes, marks and order hold across the splice; a later pass has the archive read again.
//!
//! Why an index of its own: the shard's index tells which connections want an event, not by which registration. It costs memory
//! only for connections that asked for the past.

mod archived;

use std::sync::Arc;

use hashbrown::HashMap;
use jiff::{SignedDuration, Timestamp};

use crate::broker::archive::{POSITIONS, Pages, Wake};
use crate::broker::gap::Gap;
use crate::broker::history::Start;
use crate::event::Event;
use crate::fanout::before::Before;
use crate::fanout::held::Held;
use crate::fanout::listeners::{Listeners, Stage};
use crate::fanout::opening::Opening;
use crate::index::filter::Counters;
use crate::index::{Class, Index, Limits, Slot};

/// Registrations taken back that are remembered.
const MARKS: usize = 4096;

/// Of these, those with a filter: they are compiled again and asked about every event, though the connection's own bounds on
/// filters no longer count them.
const FILTERED_MARKS: usize = 16;

/// An event's own Time is a place to resume from unless it is further ahead.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Rights are judged by the caller.
const ANYBODY: Class = Class(0);

/// What a registration has gone through.
#[derive(Debug, Clone, Copy)]
enum Role {
    /// Everything up to the edge.
    Settled,
    /// Everything before the pass that is on.
    Fresh,
    /// Nothing yet: the next pass is its own.
    Waiting,
    /// Everything up to here, and then it was taken back.
    Past(u64),
}

/// The next events to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: u64,
    pub(super) until: u64,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Replay {
    start: Start,
    /// The first place.
    begin: u64,
    /// What the history's places are moved by.
    base: u64,
    before: Option<Box<Before>>,
    index: Index<Role>,
    settled: Slot,
    fresh: Slot,
    waiting: Slot,
    fresh_texts: Vec<Box<str>>,
    waiting_texts: Vec<Box<str>>,
    past: HashMap<Box<str>, (Slot, u64)>,
    /// How many of them have a filter.
    filtered_past: usize,
    /// Where the common part begins: all that is settled has gone through everything before it.
    edge: u64,
    /// Where the pass of the fresh ones is.
    pass: Option<u64>,
    /// The number of the pass that is on, or of the next one.
    passes: u64,
    /// The pass of the registration that was made last, until its command is answered.
    of_last: Option<u64>,
    pub(super) held: Held,
    pub(super) opening: Opening,
    connections: Listeners,
    /// The last event that was looked at, of this pass or before the edge.
    last: Option<Arc<Event>>,
    /// Bytes of the next event, if it waits for room.
    pub(super) held_up: usize,
    /// Whether it is on the shard's list of those that lag.
    pub(super) listed: bool,
    /// What filters had cost when they were last asked.
    cost: Counters,
}

impl Replay {
    /// `wake` is for what comes from the archive. `registrations` stand in the query.
    pub(super) fn new(mut start: Start, registrations: usize, limits: Limits, wake: &Wake) -> Self {
        let mut index = Index::new(limits);
        let [settled, fresh, waiting] =
            [Role::Settled, Role::Fresh, Role::Waiting].map(|role| index.subscribe(role, ANYBODY));
        let notified = start.sequence;
        let before = start.beyond.take().map(|beyond| {
            start.time = Some(beyond.time);
            Box::new(Before::new(beyond, start.sequence, wake))
        });
        let (begin, base) = if before.is_some() { (0, POSITIONS) } else { (start.sequence, 0) };
        Self {
            start,
            begin,
            base,
            before,
            index,
            settled,
            fresh,
            waiting,
            fresh_texts: Vec::new(),
            waiting_texts: Vec::new(),
            past: HashMap::new(),
            filtered_past: 0,
            edge: begin,
            pass: None,
            passes: 0,
            of_last: None,
            held: Held::default(),
            opening: Opening::new(registrations),
            connections: Listeners::new(notified),
            last: None,
            held_up: 0,
            listed: false,
            cost: Counters::default(),
        }
    }

    /// What the client asked for.
    pub(super) fn requested(&self) -> &str {
        &self.start.requested
    }

    /// A Time from which a client that is cut off now can resume without a loss: what a notice of this gap bears. It is that of the last
    /// event before it, or what was asked for; without either, the end of the gap.
    pub(super) fn safe_time(&self, gap: &Gap, now: Timestamp) -> Timestamp {
        let latest = now.checked_add(SKEW).unwrap_or(now);
        let last = self.last.as_ref().and_then(|event| event.moment()).filter(|time| *time <= latest);
        last.max(self.start.time).unwrap_or(gap.to)
    }

    /// What is missing before the start, once.
    pub(super) fn take_gap(&mut self) -> Option<Gap> {
        self.start.gap.take()
    }

    /// The connection was given everything before `position` by the shard itself.
    pub(super) fn went_live_until(&mut self, position: u64) {
        self.edge = self.base + position;
    }

    /// A new registration, which the shard's index has taken.
    pub(super) fn register(&mut self, text: &str) {
        self.opening.registered();
        let slot = if self.edge <= self.begin {
            self.connections.register(Stage::Settled, text);
            self.settled
        } else if self.pass.is_none() {
            self.begin_pass();
            self.connections.register(Stage::Fresh, text);
            self.of_last = Some(self.passes);
            self.fresh_texts.push(text.into());
            self.fresh
        } else {
            self.connections.register(Stage::Waiting, text);
            self.of_last = Some(self.passes + 1);
            self.waiting_texts.push(text.into());
            self.waiting
        };
        self.enter(slot, text);
    }

    fn begin_pass(&mut self) {
        self.pass = Some(self.begin);
        self.connections.begin_pass(self.start.sequence);
        self.last = None;
    }

    /// The answer to a command: given back if it can be sent, kept if something has to stand before it.
    pub(super) fn answer(&mut self, answer: Event) -> Option<Event> {
        self.opening.answered();
        self.held.hold(self.of_last.take(), answer)
    }

    fn enter(&mut self, slot: Slot, text: &str) {
        self.index.register(slot, text).expect("the shard's index took it, and this one takes no less");
    }

    /// A registration was taken back. `live_until` is the shard's place if the connection does not lag. Returns false
    /// if there are too many of them to remember.
    pub(super) fn deregister(&mut self, text: &str, live_until: Option<u64>) -> bool {
        let mut until = if self.index.deregister(self.settled, text).is_ok() {
            live_until.map_or(self.edge, |position| self.base + position)
        } else if self.index.deregister(self.fresh, text).is_ok() {
            self.fresh_texts.retain(|other| **other != *text);
            self.pass.unwrap_or(self.begin)
        } else {
            // It waits for a pass: nothing came because of it.
            self.waiting_texts.retain(|other| **other != *text);
            self.index.deregister(self.waiting, text).expect("a registration is in one of the three");
            return true;
        };
        // A SPEC with a filter has a parenthesis, and no other has one.
        let filtered = usize::from(text.contains('('));
        if let Some((slot, older)) = self.past.remove(text) {
            self.index.unsubscribe(slot);
            self.filtered_past -= filtered;
            until = until.max(older);
        }
        if self.past.len() >= MARKS || self.filtered_past + filtered > FILTERED_MARKS {
            return false;
        }
        self.filtered_past += filtered;
        let slot = self.index.subscribe(Role::Past(until), ANYBODY);
        self.enter(slot, text);
        self.past.insert(text.into(), (slot, until));
        true
    }

    /// The events to look at next, before the shard's `position`; nothing if the connection has got everything.
    pub(super) fn next(&mut self, position: u64) -> Option<Range> {
        let position = self.base + position;
        while let Some(from) = self.pass {
            if from < self.edge {
                return Some(Range { from, until: self.edge });
            }
            self.end_pass();
        }
        (self.edge < position).then_some(Range { from: self.edge, until: position })
    }

    /// Whether there is something to do before the shard's `position`, now.
    pub(super) fn has_work(&self, position: u64) -> bool {
        if !self.opening.is_open() {
            return false;
        }
        let next = self.pass.unwrap_or(self.edge);
        match &self.before {
            _ if self.held.is_ready() => true,
            Some(before) if next < self.base && next < self.until() => {
                before.pages(self.pass.is_some()).is_none_or(Pages::is_ready)
            }
            _ => self.pass.is_some() || self.edge < self.base + position || self.is_level(position),
        }
    }

    /// Where the archive's part of what is on ends.
    fn until(&self) -> u64 {
        if self.pass.is_some() { self.edge } else { self.base }
    }

    /// Whether the shard can go on from `position`: nothing is left, and nothing before the start would come again, nor what the archive
    /// has given although the shard has not come to it.
    pub(super) fn is_level(&self, position: u64) -> bool {
        let passed = self.splice().is_none_or(|splice| splice.end() <= position);
        self.pass.is_none() && self.edge == self.base + position && passed
    }

    fn end_pass(&mut self) {
        if let Some(before) = &mut self.before {
            before.again = None;
        }
        for text in self.fresh_texts.drain(..) {
            move_over(&mut self.index, &text, self.fresh, self.settled);
        }
        // Whoever waited for the next pass may have been taken back.
        self.passes += if self.waiting_texts.is_empty() { 2 } else { 1 };
        self.held.release(self.passes);
        self.connections.end_pass();
        self.pass = None;
        if !self.waiting_texts.is_empty() {
            self.begin_pass();
        }
        for text in std::mem::take(&mut self.waiting_texts) {
            move_over(&mut self.index, &text, self.waiting, self.fresh);
            self.fresh_texts.push(text);
        }
    }

    /// What filters have cost since the last call.
    pub(super) fn take_cost(&mut self) -> Counters {
        let now = self.index.filter_counters();
        now.since(std::mem::replace(&mut self.cost, now))
    }

    /// Whether an event's filters have cost more than they may since the last call.
    pub(super) fn is_overdrawn(&mut self) -> bool {
        std::iter::from_fn(|| self.index.take_overdrawn()).count() > 0
    }

    /// Whether an event of the range that [`Replay::next`] gave is to be delivered.
    pub(super) fn wants(&mut self, number: u64, event: &Event) -> bool {
        let (mut settled, mut fresh, mut had) = (false, false, false);
        self.index.matches(
            event,
            |_| true,
            |role| match role {
                Role::Settled => settled = true,
                Role::Fresh => fresh = true,
                Role::Waiting => {}
                Role::Past(until) => had |= number < until,
            },
        );
        let new = if self.pass.is_some() { fresh && !settled } else { settled };
        new && !had
    }

    /// An event was delivered: what waited for the first one of this pass may go.
    pub(super) fn delivered(&mut self) {
        if self.pass.is_some() {
            self.held.release(self.passes + 1);
        }
    }

    /// The event was looked at, and everything before `next` is dealt with.
    pub(super) fn pass_by(&mut self, event: &Arc<Event>, next: u64) {
        self.last = Some(Arc::clone(event));
        self.advance(next);
    }

    /// Everything before `next` is dealt with.
    pub(super) fn advance(&mut self, next: u64) {
        match &mut self.pass {
            Some(pass) => *pass = next,
            None => self.edge = next,
        }
    }

    /// What is gone of events about connections is counted from this number on; never if nobody listens to them.
    pub(super) fn notified(&self) -> u64 {
        self.connections.notified(self.pass.is_some())
    }

    /// It was said up to here.
    pub(super) fn set_notified(&mut self, notified: u64) {
        self.connections.set_notified(self.pass.is_some(), notified);
    }
}

fn move_over(index: &mut Index<Role>, text: &str, from: Slot, to: Slot) {
    index.deregister(from, text).expect("it is registered there");
    index.register(to, text).expect("the shard's index took it, and this one takes no less");
}
