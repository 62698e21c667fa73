//! A node of a run: the real broker and the real event loops of its shards, without threads, sockets and clocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use hashbrown::HashMap;
use jiff::Timestamp;
use mio::Poll;
use parking_lot::Mutex;

use super::facts::Fact;
use super::random::Random;
use super::rights::{Office, Rights};
use super::wire::Wire;
use crate::broker::Broker;
use crate::broker::history::{History, HistoryLimits};
use crate::broker::inbox::{InboxLimits, inbox};
use crate::clock;
use crate::fanout::control::Control;
use crate::fanout::driver::{Driver, Parts, Ready, Timing};
use crate::fanout::outbox::{Budget, ConnId};
use crate::fanout::session::Shard;
use crate::fanout::spec_parser::SpecParser;
use crate::index::{self, Work};
use crate::metrics::Metrics;
use crate::stats::OutboxLimits;

/// The settings of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) shards: usize,
    pub(super) index: index::Limits,
    pub(super) outbox: OutboxLimits,
    pub(super) total_bytes: usize,
    pub(super) inbox: InboxLimits,
    pub(super) history: HistoryLimits,
    pub(super) timing: Timing,
    pub(super) connection_events: bool,
    /// Whether filters have a budget that may end connections.
    pub(super) has_work_limits: bool,
}

impl Settings {
    pub(super) fn random(random: &mut Random) -> Self {
        let has_work_limits = random.percent(10);
        let second = random.between(2_000, 40_000) as u64;
        let work = Work { event: second, second, owner: 2 * second };
        let events = random.between(16, 80);
        let seconds = Duration::from_secs;
        Self {
            shards: random.between(1, 3),
            index: index::Limits {
                registrations: random.between(3, 12),
                work: if has_work_limits { work } else { Work::UNLIMITED },
                ..index::Limits::default()
            },
            outbox: OutboxLimits { bytes: 12_000 + events * random.between(10, 500), events },
            total_bytes: random.pick(&[12_000, 40_000, 1 << 24, 1 << 24]),
            inbox: InboxLimits { events: random.between(20, 300), bytes: random.between(10_000, 200_000) },
            history: HistoryLimits { events: random.pick(&[0, 5, 40, 1000, 1000]), bytes: 1 << 20 },
            timing: Timing {
                ping: seconds(5),
                idle: seconds(20),
                close: seconds(3),
                age: random.percent(30).then(|| seconds(4)),
                close_on_token_expiry: false,
            },
            connection_events: random.percent(40),
            has_work_limits,
        }
    }
}

/// What a shard was like at the start of a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) begun: Timestamp,
    pub(super) position: u64,
}

/// A shard with its thread's view of the world.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) driver: Driver<Wire>,
    pub(super) control: Sender<Control<Wire>>,
    pub(super) parser: SpecParser,
    pub(super) review: Arc<AtomicBool>,
    pub(super) load: Arc<AtomicUsize>,
    pub(super) is_woken: Arc<AtomicBool>,
    /// How long its poll may sleep, and since when.
    sleeps: Duration,
    since: Instant,
    pub(super) turns: Vec<Turn>,
    /// The rights in force from an event on.
    pub(super) rights: Vec<(u64, Arc<Rights>)>,
    /// Events during which registrations moved to other rights.
    pub(super) moving: Vec<std::ops::Range<u64>>,
}

/// Every event that a node has accepted, in its order.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) facts: Vec<Fact>,
    pub(super) by_json: HashMap<String, u64>,
    pub(super) by_number: HashMap<u64, u64>,
}

impl Log {
    fn note(&mut self, fact: Fact) {
        let at = self.facts.len() as u64;
        assert!(self.by_json.insert(fact.json.clone(), at).is_none(), "the run tells events apart by their text");
        if let Some(number) = fact.number {
            assert!(self.by_number.insert(number, at).is_none(), "event {number} was accepted twice");
        }
        self.facts.push(fact);
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) broker: Arc<Broker>,
    pub(super) budget: Arc<Budget>,
    pub(super) rooms: Vec<Room>,
    pub(super) log: Arc<Mutex<Log>>,
    settings: Settings,
}

impl Node {
    pub(super) fn start(epoch: u64, settings: &Settings, office: &Office, rights: &Arc<Rights>) -> Self {
        let begun = clock::instant();
        let history = History::new(settings.history, epoch, clock::now());
        let broker = Arc::new(Broker::new(Arc::new(Metrics::new()), begun, history));
        let log = Arc::<Mutex<Log>>::default();
        let noted = Arc::clone(&log);
        broker.observe(move |event, _, _| {
            let mut log = noted.lock();
            let position = event.position().unwrap();
            assert_eq!((position.epoch, position.sequence), (epoch, log.facts.len() as u64), "numbers have no holes");
            log.note(Fact::of(event));
        });
        let budget = Arc::new(Budget::new(settings.total_bytes, settings.shards));
        let mut node = Self { broker, budget, rooms: Vec::new(), log, settings: *settings };
        for number in 0..settings.shards {
            let room = node.room(number, office, rights, begun);
            node.rooms.push(room);
        }
        node
    }

    fn room(&self, number: usize, office: &Office, rights: &Arc<Rights>, epoch: Instant) -> Room {
        let Settings { index, outbox, timing, connection_events, .. } = self.settings;
        let is_woken = Arc::<AtomicBool>::default();
        let wakes = Arc::clone(&is_woken);
        let (sender, inbox) = inbox(self.settings.inbox, move || wakes.store(true, Ordering::Relaxed));
        self.broker.attach(sender);
        let (control, requests) = crossbeam_channel::bounded(64);
        let [parser, of_shard] = SpecParser::without_thread();
        let (review, load) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut driver = Driver::new(Parts {
            poll: Poll::new().unwrap(),
            shard: Shard::new(index, outbox, None),
            parser: of_shard,
            inbox,
            control: requests,
            metrics: self.broker.metrics().shard(number),
            budget: Arc::clone(&self.budget),
            number,
            authority: Arc::clone(&office.authority),
            broker: Arc::clone(&self.broker),
            load: Arc::clone(&load),
            review: Arc::clone(&review),
            drain: Arc::default(),
            timing,
            connection_events,
            message_limit: 4096,
            epoch,
        });
        let sleeps = driver.timeout();
        let rights = vec![(0, Arc::clone(rights))];
        let since = clock::instant();
        Room {
            driver,
            control,
            parser,
            review,
            load,
            is_woken,
            sleeps,
            since,
            turns: Vec::new(),
            rights,
            moving: Vec::new(),
        }
    }
}

impl Room {
    pub(super) fn wake(&self) {
        self.is_woken.store(true, Ordering::Relaxed);
    }

    /// Returns the time until the poll returns by itself.
    pub(super) fn sleeps_for(&self) -> Duration {
        self.sleeps.saturating_sub(clock::instant().saturating_duration_since(self.since))
    }

    pub(super) fn is_awake(&self) -> bool {
        self.is_woken.load(Ordering::Relaxed) || self.sleeps_for().is_zero()
    }

    /// Does what the thread does when its poll returns.
    pub(super) fn turn(&mut self, ready: Vec<Ready>, rights: &Arc<Rights>) {
        let is_woken = self.is_woken.swap(false, Ordering::Relaxed);
        if !is_woken && ready.is_empty() && !self.sleeps.is_zero() {
            let parts = &self.driver.parts;
            assert!(parts.inbox.is_empty() && parts.control.is_empty(), "the thread slept over its work");
        }
        self.driver.parts.inbox.rearm();
        let position = self.driver.parts.shard.position();
        if self.review.load(Ordering::Relaxed) {
            self.rights.push((position, Arc::clone(rights)));
            self.moving.push(position..u64::MAX);
        }
        self.turns.push(Turn { begun: clock::now(), position });
        self.driver.run_turn(ready.into_iter(), self.sleeps);
        if !self.driver.parts.shard.has_leaving() {
            let position = self.driver.parts.shard.position();
            self.moving.iter_mut().filter(|range| range.end == u64::MAX).for_each(|range| range.end = position);
            self.moving.retain(|range| !range.is_empty());
        }
        self.sleeps = self.driver.timeout();
        self.since = clock::instant();
    }

    /// Returns the position of the shard in the turn of this time.
    pub(super) fn position_at(&self, time: Timestamp) -> u64 {
        let after = self.turns.partition_point(|turn| turn.begun <= time);
        self.turns[after.checked_sub(1).expect("nothing is answered before the first turn")].position
    }

    /// Returns the rights that decide about an event.
    pub(super) fn rights_at(&self, event: u64) -> &Rights {
        let after = self.rights.partition_point(|(from, _)| *from <= event);
        &self.rights[after - 1].1
    }

    /// Checks what has to hold after every turn.
    pub(super) fn check(&mut self, settings: &Settings, conns: &[usize]) {
        let limits = settings.outbox;
        let fanout = self.driver.parts.shard.fanout();
        for conn in conns {
            let conn = ConnId(u32::try_from(*conn).unwrap());
            let depth = fanout.depth(conn);
            if !fanout.is_closing(conn) {
                // Gap notices come on top, at most one behind each frame that is not dropped.
                assert!(depth.events <= 2 * limits.events + 1, "{depth:?} of {limits:?}");
                assert!(depth.bytes <= limits.bytes || depth.events == 1, "{depth:?} of {limits:?}");
            }
        }
        let (lagging, open) = (self.driver.parts.shard.lagging(), self.driver.open);
        assert!(lagging <= open && self.driver.parsing <= open && self.parser.waiting() <= open);
    }

    /// Returns whether nothing is left to do but to keep time.
    pub(super) fn is_calm(&self) -> bool {
        let driver = &self.driver;
        let nothing = !self.sleeps.is_zero()
            && driver.queue.is_empty()
            && driver.lost.is_empty()
            && driver.held.is_empty()
            && driver.parsing == 0;
        nothing
            && driver.parts.inbox.is_empty()
            && driver.pending_events.is_empty()
            && !self.is_woken.load(Ordering::Relaxed)
    }
}
