//! Limits the HTTP connections of one principal, so that nobody with valid credentials takes all file descriptors.
//!
//! Contract: a connection counts for the principal that is authenticated first on it, from then until it ends or
//! becomes a websocket. Those of trusted proxies do not count: they are the proxy's. The lock is taken once per
//! connection. The tables have no entries for principals without connections.

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::auth::Principal;

/// The number of connections that any principal may have, however few descriptors there are.
const LEAST: u64 = 16;

/// The principal has as many connections as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    /// The maximum number.
    pub(super) limit: usize,
}

/// Counts authenticated HTTP connections. Belongs to the control plane.
#[derive(Debug)]
pub(super) struct HttpShares {
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// The principal of each connection, by its number.
    by_number: HashMap<u64, Principal>,
    counts: HashMap<Principal, usize>,
}

impl HttpShares {
    /// Creates shares of an eighth of the `descriptors` that clients may have.
    pub(super) fn new(descriptors: u64) -> Self {
        let limit = usize::try_from((descriptors / 8).max(LEAST)).unwrap_or(usize::MAX);
        Self { limit, open: Mutex::default() }
    }

    /// Counts a connection for its principal. To be called once per connection.
    ///
    /// # Errors
    /// [`Full`] if the principal has too many.
    pub(super) fn came(&self, number: u64, principal: &Principal) -> Result<(), Full> {
        let mut open = self.open.lock();
        let count = open.counts.entry(principal.clone()).or_default();
        if *count >= self.limit {
            return Err(Full { limit: self.limit });
        }
        *count += 1;
        open.by_number.insert(number, principal.clone());
        Ok(())
    }

    /// Forgets a connection.
    pub(super) fn left(&self, number: u64) {
        let mut open = self.open.lock();
        let Some(principal) = open.by_number.remove(&number) else { return };
        if let Some(count) = open.counts.get_mut(&principal) {
            *count -= 1;
            if *count == 0 {
                open.counts.remove(&principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_principal_has_its_share() {
        let shares = HttpShares::new(160);
        let [one, other] = ["a", "b"].map(|name| Principal::user(name).unwrap());
        for number in 0..20 {
            assert_eq!(shares.came(number, &one), Ok(()));
        }
        assert_eq!(shares.came(20, &one), Err(Full { limit: 20 }));
        assert_eq!(shares.came(20, &other), Ok(()));
        shares.left(7);
        assert_eq!(shares.came(21, &one), Ok(()));
        (0..22).for_each(|number| shares.left(number));
        let open = shares.open.lock();
        assert!(open.by_number.is_empty() && open.counts.is_empty());
    }

    #[test]
    fn with_few_descriptors_a_share_is_still_usable() {
        assert_eq!(
            [0, 48, 1024, u64::MAX].map(|descriptors| HttpShares::new(descriptors).limit),
            [16, 16, 128, usize::MAX / 8]
        );
    }
}
