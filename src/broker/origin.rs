//! Which node an event comes from, and how far this node has got with the events of each other node.
//!
//! Every node numbers the events it exports, so an event is identified everywhere by the epoch of its node and its
//! number there. The sequencer keeps the [`Watermarks`] under its lock. They map a position in this node's order to a
//! position in the events of every node; a replay uses that to continue from the archive into the history
//! ([`super::splice`]).
//!
//! Contract: pure. At most [`MOST`] nodes; a new one replaces the one that was silent longest.

use hashbrown::HashMap;
use jiff::{SignedDuration, Timestamp};

use super::dedup::RepeatIndex;

/// Nodes that are remembered.
const MOST: usize = 1024;

/// No node loses so many events between two that are heard.
const WINDOW: u64 = 1 << 20;

/// A node that was not heard for so long is not waited for; they show themselves every two seconds.
const SILENCE: SignedDuration = SignedDuration::from_secs(10);

/// One run of one node.
pub type NodeId = u64;

/// An event among those that its node passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The node that took it in.
    pub node: NodeId,
    /// Its number there.
    pub number: u64,
}

/// What is known of an event that goes between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Where it is from.
    pub origin: Origin,
    /// For events of an endpoint that other nodes may follow too: which repeat index it is.
    pub repeat_index: Option<RepeatIndex>,
}

/// How far this node has got with one node's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The number of the next event.
    pub next: u64,
    /// When the node was last heard.
    pub heard: Timestamp,
    /// When its last event was passed on, as far as it is known.
    pub moved: Timestamp,
}

/// For each node, how far this node has got with its events. At most [`MOST`] nodes.
#[derive(Debug, Clone, Default)]
pub struct Watermarks(HashMap<NodeId, Mark>);

impl Watermarks {
    /// Everything of `node` before the number `next` was taken in, was a copy, or will not come. A number that is far
    /// below the mark is believed: the mark was somebody's who made it up.
    pub fn note(&mut self, node: NodeId, next: u64, heard: Timestamp) {
        let Some(mark) = self.0.get(&node) else { return self.set(node, next, heard, heard) };
        let (known, moved) = (mark.next, mark.moved);
        if next > known || known - next > WINDOW {
            self.set(node, next, heard, heard);
        } else {
            self.set(node, known, heard, moved);
        }
    }

    /// The same, from whoever counts the events of `node`: the number may be lower than the mark. Its last event was
    /// passed on at `moved`.
    pub fn set(&mut self, node: NodeId, next: u64, heard: Timestamp, moved: Timestamp) {
        if !self.0.contains_key(&node)
            && self.0.len() >= MOST
            && let Some(oldest) = self.0.iter().min_by_key(|(_, mark)| mark.heard).map(|(node, _)| *node)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(node, Mark { next, heard, moved });
    }

    /// The number of the next event of `node`; 0 if nothing is known of it.
    pub fn next(&self, node: NodeId) -> u64 {
        self.0.get(&node).map_or(0, |mark| mark.next)
    }

    /// All nodes.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, Mark)> {
        self.0.iter().map(|(node, mark)| (*node, *mark))
    }
}

impl Mark {
    /// Whether the node is likely to be heard again.
    pub fn is_alive(&self, now: Timestamp) -> bool {
        now.duration_since(self.heard) <= SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn marks_never_fall_and_are_bounded() {
        let mut watermarks = Watermarks::default();
        watermarks.note(1, 5, at(1));
        watermarks.note(1, 3, at(2));
        assert_eq!((watermarks.next(1), watermarks.next(2)), (5, 0));
        watermarks.note(1, 1_000_000_000_000, at(2));
        watermarks.note(1, 6, at(2));
        assert_eq!(watermarks.next(1), 6, "somebody made that up");
        for node in 2..2 * MOST as u64 {
            watermarks.note(node, 1, at(3));
        }
        assert_eq!(watermarks.iter().count(), MOST);
        assert_eq!(watermarks.next(1), 0, "the longest silent one made room");
    }

    #[test]
    fn who_is_silent_is_not_waited_for() {
        let mark = Mark { next: 0, heard: at(100), moved: at(100) };
        assert!(mark.is_alive(at(110)) && !mark.is_alive(at(111)));
    }
}
