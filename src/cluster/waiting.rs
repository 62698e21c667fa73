//! Messages that wait to be taken, bounded by number and bytes.
//!
//! The client library's own buffer is bounded by number only, so with large messages it could hold gigabytes. A task of its own
//! empties that buffer at once into this queue, also while the receiver waits for the inboxes. What does not fit is dropped:
//! the numbers in the messages show it, and the receiver tells the gap in its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use tokio::sync::mpsc;

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitingLimits {
    /// Messages.
    pub(super) messages: usize,
    /// Bytes of their payloads, headers and subjects; one message always fits.
    pub(super) bytes: usize,
}

/// The end of whoever fills it.
#[derive(Debug)]
pub(super) struct Filler {
    messages: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
    most: usize,
}

/// The end of whoever takes.
#[derive(Debug)]
pub(super) struct Waiting {
    messages: mpsc::Receiver<Message>,
    bytes: Arc<AtomicUsize>,
}

pub(super) fn waiting(limits: WaitingLimits) -> (Filler, Waiting) {
    let (sender, receiver) = mpsc::channel(limits.messages.max(1));
    let bytes = Arc::new(AtomicUsize::new(0));
    (Filler { messages: sender, bytes: Arc::clone(&bytes), most: limits.bytes }, Waiting { messages: receiver, bytes })
}

impl Filler {
    /// Runs until either side ends.
    pub(super) async fn run(self, mut subscription: Subscriber) {
        loop {
            tokio::select! {
                message = subscription.next() => match message {
                    Some(message) => self.push(message),
                    None => break,
                },
                () = self.messages.closed() => break,
            }
        }
    }

    /// Drops the message if there is no room.
    fn push(&self, message: Message) {
        let (size, waiting) = (message.length, self.bytes.load(Ordering::Acquire));
        if waiting > 0 && waiting + size > self.most {
            return;
        }
        // Counted before it can be taken out again.
        self.bytes.fetch_add(size, Ordering::AcqRel);
        if self.messages.try_send(message).is_err() {
            self.bytes.fetch_sub(size, Ordering::AcqRel);
        }
    }
}

impl Waiting {
    /// The next one; nothing once no more can come.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is given up.
    pub(super) async fn next(&mut self) -> Option<Message> {
        let message = self.messages.recv().await;
        self.took(message)
    }

    /// The next one, if one waits.
    pub(super) fn ready(&mut self) -> Option<Message> {
        let message = self.messages.try_recv().ok();
        self.took(message)
    }

    fn took(&self, message: Option<Message>) -> Option<Message> {
        if let Some(message) = &message {
            self.bytes.fetch_sub(message.length, Ordering::AcqRel);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Message {
        Message {
            subject: "a".into(),
            reply: None,
            payload: vec![0; length].into(),
            headers: None,
            status: None,
            description: None,
            length,
        }
    }

    #[test]
    fn bytes_and_number_bind_but_one_message_always_fits() {
        let (filler, mut queue) = waiting(WaitingLimits { messages: 3, bytes: 100 });
        let lengths = |queue: &mut Waiting| std::iter::from_fn(|| queue.ready()).map(|m| m.length).collect::<Vec<_>>();
        [1000, 1].into_iter().for_each(|length| filler.push(message(length)));
        assert_eq!(lengths(&mut queue), [1000]);
        [60, 50, 40].into_iter().for_each(|length| filler.push(message(length)));
        assert_eq!(lengths(&mut queue), [60, 40]);
        [1, 2, 3, 4].into_iter().for_each(|length| filler.push(message(length)));
        assert_eq!(lengths(&mut queue), [1, 2, 3]);
        assert_eq!(queue.bytes.load(Ordering::Acquire), 0);
    }
}
