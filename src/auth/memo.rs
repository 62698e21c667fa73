//! Compiled rights, kept so that each combination of what they follow from is compiled once.
//!
//! Contract: bounded in number and in size. Users choose the restrictions of their tokens, so what is kept counts by
//! the names in it. Beyond a bound all of it is dropped: rights in use live on with their holders, and others are
//! compiled again.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashMap;

use super::access::Access;

/// The maximum number of entries.
const ENTRIES: usize = 65_536;

/// The maximum number of names in all of them. Each takes some hundred bytes.
const NAMES: usize = 1 << 19;

/// A bounded cache of compiled rights.
#[derive(Debug)]
pub(super) struct Memo<K> {
    rights: HashMap<K, Arc<Access>>,
    names: usize,
}

impl<K> Default for Memo<K> {
    fn default() -> Self {
        Self { rights: HashMap::new(), names: 0 }
    }
}

impl<K: Eq + Hash> Memo<K> {
    /// Returns the rights kept for a key.
    pub(super) fn get(&self, key: &K) -> Option<Arc<Access>> {
        self.rights.get(key).map(Arc::clone)
    }

    /// Keeps rights for a key, which itself holds so many names.
    pub(super) fn keep(&mut self, key: K, names: usize, access: &Arc<Access>) {
        let names = names + access.names();
        if self.rights.len() >= ENTRIES || self.names.saturating_add(names) > NAMES {
            (self.rights, self.names) = (HashMap::new(), 0);
        }
        if self.rights.insert(key, Arc::clone(access)).is_none() {
            self.names += names;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::access::{Content, Interner};
    use crate::auth::claim::Claim;

    fn access(claims: &[String]) -> Arc<Access> {
        let claims = claims.iter().map(|claim| claim.parse().unwrap()).collect();
        Interner::default().intern(Content::new(claims, Vec::new(), None))
    }

    #[test]
    fn few_long_ones_are_kept_and_many_short_ones() {
        let keys: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let (long, short) = (access(&[format!("machines/update/{}", keys.join(","))]), access(&[]));
        let mut memo = Memo::default();
        for n in 0..ENTRIES {
            memo.keep(n, 0, &short);
        }
        assert!((0..ENTRIES).all(|n| memo.get(&n).is_some()));
        memo.keep(ENTRIES, 0, &short);
        assert!(memo.get(&0).is_none() && memo.get(&ENTRIES).is_some(), "one too many");
        for n in 0..10_000 {
            memo.keep(n, 500, &long);
            assert!(memo.rights.len() * (500 + 1000) <= NAMES + 1500, "{n}");
            assert!(memo.get(&n).is_some());
        }
    }

    /// Of lists as long as a token may have them, a product would take more memory than there is.
    #[test]
    fn rights_are_not_larger_than_their_claims_by_far() {
        let list = |n: usize| (0..n).map(|n| format!("n{n}")).collect::<Vec<_>>().join(",");
        let text = format!("{}/{}/{}", list(100), list(100), list(100));
        let wide = access(&[text.clone(), "machines/update/a".to_owned()]);
        assert!(wide.names() < 1000, "{}", wide.names());
        let claim: Claim = text.parse().unwrap();
        for (kind, action, key) in
            [("n0", "n99", "n7"), ("n0", "n99", "m7"), ("n0", "m", "n7"), ("m", "n3", "n7"), ("n5", "get", "n7")]
        {
            let shows = claim.shows(kind, action, std::iter::once(key));
            assert_eq!(shows, [kind, action, key].iter().all(|name| name.starts_with('n')), "{kind}/{action}/{key}");
            assert_eq!(wide.sees(kind, action, key, None), shows, "{kind}/{action}/{key}");
        }
        assert!(wide.sees("machines", "update", "a", None) && !wide.sees("machines", "update", "b", None));
    }
}
