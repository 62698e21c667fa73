//! The broker: puts all events into one order and hands them to every shard.
//!
//! [`Broker::publish`] is the only entrance. It numbers the events of a batch under one lock and puts the batch into
//! the inbox of every shard, or into none if one of them is full. So all shards see the same order and no loss is
//! silent. The lock is taken once per batch and never during a delivery.
//!
//! Contract: any thread may publish; publishing never waits for a shard. Once `publish` has returned `Ok`, the events
//! are sequenced: they reach every connection whose registration was answered before.

mod ahead;
pub mod archive;
pub mod connection;
pub mod dedup;
pub mod export;
mod followers;
pub mod gap;
pub mod history;
pub mod inbox;
pub mod interest;
pub mod milestones;
pub mod origin;
mod pace;
mod ring;
mod sequencer;
pub mod splice;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use jiff::Timestamp;
use parking_lot::Mutex;
use thiserror::Error;

pub use connection::CONNECTIONS;
pub use sequencer::{Arrivals, Frontier};

use crate::broker::inbox::{Batch, InboxSender};
use crate::clock;
use crate::event::{self, Event};
use crate::metrics::{Metrics, Source};
use archive::Archive;
use connection::Connection;
use dedup::{Duplicates, Keys};
use export::{ExportLimits, Exports};
use history::{Beyond, History, Position, Since, SinceError, Start};
use interest::Interest;
use origin::{NodeId, Origin};
use pace::Pace;
use sequencer::{Intake, LossMark, Sequencer, Ways};

/// Why events were not taken.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum PublishError {
    /// A shard does not follow; try again in a moment.
    #[error("the inboxes are full: {events} events wait already")]
    Full {
        /// Events that wait for the slowest shard.
        events: usize,
    },
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Stopped,
}

/// Numbers events and hands every batch to all shards. Shared by all threads; publishing never waits for a shard.
#[derive(Debug)]
pub struct Broker {
    sequencer: Mutex<Sequencer>,
    metrics: Arc<Metrics>,
    epoch: Instant,
    history: Arc<History>,
    keys: Keys,
    /// Whether copies are looked for.
    shares: AtomicBool,
    observer: OnceLock<Observer>,
    archive: OnceLock<Arc<dyn Archive>>,
    interest: Interest,
    /// Of events about connections.
    pace: Mutex<Pace>,
}

/// Looks at events that have been taken in; must not take long.
struct Observer(Box<Observe>);

type Observe = dyn Fn(&Event, Source) + Send + Sync;

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl Broker {
    /// A broker without shards. All times in microseconds count from `epoch`.
    pub fn new(metrics: Arc<Metrics>, epoch: Instant, history: History) -> Self {
        Self {
            sequencer: Mutex::default(),
            metrics,
            epoch,
            history: Arc::new(history),
            keys: Keys::default(),
            shares: AtomicBool::new(false),
            observer: OnceLock::new(),
            archive: OnceLock::new(),
            interest: Interest::default(),
            pace: Mutex::default(),
        }
    }

    /// What clients of this node have registered for.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// The recent past.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Has replays that begin before the recent past read from an archive. Only the first one counts.
    pub fn set_archive(&self, archive: Arc<dyn Archive>) {
        if self.archive.set(archive).is_err() {
            tracing::error!("there is an archive already");
        }
    }

    /// The place from which a client gets what it asks for. The archive is asked where the recent past lacks something
    /// of it: what was forgotten, or never came here.
    ///
    /// # Errors
    /// As [`History::resolve`].
    pub fn resolve(&self, since: Since, requested: &str, now: Timestamp) -> Result<Start, SinceError> {
        let mut start = self.history.resolve(since, requested, now)?;
        let Some(archive) = self.archive.get() else { return Ok(start) };
        let position = |sequence| Position { epoch: self.history.epoch(), sequence };
        let (time, begin) = match (since, start.time) {
            (Since::Time(_), Some(time)) => (Some(time), self.history.moment_of(time, now)),
            // The Time of an event whose clock was far ahead.
            (Since::Time(_), None) => (self.history.moment(position(start.sequence), now), None),
            (Since::Position(position), _) => (self.history.moment(position, now), None),
        };
        if let Some(time) = time
            && (start.gap.is_some() || self.has_loss_since(start.sequence, time))
        {
            let begin = begin.or(start.time.is_none().then_some(time));
            start.gap = None;
            start.beyond = Some(Beyond { archive: Arc::clone(archive), time, begin });
        }
        Ok(start)
    }

    fn has_loss_since(&self, sequence: u64, time: Timestamp) -> bool {
        let loss_mark = self.sequencer.lock().loss_mark;
        loss_mark.is_some_and(|loss_mark| sequence < loss_mark.sequence || time <= loss_mark.time)
    }

    /// Events of other nodes are missing among those that were taken in until now.
    pub fn mark_loss(&self) {
        let mut sequencer = self.sequencer.lock();
        sequencer.loss_mark = Some(LossMark { sequence: sequencer.next, time: clock::now() });
    }

    /// The next event's number, and what was taken in of each node before it.
    pub fn frontier(&self) -> Frontier {
        let sequencer = self.sequencer.lock();
        let mut watermarks = sequencer.watermarks.clone();
        if let Some(egress) = &sequencer.egress {
            watermarks.note(self.history.epoch(), egress.next_number(), clock::now());
        }
        Frontier { sequence: sequencer.next, watermarks }
    }

    /// Another node is heard, and everything of it before the number `next` has come or will not come. Its last event
    /// was passed on at `moved`.
    pub fn heard(&self, node: NodeId, next: u64, moved: Timestamp) {
        self.sequencer.lock().watermarks.set(node, next, clock::now(), moved);
    }

    /// Has every event looked at that is taken in from now on, once it is, and tells where it comes from. What follows
    /// from it comes later than the event, so this is for what may: reading again what an event says has changed.
    pub fn observe(&self, observer: impl Fn(&Event, Source) + Send + Sync + 'static) {
        if self.observer.set(Observer(Box::new(observer))).is_err() {
            tracing::error!("events are looked at already");
        }
    }

    /// Adds a shard by its inbox. Shards are added before the first event.
    pub fn attach(&self, inbox_sender: InboxSender) {
        self.sequencer.lock().inboxes.push(inbox_sender);
    }

    /// Shares what this node takes in with other nodes: it is put into the queue that is returned, and copies of events
    /// that several nodes take in are dropped, as long as no more than `window` others come between. Before the first
    /// event.
    pub fn share(&self, limits: ExportLimits, window: usize) -> Exports {
        let (egress, exports) = export::exports(limits);
        let mut sequencer = self.sequencer.lock();
        sequencer.egress = Some(egress);
        sequencer.duplicates = Some(Duplicates::new(window));
        self.shares.store(true, Ordering::Relaxed);
        exports
    }

    /// All metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Microseconds since the epoch of this broker.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).expect("the process does not run for half a million years")
    }

    /// The event that tells of a connection: `create` when it came, `delete` when it went. Nothing if its principal
    /// makes too many of them, which is counted and logged.
    pub fn connection_event(&self, action: &str, connection: &Connection, now: Timestamp) -> Option<Event> {
        let asked = self.pace.lock().ask(&connection.principal, self.now_us());
        match asked {
            Ok(omitted) => Some(connection.event(action, omitted, now)),
            Err(omitted) => {
                self.metrics.connection_events_omitted.inc();
                if omitted.first {
                    let principal = &connection.principal;
                    tracing::warn!(principal, "connects too often: some events about its connections are left out");
                }
                None
            }
        }
    }

    /// Takes events in, all or none, and returns the sequence number of the first.
    ///
    /// # Errors
    /// [`PublishError`]; no event was taken then.
    pub fn publish(&self, events: Vec<Event>, source: Source) -> Result<u64, PublishError> {
        self.publish_or_return(events, source).map_err(|(error, refused)| {
            self.metrics.events_refused.inc_by(refused.len() as u64);
            event::discard(refused.len());
            error
        })
    }

    /// Like [`Broker::publish`], but gives the events back that were not taken, for whoever tries again: they do not
    /// count as refused.
    ///
    /// # Errors
    /// [`PublishError`] and the events.
    pub fn publish_or_return(&self, events: Vec<Event>, source: Source) -> Result<u64, (PublishError, Vec<Event>)> {
        let shares = source.is_shared() && self.shares.load(Ordering::Relaxed);
        self.ingest(events, source, shares.then_some(Ways::Own), &[])
    }

    /// Like [`Broker::publish_or_return`], for events of other nodes. Where they tell repeat indexes copies are
    /// dropped: they had them from an endpoint which this one may follow too.
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
        self.ingest(events, source, ways, arrivals.origins)
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
        self.sequence(events, intake)
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
        let now = clock::now();
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
        let lost = sequencer.dispatch(&batch, source, repeat_indexes);
        if lost > 0 {
            self.metrics.nats.lost_out(lost);
        }
        drop(sequencer);
        drop(forgotten);
        if let Some(Observer(observe)) = self.observer.get() {
            batch.events.iter().for_each(|event| observe(event, source));
        }
        Ok(first)
    }

    /// Whether an event that a link is about to bring has yet to come from another node, if there are others: any of
    /// them may follow the endpoint too. A link that has just begun brings what follows a gap; the others bring what
    /// stands before it.
    pub fn waits_for_others(&self, event: &Event, now: Timestamp) -> bool {
        let digest = self.keys.digest(event);
        let sequencer = self.sequencer.lock();
        let has_come = sequencer.duplicates.as_ref().is_none_or(|duplicates| duplicates.has_next(digest));
        !has_come && sequencer.watermarks.iter().any(|(_, mark)| mark.is_alive(now))
    }

    /// Writes into an event where it stands.
    fn position(&self, mut event: Event, sequence: u64) -> Arc<Event> {
        event.set_position(Position { epoch: self.history.epoch(), sequence });
        Arc::new(event)
    }

    /// Takes no more events.
    pub fn stop(&self) {
        let mut sequencer = self.sequencer.lock();
        sequencer.stopped = true;
        // Ends the queue once it is empty.
        sequencer.egress = None;
    }

    /// Events that wait for the slowest shard.
    pub fn waiting(&self) -> usize {
        self.sequencer.lock().inboxes.iter().map(InboxSender::waiting).max().unwrap_or(0)
    }
}
