//! Authenticated HTTP connections: listed and announced once per connection, not once per request.
//!
//! A connection of a trusted proxy carries many clients. Each is listed, at most [`MOST`] of them, until the proxy
//! closes the connection.

use std::net::SocketAddr;

use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::auth::Identity;
use crate::broker::connection::{Connection, Kind};
use crate::clock;
use crate::transport::caller::Caller;

/// Maximum number of clients listed per connection.
const MOST: usize = 64;

/// The authenticated clients of each open HTTP connection. Belongs to the control plane; no shard touches it.
#[derive(Debug, Default)]
pub(super) struct ClientGauge {
    /// The clients of each connection, by its number.
    present: Mutex<HashMap<u64, SmallVec<[Connection; 1]>>>,
}

impl ClientGauge {
    /// Records a request. Returns its client as a connection if it is new.
    pub(super) fn came(&self, caller: &Caller, identity: &Identity) -> Option<Connection> {
        let Caller { peer, number, .. } = *caller;
        let mut present = self.present.lock();
        let clients = present.entry(number).or_default();
        let principal = identity.principal();
        let is_it = |client: &Connection| client.remote_addr == peer && client.account == principal.account();
        if clients.len() >= MOST || clients.iter().any(is_it) {
            return None;
        }
        let client = Connection::new(
            Kind::Api,
            (principal.as_str(), principal.account()),
            peer,
            clock::now(),
            identity.expires_at(),
        );
        clients.push(client.clone());
        Some(client)
    }

    /// Removes a connection and returns its listed clients.
    pub(super) fn left(&self, number: u64) -> SmallVec<[Connection; 1]> {
        self.present.lock().remove(&number).unwrap_or_default()
    }

    /// Returns the clients from an address.
    pub(super) fn at(&self, address: SocketAddr) -> SmallVec<[Connection; 1]> {
        let present = self.present.lock();
        present.values().flatten().filter(|client| client.remote_addr == address).cloned().collect()
    }

    /// Returns all clients.
    pub(super) fn list(&self) -> Vec<Connection> {
        self.present.lock().values().flatten().cloned().collect()
    }
}
