//! What is known of recent logins: right passwords, wrong attempts, and the threads that hash.
//!
//! Contract: told the time; bounded in number and time. A password is known by a keyed hash only, with a key that ends with
//! the process.

use std::fmt;
use std::time::Duration;

use hashbrown::HashMap;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::hashers::Hashers;
use super::keys::Hasher;
use super::options::AuthOptions;
use super::password::PasswordHash;
use super::store::StoreError;
use super::throttle::Throttle;

/// How many right passwords are known at once.
const CACHE_ENTRIES: usize = 4096;

/// A password that was right a moment ago.
#[derive(Debug)]
struct Cached {
    until: Timestamp,
}

/// What logging in needs besides the store.
pub(super) struct Logins {
    /// Ends with the process; keys the cache and the throttle.
    pub(super) hasher: Hasher,
    cache: Mutex<HashMap<[u8; 32], Cached>>,
    pub(super) throttle: Mutex<Throttle>,
    /// Verified for unknown users while nobody at all has a password.
    pub(super) decoy: PasswordHash,
    pub(super) hashers: Hashers,
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}

impl Logins {
    pub(super) fn new(options: &AuthOptions) -> Result<Self, StoreError> {
        let started = Hashers::start(options.hash_workers, options.hash_queue);
        Ok(Self {
            hasher: Hasher::random()?,
            cache: Mutex::default(),
            throttle: Mutex::new(Throttle::new(options.throttle)),
            decoy: PasswordHash::make("nobody has this password")?,
            hashers: started.map_err(StoreError::Threads)?,
        })
    }

    pub(super) fn knows(&self, key: &[u8; 32], now: Timestamp) -> bool {
        self.cache.lock().get(key).is_some_and(|cached| now < cached.until)
    }

    pub(super) fn remember(&self, key: [u8; 32], now: Timestamp, lifetime: Duration) {
        let Ok(until) = now.checked_add(lifetime) else { return };
        let mut cache = self.cache.lock();
        if cache.len() >= CACHE_ENTRIES {
            cache.retain(|_, cached| now < cached.until);
        }
        if cache.len() >= CACHE_ENTRIES {
            cache.clear();
        }
        cache.insert(key, Cached { until });
    }
}
