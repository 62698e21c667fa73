//! Caches an endpoint's answers about credentials.
//!
//! Contract: the caller passes the time; bounded in number and in age, by the monotonic clock. A credential is stored
//! only as a keyed hash, and the key ends with the process. Only acceptances are cached. They are used without asking
//! while they are fresh, and beyond that for as long as the endpoint cannot be reached.

use std::fmt;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::auth::credential::Credential;
use crate::auth::identity::Identity;
use crate::auth::keys::Hasher;
use crate::clock::ClockReading;

/// A cached identity.
#[derive(Debug)]
pub enum Known {
    /// Usable without asking the endpoint.
    Fresh(Identity),
    /// Usable only while the endpoint cannot be reached.
    Stale(Identity),
}

struct Entry {
    identity: Identity,
    /// When the endpoint accepted it; `None` if anything may have changed since.
    accepted: Option<Instant>,
    /// When the endpoint gave the answer, or the data that it was derived from.
    heard: Instant,
}

impl Entry {
    fn is_fresh(&self, fresh: Duration, now: Instant) -> bool {
        self.accepted.is_some_and(|accepted| now.saturating_duration_since(accepted) < fresh)
    }

    fn is_good(&self, good: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < good
    }
}

/// A bounded cache of credentials that the endpoint accepted, keyed by a hash. Rejections are never cached.
pub struct IdentityCache {
    hasher: Hasher,
    table: Mutex<HashMap<[u8; 32], Entry>>,
    fresh: Duration,
    good: Duration,
    /// The maximum number of entries.
    entries: usize,
}

impl fmt::Debug for IdentityCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityCache").finish_non_exhaustive()
    }
}

impl IdentityCache {
    /// Creates an empty cache of at most `entries`. They are usable for `fresh`, and for `good` while the endpoint
    /// cannot be reached.
    ///
    /// # Errors
    /// If the system provides no random numbers.
    pub fn new(fresh: Duration, good: Duration, entries: usize) -> Result<Self, getrandom::Error> {
        Ok(Self { hasher: Hasher::random()?, table: Mutex::default(), fresh, good: good.max(fresh), entries })
    }

    /// Returns the key of a credential; `None` for a certificate, which no endpoint checks.
    pub fn key(&self, credential: &Credential) -> Option<[u8; 32]> {
        Some(match credential {
            Credential::Basic { user, password } => {
                self.hasher.hash(&[b"basic", user.as_bytes(), password.expose().as_bytes()])
            }
            Credential::Bearer(token) => self.hasher.hash(&[b"bearer", token.expose().as_bytes()]),
            Credential::Certificate(_) => return None,
        })
    }

    /// Returns the cached identity of a credential.
    pub fn look(&self, key: &[u8; 32], now: ClockReading) -> Option<Known> {
        let table = self.table.lock();
        let is_known = |entry: &&Entry| entry.is_good(self.good, now.instant) && !entry.identity.is_expired(now.wall);
        let entry = table.get(key).filter(is_known)?;
        let identity = entry.identity.clone();
        Some(if entry.is_fresh(self.fresh, now.instant) { Known::Fresh(identity) } else { Known::Stale(identity) })
    }

    /// Stores the identity of a valid credential. `heard` is when the endpoint gave the answer, or the data that it was
    /// derived from.
    pub fn keep(&self, key: [u8; 32], identity: Identity, now: Instant, heard: Instant) {
        let mut table = self.table.lock();
        let is_known = table.contains_key(&key);
        if !is_known && table.len() >= self.entries {
            table.retain(|_, entry| entry.is_fresh(self.fresh, now));
        }
        if !is_known && table.len() >= self.entries {
            table.clear();
        }
        table.insert(key, Entry { identity, accepted: Some(now), heard });
    }

    /// Removes a credential.
    pub fn forget(&self, key: &[u8; 32]) {
        self.table.lock().remove(key);
    }

    /// Removes all credentials of a user.
    pub fn forget_user(&self, user: &str) {
        self.table.lock().retain(|_, entry| entry.identity.user() != Some(user));
    }

    /// Makes all entries stale, because anything may have changed.
    pub fn doubt(&self) {
        self.table.lock().values_mut().for_each(|entry| entry.accepted = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Secret;
    use crate::auth::directory::{Account, Directory, Entries};
    use crate::clock::simulated;

    #[test]
    fn beyond_the_bound_those_that_are_not_fresh_make_room() {
        let at = |second| simulated::at(second).instant;
        let cache = IdentityCache::new(Duration::from_mins(1), Duration::from_hours(1), 3).unwrap();
        let mut entries = Entries::default();
        entries.users.insert("a".to_owned(), Account::default());
        let identity = Directory::new(entries).user("a").unwrap();
        let key = |n: u32| cache.key(&Credential::Bearer(Secret::new(n.to_string()))).unwrap();
        let known = |n, second| cache.look(&key(n), simulated::at(second));
        for (n, second) in [(1, 0), (2, 0), (3, 100)] {
            cache.keep(key(n), identity.clone(), at(second), at(second));
        }
        assert!(matches!(known(1, 59), Some(Known::Fresh(_))) && matches!(known(1, 3599), Some(Known::Stale(_))));
        assert!(known(1, 3600).is_none());
        cache.keep(key(1), identity.clone(), at(101), at(101));
        assert!(known(2, 101).is_some(), "one that is known already needs no room");
        cache.keep(key(1), identity.clone(), at(0), at(0));
        cache.keep(key(4), identity.clone(), at(101), at(101));
        assert!(
            known(1, 101).is_none() && known(2, 101).is_none() && known(3, 101).is_some() && known(4, 101).is_some()
        );
        cache.keep(key(5), identity.clone(), at(102), at(102));
        cache.keep(key(6), identity, at(102), at(102));
        assert!(cache.table.lock().len() <= 3 && known(6, 102).is_some());
    }
}
