//! Decides when to read changes at the endpoint.
//!
//! Pure; the caller passes the time. Three rules delay a reading:
//! - Lists (roles, tenants, all accounts) are read at most once in [`APART`], because anybody who may post events at
//!   the endpoint can cause it. The same limit applies to the service's own user, on which the lists depend. Nothing is
//!   forgotten meanwhile, and the first reading after a pause is immediate.
//! - Everything is read once in a period, which no event postpones.
//! - A failed reading is retried with growing pauses. If it concerns one user's account, the others continue
//!   meanwhile; if it concerns everybody, nothing is read before the pause is over. Keys and accounts have a pause
//!   each, and further failures do not prolong one that has begun: anybody can cause them.

use std::time::Duration;

use tokio::time::Instant;

use super::changed::Changed;

/// Minimum interval between two reads of lists.
pub(super) const APART: Duration = Duration::from_secs(1);

/// Delay before the first retry of a failed read.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);

/// Maximum delay before a retry.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A delay that doubles with each failure.
#[derive(Debug)]
struct Pause {
    next: Duration,
    until: Option<Instant>,
}

impl Pause {
    fn begin(&mut self, now: Instant) {
        self.until = Some(now + self.next);
        self.next = (2 * self.next).min(LONGEST_PAUSE);
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self { next: SHORTEST_PAUSE, until: None }
    }
}

/// What could not be read although the rest could.
#[derive(Debug, Default)]
struct Retry {
    what: Changed,
    pause: Pause,
}

impl Retry {
    fn add(&mut self, left: Changed, now: Instant) {
        if left.is_empty() {
            return;
        }
        if self.what.is_empty() {
            self.pause.begin(now);
        }
        self.what.add(left);
    }

    fn take_due(&mut self, now: Instant) -> Changed {
        if self.pause.is_over(now) { std::mem::take(&mut self.what) } else { Changed::default() }
    }

    /// Begins with the shortest pause again if nothing is left.
    fn settle(&mut self) {
        if self.what.is_empty() {
            self.pause = Pause::default();
        }
    }

    /// Returns when it is due.
    fn at(&self) -> Option<Instant> {
        self.pause.until.filter(|_| !self.what.is_empty())
    }
}

/// Decides when to reread users, roles and tenants. Pure; the caller passes the time.
#[derive(Debug)]
pub(super) struct Schedule {
    waiting: Changed,
    period: Duration,
    everything_at: Instant,
    lists_from: Instant,
    /// The delay while nothing can be read at all.
    outage: Pause,
    keys: Retry,
    accounts: Retry,
}

impl Schedule {
    /// Creates a schedule that reads everything at once, and again after each `period`.
    pub(super) fn new(period: Duration, now: Instant) -> Self {
        Self {
            waiting: Changed::default(),
            period,
            everything_at: now,
            lists_from: now,
            outage: Pause::default(),
            keys: Retry::default(),
            accounts: Retry::default(),
        }
    }

    /// Adds `changed` and returns what to read now.
    pub(super) fn next(&mut self, changed: Changed, now: Instant) -> Changed {
        self.waiting.add(changed);
        if self.everything_at <= now {
            self.everything_at = now + self.period;
            self.waiting.add(Changed::missed());
        }
        if !self.outage.is_over(now) {
            return Changed::default();
        }
        self.waiting.add(self.keys.take_due(now));
        self.waiting.add(self.accounts.take_due(now));
        if now < self.lists_from { self.waiting.take_single() } else { self.waiting.take_all() }
    }

    /// Records that `what` was read, except for `left`.
    pub(super) fn has_read(&mut self, what: &Changed, left: Changed, now: Instant) {
        self.outage = Pause::default();
        if what.has_lists() {
            self.lists_from = now + APART;
        }
        self.retry_later(left, now);
        self.keys.settle();
        self.accounts.settle();
    }

    /// Records what could not be read, to be retried after a pause.
    pub(super) fn retry_later(&mut self, left: Changed, now: Instant) {
        let keys = Changed { keys: left.keys, ..Changed::default() };
        self.keys.add(keys, now);
        self.accounts.add(Changed { keys: false, ..left }, now);
    }

    /// Records that none of this could be read.
    pub(super) fn has_failed(&mut self, what: Changed, now: Instant) {
        self.waiting.add(what);
        self.outage.begin(now);
    }

    /// Returns how long nothing is due unless something changes.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let outage = self.outage.until.filter(|until| *until > now);
        let lists = Some(self.lists_from).filter(|_| !self.waiting.is_empty());
        let retries = [self.keys.at(), self.accounts.at()].into_iter().flatten();
        let next = outage.or_else(|| lists.into_iter().chain(retries).chain([self.everything_at]).min());
        next.map_or(self.period, |next| next.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::super::changed::Users;
    use super::*;

    fn users(names: &[&str]) -> Changed {
        Changed::users(names.iter().map(|&name| name.to_owned()))
    }

    fn lists() -> Changed {
        Changed { roles: true, ..Changed::default() }
    }

    /// Returns a schedule that has read everything at `begin`, with a period of a minute.
    fn quiet(begin: Instant) -> Schedule {
        let mut schedule = Schedule::new(Duration::from_mins(1), begin);
        let everything = schedule.next(Changed::default(), begin);
        assert!(everything.has_lists() && everything.keys && everything.users == Users::All);
        schedule.has_read(&everything, Changed::default(), begin);
        schedule
    }

    #[test]
    fn lists_in_a_row_are_read_once_a_second_and_users_at_once() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let mut schedule = quiet(begin);
        let mut both = lists();
        both.add(users(&["a"]));
        assert_eq!(schedule.next(both, at(500)), users(&["a"]));
        assert_eq!(schedule.wait(at(500)), Duration::from_millis(500));
        assert_eq!(schedule.next(Changed::default(), at(1000)), lists());
        schedule.has_read(&lists(), Changed::default(), at(1000));
        // A gap is not forgotten, even if it follows another one closely.
        assert!(schedule.next(Changed::missed(), at(1001)).is_empty());
        let everything = schedule.next(Changed::default(), at(2000));
        assert!(everything.keys && everything.tenants && everything.users == Users::All && everything.missed);
    }

    #[test]
    fn events_do_not_put_off_the_period() {
        let begin = Instant::now();
        let mut schedule = quiet(begin);
        for second in 1..60 {
            let now = begin + Duration::from_secs(second);
            let what = schedule.next(users(&["a"]), now);
            assert_eq!(what, users(&["a"]));
            schedule.has_read(&what, Changed::default(), now);
        }
        let now = begin + Duration::from_mins(1);
        assert_eq!(schedule.wait(now), Duration::ZERO);
        assert_eq!(schedule.next(Changed::default(), now).users, Users::All);
    }

    #[test]
    fn one_who_cannot_be_read_keeps_nobody_waiting() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let mut schedule = quiet(begin);
        schedule.has_read(&users(&["a", "b"]), users(&["a"]), begin);
        assert_eq!(schedule.next(users(&["b"]), at(100)), users(&["b"]));
        schedule.has_read(&users(&["b"]), Changed::default(), at(100));
        assert_eq!(schedule.wait(at(100)), Duration::from_millis(400));
        assert_eq!(schedule.next(Changed::default(), at(500)), users(&["a"]));
        schedule.has_read(&users(&["a"]), users(&["a"]), at(500));
        assert_eq!(schedule.wait(at(500)), Duration::from_secs(1), "the pause grows");
    }

    /// Anybody can have the keys read again and again, and one user's account may never be readable.
    #[test]
    fn further_failures_put_off_no_retry() {
        let at = |begin: Instant, milliseconds| begin + Duration::from_millis(milliseconds);
        let [a, b] = ["a", "b"].map(|name| users(&[name]));
        for (first, others) in [(&a, &Changed::keys()), (&Changed::keys(), &b), (&a, &b)] {
            let begin = Instant::now();
            let mut schedule = quiet(begin);
            schedule.has_read(first, first.clone(), begin);
            for time in [100, 200, 400] {
                schedule.has_read(others, others.clone(), at(begin, time));
            }
            assert_eq!(schedule.wait(at(begin, 400)), Duration::from_millis(100));
            let due = schedule.next(Changed::default(), at(begin, 500));
            assert!(due.keys == first.keys && due.users.has("a") == first.users.has("a"), "{first:?}: {due:?}");
        }
    }

    /// Such as an account beside keys that have been unreadable for long.
    #[test]
    fn what_fails_for_the_first_time_is_retried_soon() {
        let (mut now, keys) = (Instant::now(), Changed::keys());
        let mut schedule = quiet(now);
        for _ in 0..5 {
            schedule.has_read(&keys, keys.clone(), now);
            now += schedule.wait(now);
            assert_eq!(schedule.next(Changed::default(), now), keys);
        }
        schedule.has_read(&keys, keys.clone(), now);
        schedule.retry_later(users(&["a"]), now);
        assert_eq!(schedule.wait(now), SHORTEST_PAUSE);
        assert_eq!(schedule.next(Changed::default(), now + SHORTEST_PAUSE), users(&["a"]));
    }

    #[test]
    fn an_outage_holds_everything_back() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let mut schedule = quiet(begin);
        schedule.has_failed(users(&["a"]), begin);
        assert!(schedule.next(users(&["b"]), at(100)).is_empty());
        assert_eq!(schedule.wait(at(100)), Duration::from_millis(400));
        assert_eq!(schedule.next(Changed::default(), at(500)), users(&["a", "b"]));
    }
}
