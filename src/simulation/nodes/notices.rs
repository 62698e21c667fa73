//! A node sequences what it has received, and its new notices are checked.
//!
//! Contract: a node that is reported as lost has been silent for [`SILENCE`] seconds, and a run without failures has no
//! notice at all. Notices are checked at once and not by the judge at the end, because the result depends on the time.

use std::time::{Duration, Instant};

use super::node::{Entry, Node};
use super::world::World;
use crate::broker::inbox::Inbox;
use crate::clock;
use crate::cluster::peers::NodeId;

/// Seconds after which a silent node is reported as lost.
const SILENCE: u64 = 10;

/// The number of notices that a node reports at once and one by one.
const NOTICES: usize = 30;

impl World {
    pub(super) fn tend_one(&mut self) {
        let Some(at) = self.any() else { return };
        self.tend(at);
    }

    /// Makes a node sequence what it has received and check its links, while its shard drains the inbox.
    pub(super) fn tend(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        self.runtime.block_on(sequence(node));
        node.received();
        node.has_noticed |= node.is_connected;
        self.hear_notices(at);
    }

    fn hear_notices(&mut self, at: usize) {
        let (now, node) = (clock::instant(), &mut self.nodes[at]);
        for entry in node.new_entries() {
            let Entry::Notice { reason, node: about, .. } = &entry else { continue };
            assert!(!self.settings.is_fair, "nothing has failed: {entry:?}");
            self.trace.digest ^= reason.len() as u64;
            node.hear_notice(reason, *about, now);
        }
    }
}

async fn sequence(node: &mut Node) {
    let Node { member, inbox, .. } = node;
    let work = async {
        member.receive().await;
        member.look().await;
    };
    tokio::select! {
        biased;
        () = work => {}
        () = drain(inbox) => {}
    }
}

/// Drains an inbox again and again, as a shard does. Never returns.
async fn drain(inbox: &Inbox) {
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        while inbox.next().is_some() {}
    }
}

impl Node {
    /// Returns the log entries that have not been checked yet.
    fn new_entries(&mut self) -> Vec<Entry> {
        let new = self.log.lock().entries[self.looked..].to_vec();
        self.looked += new.len();
        new
    }

    fn hear_notice(&mut self, reason: &str, about: Option<NodeId>, now: Instant) {
        self.notices += 1;
        match about {
            Some(about) if reason == "node lost" => self.hear_loss(about, now),
            None if reason != "disconnected" => self.finish_silent(now),
            _ => {}
        }
    }

    /// Checks that a node that is reported as lost was silent.
    fn hear_loss(&mut self, about: NodeId, now: Instant) {
        // Many notices are told late, or several as one.
        let is_exact = self.notices <= NOTICES && !self.may_drop;
        let silence = self.tracks.get(&about).map(|track| now.saturating_duration_since(track.heard).as_secs());
        let is_silent = silence.is_some_and(|silence| silence >= SILENCE);
        assert!(is_silent || !is_exact, "{about} is said to be lost: heard {silence:?} s ago");
        self.finish(about);
    }

    /// Finishes every silent node, because a notice that stands for several may be about it.
    fn finish_silent(&mut self, now: Instant) {
        let is_silent = |heard: Instant| now.saturating_duration_since(heard).as_secs() >= SILENCE;
        let silent = self.tracks.iter().filter(|(_, track)| is_silent(track.heard));
        let silent: Vec<NodeId> = silent.map(|(id, _)| *id).collect();
        silent.into_iter().for_each(|id| self.finish(id));
    }
}
