//! Archives: the source of replays that begin before the in-memory history.
//!
//! An [`Archive`] reads on a task of its own and sends one [`Page`] at a time. It reads the next page once the shard
//! has started the previous one ([`PAGES`] are queued in between), so a slow client holds two pages in memory, not the
//! archive. The last page says where the replay continues in the history and what to leave out there ([`Splice`]); that
//! of a range that was read again, what to leave out for the registrations that it was read for.
//!
//! Contract: pages come in the archive's order with rising positions, no two events with the same one. Events that
//! cannot be read are reported as a gap at their position. Nothing follows the end. The history may drop events before
//! the shard takes the last page, but when that page was sent it held all that the archive was still to deliver, or
//! the page tells of a gap. Reading again yields the same events up to a given position; what the archive has lost
//! since is reported too. The shard never waits: it takes a page that is ready, and is woken when one arrives. A reader
//! may withdraw the pages that were not handled yet; the page that it sends in their place reports a gap, and is the
//! last one. What the withdrawn pages contained comes from the history if that holds it, except for a range that is
//! read again before the first read has ended.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::gap::Gap;
use super::splice::Splice;
use crate::event::Event;

/// The number of queued pages.
const PAGES: usize = 1;

/// Exclusive upper bound of positions in an archive.
pub const POSITIONS: u64 = 1 << 62;

/// A part of a replay.
#[derive(Debug)]
pub enum Chunk {
    /// An event and its position in the archive.
    Event(u64, Arc<Event>),
    /// Events are missing here.
    Gap(Gap),
    /// The end, and how the replay continues in the history.
    End(Splice),
    /// The end, without a word from the reader: its task has died.
    Died,
}

/// Chunks that were read together.
pub type Page = Vec<Chunk>;

/// The range that a reader is to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The time from which events are requested.
    pub time: Timestamp,
    /// No requested event was stored before this time; `None` if unknown.
    pub begin: Option<Timestamp>,
    /// The sequence number from which the history is requested, as far as it is retained.
    pub first: u64,
    /// The exclusive end position of a range that was read before; nothing from there on is delivered, although the
    /// last message read may have brought some.
    pub until: Option<u64>,
    /// The position of the first event of that range; `None` if it is read for the first time, or had no event.
    pub given: Option<u64>,
    /// What of the history that range brought, once that is known: the rest comes from the history again.
    pub brought: Option<Arc<Splice>>,
}

/// Wakes the consumer of pages.
#[derive(Clone)]
pub struct Wake(Arc<dyn Fn() + Send + Sync>);

impl Wake {
    /// Creates a value that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes the consumer.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl Default for Wake {
    fn default() -> Self {
        Self::new(|| ())
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake")
    }
}

/// A source of events older than the in-memory history, such as a `JetStream` stream.
pub trait Archive: fmt::Debug + Send + Sync {
    /// Starts to read for a principal with this account, and to fill `page_channel`. Returns at once.
    fn read(&self, reading: Reading, account: &str, page_channel: PageChannel);
}

/// The client's progress in a replay, for all who read for it: while one part of the replay is handled, or waited for,
/// the pages of another have to wait too.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Handling>);

#[derive(Debug, Default)]
struct Handling {
    count: AtomicU64,
    /// Whether the shard waits for a page.
    awaits_page: AtomicBool,
}

impl Progress {
    /// Notes that something was handled.
    pub(crate) fn advance(&self) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
    }

    fn await_page(&self, awaits: bool) {
        self.0.awaits_page.store(awaits, Ordering::Release);
    }

    /// Returns a number that changes when something is handled; `None` while the shard waits for a page.
    fn count(&self) -> Option<u64> {
        let Handling { count, awaits_page } = &*self.0;
        (!awaits_page.load(Ordering::Acquire)).then(|| count.load(Ordering::Relaxed))
    }
}

/// The reader's end.
#[derive(Debug)]
pub struct PageChannel {
    pages: mpsc::Sender<Page>,
    wake: Wake,
    progress: Progress,
    instead: oneshot::Sender<Page>,
}

/// Room for one page.
#[derive(Debug)]
pub struct PagePermit<'d> {
    permit: mpsc::Permit<'d, Page>,
    page_channel: &'d PageChannel,
}

/// The shard's end.
#[derive(Debug)]
pub struct Pages {
    queue: mpsc::Receiver<Page>,
    begun: VecDeque<Chunk>,
    progress: Progress,
    /// The page in place of all others, if the reader withdraws them.
    instead: oneshot::Receiver<Page>,
}

/// Returns the two ends. `progress` is that of the replay.
pub fn page_channel(wake: Wake, progress: Progress) -> (PageChannel, Pages) {
    let (sender, receiver) = mpsc::channel(PAGES);
    let (withdrawing, instead) = oneshot::channel();
    let page_channel = PageChannel { pages: sender, wake, progress: progress.clone(), instead: withdrawing };
    (page_channel, Pages { queue: receiver, begun: VecDeque::new(), progress, instead })
}

impl PageChannel {
    /// Waits for room for one page; returns `None` if the shard has dropped its end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn reserve(&self) -> Option<PagePermit<'_>> {
        let permit = self.pages.reserve().await.ok()?;
        Some(PagePermit { permit, page_channel: self })
    }

    /// Waits until the shard has dropped its end: it has handled the end of the replay, or the connection has closed.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn closed(&self) {
        self.pages.closed().await;
    }

    /// Returns a number that changes whenever the shard handles a part of the replay; `None` while it waits for a page.
    pub fn progress(&self) -> Option<u64> {
        self.progress.count()
    }

    /// Has the shard drop all pages that it has not handled yet, and handle this one, the last, in their place.
    pub fn withdraw(self, last: Page) {
        // If that fails, the shard has dropped them already.
        let _ = self.instead.send(last);
        self.progress.await_page(false);
        self.wake.wake();
    }
}

impl PagePermit<'_> {
    /// Sends a page and wakes the consumer.
    pub fn put(self, page: Page) {
        let PageChannel { wake, progress, .. } = self.page_channel;
        self.permit.send(page);
        progress.await_page(false);
        wake.wake();
    }
}

impl Pages {
    /// Drops the pages that the reader has withdrawn.
    pub(crate) fn drop_withdrawn(&mut self) {
        if let Ok(last) = self.instead.try_recv() {
            self.begun = last.into();
            while self.queue.try_recv().is_ok() {}
        }
    }

    /// Returns the next chunk without removing it, if it has arrived; otherwise notes that the shard waits for it.
    pub(crate) fn peek(&mut self) -> Option<&Chunk> {
        while self.begun.is_empty() {
            // First, so that a page which comes meanwhile takes it back.
            self.progress.await_page(true);
            match self.queue.try_recv() {
                Ok(page) => self.begun = page.into(),
                Err(mpsc::error::TryRecvError::Empty) => return None,
                Err(mpsc::error::TryRecvError::Disconnected) => self.begun = self.last_page().into(),
            }
        }
        self.progress.await_page(false);
        self.begun.front()
    }

    /// Returns what a reader that sends no more has left. It may have withdrawn its pages since the last look for that:
    /// its last page comes before it lets go of the queue.
    fn last_page(&mut self) -> Page {
        self.instead.try_recv().unwrap_or_else(|_| vec![Chunk::Died])
    }

    /// Removes the chunk that [`Pages::peek`] returned.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        self.progress.advance();
        self.begun.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn event(position: u64) -> Chunk {
        Chunk::Event(position, Arc::new(crate::event::Draft::new("a", "b", "c").seal(Timestamp::UNIX_EPOCH)))
    }

    fn put(page_channel: &PageChannel, page: Page) {
        page_channel.pages.try_send(page).unwrap();
    }

    /// The shard has looked for withdrawn pages, and handles those that it has.
    #[test]
    fn the_page_in_place_of_the_rest_is_not_missed_by_a_shard_that_handles_pages() {
        let (page_channel, mut pages) = page_channel(Wake::default(), Progress::default());
        put(&page_channel, vec![event(1), event(2)]);
        pages.drop_withdrawn();
        assert!(matches!(pages.peek(), Some(Chunk::Event(1, _))));
        page_channel.withdraw(vec![Chunk::End(Splice::at(7))]);
        let rest: Vec<Chunk> = std::iter::from_fn(|| {
            pages.peek()?;
            pages.take()
        })
        .take(3)
        .collect();
        assert!(matches!(&rest[..], [Chunk::Event(1, _), Chunk::Event(2, _), Chunk::End(_)]), "{rest:?}");
    }

    /// Otherwise a reader that is slow would take its client for one that does not read.
    #[test]
    fn a_shard_makes_no_progress_and_is_not_expected_to_while_it_waits_for_a_page() {
        let progress = Progress::default();
        let (page_channel, mut pages) = page_channel(Wake::default(), progress.clone());
        let begun = page_channel.progress().expect("it has not looked for a page yet");
        assert!(pages.peek().is_none());
        assert_eq!(page_channel.progress(), None);
        page_channel.reserve().now_or_never().flatten().unwrap().put(vec![event(1)]);
        assert_eq!(page_channel.progress(), Some(begun), "a page has come");
        assert!(pages.peek().is_some());
        assert_eq!(page_channel.progress(), Some(begun), "it is being handled");
        assert!(pages.take().is_some());
        assert!(page_channel.progress().is_some_and(|handled| handled != begun));
        assert!(pages.peek().is_none());
        assert_eq!(page_channel.progress(), None);
        page_channel.withdraw(vec![Chunk::End(Splice::at(7))]);
        assert!(progress.count().is_some(), "the last one has come");
    }

    #[test]
    fn a_reader_that_is_gone_without_a_word_has_died() {
        let (page_channel, mut pages) = page_channel(Wake::default(), Progress::default());
        put(&page_channel, vec![event(1)]);
        drop(page_channel);
        pages.drop_withdrawn();
        assert!(pages.peek().is_some() && pages.take().is_some());
        assert!(matches!(pages.peek(), Some(Chunk::Died)));
    }
}
