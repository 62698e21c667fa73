//! The queue of batches between the sequencer and one shard.
//!
//! Contract: one producer at a time (the sequencer, under its lock) and one consumer (the shard's thread). Bounded in
//! events and bytes. [`InboxSender::has_room`] says in advance whether a batch fits, so a batch enters the inboxes of
//! all shards or of none. A batch larger than the bounds is accepted by an empty inbox. Queueing a batch and waking the
//! shard are separate, so that several batches may share a wake-up: whoever has queued one calls [`Bell::ring`]
//! afterwards. A shard that has been woken is not woken again before it looks: the consumer calls [`Inbox::rearm`]
//! before it does, so no wake-up is lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use super::alarm::Alarm;
use crate::event::Event;

/// Events that were accepted together, in their order.
#[derive(Debug)]
pub struct Batch {
    /// The sequence number of the first event; the others follow.
    pub first: u64,
    /// Intake time in microseconds since the start of the process.
    pub received_us: u64,
    /// The events.
    pub events: Box<[Arc<Event>]>,
    /// The number of bytes of all frames.
    pub bytes: usize,
}

/// The bounds of a shard's queue.
#[derive(Debug, Clone, Copy)]
pub struct InboxLimits {
    /// The maximum number of events.
    pub events: usize,
    /// The maximum number of bytes of their frames.
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct Gauge {
    events: AtomicUsize,
    bytes: AtomicUsize,
    alarm: Alarm,
}

/// The producer's end.
pub struct InboxSender {
    batches: Sender<Arc<Batch>>,
    gauge: Arc<Gauge>,
    limits: InboxLimits,
    bell: Arc<Bell>,
}

/// Wakes the consumer of an inbox.
pub struct Bell {
    gauge: Arc<Gauge>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Bell {
    /// Wakes the shard if batches are queued and it has not been woken since it last looked.
    pub fn ring(&self) {
        // An empty inbox means that the shard was awake and has taken what was queued.
        if self.gauge.events.load(Ordering::Acquire) > 0 && self.gauge.alarm.ring() {
            (self.wake)();
        }
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("gauge", &self.gauge).finish_non_exhaustive()
    }
}

impl fmt::Debug for InboxSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxSender").field("gauge", &self.gauge).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The consumer's end.
#[derive(Debug)]
pub struct Inbox {
    batches: Receiver<Arc<Batch>>,
    gauge: Arc<Gauge>,
}

/// Creates an inbox. `wake` is called by [`Bell::ring`] when the consumer may be asleep.
pub fn inbox(limits: InboxLimits, wake: impl Fn() + Send + Sync + 'static) -> (InboxSender, Inbox) {
    // Every batch holds an event, so the number of batches never exceeds the bound on events.
    let (sender, receiver) = crossbeam_channel::bounded(limits.events.max(1));
    let gauge = Arc::new(Gauge::default());
    let bell = Arc::new(Bell { gauge: Arc::clone(&gauge), wake: Box::new(wake) });
    let inbox_sender = InboxSender { batches: sender, gauge: Arc::clone(&gauge), limits, bell };
    (inbox_sender, Inbox { batches: receiver, gauge })
}

impl InboxSender {
    /// Returns whether a batch of this size fits now.
    pub fn has_room(&self, events: usize, bytes: usize) -> bool {
        let waiting = self.gauge.events.load(Ordering::Acquire);
        waiting == 0
            || (waiting + events <= self.limits.events
                && self.gauge.bytes.load(Ordering::Acquire) + bytes <= self.limits.bytes)
    }

    /// Queues a batch; a shard that is asleep sleeps on until its bell is rung. Returns false if the shard is gone.
    pub fn push(&self, batch: Arc<Batch>) -> bool {
        self.gauge.events.fetch_add(batch.events.len(), Ordering::AcqRel);
        self.gauge.bytes.fetch_add(batch.bytes, Ordering::AcqRel);
        self.batches.try_send(batch).is_ok()
    }

    /// Returns the bell of this inbox.
    pub fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// Returns the number of queued events.
    pub fn waiting(&self) -> usize {
        self.gauge.events.load(Ordering::Acquire)
    }
}

impl Inbox {
    /// Requests a wake-up by the next batch. Call it before looking for batches.
    pub fn rearm(&self) {
        self.gauge.alarm.rearm();
    }

    /// Returns the next batch if one is queued.
    pub fn next(&self) -> Option<Arc<Batch>> {
        let batch = match self.batches.try_recv() {
            Ok(batch) => batch,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
        };
        self.gauge.events.fetch_sub(batch.events.len(), Ordering::AcqRel);
        self.gauge.bytes.fetch_sub(batch.bytes, Ordering::AcqRel);
        Some(batch)
    }

    /// Returns the number of queued events.
    pub fn waiting(&self) -> usize {
        self.gauge.events.load(Ordering::Acquire)
    }

    /// Returns whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::event::Draft;

    /// Creates a batch of small events.
    pub(crate) fn batch(events: usize) -> Arc<Batch> {
        let event = Arc::new(Draft::new("a", "b", "c").seal(jiff::Timestamp::UNIX_EPOCH));
        let bytes = event.frame().len() * events;
        Arc::new(Batch { first: 0, received_us: 0, events: vec![event; events].into(), bytes })
    }

    #[test]
    fn the_bounds_bind_and_are_freed_again() {
        let (inbox_sender, inbox) = inbox(InboxLimits { events: 4, bytes: 1 << 20 }, || ());
        assert!(inbox_sender.has_room(10, 1 << 30), "an empty inbox takes anything");
        assert!(inbox_sender.push(batch(3)));
        assert!(inbox_sender.has_room(1, 100));
        assert!(!inbox_sender.has_room(2, 100));
        assert!(!inbox_sender.has_room(1, 1 << 20));
        assert!(inbox_sender.push(batch(1)));
        assert!(!inbox_sender.has_room(1, 1));
        assert_eq!(inbox.next().unwrap().events.len(), 3);
        assert!(inbox_sender.has_room(3, 100));
        assert_eq!(inbox_sender.waiting(), 1);
    }

    #[test]
    fn one_wake_up_an_edge() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let (inbox_sender, inbox) = inbox(InboxLimits { events: 100, bytes: 1 << 20 }, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let bell = inbox_sender.bell();
        bell.ring();
        assert_eq!(wakes.load(Ordering::Relaxed), 0, "there is nothing to wake for");
        (0..5).for_each(|_| assert!(inbox_sender.push(batch(1))));
        assert_eq!(wakes.load(Ordering::Relaxed), 0);
        (0..5).for_each(|_| bell.ring());
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        inbox.rearm();
        while inbox.next().is_some() {}
        bell.ring();
        assert_eq!(wakes.load(Ordering::Relaxed), 1, "all is taken");
        assert!(inbox_sender.push(batch(1)));
        bell.ring();
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }
}
