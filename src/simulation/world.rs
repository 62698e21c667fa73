//! A whole run: a node that may die, its clients, the files that decide rights, and time.

use std::any::Any;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::client::{Client, Command, Item, Manner, Reading, Since};
use super::facts::{Spec, event};
use super::judge::{Judge, Whole};
use super::node::{Node, Room, Settings};
use super::random::Random;
use super::rights::{Office, Rights, USERS};
use super::wire::Wire;
use crate::broker::PublishError;
use crate::broker::history::{self, Position, Start};
use crate::clock::{self, simulated};
use crate::fanout::control::{Admission, Control, Newcomer, Permit};
use crate::fanout::driver::Ready;
use crate::fanout::outbox::ConnId;
use crate::index::Measure;
use crate::metrics::Source;
use crate::overflow::Overflow;
use crate::websocket::frame::Encoding;

/// The most connections at a time.
const CLIENTS: usize = 24;

/// The last steps that are kept.
const TRACE: usize = 60;

pub(super) struct World {
    random: Random,
    settings: Settings,
    office: Rc<Office>,
    rights: Arc<Rights>,
    node: Node,
    /// The number of the run of the node.
    run: usize,
    clients: Vec<Client>,
    connected: usize,
    events: u64,
    admission: Admission,
    /// Operators who wait for an answer.
    answers: Vec<Box<dyn Any>>,
    /// The last steps.
    pub(super) trace: VecDeque<String>,
    /// A digest of all steps and of all that was received.
    pub(super) digest: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        simulated::begin();
        let mut random = Random::new(seed);
        let settings = Settings::random(&mut random);
        let (office, rights) = Office::open();
        // Opening the first one has taken time.
        simulated::begin();
        simulated::set_step(Duration::from_nanos(random.between(1_000, 40_000) as u64));
        let rights = Arc::new(rights);
        let node = Node::start(1, &settings, &office, &rights);
        let admission = Admission::new(CLIENTS);
        let mut world = Self {
            random,
            settings,
            office,
            rights,
            node,
            run: 0,
            clients: Vec::new(),
            connected: 0,
            events: 0,
            admission,
            answers: Vec::new(),
            trace: VecDeque::new(),
            digest: 0,
        };
        world.note(format!("{settings:?}"));
        world
    }

    fn note(&mut self, step: String) {
        for byte in step.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.trace.len() == TRACE {
            self.trace.remove(1);
        }
        self.trace.push_back(step);
    }

    /// Runs so many steps, then lets everything come to rest, judges all clients and has them leave.
    pub(super) fn run(&mut self, steps: usize) {
        (0..3).for_each(|_| self.connect());
        for _ in 0..steps {
            self.step();
            let passes = self.random.below(2_000) as u64;
            simulated::pass(Duration::from_micros(passes));
        }
        self.rest(true);
        self.judge_all(true);
        self.leave();
        self.check_nothing_is_left();
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..16 => self.publish(),
            16..48 => self.turn(),
            48..62 => self.read(),
            62..74 => self.command(),
            74..79 => self.connect(),
            79..83 => self.part(),
            83..87 => self.pace(),
            87..90 => self.change_rights(),
            90..94 => self.wait(),
            94..96 => self.parse(),
            96..98 => self.ask(),
            98 => self.flood(),
            _ => self.die(),
        }
    }

    fn publish(&mut self) {
        let count = if self.random.percent(10) { self.random.between(20, 60) } else { self.random.between(1, 5) };
        let now = clock::now();
        let events = (0..count as u64).map(|n| event(self.events + n, &mut self.random, now)).collect();
        self.events += count as u64;
        let before = self.node.log.lock().facts.len();
        let result = self.node.broker.publish(events, Source::Post);
        let after = self.node.log.lock().facts.len();
        self.note(format!("publish {count}: {result:?}"));
        match result {
            Ok(first) => assert_eq!((first, after), (before as u64, before + count), "all of them"),
            Err(error) => {
                assert!(matches!(error, PublishError::Full { .. }), "{error}");
                assert_eq!(before, after, "none of them");
            }
        }
        for room in &self.node.rooms {
            let waiting = room.driver.parts.inbox.waiting();
            assert!(waiting <= self.settings.inbox.events.max(60), "{waiting} events wait in an inbox");
        }
    }

    fn turn(&mut self) {
        let at = self.random.below(self.node.rooms.len());
        if self.node.rooms[at].is_awake() || self.is_any_ready(at) || self.random.percent(3) {
            self.turn_of(at);
        }
    }

    fn is_any_ready(&self, shard: usize) -> bool {
        self.clients.iter().any(|client| {
            let pipe = client.pipe.borrow();
            client.shard == shard && pipe.token.is_some() && (pipe.is_readable || pipe.is_writable)
        })
    }

    fn turn_of(&mut self, at: usize) {
        let (mut ready, mut conns) = (Vec::new(), Vec::new());
        for client in self.clients.iter().filter(|client| client.shard == at) {
            let mut pipe = client.pipe.borrow_mut();
            let Some(token) = pipe.token else { continue };
            let (readable, writable) = (std::mem::take(&mut pipe.is_readable), std::mem::take(&mut pipe.is_writable));
            if readable || writable {
                ready.push(Ready { conn: ConnId(u32::try_from(token).unwrap()), writable, readable });
            }
        }
        let rights = Arc::clone(&self.rights);
        self.node.rooms[at].turn(ready, &rights);
        for client in self.clients.iter().filter(|client| client.shard == at) {
            conns.extend(client.pipe.borrow().token);
        }
        self.node.rooms[at].check(&self.settings, &conns);
        let position = self.node.rooms[at].driver.parts.shard.position();
        self.note(format!("turn of {at}: {position}, sleeps {:?}", self.node.rooms[at].sleeps_for()));
        // Those who read at once.
        for client in &mut self.clients {
            if client.reading == Reading::Free {
                client.read(usize::MAX, &mut self.random);
            }
        }
    }

    /// Picks one of those who are still there.
    fn any(&mut self) -> Option<usize> {
        if self.clients.is_empty() {
            return None;
        }
        Some(self.random.below(self.clients.len()))
    }

    fn read(&mut self) {
        let Some(at) = self.any() else { return };
        let most = self.random.between(1, 4_000);
        let client = &mut self.clients[at];
        client.send(self.random.between(1, 200));
        if client.reading == Reading::Slow {
            client.read(most, &mut self.random);
        }
    }

    fn command(&mut self) {
        let Some(at) = self.any() else { return };
        let accepted = self.node.log.lock().facts.len() as u64;
        let client = &mut self.clients[at];
        if !client.speaks() {
            return;
        }
        let (opcode, payload) = client.next_command(accepted, &mut self.random);
        client.say(opcode, &payload, &mut self.random);
        if self.random.percent(70) {
            client.send(usize::MAX);
        }
        let text = String::from_utf8_lossy(&payload).chars().take(60).collect::<String>();
        let number = client.number;
        self.note(format!("client {number}: {text}"));
    }

    fn flood(&mut self) {
        let Some(at) = self.any() else { return };
        let accepted = self.node.log.lock().facts.len() as u64;
        let client = &mut self.clients[at];
        if !client.speaks() {
            return;
        }
        client.keeps_up = false;
        for _ in 0..self.random.between(10, 120) {
            if self.random.percent(30) {
                client.say(9, b"flood", &mut self.random);
            } else {
                let (opcode, payload) = client.next_command(accepted, &mut self.random);
                client.say(opcode, &payload, &mut self.random);
            }
        }
        client.send(usize::MAX);
        let number = client.number;
        self.note(format!("client {number} floods"));
    }

    /// Where a client begins that asks for earlier events.
    fn start(&mut self) -> (Start, Since) {
        let log = self.node.log.lock();
        let next = log.facts.len() as u64;
        let sequence = self.random.below(log.facts.len() + 1) as u64;
        let epoch = self.run as u64 + 1;
        let (text, first) = match self.random.below(10) {
            // Of a run that has ended, or that never was.
            0 => (Position { epoch: epoch + 7, sequence }.to_string(), 0),
            1..5 if sequence < next => {
                let time = log.facts[usize::try_from(sequence).unwrap()].time.clone();
                let first = log.facts.iter().position(|fact| fact.time == time).unwrap();
                (time, first as u64)
            }
            _ => (Position { epoch, sequence }.to_string(), sequence),
        };
        drop(log);
        let since: history::Since = text.parse().unwrap();
        let start = self.node.broker.resolve(since, &text, clock::now()).unwrap();
        let has_gap = start.gap.is_some();
        assert!(has_gap || start.sequence <= first, "the replay begins too late: {start:?}");
        // A time selects some events more.
        let first = first.min(start.sequence);
        (start, Since { first, has_gap })
    }

    fn connect(&mut self) {
        if self.clients.len() == CLIENTS {
            return;
        }
        let user = self.random.below(USERS);
        let (Some(identity), Some(secret)) = (self.office.identity(user), self.rights.secret(user)) else { return };
        let Some(permit) = self.admission.admit() else { panic!("a permit was not given back") };
        let start = self.random.percent(25).then(|| self.start());
        let encoding = if self.random.percent(12) { Encoding::EventStream } else { Encoding::Plain };
        let overflow = self.random.pick(&Overflow::ALL);
        let shard = self.random.below(self.node.rooms.len());
        let since = start.as_ref().map(|(_, since)| *since);
        let manner = Manner { shard, user, secret, overflow, encoding, since };
        let mut client = Client::new(self.connected, manner);
        self.connected += 1;
        let count = if encoding == Encoding::EventStream { self.random.between(1, 3) } else { self.random.below(3) };
        let specs: Vec<Spec> = (0..count).map(|_| Spec::random(&mut self.random)).collect();
        client.commands.extend(specs.iter().cloned().map(Command::Register));
        client.sent_after = vec![self.node.log.lock().facts.len() as u64; specs.len()];
        if self.random.percent(30) {
            let reading = self.random.pick(&[Reading::Slow, Reading::Stalled]);
            client.set_reading(reading, self.random.between(0, 3_000));
        }
        client.pipe.borrow_mut().is_refused = self.random.percent(2);
        let wire = Wire(Rc::clone(&client.pipe));
        let peer = SocketAddr::from(([10, 0, 0, 1], u16::try_from(1024 + self.connected).unwrap()));
        let newcomer = Newcomer {
            socket: wire,
            head: None,
            early: bytes::Bytes::new(),
            encoding,
            identity,
            overflow,
            peer,
            since: start.map(|(start, _)| start),
            warnings: self.random.percent(50),
            registrations: specs.into_iter().map(|spec| spec.text.into()).collect(),
            permit,
        };
        let room = &self.node.rooms[shard];
        room.load.fetch_add(1, Ordering::Relaxed);
        let is_adopted = room.control.try_send(Control::Adopt(Box::new(newcomer))).is_ok();
        assert!(is_adopted, "the control queue is full");
        room.wake();
        self.note(format!("client {} of u{user} connects: {manner:?}", client.number));
        self.clients.push(client);
    }

    /// A client closes its connection, ends it, or breaks it.
    fn part(&mut self) {
        let Some(at) = self.any() else { return };
        let how = self.random.below(3);
        self.part_with(at, how);
    }

    fn part_with(&mut self, at: usize, how: usize) {
        let client = &mut self.clients[at];
        if client.is_gone || client.closes_at.is_some() {
            return;
        }
        match how {
            0 if client.speaks() => {
                client.send(usize::MAX);
                client.say(8, &1000_u16.to_be_bytes(), &mut self.random);
                client.send(usize::MAX);
                client.closes_at = Some(self.node.rooms[client.shard].driver.parts.shard.position());
            }
            1 => {
                client.is_gone = true;
                client.pipe.borrow_mut().end();
            }
            _ => {
                client.is_gone = true;
                client.pipe.borrow_mut().reset();
            }
        }
        let number = client.number;
        self.note(format!("client {number} parts ({how})"));
    }

    /// A client reads faster or slower from now on.
    fn pace(&mut self) {
        let Some(at) = self.any() else { return };
        let reading = self.random.pick(&[Reading::Free, Reading::Free, Reading::Slow, Reading::Stalled]);
        let room = self.random.between(0, 3_000);
        self.clients[at].set_reading(reading, room);
        let number = self.clients[at].number;
        self.note(format!("client {number} reads: {reading:?}"));
    }

    fn change_rights(&mut self) {
        let mut rights = (*self.rights).clone();
        self.office.change(&mut rights, &mut self.random);
        self.rights = Arc::new(rights);
        for room in &self.node.rooms {
            room.review.store(true, Ordering::Relaxed);
            room.wake();
        }
        let text = format!("{:?}", self.rights);
        self.note(text);
    }

    fn wait(&mut self) {
        let most = self.random.pick(&[200, 200, 3_000, 8_000]);
        let millis = self.random.between(1, most) as u64;
        simulated::pass(Duration::from_millis(millis));
        self.note(format!("{millis} ms pass"));
    }

    fn parse(&mut self) {
        let room = &self.node.rooms[self.random.below(self.node.rooms.len())];
        if room.parser.parse_next(&self.settings.index.filter) {
            room.wake();
        }
    }

    /// An operator asks for something; sometimes nobody waits for the answer.
    fn ask(&mut self) {
        let at = self.random.below(self.node.rooms.len());
        let peer = SocketAddr::from(([10, 0, 0, 1], u16::try_from(1024 + self.random.below(40)).unwrap()));
        let control = match self.random.below(6) {
            0 => Control::List(self.reply()),
            1 => Control::Delete(peer, self.reply()),
            2 => Control::Inspect(peer, self.reply()),
            3 => Control::Survey(Measure::Deliveries, self.reply()),
            4 => Control::Seen(self.reply()),
            _ => Control::Types(vec![Box::from("machines")].into()),
        };
        let is_sent = self.node.rooms[at].control.try_send(control).is_ok();
        assert!(is_sent, "the control queue is full");
        self.node.rooms[at].wake();
    }

    fn reply<T: 'static>(&mut self) -> oneshot::Sender<T> {
        let (reply, answer) = oneshot::channel();
        if self.random.percent(70) {
            self.answers.push(Box::new(answer));
        }
        reply
    }

    /// The node dies and comes back with nothing.
    fn die(&mut self) {
        if self.random.percent(60) {
            return;
        }
        self.note("the node dies".to_owned());
        for client in &mut self.clients {
            client.read(usize::MAX, &mut self.random);
            client.pipe.borrow_mut().reset();
        }
        self.judge_all(false);
        self.clients.clear();
        self.run += 1;
        self.node = Node::start(self.run as u64 + 1, &self.settings, &self.office, &self.rights);
        self.check_permits();
    }

    /// Goes on until nothing happens any more but keeping time. `reads`: everybody reads everything.
    fn rest(&mut self, reads: bool) {
        self.note("everything comes to rest".to_owned());
        for round in 0.. {
            assert!(round < 3_000, "it does not come to rest");
            for client in &mut self.clients {
                if reads {
                    client.pipe.borrow_mut().set_room(None);
                    client.reading = Reading::Free;
                    client.read(usize::MAX, &mut self.random);
                }
                client.send(usize::MAX);
            }
            for room in &self.node.rooms {
                while room.parser.parse_next(&self.settings.index.filter) {
                    room.wake();
                }
            }
            let mut moved = false;
            for at in 0..self.node.rooms.len() {
                if self.node.rooms[at].is_awake() || self.is_any_ready(at) {
                    self.turn_of(at);
                    moved |= !self.is_at_rest(at);
                }
            }
            moved |= self
                .clients
                .iter()
                .any(|client| !client.outgoing.is_empty() || !client.pipe.borrow().outbound.is_empty());
            if !moved && (0..self.node.rooms.len()).all(|at| self.is_at_rest(at)) {
                return;
            }
            let next = self.node.rooms.iter().map(Room::sleeps_for).min().unwrap_or_default();
            simulated::pass(next.max(Duration::from_micros(50)));
        }
    }

    fn is_at_rest(&self, at: usize) -> bool {
        let room = &self.node.rooms[at];
        // Replays that wait for registrations wait for ever.
        let level = room.driver.parts.shard.catch_up_in(u64::MAX / 2).is_none();
        room.is_calm() && level && !self.is_any_ready(at) && !room.driver.parts.shard.has_leaving()
    }

    /// Judges everybody. `is_whole`: whoever is still connected has to have received everything.
    fn judge_all(&mut self, is_whole: bool) {
        let log = self.node.log.lock();
        for client in self.clients.iter_mut().filter(|client| !client.is_judged) {
            client.is_judged = true;
            let room = &self.node.rooms[client.shard];
            let judge = Judge::new(client, room, &log, &self.settings);
            let is_open = is_whole && !client.has_ended() && !client.is_gone;
            let whole = match client.items.last() {
                Some(Item::Close { reason, .. }) if reason.is_empty() => Whole::Until(client.closes_at.unwrap_or(0)),
                _ if is_open => Whole::Until(log.facts.len() as u64),
                _ => Whole::Prefix,
            };
            let number = client.number;
            let steps = self.trace.len();
            for item in &client.items {
                let text: String = format!("{item:?}").chars().take(240).collect();
                let mixed = |digest: u64, byte: u8| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                self.digest = text.bytes().fold(self.digest, mixed);
                self.trace.push_back(text);
            }
            if is_open {
                assert_eq!(client.unread(), 0, "client {number} has received half a frame");
                let answers = client.items.iter().filter(|item| matches!(item, Item::Answer { .. })).count();
                assert_eq!(answers, client.commands.len(), "client {number}: every command is answered");
            }
            self.trace
                .push_back(format!("client {number} is judged: {whole:?} {:?} {:?}", client.overflow, client.since));
            if client.since.is_some() {
                judge.replayed(is_open);
            } else {
                judge.live(whole);
            }
            self.trace.truncate(steps);
        }
    }

    /// Everybody leaves, or the server drains.
    fn leave(&mut self) {
        for at in 0..self.clients.len() {
            let how = self.random.below(3);
            self.part_with(at, how);
        }
        self.rest(true);
        for at in 0..self.clients.len() {
            if !self.clients[at].pipe.borrow().is_dropped {
                self.clients[at].closes_at = None;
                self.part_with(at, 2);
            }
        }
        self.rest(true);
    }

    fn check_nothing_is_left(&mut self) {
        for room in &mut self.node.rooms {
            let driver = &mut room.driver;
            assert_eq!((driver.open, room.load.load(Ordering::Relaxed)), (0, 0), "connections");
            assert!(room.parser.waiting() == 0 && driver.parsing == 0, "jobs of the parser");
            let shard = &mut driver.parts.shard;
            assert!(shard.is_empty(), "registrations, frames or sessions");
            let waiting = shard.fanout().waiting();
            assert_eq!((waiting.events, waiting.bytes), (0, 0), "queued events");
            assert!(!shard.fanout().has_leftovers() && shard.lagging() == 0);
        }
        assert!(self.clients.iter().all(|client| client.pipe.borrow().is_dropped), "sockets");
        self.check_permits();
        let limit = i64::try_from(self.settings.total_bytes).unwrap();
        self.node.budget.add(limit);
        assert!(!self.node.budget.is_exceeded(), "the budget holds bytes of nobody");
        self.node.budget.add(1);
        assert!(self.node.budget.is_exceeded(), "the budget is below zero");
        let metrics = self.node.broker.metrics();
        assert_eq!((metrics.connections.get(), metrics.registrations.get()), (0, 0), "gauges");
        self.check_counts();
    }

    fn check_permits(&self) {
        let permits: Vec<Permit> = (0..CLIENTS).map_while(|_| self.admission.admit()).collect();
        assert_eq!(permits.len(), CLIENTS, "every permit was given back");
    }

    /// Every delivery has one outcome.
    fn check_counts(&self) {
        let text = self.node.broker.metrics().render(0);
        let sum = |name: &str| {
            let lines = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
        };
        let outcomes = ["total ", "dropped_total", "conflated_total"];
        let outcomes = outcomes.iter().map(|name| sum(&format!("hydrant_deliveries_{name}"))).sum::<f64>();
        let matched = sum("hydrant_deliveries_matched_total");
        assert!((matched - outcomes).abs() < 0.5, "{matched} matched, {outcomes} delivered, dropped or conflated");
    }
}
