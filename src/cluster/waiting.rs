//! Messages that wait to be taken, bounded by number and bytes.
//!
//! The task that reads the socket fills this queue and never waits for the receiver, which may wait for the inboxes.
//! What does not fit is dropped: the numbers in the messages show it, and the receiver tells the gap in its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::nats::op::Message;

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitingLimits {
    /// Messages.
    pub(super) messages: usize,
    /// Bytes of their payloads, headers and subjects; one message always fits.
    pub(super) bytes: usize,
}

/// A message and the connection that it came over.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) message: Message,
    /// Connections are counted.
    pub(super) session: u64,
}

/// The end of whoever fills it.
#[derive(Debug)]
pub(super) struct Filler {
    messages: mpsc::Sender<Received>,
    bytes: Arc<AtomicUsize>,
    most: usize,
}

/// The end of whoever takes.
#[derive(Debug)]
pub(super) struct Waiting {
    messages: mpsc::Receiver<Received>,
    bytes: Arc<AtomicUsize>,
}

pub(super) fn waiting(limits: WaitingLimits) -> (Filler, Waiting) {
    let (sender, receiver) = mpsc::channel(limits.messages.max(1));
    let bytes = Arc::new(AtomicUsize::new(0));
    (Filler { messages: sender, bytes: Arc::clone(&bytes), most: limits.bytes }, Waiting { messages: receiver, bytes })
}

impl Filler {
    /// Drops the message if there is no room.
    pub(super) fn push(&self, message: Message, session: u64) {
        let (size, waiting) = (message.len(), self.bytes.load(Ordering::Acquire));
        if waiting > 0 && waiting + size > self.most {
            return;
        }
        // Counted before it can be taken out again.
        self.bytes.fetch_add(size, Ordering::AcqRel);
        if self.messages.try_send(Received { message, session }).is_err() {
            self.bytes.fetch_sub(size, Ordering::AcqRel);
        }
    }
}

impl Waiting {
    /// The next one; nothing once no more can come.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is given up.
    pub(super) async fn next(&mut self) -> Option<Received> {
        let received = self.messages.recv().await;
        self.took(received)
    }

    /// The next one, if one waits.
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
}
