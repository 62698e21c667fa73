//! A record of the events of a run: where each began, and why it may be missing.
//!
//! Contract: an event has a cause to be missing only if it is in `lost`, `unsent` or `long`. The steps fill the record
//! at the moment of each loss, and the judge only reads it, because nodes that are gone can no longer be inspected.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use super::node::{Link, Name};
use crate::cluster::peers::NodeId;
use crate::simulation::random::Random;

#[derive(Debug, Default)]
pub(super) struct Record {
    /// The events of all nodes, including those that are gone.
    pub(super) own: BTreeMap<NodeId, Vec<Name>>,
    /// Events that have a cause to be missing: the receiver, the sender, and the number.
    pub(super) lost: HashSet<(NodeId, NodeId, u64)>,
    /// Events that never left their node: the node and the number.
    pub(super) unsent: HashSet<(NodeId, u64)>,
    /// The events that the endpoint has sent. It repeats only events from `floor` on, because a new link cannot know
    /// what the endpoint sent before.
    pub(super) sent: Vec<u64>,
    floor: usize,
    /// Posted events that are not sent because they are too long.
    pub(super) long: HashSet<u64>,
    posted: u64,
}

impl Record {
    /// Returns the number of a new posted event.
    pub(super) fn post(&mut self) -> u64 {
        self.posted += 1;
        self.posted - 1
    }

    /// Makes the endpoint send an event, sometimes one that it has sent before.
    pub(super) fn send(&mut self, random: &mut Random) {
        let known = self.sent.len() - self.floor;
        let again = (known > 0 && random.percent(30)).then(|| self.sent[self.floor + random.below(known)]);
        self.sent.push(again.unwrap_or(self.sent.len() as u64));
    }

    /// Returns a new link, which reads what the endpoint sends from now on.
    pub(super) fn link(&mut self, waits: Option<Instant>) -> Link {
        self.floor = self.sent.len();
        Link { next: self.floor, first: self.floor, waits }
    }
}
