//! Which attackers are ready: an attack is measured once all its connections are open.
//!
//! Contract: an attacker that has failed is not waited for, since a server may refuse it for good, and is reported with
//! its reason. It becomes ready if a later try succeeds.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// What attackers observed, by kind.
pub(super) type Outcomes = BTreeMap<String, u64>;

/// How one attacker's start went.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    Pending,
    Failed(String),
    Ready,
}

/// The starts of all attackers of an attack.
#[derive(Debug)]
pub(super) struct Starts {
    all: Mutex<Vec<Start>>,
    changed: Condvar,
}

impl Starts {
    pub(super) fn new(attackers: usize) -> Self {
        Self { all: Mutex::new(vec![Start::Pending; attackers]), changed: Condvar::new() }
    }

    /// Records that an attacker has everything open that its attack needs, or has attacked once.
    pub(super) fn ready(&self, number: usize) {
        self.all.lock()[number] = Start::Ready;
        self.changed.notify_all();
    }

    /// Records that a try has failed; of no consequence once the attacker was ready.
    pub(super) fn failed(&self, number: usize, reason: String) {
        let start = &mut self.all.lock()[number];
        if *start != Start::Ready {
            *start = Start::Failed(reason);
            self.changed.notify_all();
        }
    }

    /// Waits for at most `limit` until every attacker is ready or has failed. Returns those that are not ready, by
    /// reason.
    pub(super) fn wait(&self, limit: Duration) -> Outcomes {
        let mut all = self.all.lock();
        self.changed.wait_while_for(&mut all, |all| all.contains(&Start::Pending), limit);
        let mut unready = Outcomes::new();
        for start in all.iter() {
            let reason = match start {
                Start::Ready => continue,
                Start::Failed(reason) => reason.clone(),
                Start::Pending => format!("not ready within {} s", limit.as_secs()),
            };
            *unready.entry(reason).or_default() += 1;
        }
        unready
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn whoever_is_slow_is_waited_for_and_whoever_has_failed_is_told() {
        let (starts, is_ready) = (Starts::new(4), AtomicBool::new(false));
        starts.ready(0);
        starts.failed(0, "closed 1008".to_owned());
        starts.failed(1, "HTTP 429".to_owned());
        starts.failed(2, "HTTP 503".to_owned());
        thread::scope(|scope| {
            scope.spawn(|| {
                starts.ready(2);
                is_ready.store(true, Ordering::SeqCst);
                starts.ready(3);
            });
            assert_eq!(starts.wait(Duration::from_mins(1)), [("HTTP 429".to_owned(), 1)].into());
            assert!(is_ready.load(Ordering::SeqCst));
        });
    }

    #[test]
    fn whoever_never_starts_is_told_too() {
        assert_eq!(Starts::new(2).wait(Duration::ZERO), [("not ready within 0 s".to_owned(), 2)].into());
    }
}
