//! The loop of a shard's thread: sockets on one side, a [`Shard`] on the other.
//!
//! A turn is: what the poll reports (reads, commands), what the control plane asks, a batch of events, one vectored write for
//! every connection that has something to write, timers. What waits for a connection when its turn comes goes out in one
//! write; under load that is hundreds of frames, at rest one, and no timer delays it.
//!
//! Contract: nothing here blocks but the poll. A turn takes in at most [`TURN_EVENTS`] events or [`TURN_BYTES`] of them,
//! then everybody is written to, so a healthy reader's outbox is drained several times before its bound; a connection gets
//! at most one write a round, and the round begins at another place each turn, so that nobody is always last.

mod drain;
mod members;
mod reading;
mod writing;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use jiff::Timestamp;
use mio::{Events, Poll, Token};

use super::guard::Guard;
use super::link::Link;
use super::pool::{Control, Permit};
use crate::auth::{Authority, Identity};
use crate::broker::{Broker, Shard};
use crate::clock;
use crate::deflate::Inflater;
use crate::event::Event;
use crate::fanout::inbox::{Batch, Inbox};
use crate::fanout::{ConnId, Frame};
use crate::frame;
use crate::metrics::{FilterCost, Limit, ShardMetrics};
use crate::overflow::Overflow;
use crate::protocol::Close;
use drain::Drain;
use reading::READ_BYTES;

/// The token of the wake-up.
pub(super) const WAKE: Token = Token(usize::MAX);

/// Events of a turn.
const TURN_EVENTS: usize = 256;

/// Bytes of events of a turn; a fraction of the default outbox.
const TURN_BYTES: usize = 1 << 20;

/// Times that the driver keeps.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between pings.
    pub ping: Duration,
    /// Without a sign of life.
    pub idle: Duration,
    /// For the client to take its close frame and go.
    pub close: Duration,
    /// For an event to wait for a connection whose policy is to disconnect.
    pub age: Option<Duration>,
    /// Whether a connection ends with the token it came with.
    pub close_on_token_expiry: bool,
}

/// A connection of this shard.
#[derive(Debug)]
struct Conn {
    link: Link,
    guard: Guard,
    identity: Identity,
    peer: SocketAddr,
    created: Timestamp,
    seen: Instant,
    pinged: Instant,
    /// When the connection is cut if the client has not gone by itself.
    deadline: Option<Instant>,
    reason: Option<Close>,
    finished: bool,
    _permit: Permit,
}

/// Everything that a shard's thread is given.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) poll: Poll,
    pub(super) shard: Shard,
    pub(super) inbox: Inbox,
    pub(super) control: Receiver<Control>,
    pub(super) metrics: ShardMetrics,
    pub(super) authority: Arc<Authority>,
    pub(super) broker: Arc<Broker>,
    pub(super) load: Arc<AtomicUsize>,
    pub(super) timing: Timing,
    pub(super) connection_events: bool,
    pub(super) message_limit: usize,
    pub(super) epoch: Instant,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Driver {
    parts: Parts,
    conns: Vec<Option<Conn>>,
    open: usize,
    /// Connections with more to read than a turn allows.
    unread: Vec<ConnId>,
    dirty: Vec<ConnId>,
    scratch: Box<[u8]>,
    inflater: Inflater,
    /// A batch that was begun, and its next event.
    started: Option<(Arc<Batch>, usize)>,
    /// Events about connections that are yet to be published.
    news: Vec<Event>,
    turn: usize,
    tick: Duration,
    next_tick: Instant,
    draining: Option<Drain>,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        let Timing { ping, idle, close, age, .. } = parts.timing;
        let shortest = ping.min(idle).min(close).min(age.unwrap_or(idle));
        let tick = (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        Self {
            parts,
            conns: Vec::new(),
            open: 0,
            unread: Vec::new(),
            dirty: Vec::new(),
            scratch: vec![0; READ_BYTES].into(),
            inflater: Inflater::default(),
            started: None,
            news: Vec::new(),
            turn: 0,
            tick,
            next_tick: Instant::now() + tick,
            draining: None,
        }
    }

    /// Runs until the shard has been drained.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        while !self.is_done() {
            let timeout = self.timeout();
            if let Err(error) = self.parts.poll.poll(&mut events, Some(timeout)) {
                if error.kind() != io::ErrorKind::Interrupted {
                    tracing::error!(%error, "poll failed");
                }
                continue;
            }
            self.parts.inbox.rearm();
            self.take_turn(&events);
        }
        self.flush_metrics();
    }

    fn is_done(&self) -> bool {
        self.draining.is_some_and(|drain| drain.said_goodbye) && self.open == 0
    }

    fn timeout(&mut self) -> Duration {
        let busy = (self.has_events() && self.may_take_events())
            || !self.news.is_empty()
            || !self.unread.is_empty()
            || !self.parts.control.is_empty()
            || self.parts.shard.fanout().has_dirty();
        if busy { Duration::ZERO } else { self.next_tick.saturating_duration_since(Instant::now()) }
    }

    fn take_turn(&mut self, events: &Events) {
        for conn in std::mem::take(&mut self.unread) {
            self.readable(conn);
        }
        for event in events {
            if event.token() == WAKE {
                continue;
            }
            let conn = ConnId(u32::try_from(event.token().0).expect("tokens are connection numbers"));
            if event.is_writable() {
                self.writable(conn);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.readable(conn);
            }
        }
        self.obey();
        if self.may_take_events() {
            self.take_events();
        }
        self.end_drain();
        self.flush();
        self.note_closing();
        self.announce_news();
        if Instant::now() >= self.next_tick {
            self.next_tick = Instant::now() + self.tick;
            self.keep_time();
        }
        self.flush_metrics();
    }

    fn conn(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(conn.0 as usize)?.as_mut()
    }

    fn obey(&mut self) {
        while let Ok(control) = self.parts.control.try_recv() {
            match control {
                Control::Adopt(newcomer) => self.adopt(*newcomer),
                Control::AccessChanged => self.review_access(),
                // Who asked may have gone.
                Control::List(reply) => drop(reply.send(self.describe_all())),
                Control::Delete(peer, reply) => drop(reply.send(self.delete(peer))),
                Control::Drain(deadline) => self.drain(deadline),
            }
        }
    }

    /// Publishes the next events, as many as a turn allows. A batch may be far larger than that: then the rest of it waits
    /// for the next turn, and the sockets come in between.
    fn take_events(&mut self) {
        let (mut events, mut bytes) = (0, 0);
        while events < TURN_EVENTS && bytes < TURN_BYTES {
            let Some((batch, at)) = self.started.take().or_else(|| self.parts.inbox.next().map(|batch| (batch, 0)))
            else {
                break;
            };
            let event = &batch.events[at];
            events += 1;
            bytes += event.frame().len();
            self.parts.shard.publish(event, batch.received_us);
            if at + 1 < batch.events.len() {
                self.started = Some((batch, at + 1));
            }
        }
    }

    fn has_events(&self) -> bool {
        self.started.is_some() || !self.parts.inbox.is_empty()
    }

    fn keep_time(&mut self) {
        let (now, now_us) = (Instant::now(), self.now_us());
        let mut oldest = Duration::ZERO;
        for at in 0..self.conns.len() {
            let conn = ConnId(u32::try_from(at).expect("fewer than 4 billion connections"));
            self.keep_time_of(conn, now);
            oldest = oldest.max(self.keep_age_of(conn, now_us));
        }
        self.note_closing();
        let deepest = self.parts.shard.fanout().deepest();
        self.parts.metrics.peak(deepest, oldest);
    }

    /// Microseconds since the epoch of the broker.
    fn now_us(&self) -> u64 {
        u64::try_from(self.parts.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// For how long something has been waiting for a connection; too long, and it is closed.
    fn keep_age_of(&mut self, conn: ConnId, now_us: u64) -> Duration {
        let fanout = self.parts.shard.fanout();
        let Some(oldest) = fanout.oldest_us(conn) else { return Duration::ZERO };
        let age = Duration::from_micros(now_us.saturating_sub(oldest));
        let bounded = fanout.policy(conn) == Some(Overflow::Disconnect);
        if bounded && self.parts.timing.age.is_some_and(|most| age > most) {
            self.parts.shard.close(conn, Close::Stale { seconds: age.as_secs() });
        }
        age
    }

    fn keep_time_of(&mut self, conn: ConnId, now: Instant) {
        let Timing { ping, idle, close_on_token_expiry: expires, .. } = self.parts.timing;
        let Some(entry) = self.conn(conn) else { return };
        if let Some(deadline) = entry.deadline {
            if now >= deadline {
                self.vanish(conn);
            }
        } else if expires && entry.identity.is_expired(clock::now()) {
            self.parts.shard.close(conn, Close::Expired);
        } else if now.duration_since(entry.seen) >= idle {
            self.parts.shard.close(conn, Close::Silent);
        } else if now.duration_since(entry.pinged) >= ping {
            entry.pinged = now;
            self.parts.shard.control(conn, Frame::Constant(frame::PING));
        }
    }

    fn flush_metrics(&mut self) {
        let counts = self.parts.shard.fanout().take_counts();
        let size = self.parts.shard.size();
        let Parts { metrics, shard, .. } = &mut self.parts;
        metrics.flush(&counts, size);
        let filters = shard.take_filter_cost();
        if filters != FilterCost::default() {
            metrics.filters(filters);
        }
        let commands = shard.take_commands();
        if commands.too_many() > 0 {
            metrics.all().limited(Limit::Registrations, commands.too_many());
        }
        for (outcome, count) in commands.iter().filter(|(_, count)| *count > 0) {
            metrics.all().command(outcome, count);
        }
    }
}
