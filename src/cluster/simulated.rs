//! A node's part of the cluster without sockets, tasks and real time: the receiver, sender, gate and queues of the
//! product, which a simulation runs step by step (`crate::simulation::nodes`).
//!
//! Contract: one thread with a simulated clock. The simulation acts as the NATS server: it takes what the node writes
//! ([`Member::write`]) and passes on what the server sends ([`Member::hear`]). It is also the scheduler, so nothing
//! happens between two calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use hashbrown::HashSet;
use tokio::sync::watch;
use tokio::time::Instant;

use super::gate::Gate;
use super::gathering::Gathering;
use super::health::{Health, Report};
use super::line::Line;
use super::link::{Status, subscribe};
use super::nats::op::{Message, Op};
use super::nats::session::Outgoing;
use super::nats::{Login, Tls};
use super::options::NatsOptions;
use super::peers::NodeId;
use super::receive::Receiver;
use super::send::{Due, Sender, greet};
use super::waiting::{Waiting, WaitingLimits, waiting};
use super::wire::{self, Kind, State};
use crate::auth::Secret;
use crate::broker::Broker;
use crate::broker::export::Exports;
use crate::clock;

const PREFIX: &str = "h";

/// Maximum number of received bytes that may wait. No run has so many.
const BYTES: usize = 64 << 20;

/// The kind of a message between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Event,
    Heartbeat,
    Greeting,
    Goodbye,
}

/// Returns the node that has sent a message, its number, and its kind. Panics if no node has sent it.
pub(crate) fn read(message: &Message) -> (NodeId, u64, Content) {
    let (position, kind) = wire::read(message).expect("only nodes send");
    let content = match kind {
        Kind::Event { .. } => Content::Event,
        Kind::Heartbeat(beat) if beat.greets => Content::Greeting,
        Kind::Heartbeat(beat) if beat.state == State::Down => Content::Goodbye,
        Kind::Heartbeat(_) => Content::Heartbeat,
    };
    (position.node, position.number, content)
}

/// The tasks that share a node's events with the other nodes.
pub(crate) struct Member {
    node: NodeId,
    receiver: Receiver,
    queue: Waiting,
    gathering: Gathering,
    sender: Sender,
    gate: Arc<Gate>,
    health: Arc<Health>,
    status: watch::Sender<Status>,
    stop: watch::Sender<bool>,
    out: Outgoing,
    line: Line,
    due: Due,
}

fn options(node: NodeId, pending: usize) -> NatsOptions {
    NatsOptions {
        urls: Vec::new(),
        login: Arc::new(Login::Password { user: "u".into(), password: Secret::new("p") }),
        tls: Tls::default(),
        prefix: PREFIX.to_owned(),
        pending,
        pending_bytes: BYTES,
        event_bytes: 1 << 20,
        linger: Duration::from_millis(10),
        node,
        stream: None,
    }
}

fn now() -> Instant {
    Instant::from_std(clock::instant())
}

impl Member {
    /// Creates the tasks of a node that is not connected yet. At most `pending` received messages wait.
    pub(crate) fn new(broker: &Arc<Broker>, exports: Exports, node: NodeId, pending: usize) -> Self {
        let health = Arc::new(Health::new(Arc::clone(broker.metrics()), clock::now()));
        let gate = Arc::<Gate>::default();
        let (status, connection) = watch::channel(Status::default());
        let (stop, stopped) = watch::channel(false);
        let options = options(node, pending);
        let (filler, queue) = waiting(WaitingLimits { messages: pending, bytes: BYTES });
        let name = (node, PREFIX.to_owned());
        Self {
            node,
            receiver: Receiver::new(Arc::clone(broker), (Arc::clone(&gate), Arc::clone(&health)), connection, &options),
            queue,
            gathering: Gathering::new(broker, filler, PREFIX, options.linger),
            sender: Sender::new(Arc::clone(broker), exports, name, Arc::clone(&gate), stopped),
            gate,
            health,
            status,
            stop,
            out: Outgoing::in_memory(),
            line: Line::default(),
            due: Due::new(now()),
        }
    }

    /// Makes a connection, as `Link` does.
    pub(crate) fn connect(&mut self, max_payload: usize) {
        (self.out, self.line, self.due) = (Outgoing::in_memory(), Line::new(max_payload), Due::new(now()));
        subscribe(&mut self.out, PREFIX);
        self.sender.resume();
        greet(&mut self.out, self.node, PREFIX);
        self.status.send_modify(|status| {
            status.connected = true;
            status.session += 1;
        });
    }

    /// Handles the loss of the connection.
    pub(crate) fn disconnect(&mut self) {
        self.gathering.flush();
        self.gate.shut();
        self.status.send_modify(|status| {
            status.connected = false;
            status.losses += 1;
        });
    }

    /// Returns what the node writes to the server now, or `None` if it gives up a silent server.
    pub(crate) fn write(&mut self) -> Option<BytesMut> {
        if self.gate.greeted().now_or_never().is_some() {
            self.due.greeted();
        }
        self.sender.turn(&mut self.out, &self.line, &mut self.due, now()).ok()?;
        Some(self.out.take())
    }

    /// Passes on an operation of the server.
    pub(crate) fn hear(&mut self, op: Op) {
        self.line.pulse.heard();
        match op {
            Op::Message(message) => self.gathering.take(message, self.status.borrow().session),
            Op::Ping => self.line.ping(),
            Op::Pong => self.line.pong(),
            Op::Info(_) | Op::Ok | Op::Error(_) => {}
        }
    }

    /// Sequences everything that has been received; waits while the inboxes are full.
    pub(crate) async fn receive(&mut self) {
        self.gathering.flush();
        while let Some(message) = self.queue.ready() {
            self.receiver.accept_all(message, &mut self.queue);
            let _ = self.receiver.sequence().await;
        }
    }

    /// Checks the connection, and looks for silent nodes.
    pub(crate) async fn look(&mut self) {
        self.receiver.look();
        let _ = self.receiver.sequence().await;
    }

    /// Begins the end of the node: events are now sent even if no other node receives them.
    pub(crate) fn stop(&mut self) {
        self.stop.send_replace(true);
    }

    /// Returns the bytes of the goodbye, which follows the last event.
    pub(crate) fn goodbye(&mut self) -> BytesMut {
        self.sender.goodbye(&mut self.out);
        self.out.take()
    }

    /// Returns the number of events that no server has confirmed.
    pub(crate) fn unsent(&mut self) -> u64 {
        self.sender.unsent()
    }

    /// Returns the other nodes that this node hears.
    pub(crate) fn known(&self) -> HashSet<NodeId> {
        self.gate.peers()
    }

    /// Returns the state of the connection as the node reports it.
    pub(crate) fn report(&self) -> Report {
        self.health.report()
    }

    /// Returns whether queued events may be sent.
    pub(crate) fn may_send(&self) -> bool {
        self.gate.is_open()
    }
}
