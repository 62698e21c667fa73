//! Checks passwords: a cache of recent successes, a queue, and the threads that hash.
//!
//! Contract: any thread may call it; only this module's threads hash, and they hold no lock while they do. A password
//! that is being hashed is accounted for even if its caller no longer waits. The threads end when the
//! [`PasswordChecker`] is dropped.
//!
//! Why threads of our own: a hash keeps a core busy for tens of milliseconds and evicts its caches. The runtime's
//! blocking pool would run one hash per core at the same time. Here at most half of the cores hash. They do so at
//! normal priority: at the lowest priority two busy programs on the machine delayed a login by seconds.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use super::options::AuthOptions;
use super::queue::{Attempt, Decision, Queue};
use super::recent::Recent;
use super::throttle::{Held, Outcome, Throttle};
use crate::clock;

#[derive(Debug)]
struct State {
    throttle: Throttle,
    queue: Queue,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    /// Locked before `recent` where both are held.
    state: Mutex<State>,
    recent: Mutex<Recent>,
    /// Signals that there may be a password to hash.
    ready: Condvar,
    /// Signals that an attempt has ended.
    settled: Notify,
    hashed: AtomicU64,
}

/// Checks passwords on threads of its own, with a cache of recent successes. Dropping it ends the threads.
#[derive(Debug)]
pub(super) struct PasswordChecker {
    shared: Arc<Shared>,
}

impl PasswordChecker {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub(super) fn start(options: &AuthOptions) -> io::Result<Self> {
        let state =
            State { throttle: Throttle::new(options.throttle), queue: Queue::new(options.hash_queue), closed: false };
        let checker = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                recent: Mutex::new(Recent::new(options.password_cache)),
                ready: Condvar::new(),
                settled: Notify::new(),
                hashed: AtomicU64::new(0),
            }),
        };
        let threads = if options.hash_workers == 0 { half_of_the_cores() } else { options.hash_workers };
        for number in 0..threads {
            let shared = Arc::clone(&checker.shared);
            std::thread::Builder::new().name(format!("hash-{number}")).spawn(move || shared.work())?;
        }
        Ok(checker)
    }

    /// Returns whether a password is known to be right.
    pub(super) fn knows(&self, key: &[u8; 32], now: Instant) -> bool {
        self.shared.recent.lock().knows(key, now)
    }

    /// Queues a password and waits for the decision.
    pub(super) async fn check(&self, mut attempt: Attempt, now: Instant) -> Decision {
        let (reply, decision) = oneshot::channel();
        {
            let mut state = self.shared.state.lock();
            let mut recent = self.shared.recent.lock();
            // An equal attempt may have succeeded since the caller looked.
            if attempt.exists && recent.knows(&attempt.key, now) {
                return Decision::Right;
            }
            attempt.seen = recent.has_seen(attempt.name, attempt.peer);
            let State { queue, throttle, .. } = &mut *state;
            queue.push(attempt, reply, throttle, now);
        }
        self.shared.ready.notify_one();
        decision.await.unwrap_or(Decision::Crowded)
    }

    /// Hashes a password on the calling thread.
    pub(super) fn check_here(&self, attempt: &Attempt, now: Instant) -> Decision {
        let seen = self.shared.recent.lock().has_seen(attempt.name, attempt.peer);
        let reserved = self.shared.state.lock().throttle.reserve(attempt.name, attempt.peer, seen, now);
        match reserved {
            Ok(()) => self.shared.hash(attempt, || now),
            Err(Held::For(wait)) => Decision::Throttled(wait),
            Err(Held::Busy) => Decision::Crowded,
        }
    }

    /// Reserves an attempt that is not hashed here. [`PasswordChecker::settle`] ends it.
    pub(super) fn reserve(&self, name: u64, peer: IpAddr, now: Instant) -> Result<(), Held> {
        let mut state = self.shared.state.lock();
        let seen = self.shared.recent.lock().has_seen(name, peer);
        state.throttle.reserve(name, peer, seen, now)
    }

    /// Ends an attempt that was reserved.
    pub(super) fn settle(&self, name: u64, peer: IpAddr, outcome: Outcome, now: Instant) {
        if outcome == Outcome::Right {
            self.shared.recent.lock().note_seen(name, peer, now);
        }
        self.shared.state.lock().throttle.settle(name, peer, outcome, now);
        self.shared.settled();
    }

    /// Returns a future that completes when the next attempt ends.
    pub(super) fn settled(&self) -> Notified<'_> {
        self.shared.settled.notified()
    }

    /// Returns the number of passwords hashed so far.
    pub(super) fn hashed(&self) -> u64 {
        self.shared.hashed.load(Ordering::Relaxed)
    }

    /// Returns the number of queued logins.
    pub(super) fn waiting(&self) -> usize {
        self.shared.state.lock().queue.len()
    }
}

impl Drop for PasswordChecker {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.ready.notify_all();
    }
}

impl Shared {
    /// Hashes queued passwords until the checker is dropped. The main function of each thread.
    fn work(&self) {
        while let Some(attempt) = self.next() {
            let decision = self.hash(&attempt, clock::instant);
            self.state.lock().queue.settle(&attempt.key, decision);
        }
    }

    /// Waits for the next attempt and reserves it; returns `None` once the checker is dropped.
    fn next(&self) -> Option<Attempt> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = clock::instant();
            let State { queue, throttle, .. } = &mut *state;
            if let Some(attempt) = queue.take(throttle, now) {
                throttle.reserve(attempt.name, attempt.peer, attempt.seen, now).expect("a taken attempt may be made");
                return Some(attempt);
            }
            self.ready.wait(&mut state);
        }
    }

    fn hash(&self, attempt: &Attempt, now: impl Fn() -> Instant) -> Decision {
        // The decoy may be a real user's hash and match that user's password, so an unknown user is never right.
        let right = attempt.hash.verify(attempt.password.expose()) && attempt.exists;
        self.hashed.fetch_add(1, Ordering::Relaxed);
        let (outcome, now) = (if right { Outcome::Right } else { Outcome::Wrong }, now());
        // Cached before it settles, so that an equal attempt that arrives now shares the decision or hits the cache.
        if right {
            self.recent.lock().remember(attempt.key, attempt.name, attempt.peer, now);
        }
        self.state.lock().throttle.settle(attempt.name, attempt.peer, outcome, now);
        self.settled();
        if right { Decision::Right } else { Decision::Wrong }
    }

    fn settled(&self) {
        self.ready.notify_all();
        self.settled.notify_waiters();
    }
}

fn half_of_the_cores() -> usize {
    (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_threads_end_with_their_checker() {
        let checker = PasswordChecker::start(&AuthOptions { hash_workers: 8, ..AuthOptions::default() }).unwrap();
        let shared = Arc::downgrade(&checker.shared);
        // Some of them wait for a password, and one is woken in vain.
        while !checker.shared.ready.notify_one() {
            std::thread::yield_now();
        }
        drop(checker);
        for _ in 0..10_000 {
            if shared.strong_count() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{} threads still wait", shared.strong_count());
    }
}
