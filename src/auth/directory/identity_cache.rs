//! Caches an endpoint's answers about credentials.
//!
//! Contract: the caller passes the time; bounded in number, in age, by the monotonic clock, and in size: users choose
//! the claims of their tokens, so the size is the number of names. To make room, entries that nobody can use any more
//! are removed first, then what callers have beyond their share, then the oldest: the others need theirs during an
//! outage. A search for room frees more than one entry takes, so that not every login causes one. Machines and plugins
//! are callers like users. A user can get a token for each of them; such entries count as the user's. A credential is
//! stored only as a keyed hash; its key ends with the process. A password is stored for the address that it came from:
//! elsewhere it has to pass the throttle like a wrong one. Only acceptances are cached. A fresh one is used without
//! asking; an older one only while the endpoint cannot be reached. Forgetting a user costs as much as that user has
//! entries.

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use crate::auth::credential::Credential;
use crate::auth::identity::Identity;
use crate::auth::keys::{Hasher, address_bytes};
use crate::auth::principal::Principal;
use crate::clock::ClockReading;

/// The maximum number of names in the claims of all entries, as a multiple of the maximum number of entries. A token of
/// a machine has some twenty.
const NAMES: usize = 64;

/// The share of one caller: the part of all entries, and of all names, that others leave to it when there is no room.
const SHARE: usize = 8;

/// The part of all entries, and of all names, that is free after a search for room, because it visits all entries.
const SPARE: usize = 16;

/// A keyed hash of a credential.
type Key = [u8; 32];

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
    /// Whose it is.
    owner: Principal,
    /// When the endpoint accepted it; `None` if anything may have changed since.
    accepted: Option<Instant>,
    /// When the endpoint gave the answer, or the data that it was derived from.
    heard: Instant,
}

impl Entry {
    fn is_fresh(&self, fresh: Duration, now: Instant) -> bool {
        self.accepted.is_some_and(|accepted| now.saturating_duration_since(accepted) < fresh)
    }

    /// Returns whether it may still be used, at least while the endpoint cannot be reached.
    fn is_good(&self, good: Duration, now: ClockReading) -> bool {
        now.instant.saturating_duration_since(self.heard) < good && !self.identity.is_expired(now.wall)
    }
}

/// The entries of one caller.
#[derive(Default)]
struct Own {
    keys: HashSet<Key>,
    /// The number of names in their claims.
    names: usize,
}

#[derive(Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    by_owner: HashMap<Box<str>, Own>,
    /// The number of names in the claims of all entries.
    names: usize,
}

impl Table {
    fn insert(&mut self, key: Key, entry: Entry) {
        self.remove(&key);
        let names = entry.identity.names();
        self.names += names;
        let own = self.by_owner.entry(entry.owner.account().into()).or_default();
        own.keys.insert(key);
        own.names += names;
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        let names = entry.identity.names();
        self.names -= names;
        if let Some(own) = self.by_owner.get_mut(entry.owner.account()) {
            own.keys.remove(key);
            own.names -= names;
            if own.keys.is_empty() {
                self.by_owner.remove(entry.owner.account());
            }
        }
    }

    fn remove_owner(&mut self, owner: &Principal) {
        for key in self.by_owner.remove(owner.account()).unwrap_or_default().keys {
            self.remove(&key);
        }
    }

    /// Makes room for an entry by removing entries of callers who would have more than their share of `most` in all.
    /// They keep the newest, half a share of them: at the limit not every new one causes a search.
    fn cut_shares(&mut self, most: usize, entry: &Entry) {
        let share = ((most / SHARE).max(1), most.saturating_mul(NAMES) / SHARE);
        let has_more = |owner: &str, own: &Own| {
            let wanted = if owner == entry.owner.account() { (1, entry.identity.names()) } else { (0, 0) };
            own.keys.len() + wanted.0 > share.0 || own.names.saturating_add(wanted.1) > share.1
        };
        let owners = self.by_owner.iter().filter(|(owner, own)| has_more(owner, own));
        let older: Vec<Key> = owners.flat_map(|(_, own)| self.beyond(&own.keys, share.0 / 2, share.1 / 2)).collect();
        older.iter().for_each(|key| self.remove(key));
    }

    /// Makes room for an entry by removing the oldest entries, so that there is room for `spare` others of `most`.
    fn cut_oldest(&mut self, most: usize, spare: usize, entry: &Entry) {
        let left = most.saturating_sub(spare);
        let names = left.saturating_mul(NAMES).saturating_sub(entry.identity.names());
        let older = self.beyond(self.entries.keys(), left.saturating_sub(1), names);
        older.iter().for_each(|key| self.remove(key));
    }

    /// Returns these entries except the newest, as many as `entries` with `names` in all.
    fn beyond<'k>(&self, keys: impl IntoIterator<Item = &'k Key>, entries: usize, names: usize) -> Vec<Key> {
        let mut all: Vec<(&Entry, Key)> = keys.into_iter().map(|key| (&self.entries[key], *key)).collect();
        all.sort_unstable_by_key(|(entry, _)| Reverse((entry.accepted, entry.heard)));
        let mut sum = 0;
        let is_within = |(entry, _): &&(&Entry, Key)| {
            sum += entry.identity.names();
            sum <= names
        };
        let kept = all.iter().take(entries).take_while(is_within).count();
        all.into_iter().skip(kept).map(|(_, key)| key).collect()
    }

    fn retain(&mut self, is_kept: impl Fn(&Entry) -> bool) {
        let is_old = |(key, entry): (&Key, &Entry)| (!is_kept(entry)).then_some(*key);
        let old: Vec<Key> = self.entries.iter().filter_map(is_old).collect();
        old.iter().for_each(|key| self.remove(key));
    }

    /// Returns whether there is room for an entry and for `spare` others of `most`.
    fn has_room(&self, most: usize, spare: usize, entry: &Entry) -> bool {
        let left = most.saturating_sub(spare);
        self.entries.len() < left && self.names.saturating_add(entry.identity.names()) <= left.saturating_mul(NAMES)
    }
}

/// A bounded cache of credentials that the endpoint accepted, keyed by a hash. Rejections are never cached.
pub struct IdentityCache {
    hasher: Hasher,
    table: Mutex<Table>,
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

    /// Returns the key of a credential from this address; `None` for a certificate, which no endpoint checks.
    pub fn key(&self, credential: &Credential, peer: IpAddr) -> Option<Key> {
        Some(match credential {
            Credential::Basic { user, password } => {
                let (user, password) = (user.as_bytes(), password.expose().as_bytes());
                self.hasher.hash(&[b"basic", user, password, &address_bytes(peer)])
            }
            Credential::Bearer(token) => self.hasher.hash(&[b"bearer", token.expose().as_bytes()]),
            Credential::Certificate(_) => return None,
        })
    }

    /// Returns the cached identity of a credential.
    pub fn look(&self, key: &Key, now: ClockReading) -> Option<Known> {
        let table = self.table.lock();
        let entry = table.entries.get(key).filter(|entry| entry.is_good(self.good, now))?;
        let identity = entry.identity.clone();
        Some(if entry.is_fresh(self.fresh, now.instant) { Known::Fresh(identity) } else { Known::Stale(identity) })
    }

    /// Stores the identity of a valid credential. `heard` is when the endpoint gave the answer, or the data that it was
    /// derived from.
    pub fn keep(&self, key: Key, identity: Identity, now: ClockReading, heard: Instant) {
        let entry = Entry { owner: identity.owner(), identity, accepted: Some(now.instant), heard };
        let mut table = self.table.lock();
        table.remove(&key);
        if !table.has_room(self.entries, 0, &entry) {
            self.make_room(&mut table, &entry, now);
        }
        table.insert(key, entry);
    }

    fn make_room(&self, table: &mut Table, entry: &Entry, now: ClockReading) {
        let (most, spare) = (self.entries, self.entries / SPARE);
        table.retain(|entry| entry.is_good(self.good, now));
        if !table.has_room(most, spare, entry) {
            table.cut_shares(most, entry);
        }
        if !table.has_room(most, spare, entry) {
            table.cut_oldest(most, spare, entry);
        }
    }

    /// Removes a credential.
    pub fn forget(&self, key: &Key) {
        self.table.lock().remove(key);
    }

    /// Removes all credentials of a user.
    pub fn forget_user(&self, user: &str) {
        // A name that no principal can have has no entries.
        if let Ok(owner) = Principal::endpoint_user(user) {
            self.table.lock().remove_owner(&owner);
        }
    }

    /// Makes all entries stale, because anything may have changed.
    pub fn doubt(&self) {
        self.table.lock().entries.values_mut().for_each(|entry| entry.accepted = None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::account::{Fingerprints, Holder};
    use crate::auth::claim::Claim;
    use crate::auth::directory::{Account, Directory, Entries};
    use crate::auth::expiry::Expiry;
    use crate::auth::identity::Subject;
    use crate::auth::keys::Fingerprint;
    use crate::clock::simulated;

    fn with_token(user: &str, names: usize) -> Identity {
        let mut entries = Entries::default();
        entries.users.insert(user.to_owned(), Account::default());
        let mut identity = Directory::new(entries).user(user).unwrap();
        let keys: Vec<String> = (0..names).map(|n| n.to_string()).collect();
        let direct = vec![Claim::of("*", "*", &keys.join(","))];
        identity.subject = Subject::Account(Arc::new(Holder { user: Some(user.into()), direct, roles: None }));
        identity
    }

    fn of_machine(number: u8, names: usize) -> Identity {
        let mut identity = with_token("m", names);
        identity.principal = Principal::runner(&format!("11111111-2222-4333-8444-555555555{number:03}")).unwrap();
        if let Subject::Account(holder) = &identity.subject {
            identity.subject = Subject::Account(Arc::new(Holder { user: None, ..Holder::clone(holder) }));
        }
        identity
    }

    /// A token that alice had issued for a machine.
    fn of_her_machine(number: u8, names: usize) -> Identity {
        let mut identity = of_machine(number, names);
        let users = vec![("alice".into(), Fingerprint::of(b"secret"))];
        identity.conditions.endpoint = Some(Arc::new(Fingerprints { users, ..Fingerprints::default() }));
        identity
    }

    /// Machines get new tokens again and again, and their old ones expire.
    #[test]
    fn those_that_nobody_can_use_make_room_first() {
        let cache = IdentityCache::new(Duration::from_mins(1), Duration::from_hours(1), 3).unwrap();
        let keep = |n: u8, lives: Option<i64>, second| {
            let mut identity = with_token(&n.to_string(), 1);
            identity.expires_at = lives.map_or(Expiry::NEVER, |lives| Expiry::at(simulated::at(lives).wall));
            cache.keep([n; 32], identity, simulated::at(second), simulated::at(second).instant);
        };
        for (n, lives, second) in [(1, Some(200), 0), (2, None, 0), (3, None, 0), (4, None, 300)] {
            keep(n, lives, second);
        }
        let known = |second| [1, 2, 3, 4, 5].map(|n| cache.look(&[n; 32], simulated::at(second)).is_some());
        assert_eq!(known(300), [false, true, true, true, false], "the expired one went");
        // Beyond an hour only the youngest could still be used.
        keep(5, None, 3700);
        assert_eq!(known(3700), [false, false, false, true, true]);
    }

    #[test]
    fn beyond_the_bound_the_oldest_make_room() {
        let at = |second| simulated::at(second).instant;
        let cache = IdentityCache::new(Duration::from_mins(1), Duration::from_hours(1), 3).unwrap();
        let keep =
            |n: u8, second| cache.keep([n; 32], with_token(&n.to_string(), 1), simulated::at(second), at(second));
        let known = |n: u8, second| cache.look(&[n; 32], simulated::at(second));
        for (n, second) in [(1, 0), (2, 0), (3, 100)] {
            keep(n, second);
        }
        assert!(matches!(known(1, 59), Some(Known::Fresh(_))) && matches!(known(1, 3599), Some(Known::Stale(_))));
        assert!(known(1, 3600).is_none());
        keep(1, 101);
        assert!(known(2, 101).is_some(), "one that is known already needs no room");
        keep(4, 102);
        assert_eq!([1, 2, 3, 4].map(|n| known(n, 102).is_some()), [true, false, true, true]);
        keep(5, 103);
        keep(6, 103);
        assert_eq!([1, 3, 4, 5, 6].map(|n| known(n, 103).is_some()), [false, false, true, true, true]);
    }

    /// It visits all entries, under a lock for which all logins wait.
    #[test]
    fn a_search_makes_room_for_more_than_one() {
        for (of_many, gone) in [(0, 1..11), (60, 100..150)] {
            let cache = IdentityCache::new(Duration::from_mins(1), Duration::from_hours(1), 160).unwrap();
            let keep = |n: u8| {
                let user = if (100..100 + of_many).contains(&n) { "many".to_owned() } else { n.to_string() };
                let (mut identity, now) = (with_token(&user, 1), simulated::at(n.into()));
                // Whoever is swept out would suffice.
                identity.expires_at = if n == 0 { Expiry::at(simulated::at(1).wall) } else { Expiry::NEVER };
                cache.keep([n; 32], identity, now, now.instant);
            };
            (0..=160).for_each(keep);
            let is_known = |n: &u8| cache.look(&[*n; 32], simulated::at(160)).is_some();
            let expected: Vec<u8> = (1..=160).filter(|n| !gone.contains(n)).collect();
            assert_eq!((0..=160).filter(is_known).collect::<Vec<_>>(), expected, "{of_many}");
        }
    }

    #[test]
    fn many_long_ones_are_as_much_as_few_short_ones() {
        let cache = IdentityCache::new(Duration::from_mins(1), Duration::from_hours(1), 10).unwrap();
        let now = simulated::at(0);
        for n in 0..10 {
            cache.keep([n; 32], with_token(&n.to_string(), 5 * NAMES), now, now.instant);
            let table = cache.table.lock();
            let names: usize = table.entries.values().map(|entry| entry.identity.names()).sum();
            assert_eq!(table.names, names);
            assert!(names <= 10 * NAMES && table.entries.contains_key(&[n; 32]), "{n}");
        }
    }

    /// Whoever is connected must be able to log in while the endpoint is away, whatever tokens others use.
    #[test]
    fn the_tokens_of_one_caller_do_not_drive_out_those_of_others() {
        let kinds: [fn(u8, usize) -> Identity; 3] =
            [|_, names| with_token("a", names), |_, names| of_machine(1, names), of_her_machine];
        for (many, names) in kinds.into_iter().flat_map(|many| [(many, 1), (many, 5 * NAMES)]) {
            let cache = IdentityCache::new(Duration::from_mins(1), Duration::from_hours(1), 80).unwrap();
            let now = |second| simulated::at(second);
            let keep = |n: u8, identity: Identity, second| {
                cache.keep([n; 32], identity, now(second), now(second).instant);
            };
            (0..10).for_each(|n| keep(n, with_token("b", 1), 0));
            (10..200).for_each(|n| keep(n, many(n, names), i64::from(n) + 90));
            let known = |n: u8| cache.look(&[n; 32], now(300)).is_some();
            let one = many(10, names);
            assert!((0..10).all(known), "{one:?}");
            assert!(known(199) && !known(10), "{one:?}");
            let table = cache.table.lock();
            let own = &table.by_owner[one.owner().account()];
            assert_eq!((own.keys.len() + 10, own.names + 10), (table.entries.len(), table.names));
        }
    }

    #[test]
    fn who_has_too_many_keeps_the_newest() {
        let cache = IdentityCache::new(Duration::from_mins(1), Duration::from_hours(1), 80).unwrap();
        let (identity, now) = (with_token("a", 1), |second: u8| simulated::at(second.into()));
        for n in 0..=80 {
            assert!((0..n).all(|n| cache.look(&[n; 32], now(n)).is_some()), "while there is room, nobody is limited");
            cache.keep([n; 32], identity.clone(), now(n), now(n).instant);
        }
        let known = (0..=80).filter(|n| cache.look(&[*n; 32], now(80)).is_some());
        assert_eq!(known.collect::<Vec<_>>(), [75, 76, 77, 78, 79, 80]);
    }

    #[test]
    fn who_is_forgotten_leaves_nothing_and_nobody_else_is() {
        let cache = IdentityCache::new(Duration::from_mins(1), Duration::from_hours(1), 10).unwrap();
        let (a, b, now) = (with_token("a", 1), with_token("b", 1), simulated::at(0));
        for (n, identity) in [(1, &a), (2, &b), (3, &a), (1, &b), (2, &a)] {
            cache.keep([n; 32], identity.clone(), now, now.instant);
        }
        cache.forget(&[3; 32]);
        cache.forget_user("a");
        let known = [1, 2, 3].map(|n| cache.look(&[n; 32], now).is_some());
        assert_eq!(known, [true, false, false]);
        cache.forget_user("b");
        let table = cache.table.lock();
        assert!(table.entries.is_empty() && table.by_owner.is_empty() && table.names == 0);
    }
}
