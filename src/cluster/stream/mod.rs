//! The `JetStream` stream that stores the published events, and replays from it (`nats.stream`).
//!
//! Publishing stays core NATS: the server stores what is published on the subjects, and no node waits for it. The
//! stream thus holds what reached the NATS server while it could store, and the numbers in the messages reveal what it
//! lacks. Heartbeats are stored too: they show a reader that nothing is missing before them.
//!
//! [`ensure`](mod@ensure) ensures that the stream exists, [`pages`] reads it, [`reader`] turns it into a replay, and
//! [`mod@serve`] passes that to the client. Reads use a separate connection, so replays do not delay live events. They
//! need no consumers, so the server keeps no state for clients.
//!
//! Contract: at most [`READERS`] replays hold pages, plus as many that read again for late registrations; others wait.
//! Each holds at most two pages, which it shares with replays that read the same ones ([`cache`]), and the digests of
//! `nats.window`. A replay has a slot from before its first page is read until its last one is handled, so clients
//! that do not read bind no more memory than that. A principal is given slots only while it holds fewer than are free
//! ([`slots`]): the clients of one, however deaf, keep nobody else from reading.
//!
//! Why a replay keeps its slot while it waits for its client: what is to be bounded is the memory of its pages, which
//! it needs just then. Giving up the slot for that time would let every connection hold two pages.

mod api;
mod cache;
pub(super) mod ensure;
mod error;
mod filling;
mod handoff;
mod options;
mod pages;
mod progress;
#[cfg(test)]
mod random_tests;
mod reader;
mod serve;
mod shared;
#[cfg(test)]
mod shelf;
mod slots;
mod source;
mod tries;
#[cfg(test)]
mod world;

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use crate::broker::Broker;
use crate::broker::archive::{Archive, PageChannel, Reading};
use crate::cluster::nats::requests::Requests;
use crate::tasks;
use cache::PageCache;
pub use options::StreamOptions;
use reader::{Reader, ReaderOptions};
use slots::ReplaySlots;
use source::NatsStream;

/// Maximum number of concurrent replays.
const READERS: usize = 256;

/// Reads replays from a `JetStream` stream.
#[derive(Debug)]
pub(super) struct StreamArchive {
    pages: Arc<PageCache>,
    window: usize,
    /// Weak, because the broker owns the archive.
    broker: Weak<Broker>,
    once: Arc<ReplaySlots>,
    again: Arc<ReplaySlots>,
    runtime: Handle,
}

impl StreamArchive {
    /// Creates the archive. Must be called inside a tokio runtime. `longest` is the maximum length of an event in
    /// bytes.
    pub(super) fn new(client: Arc<Requests>, options: &StreamOptions, longest: usize, broker: &Arc<Broker>) -> Self {
        Self {
            pages: Arc::new(PageCache::new(Arc::new(NatsStream::new(client, options.name.clone())), longest)),
            window: options.window,
            broker: Arc::downgrade(broker),
            once: Arc::new(ReplaySlots::new(READERS)),
            again: Arc::new(ReplaySlots::new(READERS)),
            runtime: Handle::current(),
        }
    }
}

impl Archive for StreamArchive {
    fn read(&self, reading: Reading, account: &str, page_channel: PageChannel) {
        // A replay that reads for the first time may wait for one that reads again, so they do not share their slots.
        let slots = if reading.until.is_some() { &self.again } else { &self.once };
        let stream =
            ReaderOptions { pages: Arc::clone(&self.pages), window: self.window, broker: Weak::clone(&self.broker) };
        let reader = Reader::new(stream, reading);
        tasks::spawn_on(&self.runtime, serve::serve(reader, page_channel, account.into(), Arc::clone(slots)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::progress::STALL;
    use super::reader::tests;
    use super::*;
    use crate::broker::archive::{Chunk, Pages, Progress, Wake, page_channel};
    use crate::clock;

    /// An archive that cannot read: all that it sends is that something is missing, and the end.
    fn archive(broker: &Arc<Broker>) -> StreamArchive {
        let options = StreamOptions {
            name: "EVENTS".to_owned(),
            bytes: 1 << 20,
            age: Duration::from_hours(1),
            replicas: 1,
            window: 100,
        };
        StreamArchive::new(Arc::new(tests::away()), &options, 1 << 20, broker)
    }

    /// Begins a replay, the first or a repeated one.
    fn read(archive: &StreamArchive, account: &str, until: Option<u64>) -> Pages {
        read_for(Progress::default(), archive, account, until)
    }

    fn read_for(progress: Progress, archive: &StreamArchive, account: &str, until: Option<u64>) -> Pages {
        let (sender, pages) = page_channel(Wake::default(), progress);
        archive.read(
            Reading { time: clock::now(), begin: None, first: 0, until, given: None, brought: None },
            account,
            sender,
        );
        pages
    }

    fn has_some(pages: &mut Pages) -> bool {
        pages.drop_withdrawn();
        pages.peek().is_some()
    }

    /// Each has a page that nobody handles.
    #[tokio::test(start_paused = true)]
    async fn clients_of_one_principal_that_do_not_read_keep_no_other_from_reading() {
        let broker = tests::broker();
        let archive = archive(&broker);
        for until in [None, Some(7)] {
            let mut deaf: Vec<Pages> = (0..2 * READERS).map(|_| read(&archive, "user:deaf", until)).collect();
            sleep(Duration::from_millis(1)).await;
            assert_eq!(deaf.iter_mut().filter_map(|pages| pages.peek()).count(), READERS / 2);
            let mut other = read(&archive, "user:other", until);
            sleep(Duration::from_millis(1)).await;
            assert!(has_some(&mut other), "{until:?}");
            // Nor do they hold their slots for ever.
            sleep(STALL).await;
            deaf.iter_mut().for_each(Pages::drop_withdrawn);
            sleep(Duration::from_millis(1)).await;
            let told = |pages: &mut Pages| matches!(pages.take(), Some(Chunk::Gap(gap)) if gap.from.is_none());
            assert_eq!(deaf.iter_mut().map(has_some).filter(|has_some| *has_some).count(), READERS);
            assert_eq!(deaf.iter_mut().map(told).filter(|told| *told).count(), READERS / 2);
        }
    }

    /// The pages of the first read wait for those of a later registration, and these for others of the principal.
    #[tokio::test(start_paused = true)]
    async fn a_client_whose_later_registration_waits_for_its_turn_has_not_stalled() {
        let broker = tests::broker();
        let archive = archive(&broker);
        let deaf: Vec<Pages> = (0..READERS / 2).map(|_| read(&archive, "user:one", Some(7))).collect();
        let progress = Progress::default();
        let mut once = read_for(progress.clone(), &archive, "user:one", None);
        sleep(Duration::from_millis(1)).await;
        let mut again = read_for(progress, &archive, "user:one", Some(7));
        assert!(!has_some(&mut again));
        sleep(STALL + Duration::from_secs(1)).await;
        assert!(has_some(&mut once));
        assert!(matches!(once.take(), Some(Chunk::Gap(gap)) if gap.from.is_some()), "withdrawn");
        drop(deaf);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_gives_up_its_slot_and_its_turn() {
        let broker = tests::broker();
        let archive = archive(&broker);
        let mut first: Vec<Pages> = (0..READERS).map(|_| read(&archive, "user:one", None)).collect();
        sleep(Duration::from_millis(1)).await;
        let mut last = read(&archive, "user:one", None);
        sleep(Duration::from_millis(1)).await;
        assert!(!has_some(&mut last));
        // Half of them wait.
        first.drain(1..);
        sleep(Duration::from_millis(1)).await;
        assert!(has_some(&mut last) && has_some(&mut first[0]));
    }
}
