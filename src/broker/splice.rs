//! Splicing a replay from the archive onto the history, so that no event is missing and none comes twice.
//!
//! A replay reads the archive first and then goes on in this node's history. The two hold the same events in different orders, so a
//! position in one means nothing in the other. But every node numbers the events that it publishes, and each node's numbers rise in
//! both. The reader therefore keeps one number for each node: the next event of that node that the archive has yet to give ([`Delivered`]).
//!
//! 1. **Read the archive** until it has delivered everything that this node had taken in at some moment near the end of the archive
//!    ([`Delivered::missing`] is nothing). What this node takes in later is in the history.
//! 2. **Wait for this node** until it has taken in everything that the archive delivered ([`Delivered::is_within`]). Otherwise such an event would
//!    come once from the archive and once more live.
//! 3. **Compare the history.** An event of the history was delivered if its number is below its node's in [`Delivered`], or if it is a copy of an
//!    event of an endpoint that was delivered under another node's number ([`Delivered::has`]). The positions of those events make a [`Splice`]: the
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

/// What the archive says of an event, compared with what it delivered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// Whether it is to be delivered.
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

/// What a reader has delivered.
#[derive(Debug)]
pub struct Delivered {
    nodes: HashMap<NodeId, Reached>,
    /// When the last message was stored.
    latest: Timestamp,
    duplicates: Duplicates,
    keys: Keys,
}

impl Delivered {
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
    pub fn event(&mut self, trace: Trace, event: &Event, stored: Timestamp) -> Comparison {
        let Origin { node, number } = trace.origin;
        if self.got_beyond(trace.origin) {
            return Comparison { new: false, missing: 0 };
        }
        let missing = self.reach(node, number, stored);
        self.reach(node, number + 1, stored);
        let foreign = |repeat_index: RepeatIndex| self.duplicates.foreign(self.keys.digest(event), repeat_index);
        Comparison { new: trace.repeat_index.is_none_or(foreign), missing }
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

    /// Whether a node that has got so far has taken in all that was delivered and may still be on its way to it.
    pub fn is_within(&self, watermarks: &Watermarks) -> bool {
        let old = |stored| self.latest.duration_since(stored) > RECENT;
        self.nodes.iter().all(|(node, reached)| watermarks.next(*node) >= reached.next || old(reached.stored))
    }

    /// Whether an event of the recent past was delivered.
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
    /// Whether everything was delivered.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// How a replay goes on in the recent past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Splice {
    first: u64,
    /// Numbers of events that were delivered, in their order and apart from each other.
    delivered: Vec<Range<u64>>,
}

impl Splice {
    /// From this number on.
    pub fn at(first: u64) -> Self {
        Self { first, delivered: Vec::new() }
    }

    /// The event with this number was delivered. To be told in their order.
    pub fn leave_out(&mut self, number: u64) {
        match self.delivered.last_mut().filter(|last| last.end == number) {
            Some(last) => last.end += 1,
            None => self.delivered.push(number..number + 1),
        }
    }

    /// Where the recent past begins.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Behind the last event that is left out: from here on everything may come live.
    pub(crate) fn end(&self) -> u64 {
        self.delivered.last().map_or(self.first, |range| range.end)
    }

    /// Whether an event is to be left out.
    pub(crate) fn leaves_out(&self, number: u64) -> bool {
        let at = self.delivered.partition_point(|range| range.end <= number);
        self.delivered.get(at).is_some_and(|range| range.contains(&number))
    }

    /// How many events of a range are not left out.
    pub(crate) fn wanted(&self, range: Range<u64>) -> u64 {
        let within =
            |delivered: &Range<u64>| delivered.end.min(range.end).saturating_sub(delivered.start.max(range.start));
        range.end.saturating_sub(range.start) - self.delivered.iter().map(within).sum::<u64>()
    }
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;
