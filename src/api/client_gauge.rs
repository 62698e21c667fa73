//! Kept-alive HTTP connections that have shown good credentials: listed and told of once, not once a request.

use std::net::SocketAddr;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::auth::Identity;
use crate::broker::connection::{Connection, Kind};
use crate::clock;

/// See the module's text. The control plane's; never touched by a shard.
#[derive(Debug, Default)]
pub(super) struct ClientGauge {
    present: Mutex<HashMap<SocketAddr, Connection>>,
}

impl ClientGauge {
    /// Notes a request. Returns the connection if it is new.
    pub(super) fn came(&self, peer: SocketAddr, identity: &Identity) -> Option<Connection> {
        let mut present = self.present.lock();
        if present.contains_key(&peer) {
            return None;
        }
        let principal = identity.principal().as_str();
        let connection = Connection::new(Kind::Api, principal, peer, clock::now(), identity.expires_at());
        present.insert(peer, connection.clone());
        Some(connection)
    }

    /// Forgets a connection and returns it if it was known.
    pub(super) fn left(&self, peer: SocketAddr) -> Option<Connection> {
        self.present.lock().remove(&peer)
    }

    /// All that are present.
    pub(super) fn list(&self) -> Vec<Connection> {
        self.present.lock().values().cloned().collect()
    }
}
