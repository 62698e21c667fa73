//! Pages of the stream that many replays read at the same time, each read from the server and parsed once.
//!
//! After a node has started again hundreds of clients come back and want the same minutes. Each goes through them at
//! its own pace and with its own account of what it was delivered, but the pages are the same: they begin at places
//! that are multiples of [`BLOCK`], or where the bytes of a page ended before the next such place. So whoever begins
//! anywhere soon reads pages that others have read.
//!
//! Contract: at most [`BYTES`] are kept, the oldest page goes first. Whoever asks for a page that is being read waits
//! for that reading, and fails with it ([`Shared`]). A page that reached the end of the stream is good for [`FRESH`]
//! only, since more may have come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::api;
use super::pages::{self, Begin, PageError};
use super::shared::Shared;
use crate::cluster::nats::requests::Requests;
use crate::cluster::wire::{self, Kind, NodePosition};
use crate::event::Event;

/// Messages of a page, and what its beginning is a multiple of.
const BLOCK: u64 = 256;

/// Bytes of the messages that are kept.
const BYTES: usize = 32 << 20;

/// Pages that are kept, short ones and such that could not be read too.
const PAGES: usize = 4096;

/// For how long the end of the stream is taken for its end.
const FRESH: Duration = Duration::from_millis(20);

/// For how long it is believed how the stream is.
const INFO_FRESH: Duration = Duration::from_secs(1);

/// For how long it is believed that something cannot be read.
const FAILED: Duration = Duration::from_millis(100);

/// A message of the stream.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Where it stands.
    pub(super) position: u64,
    /// When it was stored.
    pub(super) time: Timestamp,
    /// Whose it is and what; nothing if it is none of ours, which was counted when it was received.
    pub(super) read: Option<(NodePosition, Kind)>,
    /// The event, if it is one and can be read.
    pub(super) event: Option<Arc<Event>>,
}

/// Messages that stand behind each other.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) messages: Vec<Parsed>,
    /// Where the next page begins.
    pub(super) next: u64,
    /// Whether there was nothing more behind it.
    pub(super) is_last: bool,
    bytes: usize,
}

/// How the stream was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// From when on it holds everything that was published.
    pub(super) whole_since: Timestamp,
    /// The place behind its last message.
    pub(super) end: u64,
}

type Cell = Arc<Shared<Arc<Block>>>;

#[derive(Debug, Default)]
struct Kept {
    cells: HashMap<u64, Cell>,
    /// Pages in the order in which they were read, with their bytes.
    order: VecDeque<(u64, usize)>,
    bytes: usize,
    extent: Arc<Shared<Extent>>,
}

/// Parsed pages of the stream, shared by concurrent replays. At most [`BYTES`].
#[derive(Debug)]
pub(super) struct PageCache {
    requests: Arc<Requests>,
    stream: String,
    /// Bytes of the longest event.
    longest: usize,
    kept: Mutex<Kept>,
}

impl PageCache {
    pub(super) fn new(requests: Arc<Requests>, stream: String, longest: usize) -> Self {
        Self { requests, stream, longest, kept: Mutex::default() }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.requests.is_connected()
    }

    /// The place of a page in which, or before which nothing, was stored at that time or later.
    pub(super) async fn find(&self, time: Timestamp) -> Result<u64, PageError> {
        let first = pages::read(&self.requests, &self.stream, Begin::Time(time), 1).await?;
        match first.messages.first() {
            Some(first) => Ok(first.sequence - first.sequence % BLOCK),
            None => Ok(self.extent().await?.end),
        }
    }

    /// How the stream is, or was a moment ago.
    pub(super) async fn extent(&self) -> Result<Extent, PageError> {
        let extent = {
            let mut kept = self.kept.lock();
            if kept.extent.is_old(|_| INFO_FRESH, FAILED) {
                kept.extent = Arc::default();
            }
            Arc::clone(&kept.extent)
        };
        extent.get(self.look()).await
    }

    async fn look(&self) -> Result<Extent, PageError> {
        let info = api::info(&self.requests, &self.stream).await;
        let info = info.map_err(|error| PageError::Stream(error.to_string()))?;
        Ok(Extent { whole_since: info.whole_since(), end: info.state.last_seq + 1 })
    }

    /// The page that begins at a place.
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
        let most = BLOCK - position % BLOCK;
        let page = pages::read(&self.requests, &self.stream, Begin::Sequence(position), most).await;
        let page = page.inspect_err(|_| self.keep(position, 0))?;
        let bytes = page.messages.iter().map(|stored| stored.message.len()).sum();
        // Messages that were deleted are passed over, so a page may reach beyond its block: what it has of the next one
        // is left to that.
        let edge = position + most;
        let beyond = page.messages.last().is_some_and(|stored| stored.sequence >= edge);
        let messages: Vec<Parsed> = page
            .messages
            .into_iter()
            .filter(|stored| stored.sequence < edge)
            .map(|stored| self.parse(stored))
            .collect();
        let is_last = page.pending == 0 && !beyond;
        // Where the page reached beyond, nothing is left of this block.
        let behind_last = messages.last().map_or(if is_last { position } else { edge }, |last| last.position + 1);
        let next = if beyond { edge } else { behind_last };
        let block = Arc::new(Block { messages, next, is_last, bytes });
        self.keep(position, block.bytes);
        Ok(block)
    }

    fn parse(&self, stored: pages::Stored) -> Parsed {
        let pages::Stored { sequence: position, time, message } = stored;
        let read = wire::read(&message).ok();
        let is_event = matches!(read, Some((_, Kind::Event { .. })));
        let event = is_event.then(|| wire::read_replayed(&message, self.longest, time).ok()).flatten();
        Parsed { position, time, read, event: event.map(Arc::new) }
    }

    /// What cannot be read is kept too: it is remembered for a moment.
    fn keep(&self, position: u64, bytes: usize) {
        let mut kept = self.kept.lock();
        // The end of the stream is read again and again: it must not push older pages out.
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
