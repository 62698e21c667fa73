//! Who is at the other end of an HTTP connection, as far as the transport knows.
//!
//! Contract: made once a connection. Until somebody says [`Caller::trust`] it holds a place among those who have not shown
//! who they are; of those there is a bound, so that whoever opens sockets and says nothing uses up no more than that.

use std::net::SocketAddr;

use parking_lot::Mutex;

use super::pending::PendingSlot;
use crate::auth::ClientCertificate;

/// See the module's text.
#[derive(Debug)]
pub struct Caller {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// What it showed in the TLS handshake, verified.
    pub certificate: Option<ClientCertificate>,
    slot: Mutex<Option<PendingSlot>>,
}

impl Caller {
    /// Somebody of whom nothing more is known, with a place among those.
    pub fn new(peer: SocketAddr, certificate: Option<ClientCertificate>, slot: PendingSlot) -> Self {
        Self { peer, certificate, slot: Mutex::new(Some(slot)) }
    }

    /// It has shown good credentials: its place is free for others.
    pub fn trust(&self) {
        // Given back outside the lock.
        let slot = self.slot.lock().take();
        drop(slot);
    }

    /// Whether it has.
    pub fn is_trusted(&self) -> bool {
        self.slot.lock().is_none()
    }
}
