//! Requests that visit all connections of a shard: listing them, or finding the one from an address.
//!
//! Contract: each turn visits some hundred connections and reports on the registrations of one, whatever the number of
//! requests. A list contains every connection that exists throughout exactly once, and may contain some that open or
//! close meanwhile. A request whose caller is gone is abandoned; beyond [`ERRANDS`] queued requests, new ones are not
//! answered, which their callers notice.

use tokio::sync::oneshot;

use super::Driver;
use super::turn::{ERRANDS, LISTED};
use crate::broker::connection::Connection;
use crate::fanout::control::Wanted;
use crate::fanout::outbox::ConnId;
use crate::fanout::report::Inspection;
use crate::fanout::socket::Socket;
use crate::protocol::Close;

/// A request in progress, with the next connection to visit.
#[derive(Debug)]
pub(super) struct Errand {
    next: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The connections found, one chunk per turn: a single list would be moved again and again as it grows.
    List(Option<Box<str>>, Vec<Vec<Connection>>, oneshot::Sender<Vec<Vec<Connection>>>),
    Find(Wanted, oneshot::Sender<bool>),
    Delete(Wanted, oneshot::Sender<Option<Connection>>),
    Inspect(Wanted, oneshot::Sender<Option<Inspection>>),
}

impl What {
    fn is_in_vain(&self) -> bool {
        match self {
            Self::List(.., reply) => reply.is_closed(),
            Self::Find(_, reply) => reply.is_closed(),
            Self::Delete(_, reply) => reply.is_closed(),
            Self::Inspect(_, reply) => reply.is_closed(),
        }
    }

    /// Begins the next part, over `length` connections.
    fn begin_part(&mut self, length: usize) {
        if let Self::List(registration, found, _) = self {
            found.push(Vec::with_capacity(if registration.is_some() { 0 } else { length }));
        }
    }

    fn finish(self) {
        // The caller may have gone.
        match self {
            Self::List(_, found, reply) => drop(reply.send(found)),
            Self::Find(_, reply) => drop(reply.send(false)),
            Self::Delete(_, reply) => drop(reply.send(None)),
            Self::Inspect(_, reply) => drop(reply.send(None)),
        }
    }
}

impl<S: Socket> Driver<S> {
    /// Lists every connection, or those that have the registration with this text.
    pub(super) fn list(&mut self, registration: Option<Box<str>>, reply: oneshot::Sender<Vec<Vec<Connection>>>) {
        self.begin_errand(What::List(registration, Vec::new(), reply));
    }

    /// Inspects this connection with its registrations, if it belongs to this shard.
    pub(super) fn look_into(&mut self, wanted: Wanted, reply: oneshot::Sender<Option<Inspection>>) {
        self.begin_errand(What::Inspect(wanted, reply));
    }

    /// Determines whether this connection belongs to this shard.
    pub(super) fn look_for(&mut self, wanted: Wanted, reply: oneshot::Sender<bool>) {
        self.begin_errand(What::Find(wanted, reply));
    }

    /// Closes this connection, if it belongs to this shard.
    pub(super) fn end_one(&mut self, wanted: Wanted, reply: oneshot::Sender<Option<Connection>>) {
        self.begin_errand(What::Delete(wanted, reply));
    }

    fn begin_errand(&mut self, what: What) {
        if self.errands.len() < ERRANDS {
            self.errands.push_back(Errand { next: 0, what });
        }
    }

    /// Continues the first request.
    pub(super) fn run_errands(&mut self) {
        let (mut left, mut has_inspected) = (LISTED, false);
        while left > 0
            && let Some(Errand { next, mut what }) = self.errands.pop_front()
        {
            let is_inspection = matches!(what, What::Inspect(..));
            if is_inspection && has_inspected {
                // Each may copy thousands of registrations.
                self.errands.push_front(Errand { next, what });
                break;
            }
            let end = self.conns.len().min(next + left);
            left -= end - next;
            what.begin_part(end - next);
            let found = !what.is_in_vain() && (next..end).any(|at| self.look_at(at, &mut what));
            has_inspected |= found && is_inspection;
            if found || what.is_in_vain() {
                continue;
            }
            if end < self.conns.len() {
                self.errands.push_front(Errand { next: end, what });
            } else {
                left = left.saturating_sub(1);
                what.finish();
            }
        }
    }

    fn is_wanted(&mut self, conn: ConnId, wanted: &Wanted) -> bool {
        self.conn(conn).is_some_and(|entry| wanted.is(entry.peer, entry.identity.principal().as_str()))
    }

    /// Visits one connection. Returns whether the request is answered.
    fn look_at(&mut self, at: usize, what: &mut What) -> bool {
        let conn = ConnId(u32::try_from(at).expect("fewer than 4 billion connections"));
        match what {
            What::List(registration, found, _) => {
                if registration.as_ref().is_none_or(|text| self.parts.shard.has_registration(conn, text)) {
                    found.last_mut().expect("begun with the list or with this part").extend(self.describe(conn));
                }
                false
            }
            What::Find(wanted, reply) => {
                if !self.is_wanted(conn, wanted) {
                    return false;
                }
                answer(reply, true);
                true
            }
            What::Inspect(wanted, reply) => {
                if !self.is_wanted(conn, wanted) {
                    return false;
                }
                let inspection = self.inspect(conn);
                answer(reply, inspection);
                true
            }
            What::Delete(wanted, reply) => {
                if !self.is_wanted(conn, wanted) {
                    return false;
                }
                let connection = self.describe(conn);
                self.parts.shard.close(conn, Close::Deleted);
                answer(reply, connection);
                true
            }
        }
    }
}

/// Answers immediately; a sender counts as closed after use.
fn answer<T>(reply: &mut oneshot::Sender<T>, found: T) {
    let (nobody, _) = oneshot::channel();
    drop(std::mem::replace(reply, nobody).send(found));
}
