//! The glue: one order of events, given to every shard.
//!
//! [`Broker::publish`] is the only way in. It numbers the events of a batch under one lock and puts the batch into the
//! inbox of every shard, or into none if one of them is full; so all shards see the same order and nothing is lost silently.
//! That lock is taken once a batch and never on the way of a delivery.
//!
//! Contract: any thread may publish; it never waits for a shard. After `Ok` the events are sequenced: they reach every
//! connection whose registration was answered before.

mod classes;
pub mod connection;
mod shard;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;
use thiserror::Error;

pub use shard::{Commands, Shard};

use crate::event::Event;
use crate::fanout::inbox::{Batch, Inlet};
use crate::metrics::{Metrics, Source};

/// The Type of events about connections; a principal always sees those of its own.
pub const CONNECTIONS: &str = "connections";

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

#[derive(Debug, Default)]
struct Sequencer {
    next: u64,
    inlets: Vec<Inlet>,
    stopped: bool,
}

/// See the module's text.
#[derive(Debug)]
pub struct Broker {
    sequencer: Mutex<Sequencer>,
    metrics: Arc<Metrics>,
    epoch: Instant,
    observer: OnceLock<Observer>,
}

/// Looks at events that have been taken in; must not take long.
struct Observer(Box<dyn Fn(&Event) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl Broker {
    /// A broker without shards. All times in microseconds count from `epoch`.
    pub fn new(metrics: Arc<Metrics>, epoch: Instant) -> Self {
        Self { sequencer: Mutex::default(), metrics, epoch, observer: OnceLock::new() }
    }

    /// Has every event looked at that is taken in from now on, once. What follows from it comes later than the event, so
    /// this is for what may: reading again what an event says has changed.
    pub fn observe(&self, observer: impl Fn(&Event) + Send + Sync + 'static) {
        if self.observer.set(Observer(Box::new(observer))).is_err() {
            tracing::error!("events are looked at already");
        }
    }

    /// Adds a shard by its inbox. Shards are added before the first event.
    pub fn attach(&self, inlet: Inlet) {
        self.sequencer.lock().inlets.push(inlet);
    }

    /// All metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Microseconds since the epoch of this broker.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).expect("the process does not run for half a million years")
    }

    /// Takes events in, all or none, and returns the sequence number of the first.
    ///
    /// # Errors
    /// [`PublishError`]; no event was taken then.
    pub fn publish(&self, events: Vec<Event>, source: Source) -> Result<u64, PublishError> {
        let count = events.len() as u64;
        self.publish_or_return(events, source).map_err(|(error, _)| {
            self.metrics.events_refused.inc_by(count);
            error
        })
    }

    /// Like [`Broker::publish`], but gives the events back that were not taken, for whoever tries again: they do not count as
    /// refused.
    ///
    /// # Errors
    /// [`PublishError`] and the events.
    pub fn publish_or_return(&self, events: Vec<Event>, source: Source) -> Result<u64, (PublishError, Vec<Event>)> {
        let bytes = events.iter().map(|event| event.frame().len()).sum();
        let count = events.len() as u64;
        if let Some(Observer(observe)) = self.observer.get() {
            events.iter().for_each(observe);
        }
        let first = self.sequence(events, bytes)?;
        self.metrics.received(source, count, bytes as u64);
        Ok(first)
    }

    fn sequence(&self, events: Vec<Event>, bytes: usize) -> Result<u64, (PublishError, Vec<Event>)> {
        let count = events.len();
        let mut sequencer = self.sequencer.lock();
        if sequencer.stopped {
            return Err((PublishError::Stopped, events));
        }
        if count == 0 {
            return Ok(sequencer.next);
        }
        if let Some(full) = sequencer.inlets.iter().find(|inlet| !inlet.has_room(count, bytes)) {
            return Err((PublishError::Full { events: full.waiting() }, events));
        }
        let events: Box<[Arc<Event>]> = events.into_iter().map(Arc::new).collect();
        let first = sequencer.next;
        sequencer.next += count as u64;
        let batch = Arc::new(Batch { first, received_us: self.now_us(), events, bytes });
        for inlet in &sequencer.inlets {
            if !inlet.push(Arc::clone(&batch)) {
                tracing::error!("a shard is gone; its connections get no more events");
            }
        }
        Ok(first)
    }

    /// Takes no more events.
    pub fn stop(&self) {
        self.sequencer.lock().stopped = true;
    }

    /// Events that wait for the slowest shard.
    pub fn waiting(&self) -> usize {
        self.sequencer.lock().inlets.iter().map(Inlet::waiting).max().unwrap_or(0)
    }
}
