//! What the control plane sends to a shard: new connections, each with its permit, and requests.
//!
//! Contract: any thread may use it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::outbox::ConnId;
use super::permit::Permit;
use super::report::{Inspection, Registration};
use super::socket::Accepted;
use crate::auth::{Access, Identity, Rights};
use crate::broker::connection::Connection;
use crate::broker::history::Start;
use crate::index::{Measure, Seen};
use crate::overflow::Overflow;
use crate::websocket::frame::Encoding;

/// An authenticated websocket or stream on its way to a shard.
#[derive(Debug)]
pub struct Newcomer<A = Accepted> {
    /// The socket.
    pub socket: A,
    /// The head of the HTTP response, if it is not yet written.
    pub head: Option<Box<[u8]>>,
    /// Bytes that the client already sent after its handshake.
    pub early: Bytes,
    /// The encoding of its events.
    pub encoding: Encoding,
    /// The authenticated identity.
    pub identity: Identity,
    /// Its rights at the handshake.
    pub rights: Rights,
    /// The overflow policy of its outbox.
    pub overflow: Overflow,
    /// The client's address.
    pub peer: SocketAddr,
    /// Where its replay starts, if it asked for one.
    pub since: Option<Start>,
    /// Whether answers contain warnings about registrations.
    pub warnings: bool,
    /// The registrations of its query.
    pub registrations: Vec<Box<str>>,
    /// Its permit among the connections.
    pub permit: Permit,
}

/// The connection that a request is about.
#[derive(Debug, Clone)]
pub struct Wanted {
    peer: SocketAddr,
    /// Absent: the caller may see all connections.
    access: Option<Arc<Access>>,
}

impl Wanted {
    /// Selects the connection from this address. Behind proxies several connections can have one; then the first one
    /// among those of a shard is selected.
    pub fn at(peer: SocketAddr) -> Self {
        Self { peer, access: None }
    }

    /// Restricts the search to a connection that its tenant shows to the caller.
    #[must_use]
    pub fn shown_to(self, access: Arc<Access>) -> Self {
        Self { access: Some(access), ..self }
    }

    /// Returns whether a connection is the wanted one.
    pub(crate) fn is(&self, peer: SocketAddr, principal: &str) -> bool {
        self.peer == peer && self.access.as_ref().is_none_or(|access| access.shows_connection(principal))
    }
}

/// A request of the control plane to a shard.
#[derive(Debug)]
pub(crate) enum Control<A = Accepted> {
    Adopt(Box<Newcomer<A>>),
    /// Lists all connections, or those that have the registration with this text.
    List(Option<Box<str>>, oneshot::Sender<Vec<Vec<Connection>>>),
    /// Finds this connection, if the shard has it.
    Find(Wanted, oneshot::Sender<Option<ConnId>>),
    /// Closes a connection that was found.
    Delete(ConnId, Wanted, oneshot::Sender<Option<Connection>>),
    /// Reports on a connection that was found.
    Inspect(ConnId, Wanted, oneshot::Sender<Option<Inspection>>),
    Survey(Measure, oneshot::Sender<Vec<Registration>>),
    Seen(oneshot::Sender<Seen>),
    Types(Arc<[Box<str>]>),
}
