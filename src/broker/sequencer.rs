//! The state under the sequencer's lock, and the work that is done on events before it is taken.
//!
//! Contract: everything here runs under the lock, in the order of the events, so it must be short: numbers,
//! watermarks, duplicates, and putting a batch into queues.

use std::sync::Arc;

use jiff::Timestamp;

use super::dedup::{Digest, Duplicates, RepeatIndex};
use super::export::Egress;
use super::followers::Followers;
use super::history;
use super::inbox::{Batch, InboxSender};
use super::origin::{NodeId, Origin, Trace, Watermarks};
use crate::event::Event;
use crate::metrics::Source;

#[derive(Debug, Default)]
pub(super) struct Sequencer {
    pub(super) next: u64,
    pub(super) inboxes: Vec<InboxSender>,
    pub(super) stopped: bool,
    /// The way to other nodes.
    pub(super) egress: Option<Egress>,
    /// Only where other nodes may take the same events in.
    pub(super) duplicates: Option<Duplicates>,
    /// Who else follows endpoints.
    pub(super) followers: Followers,
    /// How far the events of each node were taken in.
    pub(super) watermarks: Watermarks,
    /// When events of other nodes were missing last.
    pub(super) loss_mark: Option<LossMark>,
}

/// A moment up to which this node may lack events that other nodes took in.
#[derive(Debug, Clone, Copy)]
pub(super) struct LossMark {
    /// The number of the next event then.
    pub(super) sequence: u64,
    pub(super) time: Timestamp,
}

impl Sequencer {
    /// Notes how far the nodes are whose events these are, copies included.
    pub(super) fn note_origins(&mut self, intake: &Intake<'_>, now: Timestamp) {
        for Origin { node, number } in intake.origins.iter().flatten() {
            self.watermarks.note(*node, number + 1, now);
        }
        if let Some((Ways::Foreign(_), _)) = intake.ways {
            intake.origins.iter().flatten().for_each(|origin| self.followers.note(*origin));
        }
    }

    /// What is known of events that go between nodes, or came from one.
    pub(super) fn traces(
        &self,
        count: usize,
        intake: &Intake<'_>,
        repeat_indexes: Option<&[RepeatIndex]>,
        node: NodeId,
    ) -> Vec<Option<Trace>> {
        let repeat_index = |at: usize| repeat_indexes.map(|repeat_indexes| repeat_indexes[at]);
        let trace = |(at, origin): (usize, Option<Origin>)| {
            origin.map(|origin| Trace { origin, repeat_index: repeat_index(at) })
        };
        match self.egress.as_ref().filter(|_| intake.source.leaves_the_node()) {
            Some(egress) => {
                let numbers = (egress.next_number()..).take(count);
                numbers.map(|number| Some(Origin { node, number })).enumerate().map(trace).collect()
            }
            None => intake.origins.iter().copied().enumerate().map(trace).collect(),
        }
    }

    /// Leaves the events that have not come another way, and tells their repeat indexes.
    pub(super) fn drop_duplicates(
        &mut self,
        events: &mut Vec<Event>,
        intake: &mut Intake<'_>,
    ) -> Option<Box<[RepeatIndex]>> {
        let (Some(duplicates), Some((ways, digests))) = (&mut self.duplicates, &intake.ways) else { return None };
        let admit = |(at, digest): (usize, &Digest)| match ways {
            Ways::Own => duplicates.own(*digest),
            Ways::Foreign(repeat_indexes) => {
                let repeat_index = repeat_indexes[at];
                duplicates.foreign(*digest, repeat_index).then_some(repeat_index)
            }
        };
        let admitted: Vec<Option<RepeatIndex>> = digests.iter().enumerate().map(admit).collect();
        if admitted.contains(&None) {
            let mut new = admitted.iter();
            events.retain(|_| new.next().is_none_or(Option::is_some));
            intake.times.keep(|at| admitted[at].is_some());
            let mut new = admitted.iter();
            intake.origins.retain(|_| new.next().is_none_or(Option::is_some));
            intake.bytes = events.iter().map(|event| event.frame().len()).sum();
        }
        Some(admitted.into_iter().flatten().collect())
    }

    /// Puts a batch into every inbox and on its way to other nodes. Returns how many events these do not get.
    pub(super) fn dispatch(
        &mut self,
        batch: &Arc<Batch>,
        source: Source,
        repeat_indexes: Option<Box<[RepeatIndex]>>,
    ) -> u64 {
        for inbox_sender in &self.inboxes {
            if !inbox_sender.push(Arc::clone(batch)) {
                tracing::error!("a shard is gone; its connections get no more events");
            }
        }
        let Some(egress) = self.egress.as_ref().filter(|_| source.leaves_the_node()) else { return 0 };
        let after = if source.is_shared() { self.followers.untold() } else { Vec::new() };
        let lost = egress.push(batch, repeat_indexes, after);
        if lost == 0 && source.is_shared() {
            self.followers.told();
        }
        lost
    }
}

/// What is known about events before the lock is taken.
pub(super) struct Intake<'a> {
    pub(super) source: Source,
    pub(super) bytes: usize,
    pub(super) times: history::Times,
    pub(super) ways: Option<(Ways<'a>, Vec<Digest>)>,
    /// Where events of other nodes are from, one for each; empty for those of this node.
    pub(super) origins: Vec<Option<Origin>>,
}

/// What other nodes say of their events; for each event one, or none at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrivals<'a> {
    /// Where each is from; nothing for what this node tells of the others.
    pub origins: &'a [Option<Origin>],
    /// Which repeat index each is, if this node may follow their endpoint too.
    pub repeat_indexes: &'a [RepeatIndex],
}

/// A moment of the sequencer.
#[derive(Debug, Clone)]
pub struct Frontier {
    /// The number of the next event.
    pub sequence: u64,
    /// How far the events of each node were taken in before it, this node's own that it passes on included.
    pub watermarks: Watermarks,
}

/// How events came that may come another way too.
pub(super) enum Ways<'a> {
    /// From the endpoint.
    Own,
    /// From another node, each with its repeat index.
    Foreign(&'a [RepeatIndex]),
}
