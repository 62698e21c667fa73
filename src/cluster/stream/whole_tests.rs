//! Whole replays from a stream in memory: every event comes once or a gap notice stands in its place, whatever the
//! history and the stream drop meanwhile.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Instant as Moment;

use jiff::SignedDuration;
use proptest::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::broker::Arrivals;
use crate::broker::archive::{Pages, Progress, Wake, page_channel};
use crate::broker::export::ExportLimits;
use crate::broker::history::{History, HistoryLimits, Retained};
use crate::broker::splice::Splice;
use crate::cluster::stream::serve::serve;
use crate::cluster::stream::shelf::Shelf;
use crate::cluster::stream::slots::ReplaySlots;
use crate::event::{Draft, Event};
use crate::metrics::{Metrics, Source};
use crate::websocket::frame::Encoding;

/// The identifier of the node that publishes.
const NODE: u64 = 7;

/// A node that publishes events with rising numbers, a stream that stores them, and a node that accepts them.
struct World {
    broker: Arc<Broker>,
    shelf: Arc<Shelf>,
    pages: Arc<PageCache>,
    began: Timestamp,
    stored: u64,
    accepted: u64,
}

fn event(number: u64) -> Event {
    Draft::new("machines", "update", &number.to_string()).seal(clock::now())
}

fn number(event: &Event) -> u64 {
    event.key().parse().unwrap()
}

impl World {
    fn new(history: usize) -> Self {
        clock::simulated::begin();
        // So no two events are of the same time.
        clock::simulated::set_step(Duration::from_micros(1));
        let history = History::new(HistoryLimits { events: history, bytes: 1 << 20 }, 1, clock::now());
        let broker = Arc::new(Broker::new(Arc::new(Metrics::new()), Moment::now(), history));
        let _ = broker.share(ExportLimits { batches: 10, bytes: 1 << 20 }, 10);
        let shelf = Arc::new(Shelf::new());
        let pages = Arc::new(PageCache::new(Arc::clone(&shelf) as _, 1 << 20));
        Self { broker, shelf, pages, began: clock::now(), stored: 0, accepted: 0 }
    }

    /// The stream stores the next event, unless it lacks it.
    fn store(&mut self, is_lacking: bool) {
        let origin = Origin { node: NODE, number: self.stored };
        self.stored += 1;
        if !is_lacking {
            self.shelf.put(origin, event(origin.number).json(), clock::now());
        }
    }

    /// The node accepts the next event.
    fn accept(&mut self) {
        let origins = [Some(Origin { node: NODE, number: self.accepted })];
        let arrivals = Arrivals { origins: &origins, repeat_indexes: &[] };
        self.broker.publish_foreign(vec![event(self.accepted)], Source::Nats, arrivals).unwrap();
        self.accepted += 1;
    }

    fn publish(&mut self, count: u64) {
        for _ in 0..count {
            self.store(false);
            self.accept();
        }
    }

    fn reading(&self) -> Reading {
        Reading { time: self.began, begin: None, first: 0, until: None, given: None }
    }

    fn read(&self, reading: Reading) -> Client {
        let options =
            ReaderOptions { pages: Arc::clone(&self.pages), window: 10, broker: Arc::downgrade(&self.broker) };
        let mut reader = Reader::new(options, reading);
        let (sender, pages) = page_channel(Wake::default(), Progress::default());
        Client::new(pages, tokio::spawn(async move { reader.read_all(&sender).await.unwrap() }))
    }

    /// The same with all that a replay has to do with its client.
    fn serve(&self, reading: Reading) -> Client {
        let options =
            ReaderOptions { pages: Arc::clone(&self.pages), window: 10, broker: Arc::downgrade(&self.broker) };
        let (sender, pages) = page_channel(Wake::default(), Progress::default());
        let slots = Arc::new(ReplaySlots::new(2));
        Client::new(pages, tokio::spawn(serve(Reader::new(options, reading), sender, "user:one".into(), slots)))
    }

    /// What follows in the history, and how many events it has dropped.
    fn rest(&self, splice: &Splice) -> (Vec<u64>, u64) {
        let mut retained = Vec::new();
        let lost = self.broker.history().read(splice.first()..u64::MAX, u64::MAX, usize::MAX, &mut retained).lost;
        let wanted = |one: &Retained| !splice.leaves_out(one.number);
        (retained.iter().filter(|one| wanted(one)).map(|one| number(&one.event)).collect(), lost)
    }
}

/// What a client has got of a replay.
struct Client {
    pages: Pages,
    task: JoinHandle<()>,
    places: Vec<u64>,
    got: Vec<u64>,
    gaps: Vec<Gap>,
    has_ended: bool,
    splice: Option<Splice>,
}

impl Client {
    fn new(pages: Pages, task: JoinHandle<()>) -> Self {
        Self { pages, task, places: Vec::new(), got: Vec::new(), gaps: Vec::new(), has_ended: false, splice: None }
    }

    /// How it goes on in the history, as its shard sees it.
    fn settled(&self) -> Splice {
        let mut splice = self.splice.clone().unwrap();
        splice.settle(self.places.last().map_or(0, |last| last + 1));
        splice
    }

    /// Takes up to `count` chunks that have come.
    fn take(&mut self, count: usize) {
        for _ in 0..count {
            if self.has_ended || self.pages.peek().is_none() {
                return;
            }
            match self.pages.take().unwrap() {
                Chunk::Event(place, event) => {
                    self.places.push(place);
                    self.got.push(number(&event));
                }
                Chunk::Gap(gap) => self.gaps.push(gap),
                Chunk::End(splice) => (self.has_ended, self.splice) = (true, splice),
            }
        }
    }

    async fn finish(&mut self) {
        let begun = Instant::now();
        while !self.has_ended {
            self.take(usize::MAX);
            sleep(Duration::from_millis(1)).await;
            assert!(begun.elapsed() < Duration::from_mins(1), "it never ends");
        }
        (&mut self.task).await.unwrap();
    }
}

async fn soon() {
    sleep(Duration::from_millis(50)).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_history_drops_while_the_last_page_waits_for_the_client_is_not_lost() {
    let mut world = World::new(10);
    world.publish(600);
    let mut client = world.read(world.reading());
    // It has begun the first of three pages.
    soon().await;
    client.take(1);
    soon().await;
    client.take(255);
    soon().await;
    world.publish(100);
    soon().await;
    assert!(client.got.len() < 600 && !client.has_ended);
    client.finish().await;
    let (rest, lost) = world.rest(&client.splice.clone().unwrap());
    assert_eq!((client.gaps, lost), (Vec::new(), 0));
    assert!(client.got.into_iter().chain(rest).eq(0..700));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_gets_from_the_history_what_was_withdrawn() {
    let mut world = World::new(1000);
    world.publish(300);
    let mut client = world.serve(world.reading());
    soon().await;
    client.take(200);
    sleep(Duration::from_secs(70)).await;
    client.pages.drop_withdrawn();
    client.take(usize::MAX);
    assert!(client.has_ended && client.gaps.len() == 1 && client.got.len() == 200, "{:?}", client.gaps);
    let (rest, lost) = world.rest(&client.settled());
    assert!(client.got.into_iter().chain(rest).eq(0..300) && lost == 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_a_little_now_and_then_gets_everything() {
    let mut world = World::new(10);
    world.publish(300);
    let mut client = world.serve(world.reading());
    soon().await;
    for _ in 0..100 {
        client.take(5);
        sleep(Duration::from_secs(50)).await;
        client.pages.drop_withdrawn();
    }
    assert!(client.has_ended && client.gaps.is_empty(), "{:?}", client.gaps);
    let (rest, lost) = world.rest(&client.settled());
    assert!(client.got.into_iter().chain(rest).eq(0..300) && lost == 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stays_behind_a_small_history_ends_the_replay_with_a_notice() {
    let mut world = World::new(10);
    world.publish(100);
    (0..20).for_each(|_| world.store(true));
    (0..20).for_each(|_| world.accept());
    let mut client = world.read(world.reading());
    // The stream stores nothing any more.
    for _ in 0..1000 {
        (0..20).for_each(|_| world.store(true));
        (0..20).for_each(|_| world.accept());
        client.take(usize::MAX);
        sleep(POLL_INTERVAL).await;
    }
    client.finish().await;
    let [gap] = &client.gaps[..] else { panic!("{:?}", client.gaps) };
    assert_eq!(gap.events, None);
    assert_eq!(client.got.len(), 100);
}

/// The ring still has what this node accepted late; the stream had stored it long before.
#[tokio::test(start_paused = true)]
async fn an_event_that_was_stored_before_the_requested_time_but_accepted_later_comes_from_the_history() {
    let mut world = World::new(100);
    clock::simulated::pass(Duration::from_secs(100));
    world.store(false);
    clock::simulated::pass(Duration::from_secs(8));
    let time = clock::now();
    world.store(false);
    world.accept();
    world.accept();
    let mut client = world.read(Reading { time, ..world.reading() });
    client.finish().await;
    let splice = client.splice.clone().unwrap();
    assert_eq!((&client.got[..], world.rest(&splice).0), (&[1][..], vec![0]));
}

#[tokio::test(start_paused = true)]
async fn events_that_fill_a_hole_have_places_of_their_own_and_the_same_ones_again() {
    let mut world = World::new(100);
    world.publish(3);
    (0..50).for_each(|_| world.store(true));
    world.publish(3);
    (0..50).for_each(|_| world.accept());
    let mut first = world.read(world.reading());
    first.finish().await;
    assert!(first.got.iter().copied().eq(0..56) && first.gaps.is_empty(), "{:?}", first.got);
    assert!(first.places.is_sorted_by(|before, after| before < after), "{:?}", first.places);
    let again = |until: usize| Reading {
        until: Some(first.places[until] + 1),
        given: Some(first.places[0]),
        ..world.reading()
    };
    for until in [0, 2, 20, 55] {
        let mut second = world.read(again(until));
        second.finish().await;
        let part = second.places.iter().filter(|place| **place <= first.places[until]);
        assert!(part.eq(&first.places[..=until]) && second.splice.is_none() && second.gaps.is_empty());
    }
}

/// For a registration that comes later.
#[tokio::test(start_paused = true)]
async fn what_the_stream_has_dropped_since_it_was_read_is_told_when_it_is_read_again() {
    let mut world = World::new(10);
    world.publish(600);
    let mut first = world.read(world.reading());
    first.finish().await;
    let until = first.places.last().map(|last| last + 1);
    let again = Reading { until, given: first.places.first().copied(), ..world.reading() };
    let second = async |world: &World| {
        let mut second = world.read(again);
        second.finish().await;
        (second.got, second.gaps.len())
    };
    assert_eq!(second(&world).await, ((0..600).collect(), 0));
    world.publish(10);
    world.shelf.drop_oldest(100);
    // The pages that are kept have it still.
    world.pages = Arc::new(PageCache::new(Arc::clone(&world.shelf) as _, 1 << 20));
    assert_eq!(second(&world).await, ((100..600).collect(), 1));
    world.shelf.drop_oldest(505);
    world.pages = Arc::new(PageCache::new(Arc::clone(&world.shelf) as _, 1 << 20));
    assert_eq!(second(&world).await, (Vec::new(), 1), "nothing of it is left");
    world.shelf.drop_oldest(usize::MAX);
    assert_eq!(second(&world).await, (Vec::new(), 1), "nor anything else");
    let nothing = Reading { until: Some(0), given: None, ..again };
    let mut third = world.read(nothing);
    third.finish().await;
    assert!(third.gaps.is_empty(), "{:?}", third.gaps);
}

/// The clock of the first event's producer is ahead, so the replay began with it.
#[tokio::test(start_paused = true)]
async fn what_the_stream_has_dropped_of_a_producer_that_is_ahead_is_told_once() {
    let mut world = World::new(100);
    let mut draft = Draft::new("machines", "update", "0");
    draft.time = Some((clock::now() + SignedDuration::from_mins(1)).to_string().into());
    world.shelf.put(Origin { node: NODE, number: 0 }, draft.seal(clock::now()).json(), clock::now());
    world.stored = 1;
    world.accept();
    world.publish(20);
    clock::simulated::pass(Duration::from_secs(55));
    let reading = Reading { time: clock::now(), ..world.reading() };
    let mut first = world.read(reading);
    first.finish().await;
    assert!(first.got.iter().copied().eq(0..21) && first.gaps.is_empty(), "{:?} {:?}", first.got, first.gaps);
    world.shelf.drop_oldest(1);
    world.pages = Arc::new(PageCache::new(Arc::clone(&world.shelf) as _, 1 << 20));
    let until = first.places.last().map(|last| last + 1);
    let mut second = world.read(Reading { until, given: first.places.first().copied(), ..reading });
    second.finish().await;
    assert_eq!((second.got, second.gaps.len()), ((1..21).collect(), 1));
}

#[tokio::test(start_paused = true)]
async fn what_the_stream_drops_just_before_its_first_page_is_read_is_told() {
    let mut world = World::new(10);
    world.publish(20);
    // Another replay has asked for the extent a moment ago.
    world.pages.extent(None).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    world.shelf.drop_oldest(5);
    let mut client = world.read(world.reading());
    client.finish().await;
    assert_eq!((client.gaps.len(), client.got), (1, (5..20).collect::<Vec<_>>()));
}

#[tokio::test(start_paused = true)]
async fn pages_of_a_stream_that_was_deleted_are_not_taken_for_those_of_the_next_one() {
    let mut world = World::new(10);
    world.publish(600);
    world.read(world.reading()).finish().await;
    world.shelf.make_anew();
    world.publish(300);
    sleep(Duration::from_secs(2)).await;
    let mut client = world.read(world.reading());
    client.finish().await;
    assert!(client.got.iter().copied().eq(600..900), "{:?}", client.got);
    assert_eq!(client.gaps.len(), 1, "{:?}", client.gaps);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_event_that_was_stored_twice_is_one_that_is_missing() {
    let mut world = World::new(10);
    world.publish(5);
    for _ in 0..2 {
        world.shelf.put(Origin { node: NODE, number: 5 }, "{", clock::now());
    }
    world.stored += 1;
    world.broker.heard(NODE, 6, clock::now());
    world.accepted += 1;
    world.publish(5);
    let mut client = world.read(world.reading());
    client.finish().await;
    assert_eq!(client.gaps.iter().map(|gap| gap.events).collect::<Vec<_>>(), [Some(1)]);
    assert!(client.got.into_iter().eq((0..5).chain(6..11)));
}

/// A server would refuse such a Time, and a browser would never ask again.
#[tokio::test(start_paused = true)]
async fn an_event_of_a_time_that_is_refused_later_has_no_id() {
    let world = World::new(10);
    for (number, ahead) in [(0, 0), (1, 200), (2, 600), (3, 0)] {
        let now = clock::now();
        let mut draft = Draft::new("machines", "update", "1");
        draft.time = Some((now + SignedDuration::from_secs(ahead)).to_string().into());
        world.shelf.put(Origin { node: NODE, number }, draft.seal(now).json(), now);
    }
    let block = world.pages.page(1).await.unwrap();
    let has_id = |parsed: &Parsed| parsed.event.as_ref().unwrap().frame_in(Encoding::EventStream).starts_with(b"id: ");
    assert!(block.messages.iter().map(has_id).eq([true, true, false, true]));
}

#[derive(Debug, Clone)]
enum Step {
    Publish(u64),
    /// The stream is ahead of the node by so many.
    Store(u64),
    /// The stream lacks so many.
    Lack(u64),
    Accept(u64),
    Take(usize),
    Wait(u64),
    DropOldest(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..60_u64).prop_map(Step::Publish),
        2 => (1..20_u64).prop_map(Step::Store),
        1 => (1..5_u64).prop_map(Step::Lack),
        2 => (1..20_u64).prop_map(Step::Accept),
        5 => (1..300_usize).prop_map(Step::Take),
        4 => (1..60_u64).prop_map(Step::Wait),
        1 => (1..200_usize).prop_map(Step::DropOldest),
    ]
}

impl World {
    async fn step(&mut self, client: &mut Client, step: &Step) {
        match *step {
            Step::Publish(count) => self.publish(count),
            Step::Store(count) => (0..count).for_each(|_| self.store(false)),
            Step::Lack(count) => (0..count).for_each(|_| self.store(true)),
            Step::Accept(count) => {
                (0..count.min(self.stored - self.accepted)).for_each(|_| self.accept());
            }
            Step::Take(count) => client.take(count),
            Step::Wait(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
            Step::DropOldest(count) => {
                self.shelf.drop_oldest(count.min(self.shelf.len() / 2));
            }
        }
    }
}

/// Checks a replay that goes on during these steps.
async fn check(history: usize, before: u64, steps: &[Step]) {
    let mut world = World::new(history);
    world.publish(before);
    let mut client = world.read(world.reading());
    for step in steps {
        world.step(&mut client, step).await;
    }
    (world.accepted..world.stored).for_each(|_| world.accept());
    client.finish().await;
    let (rest, lost) = world.rest(&client.splice.clone().unwrap());
    let got: Vec<u64> = client.got.iter().copied().chain(rest).collect();
    let all: BTreeSet<u64> = got.iter().copied().collect();
    assert_eq!(all.len(), got.len(), "something came twice: {got:?}");
    let missing: Vec<u64> = (0..world.stored).filter(|number| !all.contains(number)).collect();
    assert!(missing.is_empty() || lost > 0 || !client.gaps.is_empty(), "{missing:?} are missing");
    let drops = |step: &Step| matches!(step, Step::DropOldest(_));
    let holds_all = history as u64 > world.stored && !steps.iter().any(drops);
    assert!(!holds_all || missing.is_empty() && client.gaps.is_empty(), "{:?}", client.gaps);
}

fn bounds(range: Range<usize>) -> impl Strategy<Value = (usize, u64, Vec<Step>)> {
    (range, 0..600_u64, prop::collection::vec(step(), 0..30))
}

fn run(check: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(check);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_event_comes_once_or_a_notice_in_its_place((history, before, steps) in bounds(1..80)) {
        run(check(history, before, &steps));
    }

    #[test]
    fn nothing_is_missing_while_the_history_holds_everything((history, before, steps) in bounds(5000..5001)) {
        run(check(history, before, &steps));
    }
}
