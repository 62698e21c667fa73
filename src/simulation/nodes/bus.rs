//! A NATS server as nodes see it. Each connection keeps its order, a message goes to the nodes that are subscribed at
//! that moment, and messages in transit over a connection that breaks are lost.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::{Buf, Bytes, BytesMut};

use crate::cluster::nats::op::{Message, Op};
use crate::cluster::peers::NodeId;
use crate::cluster::simulated::{Content, read};

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

/// Both directions of a connection.
#[derive(Debug, Default)]
struct Wire {
    upward: VecDeque<Written>,
    downward: VecDeque<Op>,
    is_subscribed: bool,
    /// Whether nothing gets through, without notice to either side.
    is_stalled: bool,
}

/// A message that the server has forwarded.
#[derive(Debug)]
pub(super) struct Forwarded {
    pub(super) from: NodeId,
    pub(super) number: u64,
    pub(super) is_event: bool,
    pub(super) to: Vec<NodeId>,
}

#[derive(Debug, Default)]
pub(super) struct Bus {
    wires: BTreeMap<NodeId, Wire>,
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
    pub(super) fn connect(&mut self, node: NodeId) {
        self.wires.insert(node, Wire::default());
    }

    /// Breaks a connection. Returns the messages that were in transit to the node.
    pub(super) fn cut(&mut self, node: NodeId) -> Vec<Message> {
        let wire = self.wires.remove(&node).unwrap_or_default();
        let messages = wire.downward.into_iter();
        messages.filter_map(|op| if let Op::Message(message) = op { Some(message) } else { None }).collect()
    }

    pub(super) fn stall(&mut self, node: NodeId) {
        if let Some(wire) = self.wires.get_mut(&node) {
            wire.is_stalled = true;
        }
    }

    /// Ends all stalls, so messages in transit arrive.
    pub(super) fn unstall(&mut self) {
        self.wires.values_mut().for_each(|wire| wire.is_stalled = false);
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
                Some(Written::Ping) => wire.downward.push_back(Op::Pong),
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
            wire.downward.push_back(Op::Message(message.clone()));
            to.push(*other);
        }
        Forwarded { from, number, is_event, to }
    }

    /// Removes and returns the next operation that a node receives.
    pub(super) fn deliver(&mut self, node: NodeId) -> Option<Op> {
        self.wires.get_mut(&node).filter(|wire| !wire.is_stalled)?.downward.pop_front()
    }

    /// Sends a PING to a node, as servers do now and then.
    pub(super) fn ping(&mut self, node: NodeId) {
        if let Some(wire) = self.wires.get_mut(&node) {
            wire.downward.push_back(Op::Ping);
        }
    }
}
