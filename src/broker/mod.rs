//! The broker: puts all events into one order and hands them to every shard.
//!
//! [`Broker::publish`] is the only entrance. It numbers the events of a batch under one lock and puts the batch into
//! the inbox of every shard, or into none if one of them is full. So all shards see the same order and no loss is
//! silent. The lock is taken once per batch and never during a delivery.
//!
//! Events of several publications may share one wake-up of the shards ([`Broker::queue`]), without a timer.
//!
//! Contract: any thread may publish; publishing never waits for a shard. Once `publish` has returned `Ok`, the events
//! are sequenced: they reach every connection whose registration was answered before.

mod ahead;
mod alarm;
mod announcing;
pub mod archive;
mod bells;
pub mod connection;
pub mod dedup;
mod error;
pub mod export;
mod followers;
pub mod gap;
pub mod history;
pub mod inbox;
pub mod interest;
mod last_pages;
pub mod milestones;
pub mod origin;
mod pace;
mod reached;
mod ring;
mod sequencer;
pub mod splice;

use std::fmt;
use std::sync::atomic::{self, AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use jiff::Timestamp;
use parking_lot::Mutex;

pub use bells::Queued;
pub use connection::CONNECTIONS;
pub use error::PublishError;
pub use sequencer::{Arrivals, Frontier};

use crate::broker::inbox::{Batch, InboxSender};
use crate::clock::{self, ClockReading};
use crate::event::{self, Event};
use crate::metrics::{Metrics, Source};
use crate::spans::Spans;
use announcing::Announcing;
use archive::Archive;
use bells::Bells;
use dedup::{Duplicates, Keys};
use export::{ExportLimits, Exports};
use history::{Beyond, History, Position, Since, SinceError, Start};
use interest::Interest;
use origin::{NodeId, Origin, Trace};
use sequencer::{Intake, LossMark, Published, Sequencer, Ways};

/// Numbers events and hands every batch to all shards. Shared by all threads; publishing never waits for a shard.
#[derive(Debug)]
pub struct Broker {
    sequencer: Mutex<Sequencer>,
    bells: Bells,
    metrics: Arc<Metrics>,
    spans: Spans,
    epoch: Instant,
    history: Arc<History>,
    keys: Keys,
    /// Whether duplicates are detected.
    shares: AtomicBool,
    observer: OnceLock<Observer>,
    archive: OnceLock<Arc<dyn Archive>>,
    interest: Interest,
    announcing: Announcing,
}

/// Receives events after they were sequenced. Must not take long.
struct Observer(Box<Observe>);

type Observe = dyn Fn(&Event, Source, Option<Trace>) + Send + Sync;

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl Broker {
    /// Creates a broker without shards. All times in microseconds count from `epoch`.
    pub fn new(metrics: Arc<Metrics>, epoch: Instant, history: History) -> Self {
        Self {
            sequencer: Mutex::default(),
            bells: Bells::default(),
            metrics,
            spans: Spans::default(),
            epoch,
            history: Arc::new(history),
            keys: Keys::default(),
            shares: AtomicBool::new(false),
            observer: OnceLock::new(),
            archive: OnceLock::new(),
            interest: Interest::default(),
            announcing: Announcing::default(),
        }
    }

    /// Makes spans of accepted batches.
    #[must_use]
    pub fn with_spans(mut self, spans: Spans) -> Self {
        self.spans = spans;
        self
    }

    /// Returns what makes spans.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Returns what clients of this node have registered for.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// Returns the history.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Sets the archive for replays that begin before the history. Only the first call has an effect.
    pub fn set_archive(&self, archive: Arc<dyn Archive>) {
        if self.archive.set(archive).is_err() {
            tracing::error!("bug: the archive was set twice");
        }
    }

    /// Returns the start of a replay. Includes the archive where the history lacks requested events: they were evicted,
    /// or never reached this node.
    ///
    /// # Errors
    /// Like [`History::resolve`].
    pub fn resolve(&self, since: Since, requested: &str, now: ClockReading) -> Result<Start, SinceError> {
        let may_precede = self.history.may_precede(since);
        let mut start = self.history.resolve_if(since, requested, now.wall, may_precede)?;
        let Some(archive) = self.archive.get() else { return Ok(start) };
        let position = |sequence| Position { epoch: self.history.epoch(), sequence };
        let (time, begin) = match (since, start.time) {
            (Since::Time(_), Some(time)) => (Some(time), self.history.moment_of(time, now)),
            // The Time of an event whose clock was far ahead.
            (Since::Time(_), None) => (self.history.moment(position(start.sequence), now.wall), None),
            (Since::Position(position), _) => (self.history.moment(position, now.wall), None),
        };
        if let Some(time) = time
            && (start.gap.is_some() || self.has_loss_since(start.sequence, start.time) || may_precede)
        {
            let begin = begin.or(start.time.is_none().then_some(time));
            start.gap = None;
            start.beyond = Some(Beyond { archive: Arc::clone(archive), time, begin });
        }
        Ok(start)
    }

    /// Returns whether this node may lack events from a number on, and from a time on if that is what was requested:
    /// whoever requests a number has had what came before it.
    fn has_loss_since(&self, sequence: u64, time: Option<Timestamp>) -> bool {
        let loss_mark = self.sequencer.lock().loss_mark;
        let includes = |mark: LossMark| sequence < mark.sequence || time.is_some_and(|time| time <= mark.time);
        loss_mark.is_some_and(includes)
    }

    /// Records that events of other nodes are missing among those accepted so far.
    pub fn mark_loss(&self) {
        let mut sequencer = self.sequencer.lock();
        sequencer.loss_mark = Some(LossMark { sequence: sequencer.next, time: clock::now() });
    }

    /// Returns the number of the next event, and the watermarks of all nodes at this moment.
    pub fn frontier(&self) -> Frontier {
        let sequencer = self.sequencer.lock();
        let mut watermarks = sequencer.watermarks.clone();
        if let Some(Published { next, moved }) = sequencer.published {
            watermarks.set(self.history.epoch(), next, clock::instant(), moved);
        }
        Frontier { sequence: sequencer.next, watermarks }
    }

    /// Records that another node is alive and that its events before number `next` have arrived or never will. It
    /// published its last event at `moved`.
    pub fn heard(&self, node: NodeId, next: u64, moved: Timestamp) {
        self.sequencer.lock().watermarks.set(node, next, clock::instant(), moved);
    }

    /// Calls `observer` with every event accepted from now on, its source and, if nodes share it, its trace, after the
    /// event was sequenced. Use it only for reactions that may come later than the event, such as reloading what an
    /// event says has changed.
    pub fn observe(&self, observer: impl Fn(&Event, Source, Option<Trace>) + Send + Sync + 'static) {
        if self.observer.set(Observer(Box::new(observer))).is_err() {
            tracing::error!("bug: the observer of events was set twice");
        }
    }

    /// Adds a shard by its inbox. Call it before the first event.
    pub fn attach(&self, inbox_sender: InboxSender) {
        self.bells.add(inbox_sender.bell());
        self.sequencer.lock().inboxes.push(inbox_sender);
    }

    /// Shares this node's events with other nodes: queues them in the returned [`Exports`], and drops duplicates of
    /// events that several nodes receive while no more than `window` others come between. Call it before the first
    /// event.
    pub fn share(&self, limits: ExportLimits, window: usize) -> Exports {
        let (egress, exports) = export::exports(limits);
        let mut sequencer = self.sequencer.lock();
        sequencer.egress = Some(egress);
        sequencer.duplicates = Some(Duplicates::new(window));
        self.shares.store(true, Ordering::Relaxed);
        exports
    }

    /// Returns all metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Returns the microseconds since the epoch of this broker.
    pub fn now_us(&self) -> u64 {
        let passed = clock::instant().saturating_duration_since(self.epoch);
        u64::try_from(passed.as_micros()).expect("the process does not run for half a million years")
    }

    /// Sequences events, all or none, and returns the sequence number of the first.
    ///
    /// # Errors
    /// [`PublishError`]; then no event was accepted.
    pub fn publish(&self, events: Vec<Event>, source: Source) -> Result<u64, PublishError> {
        self.queue(events, source).map(|queued| queued.first)
    }

    /// Like [`Broker::publish`], but shards that are asleep sleep on until the result is dropped. So a thread with
    /// several publishers can let all that are ready publish, and wake the shards once.
    ///
    /// # Errors
    /// [`PublishError`]; then no event was accepted.
    pub fn queue(&self, events: Vec<Event>, source: Source) -> Result<Queued<'_>, PublishError> {
        let first = self.sequence_own(events, source).map_err(|(error, refused)| {
            self.metrics.events_refused.inc_by(error.refused(source, refused.len()));
            event::discard(refused.len());
            error
        })?;
        Ok(Queued { first, bells: &self.bells })
    }

    /// Wakes the shards for events that are queued, if that is yet to be done ([`Broker::queue`]). Call it before the
    /// thread does anything else that takes long.
    pub fn wake_shards(&self) {
        self.bells.ring();
    }

    fn sequence_own(&self, events: Vec<Event>, source: Source) -> Result<u64, (PublishError, Vec<Event>)> {
        let shares = source.is_shared() && self.shares.load(Ordering::Relaxed);
        self.ingest(events, source, shares.then_some(Ways::Own), &[])
    }

    /// Like [`Broker::publish`], but returns refused events to a caller that will retry; they do not count as refused.
    ///
    /// # Errors
    /// [`PublishError`] and the events.
    pub fn publish_or_return(&self, events: Vec<Event>, source: Source) -> Result<u64, (PublishError, Vec<Event>)> {
        let sequenced = self.sequence_own(events, source);
        self.wake_shards();
        sequenced
    }

    /// Like [`Broker::publish_or_return`], for events of other nodes. Events with repeat indexes are from an endpoint
    /// that this node may follow too; duplicates among them are dropped.
    ///
    /// # Errors
    /// [`PublishError`] and the events.
    pub fn publish_foreign(
        &self,
        events: Vec<Event>,
        source: Source,
        arrivals: Arrivals<'_>,
    ) -> Result<u64, (PublishError, Vec<Event>)> {
        let ways = (!arrivals.repeat_indexes.is_empty()).then_some(Ways::Foreign(arrivals.repeat_indexes));
        let sequenced = self.ingest(events, source, ways, arrivals.origins);
        self.wake_shards();
        sequenced
    }

    fn ingest(
        &self,
        events: Vec<Event>,
        source: Source,
        ways: Option<Ways<'_>>,
        origins: &[Option<Origin>],
    ) -> Result<u64, (PublishError, Vec<Event>)> {
        let digest = |ways| (ways, events.iter().map(|event| self.keys.digest(event)).collect());
        let intake = Intake {
            source,
            bytes: events.iter().map(|event| event.frame().len()).sum(),
            times: self.history.times(&events),
            ways: ways.map(digest),
            origins: origins.to_vec(),
        };
        let span = self.spans.ingest(source.label(), events.len(), intake.bytes);
        self.sequence(events, intake).inspect_err(|(error, _)| span.failed(error))
    }

    fn sequence(&self, mut events: Vec<Event>, mut intake: Intake<'_>) -> Result<u64, (PublishError, Vec<Event>)> {
        let count = events.len();
        let mut sequencer = self.sequencer.lock();
        if sequencer.stopped {
            return Err((PublishError::Stopped, events));
        }
        let full = sequencer.inboxes.iter().find(|inbox_sender| !inbox_sender.has_room(count, intake.bytes));
        if let Some(full) = full.filter(|_| count > 0) {
            return Err((PublishError::Full { events: full.waiting() }, events));
        }
        let now = clock::both();
        sequencer.note_origins(&intake, now);
        let repeat_indexes = sequencer.drop_duplicates(&mut events, &mut intake);
        event::discard(count - events.len());
        self.metrics.nats.duplicates.inc_by((count - events.len()) as u64);
        let first = sequencer.next;
        if events.is_empty() {
            return Ok(first);
        }
        let traces = sequencer.traces(events.len(), &intake, repeat_indexes.as_deref(), self.history.epoch());
        let Intake { source, bytes, times, .. } = intake;
        let events: Box<[Arc<Event>]> =
            events.into_iter().zip(first..).map(|(event, at)| self.position(event, at)).collect();
        sequencer.next += events.len() as u64;
        let forgotten = self.history.append(&events, &times, &traces, now);
        self.metrics.received(source, events.len() as u64, bytes as u64);
        let batch = Arc::new(Batch { first, received_us: self.now_us(), events, bytes });
        let lost = sequencer.dispatch(&batch, source, repeat_indexes, now.wall);
        if lost > 0 {
            self.metrics.nats.lost_out(lost);
        }
        drop(sequencer);
        drop(forgotten);
        if let Some(Observer(observe)) = self.observer.get() {
            let traces = traces.into_iter().chain(std::iter::repeat(None));
            batch.events.iter().zip(traces).for_each(|(event, trace)| observe(event, source, trace));
        }
        Ok(first)
    }

    /// Returns whether an event from an endpoint's link is still expected from another node, because any node that is
    /// alive may follow the endpoint too. A link that has just started delivers what follows a gap; other nodes deliver
    /// what precedes it.
    pub fn waits_for_others(&self, event: &Event, now: Instant) -> bool {
        let digest = self.keys.digest(event);
        let sequencer = self.sequencer.lock();
        let has_come = sequencer.duplicates.as_ref().is_none_or(|duplicates| duplicates.has_next(digest));
        !has_come && sequencer.watermarks.iter().any(|(_, mark)| mark.is_alive(now))
    }

    /// Writes an event's position into it.
    fn position(&self, mut event: Event, sequence: u64) -> Arc<Event> {
        event.set_position(Position { epoch: self.history.epoch(), sequence });
        Arc::new(event)
    }

    /// Stops accepting events.
    pub fn stop(&self) {
        let mut sequencer = self.sequencer.lock();
        sequencer.stopped = true;
        // Dropping it ends the queue once it is empty.
        sequencer.egress = None;
    }

    /// Returns the number of events queued for each shard.
    pub fn queued(&self) -> Vec<usize> {
        self.sequencer.lock().inboxes.iter().map(InboxSender::waiting).collect()
    }

    /// Returns the number of events queued for the slowest shard.
    pub fn waiting(&self) -> usize {
        self.queued().into_iter().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::archive::{PageChannel, Reading};
    use crate::broker::inbox::{InboxLimits, inbox};
    use crate::event::Draft;
    use history::HistoryLimits;

    /// They have no traces then.
    #[test]
    fn observers_are_called_for_events_that_nodes_do_not_share() {
        let history = History::new(HistoryLimits { events: 10, bytes: 1 << 20 }, 1, clock::now());
        let broker = Broker::new(Arc::new(Metrics::new()), Instant::now(), history);
        let observed = Arc::<Mutex<Vec<_>>>::default();
        let noted = Arc::clone(&observed);
        broker.observe(move |event, source, trace| {
            noted.lock().push((event.key().to_owned(), source, trace.is_some()));
        });
        broker.publish(vec![Draft::new("a", "b", "c").seal(clock::now())], Source::Upstream).unwrap();
        assert_eq!(*observed.lock(), [("c".to_owned(), Source::Upstream, false)]);
    }

    /// An archive that is named, but never read.
    #[derive(Debug)]
    struct Unread;

    impl Archive for Unread {
        fn read(&self, _: Reading, _: &str, _: PageChannel) {}
    }

    /// A client that resumes there was told of the loss. Each node marks one whenever it has lost its connection.
    #[test]
    fn the_archive_is_read_for_what_precedes_a_loss_and_for_nothing_behind_it() {
        clock::simulated::begin();
        let history = History::new(HistoryLimits { events: 100, bytes: 1 << 20 }, 1, clock::now());
        let broker = Broker::new(Arc::new(Metrics::new()), clock::instant(), history);
        broker.set_archive(Arc::new(Unread));
        let mut times = Vec::new();
        for at in 0..10 {
            if at == 5 {
                broker.mark_loss();
            }
            clock::simulated::pass(Duration::from_secs(1));
            times.push(clock::now());
            broker.publish(vec![Draft::new("a", "b", "c").seal(clock::now())], Source::Post).unwrap();
        }
        let is_read = |since| broker.resolve(since, "", clock::both()).unwrap().beyond.is_some();
        for sequence in 0..10 {
            let position = Position { epoch: 1, sequence };
            assert_eq!(is_read(Since::Position(position)), sequence < 5, "{sequence}");
        }
        for (at, time) in times.into_iter().enumerate() {
            assert_eq!(is_read(Since::Time(time)), at < 5, "{at}");
        }
    }

    #[test]
    fn only_posts_into_full_inboxes_count_as_refused() {
        let history = History::new(HistoryLimits { events: 10, bytes: 1 << 20 }, 1, clock::now());
        let broker = Broker::new(Arc::new(Metrics::new()), Instant::now(), history);
        let (sender, _inbox) = inbox(InboxLimits { events: 1, bytes: 1 << 20 }, || ());
        broker.attach(sender);
        let event = |_| Draft::new("a", "b", "c").seal(clock::now());
        let events = |count: usize| (0..count).map(event).collect();
        broker.publish(events(1), Source::Post).unwrap();
        for (source, count) in [(Source::Demo, 0), (Source::Connections, 0), (Source::Post, 2)] {
            assert!(matches!(broker.publish(events(2), source), Err(PublishError::Full { .. })), "{source:?}");
            assert_eq!(broker.metrics.events_refused.get(), count, "{source:?}");
        }
        assert!(broker.publish_or_return(events(1), Source::Post).is_err(), "its caller retries");
        broker.stop();
        assert_eq!(broker.publish(events(1), Source::Post), Err(PublishError::Stopped));
        assert_eq!(broker.metrics.events_refused.get(), 2);
    }
}
