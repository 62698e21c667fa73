//! A cache of compiled rights, so that equal inputs (roles, tenant, restrictions of a token) are compiled once.
//!
//! Contract: bounded in entries and in size. Users choose the restrictions of their tokens, so the size is the number
//! of names; rights that several keys share count once. Beyond a bound the whole cache is emptied. Rights in use stay
//! valid with their holders; others are compiled again. The cache is kept for one version of the store and dropped with
//! the next. What is dropped is freed without the lock, for which logins and shards wait.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use super::access::{Access, AccessId};

/// The maximum number of entries.
const ENTRIES: usize = 65_536;

/// The maximum number of names in all of them. Each takes some hundred bytes.
const NAMES: usize = 1 << 19;

/// A bounded cache of compiled rights.
#[derive(Debug)]
pub(super) struct Memo<K> {
    kept: Mutex<Kept<K>>,
}

#[derive(Debug)]
struct Kept<K> {
    /// The version of the store that the rights follow from.
    generation: u64,
    rights: HashMap<K, Arc<Access>>,
    /// The rights whose names are counted.
    counted: HashSet<AccessId>,
    names: usize,
}

impl<K> Default for Memo<K> {
    fn default() -> Self {
        Self { kept: Mutex::new(Kept::of(0)) }
    }
}

impl<K: Eq + Hash> Memo<K> {
    /// Returns the rights kept for a key and this version of the store.
    pub(super) fn get(&self, generation: u64, key: &K) -> Option<Arc<Access>> {
        let kept = self.kept.lock();
        kept.rights.get(key).filter(|_| kept.generation == generation).map(Arc::clone)
    }

    /// Keeps rights for a key, which itself holds so many names, and for this version of the store.
    pub(super) fn keep(&self, generation: u64, key: K, names: usize, access: &Arc<Access>) {
        let mut kept = self.kept.lock();
        let dropped = kept.make_room(generation, names, access);
        kept.add(key, names, access);
        drop(kept);
        drop(dropped);
    }
}

#[cfg(test)]
impl<K> Memo<K> {
    /// Returns the number of names that count.
    pub(super) fn names(&self) -> usize {
        self.kept.lock().names
    }
}

impl<K> Kept<K> {
    fn of(generation: u64) -> Self {
        Self { generation, rights: HashMap::new(), counted: HashSet::new(), names: 0 }
    }
}

impl<K: Eq + Hash> Kept<K> {
    /// Begins anew if there is no room for rights, or if what is kept follows from another version of the store.
    /// Returns what was kept until then.
    fn make_room(&mut self, generation: u64, names: usize, access: &Access) -> Option<Self> {
        let is_full =
            || self.rights.len() >= ENTRIES || self.names.saturating_add(names + self.new_names(access)) > NAMES;
        (generation != self.generation || is_full()).then(|| std::mem::replace(self, Self::of(generation)))
    }

    fn add(&mut self, key: K, names: usize, access: &Arc<Access>) {
        let names = names + self.new_names(access);
        if self.rights.insert(key, Arc::clone(access)).is_none() {
            self.names += names;
            self.counted.insert(access.id());
        }
    }

    /// Returns the number of names in rights if they are not counted yet.
    fn new_names(&self, access: &Access) -> usize {
        if self.counted.contains(&access.id()) { 0 } else { access.names() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::auth::access::{Content, Interner};
    use crate::auth::claim::Claim;

    fn access(interner: &Interner, claims: &[String]) -> Arc<Access> {
        let claims = claims.iter().map(|claim| claim.parse().unwrap()).collect();
        interner.intern(Content::new(claims, Vec::new(), None))
    }

    fn list(name: &str, n: usize) -> String {
        (0..n).map(|n| format!("{name}{n}")).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn few_long_ones_are_kept_and_many_short_ones() {
        let interner = Interner::default();
        let short = access(&interner, &[]);
        let memo = Memo::default();
        for n in 0..ENTRIES {
            memo.keep(0, n, 0, &short);
        }
        assert!((0..ENTRIES).all(|n| memo.get(0, &n).is_some()));
        memo.keep(0, ENTRIES, 0, &short);
        assert!(memo.get(0, &0).is_none() && memo.get(0, &ENTRIES).is_some(), "one too many");
        for n in 0..1000 {
            memo.keep(0, n, 500, &access(&interner, &[format!("machines/update/own{n},{}", list("k", 1000))]));
            assert!(memo.kept.lock().rights.len() * (500 + 1000) <= NAMES + 1500, "{n}");
            assert!(memo.get(0, &n).is_some());
        }
    }

    #[test]
    fn what_many_share_counts_once() {
        let interner = Interner::default();
        let long = access(&interner, &[format!("machines/update/{}", list("k", 2000))]);
        let memo = Memo::default();
        (0..10_000).for_each(|n| memo.keep(0, n, 10, &long));
        assert!((0..10_000).all(|n| memo.get(0, &n).is_some()));
        // What was dropped is counted again.
        (0..ENTRIES).for_each(|n| memo.keep(0, 10_000 + n, 10, &long));
        assert!(memo.get(0, &0).is_none());
        let kept = memo.kept.lock();
        assert_eq!(kept.names, kept.rights.len() * 10 + long.names());
    }

    /// A key that sees, when it is freed, whether the memo is locked.
    #[derive(PartialEq, Eq, Hash)]
    struct Key(usize);

    static MEMO: LazyLock<Memo<Key>> = LazyLock::new(Memo::default);

    /// The number of keys freed while the memo was not locked.
    static FREED: AtomicUsize = AtomicUsize::new(0);

    impl Drop for Key {
        fn drop(&mut self) {
            FREED.fetch_add(usize::from(MEMO.kept.try_lock().is_some()), Ordering::Relaxed);
        }
    }

    /// Logins and shards wait for the lock.
    #[test]
    fn what_is_dropped_is_freed_without_the_lock() {
        let interner = Interner::default();
        let short = access(&interner, &[]);
        let freed = || FREED.swap(0, Ordering::Relaxed);
        (0..ENTRIES).for_each(|n| MEMO.keep(0, Key(n), 0, &short));
        assert_eq!(freed(), 0);
        MEMO.keep(0, Key(ENTRIES), 0, &short);
        assert_eq!(freed(), ENTRIES, "one too many");
        MEMO.keep(1, Key(0), 0, &short);
        assert_eq!(freed(), 1, "another version");
        assert!(MEMO.get(1, &Key(0)).is_some() && MEMO.get(0, &Key(0)).is_none());
    }

    /// Of lists as long as a token may have them, a product would take more memory than there is; and of short ones,
    /// far more than the token.
    #[test]
    fn rights_are_not_larger_than_their_claims_by_far() {
        for n in [25, 100] {
            let text = [n; 3].map(|n| list("n", n)).join("/");
            let wide = access(&Interner::default(), &[text.clone(), "machines/update/a".to_owned()]);
            assert!(wide.names() < 10 * n, "{n}: {}", wide.names());
            let claim: Claim = text.parse().unwrap();
            for (kind, action, key) in
                [("n0", "n24", "n7"), ("n0", "n24", "m7"), ("n0", "m", "n7"), ("m", "n3", "n7"), ("n5", "get", "n7")]
            {
                let shows = claim.shows(kind, action, std::iter::once(key));
                assert_eq!(
                    shows,
                    [kind, action, key].iter().all(|name| name.starts_with('n')),
                    "{kind}/{action}/{key}"
                );
                assert_eq!(wide.sees(kind, action, key, None), shows, "{kind}/{action}/{key}");
            }
            assert!(wide.sees("machines", "update", "a", None) && !wide.sees("machines", "update", "b", None));
        }
    }
}
