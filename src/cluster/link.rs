//! The connection of a node to NATS: dialled for ever, read and written at the same time, and changed before its server
//! ends.
//!
//! Everything that others publish comes over one connection into one queue, in the order in which the server sent it. A
//! server that says that it is about to end (lame duck mode) is left in good order: a connection to another one is made
//! and subscribed first; when all known nodes have been heard over it, or after [`OVERLAP`], the former is read to its
//! end and then what came by the new one. What came over both is known by its number, so nothing is lost and nothing
//! told as lost.
//!
//! Contract: the state of the connection ([`Status`]) is told by a watch, why there is none in [`Health`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::gate::Gate;
use super::gathering::{Gathering, SIGNS};
use super::health::Health;
use super::nats::complaints::Complaints;
use super::nats::dial::{ConnectError, Dialer};
use super::nats::op::{Message, Op, ServerInfo};
use super::nats::session::{Incoming, Outgoing, Session, SessionError};
use super::send::{Line, Sender, greet};
use super::wire::Kind;
use super::{subject, wire};
use crate::metrics::Metrics;

/// For how long two connections are kept at most while the node changes from one to the other; servers give at least
/// ten seconds.
const OVERLAP: Duration = Duration::from_secs(5);

/// For how long the former connection may take to say its last.
const LAST: Duration = Duration::from_secs(2);

/// Messages that the new connection may bring meanwhile, and their bytes: beyond either it is not waited any longer.
const AHEAD: usize = 65_536;
const AHEAD_BYTES: usize = 64 << 20;

/// What one server of a cluster has taken has reached the others after so long.
const ROUTE: Duration = Duration::from_millis(250);

const EVENTS: u64 = 1;

/// How the connection is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Whether there is one.
    pub(super) connected: bool,
    /// Which one: connections are counted.
    pub(super) session: u64,
    /// How many were lost.
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

/// What a connection has brought before it takes the place of another.
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

/// What the reading side tells the one that decides.
#[derive(Debug, Default)]
struct Leaving {
    asked: Notify,
    named: parking_lot::Mutex<Vec<String>>,
}

/// How a connection ended.
enum Ended {
    /// Everything was sent that there will ever be.
    Done,
    /// Another one takes its place.
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

    /// Gives up. Returns how many events are not known to have reached a NATS server, which counts as a loss.
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
                    tracing::warn!(%error, "NATS is not connected");
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

    /// Keeps a connection, and those that take its place. Returns whether everything is sent that there will ever be.
    async fn serve(&mut self, mut session: Session) -> bool {
        loop {
            match self.one(&mut session).await {
                Ended::Done => return true,
                Ended::Lost(error) => {
                    self.gathering.flush();
                    tracing::warn!(%error, "the connection to NATS is lost");
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
            // It said so before it was read here, and says it once.
            leaving.named.lock().clone_from(&session.info.connect_urls);
            leaving.asked.notify_one();
        }
        let (metrics, complaints) = (&self.metrics, &self.complaints);
        let complain = |error: &str| {
            metrics.nats.errors.inc();
            complaints.log(error);
        };
        let next = {
            let reading = read(&mut session.incoming, &line, &leaving, (&self.gathering, number), complain);
            let writing = self.sender.drive(&mut session.outgoing, &line);
            let (dialer, gate) = (&mut self.dialer, &self.gate);
            let moving = async {
                leaving.asked.notified().await;
                tracing::info!(server = %session.address, "this NATS server is about to end: another one is looked \
                    for");
                dialer.learn(&session.address, &leaving.named.lock());
                // The former goes on meanwhile: another one that is of no use is no reason to lose it.
                loop {
                    let not_yet = |error: &ConnectError| tracing::debug!(%error, "not yet");
                    let next = dialer.dial(Some(&session.address), not_yet).await;
                    match settle(next, (self.node, &self.prefix), gate, complain).await {
                        Ok(moved) => break moved,
                        Err(error) => tracing::debug!(%error, "another NATS server is of no use"),
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

    /// Leaves the former connection for the next, which has brought these messages already.
    async fn change(
        &mut self,
        session: &mut Session,
        mut next: Session,
        mut ahead: Ahead,
        (number, line): (u64, &Line),
    ) -> Ended {
        session.outgoing.unsubscribe(EVENTS);
        session.outgoing.unsubscribe(SIGNS);
        // Comes back over the next connection when everything before it has.
        greet(&mut session.outgoing, self.node, &self.prefix);
        let ping = self.sender.ping(&mut session.outgoing);
        let last = last_words(session, line, ping, (&self.gathering, number));
        match timeout(LAST, last).await {
            Ok(Ok(())) => {
                self.sender.restart();
                // What the former server has taken is on its way to the others; what comes next must not overtake it.
                let echo = echo(&mut next, &mut ahead, self.node);
                if !matches!(timeout(LAST, echo).await, Ok(Ok(()))) {
                    tracing::debug!("nothing tells that the next NATS server has what the former one took");
                }
                sleep(ROUTE).await;
            }
            // It may not have taken everything: what is not known to have arrived goes over the next one again.
            Ok(Err(_)) | Err(_) => self.sender.resume(),
        }
        self.gathering.flush();
        self.tell_connected();
        let session = self.status.borrow().session;
        ahead.messages.into_iter().for_each(|message| self.gathering.take(message, session));
        self.metrics.nats.moves.inc();
        tracing::info!(server = %next.address, "moved to another NATS server");
        Ended::Moved(Box::new(next))
    }
}

/// Reads over the next connection until this node's own greeting over the former one has come back.
async fn echo(next: &mut Session, ahead: &mut Ahead, node: u64) -> Result<(), SessionError> {
    loop {
        match next.incoming.next().await? {
            Op::Message(message) => match wire::read(&message) {
                Ok((place, Kind::Heartbeat(beat))) if place.node == node && beat.greets => return Ok(()),
                Ok((place, _)) if place.node == node => {}
                _ => ahead.push(message),
            },
            Op::Ping => {
                next.outgoing.pong();
                next.outgoing.flush().await?;
            }
            _ => {}
        }
    }
}

/// Reads what was on its way up to the answer to the last PING.
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

fn subscribe(outgoing: &mut Outgoing, prefix: &str) {
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
        let op = match gathering.next(incoming).await {
            Ok(op) => op,
            Err(error) => return error,
        };
        line.pulse.heard();
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

/// Subscribes over a new connection and waits until all known nodes were heard over it. Returns what came meanwhile.
async fn settle(
    mut next: Session,
    (node, prefix): (u64, &str),
    gate: &Gate,
    complain: impl Fn(&str),
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
                // What this node sends over the former connection comes back over this one.
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
            Op::Error(error) => complain(&error),
            Op::Ok => {}
        }
    }
    Ok((next, ahead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_bytes_bind_what_comes_ahead() {
        let message =
            |length| Message { sid: 1, subject: "a".into(), headers: "".into(), payload: vec![0; length].into() };
        let until_full = |length: usize| {
            let mut ahead = Ahead::default();
            while !ahead.is_full() {
                ahead.push(message(length));
            }
            ahead.messages.len()
        };
        assert_eq!((until_full(1), until_full(1 << 20)), (AHEAD, AHEAD_BYTES >> 20));
    }
}
