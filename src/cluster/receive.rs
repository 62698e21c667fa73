//! Receives the events that other nodes accepted and passes them to this node's sequencer.
//!
//! Messages are received in small batches, and each batch is sequenced before the next is read. While the inboxes are
//! full, this waits, and the bounded queue of [`super::waiting`](mod@super::waiting) fills; messages beyond its bounds
//! are dropped. No such loss is silent: their numbers are missing, and the gap is reported at its position among the
//! events.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::gate::Gate;
use super::health::Health;
use super::link::Status;
use super::nats::op::Message;
use super::notices::{Notice, Notices};
use super::options::NatsOptions;
use super::order::{After, Order};
use super::peers::{Loss, Missing, Peers, SequenceCheck};
use super::runs::{Run, Runs};
use super::waiting::{Received, Waiting};
use super::wire::{self, Beat, Kind, NodePosition};
use crate::broker::dedup::RepeatIndex;
use crate::broker::origin::Origin;
use crate::broker::{Arrivals, Broker, PublishError};
use crate::clock::{self, ClockReading};
use crate::event::Draft;
use crate::metrics::{NatsMetrics, Source};
use crate::protocol::gap::{GAP, HYDRANT, NATS};

/// Maximum number of messages received before they are sequenced.
const BATCH: usize = 256;

/// Delay between attempts while the inboxes are full.
const RETRY: Duration = Duration::from_millis(5);

/// Interval at which the connection and silent nodes are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A longer time between two turns of the task is a stall: the process got no time, or the inboxes were full.
const STALL: Duration = Duration::from_secs(2);

/// The share of the queue's bytes that messages may occupy while they wait for those of other nodes.
const ORDER_SHARE: usize = 4;

/// A message with its parsed headers.
type Arrived = (Message, NodePosition, Kind);

/// The task that publishes the events of other nodes to this node's broker.
pub(super) struct Receiver {
    broker: Arc<Broker>,
    gate: Arc<Gate>,
    health: Arc<Health>,
    connection: watch::Receiver<Status>,
    node: u64,
    longest: usize,
    peers: Peers,
    /// Seeds the digests that tell events with the same number apart.
    digests: RandomState,
    notices: Notices,
    /// Messages that wait for those of other nodes.
    order: Order<Arrived>,
    runs: Runs,
    /// Positions of the nodes that have just sent a heartbeat, with the time of their last event.
    signs: Vec<(NodePosition, Timestamp)>,
    /// Whether events of other nodes are missing among those received.
    has_loss: bool,
    /// When the connection was lost; `None` while there is one.
    away: Option<Instant>,
    /// The number of lost connections at the last check.
    losses: u64,
    /// The connection that delivered the last message.
    session: u64,
    /// Whether the node was ever connected.
    has_been: bool,
    /// When the connection was last checked.
    looked: Instant,
    /// When the task had its last turn.
    turned: Instant,
}

impl Receiver {
    pub(super) fn new(
        broker: Arc<Broker>,
        (gate, health): (Arc<Gate>, Arc<Health>),
        connection: watch::Receiver<Status>,
        options: &NatsOptions,
    ) -> Self {
        let now = clock::instant();
        Self {
            broker,
            gate,
            health,
            connection,
            node: options.node,
            longest: options.event_bytes,
            peers: Peers::default(),
            digests: RandomState::new(),
            notices: Notices::default(),
            order: Order::new(options.pending_bytes / ORDER_SHARE),
            runs: Runs::default(),
            signs: Vec::new(),
            has_loss: false,
            away: Some(now),
            losses: 0,
            session: 0,
            has_been: false,
            looked: now,
            turned: now,
        }
    }

    /// Runs until the stop signal.
    pub(super) async fn run(mut self, mut messages: Waiting, mut stop: watch::Receiver<bool>) {
        let mut looks = interval(POLL_INTERVAL);
        let mut news = self.connection.clone();
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.accept_all(message, &mut messages),
                    None => break,
                },
                Ok(()) = news.changed() => self.link(clock::both()),
                _ = looks.tick() => self.look(),
                _ = stop.changed() => break,
            }
            if self.sequence().await.is_err() {
                break;
            }
        }
        self.metrics().connected.set(0);
        self.health.set(false, clock::now());
    }

    fn metrics(&self) -> &NatsMetrics {
        &self.broker.metrics().nats
    }

    /// Accepts a message and those that are already queued, up to [`BATCH`].
    pub(super) fn accept_all(&mut self, first: Received, messages: &mut Waiting) {
        // Posted events may wait for the shards to be woken by this thread, which now parses a batch.
        self.broker.wake_shards();
        let now = clock::both();
        self.turn(now.instant);
        if first.session != self.session {
            // A message of a new connection may arrive before the change of its status.
            self.session = first.session;
            self.link(now);
        }
        self.accept(first, now);
        for _ in 1..BATCH {
            let Some(message) = messages.ready() else { break };
            self.accept(message, now);
        }
    }

    fn accept(&mut self, Received { message, session }: Received, now: ClockReading) {
        let (position, mut kind) = match wire::read(&message) {
            Ok((position, _)) if position.node == self.node => return self.metrics().echoes.inc(),
            Ok(read) => read,
            Err(error) => return self.complain(&error),
        };
        self.gate.heard(session, position.node, now.instant);
        let after = match &mut kind {
            Kind::Heartbeat(beat) if beat.greets => {
                self.peers.greeting(position.node, now.instant);
                return self.gate.greet();
            }
            Kind::Heartbeat(_) => After::new(),
            Kind::Event { after, .. } => std::mem::take(after),
        };
        let peers = &self.peers;
        let (next, bytes) = (|node| peers.next(node), message.len());
        let arrived = ((message, position, kind), bytes);
        match self.order.offer(position.node, after, arrived, next, now.instant) {
            Some(arrived) => self.accept_next(arrived, now),
            None if self.order.is_full() => {}
            None => return,
        }
        self.accept_ordered(now);
    }

    /// Accepts the messages whose wait for those of other nodes is over.
    fn accept_ordered(&mut self, now: ClockReading) {
        loop {
            let peers = &self.peers;
            let Some(arrived) = self.order.ready(|node| peers.next(node), now.instant) else { break };
            self.accept_next(arrived, now);
        }
    }

    fn accept_next(&mut self, (message, position, kind): Arrived, now: ClockReading) {
        match kind {
            Kind::Event { repeat_index, .. } => self.accept_event(&message, position, repeat_index, now),
            Kind::Heartbeat(beat) => self.take_heartbeat(position, beat, now),
        }
    }

    fn take_heartbeat(&mut self, position: NodePosition, beat: Beat, now: ClockReading) {
        let loss = match beat.state {
            wire::State::Up => self.peers.heartbeat(position.node, position.number, now.instant),
            wire::State::Down => self.peers.goodbye(position.node, position.number, now.instant),
        };
        if beat.state == wire::State::Down {
            self.gate.gone(position.node);
        }
        self.report_loss(loss, now);
        if let Some(ahead) = beat.ahead {
            let ahead = SignedDuration::try_from(ahead).unwrap_or(SignedDuration::MAX);
            self.broker.history().note_ahead(ahead, now.instant);
        }
        let idle = SignedDuration::try_from(beat.idle).unwrap_or_default();
        self.sign(position, now.wall.checked_sub(idle).unwrap_or(now.wall));
    }

    /// Records a node's position: as far as it was counted here, whatever its message says.
    fn sign(&mut self, position: NodePosition, moved: Timestamp) {
        let number = self.peers.next(position.node).unwrap_or(position.number);
        self.signs.push((NodePosition { number, ..position }, moved));
    }

    fn accept_event(
        &mut self,
        message: &Message,
        position: NodePosition,
        repeat_index: Option<RepeatIndex>,
        now: ClockReading,
    ) {
        let digest = self.digests.hash_one(&message.payload[..]);
        match self.peers.event(position.node, position.number, digest, now.instant) {
            SequenceCheck::Next => {}
            SequenceCheck::After(loss) => {
                self.report_loss(Some(loss), now);
                self.sign(position, now.wall);
            }
            SequenceCheck::Repeated => return self.metrics().duplicates.inc(),
        }
        self.read_event(message, position, repeat_index, now);
    }

    fn read_event(
        &mut self,
        message: &Message,
        position: NodePosition,
        repeat_index: Option<RepeatIndex>,
        now: ClockReading,
    ) {
        match wire::read_event(message, self.longest, now.wall) {
            Ok(event) => {
                self.metrics().received.inc();
                self.runs.push(event, Some(Origin { node: position.node, number: position.number }), repeat_index);
            }
            Err(error) => {
                self.complain(&error);
                let (node, missing) = (position.node, Missing::Events(1));
                self.report_loss(Some(Loss { node, missing, since: now.instant }), now);
            }
        }
    }

    fn complain(&self, error: &wire::WireError) {
        self.metrics().errors.inc();
        tracing::debug!(%error, "ignoring a NATS message that is not an event");
    }

    fn report_loss(&mut self, loss: Option<Loss>, now: ClockReading) {
        let Some(Loss { node, missing, since }) = loss else { return };
        let (reason, events) = match missing {
            Missing::Events(events) => ("events missing", Some(events)),
            Missing::Unknown => ("events missing", None),
            Missing::Silent => ("node lost", None),
        };
        self.metrics().lost_in(events.unwrap_or(0));
        self.report_gap(Notice { reason, node: Some(node), events, from: since, to: now.instant }, now);
    }

    fn report_gap(&mut self, notice: Notice, now: ClockReading) {
        self.has_loss = true;
        if let Some(notice) = self.notices.add(notice, now.instant) {
            self.tell(&notice, now);
        }
    }

    fn tell(&mut self, notice: &Notice, now: ClockReading) {
        let Notice { reason, node, events, from, to } = notice;
        let events = *events;
        let node = node.map(|node| format!("{node:016x}"));
        tracing::warn!(node, events, reason, "events of other nodes may be missing; clients get a gap notice");
        let [from, to] = [from, to].map(|moment| now.wall_at(*moment).to_string());
        let object = serde_json::json!({"From": from, "To": to, "Events": events, "Node": node, "Reason": reason});
        let object = object.to_string();
        let mut draft = Draft::new(HYDRANT, GAP, NATS);
        draft.object = &object;
        let event = draft.seal(now.wall);
        self.runs.push(event, None, None);
    }

    /// Compares the connection's status with the last known one. A reconnect between two checks is detected by the
    /// number of losses.
    pub(super) fn link(&mut self, now: ClockReading) {
        let status = *self.connection.borrow();
        if !status.connected && self.away.is_none() {
            self.away = Some(now.instant);
            self.health.set(false, now.wall);
            self.metrics().connected.set(0);
            tracing::warn!("NATS is unreachable; events are delivered only to the clients of this node");
        } else if status.connected && (self.away.is_some() || status.losses != self.losses) {
            self.connected(status, now);
        }
        self.looked = now.instant;
    }

    fn connected(&mut self, status: Status, now: ClockReading) {
        self.health.set(true, now.wall);
        self.metrics().connected.set(1);
        self.peers.excuse(now.instant);
        self.losses = status.losses;
        let since = self.away.take().unwrap_or(self.looked);
        self.gate.hold(status.session, self.peers.nodes(), since, now.instant);
        if std::mem::replace(&mut self.has_been, true) {
            self.metrics().reconnects.inc();
            tracing::info!("reconnected to NATS");
            let notice = Notice { reason: "disconnected", node: None, events: None, from: since, to: now.instant };
            self.report_gap(notice, now);
        } else {
            // Events that others accepted before are unknown to this node.
            self.has_loss = true;
            tracing::info!("connected to NATS");
        }
    }

    /// Begins a turn of the task. Nothing was received during a stall, so no silence and no wait of then counts.
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.turned);
        self.turned = now;
        if passed > STALL {
            self.peers.excuse_for(passed, now);
            self.order.excuse_for(passed, now);
        }
    }

    pub(super) fn look(&mut self) {
        let now = clock::both();
        self.turn(now.instant);
        self.link(now);
        if self.away.is_none() {
            let has_more = |node| self.order.holds(node);
            for loss in self.peers.drain_silent(now.instant, has_more) {
                self.gate.gone(loss.node);
                self.report_loss(Some(loss), now);
            }
        }
        self.accept_ordered(now);
        if let Some(notice) = self.notices.due(now.instant) {
            self.tell(&notice, now);
        }
        self.gate.look(now.instant);
        self.gate.set_peers(self.peers.nodes());
        self.metrics().peers.set(i64::try_from(self.peers.len()).unwrap_or(i64::MAX));
    }

    /// Sequences the received events in order; waits while the inboxes are full. Nodes cannot be heard meanwhile, so
    /// they do not count as silent.
    pub(super) async fn sequence(&mut self) -> Result<(), PublishError> {
        let mut waited = false;
        for Run { mut events, origins, repeat_indexes } in self.runs.take() {
            let arrivals = Arrivals { origins: &origins, repeat_indexes: &repeat_indexes };
            while let Err((error, refused)) = self.broker.publish_foreign(events, Source::Nats, arrivals) {
                match error {
                    PublishError::Stopped => return Err(error),
                    PublishError::Full { .. } => sleep(RETRY).await,
                }
                waited = true;
                events = refused;
            }
        }
        // Only now: a heartbeat promises that the events before it have been accepted.
        for (NodePosition { node, number }, moved) in self.signs.drain(..) {
            // Events of the node may have followed in the same batch.
            let next = self.peers.next(node).unwrap_or(number);
            self.broker.heard(node, next, if next == number { moved } else { clock::now() });
        }
        if std::mem::take(&mut self.has_loss) {
            self.broker.mark_loss();
        }
        if waited {
            self.peers.excuse(clock::instant());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
