//! The other nodes: how far each has got, so that whatever is lost between two nodes shows.
//!
//! Every node numbers what it passes on, losses of its own included, and repeats the next number in heartbeats. A jump in
//! the numbers is a loss, wherever it happened: in the sender's full queue, on a broken connection, in a NATS server that cut a slow
//! consumer, in our own buffers. A node that falls silent without a goodbye may have taken in events that it passed on to nobody.
//!
//! Contract: pure. Bounded: at most [`MOST`] nodes, the longest silent one makes room.

use hashbrown::HashMap;
use jiff::{SignedDuration, Timestamp};

/// Nodes that are remembered.
const MOST: usize = 1024;

/// A node that was silent for so long is gone; heartbeats come every two seconds.
pub(super) const SILENCE: SignedDuration = SignedDuration::from_secs(10);

/// One run of one node.
pub(super) type NodeId = u64;

#[derive(Debug)]
struct Peer {
    next: u64,
    heard: Timestamp,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SequenceCheck {
    /// The next one.
    Next,
    /// The next one that arrived; some are missing before it.
    After(Loss),
    /// It was here before.
    Repeated,
}

/// Events of a node that did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    /// Which node's.
    pub(super) node: NodeId,
    /// How many; unknown for a node that is gone.
    pub(super) events: Option<u64>,
    /// When the node was last heard before.
    pub(super) since: Timestamp,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Peers {
    peers: HashMap<NodeId, Peer>,
}

impl Peers {
    /// An event with this number came.
    pub(super) fn event(&mut self, node: NodeId, number: u64, now: Timestamp) -> SequenceCheck {
        self.heard(node, number, 1, now)
    }

    /// A heartbeat came: the next event will have this number.
    pub(super) fn heartbeat(&mut self, node: NodeId, next: u64, now: Timestamp) -> Option<Loss> {
        match self.heard(node, next, 0, now) {
            SequenceCheck::After(loss) => Some(loss),
            SequenceCheck::Next | SequenceCheck::Repeated => None,
        }
    }

    fn heard(&mut self, node: NodeId, number: u64, step: u64, now: Timestamp) -> SequenceCheck {
        if !self.peers.contains_key(&node) {
            self.greet(node, number, now);
        }
        let peer = self.peers.get_mut(&node).expect("greeted");
        let (expected, since) = (peer.next, peer.heard);
        peer.heard = now;
        if number < expected {
            return SequenceCheck::Repeated;
        }
        peer.next = number + step;
        if number == expected {
            return SequenceCheck::Next;
        }
        SequenceCheck::After(Loss { node, events: Some(number - expected), since })
    }

    /// What it had passed on before it was first heard is not ours to miss.
    fn greet(&mut self, node: NodeId, number: u64, now: Timestamp) {
        if self.peers.len() >= MOST
            && let Some(oldest) = self.peers.iter().min_by_key(|(_, peer)| peer.heard).map(|(node, _)| *node)
        {
            self.peers.remove(&oldest);
        }
        self.peers.insert(node, Peer { next: number, heard: now });
    }

    /// A node ends in good order, after `next` events. What did not come of them is lost.
    pub(super) fn goodbye(&mut self, node: NodeId, next: u64, now: Timestamp) -> Option<Loss> {
        let loss = self.heartbeat(node, next, now);
        self.peers.remove(&node);
        loss
    }

    /// Forgets the nodes that fell silent, and tells of them.
    pub(super) fn drain_silent(&mut self, now: Timestamp) -> Vec<Loss> {
        let gone = self.peers.extract_if(|_, peer| now.duration_since(peer.heard) > SILENCE);
        gone.map(|(node, peer)| Loss { node, events: None, since: peer.heard }).collect()
    }

    /// We were deaf until now: silence up to here tells nothing of the others.
    pub(super) fn excuse(&mut self, now: Timestamp) {
        self.peers.values_mut().for_each(|peer| peer.heard = now);
    }

    /// How many nodes are there.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_jump_is_a_loss_and_a_repetition_none() {
        let mut peers = Peers::default();
        assert_eq!(peers.event(7, 100, at(1)), SequenceCheck::Next, "the first one heard");
        assert_eq!(peers.event(8, 0, at(1)), SequenceCheck::Next);
        assert_eq!(peers.event(7, 101, at(2)), SequenceCheck::Next);
        assert_eq!(peers.event(7, 101, at(3)), SequenceCheck::Repeated);
        let loss = Loss { node: 7, events: Some(3), since: at(3) };
        assert_eq!(peers.event(7, 105, at(4)), SequenceCheck::After(loss));
        assert_eq!(peers.event(7, 106, at(4)), SequenceCheck::Next);
        assert_eq!(peers.event(8, 1, at(4)), SequenceCheck::Next);
    }

    #[test]
    fn a_heartbeat_shows_the_loss_of_the_last_ones() {
        let mut peers = Peers::default();
        assert_eq!(peers.heartbeat(7, 0, at(1)), None);
        assert_eq!(peers.heartbeat(7, 2, at(2)), Some(Loss { node: 7, events: Some(2), since: at(1) }));
        assert_eq!(peers.heartbeat(7, 2, at(3)), None);
        assert_eq!(peers.event(7, 2, at(3)), SequenceCheck::Next);
        assert_eq!(peers.goodbye(7, 3, at(4)), None);
        assert_eq!(peers.len(), 0);
    }

    #[test]
    fn who_falls_silent_is_told_once_unless_we_were_deaf() {
        let mut peers = Peers::default();
        peers.heartbeat(7, 0, at(1));
        peers.heartbeat(8, 0, at(9));
        assert_eq!(peers.drain_silent(at(11)), []);
        assert_eq!(peers.drain_silent(at(12)), [Loss { node: 7, events: None, since: at(1) }]);
        peers.excuse(at(100));
        assert_eq!(peers.drain_silent(at(105)), []);
        assert_eq!(peers.drain_silent(at(111)).len(), 1);
        assert_eq!(peers.len(), 0);
    }

    #[test]
    fn there_is_a_bound() {
        let mut peers = Peers::default();
        for node in 0..2 * MOST as u64 {
            peers.heartbeat(node, 0, at(i64::try_from(node).unwrap()));
        }
        assert_eq!(peers.len(), MOST);
        assert!(!peers.peers.contains_key(&0));
    }
}
