//! Limits the events that a principal (by its account) may post per second.
//!
//! Pure: the caller passes the time. The table is bounded by the number of active principals: a full bucket is
//! equivalent to no entry. Full buckets are removed from time to time, so that a crowd that posts at its quota is not
//! gone through with every post.

use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Minimum number of buckets from which full ones are removed.
const SWEEP_AT: usize = 1024;

/// The principal's bucket does not contain enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// The principal's quota in events per second.
    pub per_second: u64,
    /// Time after which a retry may succeed.
    pub retry_after: Duration,
}

/// A token bucket per principal: it allows a number of events per second, and as many at once.
#[derive(Debug)]
pub struct PostQuota {
    per_second: u64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    /// For each principal, the time in microseconds at which its bucket is full again.
    full_at_us: HashMap<Box<str>, u64>,
    /// The number of buckets at which full ones are removed.
    sweep_at: usize,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { full_at_us: HashMap::new(), sweep_at: SWEEP_AT }
    }
}

impl Buckets {
    /// Removes full buckets if there are twice as many buckets as were left the last time.
    fn sweep(&mut self, now_us: u64) {
        if self.full_at_us.len() >= self.sweep_at {
            self.full_at_us.retain(|_, full_at| *full_at > now_us);
            self.sweep_at = (2 * self.full_at_us.len()).max(SWEEP_AT);
        }
    }
}

impl PostQuota {
    /// Creates a quota of `per_second` events; zero means unlimited.
    pub fn new(per_second: u64) -> Self {
        Self { per_second, buckets: Mutex::default() }
    }

    /// Takes `events` out of a principal's bucket; `own` is its quota if it differs from the default. A batch larger
    /// than the bucket is accepted when the bucket is full, so that it is slowed down and not refused for ever.
    ///
    /// # Errors
    /// [`Spent`] if the bucket does not contain enough.
    pub fn take(&self, principal: &str, own: Option<u64>, events: u64, now_us: u64) -> Result<(), Spent> {
        let per_second = own.unwrap_or(self.per_second);
        if per_second == 0 || events == 0 {
            return Ok(());
        }
        let mut buckets = self.buckets.lock();
        buckets.sweep(now_us);
        let full_at = buckets.full_at_us.get(principal).copied().unwrap_or(0).max(now_us);
        let allowed_debt = cost(per_second - events.min(per_second), per_second);
        if full_at - now_us > allowed_debt {
            let retry_after = Duration::from_micros(full_at - now_us - allowed_debt);
            return Err(Spent { per_second, retry_after });
        }
        buckets.full_at_us.insert(principal.into(), full_at + cost(events, per_second));
        Ok(())
    }

    /// Puts `events` back into a principal's bucket: they were taken out, but not accepted.
    pub fn give_back(&self, principal: &str, own: Option<u64>, events: u64) {
        let per_second = own.unwrap_or(self.per_second);
        if let Some(full_at) = self.buckets.lock().full_at_us.get_mut(principal) {
            *full_at = full_at.saturating_sub(cost(events, per_second));
        }
    }
}

/// Returns the time in microseconds that events take of a bucket; none without a quota.
fn cost(events: u64, per_second: u64) -> u64 {
    events.saturating_mul(1_000_000).checked_div(per_second).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn wait(taken: Result<(), Spent>) -> Option<Duration> {
        taken.err().map(|spent| spent.retry_after)
    }

    #[test]
    fn a_principal_posts_its_share_and_others_theirs() {
        let quota = PostQuota::new(10);
        assert_eq!(quota.take("a", None, 10, 0), Ok(()));
        assert_eq!(wait(quota.take("a", None, 1, 0)), Some(Duration::from_millis(100)));
        assert_eq!(quota.take("b", None, 1, 0), Ok(()));
        assert_eq!(quota.take("a", None, 5, SECOND / 2), Ok(()));
        assert!(quota.take("a", None, 1, SECOND / 2).is_err());
        assert_eq!(quota.take("a", None, 10, 2 * SECOND), Ok(()));
    }

    #[test]
    fn a_large_batch_is_slowed_down_and_not_refused_for_ever() {
        let quota = PostQuota::new(10);
        assert_eq!(quota.take("a", None, 100, 0), Ok(()));
        assert_eq!(wait(quota.take("a", None, 100, SECOND)), Some(Duration::from_secs(9)));
        assert_eq!(quota.take("a", None, 100, 10 * SECOND), Ok(()));
        assert_eq!(PostQuota::new(0).take("a", None, u64::MAX, 0), Ok(()));
    }

    #[test]
    fn what_was_not_accepted_costs_nothing() {
        let quota = PostQuota::new(10);
        assert_eq!(quota.take("a", None, 30, 0), Ok(()));
        quota.give_back("a", None, 30);
        assert_eq!(quota.take("a", None, 10, 0), Ok(()));
        assert_eq!(wait(quota.take("a", None, 1, 0)), Some(Duration::from_millis(100)));
        quota.give_back("a", Some(0), 10);
        quota.give_back("b", None, 10);
        assert!(quota.take("a", None, 1, 0).is_err());
    }

    #[test]
    fn a_share_of_its_own_beats_everybodys() {
        let quota = PostQuota::new(10);
        assert_eq!(quota.take("a", Some(2), 2, 0), Ok(()));
        assert_eq!(quota.take("a", Some(2), 1, 0).unwrap_err().per_second, 2);
        assert_eq!(quota.take("b", Some(20), 20, 0), Ok(()));
        assert_eq!(PostQuota::new(0).take("a", Some(1), 1, 0), Ok(()));
    }

    /// Every post of a crowd that posts at its quota would visit all buckets under the lock.
    #[test]
    fn a_crowd_is_not_gone_through_with_every_post() {
        let quota = PostQuota::new(10);
        let held = || quota.buckets.lock().full_at_us.len();
        for n in 0..2 * SWEEP_AT - 2 {
            assert_eq!(quota.take(&n.to_string(), None, 1, 0), Ok(()));
        }
        for later in ["x", "y"] {
            assert_eq!(quota.take(later, None, 1, SECOND), Ok(()));
        }
        assert_eq!(held(), 2 * SWEEP_AT, "twice as many as the last sweep left");
        assert_eq!(quota.take("z", None, 1, SECOND), Ok(()));
        assert_eq!(held(), 3, "the full ones have gone");
        for n in 0..100 * SWEEP_AT as u64 {
            assert_eq!(quota.take(&n.to_string(), None, 1, n * SECOND), Ok(()));
        }
        assert!(held() <= SWEEP_AT);
    }
}
