//! A whole replay in memory, for tests: nodes that publish, a stream that stores it, a node that accepts it, and a
//! client.

use std::sync::Arc;
use std::time::{Duration, Instant as Moment};

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::cache::PageCache;
use super::reader::{Reader, ReaderOptions};
use super::serve::serve;
use super::shelf::Shelf;
use super::slots::ReplaySlots;
use crate::broker::archive::{Chunk, Pages, Progress, Reading, Wake, page_channel};
use crate::broker::export::ExportLimits;
use crate::broker::gap::Gap;
use crate::broker::history::{History, HistoryLimits, Retained};
use crate::broker::origin::{NodeId, Origin, Trace};
use crate::broker::splice::Splice;
use crate::broker::{Arrivals, Broker};
use crate::clock;
use crate::event::{Draft, Event};
use crate::metrics::{Metrics, Source};
use crate::tasks;

/// The nodes that publish. The first one accepts posts, and both follow the same endpoint.
pub(super) const NODES: [NodeId; 2] = [7, 8];

/// The node of the posts.
pub(super) const NODE: NodeId = NODES[0];

/// More events of the endpoint than the nodes are apart.
const WINDOW: usize = 10_000;

/// An event that a node has published.
#[derive(Debug, Clone, Copy)]
struct Passed {
    number: u64,
    time: Timestamp,
    is_of_endpoint: bool,
}

impl Passed {
    fn event(&self) -> Event {
        let key = self.number.to_string();
        let mut draft = Draft::new("machines", "update", &key);
        draft.time = Some(self.time.to_string().into());
        draft.seal(self.time)
    }
}

/// A node that publishes.
#[derive(Debug, Default)]
struct Sender {
    passed: Vec<Passed>,
    /// How many of them the node that serves the replay has accepted.
    accepted: usize,
    /// How many of the endpoint's events it has received.
    followed: usize,
}

/// Events with rising numbers, wherever they come from: the number is the key.
pub(super) struct World {
    pub(super) broker: Arc<Broker>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) pages: Arc<PageCache>,
    began: Timestamp,
    senders: [Sender; NODES.len()],
    /// What the endpoint has sent.
    endpoint: Vec<Passed>,
    /// The number of events so far.
    pub(super) events: u64,
    /// How far the clock of the server that stores the events is behind, and those of the producers.
    pub(super) behind: [SignedDuration; 2],
}

fn number(event: &Event) -> u64 {
    event.key().parse().unwrap()
}

impl World {
    pub(super) fn new(history: usize) -> Self {
        clock::simulated::begin();
        // So no two events are of the same time.
        clock::simulated::set_step(Duration::from_micros(1));
        let history = History::new(HistoryLimits { events: history, bytes: 1 << 20 }, 1, clock::now());
        let broker = Arc::new(Broker::new(Arc::new(Metrics::new()), Moment::now(), history));
        let _ = broker.share(ExportLimits { batches: 10, bytes: 1 << 20 }, WINDOW);
        let shelf = Arc::new(Shelf::new());
        let pages = Arc::new(PageCache::new(Arc::clone(&shelf) as _, 1 << 20));
        let senders = Default::default();
        let behind = Default::default();
        Self { broker, shelf, pages, began: clock::now(), senders, endpoint: Vec::new(), events: 0, behind }
    }

    fn make(&mut self, is_of_endpoint: bool) -> Passed {
        let number = self.events;
        self.events += 1;
        Passed { number, time: clock::now() - self.behind[1], is_of_endpoint }
    }

    /// A node publishes an event, and the stream stores it unless it lacks it.
    fn pass(&mut self, node: usize, passed: Passed, is_lacking: bool) {
        let trace = Self::trace(node, self.senders[node].passed.len(), passed);
        self.senders[node].passed.push(passed);
        if !is_lacking {
            self.shelf.put(trace, passed.event().json(), clock::now() - self.behind[0]);
        }
    }

    fn trace(node: usize, at: usize, passed: Passed) -> Trace {
        let origin = Origin { node: NODES[node], number: at as u64 };
        Trace { origin, repeat_index: passed.is_of_endpoint.then_some(1) }
    }

    /// The stream stores a new post, unless it lacks it.
    pub(super) fn store(&mut self, is_lacking: bool) {
        let passed = self.make(false);
        self.pass(0, passed, is_lacking);
    }

    /// A node receives the next event of the endpoint, and the stream stores it unless it lacks it.
    pub(super) fn follow(&mut self, node: usize, is_lacking: bool) {
        let at = self.senders[node].followed;
        self.senders[node].followed += 1;
        if at == self.endpoint.len() {
            let passed = self.make(true);
            self.endpoint.push(passed);
        }
        self.pass(node, self.endpoint[at], is_lacking);
    }

    /// The serving node accepts the next event of a node, if there is one.
    pub(super) fn accept_of(&mut self, node: usize) {
        let at = self.senders[node].accepted;
        let Some(passed) = self.senders[node].passed.get(at).copied() else { return };
        let Trace { origin, repeat_index } = Self::trace(node, at, passed);
        let repeat_index: Vec<_> = repeat_index.into_iter().collect();
        let arrivals = Arrivals { origins: &[Some(origin)], repeat_indexes: &repeat_index };
        self.broker.publish_foreign(vec![passed.event()], Source::Nats, arrivals).unwrap();
        self.senders[node].accepted += 1;
    }

    /// The same for the node of the posts.
    pub(super) fn accept(&mut self) {
        self.accept_of(0);
    }

    /// The next event never reaches the serving node.
    pub(super) fn miss(&mut self) {
        self.senders[0].accepted += 1;
        self.broker.heard(NODE, self.senders[0].accepted as u64, clock::now());
    }

    pub(super) fn accept_all(&mut self) {
        for node in 0..NODES.len() {
            (self.senders[node].accepted..self.senders[node].passed.len()).for_each(|_| self.accept_of(node));
        }
    }

    pub(super) fn publish(&mut self, count: u64) {
        for _ in 0..count {
            self.store(false);
            self.accept();
        }
    }

    /// Forgets the pages that were read so far.
    pub(super) fn forget_pages(&mut self) {
        self.pages = Arc::new(PageCache::new(Arc::clone(&self.shelf) as _, 1 << 20));
    }

    pub(super) fn reading(&self) -> Reading {
        Reading { time: self.began, begin: None, first: 0, until: None, given: None, brought: None }
    }

    pub(super) fn reader(&self, reading: Reading) -> Reader {
        let (pages, broker) = (Arc::clone(&self.pages), Arc::downgrade(&self.broker));
        Reader::new(ReaderOptions { pages, window: WINDOW, broker }, reading)
    }

    pub(super) fn read(&self, reading: Reading) -> Client {
        let mut reader = self.reader(reading.clone());
        let (sender, pages) = page_channel(Wake::default(), Progress::default());
        Client::new(reading, pages, tasks::spawn(async move { reader.read_all(&sender).await.unwrap() }))
    }

    /// The same with all that a replay has to do with its client.
    pub(super) fn serve(&self, reading: Reading) -> Client {
        let (sender, pages) = page_channel(Wake::default(), Progress::default());
        let (reader, slots) = (self.reader(reading.clone()), Arc::new(ReplaySlots::new(2)));
        Client::new(reading, pages, tasks::spawn(serve(reader, sender, "user:one".into(), slots)))
    }

    /// What follows in the history, and how many events it has dropped.
    pub(super) fn rest(&self, splice: &Splice) -> (Vec<u64>, u64) {
        let mut retained = Vec::new();
        let lost = self.broker.history().read(splice.first()..u64::MAX, u64::MAX, usize::MAX, &mut retained).lost;
        let wanted = |one: &Retained| !splice.leaves_out(one.number);
        (retained.iter().filter(|one| wanted(one)).map(|one| number(&one.event)).collect(), lost)
    }
}

/// What a client has got of a replay.
pub(super) struct Client {
    reading: Reading,
    /// `None` once it has ended.
    pages: Option<Pages>,
    task: JoinHandle<()>,
    pub(super) places: Vec<u64>,
    pub(super) got: Vec<u64>,
    pub(super) gaps: Vec<Gap>,
    splice: Option<Splice>,
}

impl Client {
    fn new(reading: Reading, pages: Pages, task: JoinHandle<()>) -> Self {
        let (places, got, gaps) = (Vec::new(), Vec::new(), Vec::new());
        Self { reading, pages: Some(pages), task, places, got, gaps, splice: None }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.pages.is_none()
    }

    /// How it goes on in the history, as its shard sees it.
    pub(super) fn settled(&self) -> Splice {
        let mut splice = self.splice.clone().unwrap();
        splice.settle(self.places.last().map_or(0, |last| last + 1));
        splice
    }

    /// What a registration that comes later asks for, up to the event at this index.
    pub(super) fn again(&self, last: usize) -> Reading {
        let until = self.places.get(last).map_or(0, |place| place + 1);
        let (given, brought) = (self.places.first().copied(), Some(Arc::new(self.settled())));
        Reading { until: Some(until), given, brought, ..self.reading.clone() }
    }

    /// Takes up to `count` chunks that have come.
    pub(super) fn take(&mut self, count: usize) {
        if let Some(pages) = &mut self.pages {
            pages.drop_withdrawn();
        }
        for _ in 0..count {
            let Some(pages) = &mut self.pages else { return };
            if pages.peek().is_none() {
                return;
            }
            match pages.take().unwrap() {
                Chunk::Event(place, event) if self.reading.until.is_none_or(|until| place < until) => {
                    self.places.push(place);
                    self.got.push(number(&event));
                }
                Chunk::Event(..) => {}
                Chunk::Gap(gap) => self.gaps.push(gap),
                Chunk::End(splice) => (self.pages, self.splice) = (None, Some(splice)),
                Chunk::Died => panic!("the reader has died"),
            }
        }
    }

    pub(super) async fn finish(&mut self) {
        let begun = Instant::now();
        while !self.has_ended() {
            self.take(usize::MAX);
            sleep(Duration::from_millis(1)).await;
            assert!(begun.elapsed() < Duration::from_mins(3), "it never ends");
        }
        (&mut self.task).await.unwrap();
    }
}

/// Until what is to be done at once is done.
pub(super) async fn soon() {
    sleep(Duration::from_millis(50)).await;
}
