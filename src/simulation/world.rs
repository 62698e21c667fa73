//! A whole run: a node that may die, its clients, the files that decide rights, and time.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Client, Reading};
use super::facts::event;
use super::node::{Node, Settings};
use super::random::Random;
use super::rights::{Office, Rights};
use super::seeds::Simulation;
use super::trace::Trace;
use crate::broker::PublishError;
use crate::clock::{self, simulated};
use crate::fanout::driver::Ready;
use crate::fanout::outbox::ConnId;
use crate::fanout::permit::ConnectionLimit;
use crate::metrics::Source;

/// The most connections at a time.
pub(super) const CLIENTS: usize = 24;

/// The number of steps of a run.
const STEPS: usize = 150;

pub(super) struct World {
    pub(super) random: Random,
    pub(super) settings: Settings,
    pub(super) office: Rc<Office>,
    pub(super) rights: Arc<Rights>,
    pub(super) node: Node,
    /// The number of the run of the node.
    pub(super) run: usize,
    pub(super) clients: Vec<Client>,
    pub(super) connected: usize,
    pub(super) events: u64,
    pub(super) connection_limit: ConnectionLimit,
    /// Operators who wait for an answer.
    pub(super) answers: Vec<Box<dyn Any>>,
    /// All steps and all that was received.
    pub(super) trace: Trace,
}

impl Simulation for World {
    const TESTS: &str = "simulation::";

    fn new(seed: u64) -> Self {
        simulated::begin();
        let mut random = Random::new(seed);
        let settings = Settings::random(&mut random);
        let (office, rights) = Office::open();
        // Opening the first one has taken time.
        simulated::begin();
        simulated::set_step(Duration::from_nanos(random.between(1_000, 40_000) as u64));
        let rights = Arc::new(rights);
        let node = Node::start(1, &settings, &office, &rights);
        let connection_limit = ConnectionLimit::new(CLIENTS, 0);
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
            connection_limit,
            answers: Vec::new(),
            trace: Trace::default(),
        };
        world.trace.note(format!("{settings:?}"));
        world
    }

    /// Runs all steps, then lets everything come to rest, judges all clients and has them leave.
    fn run(&mut self) {
        (0..3).for_each(|_| self.connect());
        for _ in 0..STEPS {
            self.step();
            let passes = self.random.below(2_000) as u64;
            simulated::pass(Duration::from_micros(passes));
        }
        self.rest(true);
        self.judge_all(true);
        self.leave();
        self.check_nothing_is_left();
    }

    fn trace(&self) -> &Trace {
        &self.trace
    }
}

impl World {
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
        self.trace.note(format!("publish {count}: {result:?}"));
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

    pub(super) fn is_any_ready(&self, shard: usize) -> bool {
        self.clients.iter().any(|client| {
            let pipe = client.pipe.borrow();
            client.shard == shard && pipe.token.is_some() && (pipe.is_readable || pipe.is_writable)
        })
    }

    pub(super) fn turn_of(&mut self, at: usize) {
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
        self.trace.note(format!("turn of {at}: {position}, sleeps {:?}", self.node.rooms[at].sleeps_for()));
        // Those who read at once.
        for client in &mut self.clients {
            if client.reading == Reading::Free {
                client.read(usize::MAX, &mut self.random);
            }
        }
    }
}
