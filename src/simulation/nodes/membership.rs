//! Nodes join, die and shut down gracefully.
//!
//! Contract: a node that dies takes what the server has not received with it, and a node that shuts down sends
//! everything first if there is a server. The events of nodes that are gone stay in the record, because the others may
//! still deliver them. One node always remains.

use super::node::Node;
use super::world::World;
use crate::clock;

impl World {
    /// Kills a node.
    pub(super) fn kill(&mut self) {
        let Some(at) = self.any_to_lose() else { return };
        self.trace.note(format!("{} dies", self.nodes[at].id));
        self.gone(at);
    }

    /// Shuts a node down gracefully: it sends everything that it has accepted, if there is a server.
    pub(super) fn end(&mut self) {
        let Some(at) = self.any_to_lose() else { return };
        self.trace.note(format!("{} ends", self.nodes[at].id));
        let node = &mut self.nodes[at];
        node.broker.stop();
        node.member.stop();
        node.is_stopping = true;
        for _ in 0..100 {
            self.write_at(at);
            self.serve_at(at, usize::MAX);
            self.deliver_at(at, usize::MAX);
        }
        self.say_goodbye(at);
        self.gone(at);
    }

    /// Picks a node, unless it is the only one.
    fn any_to_lose(&mut self) -> Option<usize> {
        (self.nodes.len() >= 2).then(|| self.random.below(self.nodes.len()))
    }

    fn say_goodbye(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.is_connected && node.member.unsent() == 0 {
            let bytes = node.member.goodbye();
            self.bus.write(node.id, bytes);
            self.serve_at(at, usize::MAX);
        }
    }

    fn gone(&mut self, at: usize) {
        let node = self.nodes.remove(at);
        self.bus.cut(node.id);
        let own = std::mem::take(&mut node.log.lock().own);
        // What the server has not had is lost with it.
        let never = (0..own.len() as u64).filter(|number| !self.bus.seen.contains(&(node.id, *number)));
        self.record.unsent.extend(never.map(|number| (node.id, number)));
        self.record.own.insert(node.id, own);
    }

    /// Adds a node without state, if one is missing.
    pub(super) fn rejoin(&mut self) {
        if self.nodes.len() < self.settings.nodes {
            let follows = self.random.percent(50);
            self.join(follows);
        }
    }

    pub(super) fn join(&mut self, follows: bool) {
        self.joined += 1;
        let waits = (self.joined > self.settings.nodes as u64).then(clock::instant);
        let link = follows.then(|| self.record.link(waits));
        self.nodes.push(Node::new(self.joined, &self.settings, link, &self.texts));
        self.connect(self.nodes.len() - 1);
        self.trace.note(format!("{} joins", self.joined));
    }
}
