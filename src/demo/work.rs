//! The life of one machine, through workflows, jobs and work orders: one event per visit.

use super::catalogue::Entry;
use super::job::{Job, State, WorkOrder};
use super::machine::{Machine, Phase};
use super::random::Uuid;
use super::{DemoEvent, Fleet, OPERATOR, happened};

/// Tasks that an operator orders individually.
const ERRANDS: [&str; 3] = ["patch-apply", "health-check", "ssh-access"];

/// One of this many jobs fails.
const FAILURE_ONE_IN: u32 = 25;

impl Machine {
    /// Chooses the machine to leave, unless it is busy. Returns whether it was chosen.
    pub(super) fn retire(&mut self) -> bool {
        let free = matches!(self.phase, Phase::Idle | Phase::Advance | Phase::Stopped);
        if free {
            self.phase = Phase::Retire;
        }
        free
    }

    fn has_current_job(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.current)
    }
}

impl Fleet {
    /// Returns the next event of the machine at `at`.
    pub(super) fn visit(&mut self, at: usize) -> DemoEvent {
        match self.machines[at].phase {
            Phase::Idle => self.wish(at),
            Phase::Advance => self.advance(at),
            Phase::Bind => self.bind(at),
            Phase::Run { reports } => self.run(at, reports),
            Phase::Stop => self.by_runner(at, Phase::Stopped, |machine| machine.runnable = false),
            Phase::Stopped => self.restart(at),
            Phase::Inventory => self.by_runner(at, Phase::Advance, |machine| machine.inventoried = true),
            Phase::Accept => self.accept(at),
            Phase::Conclude => self.conclude(at),
            Phase::Retire => self.leave(at),
        }
    }

    /// Changes a machine and returns the event with its state before and after.
    fn change(&mut self, at: usize, action: &'static str, runner: bool, apply: impl FnOnce(&mut Machine)) -> DemoEvent {
        let machine = &mut self.machines[at];
        let before = machine.json();
        machine.modified = self.now;
        machine.modified_by_runner = runner;
        apply(machine);
        let principal = if runner { &machine.runner() } else { OPERATOR };
        happened("machines", action, machine.id, principal, machine.json(), Some(before))
    }

    fn by_runner(&mut self, at: usize, next: Phase, apply: impl FnOnce(&mut Machine)) -> DemoEvent {
        self.machines[at].phase = next;
        self.change(at, "update", true, apply)
    }

    /// Lets an operator do something with an idle machine.
    fn wish(&mut self, at: usize) -> DemoEvent {
        let experienced = self.machines[at].inventoried;
        match self.random.below(6) {
            0 | 1 if experienced => self.order(at),
            2 => self.change(at, "save", false, |machine| machine.patches += 1),
            _ => self.start_workflow(at),
        }
    }

    fn start_workflow(&mut self, at: usize) -> DemoEvent {
        let workflow = self.machines[at].next_workflow();
        self.machines[at].phase = Phase::Advance;
        self.change(at, "update", false, |machine| {
            machine.workflow = Some(workflow);
            machine.stage = workflow.stages[0];
            machine.current = None;
        })
    }

    /// Enters the next entry of the task list. Before a new job, the previous one is marked as no longer current.
    fn advance(&mut self, at: usize) -> DemoEvent {
        match self.machines[at].next_entry() {
            (index, Some(Entry::Stage(stage))) => self.by_runner(at, Phase::Advance, |machine| {
                machine.stage = stage;
                machine.current = Some(index);
            }),
            (index, Some(Entry::BootEnv(bootenv))) => self.by_runner(at, Phase::Advance, |machine| {
                machine.bootenv = bootenv;
                machine.current = Some(index);
            }),
            (index, Some(Entry::Task(task))) => self.create_job(at, task, index, None),
            (index, None) => self.by_runner(at, Phase::Idle, |machine| machine.current = Some(index)),
        }
    }

    fn create_job(&mut self, at: usize, task: &'static str, index: usize, work_order: Option<Uuid>) -> DemoEvent {
        if self.machines[at].has_current_job() {
            return self.set_job_aside(at);
        }
        let machine = &mut self.machines[at];
        let job = Job {
            id: self.random.uuid(),
            context: machine.context(),
            previous: machine.job.as_ref().map_or(Uuid::NIL, |job| job.id),
            work_order,
            task,
            index,
            state: State::Created,
            current: true,
            log: 0,
            started: self.now,
            ended: None,
        };
        machine.phase = Phase::Bind;
        let event = happened("jobs", "create", job.id, &machine.runner(), job.json(), None);
        machine.job = Some(job);
        event
    }

    /// Changes a machine's job, which must exist.
    fn change_job(&mut self, at: usize, action: &'static str, apply: impl FnOnce(&mut Job)) -> DemoEvent {
        let machine = &mut self.machines[at];
        let runner = machine.runner();
        let job = machine.job.as_mut().expect("the machine is in a phase that has a job");
        let before = job.json();
        apply(job);
        happened("jobs", action, job.id, &runner, job.json(), Some(before))
    }

    fn set_job_aside(&mut self, at: usize) -> DemoEvent {
        self.change_job(at, "save", |job| job.current = false)
    }

    fn bind(&mut self, at: usize) -> DemoEvent {
        let reports = self.random.between(1, 4);
        let machine = &mut self.machines[at];
        machine.phase = Phase::Run { reports };
        let job = machine.job.as_ref().expect("a job has just been made");
        let (id, index) = (job.id, job.index);
        if machine.work_order.is_some() {
            return self.change_order(at, |order| {
                order.job = Some(id);
                order.state = State::Running;
            });
        }
        self.change(at, "update", true, |machine| {
            machine.current = Some(index);
            machine.current_job = Some(id);
        })
    }

    fn run(&mut self, at: usize, reports: u32) -> DemoEvent {
        let log = self.random.between(200, 9_000);
        if reports > 0 {
            self.machines[at].phase = Phase::Run { reports: reports - 1 };
            return self.change_job(at, "update", |job| {
                job.state = State::Running;
                job.log += log;
            });
        }
        let outcome = if self.random.one_in(FAILURE_ONE_IN) { State::Failed } else { State::Finished };
        self.machines[at].phase = self.after_job(at, outcome);
        let now = self.now;
        self.change_job(at, "update", |job| {
            job.state = outcome;
            job.log += log;
            job.ended = Some(now);
        })
    }

    fn after_job(&self, at: usize, outcome: State) -> Phase {
        let machine = &self.machines[at];
        let found = machine.job.as_ref().is_some_and(|job| job.task == "gohai") && !machine.inventoried;
        if machine.work_order.is_some() {
            Phase::Conclude
        } else if outcome == State::Failed {
            Phase::Stop
        } else if found {
            Phase::Inventory
        } else {
            Phase::Advance
        }
    }

    /// Restarts a stopped machine: the failed task is tried again.
    fn restart(&mut self, at: usize) -> DemoEvent {
        self.machines[at].phase = Phase::Advance;
        self.change(at, "update", false, |machine| {
            machine.runnable = true;
            machine.current = machine.current.and_then(|index| index.checked_sub(1));
        })
    }

    fn order(&mut self, at: usize) -> DemoEvent {
        let task = ERRANDS[self.random.index(ERRANDS.len())];
        let order = WorkOrder { id: self.random.uuid(), task, state: State::Created, job: None, started: self.now };
        let machine = &mut self.machines[at];
        machine.phase = Phase::Accept;
        let event = happened("work_orders", "create", order.id, OPERATOR, order.json(machine.id), None);
        machine.work_order = Some(order);
        event
    }

    fn accept(&mut self, at: usize) -> DemoEvent {
        let order = self.machines[at].work_order.as_ref().expect("a work order is to be accepted");
        let (task, id) = (order.task, order.id);
        self.create_job(at, task, 0, Some(id))
    }

    fn change_order(&mut self, at: usize, apply: impl FnOnce(&mut WorkOrder)) -> DemoEvent {
        let machine = &mut self.machines[at];
        let (runner, id) = (machine.runner(), machine.id);
        let order = machine.work_order.as_mut().expect("the machine is in a phase that has a work order");
        let before = order.json(id);
        apply(order);
        happened("work_orders", "update", order.id, &runner, order.json(id), Some(before))
    }

    fn conclude(&mut self, at: usize) -> DemoEvent {
        let outcome = self.machines[at].job.as_ref().map_or(State::Failed, |job| job.state);
        let event = self.change_order(at, |order| order.state = outcome);
        self.machines[at].work_order = None;
        self.machines[at].phase = Phase::Idle;
        event
    }

    fn leave(&mut self, at: usize) -> DemoEvent {
        if self.machines[at].has_current_job() {
            return self.set_job_aside(at);
        }
        let machine = self.machines.swap_remove(at);
        self.leaving -= 1;
        happened("machines", "delete", machine.id, OPERATOR, machine.json(), None)
    }
}
