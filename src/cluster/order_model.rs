//! A model of three or four nodes, two or three of which follow one endpoint, over links of random speed that
//! disconnect and reconnect and a network with random delays. All deliver the endpoint's events in order, repetitions
//! included.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::broker::dedup::RepeatIndex;
use crate::broker::export::{ExportLimits, Exports};
use crate::broker::history::{History, HistoryLimits};
use crate::broker::inbox::{Inbox, InboxLimits, inbox};
use crate::broker::origin::Origin;
use crate::broker::{Arrivals, Broker};
use crate::clock;
use crate::cluster::peers::Peers;
use crate::event::{Draft, Event};
use crate::metrics::{Metrics, Source};

/// A message between nodes.
#[derive(Debug, Clone)]
struct Passed {
    number: u64,
    after: After,
    repeat_index: RepeatIndex,
    key: u64,
}

/// A link to the endpoint.
#[derive(Debug, Default)]
struct Link {
    /// Index of the next event that it delivers.
    next: usize,
    /// Whether its first event has yet to be published.
    begins: bool,
}

struct Node {
    broker: Broker,
    inbox: Inbox,
    exports: Exports,
    peers: Peers,
    order: Order<(usize, Passed)>,
    link: Option<Link>,
    passed: Vec<Passed>,
    /// For each other node, the number of its messages received so far.
    heard: Vec<usize>,
    delivered: Vec<u64>,
    begun: Instant,
}

fn event(key: u64) -> Event {
    let (key, time) = (key.to_string(), "2026-01-02T03:04:05Z");
    let mut draft = Draft::new("machines", "update", &key);
    draft.time = Some(time.into());
    draft.seal(Timestamp::UNIX_EPOCH)
}

impl Node {
    fn new(id: u64, nodes: usize, follows: bool) -> Self {
        let history = History::new(HistoryLimits { events: 1, bytes: 1 << 10 }, id, clock::now());
        let broker = Broker::new(Arc::new(Metrics::new()), Instant::now(), history);
        let (sender, inbox) = inbox(InboxLimits { events: 10_000, bytes: 64 << 20 }, || ());
        broker.attach(sender);
        let exports = broker.share(ExportLimits { batches: 10_000, bytes: 64 << 20 }, 10_000);
        let (peers, order, link) = (Peers::default(), Order::new(usize::MAX), follows.then(Link::default));
        Self {
            broker,
            inbox,
            exports,
            peers,
            order,
            link,
            passed: Vec::new(),
            heard: vec![0; nodes],
            delivered: Vec::new(),
            begun: Instant::now(),
        }
    }

    /// Reads up to `count` events from the link. Returns whether it made progress.
    fn read(&mut self, sent: &[u64], count: usize) -> bool {
        let Some(link) = &mut self.link else { return false };
        let end = sent.len().min(link.next + count);
        let Some(first) = sent.get(link.next).filter(|_| count > 0) else { return false };
        if link.begins && self.broker.waits_for_others(&event(*first), clock::instant()) {
            return false;
        }
        link.begins = false;
        let events = sent[link.next..end].iter().map(|key| event(*key)).collect();
        link.next = end;
        assert!(self.broker.publish_or_return(events, Source::Upstream).is_ok());
        self.collect();
        true
    }

    /// Collects the delivered events and those to be forwarded.
    fn collect(&mut self) {
        while let Some(batch) = self.inbox.next() {
            self.delivered.extend(batch.events.iter().map(|event| event.key().parse::<u64>().unwrap()));
        }
        while let Some(export) = self.exports.ready() {
            for (at, event) in export.batch.events.iter().enumerate() {
                self.passed.push(Passed {
                    number: export.first + at as u64,
                    after: if at == 0 { export.after.clone() } else { After::new() },
                    repeat_index: export.repeat_indexes.as_ref().unwrap()[at],
                    key: event.key().parse().unwrap(),
                });
            }
        }
    }

    fn hear(&mut self, from: usize, passed: Passed) {
        let peers = &self.peers;
        let (next, after) = (|node| peers.next(node), passed.after.clone());
        if let Some((from, passed)) = self.order.offer(from as u64, after, ((from, passed), 1), next, self.begun) {
            self.take(from, &passed);
        }
        loop {
            let peers = &self.peers;
            let Some((from, passed)) = self.order.ready(|node| peers.next(node), self.begun) else { break };
            self.take(from, &passed);
        }
        self.collect();
    }

    fn take(&mut self, from: usize, passed: &Passed) {
        self.peers.event(from as u64, passed.number, passed.number, self.begun);
        let origins = [Some(Origin { node: from as u64, number: passed.number })];
        let arrivals = Arrivals { origins: &origins, repeat_indexes: &[passed.repeat_index] };
        assert!(self.broker.publish_foreign(vec![event(passed.key)], Source::Nats, arrivals).is_ok());
    }
}

struct World {
    nodes: Vec<Node>,
    sent: Vec<u64>,
    /// Earlier events are not repeated: a link that missed one of several equal events cannot tell which of them comes
    /// next.
    floor: usize,
}

impl World {
    fn new(followers: usize, nodes: usize) -> Self {
        let mut nodes: Vec<Node> = (0..nodes).map(|id| Node::new(id as u64, nodes, id < followers)).collect();
        for (at, node) in nodes.iter_mut().enumerate() {
            (0..followers as u64).filter(|id| *id != at as u64).for_each(|id| {
                node.peers.heartbeat(id, 0, node.begun);
                node.broker.heard(id, 0, clock::now());
            });
        }
        Self { nodes, sent: Vec::new(), floor: 0 }
    }

    /// Delivers the next message from one node to another. Returns whether there was one.
    fn deliver(&mut self, from: usize, to: usize) -> bool {
        let at = self.nodes[to].heard[from];
        let Some(passed) = self.nodes[from].passed.get(at).cloned().filter(|_| from != to) else { return false };
        self.nodes[to].heard[from] += 1;
        self.nodes[to].hear(from, passed);
        true
    }

    /// Disconnects a link, if another one delivers everything.
    fn cut(&mut self, at: usize) {
        let is_whole = |node: &Node| node.link.as_ref().is_some_and(|link| !link.begins);
        let mut others = self.nodes.iter().enumerate().filter(|(other, _)| *other != at);
        if others.any(|(_, node)| is_whole(node)) {
            self.nodes[at].link = None;
            self.floor = self.sent.len();
        }
    }

    /// Sends an event from the endpoint: every third repeats an earlier one.
    fn send(&mut self, a: usize, b: usize) {
        let known = &self.sent[self.floor..];
        let again = known.get(b % known.len().max(1)).copied().filter(|_| a.is_multiple_of(3));
        self.sent.push(again.unwrap_or(self.sent.len() as u64));
    }

    fn step(&mut self, (what, a, b): (u8, usize, usize), followers: usize) {
        let (count, follower) = (self.nodes.len(), a % followers);
        match what {
            0..4 => self.send(a, b),
            4..8 => {
                self.nodes[follower].read(&self.sent, 1 + b % 3);
            }
            8..14 => {
                self.deliver(a % count, b % count);
            }
            14 => self.cut(follower),
            _ if self.nodes[follower].link.is_none() => {
                self.nodes[follower].link = Some(Link { next: self.sent.len(), begins: true });
                self.floor = self.sent.len();
            }
            _ => {}
        }
    }

    fn finish(&mut self) {
        loop {
            let mut on = false;
            for at in 0..self.nodes.len() {
                on |= self.nodes[at].read(&self.sent, 7);
                for to in 0..self.nodes.len() {
                    on |= self.deliver(at, to);
                }
            }
            if !on {
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn all_deliver_in_the_order_of_the_endpoint(
        followers in 2..4_usize, more in 0..2_usize,
        steps in prop::collection::vec((0..16_u8, 0..12_usize, 0..12_usize), 0..400),
    ) {
        let mut world = World::new(followers, followers + more.max(usize::from(followers == 2)));
        steps.into_iter().for_each(|step| world.step(step, followers));
        world.finish();
        for (at, node) in world.nodes.iter().enumerate() {
            prop_assert_eq!(&node.delivered, &world.sent, "node {} of {}", at, world.nodes.len());
            prop_assert_eq!(node.order.count, 0);
        }
    }
}
