//! The limit on the memory of all outboxes of a server together.
//!
//! What counts is memory: the bytes of the distinct queued frames, each once per process, however many shards and
//! connections queue it, and the plain frame of the event with each that is deflated or text for a stream; each shard's
//! entries for them; and the rings of frame numbers, which thousands of connections with short events fill to a quarter
//! of a megabyte each. Free entries do not count; their memory is given back [gradually](super::slab). The sum of the
//! queues would be the wrong measure: a thousand clients that stall together hold the same frames, and closing them for
//! a thousand times that size would free nothing. Gap notices do not count: between two of them is an answer that does.
//!
//! Contract: each shard reports once per turn how much more or less it holds; no lock, and no work per delivery. When
//! the budget is exceeded each shard sheds its largest outboxes. Three rules protect clients that keep up:
//!
//! - **A shard that has shed waits for the others.** A frame is released when its last holder releases it, so shedding
//!   in one shard changes nothing while another shard, which may not have been scheduled, still holds the same frames.
//!   The first shard would go on down to its small outboxes, which are not the cause. So it sheds again only after
//!   every other shard has looked at the budget and has shed its own share.
//! - **What has been dropped already may be enough**: a shard that has frames to release from before the limit was
//!   exceeded releases them first. In the meantime the limit may be exceeded by a quarter; above that it sheds at once.
//! - **Small outboxes are left alone**: those less than half as large as the largest of all shards, and those below an
//!   equal share of the budget for each outbox with queued frames. An outbox is as large as the
//!   [memory](super::footprint) of its frames, whatever their encoding. So while the outboxes hold more than the limit,
//!   some outbox is above that share, and there is always one to shed, be it of a connection that is closing. What else
//!   is held goes by itself: frames that have been dropped.

use super::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// The state that one shard has reported.
#[derive(Debug, Default)]
struct Look {
    /// Bytes of its largest outbox at its last search.
    largest: AtomicUsize,
    /// The number of its outboxes with queued frames at its last search.
    waiting: AtomicUsize,
    /// The last round of shedding that it knew of when it last looked.
    seen: AtomicU64,
    /// Its own last round of shedding.
    shed: AtomicU64,
}

/// The limit on the memory of all queued frames in the process, in bytes. Shards share it without a lock.
#[derive(Debug)]
pub struct Budget {
    limit: i64,
    held: AtomicI64,
    /// The number of rounds of shedding so far.
    rounds: AtomicU64,
    shards: Box<[Look]>,
}

impl Budget {
    /// Creates a budget of `limit` bytes for this number of shards.
    pub fn new(limit: usize, shards: usize) -> Self {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let shards = (0..shards).map(|_| Look::default()).collect();
        Self { limit, held: AtomicI64::new(0), rounds: AtomicU64::new(0), shards }
    }

    /// Adds the change in a shard's memory, in bytes. One shard may account for a frame and another for its release.
    pub fn add(&self, bytes: i64) {
        if bytes != 0 {
            self.held.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Returns whether the limit is exceeded.
    pub fn is_exceeded(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.limit
    }

    /// Returns whether the limit is exceeded by more than a quarter, which is what may come on top of it while frames
    /// that have been dropped already are released.
    pub fn is_far_exceeded(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.limit.saturating_add(self.limit / 4)
    }

    /// Returns the number of rounds of shedding so far, which a shard that looks now knows of.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }

    /// Notes that a shard has looked and has shed its own share, knowing of this many rounds.
    pub fn looked(&self, shard: usize, rounds: u64) {
        self.shards[shard].seen.store(rounds, Ordering::Release);
    }

    /// Returns whether every other shard has looked since this one shed last.
    pub fn has_been_looked_at(&self, shard: usize) -> bool {
        let own = self.shards[shard].shed.load(Ordering::Relaxed);
        let mut others = self.shards.iter().enumerate().filter(|(number, _)| *number != shard);
        others.all(|(_, look)| look.seen.load(Ordering::Acquire) >= own)
    }

    /// Returns whether this shard may shed: the limit is exceeded although every other shard has looked since this one
    /// shed last. In this order: what the others have shed by then counts.
    pub fn may_shed(&self, shard: usize) -> bool {
        self.has_been_looked_at(shard) && self.is_exceeded()
    }

    /// Notes that a shard has shed something.
    pub fn shed(&self, shard: usize) {
        let round = self.rounds.fetch_add(1, Ordering::AcqRel) + 1;
        self.shards[shard].shed.store(round, Ordering::Relaxed);
    }

    /// Records the largest outbox of a shard in bytes and its number of outboxes with queued frames. Returns the size
    /// in bytes below which no outbox is shed.
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
