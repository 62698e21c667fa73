//! Archives: where replays come from that begin before the in-memory history does.
//!
//! An [`Archive`] reads on a task of its own and hands over one [`Page`] at a time. It reads the next page once the
//! shard has started the previous one ([`PAGES`] wait in between), so a slow client holds two pages in memory, not the
//! archive. The last page says where the replay continues in the history and what to leave out there ([`Splice`]).
//!
//! Contract: pages come in the archive's order with rising positions. What cannot be read is reported as a gap in its
//! place. Nothing comes after the end. Reading again yields the same events up to a given position. The shard never
//! waits: it takes a page that is ready, and is woken when one arrives.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::gap::Gap;
use super::splice::Splice;
use crate::event::Event;

/// Pages that wait to be taken.
const PAGES: usize = 1;

/// Positions in an archive are below this one.
pub const POSITIONS: u64 = 1 << 62;

/// A part of a replay.
#[derive(Debug)]
pub enum Chunk {
    /// An event and its position in the archive.
    Event(u64, Arc<Event>),
    /// Something is missing here.
    Gap(Gap),
    /// Nothing comes any more; tells how to go on, unless the archive was read again.
    End(Option<Splice>),
}

/// Pieces that were read together.
pub type Page = Vec<Chunk>;

/// What is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// From this time on.
    pub time: Timestamp,
    /// Nothing that is wanted was stored much earlier than this, if that is known.
    pub begin: Option<Timestamp>,
    /// From this number on the recent past is wanted, as far as it is retained.
    pub first: u64,
    /// Up to this position, which is excluded, and not to the recent past: it was read before.
    pub until: Option<u64>,
}

/// Wakes whoever waits for pages.
#[derive(Clone)]
pub struct Wake(Arc<dyn Fn() + Send + Sync>);

impl Wake {
    /// One that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes it.
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
    /// Begins to read, and fills `page_channel`. Returns at once.
    fn read(&self, reading: Reading, page_channel: PageChannel);
}

/// The end of whoever reads.
#[derive(Debug)]
pub struct PageChannel {
    pages: mpsc::Sender<Page>,
    wake: Wake,
}

/// Room for one page.
#[derive(Debug)]
pub struct PagePermit<'d> {
    permit: mpsc::Permit<'d, Page>,
    wake: &'d Wake,
}

/// The end of the shard.
#[derive(Debug)]
pub struct Pages {
    pages: mpsc::Receiver<Page>,
    begun: VecDeque<Chunk>,
}

/// The two ends.
pub fn page_channel(wake: Wake) -> (PageChannel, Pages) {
    let (sender, receiver) = mpsc::channel(PAGES);
    (PageChannel { pages: sender, wake }, Pages { pages: receiver, begun: VecDeque::new() })
}

impl PageChannel {
    /// Waits until a page may be handed over; nothing if nobody wants one any more.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is given up.
    pub async fn reserve(&self) -> Option<PagePermit<'_>> {
        let permit = self.pages.reserve().await.ok()?;
        Some(PagePermit { permit, wake: &self.wake })
    }
}

impl PagePermit<'_> {
    /// Hands a page over.
    pub fn put(self, page: Page) {
        self.permit.send(page);
        self.wake.wake();
    }
}

impl Pages {
    /// The next chunk stays; nothing if it is not there yet. A reader that died ends like one that read again.
    pub(crate) fn peek(&mut self) -> Option<&Chunk> {
        while self.begun.is_empty() {
            match self.pages.try_recv() {
                Ok(page) => self.begun = page.into(),
                Err(mpsc::error::TryRecvError::Empty) => return None,
                Err(mpsc::error::TryRecvError::Disconnected) => self.begun.push_back(Chunk::End(None)),
            }
        }
        self.begun.front()
    }

    /// The chunk that was looked at.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        self.begun.pop_front()
    }
}
