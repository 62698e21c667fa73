//! The threads of the shards, and the control plane's access to them ([`asking`]).
//!
//! Contract: a connection is given to one shard and stays there. Sending to a shard never blocks: if its control queue
//! is full, the connection is refused. [`Pool::drain`] ends all threads.

mod asking;

pub use asking::Found;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::Sender;
use mio::{Poll, Waker};
use thiserror::Error;
use tokio::time::error::Elapsed;

use super::control::{Control, Newcomer};
use super::driver::{Driver, Parts, Timing, Undelivered, WAKE};
use super::outbox::Budget;
use super::outbox::DeflatePolicy;
use super::session::Shard;
use super::spec_parser::SpecParser;
use crate::auth::Authority;
use crate::broker::Broker;
use crate::broker::archive::Wake;
use crate::broker::inbox::{InboxLimits, inbox};
use crate::clock;
use crate::index;
use crate::logging::crash::Vital;
use crate::logging::summary::Summary;
use crate::stats::OutboxLimits;

/// Capacity of a shard's control queue, in requests.
const CONTROL_QUEUE: usize = 4096;

#[derive(Debug)]
pub(super) struct Port {
    control: Sender<Control>,
    waker: Arc<Waker>,
    load: Arc<AtomicUsize>,
    /// Set when rights have changed since the shard last looked. A flag, not a request: it needs no room in the queue.
    review: Arc<AtomicBool>,
    /// Set when the shard is to drain, with the deadline. Needs no room in the queue either, which clients can fill.
    drain: Arc<OnceLock<Instant>>,
}

/// The settings of every shard.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    /// Limits of the index.
    pub index: index::Limits,
    /// Limits of each outbox.
    pub outbox: OutboxLimits,
    /// Limit on the bytes in all outboxes of all shards together.
    pub total_bytes: usize,
    /// Limits of each shard's inbox.
    pub inbox: InboxLimits,
    /// Which events are deflated for connections that negotiated compression.
    pub deflate: Option<DeflatePolicy>,
    /// Longest message accepted from a client, in bytes.
    pub message_bytes: usize,
    /// Ping interval and deadlines.
    pub timing: Timing,
    /// Whether events report connections that open and close.
    pub connection_events: bool,
}

/// The reason why a request has no answer.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum PoolError {
    /// A shard did not answer.
    #[error("a shard is stuck, has too many requests about connections in progress, or is shutting down; try again")]
    Unanswered,
}

/// A wait for a shard that took too long.
impl From<Elapsed> for PoolError {
    fn from(_: Elapsed) -> Self {
        Self::Unanswered
    }
}

/// Handles to all shard threads, used by the control plane. Handing over a connection never blocks.
#[derive(Debug)]
pub struct Pool {
    ports: Vec<Port>,
    threads: parking_lot::Mutex<Vec<JoinHandle<Undelivered>>>,
    limits: index::Limits,
    refused: Summary,
    /// The shard that has returned the names seen in events last.
    knowing: AtomicUsize,
    /// Whether no shard returns the names seen in events: a test cannot make shards silent from outside.
    #[cfg(test)]
    pub(crate) hides_names: AtomicBool,
    /// If not 0, no shard returns a connection with its registrations, and each such request is counted.
    #[cfg(test)]
    pub(crate) hides_connections: AtomicUsize,
}

impl Pool {
    /// Starts `shards` threads and attaches them to the broker.
    ///
    /// # Errors
    /// The system refuses a thread, a poll or a waker.
    pub fn start(
        shards: usize,
        settings: &ShardSettings,
        broker: &Arc<Broker>,
        authority: &Arc<Authority>,
        epoch: Instant,
    ) -> io::Result<Self> {
        let mut pool = Self {
            ports: Vec::new(),
            threads: parking_lot::Mutex::default(),
            limits: settings.index,
            refused: Summary::default(),
            knowing: AtomicUsize::default(),
            #[cfg(test)]
            hides_names: AtomicBool::default(),
            #[cfg(test)]
            hides_connections: AtomicUsize::default(),
        };
        let budget = Arc::new(Budget::new(settings.total_bytes, shards));
        for number in 0..shards {
            let (port, parts) = shard(number, settings, &budget, broker, authority, epoch)?;
            let thread = std::thread::Builder::new().name(format!("shard-{number}"));
            pool.threads.lock().push(thread.spawn(move || {
                // Its connections would receive nothing more, its inbox would fill, and every POST would be refused
                // from then on.
                let _vital = Vital::new("a shard");
                Driver::new(parts).run()
            })?);
            pool.ports.push(port);
        }
        Ok(pool)
    }

    /// Gives a connection to the shard with the fewest connections. Closes it if that shard's queue is full or the
    /// shard is gone.
    pub fn adopt(&self, newcomer: Box<Newcomer>) {
        let peer = newcomer.peer;
        let Some(port) = self.ports.iter().min_by_key(|port| port.load.load(Ordering::Relaxed)) else { return };
        // Counted immediately, so that a burst of connections is spread before the shards have caught up.
        port.load.fetch_add(1, Ordering::Relaxed);
        if port.send(Control::Adopt(newcomer)).is_err()
            && let Some(suppressed) = self.refused.count(clock::instant())
        {
            tracing::warn!(%peer, suppressed, "connection refused: the shards are too busy for another one");
        }
    }

    /// Returns the number of connections of each shard, including those being handed over.
    pub fn connection_counts(&self) -> Vec<usize> {
        self.ports.iter().map(|port| port.load.load(Ordering::Relaxed)).collect()
    }

    /// Returns the limits on the registrations of a connection; `most` is the limit of the role on their number.
    pub fn limits(&self, most: Option<usize>) -> index::Limits {
        index::Limits { registrations: most.unwrap_or(self.limits.registrations), ..self.limits }
    }

    /// Returns the size limits of filters.
    pub fn filter_limits(&self) -> index::filter::Limits {
        self.limits.filter
    }

    /// Notifies every shard that rights have changed.
    pub fn access_changed(&self) {
        for port in &self.ports {
            // A read-modify-write on both sides, as for the wake-up of an inbox: loom follows only these (`make loom`).
            port.review.swap(true, Ordering::AcqRel);
            port.wake();
        }
    }

    /// Sends every shard the object types of the endpoint, so that registrations for them cause no warning.
    pub fn set_types(&self, types: &[String]) {
        let types: Arc<[Box<str>]> = types.iter().map(|name| name.as_str().into()).collect();
        for port in &self.ports {
            if port.send(Control::Types(Arc::clone(&types))).is_err() {
                tracing::warn!(
                    "a shard is too busy to learn the endpoint's types: it may call valid registrations for them \
                     suspicious"
                );
            }
        }
    }

    /// Delivers all accepted events, closes all connections and ends the threads, by `deadline` at the latest. Logs
    /// what was not delivered by then. Blocks.
    pub fn drain(&self, deadline: Instant) {
        self.ports.iter().for_each(|port| port.begin_drain(deadline));
        let mut all = Undelivered::default();
        for thread in self.threads.lock().drain(..) {
            if let Ok(undelivered) = thread.join() {
                all.add(undelivered);
            } else {
                tracing::error!("a shard's thread panicked");
            }
        }
        if all != Undelivered::default() {
            let Undelivered { connections, events, unmatched } = all;
            let what = "timeouts.drain is over: accepted events were not delivered, and their connections were cut off";
            tracing::warn!(connections, events, unmatched, "{what}");
        }
    }
}

impl Drop for Pool {
    /// Ends the threads of a server that was not drained, such as one whose start failed. Does not wait for them.
    fn drop(&mut self) {
        if !self.threads.get_mut().is_empty() {
            let now = clock::instant();
            self.ports.iter().for_each(|port| port.begin_drain(now));
        }
    }
}

impl Port {
    fn send(&self, control: Control) -> Result<(), Control> {
        self.control.try_send(control).map_err(crossbeam_channel::TrySendError::into_inner)?;
        self.wake();
        Ok(())
    }

    fn begin_drain(&self, deadline: Instant) {
        // The first deadline counts.
        let _ = self.drain.set(deadline);
        self.wake();
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake a shard");
        }
    }
}

/// Creates a shard and the port through which the pool reaches it.
pub(super) fn shard(
    number: usize,
    settings: &ShardSettings,
    budget: &Arc<Budget>,
    broker: &Arc<Broker>,
    authority: &Arc<Authority>,
    epoch: Instant,
) -> io::Result<(Port, Parts)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
    let for_inbox = Arc::clone(&waker);
    let (inbox_sender, inbox) = inbox(settings.inbox, move || {
        if let Err(error) = for_inbox.wake() {
            tracing::error!(%error, "cannot wake a shard");
        }
    });
    broker.attach(inbox_sender);
    let for_others = Arc::clone(&waker);
    let wake = Wake::new(move || {
        if let Err(error) = for_others.wake() {
            tracing::error!(%error, "cannot wake a shard");
        }
    });
    let (sender, control) = crossbeam_channel::bounded(CONTROL_QUEUE);
    let load = Arc::new(AtomicUsize::new(0));
    let (review, drain) = (Arc::new(AtomicBool::new(false)), Arc::new(OnceLock::new()));
    let parts = Parts {
        poll,
        parser: SpecParser::start(number, settings.index.filter, wake.clone())?,
        shard: Shard::new(settings.index, settings.outbox, settings.deflate.clone()).with_wake(wake),
        inbox,
        control,
        metrics: broker.metrics().shard(number),
        budget: Arc::clone(budget),
        number,
        authority: Arc::clone(authority),
        broker: Arc::clone(broker),
        load: Arc::clone(&load),
        review: Arc::clone(&review),
        drain: Arc::clone(&drain),
        timing: settings.timing,
        connection_events: settings.connection_events,
        message_limit: settings.message_bytes,
        epoch,
    };
    Ok((Port { control: sender, waker, load, review, drain }, parts))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use crossbeam_channel::{Receiver, TryRecvError};
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::asking::{ANSWER, Found, SEARCH, SOON};
    use super::*;
    use crate::fanout::control::Wanted;
    use crate::fanout::driver::tests::parts;
    use crate::fanout::outbox::ConnId;
    use crate::index::{Measure, Seen};

    /// A stuck shard accepts requests and does not answer them.
    #[tokio::test(start_paused = true)]
    async fn a_stuck_shard_is_given_up() {
        let (shards, _requests, _poll) = pool(1);
        let begun = tokio::time::Instant::now();
        assert_eq!(outcomes(&shards).await, [Err(PoolError::Unanswered); 3]);
        assert!(begun.elapsed() >= ANSWER);
    }

    /// A pool of shards whose requests the test answers.
    fn pool(shards: usize) -> (Pool, Vec<Receiver<Control>>, Poll) {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).unwrap());
        let port = |_| {
            let (control, requests) = crossbeam_channel::bounded(1);
            let (waker, load) = (Arc::clone(&waker), Arc::default());
            (Port { control, waker, load, review: Arc::default(), drain: Arc::default() }, requests)
        };
        let (ports, requests) = (0..shards).map(port).unzip();
        let shards = Pool {
            ports,
            threads: parking_lot::Mutex::default(),
            limits: index::Limits::default(),
            refused: Summary::default(),
            knowing: AtomicUsize::default(),
            hides_names: AtomicBool::default(),
            hides_connections: AtomicUsize::default(),
        };
        (shards, requests, poll)
    }

    fn peer() -> SocketAddr {
        "192.0.2.1:9".parse().unwrap()
    }

    /// Answers all requests if it can be, and drops them otherwise, as a shard does that has too many. It is always
    /// ready to run, so that no time passes while it does.
    async fn serve(requests: Receiver<Control>, answers: bool) {
        loop {
            match requests.try_recv() {
                Ok(control) if answers => answer(control),
                Ok(_) | Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            tokio::task::yield_now().await;
        }
    }

    fn answer(control: Control) {
        match control {
            Control::List(_, reply) => drop(reply.send(Vec::new())),
            Control::Find(_, reply) => drop(reply.send(None)),
            Control::Survey(_, reply) => drop(reply.send(Vec::new())),
            Control::Seen(reply) => drop(reply.send(Seen::default())),
            _ => {}
        }
    }

    /// Shards of which some answer.
    fn served(requests: Vec<Receiver<Control>>, answers: [bool; 2]) -> tokio::task::JoinSet<()> {
        requests.into_iter().zip(answers).map(|(requests, answers)| serve(requests, answers)).collect()
    }

    async fn outcomes(pool: &Pool) -> [Result<(), PoolError>; 3] {
        [
            pool.connections(None).await.map(drop),
            pool.registrations(Measure::Hits).await.map(drop),
            pool.find(&Wanted::at(peer())).await.map(drop),
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn no_list_lacks_the_part_of_a_shard_that_does_not_answer() {
        for answers in [[true, true], [true, false], [false, true]] {
            let (pool, requests, _poll) = pool(2);
            let shards = served(requests, answers);
            let expected = if answers == [true; 2] { Ok(()) } else { Err(PoolError::Unanswered) };
            assert_eq!(outcomes(&pool).await, [expected; 3], "{answers:?}");
            drop(pool);
            shards.join_all().await;
        }
    }

    #[tokio::test]
    async fn a_shard_whose_queue_is_full_or_that_has_ended_does_not_answer() {
        let (pool, requests, _poll) = pool(1);
        pool.set_types(&[]);
        assert_eq!(outcomes(&pool).await, [Err(PoolError::Unanswered); 3], "full");
        assert!(pool.seen().await.is_none());
        drop(requests);
        assert_eq!(outcomes(&pool).await, [Err(PoolError::Unanswered); 3], "ended");
        assert!(pool.seen().await.is_none());
    }

    /// The requests of clients fill the queue.
    #[test]
    fn a_shard_whose_queue_is_full_drains() {
        let data = tempfile::tempdir().unwrap();
        let (port, parts, _) = parts(data.path());
        let mut driver = Driver::new(parts);
        while port.send(Control::Seen(oneshot::channel().0)).is_ok() {}
        let limits = index::Limits::default();
        let pool = Pool {
            ports: vec![port],
            threads: parking_lot::Mutex::default(),
            limits,
            refused: Summary::default(),
            knowing: AtomicUsize::default(),
            hides_names: AtomicBool::default(),
            hides_connections: AtomicUsize::default(),
        };
        pool.drain(clock::instant() + Duration::from_hours(1));
        for _ in 0..2 * CONTROL_QUEUE {
            driver.run_turn(std::iter::empty(), Duration::ZERO);
        }
        assert!(driver.is_done());
    }

    /// Whoever asks may hold a turn that others wait for.
    #[tokio::test(start_paused = true)]
    async fn a_stuck_shard_is_waited_for_once_for_the_names() {
        let (pool, requests, _poll) = pool(2);
        let is_asked = |shard: usize| matches!(requests[shard].try_recv(), Ok(Control::Seen(_)));
        let mut names = Box::pin(pool.seen());
        assert!(names.as_mut().now_or_never().is_none() && requests[1].is_empty());
        tokio::time::advance(SOON).await;
        assert!(names.as_mut().now_or_never().is_none() && is_asked(0));
        let Ok(Control::Seen(reply)) = requests[1].try_recv() else { panic!("the other is not asked") };
        reply.send(Seen::default()).unwrap();
        assert!(names.now_or_never().unwrap().is_some());
        assert!(pool.seen().now_or_never().is_none());
        assert!(!is_asked(0) && is_asked(1), "the one that has answered");
    }

    const CONN: ConnId = ConnId(7);

    fn found_in(shard: usize) -> Found {
        Found { shard, conn: CONN }
    }

    /// Returns whether shards have the connection, once they are asked; those of which nothing is said are stuck.
    fn tell(requests: &[Receiver<Control>], found: &[Option<bool>]) {
        for (shard, found) in requests.iter().zip(found) {
            let Ok(Control::Find(_, reply)) = shard.try_recv() else { panic!("it is not asked") };
            match found {
                Some(found) => reply.send(found.then_some(CONN)).unwrap(),
                None => drop(Box::leak(Box::new(reply))),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_found_as_soon_as_the_shards_before_have_answered() {
        let cases: [(&[Option<bool>], Option<usize>); 4] = [
            (&[Some(false), Some(true), Some(true)], Some(1)),
            (&[Some(true), None, None], Some(0)),
            (&[Some(false), Some(true), None], Some(1)),
            (&[Some(false), Some(false), Some(false)], None),
        ];
        for (answers, expected) in cases {
            let (pool, requests, _poll) = pool(3);
            let wanted = Wanted::at(peer());
            let mut found = Box::pin(pool.find(&wanted));
            assert!(found.as_mut().now_or_never().is_none());
            tell(&requests, answers);
            assert_eq!(found.now_or_never(), Some(Ok(expected.map(found_in))), "{answers:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_shard_hides_no_connection_of_another_and_is_soon_given_up() {
        for (answers, expected, longest) in [
            ([None, Some(true)], Ok(Some(found_in(1))), SOON),
            ([None, Some(false)], Err(PoolError::Unanswered), SEARCH),
            ([Some(false), None], Err(PoolError::Unanswered), SEARCH),
        ] {
            let (pool, requests, _poll) = pool(2);
            let wanted = Wanted::at(peer());
            let mut found = Box::pin(pool.find(&wanted));
            assert!(found.as_mut().now_or_never().is_none());
            tell(&requests, &answers);
            let begun = tokio::time::Instant::now();
            assert_eq!((found.await, begun.elapsed()), (expected, longest), "{answers:?}");
        }
    }

    /// Whoever asks has a turn that others wait for.
    #[tokio::test(start_paused = true)]
    async fn a_shard_that_is_stuck_once_it_has_found_a_connection_is_soon_given_up() {
        let (pool, _requests, _poll) = pool(1);
        let (wanted, begun) = (Wanted::at(peer()), tokio::time::Instant::now());
        assert_eq!(pool.inspect(found_in(0), &wanted).await.err(), Some(PoolError::Unanswered));
        assert_eq!(begun.elapsed(), SEARCH);
    }

    #[tokio::test(start_paused = true)]
    async fn any_shard_knows_the_names_seen_in_events() {
        for answers in [[true, false], [false, true]] {
            let (pool, requests, _poll) = pool(2);
            let shards = served(requests, answers);
            assert!(pool.seen().await.is_some(), "{answers:?}");
            drop(pool);
            shards.join_all().await;
        }
    }
}
