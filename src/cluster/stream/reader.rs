//! One replay: reads the stream from a time on, page by page, up to the point where the in-memory history takes over.
//!
//! The stream is read to its end, then further until it has delivered everything that the node had accepted by then
//! ([`Delivered::missing`]). Then the reader waits until the node has accepted the events that so far only the stream
//! has delivered, and compares the history with what was delivered. The guarantees of this splice are stated and tested
//! in [`crate::broker::splice`]. Events that never arrive are reported as a gap: a client never waits for ever. The
//! waits only count while there is no progress: on a busy machine a replay is slow, but not incomplete.
//!
//! A replay begins [`OVERLAP`] before the requested time: at the first message that was stored at that time or later,
//! or whose event's own Time is that late. To find such an event even if its producer's clock is ahead, reading begins
//! where the history says that such events may have been accepted, or [`LEAD`] earlier.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{sleep, timeout};

use super::cache::{Block, PageCache, Parsed};
use super::filling::{self, Hole, Search};
use super::pages::PageError;
use super::tries::Tries;
use crate::broker::archive::{Chunk, Page, PageChannel, PagePermit, Reading};
use crate::broker::gap::Gap;
use crate::broker::origin::{Mark, Origin, Trace};
use crate::broker::splice::{Delivered, Missing, Splice, WINDOW};
use crate::broker::{Broker, Frontier};
use crate::clock;
use crate::cluster::nats::requests::AwayError;
use crate::cluster::wire::Kind;
use crate::event::Event;

/// How far a producer's clock may be ahead of the NATS server's: the limit of the history, plus the possible difference
/// of the two clocks.
const LEAD: SignedDuration = SignedDuration::from_secs(330);

/// How much earlier than requested a replay begins. The order of the stream is not that of the client's former node:
/// events that node had yet to accept when it delivered its last event may have been stored this much earlier.
const OVERLAP: SignedDuration = SignedDuration::from_secs(5);

/// How long the end of the stream may lag behind what the node has accepted without progress; heartbeats come every two
/// seconds.
const LAG: Duration = Duration::from_secs(6);

/// How long the node may lag behind the stream without progress.
const GRACE: Duration = Duration::from_secs(3);

/// Interval between two checks while either lags.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long a client may accept nothing before its replay is aborted in favour of others.
pub(super) const STALL: Duration = Duration::from_mins(1);

/// Number of retained events compared at a time.
const PORTION: usize = 512;

/// Why a replay ends early.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The client or the broker is gone.
    Gone,
    /// The stream cannot be read.
    Unreadable(PageError),
    /// The client does not read.
    Stalled,
    /// Too many other replays are in progress.
    Busy,
}

/// What a reader needs: the pages of the stream and the broker.
pub(super) struct ReaderOptions {
    pub(super) pages: Arc<PageCache>,
    /// The number of recent endpoint events by which a duplicate is recognized.
    pub(super) window: usize,
    pub(super) broker: Weak<Broker>,
}

/// What the stream has yet to deliver at its end.
struct Goal {
    frontier: Frontier,
    missing: Missing,
    /// The part of it that neither the stream nor the history holds.
    gap: Option<Gap>,
    /// How much longer to wait for it.
    patience: Duration,
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
    /// Whether the reader has checked what the stream does not hold of the requested time.
    bounded: bool,
    /// Whether the first requested message has been reached.
    begun: bool,
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
            search: Search::default(),
            next: None,
            grace: GRACE,
            bounded: false,
            begun: false,
            last: None,
            seen: reading.time,
            reading,
        }
    }

    /// Returns the gap of what was not read, up to the beginning of the history.
    pub(super) fn rest(&self, broker: &Broker) -> Gap {
        Gap { from: Some(self.seen), to: broker.history().oldest().unwrap_or_else(clock::now), events: None }
    }

    /// Counts and logs that the stream cannot be read. Returns the gap of what was not read.
    pub(super) fn failed(&self, error: &PageError) -> Result<Gap, ReadError> {
        let broker = self.broker()?;
        broker.metrics().nats.replay_failures.inc();
        self.pages.log(error);
        Ok(self.rest(&broker))
    }

    /// Returns the gap of what was not read, and of what was read but withdrawn.
    pub(super) fn unhandled(&self, broker: &Broker) -> Gap {
        let rest = self.rest(broker);
        Gap { from: None, to: rest.to.max(self.seen), events: None }
    }

    /// Returns whether the replay reads again, for a late registration.
    pub(super) fn is_again(&self) -> bool {
        self.reading.until.is_some()
    }

    /// Sends what the stream holds. Returns the gap of events that the node had but neither stream nor history holds.
    pub(super) async fn read_all(&mut self, page_channel: &PageChannel) -> Result<Option<Gap>, ReadError> {
        let mut goal: Option<Goal> = None;
        loop {
            let permit = reserve(page_channel).await?;
            let block = self.fetch().await?;
            let mut page: Page = self.before_all().await?.map(Chunk::Gap).into_iter().collect();
            let mut holes = Vec::new();
            let ended = self.take(&block, &mut page, &mut holes);
            let page = self.fill(page, &holes).await?;
            self.hand_over(permit, page);
            if ended || (block.is_last && self.reading.until.is_some()) {
                return Ok(None);
            }
            if !block.is_last {
                continue;
            }
            let assessed = self.assess(goal.take())?;
            if assessed.gap.is_none() || assessed.patience.is_zero() {
                return Ok(assessed.gap);
            }
            goal = Some(Goal { patience: assessed.patience.saturating_sub(POLL_INTERVAL), ..assessed });
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Determines what the stream, at its end, lacks of the events that the node had when the reader first got there.
    fn assess(&self, goal: Option<Goal>) -> Result<Goal, ReadError> {
        let (frontier, before) = match goal {
            Some(Goal { frontier, missing, gap, patience }) => (frontier, Some((missing, gap, patience))),
            None => (self.frontier()?, None),
        };
        let now = clock::now();
        let missing = self.delivered.missing(&frontier.watermarks, start(&self.reading), clock::instant());
        if let Some((_, gap, patience)) = before.filter(|(before, ..)| *before == missing) {
            return Ok(Goal { frontier, missing, gap, patience });
        }
        let gap = self.lacks(&missing, now)?;
        Ok(Goal { frontier, missing, gap, patience: LAG })
    }

    /// Returns the gap of events that were not delivered and will not come from the history either.
    fn lacks(&self, missing: &Missing, now: Timestamp) -> Result<Option<Gap>, ReadError> {
        if missing.is_nothing() {
            return Ok(None);
        }
        let history = Arc::clone(self.broker()?.history());
        let lacking = filling::lacking(&missing.numbers, &history, self.reading.first);
        let events = (!missing.unknown && lacking <= WINDOW).then_some(lacking);
        Ok((events != Some(0)).then_some(Gap { from: None, to: now, events }))
    }

    /// Fills the holes of a page from the history, after waiting for events that this node may be about to accept.
    async fn fill(&mut self, page: Page, holes: &[Hole]) -> Result<Page, ReadError> {
        if holes.is_empty() {
            return Ok(page);
        }
        let is_on_its_way = |frontier: &Frontier| {
            let now = clock::instant();
            let alive = |(node, mark): &(u64, Mark)| {
                let late = |hole: &Hole| hole.node == *node && hole.numbers.end.saturating_sub(mark.next) <= WINDOW;
                mark.is_alive(now) && holes.iter().any(|hole| late(hole) && mark.next < hole.numbers.end)
            };
            frontier.watermarks.iter().any(|mark| alive(&mark))
        };
        while !self.grace.is_zero() && is_on_its_way(&self.frontier()?) {
            sleep(POLL_INTERVAL).await;
            self.grace = self.grace.saturating_sub(POLL_INTERVAL);
        }
        let history = Arc::clone(self.broker()?.history());
        Ok(filling::fill(page, holes, &history, &mut self.search, &mut self.delivered))
    }

    pub(super) fn broker(&self) -> Result<Arc<Broker>, ReadError> {
        self.broker.upgrade().ok_or(ReadError::Gone)
    }

    fn frontier(&self) -> Result<Frontier, ReadError> {
        Ok(self.broker()?.frontier())
    }

    fn hand_over(&self, permit: PagePermit<'_>, page: Page) {
        let Some(broker) = self.broker.upgrade() else { return };
        let events = page.iter().filter(|chunk| matches!(chunk, Chunk::Event(..))).count();
        broker.metrics().nats.replay_pages.inc();
        broker.metrics().nats.replay_events.inc_by(events as u64);
        if !page.is_empty() {
            permit.put(page);
        }
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

    /// Returns the gap of what the stream never had or no longer holds of the requested time. Must be called after the
    /// first page was read: what the stream holds now it held then.
    async fn before_all(&mut self) -> Result<Option<Gap>, ReadError> {
        if self.reading.until.is_some() || std::mem::replace(&mut self.bounded, true) {
            return Ok(None);
        }
        let tries = Tries::begin();
        let from = loop {
            match self.pages.extent().await {
                Ok(extent) => break extent.whole_since,
                Err(error) => tries.failed(error).await.map_err(ReadError::Unreadable)?,
            }
        };
        let requested = self.reading.time;
        Ok((requested < from).then_some(Gap { from: Some(requested), to: from, events: None }))
    }

    /// Adds the events of a block to the page and records holes. Returns whether the end of the requested range was
    /// reached.
    fn take(&mut self, block: &Block, page: &mut Page, holes: &mut Vec<Hole>) -> bool {
        for parsed in &block.messages {
            if self.reading.until.is_some_and(|until| parsed.position >= until) {
                return true;
            }
            let deleted = self.last.is_some_and(|last| parsed.position > last + 1);
            if deleted && self.begun {
                page.push(Chunk::Gap(Gap { from: Some(self.seen), to: parsed.time, events: None }));
            }
            self.last = Some(parsed.position);
            self.seen = self.seen.max(parsed.time);
            self.begun |= parsed.time >= self.from;
            self.accept_one(parsed, page, holes);
        }
        self.next = Some(block.next);
        false
    }

    fn accept_one(&mut self, parsed: &Parsed, page: &mut Page, holes: &mut Vec<Hole>) {
        let Some((position, kind)) = &parsed.read else { return };
        let (node, number) = (position.node, position.number);
        let (numbers, event) = match (kind, &parsed.event) {
            (Kind::Heartbeat(beat), _) if beat.greets => return,
            (Kind::Heartbeat(_), _) => (self.delivered.reach(node, number, parsed.time), None),
            (Kind::Event { .. }, None) => {
                // An event that cannot be parsed is missing too.
                let before = self.delivered.reach(node, number, parsed.time);
                let itself = self.delivered.reach(node, number + 1, parsed.time);
                (before.start.min(itself.start)..itself.end, None)
            }
            (Kind::Event { repeat_index, .. }, Some(event)) => {
                let trace = Trace { origin: Origin { node, number }, repeat_index: *repeat_index };
                self.begun |= event.moment().is_some_and(|time| self.is_asked_for(time, parsed.time));
                let comparison = self.delivered.event(trace, event, parsed.time);
                (comparison.skipped, comparison.new.then(|| Arc::clone(event)))
            }
        };
        if self.begun {
            if !numbers.is_empty() {
                holes.push(Hole { at: page.len(), node, numbers, position: parsed.position, stored: parsed.time });
            }
            page.extend(event.map(|event| Chunk::Event(parsed.position, event)));
        }
    }

    /// Returns whether an event's own Time makes it a requested one; clocks that are too far ahead do not count.
    fn is_asked_for(&self, time: Timestamp, stored: Timestamp) -> bool {
        time >= self.from && stored.checked_add(LEAD).is_ok_and(|latest| time <= latest)
    }

    /// Determines where the in-memory history takes over.
    pub(super) async fn join(&self, broker: &Broker) -> Splice {
        let mut frontier = broker.frontier();
        let (mut ahead, mut grace) = (self.delivered.ahead_of(&frontier.watermarks), GRACE);
        while ahead > 0 && !grace.is_zero() {
            sleep(POLL_INTERVAL).await;
            frontier = broker.frontier();
            let before = std::mem::replace(&mut ahead, self.delivered.ahead_of(&frontier.watermarks));
            grace = if ahead < before { GRACE } else { grace.saturating_sub(POLL_INTERVAL) };
        }
        let mut from = broker.history().first().max(self.reading.first);
        let mut splice = Splice::at(from);
        let mut retained = Vec::new();
        while from < frontier.sequence {
            from = broker.history().read(from..frontier.sequence, u64::MAX, PORTION, &mut retained).next;
            let delivered =
                |trace: Option<Trace>, event: &Event| trace.is_some_and(|trace| self.delivered.has(trace, event));
            retained
                .drain(..)
                .filter(|one| delivered(one.trace, &one.event))
                .for_each(|one| splice.leave_out(one.number));
        }
        splice
    }
}

/// Returns the time of the first message that may be requested.
fn start(reading: &Reading) -> Timestamp {
    let Reading { time, begin, .. } = *reading;
    let earliest = begin.or_else(|| time.checked_sub(LEAD).ok()).unwrap_or(time).min(time);
    earliest.checked_sub(OVERLAP).unwrap_or(earliest)
}

/// Waits until the client has accepted the previous page.
pub(super) async fn reserve(page_channel: &PageChannel) -> Result<PagePermit<'_>, ReadError> {
    match timeout(STALL, page_channel.reserve()).await {
        Ok(permit) => permit.ok_or(ReadError::Gone),
        Err(_) => Err(ReadError::Stalled),
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
pub(super) mod tests;
