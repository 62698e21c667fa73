//! A connection for requests and their replies, used to read `JetStream`.
//!
//! Contract: a request that is made without a connection, or not answered before the connection ends, gets no reply:
//! callers need a timeout and retry. At most [`ANSWERS`] replies to one request are queued. Once they have [`BYTES`],
//! only [`SHORT`] ones are: who may subscribe to the requests can send replies too, as many and as long as it likes,
//! while the short reply that ends a page of long ones must always have room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use hashbrown::HashMap;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::address::Address;
use super::complaints::Complaints;
use super::dial::Dialer;
use super::op::{Message, Op};
use super::session::{Outgoing, PULSE, Pulse, Session, SessionError};

/// Maximum number of queued replies to one request.
const ANSWERS: usize = 512;

/// Total length in bytes of the queued replies to one request from which on no further long one is queued.
const BYTES: usize = 1 << 20;

/// Maximum length in bytes of a short reply: what a server says about a request has a few hundred.
const SHORT: usize = 4 << 10;

/// Maximum number of requests that wait to be sent.
const REQUESTS: usize = 64;

/// The request was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("there is no connection to NATS")]
pub(in crate::cluster) struct AwayError;

/// The callers' end of the connection.
#[derive(Debug)]
pub(in crate::cluster) struct Requests {
    questions: mpsc::Sender<Question>,
    connected: watch::Receiver<bool>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Question {
    token: u64,
    subject: String,
    payload: Bytes,
    answers: Replies,
}

/// The replies to a request, as its caller receives them.
#[derive(Debug)]
pub(in crate::cluster) struct Answers {
    messages: mpsc::Receiver<Message>,
    queued: Arc<AtomicUsize>,
}

/// The end of [`Answers`] that queues them.
#[derive(Debug)]
pub(in crate::cluster) struct Replies {
    messages: mpsc::Sender<Message>,
    /// Total length of the queued replies in bytes.
    queued: Arc<AtomicUsize>,
}

/// Creates both ends of the replies to a request.
pub(in crate::cluster) fn answers() -> (Replies, Answers) {
    let (sender, messages) = mpsc::channel(ANSWERS);
    let queued = Arc::new(AtomicUsize::new(0));
    (Replies { messages: sender, queued: Arc::clone(&queued) }, Answers { messages, queued })
}

impl Answers {
    /// Waits for the next reply; returns `None` if there will be none.
    pub(in crate::cluster) async fn recv(&mut self) -> Option<Message> {
        let message = self.messages.recv().await?;
        self.queued.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }
}

impl Replies {
    /// Queues a reply. Returns false if the caller has gone or lags too far behind.
    pub(in crate::cluster) fn push(&self, message: Message) -> bool {
        let length = message.len();
        let has_room = length <= SHORT || self.queued.load(Ordering::Relaxed) < BYTES;
        // Counted first: the caller may receive it at once.
        self.queued.fetch_add(length, Ordering::Relaxed);
        has_room && self.messages.try_send(message).is_ok()
    }

    fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }
}

/// The task that owns the connection.
pub(in crate::cluster) struct Asking {
    dialer: Dialer,
    questions: mpsc::Receiver<Question>,
    connected: watch::Sender<bool>,
    inbox: String,
    open: HashMap<u64, Replies>,
    complaints: Complaints,
}

/// Creates both ends. `chance` makes the inbox of this connection unique.
pub(in crate::cluster) fn requests(dialer: Dialer, chance: u64) -> (Requests, Asking) {
    let (questions, asked) = mpsc::channel(REQUESTS);
    let (connected, is_connected) = watch::channel(false);
    let inbox = format!("_INBOX.hydrant-{chance:016x}");
    let requests = Requests { questions, connected: is_connected, next: AtomicU64::new(0) };
    let (open, complaints) = (HashMap::new(), Complaints::default());
    (requests, Asking { dialer, questions: asked, connected, inbox, open, complaints })
}

impl Requests {
    /// Returns whether there is a connection.
    pub(in crate::cluster) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Waits until there is a connection.
    pub(in crate::cluster) async fn connected(&self) {
        // The connection ends with the process.
        let _ = self.connected.clone().wait_for(|connected| *connected).await;
    }

    /// Sends a request. The replies arrive through the channel, which closes when the connection is lost.
    ///
    /// # Errors
    /// [`AwayError`] if there is no connection.
    pub(in crate::cluster) async fn ask(&self, subject: String, payload: Bytes) -> Result<Answers, AwayError> {
        if !self.is_connected() {
            return Err(AwayError);
        }
        let (answers, answered) = answers();
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        self.questions.send(Question { token, subject, payload, answers }).await.map_err(|_| AwayError)?;
        Ok(answered)
    }
}

impl Asking {
    /// Runs until all [`Requests`] are dropped.
    pub(in crate::cluster) async fn run(mut self) {
        loop {
            let session = self
                .dialer
                .dial(None, |error| tracing::debug!(%error, "cannot connect to NATS for replays; retrying"))
                .await;
            self.connected.send_replace(true);
            let ended = self.serve(session).await;
            self.connected.send_replace(false);
            self.open.clear();
            match ended {
                Ok(()) => break,
                Err(error) => tracing::debug!(%error, "lost the connection to NATS for replays; reconnecting"),
            }
        }
    }

    async fn serve(&mut self, session: Session) -> Result<(), SessionError> {
        let Session { mut incoming, mut outgoing, address, .. } = session;
        outgoing.subscribe(&format!("{}.*", self.inbox), 1);
        let pulse = Pulse::default();
        let mut ticks = interval(PULSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            outgoing.flush_while(&pulse).await?;
            tokio::select! {
                op = incoming.next_with(&pulse) => self.hear(op?, &address, &mut outgoing),
                question = self.questions.recv() => match question {
                    Some(question) => self.put(question, &mut outgoing),
                    None => return Ok(()),
                },
                _ = ticks.tick() => self.tick(&pulse, &mut outgoing)?,
            }
        }
    }

    fn tick(&mut self, pulse: &Pulse, outgoing: &mut Outgoing) -> Result<(), SessionError> {
        pulse.tick()?;
        outgoing.ping();
        self.open.retain(|_, answers| !answers.is_closed());
        Ok(())
    }

    fn put(&mut self, question: Question, outgoing: &mut Outgoing) {
        let Question { token, subject, payload, answers } = question;
        if answers.is_closed() {
            // The caller has given up while there was no connection.
            return;
        }
        let reply = format!("{}.{token}", self.inbox);
        outgoing.publish(&subject, Some(&reply), b"", &payload);
        self.open.insert(token, answers);
    }

    fn hear(&mut self, op: Op, server: &Address, outgoing: &mut Outgoing) {
        match op {
            Op::Ping => outgoing.pong(),
            Op::Message(message) => self.answer(message),
            Op::Error(text) => self.complaints.log(server, &text),
            Op::Info(_) | Op::Pong | Op::Ok => {}
        }
    }

    fn answer(&mut self, message: Message) {
        let token = message.subject.rsplit(|byte| *byte == b'.').next();
        let token: Option<u64> = token.and_then(|token| std::str::from_utf8(token).ok()?.parse().ok());
        let Some(token) = token else { return };
        if self.open.get(&token).is_some_and(|answers| !answers.push(message)) {
            // The caller has gone or lags behind the replies: its channel closes, so it sees that the answer is
            // incomplete.
            self.open.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Message {
        Message { sid: 1, subject: Bytes::new(), headers: Bytes::new(), payload: vec![0; length].into() }
    }

    /// Queues replies of this length until one is refused; their number.
    fn fill(replies: &Replies, length: usize) -> usize {
        std::iter::repeat_with(|| replies.push(message(length))).take_while(|queued| *queued).count()
    }

    #[tokio::test]
    async fn number_and_bytes_bind_the_replies_that_wait() {
        for (length, most) in [(1, ANSWERS), (BYTES / 4, 4), (BYTES - 1, 2), (16 * BYTES, 1)] {
            let (replies, _answers) = answers();
            assert_eq!(fill(&replies, length), most, "{length} bytes each");
        }
        let (replies, mut answers) = answers();
        for _ in 0..10 {
            assert!(replies.push(message(BYTES)), "what was received counts no more");
            assert!(answers.recv().await.is_some());
        }
        assert!(replies.push(message(BYTES)));
        assert_eq!(fill(&replies, SHORT + 1), 0);
        assert_eq!(fill(&replies, SHORT), ANSWERS - 1, "short ones are bounded by their number");
    }
}
