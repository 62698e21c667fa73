//! `?since=` against a naive model: publishing, registering, taking back, reading and catching up in any interleaving.
//!
//! The real sequencer, ring, shard and outbox are driven step by step; what a client would read is judged by rules that
//! know nothing of passes and edges: each event at most once, only what is registered, and in the end all of it. The
//! same with an archive that is read a page at a time while everything else goes on.

mod bounds;
mod resume;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use futures_util::FutureExt;
use hydrant::auth::{Access, AuthOptions, Authority, Credential, Principal, Secret};
use hydrant::broker::Broker;
use hydrant::broker::archive::{Archive, Chunk, Page, PageChannel, Reading};
use hydrant::broker::gap::Gap;
use hydrant::broker::history::{Beyond, History, HistoryLimits, Since, Start};
use hydrant::broker::inbox::{Inbox, InboxLimits, inbox};
use hydrant::broker::splice::Splice;
use hydrant::clock::{both, now};
use hydrant::event::{Draft, Event};
use hydrant::fanout::catch_up::Allowance;
use hydrant::fanout::outbox::ConnId;
use hydrant::fanout::outbox::gather::Gathered;
use hydrant::fanout::session::Shard;
use hydrant::index::Limits;
use hydrant::metrics::{Metrics, Source};
use hydrant::overflow::Overflow;
use hydrant::stats::OutboxLimits;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use proptest::prelude::*;

const SPECS: [&str; 6] = ["a.*.*", "b.*.*", "*.x.*", "*.*.k1", "a,b.y.*", "*.*.*.N=In(1,4,7,10,13)"];
const KINDS: [&str; 3] = ["a", "b", "c"];
const ACTIONS: [&str; 2] = ["x", "y"];

/// The process began so long ago, without an event.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Everybody may see everything here.
static ACCESS: LazyLock<(Arc<Access>, Principal)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let (authority, _) = Authority::open(dir.path(), AuthOptions::default()).unwrap();
    let credential = Credential::Basic { user: "rocketskates".to_owned(), password: Secret::new("r0cketsk8ts") };
    let identity = authority.authenticate(&credential, IpAddr::V4(Ipv4Addr::LOCALHOST), both()).unwrap();
    (authority.access(&identity).unwrap(), identity.principal().clone())
});

#[derive(Debug, Clone)]
enum Step {
    Publish(usize, usize, bool),
    /// The shard takes so many batches.
    Turn(usize),
    Register(usize),
    Deregister(usize),
    CatchUp(usize),
    /// The client reads so many bytes.
    Read(usize),
    /// The archive hands over a page of so many events.
    Page(usize),
    /// The archive takes back what was not handled, and gives no more.
    Withdraw,
    /// The shard forgets what it need not know.
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..KINDS.len(), 0..ACTIONS.len(), any::<bool>())
            .prop_map(|(kind, action, key)| Step::Publish(kind, action, key)),
        3 => (1..6_usize).prop_map(Step::Turn),
        2 => (0..SPECS.len()).prop_map(Step::Register),
        1 => (0..SPECS.len()).prop_map(Step::Deregister),
        3 => (1..8_usize).prop_map(Step::CatchUp),
        2 => (50..2000_usize).prop_map(Step::Read),
        3 => (0..8_usize).prop_map(Step::Page),
        1 => Just(Step::Forget),
    ]
}

/// What concerns an archive whose pages are withdrawn. Nothing is deregistered: where what was received stood in the
/// archive is not known any more, so some of it may be taken for had.
fn withdrawing() -> impl Strategy<Value = Step> {
    let kept = |step| if matches!(step, Step::Deregister(_)) { Step::Withdraw } else { step };
    step().prop_map(kept)
}

/// An event as the model sees it.
#[derive(Debug, Clone)]
struct Known {
    kind: &'static str,
    action: &'static str,
    key: &'static str,
}

impl Known {
    fn matches(&self, number: u64, spec: &str) -> bool {
        match spec {
            "a.*.*" => self.kind == "a",
            "b.*.*" => self.kind == "b",
            "*.x.*" => self.action == "x",
            "*.*.k1" => self.key == "k1",
            "a,b.y.*" => self.kind != "c" && self.action == "y",
            _ => [1, 4, 7, 10, 13].contains(&number),
        }
    }
}

/// An archive with everything that was published, in the broker's order.
#[derive(Debug, Default)]
struct Shelf {
    /// Each with the time at which it was stored.
    events: Mutex<Vec<(Arc<Event>, Timestamp)>>,
    /// The first event that is given; otherwise the time that is asked for counts.
    since: Option<usize>,
    readers: Mutex<Vec<Reader>>,
}

#[derive(Debug)]
struct Reader {
    page_channel: PageChannel,
    until: Option<u64>,
    next: usize,
    /// The first that it was to give.
    first: usize,
    /// Where the ring takes over, once everything was given: the page that says so comes later.
    splice: Option<Splice>,
    /// The shard has yet to handle what was sent.
    has_ended: bool,
    /// Reads again while the first read goes on: what it does not bring is lost.
    is_alone: bool,
}

impl Reader {
    /// Whether the shard has handled the end, or needs no more.
    fn is_over(&self) -> bool {
        self.page_channel.closed().now_or_never().is_some()
    }

    /// As the stream does it: the last message of a range that is read again brings all that comes with it.
    fn end(&self, events: usize) -> usize {
        let Some(until) = self.until else { return events };
        (0..events).take_while(|at| place(*at) >> 20 <= until.saturating_sub(1) >> 20).count()
    }

    /// Where the ring takes over from who may not have handled everything.
    fn splice(&self, history: &History) -> Splice {
        let first = history.first().max(self.first as u64);
        let mut splice = Splice::at(first);
        let given = (self.first..self.next).filter(|number| *number as u64 >= first);
        given.for_each(|number| splice.leave_out_if_handled(number as u64, place(number)));
        splice
    }

    /// Has the shard drop what it has not handled yet.
    fn withdraw(self, history: &History) {
        let end = Chunk::End(self.splice(history));
        self.page_channel.withdraw(vec![Chunk::Gap(Gap { from: None, to: now(), events: None }), end]);
    }
}

/// Where an event stands: several come with one message, so places are neither dense nor regular.
fn place(number: usize) -> u64 {
    let (message, within) = (number / 3 + 1, number % 3);
    (message as u64) << 20 | (within as u64 * 5)
}

impl Archive for Shelf {
    fn read(&self, reading: Reading, _account: &str, page_channel: PageChannel) {
        let (next, until) = (self.since.unwrap_or_else(|| self.find(&reading)), reading.until);
        let is_alone = until.is_some() && reading.brought.is_none();
        let reader = Reader { page_channel, until, next, first: next, splice: None, has_ended: false, is_alone };
        self.readers.lock().push(reader);
    }
}

impl Shelf {
    /// As the stream does, but without its margin for messages that overtake each other: the first event that was
    /// stored then or says that it is of then, but none that was stored long before.
    fn find(&self, &Reading { time, begin, .. }: &Reading) -> usize {
        let events = self.events.lock();
        let begin = begin.unwrap_or(time - SignedDuration::from_mins(5)).min(time);
        let counts = |time: &Timestamp, stored: Timestamp| *time <= stored + SignedDuration::from_mins(5);
        let own = |event: &Event, stored| event.moment().filter(|time| counts(time, stored)).unwrap_or(stored);
        let wanted = |(event, stored): &(Arc<Event>, Timestamp)| {
            *stored >= begin && (*stored >= time || own(event, *stored) >= time)
        };
        events.iter().position(wanted).unwrap_or(events.len())
    }

    /// Every reader hands over what it can. Returns whether there was something.
    fn hand_over(&self, count: usize, history: &History) -> bool {
        let (events, mut readers) = (self.events.lock(), self.readers.lock());
        let mut any = false;
        readers.retain(|reader| !reader.is_over());
        for reader in readers.iter_mut().filter(|reader| !reader.has_ended) {
            let end = reader.end(events.len());
            if reader.until.is_none() && reader.next >= end && reader.splice.is_none() {
                reader.splice = Some(reader.splice(history));
                any = true;
                continue;
            }
            let Some(Some(permit)) = reader.page_channel.reserve().now_or_never() else { continue };
            any = true;
            let end = if reader.splice.is_some() { reader.next } else { end };
            let taken = &events[reader.next..end.max(reader.next).min(reader.next + count)];
            let mut page: Page = (reader.next..)
                .zip(taken)
                .map(|(number, (event, _))| Chunk::Event(place(number), Arc::clone(event)))
                .collect();
            reader.next += taken.len();
            let splice = reader.splice.take();
            if reader.next >= end && (reader.until.is_some() || splice.is_some()) {
                page.push(Chunk::End(splice.unwrap_or_else(|| reader.splice(history))));
                reader.has_ended = true;
            }
            permit.put(page);
        }
        any
    }

    /// The readers take back what they have sent, unless that would be lost.
    fn withdraw(&self, history: &History) {
        let mut readers = self.readers.lock();
        let withdrawn = readers.extract_if(.., |reader| !reader.is_over() && !reader.is_alone);
        withdrawn.for_each(|reader| reader.withdraw(history));
    }
}

struct World {
    archive: Arc<Shelf>,
    broker: Broker,
    inbox: Inbox,
    shard: Shard,
    conn: Option<ConnId>,
    events: Vec<Known>,
    /// What the client has read.
    text: Vec<String>,
    us: u64,
}

impl World {
    fn new(ring: usize, outbox: usize) -> Self {
        Self::with(Shelf::default(), ring, outbox)
    }

    fn with(archive: Shelf, ring: usize, outbox: usize) -> Self {
        let history = History::new(HistoryLimits { events: ring, bytes: 1 << 20 }, 1, now() - HOUR);
        let broker = Broker::new(Arc::new(Metrics::new()), Instant::now(), history);
        let (inbox_sender, inbox) = inbox(InboxLimits { events: 1000, bytes: 1 << 20 }, || ());
        broker.attach(inbox_sender);
        let shard = Shard::new(Limits::default(), OutboxLimits { bytes: 1 << 20, events: outbox }, None);
        Self {
            archive: Arc::new(archive),
            broker,
            inbox,
            shard,
            conn: None,
            events: Vec::new(),
            text: Vec::new(),
            us: 0,
        }
    }

    fn publish(&mut self, known: Known) {
        self.publish_of(known, now());
    }

    /// An event that says it is of this time.
    fn publish_of(&mut self, known: Known, time: Timestamp) {
        let object = format!(r#"{{"N":{}}}"#, self.events.len());
        let mut draft = Draft::new(known.kind, known.action, known.key);
        draft.object = &object;
        draft.time = Some(time.to_string().into());
        let event = draft.seal(now());
        let same = Arc::new(draft.seal(now()));
        self.broker.publish(vec![event], Source::Post).unwrap();
        // Stored when the broker has it, and in the broker's order: so the archive needs no margin.
        self.archive.events.lock().push((same, now()));
        self.events.push(known);
    }

    fn turn(&mut self, batches: usize) {
        for _ in 0..batches {
            let Some(batch) = self.inbox.next() else { break };
            for (event, number) in batch.events.iter().zip(batch.first..) {
                self.shard.publish(event, 0);
                self.shard.set_position(number + 1);
            }
        }
    }

    fn connect(&mut self, start: Start) -> ConnId {
        self.connect_with(start, Overflow::Disconnect, 0)
    }

    fn connect_with(&mut self, start: Start, overflow: Overflow, registrations: usize) -> ConnId {
        let (access, principal) = &*ACCESS;
        *self.conn.insert(self.shard.open_since(principal.clone(), access, overflow, start, registrations))
    }

    /// Some time later.
    fn catch_up(&mut self, events: usize) {
        let budget = Allowance { events, bytes: 1 << 20, work: u64::MAX };
        self.us += 40_000;
        self.shard.catch_up(self.broker.history(), budget, self.us, now());
    }

    fn may_catch_up(&self) -> bool {
        self.shard.catch_up_in(self.us) == Some(0)
    }

    /// Takes up to `bytes` off the outbox, in chunks of frames as a socket does.
    fn read(&mut self, bytes: usize) -> usize {
        let Some(conn) = self.conn else { return 0 };
        let mut frames = Vec::new();
        let mut gathered = Gathered::new();
        self.shard.fanout().gather(conn, bytes, &mut gathered);
        // Whole frames: what is left of a frame is the next read's business, and no matter here.
        gathered.iter().for_each(|slice| frames.push(slice.to_vec()));
        drop(gathered);
        let all = frames.iter().map(Vec::len).sum();
        self.shard.fanout().advance(conn, all, 0);
        self.shard.fanout().end_round(0);
        // But for a close frame.
        self.text.extend(frames.iter().filter(|frame| frame[0] != 0x88).map(|frame| payload(frame)));
        frames.len()
    }

    fn finish(&mut self) {
        loop {
            let read = self.read(usize::MAX);
            let wait = self.shard.catch_up_in(self.us);
            let page = self.archive.hand_over(5, self.broker.history());
            if read == 0 && wait.is_none() && self.inbox.is_empty() && !page {
                return;
            }
            self.us += wait.unwrap_or_default();
            self.turn(4);
            self.catch_up(1000);
        }
    }
}

fn payload(frame: &[u8]) -> String {
    let start = frame.windows(2).position(|pair| pair == b"{\"").unwrap();
    String::from_utf8(frame[start..].to_vec()).unwrap()
}

/// What the client has heard, judged in its order.
#[derive(Debug, Default)]
struct Judge {
    active: BTreeSet<String>,
    seen: Vec<u64>,
    registered: usize,
    /// Events said to be lost.
    lost: Option<u64>,
    /// Notices that say no number.
    vague: usize,
}

impl Judge {
    /// `behind` is what comes next: the first event of a pass may stand before the answers to its registrations.
    fn hear(&mut self, text: &str, behind: &[String], events: &[Known]) {
        let event: serde_json::Value = serde_json::from_str(text).unwrap();
        let [kind, action, key] = ["Type", "Action", "Key"].map(|field| event[field].as_str().unwrap().to_owned());
        match (kind.as_str(), action.as_str()) {
            ("websocket", "register") => {
                self.registered += usize::from(self.active.insert(key));
            }
            ("websocket", "deregister") => assert!(self.active.remove(&key)),
            ("websocket", _) => {}
            ("hydrant", _) => match event["Object"]["Events"].as_u64() {
                Some(events) => *self.lost.get_or_insert(0) += events,
                None => self.vague += 1,
            },
            _ => {
                let number = event["Object"]["N"].as_u64().unwrap();
                let known = &events[usize::try_from(number).unwrap()];
                let answered = behind.iter().map_while(|text| registered(text));
                let wanted = |spec: &str| known.matches(number, spec);
                let answered = answered.into_iter().any(|spec| !spec.is_empty() && wanted(&spec));
                assert!(answered || self.active.iter().any(|spec| wanted(spec)), "{number} is not registered for");
                assert!(!self.seen.contains(&number), "{number} twice");
                self.seen.push(number);
            }
        }
    }

    fn turns_back(&self) -> usize {
        self.seen.windows(2).filter(|pair| pair[1] < pair[0]).count()
    }
}

/// What an answer says was registered; empty for another answer, nothing for an event.
fn registered(text: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(text).unwrap();
    let field = |name: &str| event[name].as_str().unwrap().to_owned();
    (field("Type") == "websocket").then(|| if field("Action") == "register" { field("Key") } else { String::new() })
}

fn run(ring: usize, outbox: usize, before: usize, since: usize, steps: &[Step]) {
    run_with(false, ring, outbox, before, since, steps);
}

/// The same, beginning in the archive.
fn run_with(archive: bool, ring: usize, outbox: usize, before: usize, since: usize, steps: &[Step]) {
    let shelf = Shelf { since: Some(since.min(before)), ..Shelf::default() };
    let mut world = World::with(shelf, ring, outbox);
    for number in 0..before {
        world.publish(Known { kind: KINDS[number % 3], action: ACTIONS[number / 3 % 2], key: "k0" });
    }
    world.turn(before / 2);
    let since = since.min(before) as u64;
    let start = world.broker.history().position();
    let requested = hydrant::broker::history::Position { sequence: since, ..start };
    let mut start = world.broker.history().resolve(Since::Position(requested), "x", now()).unwrap();
    if archive {
        let archive: Arc<dyn Archive> = Arc::clone(&world.archive) as _;
        start = Start { gap: None, beyond: Some(Beyond { archive, time: now(), begin: None }), ..start };
    }
    let conn = world.connect(start);
    for step in steps {
        match *step {
            Step::Publish(kind, action, key) => {
                let key = if key { "k1" } else { "k0" };
                world.publish(Known { kind: KINDS[kind], action: ACTIONS[action], key });
            }
            Step::Turn(batches) => world.turn(batches),
            Step::Register(spec) => world.shard.text(conn, &format!("register {}", SPECS[spec]), now()),
            Step::Deregister(spec) => world.shard.text(conn, &format!("deregister {}", SPECS[spec]), now()),
            Step::CatchUp(events) => world.catch_up(events),
            Step::Read(bytes) => {
                world.read(bytes);
            }
            Step::Page(events) => {
                world.archive.hand_over(events, world.broker.history());
            }
            Step::Forget => world.shard.forget_left_out(conn, || world.broker.history().first()),
            Step::Withdraw => world.archive.withdraw(world.broker.history()),
        }
    }
    world.finish();
    assert!(world.shard.take_closing().is_empty(), "nobody is closed");
    let mut judge = Judge::default();
    (0..).zip(&world.text).for_each(|(at, text)| judge.hear(text, &world.text[at + 1..], &world.events));
    let wanted =
        |number: u64, known: &Known| number >= since && judge.active.iter().any(|spec| known.matches(number, spec));
    let missing: Vec<u64> = (0..).zip(&world.events).filter(|(n, known)| wanted(*n, known)).map(|(n, _)| n).collect();
    let missing = missing.iter().filter(|number| !judge.seen.contains(number)).count() as u64;
    assert!(judge.seen.iter().all(|number| *number >= since), "older than asked for");
    assert!(missing <= judge.lost.unwrap_or(0), "{missing} are missing, {:?} were said to be lost", judge.lost);
    assert!(ring < 1000 || judge.lost.is_none(), "nothing is lost while the ring holds everything");
    // Pages that are withdrawn lose nothing that the ring holds, but are told.
    let has_withdrawn = steps.iter().any(|step| matches!(step, Step::Withdraw));
    assert!(has_withdrawn || judge.vague == 0, "{} notices", judge.vague);
    assert!(judge.turns_back() <= judge.registered, "the order turns back only for a registration");
    world.shard.remove(conn);
    assert!(world.shard.is_empty());
}

/// How many of each.
fn runs() -> u32 {
    if std::env::var_os("HYDRANT_SOAK").is_some() { 10_000 } else { 1000 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(runs()))]

    #[test]
    fn the_past_comes_once_and_whole(
        before in 0..40_usize, since in 0..40_usize, outbox in 8..64_usize,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        // Live events to a reader that does not read are another test's business: the outbox takes them all.
        run(1000, outbox.max(62) * 2, before, since, &steps);
    }

    #[test]
    fn what_a_small_ring_forgets_is_told(
        ring in 1..12_usize, before in 0..40_usize, since in 0..40_usize, steps in prop::collection::vec(step(), 0..60),
    ) {
        run(ring, 200, before, since, &steps);
    }

    #[test]
    fn what_comes_from_an_archive_joins_the_ring(
        before in 0..60_usize, since in 0..60_usize, steps in prop::collection::vec(step(), 0..80),
    ) {
        run_with(true, 1000, 300, before, since, &steps);
    }

    #[test]
    fn what_an_archive_withdraws_comes_from_the_ring(
        before in 0..60_usize, since in 0..60_usize, steps in prop::collection::vec(withdrawing(), 0..80),
    ) {
        run_with(true, 1000, 300, before, since, &steps);
    }

    #[test]
    fn what_a_small_ring_forgets_behind_an_archive_is_told(
        ring in 1..12_usize, before in 0..60_usize, since in 0..60_usize, steps in prop::collection::vec(step(), 0..80),
    ) {
        run_with(true, ring, 300, before, since, &steps);
    }

    #[test]
    fn a_small_outbox_is_fed_in_portions(
        before in 0..200_usize, since in 0..40_usize, specs in prop::collection::vec(0..SPECS.len(), 1..4),
        reads in prop::collection::vec(1..8_usize, 0..60),
    ) {
        let mut steps: Vec<Step> = specs.into_iter().map(Step::Register).collect();
        steps.extend(reads.into_iter().flat_map(|n| [Step::CatchUp(n), Step::Read(n * 300), Step::Turn(n)]));
        run(1000, 16, before, since, &steps);
    }
}

#[test]
fn registrations_before_the_first_turn_share_one_order() {
    let mut world = World::new(1000, 1000);
    for number in 0..30 {
        world.publish(Known { kind: KINDS[number % 3], action: ACTIONS[number % 2], key: "k0" });
    }
    world.turn(30);
    let start = Start { requested: "x".into(), sequence: 3, time: None, gap: None, beyond: None };
    let conn = world.connect(start);
    for spec in ["a.*.*", "b.*.*", "c.*.*"] {
        world.shard.text(conn, &format!("register {spec}"), now());
    }
    world.finish();
    assert_eq!(world.text.len(), 30);
    assert!(world.text[..3].iter().all(|text| text.contains(r#""Type":"websocket""#)), "answers come first");
    let numbers = world.text[3..].iter().map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
    assert!(numbers.map(|event| event["Object"]["N"].as_u64().unwrap()).eq(3..30));
}

#[test]
fn a_reader_that_stalls_is_not_closed_while_it_is_behind() {
    let mut world = World::new(1000, 16);
    let event = || Known { kind: "a", action: "x", key: "k0" };
    (0..100).for_each(|_| world.publish(event()));
    world.turn(100);
    let conn = world.connect(Start { requested: "x".into(), sequence: 0, time: None, gap: None, beyond: None });
    world.shard.text(conn, "register *.*.*", now());
    (0..5).for_each(|_| world.catch_up(1000));
    assert!(!world.may_catch_up(), "it waits for the reader and does not spin");
    assert!(world.shard.fanout().depth(conn).events <= 9, "{:?}", world.shard.fanout().depth(conn));
    // More live events than its outbox could hold.
    (0..100).for_each(|_| world.publish(event()));
    world.turn(100);
    assert!(world.shard.take_closing().is_empty());
    world.finish();
    assert_eq!(world.text.len(), 201);
}

/// Found by the properties above.
#[test]
fn what_the_archive_gives_before_the_shard_has_it_does_not_come_live_too() {
    let steps = [
        Step::Register(0),
        Step::CatchUp(8),
        Step::Publish(0, 0, false),
        Step::Page(8),
        Step::CatchUp(8),
        Step::Turn(1),
    ];
    run_with(true, 1000, 300, 0, 0, &steps);
}

/// Found by the properties above.
#[test]
fn the_answer_to_a_registration_that_was_taken_back_before_its_pass_is_sent() {
    let mut steps = vec![Step::Register(2), Step::CatchUp(1), Step::CatchUp(1), Step::CatchUp(1), Step::CatchUp(1)];
    steps.extend([Step::Register(5), Step::Register(1), Step::Deregister(2), Step::Deregister(1)]);
    run(1000, 124, 5, 0, &steps);
}
