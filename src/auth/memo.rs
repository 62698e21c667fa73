//! A cache of compiled rights, so that equal inputs (roles, tenant, restrictions of a token) are compiled once.
//!
//! Contract: bounded in entries and in size. Users choose the restrictions of their tokens, so the size is the number
//! of names; rights that several keys share count once. Beyond a bound the whole cache is emptied. Rights in use stay
//! valid with their holders; others are compiled again.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::access::{Access, AccessId};

/// The maximum number of entries.
const ENTRIES: usize = 65_536;

/// The maximum number of names in all of them. Each takes some hundred bytes.
const NAMES: usize = 1 << 19;

/// A bounded cache of compiled rights.
#[derive(Debug)]
pub(super) struct Memo<K> {
    rights: HashMap<K, Arc<Access>>,
    /// The rights whose names are counted.
    counted: HashSet<AccessId>,
    names: usize,
}

impl<K> Default for Memo<K> {
    fn default() -> Self {
        Self { rights: HashMap::new(), counted: HashSet::new(), names: 0 }
    }
}

impl<K: Eq + Hash> Memo<K> {
    /// Returns the rights kept for a key.
    pub(super) fn get(&self, key: &K) -> Option<Arc<Access>> {
        self.rights.get(key).map(Arc::clone)
    }

    /// Keeps rights for a key, which itself holds so many names.
    pub(super) fn keep(&mut self, key: K, names: usize, access: &Arc<Access>) {
        if self.rights.len() >= ENTRIES || self.names.saturating_add(names + self.new_names(access)) > NAMES {
            *self = Self::default();
        }
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
        let mut memo = Memo::default();
        for n in 0..ENTRIES {
            memo.keep(n, 0, &short);
        }
        assert!((0..ENTRIES).all(|n| memo.get(&n).is_some()));
        memo.keep(ENTRIES, 0, &short);
        assert!(memo.get(&0).is_none() && memo.get(&ENTRIES).is_some(), "one too many");
        for n in 0..1000 {
            memo.keep(n, 500, &access(&interner, &[format!("machines/update/own{n},{}", list("k", 1000))]));
            assert!(memo.rights.len() * (500 + 1000) <= NAMES + 1500, "{n}");
            assert!(memo.get(&n).is_some());
        }
    }

    #[test]
    fn what_many_share_counts_once() {
        let interner = Interner::default();
        let long = access(&interner, &[format!("machines/update/{}", list("k", 2000))]);
        let mut memo = Memo::default();
        (0..10_000).for_each(|n| memo.keep(n, 10, &long));
        assert!((0..10_000).all(|n| memo.get(&n).is_some()));
        // What was dropped is counted again.
        (0..ENTRIES).for_each(|n| memo.keep(10_000 + n, 10, &long));
        assert!(memo.get(&0).is_none() && memo.names == memo.rights.len() * 10 + long.names());
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
