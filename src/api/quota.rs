//! How many events a principal may post in a second, and how many websockets it may have.
//!
//! Pure: told what time it is. Both tables are bounded by the principals that are active: a bucket that is full again, and
//! a count that is zero, are the same as none and are forgotten.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Principals whose buckets are kept before full ones are swept out.
const SWEEP_AT: usize = 1024;

/// A token bucket for each principal: `per_second` events, and as many at once.
#[derive(Debug)]
pub struct PostQuota {
    per_second: u64,
    /// Principal to the time, in microseconds, at which its bucket is full again.
    full_at_us: Mutex<HashMap<Box<str>, u64>>,
}

impl PostQuota {
    /// A quota; zero is none.
    pub fn new(per_second: u64) -> Self {
        Self { per_second, full_at_us: Mutex::default() }
    }

    /// A principal's share.
    pub fn per_second(&self) -> u64 {
        self.per_second
    }

    /// Takes `events` out of a principal's bucket. A batch larger than the bucket is taken when the bucket is full, so that
    /// it is slowed down and not refused for ever.
    ///
    /// # Errors
    /// After how long another try makes sense.
    pub fn take(&self, principal: &str, events: u64, now_us: u64) -> Result<(), Duration> {
        if self.per_second == 0 || events == 0 {
            return Ok(());
        }
        let cost = |events: u64| events.saturating_mul(1_000_000) / self.per_second;
        let mut table = self.full_at_us.lock();
        if table.len() >= SWEEP_AT {
            table.retain(|_, full_at| *full_at > now_us);
        }
        let full_at = table.get(principal).copied().unwrap_or(0).max(now_us);
        let allowed_debt = cost(self.per_second.saturating_sub(events.min(self.per_second)));
        if full_at - now_us > allowed_debt {
            return Err(Duration::from_micros(full_at - now_us - allowed_debt));
        }
        table.insert(principal.into(), full_at + cost(events));
        Ok(())
    }
}

/// Open websockets by principal; those that have none are not in it.
type Open = Mutex<HashMap<Box<str>, usize>>;

/// Websockets by principal.
#[derive(Debug)]
pub struct SocketQuota {
    limit: usize,
    open: Arc<Open>,
}

impl SocketQuota {
    /// A quota; zero is none.
    pub fn new(limit: usize) -> Self {
        Self { limit, open: Arc::default() }
    }

    /// A place for one more websocket of a principal, if there is one; given back when dropped.
    pub fn admit(&self, principal: &str) -> Option<SocketPlace> {
        if self.limit == 0 {
            return Some(SocketPlace { open: None, principal: Box::default() });
        }
        let mut open = self.open.lock();
        let count = open.entry(principal.into()).or_insert(0);
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(SocketPlace { open: Some(Arc::clone(&self.open)), principal: principal.into() })
    }
}

/// A websocket's place among those of its principal.
#[derive(Debug)]
pub struct SocketPlace {
    open: Option<Arc<Open>>,
    principal: Box<str>,
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        let Some(open) = &self.open else { return };
        let mut open = open.lock();
        if let Some(count) = open.get_mut(&self.principal) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_principal_posts_its_share_and_others_theirs() {
        let quota = PostQuota::new(10);
        assert_eq!(quota.take("a", 10, 0), Ok(()));
        assert_eq!(quota.take("a", 1, 0), Err(Duration::from_millis(100)));
        assert_eq!(quota.take("b", 1, 0), Ok(()));
        assert_eq!(quota.take("a", 5, SECOND / 2), Ok(()));
        assert!(quota.take("a", 1, SECOND / 2).is_err());
        assert_eq!(quota.take("a", 10, 2 * SECOND), Ok(()));
    }

    #[test]
    fn a_large_batch_is_slowed_down_and_not_refused_for_ever() {
        let quota = PostQuota::new(10);
        assert_eq!(quota.take("a", 100, 0), Ok(()));
        assert_eq!(quota.take("a", 100, SECOND), Err(Duration::from_secs(9)));
        assert_eq!(quota.take("a", 100, 10 * SECOND), Ok(()));
        assert_eq!(PostQuota::new(0).take("a", u64::MAX, 0), Ok(()));
    }

    #[test]
    fn places_are_given_back() {
        let quota = SocketQuota::new(2);
        let (first, second) = (quota.admit("a").unwrap(), quota.admit("a").unwrap());
        assert!(quota.admit("a").is_none());
        assert!(quota.admit("b").is_some());
        drop(first);
        assert!(quota.admit("a").is_some());
        drop(second);
        assert!(quota.open.lock().is_empty());
    }
}
