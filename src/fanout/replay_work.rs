//! Limits the filter work of replays per second: the same budget as for live events, per connection and per principal.
//!
//! Replays can wait, so a connection over its budget waits for the next second and is not closed.
//!
//! Contract: pure; the caller passes the time in microseconds of a monotonic clock.

use hashbrown::HashMap;

use crate::auth::Principal;
use crate::index::Work;

const SECOND_US: u64 = 1_000_000;

/// Units of work spent in one second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    second: u64,
    units: u64,
}

impl Spent {
    fn add(&mut self, units: u64, second: u64) {
        if self.second != second {
            *self = Self { second, units: 0 };
        }
        self.units = self.units.saturating_add(units);
    }

    fn has(&self, units: u64, second: u64) -> bool {
        self.second == second && self.units >= units
    }
}

/// Budgets of filter work for replays, per second, by connection and by principal.
#[derive(Debug)]
pub(super) struct ReplayWork {
    work: Work,
    second: u64,
    /// The principals that have spent something in that second.
    by_principal: HashMap<Principal, Spent>,
}

impl ReplayWork {
    pub(super) fn new(work: Work) -> Self {
        Self { work, second: 0, by_principal: HashMap::new() }
    }

    /// Returns until when a connection has to wait, if it or its principal has used up its budget of this second.
    pub(super) fn wait_until(&self, own: &Spent, principal: &Principal, now_us: u64) -> Option<u64> {
        let second = now_us / SECOND_US;
        let all = self.by_principal.get(principal);
        let over = own.has(self.work.second, second) || all.is_some_and(|all| all.has(self.work.owner, second));
        over.then_some((second + 1) * SECOND_US)
    }

    /// Charges `units` of work to a connection and its principal.
    pub(super) fn charge(&mut self, own: &mut Spent, principal: &Principal, units: u64, now_us: u64) {
        let second = now_us / SECOND_US;
        if units == 0 {
            return;
        }
        if self.second != second {
            self.second = second;
            self.by_principal.clear();
        }
        own.add(units, second);
        self.by_principal.entry(principal.clone()).or_default().add(units, second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_and_a_principal_wait_for_the_next_second() {
        let principal = |name: &str| name.parse::<Principal>().unwrap();
        let (alice, bob) = (principal("user:alice"), principal("user:bob"));
        let mut work = ReplayWork::new(Work { event: 10, second: 100, owner: 150 });
        let [mut first, mut second] = [Spent::default(); 2];
        work.charge(&mut first, &alice, 99, 5);
        assert_eq!(work.wait_until(&first, &alice, 6), None);
        work.charge(&mut first, &alice, 1, 6);
        assert_eq!(work.wait_until(&first, &alice, 7), Some(SECOND_US));
        assert_eq!(work.wait_until(&second, &alice, 7), None);
        work.charge(&mut second, &alice, 50, 7);
        assert_eq!(work.wait_until(&second, &alice, 8), Some(SECOND_US), "all of its principal");
        assert_eq!(work.wait_until(&Spent::default(), &bob, 8), None);
        assert_eq!(work.wait_until(&first, &alice, SECOND_US), None);
        work.charge(&mut first, &bob, 1, SECOND_US);
        assert_eq!(work.by_principal.len(), 1, "who is quiet is forgotten");
    }
}
