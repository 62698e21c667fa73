//! The queue of received messages, bounded by number and bytes.
//!
//! The task that reads the socket fills this queue and never waits for the receiver, which may wait for the inboxes.
//! Messages that do not fit are dropped: the numbers in the messages reveal it, and the receiver reports the gap at its
//! position.
//!
//! Messages that are not urgent are batched before they wake the receiver: waking it and the shards is most of the cost
//! of a single event. An urgent message is sent with the batch before it, so the order is preserved. The task that
//! fills the queue must call [`Filler::flush`] in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::nats::op::Message;

/// Maximum number of batched messages.
const GATHERED: usize = 256;

/// The limits of the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitingLimits {
    /// Maximum number of messages.
    pub(super) messages: usize,
    /// Maximum total length of payloads, headers and subjects in bytes; one message always fits.
    pub(super) bytes: usize,
}

/// A message and the connection it arrived over.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) message: Message,
    /// The number of the connection.
    pub(super) session: u64,
}

/// The sending end of the queue.
#[derive(Debug)]
pub(super) struct Filler {
    messages: mpsc::Sender<Received>,
    bytes: Arc<AtomicUsize>,
    most: usize,
    /// The messages that are not urgent, and when the first of them arrived.
    gathered: Mutex<(Vec<Received>, Option<Instant>)>,
}

/// The receiving end of the queue.
#[derive(Debug)]
pub(super) struct Waiting {
    messages: mpsc::Receiver<Received>,
    bytes: Arc<AtomicUsize>,
}

pub(super) fn waiting(limits: WaitingLimits) -> (Filler, Waiting) {
    let (sender, receiver) = mpsc::channel(limits.messages.max(1));
    let bytes = Arc::new(AtomicUsize::new(0));
    let filler = Filler { messages: sender, bytes: Arc::clone(&bytes), most: limits.bytes, gathered: Mutex::default() };
    (filler, Waiting { messages: receiver, bytes })
}

impl Filler {
    /// Queues an urgent message, after the batched ones. Drops it if there is no room.
    pub(super) fn push(&self, message: Message, session: u64) {
        self.flush();
        if let Some(received) = self.admit(message, session) {
            self.send(received);
        }
    }

    /// Batches a message that is not urgent. Drops it if there is no room.
    pub(super) fn gather(&self, message: Message, session: u64) {
        let Some(received) = self.admit(message, session) else { return };
        let mut gathered = self.gathered.lock();
        gathered.0.push(received);
        gathered.1.get_or_insert_with(Instant::now);
        if gathered.0.len() >= GATHERED {
            drop(gathered);
            self.flush();
        }
    }

    /// Returns when the first of the batched messages arrived.
    pub(super) fn since(&self) -> Option<Instant> {
        self.gathered.lock().1
    }

    /// Sends the batched messages to the queue.
    pub(super) fn flush(&self) {
        let (gathered, _) = std::mem::take(&mut *self.gathered.lock());
        gathered.into_iter().for_each(|received| self.send(received));
    }

    /// Returns whether there is room for a message of this size besides the batched ones.
    pub(super) fn has_room(&self, size: usize) -> bool {
        self.fits(size) && self.messages.capacity() > self.gathered.lock().0.len()
    }

    fn fits(&self, size: usize) -> bool {
        let waiting = self.bytes.load(Ordering::Acquire);
        waiting == 0 || waiting + size <= self.most
    }

    /// Counts the bytes of a message before it can be received. Returns `None` if there is no room.
    fn admit(&self, message: Message, session: u64) -> Option<Received> {
        let size = message.len();
        self.fits(size).then(|| {
            self.bytes.fetch_add(size, Ordering::AcqRel);
            Received { message, session }
        })
    }

    fn send(&self, received: Received) {
        let size = received.message.len();
        if self.messages.try_send(received).is_err() {
            self.bytes.fetch_sub(size, Ordering::AcqRel);
        }
    }
}

impl Waiting {
    /// Returns the next message, or `None` once no more can come.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Received> {
        let received = self.messages.recv().await;
        self.took(received)
    }

    /// Returns the next message if one is queued.
    pub(super) fn ready(&mut self) -> Option<Received> {
        let received = self.messages.try_recv().ok();
        self.took(received)
    }

    fn took(&self, received: Option<Received>) -> Option<Received> {
        if let Some(received) = &received {
            self.bytes.fetch_sub(received.message.len(), Ordering::AcqRel);
        }
        received
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Message {
        Message { sid: 1, subject: "".into(), headers: "".into(), payload: vec![0; length].into() }
    }

    #[test]
    fn bytes_and_number_bind_but_one_message_always_fits() {
        let (filler, mut queue) = waiting(WaitingLimits { messages: 3, bytes: 100 });
        let lengths =
            |queue: &mut Waiting| std::iter::from_fn(|| queue.ready()).map(|r| r.message.len()).collect::<Vec<_>>();
        [1000, 1].into_iter().for_each(|length| filler.push(message(length), 1));
        assert_eq!(lengths(&mut queue), [1000]);
        [60, 50, 40].into_iter().for_each(|length| filler.push(message(length), 1));
        assert_eq!(lengths(&mut queue), [60, 40]);
        [1, 2, 3, 4].into_iter().for_each(|length| filler.push(message(length), 1));
        assert_eq!(lengths(&mut queue), [1, 2, 3]);
        assert_eq!(queue.bytes.load(Ordering::Acquire), 0);
    }
    #[test]
    fn what_is_gathered_comes_before_what_is_urgent_and_counts_at_once() {
        let (filler, mut queue) = waiting(WaitingLimits { messages: 1000, bytes: 100_000 });
        let sessions =
            |queue: &mut Waiting| std::iter::from_fn(|| queue.ready()).map(|r| r.session).collect::<Vec<_>>();
        [1, 2].into_iter().for_each(|session| filler.gather(message(10), session));
        assert!(filler.since().is_some() && sessions(&mut queue).is_empty());
        filler.push(message(10), 3);
        assert_eq!((sessions(&mut queue), filler.since()), (vec![1, 2, 3], None));
        filler.gather(message(10), 4);
        filler.flush();
        assert_eq!(sessions(&mut queue), [4]);
        (0..GATHERED).for_each(|_| filler.gather(message(100), 5));
        assert_eq!(sessions(&mut queue).len(), GATHERED, "not more than that");
        (0..1001).for_each(|_| filler.gather(message(1000), 6));
        filler.flush();
        assert_eq!(sessions(&mut queue).len(), 100, "bytes bind them too");
        assert_eq!(queue.bytes.load(Ordering::Acquire), 0);
    }
}
