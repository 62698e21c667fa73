//! Passwords that wait to be hashed. Equal attempts from one address share one hash, and the order is chosen so that no
//! client can shut out another.
//!
//! The queue serves, in this order: users who have logged in from the same network before; networks with fewer failed
//! and running attempts (for IPv6 the /48 is compared first, then the /56, then the /64); the network that arrived
//! last; and within a network, first come, first served. During a flood from many networks the newest network is the
//! one whose client is still waiting, so the flood's own attempts pile up behind it.
//!
//! Contract: pure; the caller passes the time of the monotonic clock. The queue is bounded: when it is full, the
//! attempt that would be served last is refused. An attempt whose callers have all gone is dropped before it is hashed
//! and does not count as a guess.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::sync::oneshot;

use super::credential::Secret;
use super::password::PasswordHash;
use super::throttle::{Held, Network, Throttle};

/// A password that has to be hashed.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) password: Secret,
    pub(super) hash: PasswordHash,
    /// Whether there is such a user; if not, the hash belongs to another user, and a match does not count.
    pub(super) exists: bool,
    /// A keyed hash of the user's name.
    pub(super) name: u64,
    /// A keyed hash of all that the outcome depends on and of `peer`. Equal attempts have equal keys.
    pub(super) key: [u8; 32],
    pub(super) peer: IpAddr,
    /// Whether the user has logged in from this network with the right password before.
    pub(super) seen: bool,
}

/// The result of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Right,
    Wrong,
    /// Not tried, because of too many wrong passwords. Holds the time until the next attempt is allowed.
    Throttled(Duration),
    /// Not tried, because too many others are queued.
    Crowded,
}

/// Receives the decision.
pub(super) type Reply = oneshot::Sender<Decision>;

#[derive(Debug)]
struct Waiting {
    attempt: Attempt,
    replies: Vec<Reply>,
}

/// The priority of a queued attempt; the smallest is served first.
type Rank = (bool, [u32; 3], Reverse<usize>, usize);

/// A bounded priority queue of passwords to hash, in which equal attempts share one hash.
#[derive(Debug)]
pub(super) struct Queue {
    /// Queued attempts in the order of arrival.
    waiting: Vec<Waiting>,
    /// Attempts that are being hashed, by key.
    running: HashMap<[u8; 32], Vec<Reply>>,
    bound: usize,
}

impl Queue {
    /// Creates a queue that holds at most `bound` attempts, and at least one.
    pub(super) fn new(bound: usize) -> Self {
        Self { waiting: Vec::new(), running: HashMap::new(), bound: bound.max(1) }
    }

    /// Returns the number of queued attempts.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Queues an attempt. If an equal one is being hashed or queued, only adds the reply to it.
    pub(super) fn push(&mut self, attempt: Attempt, reply: Reply, throttle: &Throttle, now: Instant) {
        if let Some(replies) = self.running.get_mut(&attempt.key) {
            return replies.push(reply);
        }
        if let Some(equal) = self.waiting.iter_mut().find(|waiting| waiting.attempt.key == attempt.key) {
            equal.attempt.seen |= attempt.seen;
            return equal.replies.push(reply);
        }
        self.waiting.push(Waiting { attempt, replies: vec![reply] });
        if self.waiting.len() > self.bound {
            self.forget_abandoned();
        }
        if self.waiting.len() > self.bound {
            let ranks = self.ranks(throttle, now);
            let last = (0..ranks.len()).max_by_key(|&at| ranks[at]).expect("at least one waits");
            answer(self.waiting.remove(last).replies, Decision::Crowded);
        }
    }

    /// Takes the next attempt to hash and rejects those that have become throttled. [`Queue::settle`] ends it.
    pub(super) fn take(&mut self, throttle: &Throttle, now: Instant) -> Option<Attempt> {
        self.forget_abandoned();
        self.waiting.retain_mut(|Waiting { attempt, replies, .. }| {
            let Err(Held::For(wait)) = throttle.check(attempt.name, attempt.peer, attempt.seen, now) else {
                return true;
            };
            answer(std::mem::take(replies), Decision::Throttled(wait));
            false
        });
        let ranks = self.ranks(throttle, now);
        let free = |at: &usize| {
            let Attempt { name, peer, seen, .. } = self.waiting[*at].attempt;
            throttle.check(name, peer, seen, now).is_ok()
        };
        let next = (0..ranks.len()).filter(free).min_by_key(|&at| ranks[at])?;
        let Waiting { attempt, replies } = self.waiting.remove(next);
        self.running.insert(attempt.key, replies);
        Some(attempt)
    }

    /// Ends an attempt that was taken and has been hashed.
    pub(super) fn settle(&mut self, key: &[u8; 32], decision: Decision) {
        answer(self.running.remove(key).unwrap_or_default(), decision);
    }

    fn forget_abandoned(&mut self) {
        self.waiting.retain(|waiting| !waiting.replies.iter().all(Reply::is_closed));
    }

    fn ranks(&self, throttle: &Throttle, now: Instant) -> Vec<Rank> {
        let network = |waiting: &Waiting| Network::widest(waiting.attempt.peer);
        let newest: HashMap<Network, usize> =
            self.waiting.iter().enumerate().map(|(at, waiting)| (network(waiting), at)).collect();
        let rank = |(at, waiting): (usize, &Waiting)| {
            let loads = throttle.loads(waiting.attempt.peer, now);
            (!waiting.attempt.seen, loads, Reverse(newest[&network(waiting)]), at)
        };
        self.waiting.iter().enumerate().map(rank).collect()
    }
}

fn answer(replies: Vec<Reply>, decision: Decision) {
    for reply in replies {
        // The caller has disconnected and no longer waits.
        let _ = reply.send(decision);
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
