//! Decides when queued events may be sent after a lost connection: once the other nodes are subscribed again.
//!
//! Core NATS delivers a message only to the subscribers of that moment. If all of NATS was down, the first node to
//! reconnect would publish its queue to nobody. It therefore sends a greeting (a heartbeat that the others answer at
//! once) and holds its queue until it has heard every known node over the new connection, or for [`LONGEST`] at most,
//! which is longer than the longest wait between two connection attempts. A node that knows no others, but was
//! disconnected for more than a moment, waits for the full time, since others may have started meanwhile.
//!
//! Contract: shared by the sending task, which queries the gate, and the receiving task, which knows which nodes it
//! hears. [`Gate::is_open`] is one atomic load. While the gate is shut, events wait in the bounded export queue.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::peers::NodeId;

/// Maximum wait for other nodes: equal to the silence after which a peer counts as lost.
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// Longest disconnection during which no unknown node is assumed to have started.
const MOMENT: Duration = Duration::from_secs(1);

/// The nodes this node waits for before it sends.
#[derive(Debug, PartialEq, Eq)]
struct Hold {
    session: u64,
    waiting: HashSet<NodeId>,
    /// Whether unknown nodes may still appear, so that the full time is waited.
    blind: bool,
    until: Instant,
}

impl Hold {
    fn is_over(&self, now: Instant) -> bool {
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
    /// Closes the gate because the connection is lost.
    pub(super) fn shut(&self) {
        let mut state = self.state.lock();
        // Under the lock, or a concurrent `look` could open the gate afterwards.
        self.open.store(false, Ordering::Release);
        state.hold = None;
    }

    /// Starts to wait for `peers` over a new connection; `away_since` is the time at which the former one was lost.
    pub(super) fn hold(&self, session: u64, peers: Vec<NodeId>, away_since: Instant, now: Instant) {
        let blind = peers.is_empty() && now.saturating_duration_since(away_since) > MOMENT;
        let until = now + LONGEST;
        let mut state = self.state.lock();
        // Under the lock, as in `shut`.
        self.open.store(false, Ordering::Release);
        state.hold = Some(Hold { session, waiting: peers.into_iter().collect(), blind, until });
        drop(state);
        self.look(now);
    }

    /// Records that a node was heard over the connection `session`.
    pub(super) fn heard(&self, session: u64, node: NodeId, now: Instant) {
        if self.is_open() {
            return;
        }
        if let Some(hold) = self.state.lock().hold.as_mut().filter(|hold| hold.session == session) {
            hold.waiting.remove(&node);
        }
        self.look(now);
    }

    /// Stops waiting for a node that has ended or fallen silent.
    pub(super) fn gone(&self, node: NodeId) {
        if let Some(hold) = &mut self.state.lock().hold {
            hold.waiting.remove(&node);
        }
    }

    /// Opens the gate if there is no node left to wait for.
    pub(super) fn look(&self, now: Instant) {
        let mut state = self.state.lock();
        if state.hold.as_ref().is_some_and(|hold| hold.is_over(now)) {
            state.hold = None;
            self.open.store(true, Ordering::Release);
            self.changed.notify_one();
        }
    }

    /// Returns whether queued events may be sent.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until the gate has opened.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Records that another node sent a greeting and expects a heartbeat.
    pub(super) fn greet(&self) {
        self.greeted.notify_one();
    }

    /// Waits until another node sends a greeting.
    pub(super) async fn greeted(&self) {
        self.greeted.notified().await;
    }

    /// Sets the nodes that are currently heard.
    pub(super) fn set_peers(&self, peers: Vec<NodeId>) {
        self.state.lock().peers = peers;
    }

    /// Returns the nodes that are currently heard.
    pub(super) fn peers(&self) -> HashSet<NodeId> {
        self.state.lock().peers.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::simulated;

    fn at(seconds: i64) -> Instant {
        simulated::at(seconds).instant
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
    fn once_shut_it_is_not_opened_by_who_was_just_looking() {
        let (gate, is_over, mut opened) = (Gate::default(), AtomicBool::new(false), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    gate.look(at(20));
                }
            });
            for _ in 0..200_000 {
                gate.hold(1, vec![7], at(0), at(1));
                gate.shut();
                opened += u32::from(gate.is_open());
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(opened, 0);
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
