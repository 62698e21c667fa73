//! The bound on what all outboxes of a server hold together.
//!
//! What counts is memory: the bytes of the distinct frames that wait, each once in the process, however many shards and
//! connections wait for it. The sum of the queues would be no measure: a thousand readers that stall together hold the
//! same frames, and closing them for a thousand times their size would be for nothing. Numbers of frames (four bytes
//! for each that waits) and gap notices are left out: they are bounded by `outbox.events`.
//!
//! Contract: shards add what they hold more or less once a turn; no lock, and nothing on the way of a delivery. When
//! the budget is exceeded each shard sheds its largest outboxes as long as no other shard has much larger ones.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// The bound on the memory of all queued frames in the process, in bytes. Shards share it without a lock.
#[derive(Debug)]
pub struct Budget {
    limit: i64,
    held: AtomicI64,
    /// The largest outbox of each shard, bytes, when it last looked.
    largest: Box<[AtomicUsize]>,
}

impl Budget {
    /// A budget of `limit` bytes for so many shards.
    pub fn new(limit: usize, shards: usize) -> Self {
        let largest = (0..shards).map(|_| AtomicUsize::new(0)).collect();
        Self { limit: i64::try_from(limit).unwrap_or(i64::MAX), held: AtomicI64::new(0), largest }
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

    /// Notes the largest outbox of a shard; returns the largest of all, bytes.
    pub fn note_largest(&self, shard: usize, bytes: usize) -> usize {
        self.largest[shard].store(bytes, Ordering::Relaxed);
        self.largest.iter().map(|largest| largest.load(Ordering::Relaxed)).max().unwrap_or(bytes)
    }
}
