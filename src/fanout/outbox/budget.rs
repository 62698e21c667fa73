//! The bound on what all outboxes of a server hold together.
//!
//! What counts is memory: the bytes of the distinct frames that wait, each once in the process, however many shards and
//! connections wait for it. The sum of the queues would be no measure: a thousand readers that stall together hold the
//! same frames, and closing them for a thousand times their size would be for nothing. Numbers of frames (four bytes
//! for each that waits) and gap notices are left out: they are bounded by `outbox.events`.
//!
//! Contract: shards add what they hold more or less once a turn; no lock, and nothing on the way of a delivery. When
//! the budget is exceeded each shard sheds its largest outboxes. Two rules keep readers that follow out of it:
//!
//! - **A shard that has shed waits for the others.** A frame is let go when its last holder lets it go, so what one
//!   shard sheds changes nothing while another, which the machine may have given no time, still holds the same frames.
//!   It would go on down to its small outboxes, which are not the cause. So it sheds again only after every other shard
//!   has looked, and has shed what is its own to shed.
//! - **Small outboxes are left alone**: those less than half as large as the largest of all shards, and those below an
//!   equal part of the budget for each outbox that something waits for. While more is held than allowed, some outbox is
//!   above that part, so there is always one to shed.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// What a shard has told of itself.
#[derive(Debug, Default)]
struct Look {
    /// Its largest outbox, bytes, when it last searched.
    largest: AtomicUsize,
    /// Its outboxes that something waited for then.
    waiting: AtomicUsize,
    /// The last round of shedding that it knew of when it last looked.
    seen: AtomicU64,
    /// The last round that was its own.
    shed: AtomicU64,
}

/// The bound on the memory of all queued frames in the process, in bytes. Shards share it without a lock.
#[derive(Debug)]
pub struct Budget {
    limit: i64,
    held: AtomicI64,
    /// How many rounds of shedding there have been.
    rounds: AtomicU64,
    shards: Box<[Look]>,
}

impl Budget {
    /// A budget of `limit` bytes for so many shards.
    pub fn new(limit: usize, shards: usize) -> Self {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let shards = (0..shards).map(|_| Look::default()).collect();
        Self { limit, held: AtomicI64::new(0), rounds: AtomicU64::new(0), shards }
    }

    /// A shard holds so many bytes more, or less. One of them may account for a frame and another for its end.
    pub fn add(&self, bytes: i64) {
        if bytes != 0 {
            self.held.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Whether more is held than allowed.
    pub fn is_exceeded(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.limit
    }

    /// The rounds of shedding so far: what a look that begins now knows of.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }

    /// A shard has looked, and shed what was its own to shed; it knew of so many rounds.
    pub fn looked(&self, shard: usize, rounds: u64) {
        self.shards[shard].seen.store(rounds, Ordering::Release);
    }

    /// Whether every other shard has looked since this one shed last.
    pub fn has_been_looked_at(&self, shard: usize) -> bool {
        let own = self.shards[shard].shed.load(Ordering::Relaxed);
        let mut others = self.shards.iter().enumerate().filter(|(number, _)| *number != shard);
        others.all(|(_, look)| look.seen.load(Ordering::Acquire) >= own)
    }

    /// A shard has shed something.
    pub fn shed(&self, shard: usize) {
        let round = self.rounds.fetch_add(1, Ordering::AcqRel) + 1;
        self.shards[shard].shed.store(round, Ordering::Relaxed);
    }

    /// Notes the largest outbox of a shard and how many of its outboxes something waits for; returns the size, bytes,
    /// below which none is shed.
    pub fn least(&self, shard: usize, largest: usize, waiting: usize) -> usize {
        self.shards[shard].largest.store(largest, Ordering::Relaxed);
        self.shards[shard].waiting.store(waiting, Ordering::Relaxed);
        let largest = self.shards.iter().map(|look| look.largest.load(Ordering::Relaxed)).max().unwrap_or(largest);
        let waiting: usize = self.shards.iter().map(|look| look.waiting.load(Ordering::Relaxed)).sum();
        let part = usize::try_from(self.limit).unwrap_or(usize::MAX) / waiting.max(1);
        largest.div_ceil(2).max(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_shed_waits_until_the_others_have_looked() {
        let budget = Budget::new(100, 3);
        assert!(budget.has_been_looked_at(0) && budget.has_been_looked_at(1));
        budget.shed(0);
        budget.looked(0, budget.rounds());
        assert!(!budget.has_been_looked_at(0) && budget.has_been_looked_at(1));
        // One that began to look before knows nothing of it.
        budget.looked(1, 0);
        budget.looked(2, 1);
        assert!(!budget.has_been_looked_at(0));
        budget.looked(1, budget.rounds());
        assert!(budget.has_been_looked_at(0));
    }

    #[test]
    fn small_ones_are_left_alone() {
        let budget = Budget::new(1000, 2);
        assert_eq!(budget.least(0, 300, 4), 250, "an equal part");
        assert_eq!(budget.least(1, 900, 6), 450, "half of the largest");
        assert_eq!(budget.least(0, 10, 1), 450, "of all shards");
        assert_eq!(budget.least(1, 0, 0), 1000);
    }
}
