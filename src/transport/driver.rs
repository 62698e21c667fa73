//! The loop of a shard's thread: sockets on one side, a [`Shard`] on the other.
//!
//! A turn is: what the poll reports (reads, commands), what the control plane asks, a batch of events, one vectored write for
//! every connection that has something to write, timers. What waits for a connection when its turn comes goes out in one
//! write; under load that is hundreds of frames, at rest one, and no timer delays it.
//!
//! Contract: nothing here blocks but the poll. A turn takes in at most [`TURN_EVENTS`] events or [`TURN_BYTES`] of them,
//! then everybody is written to, so a healthy reader's outbox is drained several times before its bound; a connection gets
//! at most [`WRITE_BYTES`] a turn, and the round begins at another place each turn, so that nobody is always last.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::{Events, Interest, Poll, Token};
use smallvec::SmallVec;

use super::decode::{DecodeError, Message, decode};
use super::guard::{Guard, GuardError};
use super::link::Link;
use super::pool::{Control, Newcomer, Permit};
use crate::auth::{Authority, Identity};
use crate::broker::Shard;
use crate::clock;
use crate::fanout::inbox::{Batch, Inbox};
use crate::fanout::{ConnId, Frame, Gathered};
use crate::frame;
use crate::metrics::{FilterCost, ShardMetrics};
use crate::protocol::Close;

/// The token of the wake-up.
pub(super) const WAKE: Token = Token(usize::MAX);

/// Events of a turn.
const TURN_EVENTS: usize = 256;

/// Bytes of events of a turn; a fraction of the default outbox.
const TURN_BYTES: usize = 1 << 20;

/// Bytes of one vectored write.
const WRITE_BYTES: usize = 256 << 10;

/// Bytes read from one connection in a turn; a client that floods waits for the others.
const READ_BYTES: usize = 64 << 10;

/// Times that the driver keeps.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between pings.
    pub ping: Duration,
    /// Without a sign of life.
    pub idle: Duration,
    /// For the client to take its close frame and go.
    pub close: Duration,
}

/// A connection of this shard.
#[derive(Debug)]
struct Conn {
    link: Link,
    guard: Guard,
    identity: Identity,
    peer: SocketAddr,
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
    pub(super) load: Arc<AtomicUsize>,
    pub(super) timing: Timing,
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
    /// A batch that was begun, and its next event.
    started: Option<(Arc<Batch>, usize)>,
    turn: usize,
    tick: Duration,
    next_tick: Instant,
    draining: Option<Instant>,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        let shortest = parts.timing.ping.min(parts.timing.idle).min(parts.timing.close);
        let tick = (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        Self {
            parts,
            conns: Vec::new(),
            open: 0,
            unread: Vec::new(),
            dirty: Vec::new(),
            scratch: vec![0; READ_BYTES].into(),
            started: None,
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
        self.draining.is_some() && self.open == 0
    }

    fn timeout(&mut self) -> Duration {
        let busy = self.has_events()
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
        self.take_events();
        self.flush();
        self.note_closing();
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
                Control::Drain(deadline) => self.drain(deadline),
            }
        }
    }

    fn adopt(&mut self, newcomer: Newcomer) {
        let Newcomer { stream, tls, early, identity, access, peer, permit } = newcomer;
        let Ok(mut link) = Link::new(stream, tls) else { return };
        let conn = self.parts.shard.open(identity.principal().clone(), &access);
        let token = Token(conn.0 as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.parts.poll.registry().register(link.source(), token, interest) {
            tracing::warn!(%error, %peer, "cannot watch a socket");
            self.parts.shard.remove(conn);
            return;
        }
        if conn.0 as usize >= self.conns.len() {
            self.conns.resize_with(conn.0 as usize + 1, || None);
        }
        let now = Instant::now();
        let (guard, deadline, reason) = (Guard::default(), None, None);
        self.conns[conn.0 as usize] = Some(Conn {
            link,
            guard,
            identity,
            peer,
            seen: now,
            pinged: now,
            deadline,
            reason,
            finished: false,
            _permit: permit,
        });
        self.open += 1;
        self.set_load();
        let metrics = self.parts.metrics.all();
        metrics.connections.inc();
        metrics.connections_opened.inc();
        if self.draining.is_some() {
            self.parts.shard.close(conn, Close::Draining);
        }
        self.heard(conn, &early);
        self.readable(conn);
    }

    fn set_load(&self) {
        self.parts.load.store(self.open, Ordering::Relaxed);
    }

    /// Reads what there is, within a turn's bound.
    fn readable(&mut self, conn: ConnId) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut left = READ_BYTES;
        while let Some(entry) = self.conn(conn) {
            match entry.link.read(&mut scratch[..left]) {
                Ok(0) => self.vanish(conn),
                Ok(n) => {
                    self.heard(conn, &scratch[..n]);
                    left -= n;
                    if left == 0 {
                        self.unread.push(conn);
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.vanish(conn),
            }
        }
        self.scratch = scratch;
        // TLS may have something to say of its own, such as a key update.
        if self.conn(conn).is_some_and(|entry| !entry.link.is_plain()) {
            self.flush_link(conn);
        }
    }

    /// Takes in bytes of a client.
    fn heard(&mut self, conn: ConnId, bytes: &[u8]) {
        let limit = self.parts.message_limit;
        let Some(entry) = self.conn(conn) else { return };
        entry.seen = Instant::now();
        let mut messages: SmallVec<[Result<Message, DecodeError>; 4]> = SmallVec::new();
        let result = entry.guard.feed(bytes, limit, |unit| messages.push(decode(unit, limit)));
        for message in messages {
            self.take_message(conn, message);
        }
        match result {
            Ok(()) => {}
            Err(GuardError::TooBig) => self.parts.shard.close(conn, Close::TooBig),
            Err(error) => {
                tracing::debug!(%error, "protocol error");
                self.parts.shard.close(conn, Close::Protocol);
            }
        }
    }

    fn take_message(&mut self, conn: ConnId, message: Result<Message, DecodeError>) {
        let shard = &mut self.parts.shard;
        match message {
            Ok(Message::Text(text)) => shard.text(conn, &text, clock::now()),
            Ok(Message::Binary) => shard.binary(conn, clock::now()),
            Ok(Message::Ping(payload)) => shard.control(conn, Frame::Control(frame::pong(&payload))),
            Ok(Message::Pong) => {}
            Ok(Message::Close(_)) if shard.fanout().is_closing(conn) => self.vanish_if_written(conn),
            Ok(Message::Close(_)) => shard.close(conn, Close::Normal),
            Err(DecodeError::BadUtf8) => shard.close(conn, Close::BadUtf8),
            Err(DecodeError::Malformed) => shard.close(conn, Close::Protocol),
        }
    }

    fn vanish_if_written(&mut self, conn: ConnId) {
        if self.parts.shard.fanout().depth(conn).events == 0 {
            self.vanish(conn);
        }
    }

    /// Forgets a connection; the socket closes with it.
    fn vanish(&mut self, conn: ConnId) {
        self.note_closing();
        let Some(mut entry) = self.conns.get_mut(conn.0 as usize).and_then(Option::take) else { return };
        self.parts.shard.remove(conn);
        // Closing the socket would do; a failure means that it is gone already.
        drop(self.parts.poll.registry().deregister(entry.link.source()));
        self.open -= 1;
        self.set_load();
        let metrics = self.parts.metrics.all();
        metrics.connections.dec();
        metrics.disconnected(entry.reason);
        let reason = entry.reason.map_or("vanished", Close::label);
        tracing::debug!(peer = %entry.peer, principal = %entry.identity.principal(), reason, "websocket closed");
    }

    fn writable(&mut self, conn: ConnId) {
        if self.conn(conn).is_some() {
            self.parts.shard.fanout().mark_dirty(conn);
            self.flush_link(conn);
        }
    }

    /// Hands encrypted bytes on, and ends a connection whose last frame is out.
    fn flush_link(&mut self, conn: ConnId) {
        let Some(entry) = self.conn(conn) else { return };
        match entry.link.flush() {
            Ok(()) => self.finish_if_written(conn),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.vanish(conn),
        }
    }

    fn finish_if_written(&mut self, conn: ConnId) {
        let fanout = self.parts.shard.fanout();
        if !fanout.is_closing(conn) || fanout.depth(conn).events > 0 {
            return;
        }
        let Some(entry) = self.conn(conn).filter(|entry| !entry.finished) else { return };
        match entry.link.finish() {
            Ok(()) => entry.finished = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.vanish(conn),
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

    /// Writes to every connection that has something to write.
    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.parts.shard.fanout().take_dirty(&mut dirty);
        if !dirty.is_empty() {
            self.turn = self.turn.wrapping_add(1);
            let start = self.turn.wrapping_mul(7919) % dirty.len();
            let (late, early) = dirty.split_at(start);
            for &conn in early.iter().chain(late) {
                self.write(conn);
            }
        }
        self.dirty = dirty;
    }

    fn write(&mut self, conn: ConnId) {
        let Some(entry) = self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return };
        let fanout = self.parts.shard.fanout();
        let mut gathered = Gathered::new();
        fanout.gather(conn, WRITE_BYTES, &mut gathered);
        if gathered.is_empty() {
            return;
        }
        let offered: usize = gathered.iter().map(|slice| slice.len()).sum();
        let result = entry.link.write(&gathered);
        drop(gathered);
        match result {
            Ok(n) => {
                let now_us = u64::try_from(self.parts.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
                fanout.advance(conn, n, now_us);
                if n < offered && entry.link.is_plain() {
                    fanout.set_blocked(conn);
                } else if fanout.is_closing(conn) && fanout.depth(conn).events == 0 {
                    self.flush_link(conn);
                } else {
                    fanout.mark_dirty(conn);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => fanout.set_blocked(conn),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => fanout.mark_dirty(conn),
            Err(_) => self.vanish(conn),
        }
    }

    /// Starts the clock for connections that got their close frame.
    fn note_closing(&mut self) {
        let deadline = Instant::now() + self.parts.timing.close;
        for (conn, close) in self.parts.shard.take_closing() {
            let draining = self.draining;
            if let Some(entry) = self.conn(conn) {
                entry.deadline = Some(draining.map_or(deadline, |drain| drain.max(deadline)));
                entry.reason = Some(close);
                if let Close::SlowConsumer { events, bytes } = close {
                    tracing::warn!(peer = %entry.peer, principal = %entry.identity.principal(), events, bytes, "slow consumer");
                }
            }
        }
    }

    fn keep_time(&mut self) {
        let now = Instant::now();
        for at in 0..self.conns.len() {
            let conn = ConnId(u32::try_from(at).expect("fewer than 4 billion connections"));
            self.keep_time_of(conn, now);
        }
        self.note_closing();
        let deepest = self.parts.shard.fanout().deepest();
        self.parts.metrics.peak(deepest);
    }

    fn keep_time_of(&mut self, conn: ConnId, now: Instant) {
        let Timing { ping, idle, .. } = self.parts.timing;
        let Some(entry) = self.conn(conn) else { return };
        if let Some(deadline) = entry.deadline {
            if now >= deadline {
                self.vanish(conn);
            }
        } else if now.duration_since(entry.seen) >= idle {
            self.parts.shard.close(conn, Close::Silent);
        } else if now.duration_since(entry.pinged) >= ping {
            entry.pinged = now;
            self.parts.shard.control(conn, Frame::Constant(frame::PING));
        }
    }

    /// Rights have changed somewhere: every connection gets those that are its own now.
    fn review_access(&mut self) {
        for at in 0..self.conns.len() {
            let conn = ConnId(u32::try_from(at).expect("fewer than 4 billion connections"));
            let authority = Arc::clone(&self.parts.authority);
            let Some(entry) = self.conn(conn) else { continue };
            match authority.access(&entry.identity) {
                Ok(access) => self.parts.shard.set_access(conn, &access),
                Err(_) => self.parts.shard.close(conn, Close::Revoked),
            }
        }
    }

    /// Delivers what was taken in, then says good-bye to everybody.
    fn drain(&mut self, deadline: Instant) {
        while self.has_events() {
            self.take_events();
            self.flush();
        }
        self.draining = Some(deadline);
        for at in 0..self.conns.len() {
            let conn = ConnId(u32::try_from(at).expect("fewer than 4 billion connections"));
            if self.conn(conn).is_some() {
                self.parts.shard.close(conn, Close::Draining);
            }
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
        for (outcome, count) in shard.take_commands().iter().filter(|(_, count)| *count > 0) {
            metrics.all().command(outcome, count);
        }
    }
}
