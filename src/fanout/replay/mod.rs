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
use crate::fanout::lagging::LaggingKey;
use crate::fanout::listeners::{Listeners, Stage};
use crate::fanout::opening::Opening;
use crate::fanout::replay_work::Spent;
use crate::index::filter::Counters;
use crate::index::{Class, Limits, Spec};

pub(super) use registered::Registered;

/// Maximum number of deregistered registrations that are remembered.
const MARKS: usize = 1024;

/// How many of these may have a filter: each is evaluated on every event, and no longer counts against the connection's
/// own limits on filters.
const FILTERED_MARKS: usize = 16;

/// How many combinations these may have together; they no longer count against the connection's own limits either.
const MARKED_COMBINATIONS: usize = 65_536;

/// The Time of an event is used to resume only if it is no further ahead of now than this.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Access rights are checked by the caller.
const ANYBODY: Class = Class(0);

/// The positions of the next events to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: u64,
    pub(super) until: u64,
}

/// The replay of one connection: its position in the history, and what each registration has already delivered.
#[derive(Debug)]
pub(super) struct Replay {
    start: Start,
    /// The first position.
    begin: u64,
    /// The offset between a number in the history and its position.
    base: u64,
    before: Option<Box<Before>>,
    registered: Registered,
    /// The cursor of all settled registrations: everything before it was handled for them.
    edge: u64,
    /// The cursor of the current pass, for the fresh registrations.
    pass: Option<u64>,
    /// The number of the current pass, or of the next one. Registrations with a lower number are settled.
    passes: u64,
    /// The number of registrations that wait for the next pass.
    waiting: usize,
    /// The pass of the most recent registration, until its command is answered.
    of_last: Option<u64>,
    pub(super) held: Held,
    pub(super) opening: Opening,
    connections: Listeners,
    /// The last event handled by the current pass, or by the settled registrations.
    last: Option<Arc<Event>>,
    /// Bytes of the next event, if it waits for room in the outbox.
    pub(super) held_up: usize,
    /// Its entry among the lagging connections, if it lags.
    pub(super) lag: Option<LaggingKey>,
    /// The filter work spent in the current second.
    pub(super) spent: Spent,
}

impl Replay {
    /// Creates a replay for a principal with this account. `wake` is called when pages arrive from the archive;
    /// `registrations` is the number of registrations in the query.
    pub(super) fn new(mut start: Start, registrations: usize, limits: Limits, wake: &Wake, account: &str) -> Self {
        let notified = start.sequence;
        let before = start.beyond.take().map(|beyond| {
            start.time = Some(beyond.time);
            Box::new(Before::new(beyond, start.sequence, wake, account))
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

    /// Ends the replay; returns its registrations, which may take long to free.
    pub(super) fn into_registered(self) -> Registered {
        self.registered
    }

    /// Returns the `since` that the client requested.
    pub(super) fn requested(&self) -> &str {
        &self.start.requested
    }

    /// Returns a Time from which a client that disconnects now can resume without a loss, for the notice of this gap:
    /// that of the last event before the gap, or the requested one; without either, the end of the gap.
    pub(super) fn safe_time(&self, gap: &Gap, now: Timestamp) -> Timestamp {
        let latest = now.checked_add(SKEW).unwrap_or(now);
        let last = self.last.as_ref().and_then(|event| event.moment()).filter(|time| *time <= latest);
        last.max(self.start.time).unwrap_or(gap.to)
    }

    /// Returns the gap before the start, once.
    pub(super) fn take_gap(&mut self) -> Option<Gap> {
        self.start.gap.take()
    }

    /// Adds to the gap before the start what the history has dropped since, so that the client gets one notice and not
    /// two: it begins at the number `first` by now, whose event was accepted at the time `to`.
    pub(super) fn widen(&mut self, gap: &mut Gap, first: u64, to: Timestamp) {
        let dropped = first.saturating_sub(self.start.sequence);
        if dropped == 0 || self.before.is_some() || self.edge > self.begin {
            return;
        }
        gap.events = gap.events.map(|events| events + dropped);
        gap.to = to;
        (self.start.sequence, self.begin, self.edge) = (first, first, first);
        self.connections.skip(first);
    }

    /// Notes that the shard has delivered everything before `position` live.
    pub(super) fn went_live_until(&mut self, position: u64) {
        self.edge = self.base + position;
    }

    /// Adds a registration, which the shard's index has accepted.
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

    /// Returns the answer to a command if it can be sent now, otherwise holds it back.
    pub(super) fn answer(&mut self, answer: Event) -> Option<Event> {
        self.opening.answered();
        self.held.hold(self.of_last.take(), answer)
    }

    /// Removes a registration. `live_until` is the position of the shard if the connection does not lag. Returns false
    /// if too many deregistered ones are remembered.
    pub(super) fn deregister(&mut self, text: &str, live_until: Option<u64>) -> bool {
        let Some(pass) = self.registered.pass(text) else { return true };
        let until = match pass.cmp(&self.passes) {
            Ordering::Less => Some(live_until.map_or(self.edge, |position| self.base + position)),
            // Beyond the edge it has had only what the first read brought, which has a position before that.
            Ordering::Equal => self.pass.map(|pass| pass.min(self.edge)),
            Ordering::Greater => {
                // It waits for a pass: it has delivered nothing.
                self.waiting -= 1;
                None
            }
        };
        self.registered.deregister(text, until.filter(|until| *until > self.begin));
        !self.registered.has_too_many_marks()
    }

    /// Skips everything before the shard's `position`, and everything that the archive has already delivered although
    /// the shard has not reached it. Returns the answers held back.
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

    /// Returns the events to look at next, before the shard's `position`, or `None` if the connection has received
    /// everything.
    pub(super) fn next(&mut self, position: u64) -> Option<Range> {
        let position = self.base + position;
        while let Some(from) = self.pass {
            let until = self.pass_end();
            if from < until {
                return Some(Range { from, until });
            }
            self.end_pass();
        }
        (self.edge < position).then_some(Range { from: self.edge, until: position })
    }

    /// Returns whether the shard can continue with live events from `position`: nothing is left to replay, and the
    /// archive has delivered nothing from that position on.
    pub(super) fn is_level(&self, position: u64) -> bool {
        let passed = self.splice().is_none_or(|splice| splice.end() <= position);
        self.pass.is_none() && self.edge == self.base + position && passed
    }

    fn end_pass(&mut self) {
        if let Some(before) = &mut self.before {
            before.end_pass();
        }
        // The registrations that waited for the next pass may have been deregistered.
        let is_next = std::mem::take(&mut self.waiting) > 0;
        self.passes += if is_next { 1 } else { 2 };
        self.held.release(self.passes);
        self.connections.end_pass();
        self.pass = None;
        if is_next {
            self.begin_pass();
        }
    }

    /// Returns the cost of filters since the last call.
    pub(super) fn take_cost(&mut self) -> Counters {
        self.registered.take_cost()
    }

    /// Returns whether the filters of an event have exceeded their work limit since the last call.
    pub(super) fn is_overdrawn(&mut self) -> bool {
        self.registered.is_overdrawn()
    }

    /// Returns whether an event of the range returned by [`Replay::next`] is to be delivered.
    pub(super) fn wants(&mut self, position: u64, event: &Event) -> bool {
        let wanted = self.registered.wanted(self.position_before(position), event, self.passes);
        let new = if self.pass.is_some() { wanted.now && !wanted.before } else { wanted.before };
        new && !wanted.had
    }

    /// Notes a delivered event: answers that waited for the first event of this pass may be sent.
    pub(super) fn delivered(&mut self) {
        if self.pass.is_some() {
            self.held.release(self.passes + 1);
        }
    }

    /// Notes that the event was handled, and everything before `next`.
    pub(super) fn pass_by(&mut self, event: &Arc<Event>, next: u64) {
        self.last = Some(Arc::clone(event));
        self.advance(next);
    }

    /// Notes that everything before `next` was handled.
    pub(super) fn advance(&mut self, next: u64) {
        match &mut self.pass {
            Some(pass) => *pass = next,
            None => self.edge = next,
        }
        if let Some(before) = &self.before {
            before.progress.advance();
        }
    }

    /// Returns the number from which on dropped connection events are counted, or `u64::MAX` if no registration matches
    /// them.
    pub(super) fn notified(&self) -> u64 {
        self.connections.notified(self.pass.is_some())
    }

    /// Notes that dropped connection events were reported up to this number.
    pub(super) fn set_notified(&mut self, notified: u64) {
        self.connections.set_notified(self.pass.is_some(), notified);
    }
}
