//! Caches pages of the stream, so that concurrent replays read and parse each page only once.
//!
//! After a node restarts, hundreds of clients reconnect and request the same minutes. Each reads them at its own pace
//! and tracks its own deliveries, but the pages are the same: a page begins at a position that is a multiple of
//! [`BLOCK`], or where a page that reached its byte limit ended before the next such position. So wherever a replay
//! begins, it soon reads the same pages as others.
//!
//! Contract: at most [`BYTES`] are cached; the oldest page is evicted first. A replay that needs a page already being
//! read waits for that read and shares its failure ([`Shared`]). A page that reached the end of the stream is valid for
//! [`FRESH`] only, since more messages may have arrived. If the stream was deleted and made anew, its pages are dropped
//! as soon as an [`Extent`] shows it: both name the stream's *era*.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::pages::{self, Begin, PageError};
use super::shared::Shared;
use super::source::Source;
use crate::clock;
use crate::cluster::wire::{self, Kind, NodePosition};
use crate::event::Event;
use crate::logging::summary::Summary;

/// Maximum number of messages per page; pages begin at multiples of it.
const BLOCK: u64 = 256;

/// Maximum size of the cached messages, in bytes.
const BYTES: usize = 32 << 20;

/// Maximum number of cached pages, including short and unreadable ones.
const PAGES: usize = 4096;

/// How long the last page of the stream is valid.
const FRESH: Duration = Duration::from_millis(20);

/// How long the extent of the stream is valid.
const INFO_FRESH: Duration = Duration::from_secs(1);

/// How much later than stored the Time of an event may be from which a client resumes: a little less than the history
/// accepts, because the clocks of servers differ.
const RESUMABLE: SignedDuration = SignedDuration::from_secs(270);

/// How long a failure to read is remembered.
const FAILED: Duration = Duration::from_millis(100);

/// A parsed message of the stream.
#[derive(Debug)]
pub(super) struct Parsed {
    /// The sequence number of the message in the stream.
    pub(super) position: u64,
    /// When the message was stored.
    pub(super) time: Timestamp,
    /// Its node, number and kind; `None` if it is not a message of a node, which was counted when it was received.
    pub(super) read: Option<(NodePosition, Kind)>,
    /// The event, if it is one and can be parsed.
    pub(super) event: Option<Arc<Event>>,
}

/// A page of consecutive messages.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) messages: Vec<Parsed>,
    /// The position of the next page.
    pub(super) next: u64,
    /// Whether the page reached the end of the stream.
    pub(super) is_last: bool,
    /// When it had been read.
    pub(super) came: Instant,
    /// The era of the stream that it was read from.
    pub(super) era: u64,
    bytes: usize,
}

/// The extent of the stream at some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// The time from which on it holds everything that was published.
    pub(super) whole_since: Timestamp,
    /// Whether it held more before.
    pub(super) has_dropped: bool,
    /// The position after its last message.
    pub(super) end: u64,
    /// How many times the stream is known to have been made anew.
    pub(super) era: u64,
}

/// A query of the extent.
#[derive(Debug)]
struct Query {
    /// It was not sent before.
    begun: Instant,
    answer: Arc<Shared<Extent>>,
}

type Cell = Arc<Shared<Arc<Block>>>;

#[derive(Debug, Default)]
struct Kept {
    cells: HashMap<u64, Cell>,
    /// Positions of the pages in the order in which they were read, with their sizes in bytes.
    order: VecDeque<(u64, usize)>,
    bytes: usize,
    query: Option<Query>,
    /// When the stream was created, as the server writes it.
    created: Option<String>,
    era: u64,
}

/// Parsed pages of the stream, shared by concurrent replays. At most [`BYTES`].
#[derive(Debug)]
pub(super) struct PageCache {
    source: Arc<dyn Source>,
    /// Maximum length of an event in bytes.
    longest: usize,
    kept: Mutex<Kept>,
    /// Limits the log lines about replays that could not be read.
    unreadable: Summary,
}

impl PageCache {
    pub(super) fn new(source: Arc<dyn Source>, longest: usize) -> Self {
        Self { source, longest, kept: Mutex::default(), unreadable: Summary::default() }
    }

    /// Logs that a replay lacks events, unless another such line was logged a moment ago.
    pub(super) fn log(&self, error: &PageError) {
        if let Some(suppressed) = self.unreadable.count(clock::instant()) {
            tracing::warn!(%error, suppressed, "cannot read all events of a replay from the NATS stream");
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.source.is_connected()
    }

    /// Returns the position of a page at or before the first message stored at `time` or later, or the stream's end.
    pub(super) async fn find(&self, time: Timestamp) -> Result<u64, PageError> {
        let first = self.source.read(Begin::Time(time), 1).await?;
        match first.messages.first() {
            Some(first) => Ok(first.sequence - first.sequence % BLOCK),
            None => Ok(self.extent(None).await?.end),
        }
    }

    /// Returns the extent of the stream, which may be [`INFO_FRESH`] old, but was queried later than `after`.
    pub(super) async fn extent(&self, after: Option<Instant>) -> Result<Extent, PageError> {
        let answer = {
            let mut kept = self.kept.lock();
            let is_late = |query: &Query| after.is_none_or(|after| query.begun > after);
            let is_good = |query: &Query| is_late(query) && !query.answer.is_old(|_| INFO_FRESH, FAILED);
            let new = || Query { begun: Instant::now(), answer: Arc::default() };
            let query = kept.query.take().filter(is_good).unwrap_or_else(new);
            Arc::clone(&kept.query.insert(query).answer)
        };
        answer.get(self.look()).await
    }

    async fn look(&self) -> Result<Extent, PageError> {
        let info = self.source.info().await.map_err(|error| PageError::Stream(error.to_string()))?;
        let (whole_since, has_dropped) = (info.whole_since(clock::now()), info.has_dropped());
        let mut kept = self.kept.lock();
        if kept.created.replace(info.created.clone()).is_some_and(|created| created != info.created) {
            let Kept { query, created, era, .. } = std::mem::take(&mut *kept);
            *kept = Kept { query, created, era: era + 1, ..Kept::default() };
        }
        Ok(Extent { whole_since, has_dropped, end: info.state.last_seq + 1, era: kept.era })
    }

    /// Returns the page that begins at a position.
    pub(super) async fn page(&self, position: u64) -> Result<Arc<Block>, PageError> {
        self.cell(position).get(self.read(position)).await
    }

    fn cell(&self, position: u64) -> Cell {
        let mut kept = self.kept.lock();
        let good_for = |block: &Arc<Block>| if block.is_last { FRESH } else { Duration::MAX };
        if let Some(cell) = kept.cells.get(&position).filter(|cell| !cell.is_old(good_for, FAILED)) {
            return Arc::clone(cell);
        }
        let cell = Cell::default();
        kept.cells.insert(position, Arc::clone(&cell));
        cell
    }

    async fn read(&self, position: u64) -> Result<Arc<Block>, PageError> {
        let (most, era) = (BLOCK - position % BLOCK, self.kept.lock().era);
        let page = self.source.read(Begin::Sequence(position), most).await;
        let page = page.inspect_err(|_| self.keep(position, 0))?;
        let bytes = page.messages.iter().map(|stored| stored.message.len()).sum();
        // Deleted messages are skipped, so a page may reach beyond its block: messages of the next block are left to
        // that block's own page.
        let edge = position + most;
        let beyond = page.messages.last().is_some_and(|stored| stored.sequence >= edge);
        let messages: Vec<Parsed> = page
            .messages
            .into_iter()
            .filter(|stored| stored.sequence < edge)
            .map(|stored| self.parse(stored))
            .collect();
        let is_last = page.pending == 0 && !beyond;
        // If the page reached beyond, the rest of this block is empty.
        let behind_last = messages.last().map_or(if is_last { position } else { edge }, |last| last.position + 1);
        let next = if beyond { edge } else { behind_last };
        let block = Arc::new(Block { messages, next, is_last, came: Instant::now(), era, bytes });
        self.keep(position, block.bytes);
        Ok(block)
    }

    fn parse(&self, stored: pages::Stored) -> Parsed {
        let pages::Stored { sequence: position, time, message } = stored;
        let read = wire::read(&message).ok();
        let is_event = matches!(read, Some((_, Kind::Event { .. })));
        let mut event = is_event.then(|| wire::read_replayed(&message, self.longest, time).ok()).flatten();
        let is_resumable = |event: &Event| event.moment().is_some_and(|own| own.duration_since(time) <= RESUMABLE);
        if let Some(event) = event.as_mut().filter(|event| !is_resumable(event)) {
            event.forbid_resuming();
        }
        Parsed { position, time, read, event: event.map(Arc::new) }
    }

    /// Records a page and evicts old ones. Failures are recorded too, with no bytes: they are remembered for a moment.
    fn keep(&self, position: u64, bytes: usize) {
        let mut kept = self.kept.lock();
        // The end of the stream is read again and again: it must not evict older pages.
        if let Some(at) = kept.order.iter().rposition(|(place, _)| *place == position)
            && let Some((_, bytes)) = kept.order.remove(at)
        {
            kept.bytes -= bytes;
        }
        kept.order.push_back((position, bytes));
        kept.bytes += bytes;
        while kept.bytes > BYTES || kept.order.len() > PAGES {
            let Some((oldest, bytes)) = kept.order.pop_front() else { break };
            kept.bytes -= bytes;
            kept.cells.remove(&oldest);
        }
    }
}
