//! Which node an event comes from, and how far this node has got with the events of each other node.
//!
//! Every node numbers the events it exports, so an event is identified everywhere by the epoch of its node and its
//! number there. The sequencer keeps the [`Watermarks`] under its lock. They map a position in this node's order to a
//! position in the events of every node; a replay uses that to continue from the archive into the history
//! ([`super::splice`]).
//!
//! Contract: pure; the caller passes the time. At most [`MOST`] nodes; a new one replaces the one that was silent
//! longest.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use jiff::Timestamp;

use super::dedup::RepeatIndex;
use crate::clock::ClockReading;

/// The maximum number of remembered nodes.
const MOST: usize = 1024;

/// More events than a node can lose between two that arrive.
const WINDOW: u64 = 1 << 20;

/// The time after which a silent node is not waited for. Nodes report every two seconds.
const SILENCE: Duration = Duration::from_secs(10);

/// Identifies one run of one node.
pub type NodeId = u64;

/// The identity of an event among those that its node published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The node that accepted it.
    pub node: NodeId,
    /// Its number at that node.
    pub number: u64,
}

/// The origin and the repeat index of an event that nodes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The origin.
    pub origin: Origin,
    /// The repeat index, for events of an endpoint that other nodes may follow too.
    pub repeat_index: Option<RepeatIndex>,
}

/// How far this node has got with one node's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The number of the next event.
    pub next: u64,
    /// When the node last reported.
    pub heard: Instant,
    /// The wall clock time at which it last published an event, as far as known.
    pub moved: Timestamp,
}

/// For each node, how far this node has got with its events. At most [`MOST`] nodes.
#[derive(Debug, Clone, Default)]
pub struct Watermarks(HashMap<NodeId, Mark>);

impl Watermarks {
    /// Records that all events of `node` before `next` were accepted, were duplicates, or will not arrive. A number far
    /// below the mark is trusted: the mark must have been forged.
    pub fn note(&mut self, node: NodeId, next: u64, now: ClockReading) {
        let Some(mark) = self.0.get(&node) else { return self.set(node, next, now.instant, now.wall) };
        let (known, moved) = (mark.next, mark.moved);
        if next > known || known - next > WINDOW {
            self.set(node, next, now.instant, now.wall);
        } else {
            self.set(node, known, now.instant, moved);
        }
    }

    /// Like [`Watermarks::note`], for a caller that counts the events of `node`: the number may be lower than the mark.
    /// The node published its last event at `moved`.
    pub fn set(&mut self, node: NodeId, next: u64, heard: Instant, moved: Timestamp) {
        if !self.0.contains_key(&node)
            && self.0.len() >= MOST
            && let Some(oldest) = self.0.iter().min_by_key(|(_, mark)| mark.heard).map(|(node, _)| *node)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(node, Mark { next, heard, moved });
    }

    /// Returns the number of the next event of `node`; 0 if the node is unknown.
    pub fn next(&self, node: NodeId) -> u64 {
        self.0.get(&node).map_or(0, |mark| mark.next)
    }

    /// Iterates over all nodes.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, Mark)> {
        self.0.iter().map(|(node, mark)| (*node, *mark))
    }
}

impl Mark {
    /// Returns whether the node is likely to report again.
    pub fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) <= SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::simulated::at;

    #[test]
    fn marks_never_fall_and_are_bounded() {
        let mut watermarks = Watermarks::default();
        watermarks.note(1, 5, at(1));
        watermarks.note(1, 3, at(2));
        assert_eq!((watermarks.next(1), watermarks.next(2)), (5, 0));
        watermarks.note(1, 1_000_000_000_000, at(2));
        watermarks.note(1, 6, at(2));
        assert_eq!(watermarks.next(1), 6, "somebody made that up");
        watermarks.note(1, 6 + WINDOW, at(2));
        watermarks.note(1, 6, at(2));
        assert_eq!(watermarks.next(1), 6 + WINDOW, "not far below");
        for node in 2..2 * MOST as u64 {
            watermarks.note(node, 1, at(3));
        }
        assert_eq!(watermarks.iter().count(), MOST);
        assert_eq!(watermarks.next(1), 0, "the longest silent one made room");
    }

    #[test]
    fn who_is_silent_is_not_waited_for() {
        let mark = Mark { next: 0, heard: at(100).instant, moved: at(100).wall };
        assert!(mark.is_alive(at(110).instant) && !mark.is_alive(at(111).instant));
    }
}
