//! The client of an HTTP connection, as far as the transport knows it.
//!
//! Contract: created once per connection and, behind a proxy that reports its clients, once more per request. Until
//! [`Caller::trust`] is called, the connection occupies one of the slots for unauthenticated connections. Their number
//! is limited, so clients that open sockets and send nothing use no more than that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hyper::Response;
use parking_lot::Mutex;

use super::forwarded::Forwarded;
use super::handover::{Handover, Parts};
use super::pending::PendingSlot;
use super::signs::Accepting;
use super::socket::Socket;
use crate::auth::{ClientCertificate, Remembered};

/// The number of HTTP connections opened so far.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// The sender of a request, and the connection on which it arrived.
#[derive(Debug)]
pub struct Caller {
    /// The client's address, even if a trusted proxy is the other end of the connection.
    pub peer: SocketAddr,
    /// The address of the connection's other end, or of the client that the PROXY protocol named.
    pub connection: SocketAddr,
    /// Distinguishes the connection from all others of this process. Two may have the same address, if they come in on
    /// different ones of the server's.
    pub number: u64,
    /// What a trusted proxy reports about the request, if it arrived through one.
    pub forwarded: Option<Forwarded>,
    /// The verified certificate that the client presented in the TLS handshake. `None` for the clients of a proxy.
    pub certificate: Option<ClientCertificate>,
    /// What the credentials shown last on the connection have proved. Shared by the clients of a proxy's connection.
    pub remembered: Arc<Remembered>,
    slot: Arc<Mutex<Option<PendingSlot>>>,
    /// Whether the sender of this request has shown valid credentials. A proxy's connection may carry requests of
    /// others too.
    has_shown: AtomicBool,
    /// Whether the connection counts for a principal.
    counted: AtomicBool,
    handover: Arc<Handover>,
    accepting: Accepting,
}

impl Caller {
    /// Creates the unauthenticated caller of a new connection, with its slot.
    pub fn new(peer: SocketAddr, socket: &Socket, slot: PendingSlot) -> Self {
        let slot = Arc::new(Mutex::new(Some(slot)));
        let (certificate, handover) = (socket.certificate(), Arc::clone(socket.handover()));
        Self {
            peer,
            connection: peer,
            number: OPENED.fetch_add(1, Ordering::Relaxed),
            forwarded: None,
            certificate,
            remembered: Arc::default(),
            slot,
            has_shown: AtomicBool::new(false),
            counted: AtomicBool::new(false),
            handover,
            accepting: Accepting::new(socket.signs()),
        }
    }

    /// Returns the caller that a trusted proxy names for a request on this connection.
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
            number: self.number,
            forwarded: Some(forwarded),
            certificate: None,
            remembered: Arc::clone(&self.remembered),
            slot,
            has_shown: AtomicBool::new(false),
            counted: AtomicBool::new(false),
            handover,
            accepting: self.accepting.clone(),
        }
    }

    /// Returns the handle that shows when the client last accepted a part of its response.
    pub fn accepting(&self) -> &Accepting {
        &self.accepting
    }

    /// Takes the socket out of HTTP with the response to the current request, if its status is 200: `take` receives the
    /// socket with the response's head, which is yet to be written ([`super::handover`]).
    pub fn take_socket(&self, take: impl FnOnce(Parts, Box<[u8]>) + Send + 'static) {
        self.handover.ask(take);
    }

    /// Decides by the response to the current request. Returns whether the socket is handed over with it.
    pub(super) fn answered<B>(&self, answer: &Response<B>) -> bool {
        self.handover.decide(answer)
    }

    /// Notes that the client has shown valid credentials, and frees its slot for others.
    pub fn trust(&self) {
        self.has_shown.store(true, Ordering::Relaxed);
        // Dropped outside the lock.
        let slot = self.slot.lock().take();
        drop(slot);
    }

    /// Notes that the connection counts for a principal.
    pub fn count(&self) {
        self.counted.store(true, Ordering::Relaxed);
    }

    /// Returns whether the connection counts for a principal.
    pub fn is_counted(&self) -> bool {
        self.counted.load(Ordering::Relaxed)
    }

    /// Returns whether the sender has shown valid credentials. On a proxy's connection each request is checked again.
    pub fn is_trusted(&self) -> bool {
        self.has_shown.load(Ordering::Relaxed) || (self.forwarded.is_none() && self.slot.lock().is_none())
    }
}
