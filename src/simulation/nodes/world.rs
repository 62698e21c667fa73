//! A run of two to four nodes and a NATS server: its parts, and the choice of its steps.
//!
//! Contract: everything follows from the seed, including the order in which random numbers are drawn and the clock is
//! read. The last twelve in a hundred choices are failures, so that a run without failures draws from the others only.
//! The steps themselves are in `steps`, `notices`, `connections`, `membership` and `time`.

use std::time::Duration;

use tokio::runtime::Runtime;

use super::bus::Bus;
use super::judge;
use super::node::{Node, Texts};
use super::record::Record;
use super::settings::Settings;
use crate::clock::simulated;
use crate::simulation::random::Random;
use crate::simulation::seeds::Simulation;
use crate::simulation::trace::Trace;

/// The number of steps of a run.
const STEPS: usize = 200;

/// The number of choices, of 100, that are no failures.
const FAIR_STEPS: usize = 88;

pub(super) struct World {
    pub(super) random: Random,
    pub(super) settings: Settings,
    pub(super) nodes: Vec<Node>,
    pub(super) bus: Bus,
    pub(super) texts: Texts,
    pub(super) record: Record,
    /// The number of nodes that have joined so far.
    pub(super) joined: u64,
    /// Whether the server is running.
    pub(super) is_up: bool,
    pub(super) runtime: Runtime,
    pub(super) trace: Trace,
}

impl Simulation for World {
    const TESTS: &str = "simulation::nodes::";

    fn new(seed: u64) -> Self {
        simulated::begin();
        simulated::set_step(Duration::from_nanos(500));
        let mut random = Random::new(seed ^ 0x0dde_5eed);
        let settings = Settings::random(&mut random);
        let mut world = Self::empty(random, settings);
        world.trace.note(format!("{settings:?}"));
        (0..settings.nodes).for_each(|at| world.join(at < settings.followers));
        // They get to know each other.
        world.pass(3_000);
        world
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
            let passes = self.random.below(3_000) as u64;
            simulated::pass(Duration::from_micros(passes));
        }
        self.rest();
        judge::judge(self);
    }

    fn trace(&self) -> &Trace {
        &self.trace
    }
}

impl World {
    /// Returns a world without nodes.
    fn empty(mut random: Random, settings: Settings) -> Self {
        let bus = Bus::new(Random::new(random.next()), settings.outbound);
        Self {
            random,
            settings,
            nodes: Vec::new(),
            bus,
            texts: Texts::default(),
            record: Record::default(),
            joined: 0,
            is_up: true,
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap(),
            trace: Trace::default(),
        }
    }

    fn step(&mut self) {
        match self.random.below(if self.settings.is_fair { FAIR_STEPS } else { 100 }) {
            0..16 => self.post(),
            16..24 => self.record.send(&mut self.random),
            24..32 => self.follow(),
            32..48 => self.write(),
            48..60 => self.serve(),
            60..72 => self.deliver(),
            72..78 => self.tend_one(),
            78..80 => self.drain_one(),
            80..84 => self.delay(),
            84..FAIR_STEPS => self.pass_some(),
            FAIR_STEPS..92 => self.cut_one(),
            92..94 => self.stall(),
            94..95 => self.fail(),
            95..97 => self.recover(),
            97..98 => self.kill(),
            98..99 => self.end(),
            _ => self.rejoin(),
        }
    }

    /// Picks a node.
    pub(super) fn any(&mut self) -> Option<usize> {
        (!self.nodes.is_empty()).then(|| self.random.below(self.nodes.len()))
    }
}
