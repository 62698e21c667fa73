//! What other nodes took in, on its way into this node's sequencer.
//!
//! Messages are taken a few at a time and sequenced before more are taken; while the inboxes are full that waits, and with it
//! the bounded queue of [`super::waiting`](mod@super::waiting), beyond which messages are dropped. Nothing of that is silent: numbers are
//! missing then, and the gap is told in its place among the events.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Message};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::health::Health;
use super::options::NatsOptions;
use super::peers::{Loss, Peers, SequenceCheck};
use super::waiting::Waiting;
use super::wire::{self, Kind, NodePosition};
use crate::broker::dedup::RepeatIndex;
use crate::broker::origin::Origin;
use crate::broker::{Arrivals, Broker, PublishError};
use crate::clock;
use crate::event::{Draft, Event};
use crate::metrics::{NatsMetrics, Source};
use crate::protocol::gap::{GAP, HYDRANT, NATS};

/// Messages that are taken before they are sequenced.
const BATCH: usize = 256;

/// Between two tries while the inboxes are full.
const RETRY: Duration = Duration::from_millis(5);

/// How often the connection is looked at, and who has fallen silent.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Events that are sequenced together.
#[derive(Debug)]
struct Run {
    events: Vec<Event>,
    /// Where each is from; nothing for gaps.
    origins: Vec<Option<Origin>>,
    /// For each event which repeat index it is; empty if copies cannot come.
    repeat_indexes: Vec<RepeatIndex>,
}

/// See the module's text.
pub(super) struct Receiver {
    broker: Arc<Broker>,
    client: Client,
    health: Arc<Health>,
    node: u64,
    longest: usize,
    peers: Peers,
    runs: Vec<Run>,
    /// How far nodes are that have just shown a sign of life.
    signs: Vec<NodePosition>,
    /// Whether events of others are missing among what was taken.
    has_loss: bool,
    /// Since when there is no connection; nothing while there is one.
    away: Option<Timestamp>,
    /// How many connections were made until then.
    connects: u64,
    /// When the connection was last looked at.
    looked: Timestamp,
}

impl Receiver {
    pub(super) fn new(broker: Arc<Broker>, client: Client, health: Arc<Health>, options: &NatsOptions) -> Self {
        let now = clock::now();
        Self {
            broker,
            client,
            health,
            node: options.node,
            longest: options.event_bytes,
            peers: Peers::default(),
            runs: Vec::new(),
            signs: Vec::new(),
            has_loss: false,
            away: Some(now),
            connects: 0,
            looked: now,
        }
    }

    /// Runs until told to stop.
    pub(super) async fn run(mut self, mut messages: Waiting, news: Arc<Notify>, mut stop: watch::Receiver<bool>) {
        let mut looks = interval(POLL_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.accept_all(&message, &mut messages),
                    None => break,
                },
                () = news.notified() => self.link(clock::now()),
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

    /// Takes a message and those that are there already.
    fn accept_all(&mut self, first: &Message, messages: &mut Waiting) {
        let now = clock::now();
        self.accept(first, now);
        for _ in 1..BATCH {
            let Some(message) = messages.ready() else { break };
            self.accept(&message, now);
        }
    }

    fn accept(&mut self, message: &Message, now: Timestamp) {
        match wire::read(message) {
            Ok((position, _)) if position.node == self.node => self.metrics().echoes.inc(),
            Ok((position, Kind::Event { repeat_index })) => self.accept_event(message, position, repeat_index, now),
            Ok((position, Kind::Heartbeat(state))) => {
                let loss = match state {
                    wire::State::Up => self.peers.heartbeat(position.node, position.number, now),
                    wire::State::Down => self.peers.goodbye(position.node, position.number, now),
                };
                self.report_loss(loss, now);
                self.signs.push(position);
            }
            Err(error) => self.complain(&error),
        }
    }

    fn accept_event(
        &mut self,
        message: &Message,
        position: NodePosition,
        repeat_index: Option<RepeatIndex>,
        now: Timestamp,
    ) {
        match self.peers.event(position.node, position.number, now) {
            SequenceCheck::Next => {}
            SequenceCheck::After(loss) => self.report_loss(Some(loss), now),
            SequenceCheck::Repeated => return self.metrics().duplicates.inc(),
        }
        match wire::read_event(message, self.longest, now) {
            Ok(event) => {
                self.metrics().received.inc();
                self.push(event, Some(Origin { node: position.node, number: position.number }), repeat_index);
            }
            Err(error) => {
                self.complain(&error);
                self.report_loss(Some(Loss { node: position.node, events: Some(1), since: now }), now);
            }
        }
    }

    fn complain(&self, error: &wire::WireError) {
        self.metrics().errors.inc();
        tracing::debug!(%error, "a message over NATS is no event");
    }

    fn push(&mut self, event: Event, origin: Option<Origin>, repeat_index: Option<RepeatIndex>) {
        let of_one_kind = |run: &&mut Run| run.repeat_indexes.is_empty() == repeat_index.is_none();
        match self.runs.last_mut().filter(of_one_kind) {
            Some(run) => {
                run.events.push(event);
                run.origins.push(origin);
                run.repeat_indexes.extend(repeat_index);
            }
            None => self.runs.push(Run {
                events: vec![event],
                origins: vec![origin],
                repeat_indexes: repeat_index.into_iter().collect(),
            }),
        }
    }

    fn report_loss(&mut self, loss: Option<Loss>, now: Timestamp) {
        let Some(Loss { node, events, since }) = loss else { return };
        self.metrics().lost_in(events.unwrap_or(0));
        tracing::warn!(node = format!("{node:016x}"), ?events, "events of another node are missing");
        let reason = if events.is_some() { "events missing" } else { "node lost" };
        self.report_gap(reason, Some(node), events, since, now);
    }

    fn report_gap(&mut self, reason: &str, node: Option<u64>, events: Option<u64>, since: Timestamp, now: Timestamp) {
        self.has_loss = true;
        let node = node.map(|node| format!("{node:016x}"));
        let (from, to) = (since.to_string(), now.to_string());
        let object = serde_json::json!({"From": from, "To": to, "Events": events, "Node": node, "Reason": reason});
        let object = object.to_string();
        let mut draft = Draft::new(HYDRANT, GAP, NATS);
        draft.object = &object;
        let event = draft.seal(now);
        self.push(event, None, None);
    }

    /// Compares the connection with what is known of it. A connection that was lost and made again between two looks shows by
    /// the number of connections.
    fn link(&mut self, now: Timestamp) {
        let up = self.client.connection_state() == State::Connected;
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        if !up && self.away.is_none() {
            self.away = Some(now);
            self.health.set(false, now);
            self.metrics().connected.set(0);
            tracing::warn!("NATS is away; events are delivered to the clients of this node only");
        } else if up && (self.away.is_some() || connects != self.connects) {
            self.connected(connects, now);
        }
        self.looked = now;
    }

    fn connected(&mut self, connects: u64, now: Timestamp) {
        self.health.set(true, now);
        self.metrics().connected.set(1);
        self.peers.excuse(now);
        let since = self.away.take().unwrap_or(self.looked);
        if std::mem::replace(&mut self.connects, connects) > 0 {
            self.metrics().reconnects.inc();
            tracing::info!("NATS is back");
            self.report_gap("disconnected", None, None, since, now);
        } else {
            // What others took in before, this node has not heard.
            self.has_loss = true;
            tracing::info!("connected to NATS");
        }
    }

    fn look(&mut self) {
        let now = clock::now();
        self.link(now);
        if self.away.is_none() {
            for loss in self.peers.drain_silent(now) {
                self.report_loss(Some(loss), now);
            }
        }
        self.metrics().peers.set(i64::try_from(self.peers.len()).unwrap_or(i64::MAX));
    }

    /// Sequences what was taken, in its order; waits while the inboxes are full. Meanwhile nobody is heard, so nobody is silent.
    async fn sequence(&mut self) -> Result<(), PublishError> {
        let mut waited = false;
        for Run { mut events, origins, repeat_indexes } in std::mem::take(&mut self.runs) {
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
        // Only now: a sign of life says that what stands before it has been taken in.
        for NodePosition { node, number } in self.signs.drain(..) {
            self.broker.heard(node, number);
        }
        if std::mem::take(&mut self.has_loss) {
            self.broker.mark_loss();
        }
        if waited {
            self.peers.excuse(clock::now());
        }
        Ok(())
    }
}
