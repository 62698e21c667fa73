//! Compares what nodes have delivered and reported with what they have heard and what was lost.

use std::collections::{HashMap, HashSet};

use super::node::{Entry, Name, Node, Track};
use super::world::World;
use crate::cluster::peers::NodeId;

pub(super) fn judge(world: &mut World) {
    for at in 0..world.nodes.len() {
        let node = &mut world.nodes[at];
        assert!(node.member.may_send(), "{} still holds its queue", node.id);
        assert_eq!(node.member.unsent(), 0, "{} has everything sent", node.id);
        let entries = std::mem::take(&mut node.log.lock().entries);
        let judge = Judge { world: &*world, node: &world.nodes[at], entries: &entries };
        judge.posted();
        judge.of_endpoint();
        judge.losses();
        judge.told();
        if world.settings.is_fair {
            judge.fair();
        }
    }
}

struct Judge<'j> {
    world: &'j World,
    node: &'j Node,
    entries: &'j [Entry],
}

impl Judge<'_> {
    fn names(&self) -> impl Iterator<Item = Name> {
        self.entries.iter().filter_map(|entry| if let Entry::Event(name) = entry { Some(*name) } else { None })
    }

    /// Returns everything that was heard of each node, including nodes that are gone.
    fn tracks(&self) -> impl Iterator<Item = (NodeId, &Track)> {
        let finished = self.node.finished.iter().map(|(id, track)| (*id, track));
        self.node.tracks.iter().map(|(id, track)| (*id, track)).chain(finished)
    }

    /// Returns every event that was heard, also with numbers below the first of its node: such an event was sent again.
    fn heard(&self) -> HashSet<(NodeId, u64)> {
        self.tracks().flat_map(|(from, track)| track.numbers.iter().map(move |number| (from, *number))).collect()
    }

    /// Returns the node and the number of each posted event.
    fn origins(&self) -> HashMap<u64, (NodeId, u64)> {
        let mut origins = HashMap::new();
        for (id, own) in &self.world.record.own {
            for (number, name) in (0..).zip(own) {
                if let Name::Posted(posted) = name {
                    origins.insert(*posted, (*id, number));
                }
            }
        }
        origins
    }

    /// Checks that each heard event is delivered once, in the order of its node unless a loss was reported before.
    fn posted(&self) {
        let (origins, id) = (self.origins(), self.node.id);
        let heard = self.heard();
        let (mut delivered, mut last, mut is_told) = (HashSet::new(), HashMap::<NodeId, u64>::new(), false);
        for entry in self.entries {
            let Entry::Event(Name::Posted(posted)) = entry else {
                is_told |= matches!(entry, Entry::Notice { .. });
                continue;
            };
            let (from, number) = origins[posted];
            assert!(delivered.insert((from, number)), "{id} delivers event {number} of {from} twice");
            assert!(from == id || heard.contains(&(from, number)), "{id} has never heard event {number} of {from}");
            let last = last.entry(from).or_insert(number);
            assert!(*last <= number || is_told, "{id} delivers event {number} of {from} after {last}");
            *last = (*last).max(number);
        }
        let wanted = heard.iter().filter(|(from, number)| {
            matches!(self.world.record.own[from][usize::try_from(*number).unwrap()], Name::Posted(_))
        });
        // What comes long after its loss was told stays lost.
        let may_miss = |(from, number): &(NodeId, u64)| self.world.record.lost.contains(&(id, *from, *number));
        let missing: Vec<_> = wanted.filter(|event| !delivered.contains(*event) && !may_miss(event)).collect();
        assert!(missing.is_empty() || self.node.may_drop, "{id} has heard and not delivered {missing:?}");
    }

    /// Checks that an event of the endpoint never comes more often than the endpoint has sent it, and at least as often
    /// as the endpoint has sent it while this node had a link.
    fn of_endpoint(&self) {
        let id = self.node.id;
        let of_endpoint = |name| if let Name::Endpoint(number) = name { Some(number) } else { None };
        let delivered = counts(self.names().filter_map(of_endpoint));
        let sent = counts(self.world.record.sent.iter().copied());
        for (number, count) in &delivered {
            assert!(*count <= sent[number], "{id} delivers endpoint's event {number} {count} times");
        }
        let Some(link) = &self.node.link else { return };
        assert_eq!(link.next, self.world.record.sent.len(), "{id} has read its link to the end");
        for (number, count) in counts(self.world.record.sent[link.first..].iter().copied()) {
            let has = delivered.get(&number).copied().unwrap_or(0);
            assert!(has >= count, "{id} delivers endpoint's event {number} {has} times of {count}");
        }
    }

    /// Checks that each missing event has a cause.
    fn losses(&self) {
        let id = self.node.id;
        for (from, track) in self.tracks() {
            for number in (track.first..track.next).filter(|number| !track.numbers.contains(number)) {
                let name = self.world.record.own[&from][usize::try_from(number).unwrap()];
                let is_long = matches!(name, Name::Posted(posted) if self.world.record.long.contains(&posted));
                let is_lost = self.world.record.lost.contains(&(id, from, number));
                let is_unsent = self.world.record.unsent.contains(&(from, number));
                assert!(is_long || is_lost || is_unsent, "{id} misses event {number} of {from} for no reason");
            }
        }
        let alive = |id: &NodeId| self.world.nodes.iter().any(|node| node.id == *id);
        for (from, track) in &self.node.tracks {
            assert!(alive(from), "{id} has not told that {from} is gone");
            assert_eq!(track.next, self.world.record.own[from].len() as u64, "{id} knows how far {from} is");
        }
    }

    /// Checks that the number of events reported as missing is correct.
    fn told(&self) {
        let (mut told, mut is_unknown, mut disconnected) = (0, false, 0);
        for entry in self.entries {
            let Entry::Notice { reason, events, .. } = entry else { continue };
            match events {
                Some(events) => told += events,
                None if reason == "disconnected" => disconnected += 1,
                None => is_unknown |= reason != "node lost",
            }
        }
        let id = self.node.id;
        assert!(told <= self.node.broker.metrics().nats.lost()[1], "{id} counts what it tells");
        if is_unknown || self.node.may_drop {
            return;
        }
        let missing =
            |track: &Track| (track.first..track.next).filter(|number| !track.numbers.contains(number)).count();
        let missing = self.tracks().map(|(_, track)| missing(track) as u64).sum::<u64>();
        let jumped: u64 = self.tracks().map(|(_, track)| track.jumped).sum();
        let is_resent = self.tracks().any(|(_, track)| track.is_resent);
        assert!(told >= missing, "{id} tells of {told} missing events, {missing} are");
        assert!(is_resent || (told, missing) == (jumped, jumped), "{id} tells of {told}, {missing} of {jumped} miss");
        assert!(disconnected < self.node.connections, "{id} was not disconnected so often");
        assert!(self.node.breaks == 0 || disconnected > 0, "{id} does not tell that it was disconnected");
    }

    /// Checks a run without failures: each node has all events, and the endpoint's events in one order.
    fn fair(&self) {
        let id = self.node.id;
        let of_endpoint = |name| if let Name::Endpoint(number) = name { Some(number) } else { None };
        let order: Vec<u64> = self.names().filter_map(of_endpoint).collect();
        assert_eq!(order, self.world.record.sent, "{id} delivers the endpoint's events in its order");
        let posted = self.names().filter(|name| matches!(name, Name::Posted(_))).count();
        let all = self.world.record.own.values().flatten().filter(|name| matches!(name, Name::Posted(_))).count();
        assert_eq!(posted, all, "{id} has every event");
    }
}

/// Counts how often each event is in a list.
fn counts(names: impl Iterator<Item = u64>) -> HashMap<u64, usize> {
    let mut counts = HashMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    counts
}
