//! Remembers recently verified passwords, and from which networks users have logged in.
//!
//! Contract: the caller passes the time of the monotonic clock; all tables are bounded in size and age. A password is
//! stored only as a keyed hash over everything it was checked against and the address that it came from, so a changed
//! hash or secret of the user makes another entry, and so does another address. An entry may therefore live as long as
//! it is used; it ends `lifetime` after its last use.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::throttle::{Network, make_room};

/// The maximum number of cached passwords, and of pairs of user and network.
const ENTRIES: usize = 16_384;

/// A recently verified password.
#[derive(Debug)]
struct Cached {
    until: Instant,
}

/// Bounded tables of recently verified passwords (as keyed hashes) and of the networks users logged in from.
#[derive(Debug)]
pub(super) struct Recent {
    lifetime: Duration,
    right: HashMap<[u8; 32], Cached>,
    /// The time of the last login with the right password, by keyed hash of the user's name and network.
    seen: HashMap<(u64, Network), Instant>,
}

impl Recent {
    /// Creates empty tables. A right password is cached for `lifetime` after its last use; zero disables the cache.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { lifetime, right: HashMap::new(), seen: HashMap::new() }
    }

    /// Returns whether a password is known to be right; if so, extends its entry by another lifetime.
    pub(super) fn knows(&mut self, key: &[u8; 32], now: Instant) -> bool {
        let lifetime = self.lifetime;
        let Some(cached) = self.right.get_mut(key).filter(|cached| now < cached.until) else { return false };
        cached.until = now.checked_add(lifetime).unwrap_or(cached.until);
        true
    }

    /// Stores a right password.
    pub(super) fn remember(&mut self, key: [u8; 32], name: u64, peer: IpAddr, now: Instant) {
        self.note_seen(name, peer, now);
        let Some(until) = now.checked_add(self.lifetime) else { return };
        make_room(&mut self.right, &key, ENTRIES, |cached| Some(cached.until));
        self.right.insert(key, Cached { until });
    }

    /// Stores that a user has logged in from this network with the right password.
    pub(super) fn note_seen(&mut self, name: u64, peer: IpAddr, now: Instant) {
        let key = (name, Network::narrowest(peer));
        make_room(&mut self.seen, &key, ENTRIES, |at| Some(*at));
        self.seen.insert(key, now);
    }

    /// Returns whether a user has logged in from this network with the right password before.
    pub(super) fn has_seen(&self, name: u64, peer: IpAddr) -> bool {
        self.seen.contains_key(&(name, Network::narrowest(peer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::simulated;

    #[test]
    fn what_is_used_stays_known_and_tables_are_bounded() {
        let at = |second| simulated::at(second).instant;
        let key = |n: u32| std::array::from_fn(|i| n.to_be_bytes().get(i).copied().unwrap_or_default());
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        let mut recent = Recent::new(Duration::from_mins(1));
        recent.remember(key(0), 0, peer, at(0));
        assert!([59, 110, 169].into_iter().all(|second| recent.knows(&key(0), at(second))));
        assert!(!recent.knows(&key(0), at(229)), "a minute after its last use");
        assert!(!recent.knows(&key(1), at(0)));
        recent.remember(key(0), 0, peer, at(300));
        for n in 1..40_000 {
            recent.remember(key(n), n.into(), peer, at(i64::from(n) / 1000));
        }
        assert!(recent.right.len() <= ENTRIES && recent.seen.len() <= ENTRIES);
        assert!(recent.knows(&key(0), at(40)) && recent.has_seen(0, peer), "what was used last stays");
        assert!(!recent.has_seen(0, "192.0.3.1".parse().unwrap()));
    }

    #[test]
    fn who_comes_again_makes_nobody_forgotten() {
        let now = simulated::at(0).instant;
        let key = |n: usize| std::array::from_fn(|i| n.to_be_bytes().get(i).copied().unwrap_or_default());
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        let mut recent = Recent::new(Duration::from_mins(1));
        (0..ENTRIES).for_each(|n| recent.remember(key(n), n as u64, peer, now));
        recent.remember(key(7), 7, peer, now);
        assert_eq!((recent.right.len(), recent.seen.len()), (ENTRIES, ENTRIES));
    }
}
