//! One replay: reads the stream from a time on, page by page, up to the point where the in-memory history takes over.
//!
//! The stream is read to its end, then further until it has delivered everything that the node had accepted by then
//! ([`Delivered::missing`]). Then the reader waits until the node has accepted the events that so far only the stream
//! has delivered, and compares the history with what was delivered ([`Handoff`]). Events that never arrive are reported
//! as a gap: a client never waits for ever. The waits only count while there is no progress: on a busy machine a replay
//! is slow, but not incomplete.
//!
//! A replay begins [`OVERLAP`] before the requested time: at the first message that was stored at that time or later,
//! or whose event's own Time is that late. To find such an event even if its producer's clock is ahead, reading begins
//! where the history says that such events may have been accepted, or [`LEAD`] earlier.
//!
//! A range that is read again begins in the same way, and ends where it is told to. What the stream has dropped of it
//! since is reported: the message of the first event that was given must still be there.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::cache::{Block, Extent, PageCache, Parsed};
use super::error::ReadError;
use super::filling::{self, Hole, Search, message_of, position_of};
use super::handoff::{GRACE, Goal, Handoff, LAG, LEAD, OVERLAP, POLL_INTERVAL, start};
use super::pages::PageError;
use super::progress::reserve;
use super::tries::Tries;
use crate::broker::Broker;
use crate::broker::archive::{Chunk, Page, PageChannel, PagePermit, Reading};
use crate::broker::gap::Gap;
use crate::broker::history::by_any_clock;
use crate::broker::origin::{Origin, Trace};
use crate::broker::splice::{Delivered, Splice};
use crate::clock;
use crate::cluster::nats::requests::AwayError;
use crate::cluster::wire::Kind;

/// Maximum number of events in the last page.
const NEAR: usize = 64;

/// What a reader needs: the pages of the stream and the broker.
pub(super) struct ReaderOptions {
    pub(super) pages: Arc<PageCache>,
    /// The number of recent endpoint events by which a duplicate is recognized.
    pub(super) window: usize,
    pub(super) broker: Weak<Broker>,
}

/// The task that reads one replay from the `JetStream` stream.
pub(super) struct Reader {
    pages: Arc<PageCache>,
    broker: Weak<Broker>,
    reading: Reading,
    /// The requested time minus [`OVERLAP`].
    from: Timestamp,
    delivered: Delivered,
    search: Search,
    /// The next position to read; `None` until the first one is found.
    next: Option<u64>,
    /// How much longer to wait for events that this node is about to accept.
    grace: Duration,
    /// How much longer to wait, at the end, for what the stream has delivered before this node has accepted it.
    settling: Duration,
    /// How much longer to read on, at the end, because the history does not reach back to it, or because the stream
    /// does not reach as far as before.
    lag: Duration,
    /// Whether the reader has checked what the stream does not hold of the requested time.
    bounded: bool,
    /// The position of the last message read.
    last: Option<u64>,
    /// When that message was stored.
    seen: Timestamp,
}

impl Reader {
    pub(super) fn new(options: ReaderOptions, reading: Reading) -> Self {
        let ReaderOptions { pages, window, broker } = options;
        Self {
            pages,
            broker,
            from: reading.time.checked_sub(OVERLAP).unwrap_or(reading.time),
            delivered: Delivered::new(window),
            search: Search::new(reading.brought.clone()),
            next: None,
            grace: GRACE,
            settling: GRACE,
            lag: LAG,
            bounded: false,
            last: None,
            seen: reading.time,
            reading,
        }
    }

    /// Returns the gap of what was not read, up to the beginning of the history.
    fn rest(&self, broker: &Broker) -> Gap {
        let to = broker.history().oldest().unwrap_or_else(clock::now);
        Gap { from: Some(self.seen), to: to.max(self.seen), events: None }
    }

    /// Counts that the stream cannot be read, and logs the reason.
    pub(super) fn failed(&self, reason: Option<&PageError>) -> Result<(), ReadError> {
        self.broker()?.metrics().nats.replay_failures.inc();
        reason.into_iter().for_each(|error| self.pages.log(error));
        Ok(())
    }

    /// Sends what the stream holds, and the end.
    pub(super) async fn read_all(&mut self, page_channel: &PageChannel) -> Result<(), ReadError> {
        let mut goal: Option<Goal> = None;
        loop {
            let permit = reserve(page_channel).await?;
            let (mut page, is_last) = if self.is_done() { (Page::new(), true) } else { self.read_page().await? };
            // What waits for the client together with the end should not be much: the history turns over meanwhile.
            let is_near = is_last && (page.len() <= NEAR || !self.may_read_on());
            let end = if is_near { self.end(&mut goal, page.is_empty()).await? } else { None };
            let has_ended = end.is_some();
            page.extend(end.into_iter().flatten());
            self.hand_over(permit, page)?;
            if has_ended {
                return Ok(());
            }
            if is_near {
                sleep(POLL_INTERVAL).await;
            }
        }
    }

    /// Reads the next page. Returns its chunks, and whether it reaches the end.
    async fn read_page(&mut self) -> Result<(Page, bool), ReadError> {
        let (block, missing) = self.fetch_bounded().await?;
        let mut page: Page = missing.map(Chunk::Gap).into_iter().collect();
        let mut holes = Vec::new();
        self.take(&block, &mut page, &mut holes);
        let page = self.fill(page, &holes).await?;
        Ok((page, block.is_last || self.is_done()))
    }

    /// Returns whether a range that is read again was read to its end.
    fn is_done(&self) -> bool {
        let reached = self.last.map_or(0, |last| position_of(last, 0) + 1);
        self.reading.until.is_some_and(|until| reached >= until)
    }

    /// Returns the last chunks, unless the stream has to be read further.
    async fn end(&mut self, goal: &mut Option<Goal>, is_idle: bool) -> Result<Option<Page>, ReadError> {
        if self.reading.until.is_some() {
            return self.end_again(is_idle).await;
        }
        let mut settling = self.settling;
        let handoff = self.handoff()?;
        let assessed = handoff.assess(goal.take());
        if !assessed.is_reached() {
            *goal = Some(assessed.waited());
            return Ok(None);
        }
        handoff.settle(&mut settling).await;
        // If the history has turned over since, the stream may have delivered as much as the node has now.
        let joined = handoff.join(&assessed).or_else(|| handoff.join(&handoff.assess(None)));
        self.settling = settling;
        let (gap, splice) = match joined {
            Some(joined) => joined,
            None if !assessed.patience.is_zero() && self.may_read_on() => return Ok(None),
            None => {
                let splice = self.handoff()?.splice();
                (Some(self.rest(&*self.broker()?)), splice)
            }
        };
        Ok(Some(gap.map(Chunk::Gap).into_iter().chain([Chunk::End(splice)]).collect()))
    }

    /// The same for a range that is read again. Whoever answers now may be behind the one that answered before.
    async fn end_again(&mut self, is_idle: bool) -> Result<Option<Page>, ReadError> {
        if !is_idle {
            self.lag = LAG;
        }
        let is_done = self.is_done();
        if !is_done && self.may_read_on() {
            return Ok(None);
        }
        let gone = (!is_done).then(|| Gap { from: Some(self.seen), to: clock::now(), events: None });
        let end = Chunk::End(self.splice_if_handled().await?);
        Ok(Some(gone.map(Chunk::Gap).into_iter().chain([end]).collect()))
    }

    /// Returns whether there is time for one more look at the end of the stream.
    fn may_read_on(&mut self) -> bool {
        self.lag = self.lag.saturating_sub(POLL_INTERVAL);
        !self.lag.is_zero()
    }

    /// Returns the last page of a replay that ends before the end of the stream. The gap of what was not read begins
    /// here or, if some of what was read is `withdrawn`, at an unknown time.
    pub(super) async fn break_off(&mut self, withdrawn: bool) -> Result<Page, ReadError> {
        let mut settling = self.settling;
        self.handoff()?.settle(&mut settling).await;
        let is_all_handled = !withdrawn && self.reading.until.is_none();
        let splice = if is_all_handled {
            self.handoff()?.splice_beside(|_, _| None).await
        } else {
            self.splice_if_handled().await?
        };
        let rest = self.rest(&*self.broker()?);
        let gap = Gap { from: rest.from.filter(|_| !withdrawn), ..rest };
        Ok(vec![Chunk::Gap(gap), Chunk::End(splice)])
    }

    /// Returns where the history takes over from a client that may not handle all of the last pages: they may be
    /// withdrawn, and the last message of a range that is read again may bring more than was requested. While the first
    /// read has not ended, nobody continues there.
    async fn splice_if_handled(&self) -> Result<Splice, ReadError> {
        if self.reading.until.is_some() && self.reading.brought.is_none() {
            return Ok(Splice::at(self.broker()?.history().first().max(self.reading.first)));
        }
        let last = self.delivered.last_positions();
        Ok(self.handoff()?.splice_beside(|trace, event| last.position(trace, event)).await)
    }

    fn handoff(&self) -> Result<Handoff<'_>, ReadError> {
        Ok(Handoff { broker: self.broker()?, reading: &self.reading, delivered: &self.delivered })
    }

    /// Fills the holes of a page from the history, after waiting for events that this node may be about to accept.
    async fn fill(&mut self, page: Page, holes: &[Hole]) -> Result<Page, ReadError> {
        if holes.is_empty() {
            return Ok(page);
        }
        while !self.grace.is_zero() && filling::is_on_its_way(holes, &self.broker()?.frontier(), clock::instant()) {
            sleep(POLL_INTERVAL).await;
            self.grace = self.grace.saturating_sub(POLL_INTERVAL);
        }
        let history = Arc::clone(self.broker()?.history());
        Ok(filling::fill(page, holes, &history, &mut self.search, &mut self.delivered))
    }

    fn broker(&self) -> Result<Arc<Broker>, ReadError> {
        self.broker.upgrade().ok_or(ReadError::Gone)
    }

    fn hand_over(&mut self, permit: PagePermit<'_>, page: Page) -> Result<(), ReadError> {
        let broker = self.broker()?;
        let events = page.iter().filter(|chunk| matches!(chunk, Chunk::Event(..))).count();
        broker.metrics().nats.replay_pages.inc();
        broker.metrics().nats.replay_events.inc_by(events as u64);
        if !page.is_empty() {
            self.delivered.send_page();
            permit.put(page);
        }
        Ok(())
    }

    /// Reads the next page and retries for a while on failure. A replay that has just begun does not wait for NATS.
    async fn fetch(&mut self) -> Result<Arc<Block>, ReadError> {
        if self.last.is_none() && !self.pages.is_connected() {
            return Err(ReadError::Unreadable(AwayError.into()));
        }
        let tries = Tries::begin();
        loop {
            match self.page().await {
                Ok(block) => return Ok(block),
                Err(error) => tries.failed(error).await.map_err(ReadError::Unreadable)?,
            }
        }
    }

    async fn page(&mut self) -> Result<Arc<Block>, PageError> {
        let position = match self.next {
            Some(position) => position,
            None => *self.next.insert(self.pages.find(start(&self.reading)).await?),
        };
        self.pages.page(position).await
    }

    /// Reads the next page. With the first one, returns the gap of what the stream never had or no longer holds of the
    /// requested time: what it holds after that page was read it held then.
    async fn fetch_bounded(&mut self) -> Result<(Arc<Block>, Option<Gap>), ReadError> {
        loop {
            let block = self.fetch().await?;
            if self.bounded {
                return Ok((block, None));
            }
            let extent = self.extent(&block).await?;
            if block.era == extent.era {
                self.bounded = true;
                return Ok((block, self.lacks(&extent)));
            }
            // The page is of a stream that was deleted since.
            self.next = None;
        }
    }

    /// Returns the gap of what the stream never had or no longer holds of the requested time.
    ///
    /// The server's clock may be behind those of the nodes, which know when its stream was created, but not when it
    /// stored what it has dropped since. The time of a position allows for that already.
    fn lacks(&self, extent: &Extent) -> Option<Gap> {
        let Reading { time, begin, until, .. } = self.reading;
        let is_exact = !extent.has_dropped || begin == Some(time);
        let earliest = if is_exact { time } else { by_any_clock(time) };
        let lacks = earliest < extent.whole_since && until.is_none();
        lacks.then(|| Gap { from: Some(time), to: extent.whole_since.max(time), events: None })
    }

    async fn extent(&self, block: &Block) -> Result<Extent, ReadError> {
        let tries = Tries::begin();
        loop {
            match self.pages.extent(Some(block.came)).await {
                Ok(extent) => return Ok(extent),
                Err(error) => tries.failed(error).await.map_err(ReadError::Unreadable)?,
            }
        }
    }

    /// Adds the events of a block to the page and records holes, up to the end of the requested range.
    fn take(&mut self, block: &Block, page: &mut Page, holes: &mut Vec<Hole>) {
        for parsed in &block.messages {
            if self.skips_to(parsed.position) {
                page.push(Chunk::Gap(Gap { from: Some(self.seen), to: parsed.time.max(self.seen), events: None }));
                // What follows the dropped messages was given before, so it is requested.
                self.delivered.begin();
            }
            let is_beyond = self.reading.until.is_some_and(|until| parsed.position > message_of(until - 1));
            if is_beyond {
                self.last = Some(parsed.position);
                return;
            }
            self.last = Some(parsed.position);
            self.seen = self.seen.max(parsed.time);
            if parsed.time >= self.from {
                self.delivered.begin();
            }
            self.accept_one(parsed, page, holes);
            if self.is_done() {
                return;
            }
        }
        self.next = Some(block.next);
    }

    /// Returns whether the stream has dropped messages of the requested range before this one.
    fn skips_to(&self, message: u64) -> bool {
        match self.last.filter(|_| self.delivered.has_begun()) {
            Some(last) => message > last + 1,
            None => self.reading.given.is_some_and(|given| message > message_of(given)),
        }
    }

    fn accept_one(&mut self, parsed: &Parsed, page: &mut Page, holes: &mut Vec<Hole>) {
        let Some((position, kind)) = &parsed.read else { return };
        let (node, number, at) = (position.node, position.number, position_of(parsed.position, 0));
        let (numbers, event) = match (kind, &parsed.event) {
            (Kind::Heartbeat(beat), _) if beat.greets => return,
            (Kind::Heartbeat(_), _) => (self.delivered.reach(node, number, parsed.time), None),
            // An event that cannot be parsed is missing too.
            (Kind::Event { .. }, None) => (self.delivered.lack(node, number, parsed.time), None),
            (Kind::Event { repeat_index, .. }, Some(event)) => {
                let trace = Trace { origin: Origin { node, number }, repeat_index: *repeat_index };
                if event.moment().is_some_and(|time| self.is_asked_for(time, parsed.time)) {
                    self.delivered.begin();
                }
                let comparison = self.delivered.event(trace, event, at, parsed.time);
                (comparison.skipped, comparison.new.then(|| Arc::clone(event)))
            }
        };
        if self.delivered.has_begun() {
            if !numbers.is_empty() {
                holes.push(Hole { at: page.len(), node, numbers, message: parsed.position, stored: parsed.time });
            }
            page.extend(event.map(|event| Chunk::Event(at, event)));
        }
    }

    /// Returns whether an event's own Time makes it a requested one; clocks that are too far ahead do not count.
    fn is_asked_for(&self, time: Timestamp, stored: Timestamp) -> bool {
        time >= self.from && stored.checked_add(LEAD).is_ok_and(|latest| time <= latest)
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
pub(super) mod tests;

#[cfg(test)]
#[path = "clock_tests.rs"]
mod clock_tests;
#[cfg(test)]
#[path = "whole_tests.rs"]
mod whole_tests;
