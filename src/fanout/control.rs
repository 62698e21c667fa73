//! What the control plane hands to a shard: new connections, each with its permit, and requests.
//!
//! Contract: any thread may use it. A [`Permit`] counts one connection for as long as the permit exists, wherever it
//! is.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use rustls::ServerConnection;
use tokio::sync::oneshot;

use super::report::{Inspection, Registration};
use crate::auth::Identity;
use crate::broker::connection::Connection;
use crate::broker::history::Start;
use crate::index::{Measure, Seen};
use crate::overflow::Overflow;
use crate::websocket::frame::Encoding;

/// Counts the connections that exist, so that there is a bound on them.
#[derive(Debug, Clone)]
pub struct Admission {
    open: Arc<AtomicUsize>,
    limit: usize,
}

impl Admission {
    /// Admits up to `limit` connections at a time.
    pub fn new(limit: usize) -> Self {
        Self { open: Arc::default(), limit }
    }

    /// A place for one more connection, if there is one.
    pub fn admit(&self) -> Option<Permit> {
        let admitted = self.open.fetch_add(1, Ordering::AcqRel) < self.limit;
        let permit = Permit { open: Arc::clone(&self.open), beside: None };
        admitted.then_some(permit)
    }
}

/// A connection's place; given back when dropped, and with it whatever else it holds a place in.
#[derive(Debug)]
pub struct Permit {
    open: Arc<AtomicUsize>,
    beside: Option<Box<dyn Guard>>,
}

/// Something that is given back when it is dropped.
pub trait Guard: fmt::Debug + Send + 'static {}

impl<T: fmt::Debug + Send + 'static> Guard for T {}

impl Permit {
    /// The same place, and another one.
    #[must_use]
    pub fn beside(mut self, guard: impl Guard) -> Self {
        self.beside = Some(Box::new(guard));
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.beside = None;
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An authenticated websocket or stream on its way to a shard.
#[derive(Debug)]
pub struct Newcomer {
    /// The socket.
    pub stream: TcpStream,
    /// Its TLS session, if it has one.
    pub tls: Option<Box<ServerConnection>>,
    /// The head of the answer, if that is yet to be written.
    pub head: Option<Box<[u8]>>,
    /// What the client sent behind its handshake already.
    pub early: Bytes,
    /// How events are written down for it.
    pub encoding: Encoding,
    /// Who it is.
    pub identity: Identity,
    /// What happens if it does not follow.
    pub overflow: Overflow,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// From where on it wants the past, if it does.
    pub since: Option<Start>,
    /// Whether answers tell what is odd about registrations.
    pub warnings: bool,
    /// What it registers for by its query.
    pub registrations: Vec<Box<str>>,
    /// Its place among the connections.
    pub permit: Permit,
}

/// What the control plane asks of a shard.
#[derive(Debug)]
pub(super) enum Control {
    Adopt(Box<Newcomer>),
    Drain(Instant),
    List(oneshot::Sender<Vec<Vec<Connection>>>),
    Delete(SocketAddr, oneshot::Sender<Option<Connection>>),
    Inspect(SocketAddr, oneshot::Sender<Option<Inspection>>),
    Survey(Measure, oneshot::Sender<Vec<Registration>>),
    Seen(oneshot::Sender<Seen>),
    Types(Arc<[Box<str>]>),
}
