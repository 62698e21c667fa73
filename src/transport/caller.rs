//! Who is at the other end of an HTTP connection, as far as the transport knows.
//!
//! Contract: made once a connection; behind a proxy that tells of its clients, once more for each request. Until
//! somebody says [`Caller::trust`] the connection holds a place among those who have not shown who they are; of those
//! there is a bound, so that whoever opens sockets and says nothing uses up no more than that.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::forwarded::Forwarded;
use super::pending::Place;
use crate::auth::ClientCertificate;

/// The sender of a request, and the connection that it came on.
#[derive(Debug)]
pub struct Caller {
    /// Where the request comes from: the client's address, also where a trusted proxy is the other end of the connection.
    pub peer: SocketAddr,
    /// What stands for the connection: the address of its other end, or of the client that the PROXY protocol named.
    pub connection: SocketAddr,
    /// What a trusted proxy says of the request, if the request came by one.
    pub forwarded: Option<Forwarded>,
    /// What the client showed in the TLS handshake, verified. That of a proxy is not its clients'.
    pub certificate: Option<ClientCertificate>,
    place: Arc<Mutex<Option<Place>>>,
}

impl Caller {
    /// Somebody of whom nothing more is known, with a place among those.
    pub fn new(peer: SocketAddr, certificate: Option<ClientCertificate>, place: Place) -> Self {
        let place = Arc::new(Mutex::new(Some(place)));
        Self { peer, connection: peer, forwarded: None, certificate, place }
    }

    /// The client of whom a trusted proxy tells on this connection.
    #[must_use]
    pub(super) fn behind(&self, forwarded: Forwarded) -> Self {
        let peer = forwarded.client;
        if let Some(place) = &*self.place.lock() {
            place.belongs_to(peer.ip());
        }
        let (connection, place) = (self.connection, Arc::clone(&self.place));
        Self { peer, connection, forwarded: Some(forwarded), certificate: None, place }
    }

    /// It has shown good credentials: its place is free for others.
    pub fn trust(&self) {
        // Given back outside the lock.
        let place = self.place.lock().take();
        drop(place);
    }

    /// Whether it has.
    pub fn is_trusted(&self) -> bool {
        self.place.lock().is_none()
    }
}
