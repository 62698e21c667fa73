//! What has changed at the endpoint, as its stream tells it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use super::Delegation;
use super::changed::{Changed, Users};
use super::error::IdentityError;

/// The longest wait before what could not be read is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Between two reads, so that events in an endless row do not make an endless row of reads.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Between two gaps for which everything is read again. Whoever may post events at the endpoint may post gaps.
const GAPS_APART: Duration = Duration::from_secs(5);

/// When everything was read for a gap.
#[derive(Debug, Default)]
struct Gaps {
    last: Option<Instant>,
}

impl Gaps {
    /// Has everything read if events are missing, unless that was done a moment ago; then, for how long that has to wait.
    fn consider(&mut self, changed: &mut Changed, now: Instant) -> Option<Duration> {
        if !std::mem::take(&mut changed.missed) {
            return None;
        }
        let since = self.last.map_or(GAPS_APART, |last| now.duration_since(last));
        let wait = GAPS_APART.saturating_sub(since);
        if !wait.is_zero() {
            return Some(wait);
        }
        self.last = Some(now);
        changed.add(Changed::everything());
        None
    }
}

impl Delegation {
    /// Takes note of an event of the stream. Neither blocks nor asks anybody.
    pub fn saw(&self, kind: &str, action: &str, key: &str) {
        let changed = match (kind, action) {
            ("users", _) => {
                self.users_reported.fetch_add(1, Ordering::AcqRel);
                self.cache.forget_user(key);
                Changed::users([key.to_owned()])
            }
            ("roles", _) => Changed { roles: true, ..Changed::default() },
            ("tenants", _) => Changed { tenants: true, ..Changed::default() },
            ("preferences", _) => Changed::keys(),
            ("hydrant", "gap") => Changed::missed(),
            _ => return,
        };
        self.note(changed);
    }

    /// Has this read again.
    pub(super) fn note(&self, changed: Changed) {
        self.changed.lock().add(changed);
        self.reported.notify_one();
    }

    /// Reads again what has changed, and everything once in a while, until told to stop.
    pub async fn follow(&self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow_on() => {}
            // Nobody is left to tell if it fails.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn follow_on(&self) {
        let mut pause = Duration::from_millis(500);
        let mut gaps = Gaps::default();
        loop {
            let mut changed = std::mem::take(&mut *self.changed.lock());
            let wait = gaps.consider(&mut changed, Instant::now());
            if wait.is_some() {
                self.changed.lock().add(Changed::missed());
            }
            if changed.users == Users::All {
                // Nobody knows what was missed.
                self.cache.doubt();
            }
            if let Err(failure) = self.read_all(&changed).await {
                tracing::warn!(%failure, "the endpoint does not tell its users, roles and tenants");
                self.changed.lock().add(changed);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            self.health.read();
            pause = Duration::from_millis(500);
            tokio::time::sleep(DEBOUNCE).await;
            let reported = timeout(wait.unwrap_or(self.limits.refresh), self.reported.notified()).await.is_ok();
            if !reported && wait.is_none() {
                self.changed.lock().add(Changed::everything());
            }
        }
    }

    /// Users one by one, so that logins in between do not wait for all of them.
    async fn read_all(&self, changed: &Changed) -> Result<(), IdentityError> {
        let accounts = self.authority.accounts();
        let known = accounts.entries().users.keys();
        let names: Vec<&String> = known.filter(|name| changed.users.has(name)).collect();
        self.read(&Changed { users: Users::default(), ..*changed }).await?;
        for name in names {
            self.read(&Changed::users([name.clone()])).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_in_a_row_are_one() {
        let (mut gaps, begin) = (Gaps::default(), Instant::now());
        let mut consider = |after: u64| {
            let mut changed = Changed::missed();
            let wait = gaps.consider(&mut changed, begin + Duration::from_secs(after));
            (wait, changed.users == Users::All)
        };
        assert_eq!(consider(0), (None, true));
        assert_eq!(consider(2), (Some(Duration::from_secs(3)), false));
        assert_eq!(consider(5), (None, true));
        assert_eq!(gaps.consider(&mut Changed::keys(), begin), None);
    }
}
