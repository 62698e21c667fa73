//! Decides when a consumer has to be woken: once when an empty queue is filled, not once per item.
//!
//! Contract: the producer queues first and then calls [`Alarm::ring`]; the consumer calls [`Alarm::rearm`] first and
//! then looks at the queue, and sleeps only if it finds it empty. So no wake-up is lost. `tests/models` compiles this
//! file with loom's atomics and tries every interleaving.

use super::atomic::{AtomicBool, Ordering};

/// Whether the consumer has been woken and has not yet looked.
#[derive(Debug, Default)]
pub(super) struct Alarm(AtomicBool);

impl Alarm {
    /// Returns whether the consumer has to be woken for what was queued before.
    pub(super) fn ring(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Requests a wake-up by what is queued from now on.
    pub(super) fn rearm(&self) {
        // A read-modify-write on both sides: either this one sees the producer's mark, and with it what was queued
        // before, or the producer sees the mark gone and wakes. A plain store could pass the look at the queue.
        self.0.swap(false, Ordering::AcqRel);
    }
}
