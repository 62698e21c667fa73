//! The `JetStream` stream that stores the published events, and replays from it (`nats.stream`).
//!
//! Publishing stays core NATS: the server stores what is published on the subjects, and no node waits for it. The
//! stream thus holds what reached the NATS server while it could store, and the numbers in the messages reveal what it
//! lacks. Heartbeats are stored too: they show a reader that nothing is missing before them.
//!
//! [`ensure`](mod@ensure) ensures that the stream exists, [`pages`] reads it, and [`reader`] turns it into a replay.
//! Reads use a separate connection, so replays do not delay live events. They need no consumers, so the server keeps no
//! state for clients.
//!
//! Contract: at most [`READERS`] replays read concurrently while others wait for their turn, plus as many that read
//! again for late registrations. Each holds at most two pages, which it shares with replays that read the same ones
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
use crate::tasks;
use cache::PageCache;
pub use options::StreamOptions;
use reader::{Reader, ReaderOptions};

/// Maximum number of concurrent replays.
const READERS: usize = 256;

/// Reads replays from a `JetStream` stream.
#[derive(Debug)]
pub(super) struct StreamArchive {
    pages: Arc<PageCache>,
    window: usize,
    /// Weak, because the broker owns the archive.
    broker: Weak<Broker>,
    once: Arc<Semaphore>,
    again: Arc<Semaphore>,
    runtime: Handle,
}

impl StreamArchive {
    /// Creates the archive. Must be called inside a tokio runtime. `longest` is the maximum length of an event in
    /// bytes.
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
        // A replay that reads for the first time may wait for one that reads again, so they do not share their permits.
        let permits = if reading.until.is_some() { &self.again } else { &self.once };
        let stream =
            ReaderOptions { pages: Arc::clone(&self.pages), window: self.window, broker: Weak::clone(&self.broker) };
        let reader = Reader::new(stream, reading);
        tasks::spawn_on(&self.runtime, reader.run(page_channel, Arc::clone(permits)));
    }
}
