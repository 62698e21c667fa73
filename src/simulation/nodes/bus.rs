//! NATS as nodes see it: one server, which orders messages no better than a cluster of servers does.
//!
//! Contract: each receiver has a lane for each sender, which keeps that sender's order. The next message comes from any
//! lane, and a lane may be late, so a node may receive a message before the one that caused it. A message goes to
//! the nodes that are subscribed at that moment. Messages in transit over a connection that breaks are lost. The server
//! closes the connection of a node for which too many messages wait. Everything follows from the seed.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use crate::cluster::nats::op::{Message, Op};
use crate::cluster::peers::NodeId;
use crate::cluster::simulated::{Content, read};
use crate::simulation::random::Random;

/// The sender of the server's own operations. No node has this number.
const SERVER: NodeId = 0;

/// The subscriptions of a node.
const EVENTS: u64 = 1;
const SIGNS: u64 = 2;

/// An operation that a node has written.
#[derive(Debug)]
enum Written {
    Publish(Message),
    Subscribe,
    Ping,
    Pong,
}

/// What one sender has for one receiver.
#[derive(Debug, Default)]
struct Lane {
    ops: VecDeque<Op>,
    /// Nothing arrives before this time.
    late: Option<Instant>,
}

impl Lane {
    fn has_arrived(&self, now: Instant) -> bool {
        !self.ops.is_empty() && self.late.is_none_or(|late| late <= now)
    }
}

/// Both directions of a connection.
#[derive(Debug, Default)]
struct Wire {
    upward: VecDeque<Written>,
    lanes: BTreeMap<NodeId, Lane>,
    is_subscribed: bool,
    /// Whether nothing gets through, without notice to either side.
    is_stalled: bool,
}

impl Wire {
    fn push(&mut self, from: NodeId, op: Op) {
        self.lanes.entry(from).or_default().ops.push_back(op);
    }

    /// Returns the number of operations that wait for the node.
    fn waiting(&self) -> usize {
        self.lanes.values().map(|lane| lane.ops.len()).sum()
    }
}

/// A message that the server has forwarded.
#[derive(Debug)]
pub(super) struct Forwarded {
    pub(super) from: NodeId,
    pub(super) number: u64,
    pub(super) is_event: bool,
    pub(super) to: Vec<NodeId>,
}

#[derive(Debug)]
pub(super) struct Bus {
    /// Chooses the lane of the next message.
    random: Random,
    wires: BTreeMap<NodeId, Wire>,
    /// Maximum number of operations that wait for a node.
    pending: usize,
    /// Nodes whose connection the server has closed because more waited for them.
    slow: Vec<NodeId>,
    /// Events that the server has received.
    pub(super) seen: HashSet<(NodeId, u64)>,
}

/// Removes and returns the first line.
fn line(bytes: &mut BytesMut) -> String {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("nodes write whole operations");
    let line = String::from_utf8(bytes.split_to(end).to_vec()).unwrap();
    bytes.advance(2);
    line
}

fn parse(mut bytes: BytesMut) -> Vec<Written> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let line = line(&mut bytes);
        all.push(match line.split(' ').collect::<Vec<_>>()[..] {
            ["PING"] => Written::Ping,
            ["PONG"] => Written::Pong,
            ["SUB", ..] => Written::Subscribe,
            ["HPUB", subject, headers, total] => {
                let [headers, total] = [headers, total].map(|number| number.parse::<usize>().unwrap());
                let sid = if subject.contains(".NODES.") { SIGNS } else { EVENTS };
                let headers = bytes.split_to(headers).freeze();
                let payload = bytes.split_to(total - headers.len()).freeze();
                bytes.advance(2);
                Written::Publish(Message { sid, subject: Bytes::from(subject.to_owned()), headers, payload })
            }
            _ => panic!("no client writes {line}"),
        });
    }
    all
}

impl Bus {
    pub(super) fn new(random: Random, pending: usize) -> Self {
        Self { random, wires: BTreeMap::new(), pending, slow: Vec::new(), seen: HashSet::new() }
    }

    pub(super) fn connect(&mut self, node: NodeId) {
        self.wires.insert(node, Wire::default());
    }

    /// Breaks a connection. Returns the messages that were in transit to the node.
    pub(super) fn cut(&mut self, node: NodeId) -> Vec<Message> {
        let wire = self.wires.remove(&node).unwrap_or_default();
        let ops = wire.lanes.into_values().flat_map(|lane| lane.ops);
        ops.filter_map(|op| if let Op::Message(message) = op { Some(message) } else { None }).collect()
    }

    pub(super) fn stall(&mut self, node: NodeId) {
        if let Some(wire) = self.wires.get_mut(&node) {
            wire.is_stalled = true;
        }
    }

    /// Delays the messages from one node to another, unless some are in transit. So none is delayed twice.
    pub(super) fn delay(&mut self, from: NodeId, to: NodeId, until: Instant) {
        let Some(wire) = self.wires.get_mut(&to) else { return };
        let lane = wire.lanes.entry(from).or_default();
        if lane.ops.is_empty() {
            lane.late = Some(until);
        }
    }

    /// Ends all stalls and delays, so messages in transit arrive.
    pub(super) fn recover(&mut self) {
        for wire in self.wires.values_mut() {
            wire.is_stalled = false;
            wire.lanes.values_mut().for_each(|lane| lane.late = None);
        }
    }

    /// Lets any number of messages wait from now on.
    pub(super) fn lift_limit(&mut self) {
        self.pending = usize::MAX;
    }

    /// Removes and returns the nodes whose connection the server has closed.
    pub(super) fn take_slow(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.slow)
    }

    pub(super) fn write(&mut self, node: NodeId, bytes: BytesMut) {
        self.wires.get_mut(&node).expect("connected").upward.extend(parse(bytes));
    }

    /// Processes up to `most` operations of a node. Returns the forwarded messages with their receivers.
    pub(super) fn serve(&mut self, node: NodeId, most: usize) -> Vec<Forwarded> {
        let mut forwarded = Vec::new();
        for _ in 0..most {
            let Some(wire) = self.wires.get_mut(&node).filter(|wire| !wire.is_stalled) else { break };
            match wire.upward.pop_front() {
                None => break,
                Some(Written::Ping) => wire.push(SERVER, Op::Pong),
                Some(Written::Pong) => {}
                Some(Written::Subscribe) => wire.is_subscribed = true,
                Some(Written::Publish(message)) => forwarded.push(self.forward(node, &message)),
            }
        }
        forwarded
    }

    fn forward(&mut self, from: NodeId, message: &Message) -> Forwarded {
        let (node, number, content) = read(message);
        assert_eq!(node, from, "a node speaks for itself");
        let is_event = content == Content::Event;
        if is_event {
            self.seen.insert((from, number));
        }
        let mut to = Vec::new();
        for (other, wire) in self.wires.iter_mut().filter(|(other, wire)| **other != from && wire.is_subscribed) {
            wire.push(from, Op::Message(message.clone()));
            to.push(*other);
            if wire.waiting() > self.pending {
                wire.is_subscribed = false;
                self.slow.push(*other);
            }
        }
        Forwarded { from, number, is_event, to }
    }

    /// Removes and returns the next operation that a node receives.
    pub(super) fn deliver(&mut self, node: NodeId, now: Instant) -> Option<Op> {
        let wire = self.wires.get_mut(&node).filter(|wire| !wire.is_stalled)?;
        let count = wire.lanes.values().filter(|lane| lane.has_arrived(now)).count();
        let at = (count > 0).then(|| self.random.below(count))?;
        wire.lanes.values_mut().filter(|lane| lane.has_arrived(now)).nth(at)?.ops.pop_front()
    }

    /// Sends a PING to a node, as servers do now and then.
    pub(super) fn ping(&mut self, node: NodeId) {
        if let Some(wire) = self.wires.get_mut(&node) {
            wire.push(SERVER, Op::Ping);
        }
    }
}
