//! Restores the order of an endpoint's events if several nodes follow the endpoint and each forwards the events it
//! received first.
//!
//! Each follower has the right order: its own link delivers it, and the events that others received first arrive from
//! them in their order. With each event of an endpoint, a node therefore sends how many events it had from each of the
//! others by then ([`After`]), and a receiver accepts that many of the others' events first. Then every event its
//! sender had before it precedes it here too, and so on back to the first event (ADR 0032).
//!
//! Contract: pure; the caller passes the time of the monotonic clock. The messages of a node keep their order: while
//! one of them waits, those after it wait too. Messages wait for [`PATIENCE`] at most, and at most [`MOST`] of all
//! nodes together, with a maximum of bytes; beyond that ([`Order::is_full`]) the oldest is accepted, since a late order
//! is better than a lost event. No message waits for a node that is not heard.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::peers::NodeId;

/// How long a message waits for those of other nodes.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Maximum number of waiting messages, over all nodes.
pub(super) const MOST: usize = 16_384;

/// Maximum number of nodes with waiting messages. One endpoint never has more followers: further ones are made up.
const NODES: usize = 64;

/// Pairs of a node and a number: the node's events before that number come first.
pub(super) type After = Vec<(NodeId, u64)>;

#[derive(Debug)]
struct Held<T> {
    item: T,
    bytes: usize,
    after: After,
    since: Instant,
}

/// Reorders the messages of several followers into the endpoint's order. Bounded in time, number and bytes.
#[derive(Debug)]
pub(super) struct Order<T> {
    held: HashMap<NodeId, VecDeque<Held<T>>>,
    count: usize,
    bytes: usize,
    most_bytes: usize,
}

impl<T> Order<T> {
    /// Creates an order that holds `most_bytes` of messages.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { held: HashMap::new(), count: 0, bytes: 0, most_bytes }
    }

    /// Offers the next message of a node, with its length. Returns it if it can be accepted now, or queues it. `next`
    /// returns the number of a node's next event if the node is heard.
    pub(super) fn offer(
        &mut self,
        node: NodeId,
        after: After,
        (item, bytes): (T, usize),
        next: impl Fn(NodeId) -> Option<u64>,
        now: Instant,
    ) -> Option<T> {
        if !self.held.contains_key(&node) && (self.held.len() >= NODES || has_come(&after, next)) {
            return Some(item);
        }
        self.held.entry(node).or_default().push_back(Held { item, bytes, after, since: now });
        self.count += 1;
        self.bytes += bytes;
        None
    }

    /// Returns whether more wait than may, so that [`Order::ready`] returns the oldest.
    pub(super) fn is_full(&self) -> bool {
        self.count > MOST || self.bytes > self.most_bytes
    }

    /// Returns whether messages of a node wait.
    pub(super) fn holds(&self, node: NodeId) -> bool {
        self.held.contains_key(&node)
    }

    /// Does not count the last part of the time, in which nothing was received.
    pub(super) fn excuse_for(&mut self, part: Duration, now: Instant) {
        self.held.values_mut().flatten().for_each(|held| held.since = now.min(held.since + part));
    }

    /// Removes a message that can be accepted by now. To be called until it returns `None`.
    pub(super) fn ready(&mut self, next: impl Fn(NodeId) -> Option<u64>, now: Instant) -> Option<T> {
        if self.count == 0 {
            return None;
        }
        let full = self.is_full();
        let oldest = self.held.values().filter_map(|queue| queue.front()).map(|held| held.since).min()?;
        let may_go = |held: &Held<T>| {
            let late = now.saturating_duration_since(held.since) > PATIENCE || (full && held.since == oldest);
            late || has_come(&held.after, &next)
        };
        // The longest waiting one; of several the lowest node's, so that the order does not depend on the map.
        let fronts = self.held.iter().filter_map(|(node, queue)| Some((*node, queue.front()?)));
        let (node, _) = fronts.filter(|(_, held)| may_go(held)).min_by_key(|(node, held)| (held.since, *node))?;
        self.take_from(node)
    }

    /// Removes the oldest message of a node.
    fn take_from(&mut self, node: NodeId) -> Option<T> {
        let queue = self.held.get_mut(&node)?;
        let held = queue.pop_front()?;
        self.count -= 1;
        self.bytes -= held.bytes;
        if queue.is_empty() {
            self.held.remove(&node);
        }
        Some(held.item)
    }
}

fn has_come(after: &After, next: impl Fn(NodeId) -> Option<u64>) -> bool {
    after.iter().all(|(node, number)| next(*node).is_none_or(|next| next >= *number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::simulated;

    fn at(seconds: i64) -> Instant {
        simulated::at(seconds).instant
    }

    #[test]
    fn what_another_had_before_comes_first_and_nobody_waits_for_ever() {
        let mut order = Order::new(1000);
        assert_eq!(order.offer(1, vec![], ("a", 1), |_| Some(0), at(0)), Some("a"));
        assert_eq!(order.offer(1, vec![(2, 5)], ("b", 1), |_| Some(4), at(0)), None);
        assert_eq!(order.offer(1, vec![], ("c", 1), |_| Some(4), at(0)), None, "behind b");
        assert_eq!(order.offer(3, vec![(2, 4)], ("d", 1), |_| Some(4), at(0)), Some("d"));
        assert_eq!(order.ready(|_| Some(4), at(1)), None);
        assert_eq!(order.ready(|_| Some(5), at(1)), Some("b"));
        assert_eq!(order.ready(|_| Some(5), at(1)), Some("c"));
        assert_eq!((order.ready(|_| Some(5), at(1)), order.count), (None, 0));
        order.offer(1, vec![(2, 9)], ("e", 1), |_| Some(5), at(1));
        assert_eq!(order.ready(|_| None, at(1)), Some("e"), "2 is not heard any more");
        order.offer(1, vec![(2, 9)], ("f", 1), |_| Some(5), at(1));
        assert_eq!(order.ready(|_| Some(5), at(4)), Some("f"), "late");
    }

    #[test]
    fn nodes_that_somebody_made_up_wait_for_nobody_beyond_some() {
        let mut order = Order::new(1000);
        for node in 0..NODES as u64 {
            assert_eq!(order.offer(node, vec![(1000, 9)], (node, 1), |_| Some(5), at(1)), None);
        }
        assert_eq!(order.offer(500, vec![(1000, 9)], (500, 1), |_| Some(5), at(1)), Some(500));
        assert_eq!(order.offer(1, vec![], (77, 1), |_| Some(5), at(1)), None, "behind its own");
    }

    #[test]
    fn there_is_a_bound() {
        let mut order = Order::new(usize::MAX);
        (0..MOST + 10).for_each(|n| assert!(order.offer(1, vec![(2, 9)], (n, 1), |_| Some(5), at(1)).is_none()));
        let taken: Vec<usize> = std::iter::from_fn(|| order.ready(|_| Some(5), at(1))).collect();
        assert_eq!(taken, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn bytes_have_a_bound_too() {
        let mut order = Order::new(1000);
        let mut offer = |n, bytes, second| {
            assert!(order.offer(1, vec![(2, 9)], (n, bytes), |_| Some(5), at(second)).is_none());
            let taken: Vec<u32> = std::iter::from_fn(|| order.ready(|_| Some(5), at(second))).collect();
            (taken, order.bytes)
        };
        assert_eq!(offer(1, 400, 1), (vec![], 400));
        assert_eq!(offer(2, 600, 2), (vec![], 1000));
        assert_eq!(offer(3, 500, 2), (vec![1, 2], 500));
        assert_eq!(offer(4, 2000, 2), (vec![3, 4], 0), "longer than all that may wait");
    }
}

#[cfg(test)]
#[path = "order_model.rs"]
mod model;
