//! Sequenced events on their way to other nodes: a bounded queue beside the shards' inboxes.
//!
//! Contract: the sequencer fills the queue under its lock, in its order, and never waits for it: a batch that does not
//! fit is left out. Every event has a number here, including those left out, so that the other nodes see what they
//! miss. If [`Exports::next_number`] is read *before* the queue is found empty, all events below that number have left
//! the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::dedup::RepeatIndex;
use super::inbox::Batch;
use super::origin::NodeId;

/// The bounds of the queue.
#[derive(Debug, Clone, Copy)]
pub struct ExportLimits {
    /// The maximum number of batches.
    pub batches: usize,
    /// The maximum number of bytes of the events in them.
    pub bytes: usize,
}

/// For each of some nodes, the number of its next event.
pub type After = Vec<(NodeId, u64)>;

/// A batch for other nodes.
#[derive(Debug, Clone)]
pub struct Export {
    /// The events.
    pub batch: Arc<Batch>,
    /// The number of the first event.
    pub first: u64,
    /// The repeat index of each event, for events that other nodes may also receive themselves.
    pub repeat_indexes: Option<Box<[RepeatIndex]>>,
    /// For each of some nodes, the number of its next event: earlier ones were accepted before this batch.
    pub after: After,
}

#[derive(Debug, Default)]
struct Gauge {
    bytes: AtomicUsize,
    next: AtomicU64,
}

/// The sequencer's end.
#[derive(Debug)]
pub(super) struct Egress {
    exports: mpsc::Sender<Export>,
    gauge: Arc<Gauge>,
    limits: ExportLimits,
}

/// The consumer's end.
#[derive(Debug)]
pub struct Exports {
    exports: mpsc::Receiver<Export>,
    gauge: Arc<Gauge>,
}

pub(super) fn exports(limits: ExportLimits) -> (Egress, Exports) {
    let (sender, receiver) = mpsc::channel(limits.batches.max(1));
    let gauge = Arc::new(Gauge::default());
    (Egress { exports: sender, gauge: Arc::clone(&gauge), limits }, Exports { exports: receiver, gauge })
}

impl Egress {
    /// Returns the number of the next event to be queued.
    pub(super) fn next_number(&self) -> u64 {
        self.gauge.next.load(Ordering::Relaxed)
    }

    /// Queues a batch. Returns the number of events that were left out.
    pub(super) fn push(&self, batch: &Arc<Batch>, repeat_indexes: Option<Box<[RepeatIndex]>>, after: After) -> u64 {
        let (first, count) = (self.next_number(), batch.events.len() as u64);
        let waiting = self.gauge.bytes.load(Ordering::Acquire);
        let fits = waiting == 0 || waiting + batch.bytes <= self.limits.bytes;
        let taken = fits && {
            // Counted before the consumer can remove it.
            self.gauge.bytes.fetch_add(batch.bytes, Ordering::AcqRel);
            let sent = self.exports.try_send(Export { batch: Arc::clone(batch), first, repeat_indexes, after }).is_ok();
            if !sent {
                self.gauge.bytes.fetch_sub(batch.bytes, Ordering::AcqRel);
            }
            sent
        };
        // After queuing the batch, as the contract of this module requires.
        self.gauge.next.store(first + count, Ordering::Release);
        if taken { 0 } else { count }
    }
}

impl Exports {
    /// Waits for the next batch; returns `None` once the broker has stopped and the queue is empty.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Export> {
        let export = self.exports.recv().await;
        self.took(export)
    }

    /// Returns the next batch if one is queued.
    pub fn ready(&mut self) -> Option<Export> {
        let export = self.exports.try_recv().ok();
        self.took(export)
    }

    fn took(&self, export: Option<Export>) -> Option<Export> {
        if let Some(export) = &export {
            self.gauge.bytes.fetch_sub(export.batch.bytes, Ordering::AcqRel);
        }
        export
    }

    /// Returns the number of the next event to be queued.
    pub fn next_number(&self) -> u64 {
        self.gauge.next.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::inbox::tests::batch;

    #[test]
    fn what_does_not_fit_is_left_out_and_keeps_its_number() {
        let (egress, mut exports) = exports(ExportLimits { batches: 2, bytes: 1 << 20 });
        assert_eq!(egress.push(&batch(3), None, Vec::new()), 0);
        assert_eq!(egress.push(&batch(1), Some(Box::new([7])), Vec::new()), 0);
        assert_eq!(egress.push(&batch(2), None, Vec::new()), 2);
        assert_eq!(exports.next_number(), 6);
        assert_eq!(exports.ready().map(|export| export.first), Some(0));
        assert_eq!(egress.push(&batch(1), None, Vec::new()), 0);
        let firsts: Vec<u64> = std::iter::from_fn(|| exports.ready()).map(|export| export.first).collect();
        assert_eq!(firsts, [3, 6]);
        assert_eq!(exports.next_number(), 7);
    }

    #[test]
    fn bytes_bind_but_one_batch_always_fits() {
        let (egress, mut exports) = exports(ExportLimits { batches: 100, bytes: 500 });
        assert_eq!(egress.push(&batch(100), None, Vec::new()), 0);
        assert_eq!(egress.push(&batch(1), None, Vec::new()), 1);
        assert!(exports.ready().is_some());
        assert_eq!(egress.push(&batch(1), None, Vec::new()), 0);
    }
}
