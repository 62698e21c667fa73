//! When what waits may be sent after a connection was lost: once those are back who are to hear it.
//!
//! Core NATS gives a message to whoever has subscribed at that moment. When all of NATS was away, the node that is back
//! first would hand its queue to nobody. So it greets (a heartbeat that the others answer at once), and sends what
//! waits when every node that it knew has been heard over the new connection, or at last after [`LONGEST`]: longer than
//! anybody waits between two tries. Who knows nobody, though there was no connection for more than a moment, waits for
//! all of that time: others may have started meanwhile.
//!
//! Contract: shared by the task that sends, which asks, and the one that receives, which knows whom it hears.
//! [`Gate::is_open`] is one atomic load. While the gate is shut events wait in the bounded queue of exports.

use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashSet;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::peers::NodeId;

/// For how long others are waited for: as long as a peer may be silent before it counts as lost.
pub(super) const LONGEST: SignedDuration = SignedDuration::from_secs(10);

/// An absence in which nobody can have come that is not known.
const MOMENT: SignedDuration = SignedDuration::from_secs(1);

/// Whom this node waits for.
#[derive(Debug, PartialEq, Eq)]
struct Hold {
    session: u64,
    waiting: HashSet<NodeId>,
    /// Somebody may come who is not known.
    blind: bool,
    until: Timestamp,
}

impl Hold {
    fn is_over(&self, now: Timestamp) -> bool {
        now >= self.until || (self.waiting.is_empty() && !self.blind)
    }
}

#[derive(Debug, Default)]
struct State {
    hold: Option<Hold>,
    peers: Vec<NodeId>,
}

/// Holds back queued exports after a reconnect until the other nodes are subscribed again.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: AtomicBool,
    state: Mutex<State>,
    changed: Notify,
    greeted: Notify,
}

impl Gate {
    /// The connection is lost.
    pub(super) fn shut(&self) {
        self.open.store(false, Ordering::Release);
        self.state.lock().hold = None;
    }

    /// There is a connection again, after it was away since then: these peers are waited for.
    pub(super) fn hold(&self, session: u64, peers: Vec<NodeId>, away_since: Timestamp, now: Timestamp) {
        // The connection before it may have been lost since its state was looked at.
        self.open.store(false, Ordering::Release);
        let blind = peers.is_empty() && now.duration_since(away_since) > MOMENT;
        let until = now.checked_add(LONGEST).unwrap_or(now);
        self.state.lock().hold = Some(Hold { session, waiting: peers.into_iter().collect(), blind, until });
        self.look(now);
    }

    /// A node was heard over this connection.
    pub(super) fn heard(&self, session: u64, node: NodeId, now: Timestamp) {
        if self.is_open() {
            return;
        }
        if let Some(hold) = self.state.lock().hold.as_mut().filter(|hold| hold.session == session) {
            hold.waiting.remove(&node);
        }
        self.look(now);
    }

    /// Nobody waits for a node any more.
    pub(super) fn gone(&self, node: NodeId) {
        if let Some(hold) = &mut self.state.lock().hold {
            hold.waiting.remove(&node);
        }
    }

    /// Opens it if there is nobody to wait for any more.
    pub(super) fn look(&self, now: Timestamp) {
        let mut state = self.state.lock();
        if state.hold.as_ref().is_some_and(|hold| hold.is_over(now)) {
            state.hold = None;
            self.open.store(true, Ordering::Release);
            self.changed.notify_one();
        }
    }

    /// Whether what waits may be sent.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until it has opened.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Somebody wants to know whether this node is there.
    pub(super) fn greet(&self) {
        self.greeted.notify_one();
    }

    /// Waits until somebody does.
    pub(super) async fn greeted(&self) {
        self.greeted.notified().await;
    }

    /// These are the nodes that are heard.
    pub(super) fn set_peers(&self, peers: Vec<NodeId>) {
        self.state.lock().peers = peers;
    }

    /// The nodes that are heard.
    pub(super) fn peers(&self) -> HashSet<NodeId> {
        self.state.lock().peers.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn it_opens_when_all_that_were_known_are_heard_over_this_connection() {
        let gate = Gate::default();
        assert!(!gate.is_open(), "never connected");
        gate.hold(2, vec![7, 8], at(0), at(5));
        gate.heard(1, 7, at(5));
        gate.heard(2, 8, at(5));
        gate.heard(2, 9, at(5));
        assert!(!gate.is_open(), "7 was heard over the former connection only");
        gate.heard(2, 7, at(6));
        assert!(gate.is_open());
        gate.shut();
        assert!(!gate.is_open());
        gate.hold(3, vec![7, 8], at(6), at(7));
        gate.heard(3, 7, at(7));
        gate.gone(8);
        gate.look(at(7));
        assert!(gate.is_open(), "8 has said goodbye");
    }

    #[test]
    fn it_opens_in_the_end() {
        let gate = Gate::default();
        gate.hold(1, vec![7], at(0), at(1));
        gate.look(at(10));
        assert!(!gate.is_open());
        gate.look(at(11));
        assert!(gate.is_open());
    }

    #[test]
    fn who_knows_nobody_waits_only_after_an_absence() {
        let gate = Gate::default();
        gate.hold(1, Vec::new(), at(0), at(0));
        assert!(gate.is_open());
        gate.shut();
        gate.hold(2, Vec::new(), at(0), at(5));
        assert!(!gate.is_open());
        gate.look(at(15));
        assert!(gate.is_open());
    }
}
