//! A simulated DRP fleet: machines that move through their stages endlessly, and the events about them.
//!
//! [`Fleet::step`] returns one event after the other. First the catalogue (params, tasks, stages, workflows, profiles)
//! and the machines are created. Then machines run workflows as jobs, process work orders, sometimes fail, are
//! repaired, join and leave.
//!
//! Contract: pure and deterministic. No I/O, no threads, no clock: the same seed and size produce the same bytes. The
//! times inside objects are the fleet's own and advance with every step, unless [`Fleet::set_now`] sets them. The
//! Original of an `update` or `save` is exactly the Object of the previous event about the same object. A job always
//! names an existing machine. The number of machines stays within a tenth of the requested number.
//!
//! Why a state machine rather than a recording: the load generator needs any number of machines for any length of time,
//! with consistent `Original`s. A step costs some microseconds because texts are written directly from the state.

mod catalogue;
mod event;
pub mod feed;
mod hardware;
mod job;
mod machine;
mod model;
pub(crate) mod random;
#[cfg(test)]
mod tests;
mod work;
mod writer;

use std::fmt::Display;

use jiff::{SignedDuration, Timestamp};

pub use self::event::DemoEvent;

use self::catalogue::{PARAMS, PROFILES, STAGES, TASKS, WORKFLOWS};
use self::machine::Machine;
use self::random::Random;

/// The principal of everything that no runner does.
const OPERATOR: &str = "user:rocketskates";

/// The start of the fleet's own time: 2026-01-01T00:00:00Z, in seconds since 1970.
const EPOCH_SECONDS: i64 = 1_767_225_600;

/// A deterministic simulated fleet. The same seed and size produce the same events, byte for byte.
#[derive(Debug)]
pub struct Fleet {
    random: Random,
    now: Timestamp,
    /// The intended number of machines.
    wanted: u32,
    /// Whether the first machines join in the middle of a workflow.
    is_underway: bool,
    machines: Vec<Machine>,
    /// Number of machines that have been chosen to leave.
    leaving: usize,
    /// Number of machines created so far, which is the number of the next one.
    made: u32,
    /// Number of catalogue objects published so far.
    defined: usize,
    param_editions: [u32; PARAMS.len()],
    profile_patches: [u32; PROFILES.len()],
}

impl Fleet {
    /// Creates a fleet that will have about `machines` machines, at least one.
    pub fn new(seed: u64, machines: u32) -> Self {
        Self {
            random: Random::new(seed),
            now: Timestamp::from_second(EPOCH_SECONDS).expect("a time of this century"),
            wanted: machines.max(1),
            is_underway: false,
            machines: Vec::new(),
            leaving: 0,
            made: 0,
            defined: 0,
            param_editions: [0; PARAMS.len()],
            profile_patches: [0; PROFILES.len()],
        }
    }

    /// Lets the first machines join in the middle of being provisioned, each at another point, so that somebody who
    /// watches soon sees machines reach every stage. Without this they all begin together.
    #[must_use]
    pub fn underway(self) -> Self {
        Self { is_underway: true, ..self }
    }

    /// Sets the current time, from which the times in objects continue.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Returns the current number of machines.
    #[cfg(test)]
    pub(crate) fn machine_count(&self) -> usize {
        self.machines.len()
    }

    /// Returns the UUIDs of the current machines.
    pub fn machine_keys(&self) -> impl Iterator<Item = String> {
        self.machines.iter().map(|machine| machine.id.to_string())
    }

    /// Returns whether the catalogue and the first machines have been created, so that the fleet can start working.
    pub fn is_set_up(&self) -> bool {
        self.made >= self.wanted
    }

    /// Returns the next event.
    pub fn step(&mut self) -> DemoEvent {
        let elapsed = SignedDuration::from_millis(i64::from(self.random.between(20, 400)));
        self.now = self.now.checked_add(elapsed).unwrap_or(self.now);
        if let Some(definition) = self.define() {
            return definition;
        }
        if !self.is_set_up() {
            return self.join();
        }
        match self.random.below(400) {
            0..4 => self.save_profile(),
            4 => self.save_param(),
            5..8 => self.resize(),
            _ => self.visit_any(),
        }
    }

    /// Returns the creation of the next catalogue object.
    fn define(&mut self) -> Option<DemoEvent> {
        let params = PARAMS.iter().map(|p| ("params", p.name, model::param(p, 0)));
        let tasks = TASKS.iter().map(|t| ("tasks", t.name, model::task(t)));
        let stages = STAGES.iter().map(|s| ("stages", s.name, model::stage(s)));
        let workflows = WORKFLOWS.iter().map(|w| ("workflows", w.name, model::workflow(w)));
        let profiles = PROFILES.iter().map(|p| ("profiles", p.name, model::profile(p, 0)));
        let total = PARAMS.len() + TASKS.len() + STAGES.len() + WORKFLOWS.len() + PROFILES.len();
        if self.defined == total {
            return None;
        }
        let mut all = params.chain(tasks).chain(stages).chain(workflows).chain(profiles);
        let (kind, name, object) = all.nth(self.defined)?;
        self.defined += 1;
        Some(happened(kind, "create", name, OPERATOR, object, None))
    }

    fn join(&mut self) -> DemoEvent {
        let mut machine = Machine::new(self.made, self.now, &mut self.random);
        if self.is_underway && !self.is_set_up() {
            machine.be_provisioned(&mut self.random);
        }
        self.made += 1;
        let event = happened("machines", "create", machine.id, OPERATOR, machine.json(), None);
        self.machines.push(machine);
        event
    }

    fn save_profile(&mut self) -> DemoEvent {
        let at = self.random.index(PROFILES.len());
        let before = model::profile(&PROFILES[at], self.profile_patches[at]);
        self.profile_patches[at] += 1;
        let after = model::profile(&PROFILES[at], self.profile_patches[at]);
        happened("profiles", "save", PROFILES[at].name, OPERATOR, after, Some(before))
    }

    fn save_param(&mut self) -> DemoEvent {
        let at = self.random.index(PARAMS.len());
        let before = model::param(&PARAMS[at], self.param_editions[at]);
        self.param_editions[at] += 1;
        let after = model::param(&PARAMS[at], self.param_editions[at]);
        happened("params", "save", PARAMS[at].name, OPERATOR, after, Some(before))
    }

    /// Adds a machine, or chooses one to leave; the further the fleet is from its intended size, the more likely the
    /// change is towards it.
    fn resize(&mut self) -> DemoEvent {
        let band = self.wanted / 10;
        let threshold = self.wanted - band + self.random.below(2 * band + 1);
        if self.machines.len() - self.leaving <= threshold as usize {
            return self.join();
        }
        let at = self.random.index(self.machines.len());
        if self.machines[at].retire() {
            self.leaving += 1;
        }
        self.visit(at)
    }

    fn visit_any(&mut self) -> DemoEvent {
        let at = self.random.index(self.machines.len());
        self.visit(at)
    }
}

/// Creates an event; `original` is given for updates and saves.
fn happened(
    kind: &'static str,
    action: &'static str,
    key: impl Display,
    principal: &str,
    object: String,
    original: Option<String>,
) -> DemoEvent {
    DemoEvent {
        kind,
        action,
        key: key.to_string(),
        principal: principal.to_owned(),
        object,
        original: original.unwrap_or_else(|| "null".to_owned()),
    }
}
