//! The `JetStream` stream that keeps what nodes publish, and replays from it (`nats.stream`).
//!
//! Publishing stays core NATS: the server stores what is published on the subjects, and no node waits for it. So the
//! stream holds what reached the NATS server while it could store, and the numbers in the messages show what it does
//! not hold. Heartbeats are stored too: they tell a reader that nothing is missing before them.
//!
//! [`ensure`](mod@ensure) makes sure that there is a stream, [`pages`] reads it, [`reader`] makes a replay of that.
//! Reading goes over a connection of its own, so that replays do not delay live events; it needs no consumers, so
//! nothing is kept at the server for clients that come and go.
//!
//! Contract: at most [`READERS`] replays read at a time, others wait for their turn, and as many read again for
//! registrations that came late; each holds at most two pages, which it shares with those that read the same
//! ([`cache`]).

mod api;
mod cache;
pub(super) mod ensure;
mod filling;
mod options;
mod pages;
mod reader;
mod shared;
mod tries;

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::broker::Broker;
use crate::broker::archive::{Archive, PageChannel, Reading};
use crate::cluster::nats::requests::Requests;
use cache::PageCache;
pub use options::StreamOptions;
use reader::{Reader, ReaderOptions};

/// Replays that read at a time.
const READERS: usize = 256;

/// A stream that replays are read from.
#[derive(Debug)]
pub(super) struct StreamArchive {
    pages: Arc<PageCache>,
    window: usize,
    /// The broker holds the archive.
    broker: Weak<Broker>,
    once: Arc<Semaphore>,
    again: Arc<Semaphore>,
    runtime: Handle,
}

impl StreamArchive {
    /// To be called inside a tokio runtime. `longest` is that of an event in bytes.
    pub(super) fn new(client: Arc<Requests>, options: &StreamOptions, longest: usize, broker: &Arc<Broker>) -> Self {
        Self {
            pages: Arc::new(PageCache::new(client, options.name.clone(), longest)),
            window: options.window,
            broker: Arc::downgrade(broker),
            once: Arc::new(Semaphore::new(READERS)),
            again: Arc::new(Semaphore::new(READERS)),
            runtime: Handle::current(),
        }
    }
}

impl Archive for StreamArchive {
    fn read(&self, reading: Reading, page_channel: PageChannel) {
        // Whoever reads again may be waited for by one that reads for the first time, so they do not share their
        // places.
        let permits = if reading.until.is_some() { &self.again } else { &self.once };
        let stream =
            ReaderOptions { pages: Arc::clone(&self.pages), window: self.window, broker: Weak::clone(&self.broker) };
        let reader = Reader::new(stream, reading);
        self.runtime.spawn(reader.run(page_channel, Arc::clone(permits)));
    }
}
