//! The client of an HTTP connection, as far as the transport knows it.
//!
//! Contract: made once per connection and, behind a proxy that reports its clients, once more per request. Until
//! [`Caller::trust`] is called, the connection occupies one of the places for unauthenticated connections. Their
//! number is bounded, so clients that open sockets and say nothing use up no more than that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::Response;
use parking_lot::Mutex;

use super::forwarded::Forwarded;
use super::handover::{Handover, Parts};
use super::pending::PendingSlot;
use super::socket::Socket;
use crate::auth::ClientCertificate;

/// The sender of a request, and the connection that it came on.
#[derive(Debug)]
pub struct Caller {
    /// Where the request comes from: the client's address, also where a trusted proxy is the other end of the
    /// connection.
    pub peer: SocketAddr,
    /// What stands for the connection: the address of its other end, or of the client that the PROXY protocol named.
    pub connection: SocketAddr,
    /// What a trusted proxy says of the request, if the request came by one.
    pub forwarded: Option<Forwarded>,
    /// What the client showed in the TLS handshake, verified. That of a proxy is not its clients'.
    pub certificate: Option<ClientCertificate>,
    slot: Arc<Mutex<Option<PendingSlot>>>,
    /// Whether the sender of this request has shown good credentials. Others may come on the same connection of a
    /// proxy.
    has_shown: AtomicBool,
    handover: Arc<Handover>,
}

impl Caller {
    /// Somebody of whom nothing more is known, with a place among those, at this socket.
    pub fn new(peer: SocketAddr, socket: &Socket, slot: PendingSlot) -> Self {
        let slot = Arc::new(Mutex::new(Some(slot)));
        let (certificate, handover) = (socket.certificate(), Arc::clone(socket.handover()));
        Self { peer, connection: peer, forwarded: None, certificate, slot, has_shown: AtomicBool::new(false), handover }
    }

    /// The client of whom a trusted proxy tells on this connection.
    #[must_use]
    pub(super) fn behind(&self, forwarded: Forwarded) -> Self {
        let peer = forwarded.client;
        if let Some(slot) = &*self.slot.lock() {
            slot.belongs_to(peer.ip());
        }
        let (connection, slot, handover) = (self.connection, Arc::clone(&self.slot), Arc::clone(&self.handover));
        Self {
            peer,
            connection,
            forwarded: Some(forwarded),
            certificate: None,
            slot,
            has_shown: AtomicBool::new(false),
            handover,
        }
    }

    /// Takes the socket off HTTP with the answer to the request that is being worked on, if that is 200: `take` is
    /// given it with the answer's head, which is yet to be written ([`super::handover`]).
    pub fn take_socket(&self, take: impl FnOnce(Parts, Box<[u8]>) + Send + 'static) {
        self.handover.ask(take);
    }

    /// This is the answer to the request that is being worked on. Returns whether the socket goes with it.
    pub(super) fn answered<B>(&self, answer: &Response<B>) -> bool {
        self.handover.decide(answer)
    }

    /// It has shown good credentials: its place is free for others.
    pub fn trust(&self) {
        self.has_shown.store(true, Ordering::Relaxed);
        // Given back outside the lock.
        let slot = self.slot.lock().take();
        drop(slot);
    }

    /// Whether it has. On a proxy's connection that is asked of each request anew: it may be somebody else's.
    pub fn is_trusted(&self) -> bool {
        self.has_shown.load(Ordering::Relaxed) || (self.forwarded.is_none() && self.slot.lock().is_none())
    }
}
