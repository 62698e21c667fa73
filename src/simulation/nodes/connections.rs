//! Connections between nodes and the server: they are made, stall and break, and the server dies and recovers.
//!
//! Contract: a message in transit to a node whose connection breaks is recorded as lost, with its number, because only
//! the server knows of it. The server closes the connection of a node for which too many messages wait. A node connects
//! only while the server is up.

use super::world::World;
use crate::clock;
use crate::cluster::simulated::read;

/// Maximum length of a message for the server, in bytes.
pub(super) const MAX_PAYLOAD: usize = 4096;

impl World {
    pub(super) fn cut_one(&mut self) {
        let Some(at) = self.any() else { return };
        self.trace.note(format!("the connection of {} breaks", self.nodes[at].id));
        self.cut(at);
    }

    /// Breaks a connection. Messages in transit to the node are lost.
    pub(super) fn cut(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.is_connected {
            return;
        }
        (node.is_connected, node.disconnected) = (false, clock::instant());
        node.breaks += u64::from(node.has_noticed);
        for message in self.bus.cut(node.id) {
            let (from, number, _) = read(&message);
            self.record.lost.insert((node.id, from, number));
        }
        node.member.disconnect();
    }

    /// Breaks the connections that the server has closed because too many messages waited.
    pub(super) fn cut_slow(&mut self) {
        for id in self.bus.take_slow() {
            self.trace.note(format!("the server closes the slow connection of {id}"));
            let at = self.nodes.iter().position(|node| node.id == id).expect("a node is connected");
            self.cut(at);
        }
    }

    pub(super) fn connect(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.is_connected || !self.is_up {
            return;
        }
        node.knew = node.member.known();
        self.bus.connect(node.id);
        node.member.connect(MAX_PAYLOAD);
        (node.is_connected, node.connected) = (true, clock::instant());
        node.connections += 1;
        node.has_noticed = false;
    }

    pub(super) fn stall(&mut self) {
        let Some(at) = self.any() else { return };
        self.trace.note(format!("the connection of {} stalls", self.nodes[at].id));
        self.bus.stall(self.nodes[at].id);
    }

    /// Kills the server.
    pub(super) fn fail(&mut self) {
        self.trace.note("the NATS server dies".to_owned());
        self.is_up = false;
        (0..self.nodes.len()).for_each(|at| self.cut(at));
    }

    /// Ends all stalls and delays, and starts the server if it is down.
    pub(super) fn recover(&mut self) {
        self.is_up = true;
        self.bus.recover();
    }
}
