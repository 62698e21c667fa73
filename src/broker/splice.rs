//! Splicing a replay from the archive onto the history, so that no event is missing and none is delivered twice.
//!
//! A replay reads the archive first and then continues in this node's history. Both hold the same events in different
//! orders, so a position in one means nothing in the other. But every node numbers the events that it publishes, and
//! each node's numbers rise in both. The reader therefore stores one number per node: that of the node's next event
//! that the archive has yet to deliver ([`Delivered`]).
//!
//! Where the archive skips numbers, it lacks events that this node may have: the reader takes them from the history at
//! that point ([`Delivered::fill`]). Events that neither has are missing; if this node receives them later, they come
//! from the history.
//!
//! 1. **Read the archive** until it has delivered everything that this node had accepted at some moment near the end of
//!    the archive ([`Delivered::missing`] is nothing). What this node accepts later is in the history.
//! 2. **Wait for this node** until it has accepted everything that the archive delivered ([`Delivered::ahead_of`] is
//!    0). Otherwise such an event would be delivered from the archive and once more live.
//! 3. **Compare the history.** An event of the history was delivered if its number is below its node's in
//!    [`Delivered`], was not skipped and does not precede those that were requested, or if it duplicates an endpoint's
//!    event that was delivered under another node's number ([`Delivered::has`]). The positions of those events make a
//!    [`Splice`]: the replay continues at its start and leaves them out.
//!
//! Pages that were sent last may be withdrawn before the client handles them: [`Delivered`] knows what they contained,
//! and the shard decides which of it is left out ([`Splice::settle`]).
//!
//! Contract: pure. Memory is bounded: [`NODES`] nodes with [`ALL_HOLES`] jumps, the window of [`super::dedup`] for
//! duplicates, the events of the last pages, and one range of the history for each run of events to leave out. Anyone
//! who may publish can make up nodes; of too many, those that were silent longest are forgotten. Their events may then
//! come twice, so the caller reports a gap ([`Delivered::has_forgotten`]). The caller does the two waits; it gives up
//! after a few seconds and reports a gap.

use std::ops::Range;
use std::time::Instant;

use hashbrown::HashMap;
use jiff::{SignedDuration, Timestamp};

use super::dedup::{Duplicates, Keys};
use super::last_pages::{LastPages, Positions, Sent};
use super::origin::{NodeId, Origin, Trace, Watermarks};
use super::reached::Reached;
use crate::event::Event;

/// The age, relative to the archive's last message, from which a node's last message is not waited for: what that node
/// published has arrived or never will.
const RECENT: SignedDuration = SignedDuration::from_secs(15);

/// The maximum number of missing events; a larger jump means that the number was forged.
pub const WINDOW: u64 = 1 << 20;

/// The maximum number of nodes, and of jumps of all of them together.
pub const NODES: usize = 4096;
const ALL_HOLES: usize = 16_384;

/// The result of comparing an archived event with what was delivered before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Whether it has to be delivered.
    pub new: bool,
    /// Numbers of its node that should precede it but are missing.
    pub skipped: Range<u64>,
}

/// A record of what a reader has delivered.
#[derive(Debug)]
pub struct Delivered {
    nodes: HashMap<NodeId, Reached>,
    /// The number of jumps of all nodes.
    holes: usize,
    has_forgotten: bool,
    /// When the last message was stored.
    latest: Timestamp,
    window: usize,
    duplicates: Duplicates,
    keys: Keys,
    /// Whether the first requested event has been reached.
    begun: bool,
    last_pages: LastPages,
}

impl Delivered {
    /// Creates an empty record. It recognizes a duplicate across at most `window` other events of endpoints.
    pub fn new(window: usize) -> Self {
        Self {
            nodes: HashMap::new(),
            holes: 0,
            has_forgotten: false,
            latest: Timestamp::MIN,
            window,
            duplicates: Duplicates::new(window),
            keys: Keys::default(),
            begun: false,
            last_pages: LastPages::default(),
        }
    }

    /// Notes, unless it was noted before, that the requested events begin here. Of what was recorded so far only the
    /// numbers count, as those that the next ones follow; nothing of it was delivered.
    pub fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            self.nodes.values_mut().for_each(|reached| reached.since = reached.next);
            self.duplicates = Duplicates::new(self.window);
        }
    }

    /// Returns whether the requested events have begun.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Records the next event of the archive, which has this `position` there and was stored at `stored`.
    pub fn event(&mut self, trace: Trace, event: &Event, position: u64, stored: Timestamp) -> Comparison {
        let Origin { node, number } = trace.origin;
        if self.was_given(trace.origin) {
            return Comparison { new: false, skipped: 0..0 };
        }
        let skipped = self.reach(node, number, stored);
        self.nodes.get_mut(&node).expect("reached").next = number + 1;
        Comparison { new: self.is_no_copy(trace, event, position), skipped }
    }

    /// Records a sign of life: `number` is that of the node's next event. Returns the numbers that should precede it
    /// but are missing.
    pub fn reach(&mut self, node: NodeId, number: u64, stored: Timestamp) -> Range<u64> {
        self.latest = self.latest.max(stored);
        if self.nodes.len() >= NODES && !self.nodes.contains_key(&node) {
            self.forget_nodes();
        }
        let reached = self.nodes.entry(node).or_insert_with(|| Reached::new(number, stored));
        reached.stored = stored;
        let before = reached.holes();
        let skipped = reached.reach(number);
        self.holes = self.holes + reached.holes() - before;
        if self.holes > ALL_HOLES {
            self.forget_holes();
        }
        skipped
    }

    /// Returns the nodes, the one that published nothing for the longest time first.
    fn by_age(&self) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.nodes.iter().map(|(node, reached)| (reached.stored, *node)).collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|(_, node)| node).collect()
    }

    fn forget_nodes(&mut self) {
        // Half of them at once, so that each costs little.
        for node in &self.by_age()[..NODES / 2] {
            self.holes -= self.nodes.remove(node).map_or(0, |reached| reached.holes());
        }
        self.has_forgotten = true;
    }

    fn forget_holes(&mut self) {
        for node in self.by_age() {
            if self.holes <= ALL_HOLES / 2 {
                break;
            }
            self.holes -= self.nodes.get_mut(&node).map_or(0, Reached::forget_holes);
        }
        self.has_forgotten = true;
    }

    /// Returns whether there were too many nodes or jumps to remember all: events may come twice, or be missing.
    pub fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }

    /// Records an event that cannot be read. Returns the numbers that are missing: its own and those before it.
    pub fn lack(&mut self, node: NodeId, number: u64, stored: Timestamp) -> Range<u64> {
        if self.nodes.get(&node).is_some_and(|reached| number < reached.next) {
            return 0..0;
        }
        let before = self.reach(node, number, stored);
        let itself = self.reach(node, number + 1, stored);
        if before.is_empty() { itself } else { before.start..itself.end }
    }

    /// Records a skipped event that was found in the history, and gets this `position`. Returns whether it has to be
    /// delivered.
    pub fn fill(&mut self, trace: Trace, event: &Event, position: u64) -> bool {
        let Origin { node, number } = trace.origin;
        let Some(reached) = self.nodes.get_mut(&node).filter(|reached| reached.hole(number).is_some()) else {
            return false;
        };
        let before = reached.holes();
        reached.fill(number);
        self.holes = self.holes + reached.holes() - before;
        self.is_no_copy(trace, event, position)
    }

    fn is_no_copy(&mut self, trace: Trace, event: &Event, position: u64) -> bool {
        let copy_key = trace.repeat_index.map(|repeat_index| (self.keys.digest(event), repeat_index));
        let new = copy_key.is_none_or(|(digest, repeat_index)| self.duplicates.foreign(digest, repeat_index));
        if new && self.begun {
            self.last_pages.add(Sent { origin: trace.origin, copy_key, length: event.json().len(), position });
        }
        new
    }

    /// Notes that the page with what was delivered since the last one was sent.
    pub fn send_page(&mut self) {
        self.last_pages.send();
    }

    /// Returns the positions of the events that the client may not have handled.
    pub fn last_positions(&self) -> Positions<'_> {
        self.last_pages.positions(&self.keys)
    }

    fn was_given(&self, origin: Origin) -> bool {
        self.nodes.get(&origin.node).is_some_and(|reached| reached.has(origin.number))
    }

    /// Returns what is below the watermarks and was not delivered: numbers of nodes seen in the archive, and whether
    /// there may be more from nodes that have published since `since` but were not seen. A node that was neither seen
    /// nor recently alive published only before the replay begins.
    pub fn missing(&self, watermarks: &Watermarks, since: Timestamp, now: Instant) -> Missing {
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

    /// Returns how many recently delivered events a node with these watermarks has yet to accept.
    pub fn ahead_of(&self, watermarks: &Watermarks) -> u64 {
        let old = |stored| self.latest.duration_since(stored) > RECENT;
        let recent = self.nodes.iter().filter(|(_, reached)| !old(reached.stored));
        let ahead = recent.map(|(node, reached)| reached.next.saturating_sub(watermarks.next(*node)));
        ahead.fold(0, u64::saturating_add)
    }

    /// Returns whether an event of the history was delivered, or a copy of it.
    pub fn has(&self, trace: Trace, event: &Event) -> bool {
        self.has_number(trace.origin) || self.has_copy(trace, event)
    }

    /// Returns whether the event with a node's number was delivered.
    pub fn has_number(&self, Origin { node, number }: Origin) -> bool {
        self.begun && self.nodes.get(&node).is_some_and(|reached| reached.has_delivered(number))
    }

    /// Returns whether an event was delivered that says the same, under whatever number. Digests the whole event.
    pub fn has_copy(&self, trace: Trace, event: &Event) -> bool {
        let copied = |repeat_index| self.duplicates.has(self.keys.digest(event), repeat_index);
        self.begun && trace.repeat_index.is_some_and(copied)
    }
}

/// What the archive should have delivered but has not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Missing numbers by node; the history provides those that it has.
    pub numbers: Vec<(NodeId, Range<u64>)>,
    /// Whether there may be others.
    pub unknown: bool,
}

impl Missing {
    /// Returns whether everything was delivered.
    pub fn is_nothing(&self) -> bool {
        self.numbers.is_empty() && !self.unknown
    }
}

/// How a replay continues in the history.
///
/// Pages that the shard has not handled may be withdrawn. Only the shard knows which events those are: it settles
/// ([`Splice::settle`]) which of the last ones are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Splice {
    first: u64,
    /// Ranges of delivered numbers, ascending and not adjacent.
    delivered: Vec<Range<u64>>,
    /// Other events that the archive has sent, and their positions there.
    sent: Vec<(u64, u64)>,
}

impl Splice {
    /// Creates a splice that starts at this number and leaves out nothing.
    pub fn at(first: u64) -> Self {
        Self { first, delivered: Vec::new(), sent: Vec::new() }
    }

    /// Leaves out the event with this number. Must be called in ascending order.
    pub fn leave_out(&mut self, number: u64) {
        match self.delivered.last_mut().filter(|last| last.end == number) {
            Some(last) => last.end += 1,
            None => self.delivered.push(number..number + 1),
        }
    }

    /// Leaves out the event with this number only if the event at this position in the archive was handled, because its
    /// page may be withdrawn before.
    pub fn leave_out_if_handled(&mut self, number: u64, position: u64) {
        self.sent.push((number, position));
    }

    /// Notes that the events of the archive were handled up to the position `end`, and no others will be.
    pub(crate) fn settle(&mut self, end: u64) {
        let handled = std::mem::take(&mut self.sent).into_iter().filter(|(_, position)| *position < end);
        let mut ranges = std::mem::take(&mut self.delivered);
        ranges.extend(handled.map(|(number, _)| number..number + 1));
        ranges.sort_unstable_by_key(|range| range.start);
        for range in ranges {
            match self.delivered.last_mut().filter(|last| last.end == range.start) {
                Some(last) => last.end = range.end,
                None => self.delivered.push(range),
            }
        }
    }

    /// Returns the number at which the history begins.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number after the last event that is left out: from there on everything may be delivered live.
    pub(crate) fn end(&self) -> u64 {
        self.delivered.last().map_or(self.first, |range| range.end)
    }

    /// Returns whether an event is left out.
    pub(crate) fn leaves_out(&self, number: u64) -> bool {
        let at = self.delivered.partition_point(|range| range.end <= number);
        self.delivered.get(at).is_some_and(|range| range.contains(&number))
    }

    /// Returns the number of events in a range that are not left out.
    pub(crate) fn wanted(&self, range: Range<u64>) -> u64 {
        let from = self.delivered.partition_point(|delivered| delivered.end <= range.start);
        let until = self.delivered.partition_point(|delivered| delivered.start < range.end);
        let within =
            |delivered: &Range<u64>| delivered.end.min(range.end).saturating_sub(delivered.start.max(range.start));
        let left_out: u64 = self.delivered.get(from..until).unwrap_or_default().iter().map(within).sum();
        range.end.saturating_sub(range.start) - left_out
    }

    /// Returns whether it leaves out events, all of them before `number`.
    pub(crate) fn is_past(&self, number: u64) -> bool {
        !self.delivered.is_empty() && self.end() <= number
    }

    /// Forgets which events are left out; nothing before the last of them may be in the history any more. How many are
    /// not left out there stays known: the splice begins so much earlier.
    pub(crate) fn forget(&mut self) {
        let end = self.end();
        self.first = end - self.wanted(self.first..end);
        self.delivered = Vec::new();
    }
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;
