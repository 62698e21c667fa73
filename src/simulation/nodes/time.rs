//! Time passes in slices, and a run comes to rest.
//!
//! Contract: in each slice every node does what is due, so that timeouts happen when they would on a real clock. At
//! rest all failures have ended, and enough time has passed for every queue to empty and every notice to be written.

use std::time::Duration;

use jiff::SignedDuration;

use super::world::World;
use crate::clock::simulated;

/// The time between two checks of a node.
const LOOK: Duration = Duration::from_millis(200);

impl World {
    /// Lets a random time pass.
    pub(super) fn pass_some(&mut self) {
        if self.random.percent(10) {
            self.set_clock();
        }
        let most = self.random.pick(&[100, 500, 3_000]);
        let millis = self.random.between(1, most) as u64;
        self.pass(millis);
    }

    /// Sets the wall clock of all nodes, by up to an hour in either direction.
    fn set_clock(&mut self) {
        let seconds = i64::try_from(self.random.below(7_200)).unwrap() - 3_600;
        simulated::set_wall(SignedDuration::from_secs(seconds));
        self.trace.note(format!("the clock is off by {seconds} s"));
    }

    /// Lets time pass. All nodes do what is due.
    pub(super) fn pass(&mut self, millis: u64) {
        self.pass_in(millis, LOOK);
    }

    fn pass_in(&mut self, millis: u64, slice: Duration) {
        let mut left = Duration::from_millis(millis);
        while !left.is_zero() {
            let slice = left.min(slice);
            left -= slice;
            simulated::pass(slice);
            self.slice();
        }
        self.trace.note(format!("{millis} ms pass"));
    }

    fn slice(&mut self) {
        for at in 0..self.nodes.len() {
            if !self.nodes[at].is_connected && self.random.percent(30) {
                self.connect(at);
            }
            if self.random.percent(2) {
                self.bus.ping(self.nodes[at].id);
            }
            self.write_at(at);
            self.serve_at(at, usize::MAX);
        }
        for at in 0..self.nodes.len() {
            self.deliver_at(at, usize::MAX);
            self.tend(at);
            self.nodes[at].drain();
        }
    }

    /// Ends all failures and lets the run come to rest. Queues are held for up to 10 s; when their events come, inboxes
    /// may be full, and no node is reported as lost within 10 s after that.
    pub(super) fn rest(&mut self) {
        self.recover();
        self.bus.lift_limit();
        (0..self.nodes.len()).for_each(|at| self.connect(at));
        for millis in [4_000, 4_000, 4_000, 12_000] {
            (0..self.nodes.len()).for_each(|at| self.follow_at(at, usize::MAX));
            self.pass_in(millis, 2 * LOOK);
        }
        for node in &self.nodes {
            let own = node.log.lock().own.clone();
            self.record.own.insert(node.id, own);
        }
    }
}
