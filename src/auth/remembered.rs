//! The credentials that a connection has shown last, so that a client that keeps its connection is verified once and
//! not with every request.
//!
//! Contract: only the value of the `Authorization` header counts, and of it only a keyed hash is stored. What was
//! verified is valid only as long as nothing that rights depend on has changed ([`Authority::generation`]), and until
//! the token expires. A password must still be known ([`super::recent`]); recognizing it here counts as a use there, so
//! it ends a minute after its last use as everywhere else. It must also come from the address where it was accepted:
//! the connection of a proxy has requests of several clients. Rights are not remembered: they are looked up for every
//! request. Credentials that the endpoint has accepted are never remembered here.
//!
//! The generation is read before the credentials are verified, so a change in the meantime makes the result stale.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::authority::Authority;
use super::credential::Credential;
use super::identity::Identity;
use crate::clock::ClockReading;

/// What the last credentials of a connection have proved. Belongs to one connection.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<Option<Proof>>);

#[derive(Debug)]
struct Proof {
    /// The length of the header's value, and its keyed hash.
    length: usize,
    hash: [u8; 32],
    /// The generation in which it was shown.
    generation: u64,
    identity: Arc<Identity>,
    /// The password's key in the table of recent ones, and the address that it came from, if it was a password.
    password: Option<([u8; 32], IpAddr)>,
}

/// A caller that needs no verification.
#[derive(Debug, Clone)]
pub struct Recognized {
    /// The caller.
    pub identity: Arc<Identity>,
    /// Whether browsers send such credentials by themselves ([`Credential::is_ambient`]).
    pub is_ambient: bool,
}

impl Authority {
    /// Returns the caller if its connection has shown this `Authorization` header before and nothing has changed since.
    pub fn recognize(
        &self,
        remembered: &Remembered,
        header: &[u8],
        peer: IpAddr,
        now: ClockReading,
    ) -> Option<Recognized> {
        let remembered = remembered.0.lock();
        let is_current = |proof: &&Proof| proof.generation == self.generation() && !proof.identity.is_expired(now.wall);
        let is_same = |proof: &&Proof| proof.length == header.len() && proof.hash == self.hash_of(header);
        let proof = remembered.as_ref().filter(is_current).filter(is_same)?;
        if proof.password.is_some_and(|(key, from)| from != peer || !self.checker.knows(&key, now.instant)) {
            return None;
        }
        Some(Recognized { identity: Arc::clone(&proof.identity), is_ambient: proof.password.is_some() })
    }

    /// Remembers verified credentials in place of earlier ones. `generation` is that before they were verified.
    pub fn remember(
        &self,
        remembered: &Remembered,
        (header, generation): (&[u8], u64),
        (credential, peer): (&Credential, IpAddr),
        identity: &Arc<Identity>,
    ) {
        if identity.is_endpoints() {
            return;
        }
        let password = match credential {
            Credential::Bearer(_) => None,
            Credential::Basic { user, password } => Some((self.key_of_password(user, password, peer), peer)),
            Credential::Certificate(_) => return,
        };
        let (length, hash, identity) = (header.len(), self.hash_of(header), Arc::clone(identity));
        *remembered.0.lock() = Some(Proof { length, hash, generation, identity, password });
    }

    fn hash_of(&self, header: &[u8]) -> [u8; 32] {
        Sha256::new_with_prefix(self.salt).chain_update(header).finalize().into()
    }
}
