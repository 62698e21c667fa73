//! The credentials that the endpoint has accepted, by their hashes.
//!
//! Contract: pure. At most a fixed number; when that is reached, the oldest of all makes room if it has expired, else
//! the oldest of the network with the most; of networks that have equally many, the one whose oldest is older. So a
//! user who presents any number of tokens makes only its own network forget others, and these only when they are older.
//! Every operation takes logarithmic time.
//!
//! Why networks and not accounts: only the endpoint knows whose a token is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

/// A hash of a credential.
pub(super) type Key = [u64; 2];

/// The network of a client, as places are shared.
pub(super) type Network = [u8; 8];

#[derive(Debug)]
struct Entry {
    at: Instant,
    network: Network,
    /// Its number, in the order of acceptance.
    number: u64,
}

/// A bounded set of accepted credentials.
#[derive(Debug)]
pub(super) struct Acceptances {
    most: usize,
    /// How long a credential counts as accepted.
    age: Duration,
    entries: HashMap<Key, Entry>,
    /// All credentials by their numbers.
    by_number: BTreeMap<u64, Key>,
    /// The credentials of each network by their numbers.
    by_network: HashMap<Network, BTreeMap<u64, Key>>,
    /// The networks by the number of their credentials, and then by that of their oldest, by which they are found.
    by_size: BTreeSet<(usize, Reverse<u64>)>,
    next: u64,
}

impl Acceptances {
    /// Creates a set of at most `most` credentials that each count for `age`.
    pub(super) fn new(most: usize, age: Duration) -> Self {
        let (by_number, by_network) = (BTreeMap::new(), HashMap::new());
        Self { most, age, entries: HashMap::new(), by_number, by_network, by_size: BTreeSet::new(), next: 0 }
    }

    /// Returns whether a credential was accepted and has not expired.
    pub(super) fn has(&self, key: &Key, now: Instant) -> bool {
        self.entries.get(key).is_some_and(|entry| now.saturating_duration_since(entry.at) < self.age)
    }

    /// Adds a credential that was accepted now, presented from this network.
    pub(super) fn add(&mut self, key: Key, network: Network, now: Instant) {
        self.remove(&key);
        if self.entries.len() >= self.most {
            self.make_room(now);
        }
        let number = self.next;
        self.next += 1;
        self.entries.insert(key, Entry { at: now, network, number });
        self.by_number.insert(number, key);
        self.change(network, |own| {
            own.insert(number, key);
        });
    }

    fn remove(&mut self, key: &Key) {
        if let Some(Entry { network, number, .. }) = self.entries.remove(key) {
            self.by_number.remove(&number);
            self.change(network, |own| {
                own.remove(&number);
            });
        }
    }

    fn make_room(&mut self, now: Instant) {
        let oldest = self.by_number.first_key_value().map(|(_, key)| *key);
        let expired = oldest.filter(|key| !self.has(key, now));
        if let Some(key) = expired.or_else(|| self.oldest_of_largest()) {
            self.remove(&key);
        }
    }

    fn oldest_of_largest(&self) -> Option<Key> {
        let (_, Reverse(oldest)) = self.by_size.last()?;
        self.by_number.get(oldest).copied()
    }

    /// Changes what a network has, and where it stands among the others.
    fn change(&mut self, network: Network, change: impl FnOnce(&mut BTreeMap<u64, Key>)) {
        let own = self.by_network.entry(network).or_default();
        let rank = |own: &BTreeMap<_, _>| Some((own.len(), Reverse(*own.first_key_value()?.0)));
        let before = rank(own);
        change(own);
        let after = rank(own);
        if after.is_none() {
            self.by_network.remove(&network);
        }
        before.into_iter().for_each(|rank| {
            self.by_size.remove(&rank);
        });
        self.by_size.extend(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_mins(5);

    const fn of(n: u8) -> Network {
        [n; 8]
    }

    /// Which of these credentials are known.
    fn known(set: &Acceptances, keys: impl IntoIterator<Item = u64>, now: Instant) -> Vec<u64> {
        keys.into_iter().filter(|n| set.has(&[*n, *n], now)).collect()
    }

    #[test]
    fn what_was_accepted_long_ago_must_be_checked_again() {
        let (mut set, now) = (Acceptances::new(4, AGE), Instant::now());
        set.add([1, 1], of(1), now);
        assert_eq!(known(&set, [1, 2], now + AGE / 2), [1]);
        assert_eq!(known(&set, [1, 2], now + AGE), [0; 0]);
        set.add([1, 1], of(2), now + AGE);
        assert_eq!(known(&set, [1, 2], now + AGE), [1]);
    }

    /// A user may have any number of tokens.
    #[test]
    fn whoever_presents_many_tokens_makes_no_other_network_unknown() {
        let (mut set, now) = (Acceptances::new(100, AGE), Instant::now());
        (0..20).for_each(|n| set.add([n, n], of(1), now));
        (1000..2000).for_each(|n| set.add([n, n], of(2), now));
        assert_eq!(set.entries.len(), 100);
        assert_eq!(known(&set, 0..20, now), (0..20).collect::<Vec<_>>());
        assert_eq!(known(&set, 1000..2000, now), (1920..2000).collect::<Vec<_>>(), "the newest of its own");
        set.add([20, 20], of(3), now);
        assert_eq!(known(&set, 0..=20, now), (0..=20).collect::<Vec<_>>(), "and a newcomer is known at once");
    }

    /// Nor does the address of a network decide, such as whether it is one of IPv4.
    #[test]
    fn of_networks_with_equally_many_the_one_with_the_oldest_forgets() {
        let (mut set, now) = (Acceptances::new(3, AGE), Instant::now());
        for n in [5, 9, 1, 7, 3] {
            set.add([n, n], of(u8::try_from(n).unwrap()), now);
        }
        assert_eq!(known(&set, [5, 9, 1, 7, 3], now), [1, 7, 3]);
        // Seen again, so that another is the oldest.
        set.add([1, 1], of(1), now);
        set.add([4, 4], of(4), now);
        assert_eq!(known(&set, [1, 7, 3, 4], now), [1, 3, 4]);
    }

    /// Of networks that do not come back, one credential each.
    #[test]
    fn what_has_expired_makes_room_first() {
        let (mut set, now) = (Acceptances::new(100, AGE), Instant::now());
        (0..100).for_each(|n| set.add([n, n], of(u8::try_from(n).unwrap()), now));
        (200..250).for_each(|n| set.add([n, n], of(200), now + AGE));
        assert_eq!(known(&set, 200..250, now + AGE), (200..250).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_accepted_again_is_one_and_new() {
        let (mut set, now) = (Acceptances::new(3, AGE), Instant::now());
        for n in [1, 2, 1, 3, 1, 4] {
            set.add([n, n], of(u8::from(n == 3)), now);
        }
        assert_eq!(known(&set, 1..=4, now), [1, 3, 4]);
        let held: usize = set.by_network.values().map(BTreeMap::len).sum();
        assert_eq!(set.by_number.len(), 3);
        assert_eq!((held, set.by_size.iter().map(|(size, _)| size).sum::<usize>()), (3, 3));
    }
}
