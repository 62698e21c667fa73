//! Requests about connections: listing those of a shard, finding the one from an address, reporting on one and closing
//! one.
//!
//! Contract: each turn visits some hundred connections and reports on the registrations of one, whatever the number of
//! requests. A list contains every connection that exists throughout exactly once, and may contain some that open or
//! close meanwhile. Whoever reports on a connection or closes it has found it before; if it has gone meanwhile, its
//! number may be that of another one, so the address is compared again. A request whose caller is gone is abandoned;
//! beyond [`ERRANDS`] queued requests of a kind, new ones are not answered, which their callers notice.

use std::collections::VecDeque;
use std::ops::Range;

use tokio::sync::oneshot;

use super::Driver;
use super::turn::{ERRANDS, LISTED};
use crate::broker::connection::Connection;
use crate::fanout::control::Wanted;
use crate::fanout::outbox::ConnId;
use crate::fanout::report::Inspection;
use crate::fanout::socket::Socket;
use crate::protocol::Close;

/// The requests in progress.
#[derive(Debug, Default)]
pub(super) struct Errands {
    visits: VecDeque<Visit>,
    inspections: VecDeque<(ConnId, Wanted, oneshot::Sender<Option<Inspection>>)>,
}

impl Errands {
    pub(super) fn is_empty(&self) -> bool {
        self.visits.is_empty() && self.inspections.is_empty()
    }
}

/// A visit to all connections in progress, with the next one.
#[derive(Debug)]
struct Visit {
    next: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The connections found, one chunk per turn: a single list would be moved again and again as it grows.
    List(Option<Box<str>>, Vec<Vec<Connection>>, oneshot::Sender<Vec<Vec<Connection>>>),
    Find(Wanted, oneshot::Sender<Option<ConnId>>),
}

impl What {
    fn is_in_vain(&self) -> bool {
        match self {
            Self::List(.., reply) => reply.is_closed(),
            Self::Find(_, reply) => reply.is_closed(),
        }
    }

    fn finish(self) {
        match self {
            Self::List(_, found, reply) => answer(reply, found),
            Self::Find(_, reply) => answer(reply, None),
        }
    }
}

impl<S: Socket> Driver<S> {
    /// Lists every connection, or those that have the registration with this text.
    pub(super) fn list(&mut self, registration: Option<Box<str>>, reply: oneshot::Sender<Vec<Vec<Connection>>>) {
        self.begin_visit(What::List(registration, Vec::new(), reply));
    }

    /// Finds this connection, if it belongs to this shard.
    pub(super) fn look_for(&mut self, wanted: Wanted, reply: oneshot::Sender<Option<ConnId>>) {
        self.begin_visit(What::Find(wanted, reply));
    }

    fn begin_visit(&mut self, what: What) {
        if self.errands.visits.len() < ERRANDS {
            self.errands.visits.push_back(Visit { next: 0, what });
        }
    }

    /// Reports on this connection and its registrations, unless it has gone.
    pub(super) fn look_into(&mut self, conn: ConnId, wanted: Wanted, reply: oneshot::Sender<Option<Inspection>>) {
        if self.errands.inspections.len() < ERRANDS {
            self.errands.inspections.push_back((conn, wanted, reply));
        }
    }

    /// Closes this connection and reports on it, unless it has gone.
    pub(super) fn end_one(&mut self, conn: ConnId, wanted: &Wanted, reply: oneshot::Sender<Option<Connection>>) {
        let mut ended = None;
        if !reply.is_closed() && self.is_wanted(conn, wanted) {
            ended = self.describe(conn);
            self.parts.shard.close(conn, Close::Deleted);
        }
        answer(reply, ended);
    }

    /// Continues the first requests.
    pub(super) fn run_errands(&mut self) {
        self.inspect_one();
        let mut left = LISTED;
        while left > 0
            && let Some(Visit { next, what }) = self.errands.visits.pop_front()
        {
            if what.is_in_vain() {
                continue;
            }
            let end = self.conns.len().min(next + left);
            left = left.saturating_sub((end - next).max(1));
            let Some(what) = self.visit(next..end, what) else { continue };
            if end < self.conns.len() {
                self.errands.visits.push_front(Visit { next: end, what });
            } else {
                what.finish();
            }
        }
    }

    /// Reports on the first connection whose caller still waits: each may have thousands of registrations to copy.
    fn inspect_one(&mut self) {
        let inspections = &mut self.errands.inspections;
        inspections.retain(|(.., reply)| !reply.is_closed());
        let Some((conn, wanted, reply)) = inspections.pop_front() else { return };
        let found = if self.is_wanted(conn, &wanted) { self.inspect(conn) } else { None };
        answer(reply, found);
    }

    /// Visits some connections. Returns the request unless it is answered.
    fn visit(&mut self, some: Range<usize>, what: What) -> Option<What> {
        let mut some = some.map(|at| ConnId(u32::try_from(at).expect("fewer than 4 billion connections")));
        match what {
            What::List(registration, mut found, reply) => {
                let mut part = Vec::with_capacity(if registration.is_some() { 0 } else { some.len() });
                for conn in some {
                    if registration.as_ref().is_none_or(|text| self.parts.shard.has_registration(conn, text)) {
                        part.extend(self.describe(conn));
                    }
                }
                found.push(part);
                Some(What::List(registration, found, reply))
            }
            What::Find(wanted, reply) => {
                let Some(conn) = some.find(|conn| self.is_wanted(*conn, &wanted)) else {
                    return Some(What::Find(wanted, reply));
                };
                answer(reply, Some(conn));
                None
            }
        }
    }

    fn is_wanted(&mut self, conn: ConnId, wanted: &Wanted) -> bool {
        self.conn(conn).is_some_and(|entry| wanted.is(entry.peer, entry.identity.principal().as_str()))
    }
}

/// Answers a caller, who may have gone.
fn answer<T>(reply: oneshot::Sender<T>, found: T) {
    let _ = reply.send(found);
}
