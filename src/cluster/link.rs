//! The connection of a node to NATS: reconnects for ever, reads and writes concurrently, and moves to another server
//! before its own one shuts down.
//!
//! Everything that other nodes publish arrives over one connection in one queue, in the order in which the server sent
//! it. A server that announces its shutdown (lame duck mode) is left in an orderly way. First a connection to another
//! server is made and subscribed. When all known nodes have been heard over it, or after [`OVERLAP`], the former
//! connection is read to its end, then the messages of the new one. Duplicates are recognized by their numbers and
//! digests, so nothing is lost and no gap is reported.
//!
//! Contract: the connection's state ([`Status`]) is published through a watch channel, and the reason for a missing
//! connection through [`Health`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::gate::Gate;
use super::gathering::{Gathering, SIGNS};
use super::health::Health;
use super::line::Line;
use super::nats::Address;
use super::nats::complaints::Complaints;
use super::nats::dial::{ConnectError, Dialer};
use super::nats::op::{Message, Op, ServerInfo};
use super::nats::session::{Incoming, Outgoing, Session, SessionError};
use super::send::{Sender, greet};
use super::wire::Kind;
use super::{subject, wire};
use crate::metrics::Metrics;

/// Maximum time for which two connections are open during a move; servers give at least ten seconds.
const OVERLAP: Duration = Duration::from_secs(5);

/// Time limit for draining the former connection.
const LAST: Duration = Duration::from_secs(2);

/// Limits in messages and bytes on what the new connection may deliver during a move; at either, the move goes on.
const AHEAD: usize = 65_536;
const AHEAD_BYTES: usize = 64 << 20;

/// Time after which a message accepted by one server of a cluster has reached the others.
const ROUTE: Duration = Duration::from_millis(250);

const EVENTS: u64 = 1;

/// The state of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Whether there is a connection.
    pub(super) connected: bool,
    /// The number of the current connection, counted from the start.
    pub(super) session: u64,
    /// The number of connections lost so far.
    pub(super) losses: u64,
}

/// The connection to NATS: reconnects for ever and moves to another server before its own shuts down.
pub(super) struct Link {
    dialer: Dialer,
    gathering: Gathering,
    sender: Sender,
    gate: Arc<Gate>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    complaints: Complaints,
    status: watch::Sender<Status>,
    node: u64,
    prefix: String,
}

/// Messages that a new connection has delivered before it replaces the former one.
#[derive(Debug, Default)]
struct Ahead {
    messages: Vec<Message>,
    bytes: usize,
}

impl Ahead {
    fn push(&mut self, message: Message) {
        self.bytes += message.len();
        self.messages.push(message);
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= AHEAD || self.bytes >= AHEAD_BYTES
    }
}

/// Passes a server's shutdown announcement, with the servers it advertised, from the reading side to the side that
/// moves.
#[derive(Debug, Default)]
struct Leaving {
    asked: Notify,
    named: parking_lot::Mutex<Vec<String>>,
}

/// How a connection ended.
enum Ended {
    /// Everything was sent and no more events will come.
    Done,
    /// Another connection replaces this one.
    Moved(Box<Session>),
    Lost(SessionError),
}

impl Link {
    pub(super) fn new(
        (dialer, gathering, sender): (Dialer, Gathering, Sender),
        (gate, health, metrics): (Arc<Gate>, Arc<Health>, Arc<Metrics>),
        status: watch::Sender<Status>,
        (node, prefix): (u64, String),
    ) -> Self {
        let complaints = Complaints::default();
        Self { dialer, gathering, sender, gate, health, metrics, complaints, status, node, prefix }
    }

    /// Stops sending. Returns the number of events not confirmed by a NATS server and counts them as lost.
    pub(super) fn give_up(mut self) -> u64 {
        let lost = self.sender.unsent();
        self.metrics.nats.lost_out(lost);
        lost
    }

    /// Runs until the broker has stopped and everything is sent.
    pub(super) async fn run(&mut self) {
        loop {
            let health = &self.health;
            let failed = |error: &ConnectError| {
                if health.set_error(error.to_string()) {
                    tracing::warn!(%error, "cannot connect to NATS; retrying");
                }
            };
            let mut session = self.dialer.dial(None, failed).await;
            self.begin(&mut session);
            if self.serve(session).await {
                return;
            }
            self.gate.shut();
            self.status.send_modify(|status| {
                status.connected = false;
                status.losses += 1;
            });
        }
    }

    /// Serves a connection and those that replace it. Returns whether everything is sent and no more events will come.
    async fn serve(&mut self, mut session: Session) -> bool {
        loop {
            match self.one(&mut session).await {
                Ended::Done => return true,
                Ended::Lost(error) => {
                    self.gathering.flush();
                    tracing::warn!(server = %session.address, %error, "lost the connection to NATS; reconnecting");
                    self.health.set_error(error.to_string());
                    return false;
                }
                Ended::Moved(next) => session = *next,
            }
        }
    }

    fn begin(&mut self, session: &mut Session) {
        subscribe(&mut session.outgoing, &self.prefix);
        self.sender.resume();
        greet(&mut session.outgoing, self.node, &self.prefix);
        self.tell_connected();
    }

    fn tell_connected(&self) {
        self.status.send_modify(|status| {
            status.connected = true;
            status.session += 1;
        });
    }

    /// Reads and writes over one connection until it ends.
    async fn one(&mut self, session: &mut Session) -> Ended {
        let number = self.status.borrow().session;
        let line = Line::new(session.info.max_payload);
        let leaving = Leaving::default();
        if session.info.ldm {
            // The server announced it before this point, and announces it only once.
            leaving.named.lock().clone_from(&session.info.connect_urls);
            leaving.asked.notify_one();
        }
        let (metrics, complaints) = (&self.metrics, &self.complaints);
        let complain = |server: &Address, error: &str| {
            metrics.nats.errors.inc();
            complaints.log(server, error);
        };
        let next = {
            let complain_here = |error: &str| complain(&session.address, error);
            let reading = read(&mut session.incoming, &line, &leaving, (&self.gathering, number), complain_here);
            let writing = self.sender.drive(&mut session.outgoing, &line);
            let (dialer, gate) = (&mut self.dialer, &self.gate);
            let moving = async {
                leaving.asked.notified().await;
                tracing::info!(server = %session.address, "this NATS server is shutting down: connecting to another \
                    one");
                dialer.learn(&session.address, &leaving.named.lock());
                // The former connection goes on meanwhile: an unusable new server is no reason to lose it.
                loop {
                    let not_yet = |error: &ConnectError| {
                        tracing::debug!(%error, "cannot connect to another NATS server yet; retrying");
                    };
                    let next = dialer.dial(Some(&session.address), not_yet).await;
                    match settle(next, (self.node, &self.prefix), gate, complain).await {
                        Ok(moved) => break moved,
                        Err(error) => tracing::debug!(%error, "cannot use another NATS server"),
                    }
                }
            };
            tokio::select! {
                error = reading => return Ended::Lost(error),
                written = writing => match written {
                    Ok(()) => return Ended::Done,
                    Err(error) => return Ended::Lost(error),
                },
                next = moving => next,
            }
        };
        let (next, ahead) = next;
        self.change(session, next, ahead, (number, &line)).await
    }

    /// Moves from the former connection to `next`, which has delivered the messages in `ahead` already.
    async fn change(
        &mut self,
        session: &mut Session,
        mut next: Session,
        mut ahead: Ahead,
        (number, line): (u64, &Line),
    ) -> Ended {
        session.outgoing.unsubscribe(EVENTS);
        session.outgoing.unsubscribe(SIGNS);
        // Arrives over the next connection once everything before it has.
        greet(&mut session.outgoing, self.node, &self.prefix);
        let ping = self.sender.ping(&mut session.outgoing);
        let last = last_words(session, line, ping, (&self.gathering, number));
        match timeout(LAST, last).await {
            Ok(Ok(())) => {
                self.sender.restart();
                // The former server still forwards its last messages to the others; later ones must not overtake them.
                let echo = echo(&mut next, &mut ahead, self.node);
                if !matches!(timeout(LAST, echo).await, Ok(Ok(true))) {
                    tracing::debug!("no confirmation that the next NATS server has the events sent to the former one");
                }
                sleep(ROUTE).await;
            }
            // It may not have accepted everything: unconfirmed events are sent again over the next connection.
            Ok(Err(_)) | Err(_) => self.sender.resume(),
        }
        self.gathering.flush();
        self.tell_connected();
        let session = self.status.borrow().session;
        self.gathering.take_all(ahead.messages, session, LAST).await;
        self.metrics.nats.moves.inc();
        tracing::info!(server = %next.address, "moved to another NATS server");
        Ended::Moved(Box::new(next))
    }
}

/// Reads from the next connection until this node's own greeting over the former one arrives. Returns false if `ahead`
/// is full before.
async fn echo(next: &mut Session, ahead: &mut Ahead, node: u64) -> Result<bool, SessionError> {
    while !ahead.is_full() {
        match next.incoming.next().await? {
            Op::Message(message) => match wire::read(&message) {
                Ok((place, Kind::Heartbeat(beat))) if place.node == node && beat.greets => return Ok(true),
                Ok((place, _)) if place.node == node => {}
                _ => ahead.push(message),
            },
            Op::Ping => {
                next.outgoing.pong();
                next.outgoing.flush().await?;
            }
            // It may announce its own shutdown, which it does only once.
            Op::Info(info) => next.info = info,
            _ => {}
        }
    }
    Ok(false)
}

/// Reads what is in flight on the former connection, up to the answer to the last PING.
async fn last_words(
    session: &mut Session,
    line: &Line,
    ping: u64,
    (gathering, number): (&Gathering, u64),
) -> Result<(), SessionError> {
    session.outgoing.flush().await?;
    while !line.has_answered(ping) {
        match session.incoming.next().await? {
            Op::Message(message) => gathering.take(message, number),
            Op::Pong => line.pong(),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn subscribe(outgoing: &mut Outgoing, prefix: &str) {
    outgoing.subscribe(&subject::all(prefix), EVENTS);
    outgoing.subscribe(&subject::signs(prefix), SIGNS);
}

/// Reads until the connection is lost.
async fn read(
    incoming: &mut Incoming,
    line: &Line,
    leaving: &Leaving,
    (gathering, session): (&Gathering, u64),
    complain: impl Fn(&str),
) -> SessionError {
    loop {
        let op = match gathering.next(incoming, &line.pulse).await {
            Ok(op) => op,
            Err(error) => return error,
        };
        match op {
            Op::Message(message) => gathering.take(message, session),
            Op::Ping => line.ping(),
            Op::Pong => line.pong(),
            Op::Info(ServerInfo { max_payload, connect_urls, ldm, .. }) => {
                line.set_max_payload(max_payload);
                *leaving.named.lock() = connect_urls;
                if ldm {
                    leaving.asked.notify_one();
                }
            }
            Op::Error(error) => complain(&error),
            Op::Ok => {}
        }
    }
}

/// Subscribes over a new connection and waits until all known nodes are heard over it. Returns it with the messages it
/// delivered meanwhile.
async fn settle(
    mut next: Session,
    (node, prefix): (u64, &str),
    gate: &Gate,
    complain: impl Fn(&Address, &str),
) -> Result<(Session, Ahead), SessionError> {
    subscribe(&mut next.outgoing, prefix);
    greet(&mut next.outgoing, node, prefix);
    next.outgoing.ping();
    next.outgoing.flush().await?;
    let (mut missing, mut ahead, mut answered) = (gate.peers(), Ahead::default(), false);
    let end = Instant::now() + OVERLAP;
    while !(ahead.is_full() || answered && missing.is_empty()) {
        let op = match timeout_at(end, next.incoming.next()).await {
            Ok(op) => op?,
            Err(_) if answered => break,
            Err(_) => return Err(SessionError::Silent),
        };
        match op {
            Op::Message(message) => {
                let node_of = wire::read(&message).ok().map(|(place, _)| place.node);
                if let Some(other) = node_of {
                    missing.remove(&other);
                }
                // Messages that this node sends over the former connection come back over this one.
                if node_of != Some(node) {
                    ahead.push(message);
                }
            }
            Op::Pong => answered = true,
            Op::Ping => {
                next.outgoing.pong();
                next.outgoing.flush().await?;
            }
            Op::Info(info) => next.info = info,
            Op::Error(error) => complain(&next.address, &error),
            Op::Ok => {}
        }
    }
    Ok((next, ahead))
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
