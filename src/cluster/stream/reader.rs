//! One replay: the stream from a time on, page by page, up to the place where the recent past takes over.
//!
//! The stream is read to its end, then on until it has delivered everything that the node had taken in by then
//! ([`Delivered::missing`]); then the node takes in what the stream delivered and it did not have yet; then the recent past is compared with what
//! was delivered. What holds of the splice is said and tested in [`crate::broker::splice`]. What does not come in time is told as a gap:
//! a client never waits for ever.
//!
//! A replay begins [`OVERLAP`] before the time that was asked for: with the first message that was stored then, or is of an event whose own
//! Time is that, or later. So that such an event is found although its producer's clock is ahead, reading begins where the history says
//! that such events may have been taken in, or [`LEAD`] earlier.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, jetstream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::pages::{self, Begin, PageError, Read, Stored};
use crate::broker::archive::{Chunk, Page, PageChannel, PagePermit, Reading};
use crate::broker::gap::Gap;
use crate::broker::origin::{Origin, Trace};
use crate::broker::splice::{Delivered, Missing, Splice};
use crate::broker::{Broker, Frontier};
use crate::clock;
use crate::cluster::wire;
use crate::cluster::wire::Kind;
use crate::event::Event;

/// How far a producer's clock may be ahead of the NATS server's: as much as counts in the history, and what the two clocks may differ.
const LEAD: SignedDuration = SignedDuration::from_secs(330);

/// How much earlier than asked for a replay begins. The order of the stream is not that of the node the client was at: what that node
/// had yet to take in when it delivered its last event may have been stored this much before it.
const OVERLAP: SignedDuration = SignedDuration::from_secs(5);

/// For how long a page is asked for again and again: a NATS server that starts again is not the end of a replay.
const TRIES: Duration = Duration::from_secs(15);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// For how long the end of the stream may lag behind what the node has taken in; heartbeats come every two seconds.
const LAG: Duration = Duration::from_secs(6);

/// For how long the node may lag behind the stream.
const GRACE: Duration = Duration::from_secs(3);

/// Between two looks while either lags.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// For how long a client may take nothing before others get its turn.
const STALL: Duration = Duration::from_mins(1);

/// For how long a client waits for its turn.
const TURN: Duration = Duration::from_mins(1);

/// Retained events that are compared at a time.
const PORTION: usize = 512;

/// Why a replay does not go on.
#[derive(Debug)]
enum ReadError {
    /// Nobody wants it any more.
    Gone,
    /// The stream cannot be read.
    Unreadable(PageError),
    /// The client does not read.
    Stalled,
    /// Too many others do.
    Busy,
}

/// Which stream a reader reads, and for which broker.
pub(super) struct ReaderOptions {
    pub(super) client: Client,
    pub(super) stream: String,
    /// Events of endpoints by which a duplicate is known.
    pub(super) window: usize,
    /// Bytes of the longest event.
    pub(super) longest: usize,
    pub(super) broker: Weak<Broker>,
}

/// See the module's text.
pub(super) struct Reader {
    client: Client,
    stream: String,
    longest: usize,
    broker: Weak<Broker>,
    reading: Reading,
    /// The time that was asked for, and a little earlier.
    from: Timestamp,
    delivered: Delivered,
    begin: Begin,
    /// Whether it is known what the stream does not hold of what was asked for.
    bounded: bool,
    /// Whether the time that was asked for has come.
    begun: bool,
    /// The last message that was read.
    last: Option<u64>,
    /// When it was stored.
    seen: Timestamp,
}

impl Reader {
    pub(super) fn new(options: ReaderOptions, reading: Reading) -> Self {
        let ReaderOptions { client, stream, window, longest, broker } = options;
        Self {
            client,
            stream,
            longest,
            broker,
            from: reading.time.checked_sub(OVERLAP).unwrap_or(reading.time),
            delivered: Delivered::new(window),
            begin: Begin::Time(start(&reading)),
            bounded: false,
            begun: false,
            last: None,
            seen: reading.time,
            reading,
        }
    }

    /// Runs until everything is handed over or nobody wants it any more.
    pub(super) async fn run(mut self, page_channel: PageChannel, permits: Arc<Semaphore>) {
        let read = match timeout(TURN, permits.acquire()).await {
            Ok(_turn) => self.read_all(&page_channel).await,
            Err(_) => Err(ReadError::Busy),
        };
        let Some(broker) = self.broker.upgrade() else { return };
        let missing = match read {
            Ok(missing) => (!missing.is_nothing()).then(|| Gap {
                from: None,
                to: clock::now(),
                events: (!missing.unknown).then_some(missing.events),
            }),
            Err(ReadError::Gone) => return,
            Err(ReadError::Stalled) => Some(self.rest(&broker)),
            Err(ReadError::Busy) => {
                broker.metrics().nats.replay_failures.inc();
                Some(self.rest(&broker))
            }
            Err(ReadError::Unreadable(error)) => {
                broker.metrics().nats.replay_failures.inc();
                tracing::warn!(%error, stream = self.stream, "a replay cannot be read to its end");
                Some(self.rest(&broker))
            }
        };
        let Some(permit) = page_channel.reserve().await else { return };
        let splice = match self.reading.until {
            Some(_) => None,
            None => Some(self.join(&broker).await),
        };
        permit.put(missing.map(Chunk::Gap).into_iter().chain([Chunk::End(splice)]).collect());
    }

    /// The gap from here to the recent past.
    fn rest(&self, broker: &Broker) -> Gap {
        Gap { from: Some(self.seen), to: broker.history().oldest().unwrap_or_else(clock::now), events: None }
    }

    /// Hands over what the stream holds. Returns what it does not hold although the node had it.
    async fn read_all(&mut self, page_channel: &PageChannel) -> Result<Missing, ReadError> {
        let mut goal: Option<(Frontier, Instant)> = None;
        loop {
            let permit = reserve(page_channel).await?;
            let read = self.fetch().await?;
            let (drained, empty) = (read.pending == 0, read.messages.is_empty());
            let mut page: Page = self.before_all().await?.map(Chunk::Gap).into_iter().collect();
            let ended = self.accept(read, &mut page);
            self.hand_over(permit, page);
            if ended || (drained && self.reading.until.is_some()) {
                return Ok(Missing::default());
            }
            if !drained {
                continue;
            }
            let (frontier, since) = match &goal {
                Some(goal) => goal,
                None => goal.insert((self.frontier()?, Instant::now())),
            };
            let missing = self.delivered.missing(&frontier.watermarks, clock::now());
            if missing.is_nothing() || since.elapsed() > LAG {
                return Ok(missing);
            }
            if empty {
                sleep(POLL_INTERVAL).await;
            }
        }
    }

    fn frontier(&self) -> Result<Frontier, ReadError> {
        Ok(self.broker.upgrade().ok_or(ReadError::Gone)?.frontier())
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

    /// The next page; asked for again for a while if it does not come. Who has just begun is not kept waiting for NATS.
    async fn fetch(&mut self) -> Result<Read, ReadError> {
        if self.last.is_none() && self.client.connection_state() != State::Connected {
            return Err(ReadError::Unreadable(PageError::Away("no connection".to_owned())));
        }
        let end = Instant::now() + TRIES;
        loop {
            match pages::read(&self.client, &self.stream, self.begin).await {
                Ok(read) => return Ok(read),
                Err(error) if Instant::now() > end => return Err(ReadError::Unreadable(error)),
                Err(error) => tracing::debug!(%error, "a page of the stream did not come"),
            }
            sleep(PAUSE).await;
        }
    }

    /// What the stream has never had or does not hold any more of what was asked for. To be asked after the first page was read:
    /// what is there now was there then.
    async fn before_all(&mut self) -> Result<Option<Gap>, ReadError> {
        if self.reading.until.is_some() || std::mem::replace(&mut self.bounded, true) {
            return Ok(None);
        }
        let info = jetstream::new(self.client.clone()).get_stream(&self.stream).await;
        let info = info.map_err(|error| ReadError::Unreadable(PageError::Away(error.to_string())))?;
        let info = info.cached_info();
        let whole = info.state.first_sequence <= 1;
        let from = if whole { info.created } else { info.state.first_timestamp };
        let from = Timestamp::from_nanosecond(from.unix_timestamp_nanos()).unwrap_or(Timestamp::MAX);
        let requested = self.reading.time;
        Ok((requested < from).then_some(Gap { from: Some(requested), to: from, events: None }))
    }

    /// Adds what the messages are to the page. Returns whether the end of what is wanted was reached.
    fn accept(&mut self, read: Read, page: &mut Page) -> bool {
        for stored in read.messages {
            if self.reading.until.is_some_and(|until| stored.sequence >= until) {
                return true;
            }
            let deleted = self.last.is_some_and(|last| stored.sequence > last + 1);
            if deleted && self.begun {
                page.push(Chunk::Gap(Gap { from: Some(self.seen), to: stored.time, events: None }));
            }
            self.begin = Begin::Sequence(stored.sequence + 1);
            self.last = Some(stored.sequence);
            self.seen = self.seen.max(stored.time);
            self.begun |= stored.time >= self.from;
            self.accept_one(&stored, page);
        }
        false
    }

    fn accept_one(&mut self, stored: &Stored, page: &mut Page) {
        // What is no message of a node was counted when it was received.
        let Ok((position, kind)) = wire::read(&stored.message) else { return };
        let (missing, event) = match kind {
            Kind::Heartbeat(_) => (self.delivered.reach(position.node, position.number, stored.time), None),
            Kind::Event { repeat_index } => {
                let origin = Origin { node: position.node, number: position.number };
                self.accept_event(stored, Trace { origin, repeat_index })
            }
        };
        if self.begun {
            let gap = Gap { from: None, to: stored.time, events: Some(missing) };
            page.extend((missing > 0).then_some(Chunk::Gap(gap)));
            page.extend(event.map(|event| Chunk::Event(stored.sequence, Arc::new(event))));
        }
    }

    /// How many events are missing before and instead of this one, and the event if it is new.
    fn accept_event(&mut self, stored: &Stored, trace: Trace) -> (u64, Option<Event>) {
        let Ok(event) = wire::read_replayed(&stored.message, self.longest, stored.time) else {
            let Origin { node, number } = trace.origin;
            let before = self.delivered.reach(node, number, stored.time);
            self.delivered.reach(node, number + 1, stored.time);
            return (before + 1, None);
        };
        self.begun |= event.moment().is_some_and(|time| self.is_asked_for(time, stored.time));
        let comparison = self.delivered.event(trace, &event, stored.time);
        (comparison.missing, comparison.new.then_some(event))
    }

    /// Whether an event's own Time makes it the first one; a clock that is far ahead does not count.
    fn is_asked_for(&self, time: Timestamp, stored: Timestamp) -> bool {
        time >= self.from && stored.checked_add(LEAD).is_ok_and(|latest| time <= latest)
    }

    /// Where the recent past takes over.
    async fn join(&self, broker: &Broker) -> Splice {
        let end = Instant::now() + GRACE;
        let mut frontier = broker.frontier();
        while !self.delivered.is_within(&frontier.watermarks) && Instant::now() < end {
            sleep(POLL_INTERVAL).await;
            frontier = broker.frontier();
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

/// The time of the first message that may be wanted.
fn start(reading: &Reading) -> Timestamp {
    let Reading { time, begin, .. } = *reading;
    let earliest = begin.or_else(|| time.checked_sub(LEAD).ok()).unwrap_or(time).min(time);
    earliest.checked_sub(OVERLAP).unwrap_or(earliest)
}

/// Waits until the client has taken what came before.
async fn reserve(page_channel: &PageChannel) -> Result<PagePermit<'_>, ReadError> {
    match timeout(STALL, page_channel.reserve()).await {
        Ok(permit) => permit.ok_or(ReadError::Gone),
        Err(_) => Err(ReadError::Stalled),
    }
}
