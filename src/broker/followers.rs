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
