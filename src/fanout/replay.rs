//! What one connection has yet to get of the past, and by which of its registrations it has got what.
//!
//! A connection that came with `?since=` is *behind* until it has been given every retained event from its start up to the place
//! of its shard; only then do live events go to it. A registration that comes later puts it behind again, for a *pass* over the
//! events that its other registrations have gone through already.
//!
//! Contract: pure. Every event is delivered at most once: [`Replay::wants`] is true only for events that a registration new to
//! this part of the past matches and none before it did. A registration that was taken back keeps its mark up to the place where
//! it ended, so that registering again does not repeat anything; there is a bound on such marks ([`MARKS`]), beyond which the
//! caller gives up. Within a pass, and from the end of the passes on, events come in the broker's order.
//!
//! A replay that begins in the archive goes through one line of places all the same: the archive's stand before [`PLACES`], those
//! of the history behind it. So passes, marks and order hold across the seam; a later pass has the archive read again.
//!
//! Why an index of its own: the shard's index tells which connections want an event, not by which registration. It costs memory
//! only for connections that asked for the past.

use hashbrown::HashMap;

use crate::broker::archive::{Desk, PLACES, Pages, Piece, Reading, Wake, desk};
use crate::broker::gap::Gap;
use crate::broker::history::{Beyond, Start};
use crate::broker::splice::Seam;
use crate::event::Event;
use crate::index::filter::Counters;
use crate::index::{Class, Index, Limits, Slot};

/// Registrations taken back that are remembered.
const MARKS: usize = 4096;

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

/// The part of a replay that comes from the archive.
#[derive(Debug)]
struct Before {
    beyond: Beyond,
    /// Where what was asked for begins in the history.
    first: u64,
    wake: Wake,
    /// The first time through.
    once: Option<Pages>,
    /// Again, for the pass that is on.
    again: Option<Pages>,
    /// Behind the last event that came.
    end: u64,
    seam: Option<Seam>,
}

impl Before {
    /// What is being read, by a pass or for the first time.
    fn pages(&self, pass: bool) -> Option<&Pages> {
        if pass { self.again.as_ref() } else { self.once.as_ref() }
    }

    /// The same; begins to read if need be, for a pass up to the `edge`.
    fn reading(&mut self, pass: bool, edge: u64) -> &mut Pages {
        let Self { beyond: Beyond { archive, time }, first, wake, .. } = self;
        let until = pass.then_some(edge.min(self.end));
        let begin = || {
            let (filler, pages): (Desk, Pages) = desk(wake.clone());
            archive.read(Reading { time: *time, first: *first, until }, filler);
            pages
        };
        let pages = if pass { &mut self.again } else { &mut self.once };
        pages.get_or_insert_with(begin)
    }
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
    /// Where the common part begins: all that is settled has gone through everything before it.
    edge: u64,
    /// Where the pass of the fresh ones is.
    pass: Option<u64>,
    /// Bytes of the next event, if it waits for room.
    pub(super) held_up: usize,
    /// Whether it is on the shard's list of those that are behind.
    pub(super) listed: bool,
    /// What filters had cost when they were last asked.
    cost: Counters,
}

impl Replay {
    /// `wake` is for what comes from the archive.
    pub(super) fn new(mut start: Start, limits: Limits, wake: &Wake) -> Self {
        let mut index = Index::new(limits);
        let [settled, fresh, waiting] =
            [Role::Settled, Role::Fresh, Role::Waiting].map(|role| index.subscribe(role, ANYBODY));
        let before = start.beyond.take().map(|beyond| {
            Box::new(Before {
                beyond,
                first: start.sequence,
                wake: wake.clone(),
                once: None,
                again: None,
                end: 0,
                seam: None,
            })
        });
        let (begin, base) = if before.is_some() { (0, PLACES) } else { (start.sequence, 0) };
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
            edge: begin,
            pass: None,
            held_up: 0,
            listed: false,
            cost: Counters::default(),
        }
    }

    /// What the client asked for.
    pub(super) fn requested(&self) -> &str {
        &self.start.requested
    }

    /// What is missing before the start, once.
    pub(super) fn take_gap(&mut self) -> Option<Gap> {
        self.start.gap.take()
    }

    /// The connection was given everything before `position` by the shard itself.
    pub(super) fn went_live_until(&mut self, position: u64) {
        self.edge = self.base + position;
    }

    /// Whether what comes next is in the archive.
    pub(super) fn is_in_archive(&self, range: Range) -> bool {
        range.from < self.base
    }

    /// The numbers in the history that a range means.
    pub(super) fn numbers(&self, range: Range) -> std::ops::Range<u64> {
        range.from - self.base..range.until - self.base
    }

    /// The place of an event of the history.
    pub(super) fn place(&self, number: u64) -> u64 {
        self.base + number
    }

    /// The next piece from the archive, if it is there: it stays.
    pub(super) fn peek(&mut self) -> Option<&Piece> {
        let (pass, edge) = (self.pass.is_some(), self.edge);
        self.before.as_mut()?.reading(pass, edge).peek()
    }

    /// The piece that was looked at.
    pub(super) fn take(&mut self) -> Option<Piece> {
        let (pass, edge) = (self.pass.is_some(), self.edge);
        let before = self.before.as_mut()?;
        let piece = before.reading(pass, edge).take()?;
        if let (Piece::Event(place, _), false) = (&piece, pass) {
            before.end = place + 1;
        }
        Some(piece)
    }

    /// The archive has given everything. `seam` tells how to go on if it is read for the first time; without one nothing but what
    /// is still to come, from `position` on, is safe from being a repetition. Returns whether that is so.
    pub(super) fn leave_archive(&mut self, seam: Option<Seam>, position: u64) -> bool {
        let Some(before) = &mut self.before else { return false };
        if self.pass.is_some() {
            before.again = None;
            let first = before.seam.as_ref().map_or(self.edge, |seam| self.base + seam.first());
            self.pass = Some(first.min(self.edge));
            return false;
        }
        let torn = seam.is_none();
        let seam = before.seam.insert(seam.unwrap_or_else(|| Seam::at(position)));
        before.once = None;
        self.edge = self.base + seam.first();
        torn
    }

    fn seam(&self) -> Option<&Seam> {
        self.before.as_ref()?.seam.as_ref()
    }

    /// Whether the event of the history with this number came from the archive.
    pub(super) fn was_given(&self, number: u64) -> bool {
        self.seam().is_some_and(|seam| seam.leaves_out(number))
    }

    /// How many events of the history in a range did not come from the archive.
    pub(super) fn not_given(&self, range: std::ops::Range<u64>) -> u64 {
        let all = range.end.saturating_sub(range.start);
        self.seam().map_or(all, |seam| seam.wanted(range))
    }

    /// A new registration, which the shard's index has taken.
    pub(super) fn register(&mut self, text: &str) {
        let slot = if self.edge <= self.begin {
            self.settled
        } else if self.pass.is_none() {
            self.pass = Some(self.begin);
            self.fresh_texts.push(text.into());
            self.fresh
        } else {
            self.waiting_texts.push(text.into());
            self.waiting
        };
        self.enter(slot, text);
    }

    fn enter(&mut self, slot: Slot, text: &str) {
        self.index.register(slot, text).expect("the shard's index has the same limits and took it");
    }

    /// A registration was taken back. `live_until` is the shard's place if the connection is not behind. Returns false
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
        if let Some((slot, older)) = self.past.remove(text) {
            self.index.unsubscribe(slot);
            until = until.max(older);
        }
        if self.past.len() >= MARKS {
            return false;
        }
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
        let next = self.pass.unwrap_or(self.edge);
        match &self.before {
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
        let passed = self.seam().is_none_or(|seam| seam.end() <= position);
        self.pass.is_none() && self.edge == self.base + position && passed
    }

    fn end_pass(&mut self) {
        if let Some(before) = &mut self.before {
            before.again = None;
        }
        for text in self.fresh_texts.drain(..) {
            move_over(&mut self.index, &text, self.fresh, self.settled);
        }
        self.pass = (!self.waiting_texts.is_empty()).then_some(self.begin);
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

    /// Everything before `next` is dealt with.
    pub(super) fn advance(&mut self, next: u64) {
        match &mut self.pass {
            Some(pass) => *pass = next,
            None => self.edge = next,
        }
    }
}

fn move_over(index: &mut Index<Role>, text: &str, from: Slot, to: Slot) {
    index.deregister(from, text).expect("it is registered there");
    index.register(to, text).expect("the shard's index has the same limits and took it");
}
