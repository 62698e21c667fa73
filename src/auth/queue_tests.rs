//! The order in which passwords are hashed, without hashing any.

use std::sync::LazyLock;

use super::*;
use crate::auth::throttle::{Limits, Outcome};
use crate::clock::simulated;

static HASH: LazyLock<PasswordHash> = LazyLock::new(|| PasswordHash::make("x").unwrap());

fn now() -> Instant {
    simulated::at(0).instant
}

struct PasswordChecker {
    queue: Queue,
    throttle: Throttle,
    kept: Vec<oneshot::Receiver<Decision>>,
}

impl PasswordChecker {
    fn new(bound: usize) -> Self {
        Self { queue: Queue::new(bound), throttle: Throttle::new(Limits::default()), kept: Vec::new() }
    }

    /// Queues an attempt; its key is also the hash of its name.
    fn push(&mut self, key: u8, peer: &str, seen: bool) {
        let attempt = Attempt {
            password: Secret::new("x"),
            hash: HASH.clone(),
            exists: true,
            name: key.into(),
            key: [key; 32],
            peer: peer.parse().unwrap(),
            seen,
        };
        let (reply, decision) = oneshot::channel();
        self.queue.push(attempt, reply, &self.throttle, now());
        self.kept.push(decision);
    }

    /// Takes the next attempt, ends it with `outcome` and returns its key.
    fn next(&mut self, outcome: Outcome) -> Option<u8> {
        let Attempt { name, peer, key, seen, .. } = self.queue.take(&self.throttle, now())?;
        self.throttle.reserve(name, peer, seen, now()).unwrap();
        self.throttle.settle(name, peer, outcome, now());
        self.queue.settle(&key, if outcome == Outcome::Right { Decision::Right } else { Decision::Wrong });
        Some(key[0])
    }

    fn order(&mut self, outcome: Outcome) -> Vec<u8> {
        std::iter::from_fn(|| self.next(outcome)).collect()
    }

    fn decisions(&mut self) -> Vec<Option<Decision>> {
        self.kept.iter_mut().map(|decision| decision.try_recv().ok()).collect()
    }
}

#[test]
fn of_one_network_who_came_first_and_of_many_who_came_last() {
    let mut checker = PasswordChecker::new(100);
    (1..5).for_each(|key| checker.push(key, "192.0.2.1", false));
    assert_eq!(checker.order(Outcome::Right), [1, 2, 3, 4]);
    for (key, peer) in [(1, "192.0.2.1"), (2, "192.0.3.1"), (3, "192.0.4.1"), (4, "192.0.3.9")] {
        checker.push(key, peer, false);
    }
    assert_eq!(checker.order(Outcome::Right), [2, 4, 3, 1]);
}

#[test]
fn who_has_guessed_wrong_comes_behind_and_who_was_seen_before_all_others() {
    let mut checker = PasswordChecker::new(100);
    checker.push(1, "192.0.2.1", false);
    assert_eq!(checker.next(Outcome::Wrong), Some(1));
    checker.push(2, "192.0.3.1", false);
    checker.push(3, "192.0.2.7", false);
    checker.push(4, "192.0.2.8", true);
    assert_eq!(checker.order(Outcome::Right), [4, 2, 3]);
}

#[test]
fn the_networks_of_one_owner_are_one_before_they_are_many() {
    let mut checker = PasswordChecker::new(100);
    checker.push(1, "2001:db8:1:1::1", false);
    assert_eq!(checker.next(Outcome::Wrong), Some(1));
    // An unrelated network, the same /64, the same /56 and the same /48.
    checker.push(2, "2001:db8:2::1", false);
    checker.push(3, "2001:db8:1:1::2", false);
    checker.push(4, "2001:db8:1:2::1", false);
    checker.push(5, "2001:db8:1:1000::1", false);
    assert_eq!(checker.order(Outcome::Right), [2, 5, 4, 3]);
}

#[test]
fn equal_ones_are_one() {
    let mut checker = PasswordChecker::new(100);
    for _ in 0..10 {
        checker.push(1, "192.0.2.1", false);
    }
    let taken = checker.queue.take(&checker.throttle, now()).unwrap();
    checker.push(1, "192.0.2.1", false);
    assert!(checker.queue.take(&checker.throttle, now()).is_none());
    checker.queue.settle(&taken.key, Decision::Right);
    assert_eq!(checker.decisions(), [Some(Decision::Right); 11]);
}

#[test]
fn beyond_the_bound_the_last_of_all_goes() {
    let mut checker = PasswordChecker::new(3);
    for key in 1..=5 {
        checker.push(key, &format!("192.0.{key}.1"), key == 1);
    }
    let crowded = Some(Decision::Crowded);
    assert_eq!(checker.decisions(), [None, crowded, crowded, None, None]);
    assert_eq!(checker.order(Outcome::Right), [1, 5, 4]);
}

#[test]
fn whom_nobody_waits_for_is_dropped() {
    let mut checker = PasswordChecker::new(100);
    checker.push(1, "192.0.2.1", false);
    checker.push(2, "192.0.2.1", false);
    checker.kept.remove(0);
    assert_eq!(checker.order(Outcome::Wrong), [2]);
}

#[test]
fn who_must_not_guess_any_more_is_told_without_waiting() {
    let mut checker = PasswordChecker::new(100);
    let peer = "192.0.2.1".parse().unwrap();
    for key in 1..=7 {
        checker.push(key, "192.0.2.1", false);
        // All of them are of one user.
        checker.queue.waiting.iter_mut().for_each(|waiting| waiting.attempt.name = 0);
    }
    assert_eq!(checker.order(Outcome::Wrong), [1, 2, 3, 4, 5]);
    let throttled = Some(Decision::Throttled(Duration::from_secs(24)));
    assert_eq!(checker.decisions()[5..], [throttled, throttled]);
    assert!(checker.throttle.check(0, peer, false, now()).is_err());
}

#[test]
fn what_others_hold_is_waited_for() {
    let mut checker = PasswordChecker::new(100);
    let peer: IpAddr = "192.0.2.1".parse().unwrap();
    (0..5).for_each(|_| checker.throttle.reserve(1, peer, false, now()).unwrap());
    checker.push(1, "192.0.2.1", false);
    assert!(checker.queue.take(&checker.throttle, now()).is_none() && checker.queue.len() == 1);
    checker.throttle.settle(1, peer, Outcome::Undecided, now());
    assert!(checker.queue.take(&checker.throttle, now()).is_some());
}
