//! Splicing a replay from the archive onto the history, so that no event is missing and none comes twice.
//!
//! A replay reads the archive first and then goes on in this node's history. The two hold the same events in different
//! orders, so a position in one means nothing in the other. But every node numbers the events that it publishes, and
//! each node's numbers rise in both. The reader therefore keeps one number for each node: the next event of that node
//! that the archive has yet to give ([`Delivered`]).
//!
//! Where the archive jumps over numbers, it lacks events that this node may have: the reader takes them from the
//! history, in the place of the jump ([`Delivered::fill`]). What neither has is missing; should this node take it in
//! later, it comes from the history then.
//!
//! 1. **Read the archive** until it has delivered everything that this node had taken in at some moment near the end of
//!    the archive ([`Delivered::missing`] is nothing). What this node takes in later is in the history.
//! 2. **Wait for this node** until it has taken in everything that the archive delivered ([`Delivered::ahead_of`] is
//!    0). Otherwise such an event would come once from the archive and once more live.
//! 3. **Compare the history.** An event of the history was delivered if its number is below its node's in [`Delivered`]
//!    and was not jumped over, or if it is a copy of an event of an endpoint that was delivered under another node's
//!    number ([`Delivered::has`]). The positions of those events make a [`Splice`]: the replay goes on at its start and
//!    leaves them out.
//!
//! Contract: pure. Memory is bounded: one number and at most [`HOLES`] jumps for each node that published, the window
//! of [`super::dedup`] for copies, and one range of the history for each run of events to leave out. The two waits are
//! the caller's, who gives up after a few seconds and reports a gap.

use std::ops::Range;

use hashbrown::HashMap;
use jiff::{SignedDuration, Timestamp};

use super::dedup::{Duplicates, Keys};
use super::origin::{NodeId, Origin, Trace, Watermarks};
use crate::event::Event;

/// A node whose last message is so much older than the archive's last is not waited for: what it published has come or
/// will not.
const RECENT: SignedDuration = SignedDuration::from_secs(15);

/// More events are never counted as missing: the number was made up.
pub const WINDOW: u64 = 1 << 20;

/// Jumps that are remembered of a node.
const HOLES: usize = 256;

/// What the archive says of an event, compared with what it delivered before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Whether it is to be delivered.
    pub new: bool,
    /// Numbers of its node that should stand before it and do not.
    pub skipped: Range<u64>,
}

/// How far a reader has got with one node.
#[derive(Debug)]
struct Reached {
    next: u64,
    /// Numbers that were jumped over.
    holes: Vec<Range<u64>>,
    /// When the last message of the node was stored.
    stored: Timestamp,
}

impl Reached {
    /// Returns what is jumped over. A number in what was jumped over before says that the jump was none: somebody made
    /// it up.
    fn reach(&mut self, number: u64) -> Range<u64> {
        let known = self.next;
        if number < known {
            if let Some(at) = self.hole(number) {
                self.holes.truncate(at + 1);
                self.holes[at].end = number;
                self.holes.retain(|hole| !hole.is_empty());
                self.next = number;
            }
            return 0..0;
        }
        self.next = number;
        if number > known {
            if self.holes.len() >= HOLES {
                self.holes.remove(0);
            }
            self.holes.push(known..number);
        }
        known..number
    }

    fn hole(&self, number: u64) -> Option<usize> {
        self.holes.iter().position(|hole| hole.contains(&number))
    }

    fn has(&self, number: u64) -> bool {
        number < self.next && self.hole(number).is_none()
    }

    /// The number was found elsewhere.
    fn fill(&mut self, number: u64) {
        let Some(at) = self.hole(number) else { return };
        let hole = self.holes.remove(at);
        let rest = [hole.start..number, number + 1..hole.end];
        self.holes.splice(at..at, rest.into_iter().filter(|rest| !rest.is_empty()));
    }
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
        if self.was_given(trace.origin) {
            return Comparison { new: false, skipped: 0..0 };
        }
        let skipped = self.reach(node, number, stored);
        self.nodes.get_mut(&node).expect("reached").next = number + 1;
        Comparison { new: self.is_no_copy(trace, event), skipped }
    }

    /// A sign of life: the node's next event has this number. Returns the numbers that should stand before it and do
    /// not.
    pub fn reach(&mut self, node: NodeId, number: u64, stored: Timestamp) -> Range<u64> {
        self.latest = self.latest.max(stored);
        let new = || Reached { next: number, holes: Vec::new(), stored };
        let reached = self.nodes.entry(node).or_insert_with(new);
        reached.stored = stored;
        reached.reach(number)
    }

    /// An event that was jumped over is in the history. Returns whether it is to be delivered.
    pub fn fill(&mut self, trace: Trace, event: &Event) -> bool {
        let Origin { node, number } = trace.origin;
        let Some(reached) = self.nodes.get_mut(&node).filter(|reached| reached.hole(number).is_some()) else {
            return false;
        };
        reached.fill(number);
        self.is_no_copy(trace, event)
    }

    fn is_no_copy(&mut self, trace: Trace, event: &Event) -> bool {
        let digest = |keys: &Keys| keys.digest(event);
        trace.repeat_index.is_none_or(|repeat_index| self.duplicates.foreign(digest(&self.keys), repeat_index))
    }

    fn was_given(&self, origin: Origin) -> bool {
        self.nodes.get(&origin.node).is_some_and(|reached| reached.has(origin.number))
    }

    /// What stands before the marks and was not given: numbers of nodes that were seen in the archive, and whether
    /// there may be more, of nodes that have published since `since` and were not seen. Who was neither seen nor heard
    /// lately published before the replay begins.
    pub fn missing(&self, watermarks: &Watermarks, since: Timestamp, now: Timestamp) -> Missing {
        let mut missing = Missing::default();
        for (node, mark) in watermarks.iter().filter(|(_, mark)| mark.next > 0) {
            match self.nodes.get(&node) {
                Some(reached) if reached.next < mark.next => missing.numbers.push((node, reached.next..mark.next)),
                Some(_) => {}
                None => missing.unknown |= mark.is_alive(now) && mark.moved >= since,
            }
        }
        missing
    }

    /// How many of the delivered events a node that has got so far has yet to take in and may still be on its way to.
    pub fn ahead_of(&self, watermarks: &Watermarks) -> u64 {
        let old = |stored| self.latest.duration_since(stored) > RECENT;
        let recent = self.nodes.iter().filter(|(_, reached)| !old(reached.stored));
        let ahead = recent.map(|(node, reached)| reached.next.saturating_sub(watermarks.next(*node)));
        ahead.fold(0, u64::saturating_add)
    }

    /// Whether an event of the recent past was delivered.
    pub fn has(&self, trace: Trace, event: &Event) -> bool {
        self.was_given(trace.origin)
            || trace.repeat_index.is_some_and(|repeat_index| self.duplicates.has(self.keys.digest(event), repeat_index))
    }
}

/// What the archive has not given of what it should.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Numbers of nodes; what the history has of them comes from there.
    pub numbers: Vec<(NodeId, Range<u64>)>,
    /// Whether there may be others.
    pub unknown: bool,
}

impl Missing {
    /// Whether everything was delivered.
    pub fn is_nothing(&self) -> bool {
        self.numbers.is_empty() && !self.unknown
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
