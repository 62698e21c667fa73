//! The state under the sequencer's lock, and data that is computed about events before the lock is taken.
//!
//! Contract: everything here runs under the lock, in the order of the events, so it must be short: numbers, watermarks,
//! duplicates, and putting a batch into queues.

use std::sync::Arc;

use jiff::Timestamp;

use super::dedup::{Digest, Duplicates, RepeatIndex};
use super::export::Egress;
use super::followers::Followers;
use super::history;
use super::inbox::{Batch, InboxSender};
use super::origin::{NodeId, Origin, Trace, Watermarks};
use crate::clock::ClockReading;
use crate::event::Event;
use crate::metrics::Source;

#[derive(Debug, Default)]
pub(super) struct Sequencer {
    pub(super) next: u64,
    pub(super) inboxes: Vec<InboxSender>,
    pub(super) stopped: bool,
    /// The queue to other nodes.
    pub(super) egress: Option<Egress>,
    /// Present only if other nodes may receive the same events.
    pub(super) duplicates: Option<Duplicates>,
    /// The other nodes that follow endpoints.
    pub(super) followers: Followers,
    /// How far the events of each node were accepted.
    pub(super) watermarks: Watermarks,
    /// How far the events of this node itself were published, once there is one.
    pub(super) published: Option<Published>,
    /// The last time at which events of other nodes were missing.
    pub(super) loss_mark: Option<LossMark>,
}

/// A moment up to which this node may lack events that other nodes accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct LossMark {
    /// The number of the next event at that moment.
    pub(super) sequence: u64,
    pub(super) time: Timestamp,
}

/// How far this node has got with its own events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published {
    /// The number of the next one.
    pub(super) next: u64,
    /// When the last one was accepted.
    pub(super) moved: Timestamp,
}

impl Sequencer {
    /// Records the progress of the nodes that published these events, including duplicates.
    pub(super) fn note_origins(&mut self, intake: &Intake<'_>, now: ClockReading) {
        for Origin { node, number } in intake.origins.iter().flatten() {
            self.watermarks.note(*node, number + 1, now);
        }
        if let Some((Ways::Foreign(_), _)) = intake.ways {
            intake.origins.iter().flatten().for_each(|origin| self.followers.note(*origin));
        }
    }

    /// Returns the traces of events that nodes share.
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

    /// Removes events that have already arrived another way, and returns the repeat indexes of the others.
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

    /// Queues a batch for every shard and for other nodes. Returns the number of events that other nodes do not get.
    pub(super) fn dispatch(
        &mut self,
        batch: &Arc<Batch>,
        source: Source,
        repeat_indexes: Option<Box<[RepeatIndex]>>,
        now: Timestamp,
    ) -> u64 {
        for inbox_sender in &self.inboxes {
            if !inbox_sender.push(Arc::clone(batch)) {
                tracing::error!("bug: a shard has ended; its connections receive no more events");
            }
        }
        let Some(egress) = self.egress.as_ref().filter(|_| source.leaves_the_node()) else { return 0 };
        let after = if source.is_shared() { self.followers.untold() } else { Vec::new() };
        let lost = egress.push(batch, repeat_indexes, after);
        self.published = Some(Published { next: egress.next_number(), moved: now });
        if lost == 0 && source.is_shared() {
            self.followers.told();
        }
        lost
    }
}

/// Data about events, collected before the lock is taken.
pub(super) struct Intake<'a> {
    pub(super) source: Source,
    pub(super) bytes: usize,
    pub(super) times: history::Times,
    pub(super) ways: Option<(Ways<'a>, Vec<Digest>)>,
    /// The origin of each event of another node; empty for events of this node.
    pub(super) origins: Vec<Option<Origin>>,
}

/// Data that other nodes send with their events: one item per event, or none at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrivals<'a> {
    /// The origin of each event; `None` for this node's own notices about others.
    pub origins: &'a [Option<Origin>],
    /// The repeat index of each event, if this node may follow the endpoint too.
    pub repeat_indexes: &'a [RepeatIndex],
}

/// The state of the sequencer at one moment.
#[derive(Debug, Clone)]
pub struct Frontier {
    /// The number of the next event.
    pub sequence: u64,
    /// How far each node's events were accepted before it, including those that this node itself published.
    pub watermarks: Watermarks,
}

/// How events arrived that may also arrive another way.
pub(super) enum Ways<'a> {
    /// From the endpoint.
    Own,
    /// From another node, each with its repeat index.
    Foreign(&'a [RepeatIndex]),
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::broker::Broker;
    use crate::broker::export::{ExportLimits, Exports};
    use crate::broker::history::{History, HistoryLimits, Since};
    use crate::clock::{self, simulated};
    use crate::event::Draft;
    use crate::metrics::Metrics;

    /// Returns a broker that shares its events, of which so many batches may wait.
    fn sharing(batches: usize) -> (Broker, Exports) {
        simulated::begin();
        let history = History::new(HistoryLimits { events: 10, bytes: 1 << 20 }, 1, clock::now());
        let broker = Broker::new(Arc::new(Metrics::new()), clock::instant(), history);
        let exports = broker.share(ExportLimits { batches, bytes: 1 << 20 }, 10);
        (broker, exports)
    }

    fn event(key: &str, time: Timestamp) -> Event {
        Draft::new("machines", "update", key).seal(time)
    }

    /// Another node that follows the same endpoint sends events, numbered from `first`.
    fn hear(broker: &Broker, node: NodeId, first: u64, events: Vec<Event>) {
        let origins: Vec<_> = (first..).take(events.len()).map(|number| Some(Origin { node, number })).collect();
        let arrivals = Arrivals { origins: &origins, repeat_indexes: &vec![1; events.len()] };
        broker.publish_foreign(events, Source::Nats, arrivals).unwrap();
    }

    #[test]
    fn what_comes_with_a_duplicate_keeps_its_own_origin_time_and_length() {
        let (broker, _exports) = sharing(10);
        let observed = Arc::<Mutex<Vec<_>>>::default();
        let noted = Arc::clone(&observed);
        broker.observe(move |event, _, trace| {
            noted.lock().push((event.key().to_owned(), trace.map(|trace| (trace.origin.node, trace.origin.number))));
        });
        let [long_ago, ahead] = [-100, 50].map(|seconds| clock::now() + jiff::SignedDuration::from_secs(seconds));
        hear(&broker, 7, 0, vec![event("a", long_ago)]);
        let bytes = || broker.metrics().event_bytes.get();
        let before = bytes();
        let b = event("b", ahead);
        let length = b.frame().len() as u64;
        hear(&broker, 8, 4, vec![event("a", long_ago), b]);
        let expected = [("a".to_owned(), Some((7, 0))), ("b".to_owned(), Some((8, 5)))];
        assert_eq!(observed.lock()[..], expected);
        let start = broker.history().resolve(Since::Time(ahead), "x", clock::now()).unwrap();
        assert_eq!((start.sequence, start.gap), (1, None), "it is found by its Time");
        assert_eq!(bytes() - before, length);
    }

    #[test]
    fn how_far_the_others_were_is_told_with_the_first_event_of_the_endpoint_that_gets_away() {
        let (broker, mut exports) = sharing(1);
        hear(&broker, 7, 3, vec![event("a", clock::now())]);
        let publish = |key, source| broker.publish(vec![event(key, clock::now())], source).unwrap();
        let mut next = || exports.ready().map(|export| export.after);
        publish("b", Source::Post);
        assert_eq!(next(), Some(Vec::new()), "a post waits for nobody");
        publish("c", Source::Post);
        publish("d", Source::Upstream);
        assert_eq!((next(), next()), (Some(Vec::new()), None), "the second found no room");
        publish("e", Source::Upstream);
        assert_eq!(next(), Some(vec![(7, 4)]));
        publish("f", Source::Upstream);
        assert_eq!(next(), Some(Vec::new()), "once");
    }
}
