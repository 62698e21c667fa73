//! Decides which incoming messages are forwarded at once and which may be batched briefly.
//!
//! A single event costs a node tens of microseconds, nearly all of them spent on waking threads: the receiving task and
//! every shard. Events that no local client has registered for can wait until there are more of them or an urgent one
//! arrives. They are still accepted in order: history, replays and sequence numbers are unaffected.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::nats::op::{Message, Op};
use super::nats::session::{Incoming, Pulse, SessionError};
use super::subject;
use super::waiting::Filler;
use crate::broker::Broker;

/// The subscription to heartbeats and greetings.
pub(super) const SIGNS: u64 = 2;

/// Delay between attempts while the queue is full.
const RETRY: Duration = Duration::from_millis(5);

/// Passes the messages of a connection to the receiver, batching those that are not urgent.
pub(super) struct Gathering {
    broker: Arc<Broker>,
    filler: Filler,
    prefix: String,
    linger: Duration,
}

impl Gathering {
    /// Creates a batcher that holds no message for longer than `linger`.
    pub(super) fn new(broker: &Arc<Broker>, filler: Filler, prefix: &str, linger: Duration) -> Self {
        Self { broker: Arc::clone(broker), filler, prefix: prefix.to_owned(), linger }
    }

    /// Forwards a message of the connection `session` at once if it is urgent, or batches it.
    pub(super) fn take(&self, message: Message, session: u64) {
        if self.is_urgent(&message) {
            self.filler.push(message, session);
        } else {
            self.filler.gather(message, session);
        }
    }

    fn is_urgent(&self, message: &Message) -> bool {
        let wants = |kind: Cow<'_, str>| self.broker.interest().wants(&kind);
        self.linger.is_zero() || message.sid == SIGNS || subject::kind(&self.prefix, &message.subject).is_none_or(wants)
    }

    /// Returns the server's next operation. Meanwhile flushes messages that were held for `linger`.
    pub(super) async fn next(&self, incoming: &mut Incoming, pulse: &Pulse) -> Result<Op, SessionError> {
        while let Some(since) = self.filler.since() {
            // A server that always has more to send must not delay the flush.
            if since.elapsed() < self.linger
                && let Ok(op) = timeout_at(since + self.linger, incoming.next_with(pulse)).await
            {
                return op;
            }
            self.flush();
        }
        incoming.next_with(pulse).await
    }

    /// Forwards messages that came ahead of their turn. Waits for room in the queue, for the `longest` time in all.
    pub(super) async fn take_all(&self, messages: Vec<Message>, session: u64, longest: Duration) {
        let end = Instant::now() + longest;
        for message in messages {
            while !self.filler.has_room(message.len()) && Instant::now() < end {
                // What is batched takes room too.
                self.flush();
                sleep(RETRY).await;
            }
            self.take(message, session);
        }
    }

    /// Forwards all batched messages.
    pub(super) fn flush(&self) {
        self.filler.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use jiff::Timestamp;
    use tokio::time::timeout;

    use super::*;
    use crate::broker::history::{History, HistoryLimits};
    use crate::cluster::waiting::{Waiting, WaitingLimits, waiting};
    use crate::metrics::Metrics;

    /// Returns the subjects of the messages that are in the queue now.
    fn taken(queue: &mut Waiting) -> Vec<String> {
        let subject = |message: Message| String::from_utf8(message.subject.to_vec()).unwrap();
        std::iter::from_fn(|| queue.ready()).map(|received| subject(received.message)).collect()
    }

    fn gathering(linger: Duration) -> (Gathering, Waiting) {
        let history = History::new(HistoryLimits { events: 1, bytes: 1 }, 1, Timestamp::UNIX_EPOCH);
        let broker = Arc::new(Broker::new(Arc::new(Metrics::new()), Instant::now(), history));
        broker.interest().set(0, Some(vec!["jobs".to_owned()]));
        let (filler, queue) = waiting(WaitingLimits { messages: 100, bytes: 100_000 });
        (Gathering::new(&broker, filler, "h", linger), queue)
    }

    fn take(gathering: &Gathering, sid: u64, subject: &str) {
        let subject = subject.to_owned().into();
        gathering.take(Message { sid, subject, headers: "".into(), payload: "".into() }, 1);
    }

    #[test]
    fn what_nobody_has_registered_for_waits_for_what_somebody_has() {
        let (gathering, mut queue) = gathering(Duration::from_secs(1));
        let [machine, job, beat] = ["h.EVENTS.machines.a.b", "h.EVENTS.jobs.a.b", "h.NODES.heartbeat"];
        take(&gathering, 1, machine);
        take(&gathering, 1, machine);
        assert_eq!(taken(&mut queue), [""; 0]);
        take(&gathering, 1, job);
        assert_eq!(taken(&mut queue), [machine, machine, job], "in their order");
        take(&gathering, 1, machine);
        take(&gathering, SIGNS, beat);
        assert_eq!(taken(&mut queue), [machine, beat]);
        gathering.broker.interest().set(0, None);
        take(&gathering, 1, machine);
        assert_eq!(taken(&mut queue), [machine], "somebody wants everything");
    }

    #[test]
    fn nothing_waits_where_nothing_is_to_wait() {
        let (gathering, mut queue) = gathering(Duration::ZERO);
        take(&gathering, 1, "h.EVENTS.machines.a.b");
        assert_eq!(taken(&mut queue).len(), 1);
    }

    /// The connection that replaces another one may have delivered more than the queue holds.
    #[tokio::test(start_paused = true)]
    async fn what_came_ahead_waits_for_room_in_the_queue_but_not_for_ever() {
        let subjects = ["h.EVENTS.machines.a.b", "h.EVENTS.jobs.a.b"];
        let message =
            |n: usize| Message { sid: 1, subject: subjects[n % 2].into(), headers: "".into(), payload: "".into() };
        let (gathering, mut queue) = gathering(Duration::from_secs(1));
        let receiving = tokio::spawn(async move {
            let mut sessions = Vec::new();
            while let Some(received) = queue.next().await {
                sessions.push(received.session);
            }
            sessions.len()
        });
        gathering.take_all((0..1000).map(message).collect(), 1, Duration::from_secs(2)).await;
        gathering.flush();
        drop(gathering);
        assert_eq!(receiving.await.unwrap(), 1000);
        let (gathering, mut queue) = self::gathering(Duration::from_secs(1));
        let passing = gathering.take_all((0..1000).map(message).collect(), 1, Duration::from_secs(2));
        timeout(Duration::from_secs(3), passing).await.expect("it is given up");
        assert_eq!(taken(&mut queue).len(), 100);
    }
}
