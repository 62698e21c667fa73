//! Adds connections to a shard, removes them, and lists them.
//!
//! Contract: a connection begins with the rights of the moment at which it is adopted, and gets changed ones when a
//! round reaches it. An event reports each that comes or goes; while the inboxes are full these events wait. What many
//! clients can cause at once (failed sockets, changed rights, reports) is done in portions, one a turn.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashSet;
use jiff::Timestamp;
use mio::Token;

use super::turn::{ANNOUNCED, FORGOTTEN, Input, MOVED, NAMES, REVIEWED};
use super::{Conn, Driver, Ending, HeldCommand, Output};
use crate::AUDIT;
use crate::auth::{Access, AccessId};
use crate::broker::PublishError;
use crate::broker::connection::{Connection, Kind};
use crate::clock;
use crate::fanout::control::Newcomer;
use crate::fanout::outbox::{ConnId, Frame};
use crate::fanout::socket::Socket;
use crate::metrics::Source;
use crate::overflow::Overflow;
use crate::protocol::Close;
use crate::websocket::frame;
use crate::websocket::validator::FrameValidator;

/// A round in which the rights of all connections are looked up again.
#[derive(Debug, Default)]
pub(super) struct Review {
    /// The next connection.
    pub(super) next: usize,
    /// The rights found so far: each is compiled once.
    found: HashSet<AccessId>,
}

impl Review {
    /// Returns the number of names in these rights if they were not found before in this round.
    fn names(&mut self, access: &Access) -> usize {
        if self.found.insert(access.id()) { access.names() } else { 0 }
    }
}

impl<S: Socket> Driver<S> {
    pub(super) fn adopt(&mut self, newcomer: Newcomer<S::Accepted>) {
        let Newcomer { socket, head, early, encoding, identity, rights, overflow, peer, since, .. } = newcomer;
        let Newcomer { warnings, registrations, permit, .. } = newcomer;
        // Compared on this thread, which is notified of changes: a client whose access was revoked in the meantime is
        // refused, and no connection keeps outdated rights.
        let (Ok(access), Ok(mut link)) = (self.parts.authority.renew(&identity, rights), S::open(socket)) else {
            return self.set_load();
        };
        let (shard, principal) = (&mut self.parts.shard, identity.principal().clone());
        let conn = match since {
            Some(start) => shard.open_since(principal, &access, overflow, start, registrations.len()),
            None => shard.open(principal, &access, overflow),
        };
        if !encoding.is_websocket() {
            link.bound_silence(self.parts.timing.idle);
        }
        if let Err(error) = link.register(self.parts.poll.registry(), Token(conn.0 as usize)) {
            tracing::warn!(%error, %peer, "cannot register a client's socket with the poll; closing it");
            self.parts.shard.remove(conn);
            return self.set_load();
        }
        if conn.0 as usize >= self.conns.len() {
            self.conns.resize_with(conn.0 as usize + 1, || None);
        }
        let (seen, pinged) = (self.listening.now(), self.now());
        let (created, mut validator) = (clock::now().as_microsecond(), FrameValidator::new(encoding));
        // As if the client had sent them first, so they are executed in order and within the time limits, as all
        // commands are.
        registrations.iter().for_each(|spec| validator.keep(&frame::from_client(&format!("register {spec}"))));
        validator.keep(&early);
        self.conns[conn.0 as usize] = Some(Conn {
            link,
            validator,
            identity,
            peer,
            created,
            seen,
            pinged,
            input: Input::Idle,
            speaks: encoding.is_websocket(),
            kept: !early.is_empty() || !registrations.is_empty(),
            incomplete: 0,
            mark: self.next_number(),
            command: None,
            ending: None,
            output: Output::Open,
            _permit: permit,
        });
        self.parts.shard.fanout().set_encoding(conn, encoding);
        if !warnings {
            self.parts.shard.set_unwarned(conn);
        }
        if let Some(head) = head {
            self.parts.shard.control(conn, Frame::Control(head));
        }
        self.open += 1;
        self.welcome(conn);
        self.enqueue(conn);
    }

    fn welcome(&mut self, conn: ConnId) {
        self.set_load();
        let metrics = self.parts.metrics.all();
        metrics.connections.inc();
        metrics.connections_opened.inc();
        if let Some(connection) = self.describe(conn) {
            let Connection { principal, remote_addr, encoding, .. } = &connection;
            tracing::info!(target: AUDIT, %principal, peer = %remote_addr, encoding, "connection opened");
            self.announce("create", &connection);
        }
        if self.draining.is_some_and(|drain| drain.close_sent) {
            self.parts.shard.close(conn, Close::Draining);
        }
    }

    /// Returns the connection as operators see it.
    pub(super) fn describe(&mut self, conn: ConnId) -> Option<Connection> {
        let entry = self.conns.get(conn.0 as usize)?.as_ref()?;
        let (principal, expires) = (entry.identity.principal(), entry.identity.expires_at());
        let who = (principal.as_str(), principal.account());
        let encoding = self.parts.shard.fanout().encoding(conn);
        let kind = if encoding.is_websocket() { Kind::Websocket } else { Kind::Stream };
        let created = Timestamp::from_microsecond(entry.created).expect("it was a timestamp");
        let mut connection = Connection::new(kind, who, entry.peer, created, expires);
        connection.encoding = Some(encoding.name());
        let shard = &mut self.parts.shard;
        connection.registrations = shard.registrations(conn);
        let depth = shard.fanout().depth(conn);
        (connection.queued_events, connection.queued_bytes) = (depth.events, depth.bytes);
        (connection.delivered_events, connection.dropped_events) = shard.fanout().totals(conn);
        connection.overflow = shard.fanout().policy(conn).map(Overflow::name);
        let oldest = shard.fanout().oldest_us(conn);
        connection.queued_age_milliseconds = oldest.map_or(0, |us| self.now_us().saturating_sub(us) / 1000);
        Some(connection)
    }

    /// Publishes an event about a connection; while the inboxes are full it waits for a later turn.
    fn announce(&mut self, action: &str, connection: &Connection) {
        if self.parts.connection_events {
            self.pending_events.extend(self.parts.broker.connection_event(action, connection, clock::now()));
            self.announce_pending();
        }
    }

    /// Publishes pending events about connections: a portion, which finds room beside other events.
    pub(super) fn announce_pending(&mut self) {
        let mut portion = ANNOUNCED.min(self.pending_events.len());
        while portion > 0 {
            let events = self.pending_events.drain(..portion).collect();
            match self.parts.broker.publish_or_return(events, Source::Connections) {
                Err((PublishError::Full { .. }, events)) => {
                    events.into_iter().rev().for_each(|event| self.pending_events.push_front(event));
                    portion /= 2;
                }
                Ok(_) | Err((PublishError::Stopped, _)) => return,
            }
        }
    }

    fn set_load(&self) {
        self.parts.load.store(self.open, Ordering::Relaxed);
    }

    /// Queues a connection whose socket has failed, to be forgotten when the turn has time for it: an attacker may
    /// close thousands at once, each with thousands of registrations.
    pub(super) fn lose(&mut self, conn: ConnId) {
        if let Some(entry) = self.conn(conn).filter(|entry| entry.output != Output::Lost) {
            entry.output = Output::Lost;
            self.lost.push_back(conn);
        }
    }

    /// Forgets some of the connections whose sockets have failed.
    pub(super) fn forget_lost(&mut self) {
        let mut forgotten = 0;
        while forgotten < FORGOTTEN
            && let Some(conn) = self.lost.pop_front()
        {
            // It may have been forgotten for another reason, and its number reused for another connection.
            if self.conn(conn).is_some_and(|entry| entry.output == Output::Lost) {
                forgotten += 1;
                self.vanish(conn);
            }
        }
    }

    /// Forgets a connection and closes its socket.
    pub(super) fn vanish(&mut self, conn: ConnId) {
        self.note_closing();
        let described = self.describe(conn);
        let Some(mut entry) = self.conns.get_mut(conn.0 as usize).and_then(Option::take) else { return };
        self.parts.shard.remove(conn);
        if let Some(HeldCommand::Parsing(ticket)) = entry.command.as_deref() {
            let is_taken_back = self.parts.parser.cancel(entry.identity.principal(), *ticket);
            self.parsing -= usize::from(is_taken_back);
        }
        self.forget_incomplete(entry.identity.principal(), entry.incomplete);
        // Closing the socket would suffice; a failure means that it is already closed.
        drop(entry.link.deregister(self.parts.poll.registry()));
        self.open -= 1;
        self.set_load();
        let metrics = self.parts.metrics.all();
        metrics.connections.dec();
        let reason = entry.ending.map(|ending| ending.reason);
        metrics.disconnected(reason);
        let reason = reason.map_or("vanished", Close::label);
        let (principal, peer) = (entry.identity.principal(), entry.peer);
        tracing::info!(target: AUDIT, %principal, %peer, reason, "connection closed");
        if let Some(connection) = described {
            self.announce("delete", &connection);
        }
    }

    /// Sets the deadline of connections that were sent their close frame.
    pub(super) fn note_closing(&mut self) {
        let now = clock::instant();
        let deadline = now + self.parts.timing.close;
        for (conn, close) in self.parts.shard.take_closing() {
            let draining = self.draining;
            // It gets nothing more that its command could wait for, and its answer to the close frame has to be read.
            self.release_lagging(conn);
            if let Some(entry) = self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut) {
                let deadline =
                    draining.filter(|_| entry.output != Output::Finished).map_or(deadline, |drain| drain.deadline);
                entry.ending = Some(Box::new(Ending { reason: close, deadline }));
                self.closings.note(close, entry.identity.principal(), entry.peer, now);
            }
        }
    }

    /// After a change of rights, looks up the rights of every connection again, some hundred per turn.
    pub(super) fn review_access(&mut self) {
        // Connections that open meanwhile have current rights. If rights change again before the round ends, another
        // round follows.
        if self.reviewing.is_none() && self.parts.review.swap(false, Ordering::AcqRel) {
            self.reviewing = Some(Review::default());
        }
        let Some(mut review) = self.reviewing.take() else { return };
        let most = self.conns.len().min(review.next + REVIEWED);
        let (mut moved, mut names) = (0, 0);
        while review.next < most && moved < MOVED && names < NAMES {
            let conn = ConnId(u32::try_from(review.next).expect("fewer than 4 billion connections"));
            review.next += 1;
            let authority = Arc::clone(&self.parts.authority);
            let Some(entry) = self.conn(conn) else { continue };
            match authority.access(&entry.identity) {
                Ok(access) => {
                    names += review.names(&access);
                    moved += self.parts.shard.set_access(conn, &access);
                }
                Err(_) => self.parts.shard.close(conn, Close::Revoked),
            }
        }
        self.reviewing = Some(review).filter(|review| review.next < self.conns.len());
    }
}
