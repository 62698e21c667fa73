//! The replay of one connection: which earlier events it still has to get, and which registration has received what.
//!
//! A connection with `?since=` *lags* until it has received every retained event from its start up to the position of
//! its shard; only then does it get live events. A later registration makes it lag again, for a *pass* over the events
//! that its other registrations have already passed.
//!
//! Contract: pure. Every event is delivered at most once: [`Replay::wants`] is true only for events that match a
//! registration new to this part of the history and none that was there before. A deregistered registration keeps a
//! mark at the position where it ended, so that registering again repeats nothing. The number of marks is bounded
//! ([`MARKS`]); beyond it the caller skips the rest of the replay ([`Replay::skip`]). Within a pass, and after all
//! passes, events come in the broker's order. Ending a pass costs the same for any number of registrations.
//!
//! A replay that begins in the archive uses one sequence of positions for both sources: the archive's are below
//! [`POSITIONS`], the history's above. So passes, marks and order hold across the splice; a later pass reads the
//! archive again.
//!
//! Why it has an index of its own: the shard's index finds connections, not registrations. The extra index costs
//! memory only for connections that asked for a replay.

mod archived;
mod registered;

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::broker::archive::{POSITIONS, Wake};
use crate::broker::gap::Gap;
use crate::broker::history::Start;
use crate::broker::splice::Splice;
use crate::event::Event;
use crate::fanout::before::Before;
use crate::fanout::held::Held;
use crate::fanout::lagging::Place;
use crate::fanout::listeners::{Listeners, Stage};
use crate::fanout::opening::Opening;
use crate::fanout::replay_work::Spent;
use crate::index::filter::Counters;
use crate::index::{Class, Limits, Spec};
use registered::Registered;

/// Registrations taken back that are remembered.
const MARKS: usize = 1024;

/// Of these, those with a filter: they are asked about every event, though the connection's own bounds on filters no
/// longer count them.
const FILTERED_MARKS: usize = 16;

/// The combinations of those that are remembered: those of the connection's own bounds no longer count them either.
const MARKED_COMBINATIONS: usize = 65_536;

/// An event's own Time is a place to resume from unless it is further ahead.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Rights are judged by the caller.
const ANYBODY: Class = Class(0);

/// The next events to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: u64,
    pub(super) until: u64,
}

/// The replay of one connection: its position in the history, and what each registration has already delivered.
#[derive(Debug)]
pub(super) struct Replay {
    start: Start,
    /// The first place.
    begin: u64,
    /// What the history's places are moved by.
    base: u64,
    before: Option<Box<Before>>,
    registered: Registered,
    /// Where the common part begins: all that is settled has gone through everything before it.
    edge: u64,
    /// Where the pass of the fresh ones is.
    pass: Option<u64>,
    /// The number of the pass that is on, or of the next one. A registration is settled if its own is below.
    passes: u64,
    /// Registrations that wait for the next pass.
    waiting: usize,
    /// The pass of the registration that was made last, until its command is answered.
    of_last: Option<u64>,
    pub(super) held: Held,
    pub(super) opening: Opening,
    connections: Listeners,
    /// The last event that was looked at, of this pass or before the edge.
    last: Option<Arc<Event>>,
    /// Bytes of the next event, if it waits for room.
    pub(super) held_up: usize,
    /// Where it stands among those that lag, if it is.
    pub(super) lag: Option<Place>,
    /// What its filters have cost in this second.
    pub(super) spent: Spent,
}

impl Replay {
    /// `wake` is for what comes from the archive. `registrations` stand in the query.
    pub(super) fn new(mut start: Start, registrations: usize, limits: Limits, wake: &Wake) -> Self {
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
            registered: Registered::new(limits),
            edge: begin,
            pass: None,
            passes: 1,
            waiting: 0,
            of_last: None,
            held: Held::default(),
            opening: Opening::new(registrations),
            connections: Listeners::new(notified),
            last: None,
            held_up: 0,
            lag: None,
            spent: Spent::default(),
        }
    }

    /// What the client asked for.
    pub(super) fn requested(&self) -> &str {
        &self.start.requested
    }

    /// A Time from which a client that is cut off now can resume without a loss: what a notice of this gap bears. It is
    /// that of the last event before it, or what was asked for; without either, the end of the gap.
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
    pub(super) fn register(&mut self, text: &str, spec: &Spec) {
        self.opening.registered();
        let (stage, pass) = if self.edge <= self.begin {
            (Stage::Settled, 0)
        } else if self.pass.is_none() {
            self.begin_pass();
            (Stage::Fresh, self.passes)
        } else {
            self.waiting += 1;
            (Stage::Waiting, self.passes + 1)
        };
        self.connections.register(stage, text);
        self.of_last = (pass > 0).then_some(pass);
        self.registered.register(text, spec, pass);
    }

    fn begin_pass(&mut self) {
        self.pass = Some(self.begin);
        self.connections.begin_pass(self.start.sequence.max(self.begin.saturating_sub(self.base)));
        self.last = None;
    }

    /// The answer to a command: given back if it can be sent, kept if something has to stand before it.
    pub(super) fn answer(&mut self, answer: Event) -> Option<Event> {
        self.opening.answered();
        self.held.hold(self.of_last.take(), answer)
    }

    /// A registration was taken back. `live_until` is the shard's place if the connection does not lag. Returns false
    /// if there are too many of them to remember.
    pub(super) fn deregister(&mut self, text: &str, live_until: Option<u64>) -> bool {
        let Some(pass) = self.registered.pass(text) else { return true };
        let until = match pass.cmp(&self.passes) {
            Ordering::Less => Some(live_until.map_or(self.edge, |position| self.base + position)),
            Ordering::Equal => self.pass,
            Ordering::Greater => {
                // It waits for a pass: nothing came because of it.
                self.waiting -= 1;
                None
            }
        };
        self.registered.deregister(text, until.filter(|until| *until > self.begin));
        !self.registered.has_too_many_marks()
    }

    /// Nothing before the shard's `position` is asked for any more, nor what the archive has given although the shard
    /// has not come to it. Gives the answers back that have waited.
    pub(super) fn skip(&mut self, position: u64) -> impl Iterator<Item = Event> {
        let position = position.max(self.splice().map_or(0, Splice::end));
        self.registered.settle();
        (self.before, self.pass, self.waiting, self.held_up) = (None, None, 0, 0);
        self.passes += 2;
        self.begin = self.base + position;
        self.edge = self.begin;
        self.connections.skip(position);
        self.held.take_all()
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

    /// Whether the shard can go on from `position`: nothing is left, and nothing before the start would come again, nor
    /// what the archive has given although the shard has not come to it.
    pub(super) fn is_level(&self, position: u64) -> bool {
        let passed = self.splice().is_none_or(|splice| splice.end() <= position);
        self.pass.is_none() && self.edge == self.base + position && passed
    }

    fn end_pass(&mut self) {
        if let Some(before) = &mut self.before {
            before.again = None;
        }
        // Whoever waited for the next pass may have been taken back.
        let is_next = std::mem::take(&mut self.waiting) > 0;
        self.passes += if is_next { 1 } else { 2 };
        self.held.release(self.passes);
        self.connections.end_pass();
        self.pass = None;
        if is_next {
            self.begin_pass();
        }
    }

    /// What filters have cost since the last call.
    pub(super) fn take_cost(&mut self) -> Counters {
        self.registered.take_cost()
    }

    /// Whether an event's filters have cost more than they may since the last call.
    pub(super) fn is_overdrawn(&mut self) -> bool {
        self.registered.is_overdrawn()
    }

    /// Whether an event of the range that [`Replay::next`] gave is to be delivered.
    pub(super) fn wants(&mut self, position: u64, event: &Event) -> bool {
        let wanted = self.registered.wanted(position, event, self.passes);
        let new = if self.pass.is_some() { wanted.now && !wanted.before } else { wanted.before };
        new && !wanted.had
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
