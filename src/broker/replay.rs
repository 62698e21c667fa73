//! What one connection has yet to get of the past, and by which of its registrations it has got what.
//!
//! A connection that came with `?since=` is *behind* until it has been given every retained event from its start up to the place
//! of its shard; only then do live events go to it. A registration that comes later puts it behind again, for a *pass*
//! over the events that its other registrations have gone through already.
//!
//! Contract: pure. Every event is delivered at most once: [`Replay::wants`] is true only for events that a registration new to this part of the
//! past matches and none before it did. A registration that was taken back keeps its mark up to the place where it ended,
//! so that registering again does not repeat anything; there is a bound on such marks ([`MARKS`]), beyond which the caller gives up.
//! Within a pass, and from the end of the passes on, events come in the broker's order.
//!
//! Why an index of its own: the shard's index tells which connections want an event, not by which registration. It costs memory
//! only for connections that asked for the past.

use hashbrown::HashMap;

use super::history::{Gap, Start};
use crate::event::Event;
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

/// See the module's text.
#[derive(Debug)]
pub(super) struct Replay {
    start: Start,
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
}

impl Replay {
    pub(super) fn new(start: Start, limits: Limits) -> Self {
        let mut index = Index::new(limits);
        let [settled, fresh, waiting] =
            [Role::Settled, Role::Fresh, Role::Waiting].map(|role| index.subscribe(role, ANYBODY));
        let edge = start.sequence;
        Self {
            start,
            index,
            settled,
            fresh,
            waiting,
            fresh_texts: Vec::new(),
            waiting_texts: Vec::new(),
            past: HashMap::new(),
            edge,
            pass: None,
            held_up: 0,
            listed: false,
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
        self.edge = position;
    }

    /// A new registration, which the shard's index has taken.
    pub(super) fn register(&mut self, text: &str) {
        let slot = if self.edge <= self.start.sequence {
            self.settled
        } else if self.pass.is_none() {
            self.pass = Some(self.start.sequence);
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
            live_until.unwrap_or(self.edge)
        } else if self.index.deregister(self.fresh, text).is_ok() {
            self.fresh_texts.retain(|other| **other != *text);
            self.pass.unwrap_or(self.start.sequence)
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
        while let Some(from) = self.pass {
            if from < self.edge {
                return Some(Range { from, until: self.edge });
            }
            self.end_pass();
        }
        (self.edge < position).then_some(Range { from: self.edge, until: position })
    }

    /// Whether there is something to do before the shard's `position`.
    pub(super) fn has_work(&self, position: u64) -> bool {
        self.pass.is_some() || self.edge <= position
    }

    /// Whether the shard can go on from `position`: nothing is left, and nothing before the start would come again.
    pub(super) fn is_level(&self, position: u64) -> bool {
        self.pass.is_none() && self.edge == position
    }

    fn end_pass(&mut self) {
        for text in self.fresh_texts.drain(..) {
            move_over(&mut self.index, &text, self.fresh, self.settled);
        }
        self.pass = (!self.waiting_texts.is_empty()).then_some(self.start.sequence);
        for text in std::mem::take(&mut self.waiting_texts) {
            move_over(&mut self.index, &text, self.waiting, self.fresh);
            self.fresh_texts.push(text);
        }
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
