//! Splicing a replay from the archive onto the history, so that no event is missing and none comes twice.
//!
//! A replay reads the archive first and then goes on in this node's history. The two hold the same events in different orders, so a
//! position in one means nothing in the other. But every node numbers the events that it publishes, and each node's numbers rise in
//! both. The reader therefore keeps one number for each node: the next event of that node that the archive has yet to give ([`Given`]).
//!
//! 1. **Read the archive** until it has given everything that this node had taken in at some moment near the end of the archive
//!    ([`Given::missing`] is nothing). What this node takes in later is in the history.
//! 2. **Wait for this node** until it has taken in everything that the archive gave ([`Given::is_within`]). Otherwise such an event would
//!    come once from the archive and once more live.
//! 3. **Compare the history.** An event of the history was given if its number is below its node's in [`Given`], or if it is a copy of an
//!    event of an endpoint that was given under another node's number ([`Given::has`]). The positions of those events make a [`Splice`]: the
//!    replay goes on at its start and leaves them out.
//!
//! Contract: pure. Memory is bounded: one number for each node that published, the window of [`super::dedup`] for copies, and one
//! range of the history for each run of events to leave out. The two waits are the caller's, who gives up after a few seconds and reports a gap.

use std::ops::Range;

use hashbrown::HashMap;
use jiff::{SignedDuration, Timestamp};

use super::dedup::{Duplicates, Keys, RepeatIndex};
use super::origin::{NodeId, Origin, Trace, Watermarks};
use crate::event::Event;

/// A node whose last message is so much older than the archive's last is not waited for: what it published has come or will not.
const RECENT: SignedDuration = SignedDuration::from_secs(15);

/// What the archive says of an event, compared with what it gave before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is to be given.
    pub new: bool,
    /// Events of its node that should stand before it and do not.
    pub missing: u64,
}

/// How far a reader has got with one node.
#[derive(Debug, Clone, Copy)]
struct Reached {
    next: u64,
    /// When the last message of the node was stored.
    stored: Timestamp,
}

/// What a reader has given.
#[derive(Debug)]
pub struct Given {
    nodes: HashMap<NodeId, Reached>,
    /// When the last message was stored.
    latest: Timestamp,
    duplicates: Duplicates,
    keys: Keys,
}

impl Given {
    /// Nothing yet. A copy is known as long as no more than `window` other events of endpoints come between.
    pub fn new(window: usize) -> Self {
        Self {
            nodes: HashMap::new(),
            latest: Timestamp::MIN,
            duplicates: Duplicates::new(window),
            keys: Keys::default(),
        }
    }

    /// The next event, stored at that time.
    pub fn event(&mut self, trace: Trace, event: &Event, stored: Timestamp) -> Verdict {
        let Origin { node, number } = trace.origin;
        if self.got_beyond(trace.origin) {
            return Verdict { new: false, missing: 0 };
        }
        let missing = self.reach(node, number, stored);
        self.reach(node, number + 1, stored);
        let foreign = |repeat_index: RepeatIndex| self.duplicates.foreign(self.keys.digest(event), repeat_index);
        Verdict { new: trace.repeat_index.is_none_or(foreign), missing }
    }

    /// A sign of life: the node's next event has this number. Returns how many of its events should stand before it and do not.
    pub fn reach(&mut self, node: NodeId, number: u64, stored: Timestamp) -> u64 {
        self.latest = self.latest.max(stored);
        let reached = self.nodes.entry(node).or_insert(Reached { next: number, stored });
        let missing = number.saturating_sub(reached.next);
        *reached = Reached { next: number.max(reached.next), stored };
        missing
    }

    fn got_beyond(&self, origin: Origin) -> bool {
        self.nodes.get(&origin.node).is_some_and(|reached| origin.number < reached.next)
    }

    /// How much of what stands before the marks was not given: events of nodes that were seen in the archive, and whether there may
    /// be more, of nodes that are alive and were not seen yet. Who was neither seen nor heard lately published before the replay begins.
    pub fn missing(&self, watermarks: &Watermarks, now: Timestamp) -> Missing {
        let mut missing = Missing::default();
        for (node, mark) in watermarks.iter().filter(|(_, mark)| mark.next > 0) {
            match self.nodes.get(&node) {
                Some(reached) => missing.events += mark.next.saturating_sub(reached.next),
                None => missing.unknown |= mark.is_alive(now),
            }
        }
        missing
    }

    /// Whether a node that has got so far has taken in all that was given and may still be on its way to it.
    pub fn is_within(&self, watermarks: &Watermarks) -> bool {
        let old = |stored| self.latest.duration_since(stored) > RECENT;
        self.nodes.iter().all(|(node, reached)| watermarks.next(*node) >= reached.next || old(reached.stored))
    }

    /// Whether an event of the recent past was given.
    pub fn has(&self, trace: Trace, event: &Event) -> bool {
        self.got_beyond(trace.origin)
            || trace.repeat_index.is_some_and(|repeat_index| self.duplicates.has(self.keys.digest(event), repeat_index))
    }
}

/// What the archive has not given of what it should.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missing {
    /// Events.
    pub events: u64,
    /// Whether there may be others.
    pub unknown: bool,
}

impl Missing {
    /// Whether everything was given.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// How a replay goes on in the recent past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Splice {
    first: u64,
    /// Numbers of events that were given, in their order and apart from each other.
    given: Vec<Range<u64>>,
}

impl Splice {
    /// From this number on.
    pub fn at(first: u64) -> Self {
        Self { first, given: Vec::new() }
    }

    /// The event with this number was given. To be told in their order.
    pub fn leave_out(&mut self, number: u64) {
        match self.given.last_mut().filter(|last| last.end == number) {
            Some(last) => last.end += 1,
            None => self.given.push(number..number + 1),
        }
    }

    /// Where the recent past begins.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Behind the last event that is left out: from here on everything may come live.
    pub(crate) fn end(&self) -> u64 {
        self.given.last().map_or(self.first, |range| range.end)
    }

    /// Whether an event is to be left out.
    pub(crate) fn leaves_out(&self, number: u64) -> bool {
        let at = self.given.partition_point(|range| range.end <= number);
        self.given.get(at).is_some_and(|range| range.contains(&number))
    }

    /// How many events of a range are not left out.
    pub(crate) fn wanted(&self, range: Range<u64>) -> u64 {
        let within = |given: &Range<u64>| given.end.min(range.end).saturating_sub(given.start.max(range.start));
        range.end.saturating_sub(range.start) - self.given.iter().map(within).sum::<u64>()
    }
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;
