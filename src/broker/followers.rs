//! Records how far the other followers of an endpoint were when an event was accepted. The next event of this node
//! carries it, so that a node that receives both applies theirs first (ADR 0032).
//!
//! Contract: pure. At most [`FOLLOWERS`] nodes; a new one replaces the one that was recorded first.

use super::origin::{NodeId, Origin};

/// The maximum number of remembered nodes that follow endpoints.
const FOLLOWERS: usize = 16;

/// Watermarks of the other nodes that follow an endpoint. At most [`FOLLOWERS`].
#[derive(Debug, Default)]
pub(super) struct Followers {
    next: Vec<(NodeId, u64)>,
    is_told: bool,
}

impl Followers {
    pub(super) fn note(&mut self, origin: Origin) {
        self.is_told = false;
        let next = origin.number + 1;
        if let Some(known) = self.next.iter_mut().find(|(node, _)| *node == origin.node) {
            known.1 = next;
            return;
        }
        if self.next.len() >= FOLLOWERS {
            self.next.remove(0);
        }
        self.next.push((origin.node, next));
    }

    /// Returns what has to be sent with the next event.
    pub(super) fn untold(&self) -> Vec<(NodeId, u64)> {
        if self.is_told { Vec::new() } else { self.next.clone() }
    }

    pub(super) fn told(&mut self) {
        self.is_told = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_number_of_each_is_told_until_something_has_come_since() {
        let mut followers = Followers::default();
        let note = |followers: &mut Followers, node, number| {
            followers.note(Origin { node, number });
            followers.untold()
        };
        assert_eq!(note(&mut followers, 7, 3), [(7, 4)]);
        assert_eq!(note(&mut followers, 8, 0), [(7, 4), (8, 1)]);
        assert_eq!(note(&mut followers, 7, 5), [(7, 6), (8, 1)]);
        followers.told();
        assert_eq!(followers.untold(), []);
        assert_eq!(note(&mut followers, 8, 1), [(7, 6), (8, 2)]);
    }

    #[test]
    fn a_new_one_replaces_the_one_that_was_recorded_first() {
        let mut followers = Followers::default();
        let nodes = 0..FOLLOWERS as u64;
        nodes.clone().chain([0, 99]).for_each(|node| followers.note(Origin { node, number: 0 }));
        let told: Vec<NodeId> = followers.untold().into_iter().map(|(node, _)| node).collect();
        assert_eq!(told, nodes.skip(1).chain([99]).collect::<Vec<_>>());
    }
}
