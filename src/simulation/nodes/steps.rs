//! What nodes, the server and posting clients do in a step of a run that works as it should.
//!
//! Contract: a step for a random node draws its random numbers and then calls a function that ends in `_at`, which
//! draws none. Other steps and the passing of time call these too. Every event that is left out on its way is recorded
//! here, at the moment when it happens, so that the judge knows the cause.

use std::time::{Duration, Instant};

use super::connections::MAX_PAYLOAD;
use super::node::{Name, Node};
use super::world::World;
use crate::clock;
use crate::event::Event;
use crate::metrics::Source;

/// The length of an object whose event exceeds the server's maximum, in bytes.
const TOO_LONG: usize = 5000;
const _: () = assert!(TOO_LONG > MAX_PAYLOAD);

/// Longest delay of a message in a run without failures, in ms. Shorter than nodes wait for what others had first.
const DELAY: usize = 1_000;

/// Maximum number of seconds that a node holds its queue for other nodes after it has connected.
const HOLD: u64 = 10;

impl World {
    pub(super) fn post(&mut self) {
        let Some(at) = self.any() else { return };
        let is_large = self.random.percent(10);
        let count = if is_large { self.random.between(20, 60) } else { self.random.between(1, 4) };
        let events = (0..count).map(|_| self.draft()).collect();
        let before = self.nodes[at].exported();
        let is_accepted = self.nodes[at].broker.publish(events, Source::Post).is_ok();
        self.left_out(at, before);
        self.trace.note(format!("{count} posted at {}: {is_accepted}", self.nodes[at].id));
    }

    /// Returns a new event, which may be too long if something may fail.
    fn draft(&mut self) -> Event {
        let number = self.record.post();
        let is_long = !self.settings.is_fair && self.random.percent(1);
        let padding = if is_long { TOO_LONG } else { self.random.below(60) };
        if is_long {
            self.record.long.insert(number);
        }
        Name::Posted(number).event(padding)
    }

    /// Records the events that had no room in the queue to other nodes: a whole batch, or none. `before` is what
    /// [`Node::exported`] returned before the batch.
    fn left_out(&mut self, at: usize, before: (u64, u64)) {
        let ((lost, first), node) = (before, &self.nodes[at]);
        let (lost_now, end) = node.exported();
        if lost_now > lost {
            assert_eq!(lost_now - lost, end - first, "a batch is left out as a whole");
            self.record.unsent.extend((first..end).map(|number| (node.id, number)));
        }
    }

    pub(super) fn follow(&mut self) {
        let Some(at) = self.any() else { return };
        let most = self.random.between(1, 4);
        self.follow_at(at, most);
    }

    pub(super) fn follow_at(&mut self, at: usize, most: usize) {
        let before = self.nodes[at].exported();
        self.nodes[at].follow(&self.record.sent, most);
        self.left_out(at, before);
    }

    pub(super) fn write(&mut self) {
        let Some(at) = self.any() else { return };
        self.write_at(at);
    }

    /// Makes a node write what is due. If the node finds its server silent, the connection is cut.
    pub(super) fn write_at(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.is_connected {
            return;
        }
        match node.member.write() {
            Some(bytes) => self.bus.write(node.id, bytes),
            None => self.cut(at),
        }
    }

    pub(super) fn serve(&mut self) {
        let Some(at) = self.any() else { return };
        let most = self.random.between(1, 10);
        self.serve_at(at, most);
    }

    /// Makes the server process up to `most` operations of a node. Records the nodes that an event does not reach.
    pub(super) fn serve_at(&mut self, at: usize, most: usize) {
        let (id, now) = (self.nodes[at].id, clock::instant());
        let served = self.bus.serve(id, most);
        self.cut_slow();
        for forwarded in served.into_iter().filter(|forwarded| forwarded.is_event) {
            for node in self.nodes.iter().filter(|node| node.id != id && !forwarded.to.contains(&node.id)) {
                self.record.lost.insert((node.id, forwarded.from, forwarded.number));
                check_hold(&self.nodes[at], node, forwarded.number, now);
            }
        }
    }

    pub(super) fn deliver(&mut self) {
        let Some(at) = self.any() else { return };
        let most = self.random.between(1, 20);
        self.deliver_at(at, most);
    }

    pub(super) fn deliver_at(&mut self, at: usize, most: usize) {
        let (node, now) = (&mut self.nodes[at], clock::instant());
        for _ in 0..most {
            let Some(op) = self.bus.deliver(node.id, now) else { break };
            node.hear(op, self.settings.pending);
        }
    }

    /// Makes what one node sends to another arrive late.
    pub(super) fn delay(&mut self) {
        let (Some(from), Some(to)) = (self.any(), self.any()) else { return };
        let longest = if self.settings.is_fair { DELAY } else { self.random.pick(&[DELAY, 5 * DELAY]) };
        let millis = self.random.between(1, longest);
        let until = clock::instant() + Duration::from_millis(millis as u64);
        let [from, to] = [from, to].map(|at| self.nodes[at].id);
        self.bus.delay(from, to, until);
        self.trace.note(format!("what {from} sends to {to} is late by {millis} ms"));
    }

    pub(super) fn drain_one(&mut self) {
        let Some(at) = self.any() else { return };
        self.nodes[at].drain();
    }
}

/// Checks that a node does not send an event while it has to wait for `missing` to come back.
fn check_hold(from: &Node, missing: &Node, number: u64, now: Instant) {
    let is_held = from.knew.contains(&missing.id)
        && missing.disconnected <= from.connected
        && now.saturating_duration_since(from.connected).as_secs() < HOLD;
    let is_allowed = !is_held || from.is_stopping;
    assert!(is_allowed, "{} sends event {number} although {} has not come back", from.id, missing.id);
}
