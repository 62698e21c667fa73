//! What somebody asks about all connections of a shard: a list of them, or the one from an address.
//!
//! Contract: some hundred connections a turn, whoever asks. A connection that is there all the while is on the list
//! once; of those that come and go meanwhile some are. Who has gone is not looked for any more; beyond [`ERRANDS`] that
//! wait, nobody is answered.

use std::net::SocketAddr;

use tokio::sync::oneshot;

use super::Driver;
use super::turn::{ERRANDS, LISTED};
use crate::broker::connection::Connection;
use crate::fanout::outbox::ConnId;
use crate::fanout::report::Inspection;
use crate::protocol::Close;

/// Something that is under way, with the next connection to look at.
#[derive(Debug)]
pub(super) struct Errand {
    next: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    /// What was found, a chunk for each part of the way: one list for all would be moved again and again as it grows.
    List(Vec<Vec<Connection>>, oneshot::Sender<Vec<Vec<Connection>>>),
    Delete(SocketAddr, oneshot::Sender<Option<Connection>>),
    Inspect(SocketAddr, oneshot::Sender<Option<Inspection>>),
}

impl What {
    fn is_in_vain(&self) -> bool {
        match self {
            Self::List(_, reply) => reply.is_closed(),
            Self::Delete(_, reply) => reply.is_closed(),
            Self::Inspect(_, reply) => reply.is_closed(),
        }
    }

    /// The next part of the way begins, over so many connections.
    fn begin_part(&mut self, length: usize) {
        if let Self::List(found, _) = self {
            found.push(Vec::with_capacity(length));
        }
    }

    fn finish(self) {
        // Who asked may have gone.
        match self {
            Self::List(found, reply) => drop(reply.send(found)),
            Self::Delete(_, reply) => drop(reply.send(None)),
            Self::Inspect(_, reply) => drop(reply.send(None)),
        }
    }
}

impl Driver {
    /// Lists every connection.
    pub(super) fn list(&mut self, reply: oneshot::Sender<Vec<Vec<Connection>>>) {
        self.begin_errand(What::List(Vec::new(), reply));
    }

    /// Looks at the connection from this address with its registrations, if it is one of this shard's.
    pub(super) fn look_into(&mut self, peer: SocketAddr, reply: oneshot::Sender<Option<Inspection>>) {
        self.begin_errand(What::Inspect(peer, reply));
    }

    /// Closes the connection from this address, if it is one of this shard's.
    pub(super) fn look_for(&mut self, peer: SocketAddr, reply: oneshot::Sender<Option<Connection>>) {
        self.begin_errand(What::Delete(peer, reply));
    }

    fn begin_errand(&mut self, what: What) {
        if self.errands.len() < ERRANDS {
            self.errands.push_back(Errand { next: 0, what });
        }
    }

    /// Goes on with what was asked first.
    pub(super) fn run_errands(&mut self) {
        let mut left = LISTED;
        while left > 0
            && let Some(Errand { next, mut what }) = self.errands.pop_front()
        {
            let end = self.conns.len().min(next + left);
            left -= end - next;
            what.begin_part(end - next);
            let found = !what.is_in_vain() && (next..end).any(|at| self.look_at(at, &mut what));
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

    /// Returns whether nothing else is to be looked at.
    fn look_at(&mut self, at: usize, what: &mut What) -> bool {
        let conn = ConnId(u32::try_from(at).expect("fewer than 4 billion connections"));
        match what {
            What::List(found, _) => {
                found.last_mut().expect("begun with this part of the way").extend(self.describe(conn));
                false
            }
            What::Inspect(peer, reply) => {
                if self.conn(conn).is_none_or(|entry| entry.peer != *peer) {
                    return false;
                }
                let inspection = self.inspect(conn);
                answer(reply, inspection);
                true
            }
            What::Delete(peer, reply) => {
                if self.conn(conn).is_none_or(|entry| entry.peer != *peer) {
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

/// Answers at once; a sender that was used is closed.
fn answer<T>(reply: &mut oneshot::Sender<Option<T>>, found: Option<T>) {
    let (nobody, _) = oneshot::channel();
    drop(std::mem::replace(reply, nobody).send(found));
}
