//! Limits the open connections, in all and of each principal.
//!
//! Contract: any thread may use it. A [`Permit`] counts one connection for as long as the permit exists. The table of
//! principals is bounded by the number of those with connections: a count of zero is equivalent to no entry and is
//! removed.
//!
//! One permit stands for both counts, because every open connection stores it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::auth::Principal;

/// Counts the open connections and limits their number.
#[derive(Debug, Clone)]
pub struct ConnectionLimit(Arc<Open>);

#[derive(Debug)]
struct Open {
    count: AtomicUsize,
    limit: usize,
    /// The number of each principal; without entries for zero.
    by_principal: Mutex<HashMap<Principal, u64>>,
    /// The quota of each principal; zero means unlimited.
    quota: u64,
}

impl ConnectionLimit {
    /// Creates a limit of this many connections at a time, and of `quota` of each principal; a quota of zero means
    /// unlimited.
    pub fn new(limit: usize, quota: u64) -> Self {
        Self(Arc::new(Open { count: AtomicUsize::new(0), limit, by_principal: Mutex::default(), quota }))
    }

    /// Returns a permit for one more connection, or `None` at the limit.
    pub fn admit(&self) -> Option<Permit> {
        let admitted = self.0.count.fetch_add(1, Ordering::AcqRel) < self.0.limit;
        let permit = Permit { open: Arc::clone(&self.0), principal: None };
        admitted.then_some(permit)
    }
}

/// Counts one connection until it is dropped.
#[derive(Debug)]
pub struct Permit {
    open: Arc<Open>,
    /// The principal for which the connection is counted too.
    principal: Option<Principal>,
}

impl Permit {
    /// Counts the connection for its principal too. `own` is the principal's quota if it differs from the default.
    /// Connections are counted even without a quota, since one may be set while they are open.
    ///
    /// # Errors
    /// The quota if it is exhausted; the permit is given back.
    pub fn of(mut self, principal: &Principal, own: Option<u64>) -> Result<Self, u64> {
        let quota = own.unwrap_or(self.open.quota);
        let mut by_principal = self.open.by_principal.lock();
        let count = by_principal.get(principal).copied().unwrap_or(0);
        if quota > 0 && count >= quota {
            return Err(quota);
        }
        by_principal.insert(principal.clone(), count + 1);
        drop(by_principal);
        self.principal = Some(principal.clone());
        Ok(self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(principal) = &self.principal {
            let mut by_principal = self.open.by_principal.lock();
            if let Some(count) = by_principal.get_mut(principal) {
                *count -= 1;
                if *count == 0 {
                    by_principal.remove(principal);
                }
            }
        }
        self.open.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Principal {
        Principal::user(name).unwrap()
    }

    fn admit(limit: &ConnectionLimit, name: &str, own: Option<u64>) -> Result<Permit, u64> {
        limit.admit().unwrap().of(&user(name), own)
    }

    #[test]
    fn places_are_given_back() {
        let limit = ConnectionLimit::new(3, 2);
        let (first, second) = (admit(&limit, "a", None).unwrap(), admit(&limit, "a", None).unwrap());
        assert_eq!(admit(&limit, "a", None).unwrap_err(), 2);
        let other = admit(&limit, "b", None).unwrap();
        assert!(limit.admit().is_none(), "three of everybody");
        drop((first, other));
        assert!(admit(&limit, "a", None).is_ok());
        drop(second);
        assert!(limit.0.by_principal.lock().is_empty());
        assert_eq!(limit.0.count.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_quota_of_its_own_counts_what_was_open_before() {
        let limit = ConnectionLimit::new(usize::MAX, 0);
        let open: Vec<Permit> = (0..3).map(|_| admit(&limit, "a", None).unwrap()).collect();
        assert_eq!(admit(&limit, "a", Some(3)).unwrap_err(), 3);
        assert!(admit(&limit, "a", Some(4)).is_ok());
        drop(open);
        assert!(limit.0.by_principal.lock().is_empty());
    }

    #[test]
    fn what_every_connection_stores_is_small() {
        assert!(size_of::<Permit>() <= 24, "{}, without anything in the heap", size_of::<Permit>());
    }
}
