//! A simulated machine: its state, and how it is serialized.

use jiff::Timestamp;

use super::catalogue::{Entry, PROFILES, WORKFLOWS, Workflow};
use super::hardware::Hardware;
use super::job::{Job, JobContext, WorkOrder};
use super::model::{write_common, write_history, write_optional};
use super::random::{Random, Uuid};
use super::writer::Writer;

/// What happens to a machine next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing until an operator wants something.
    Idle,
    /// The machine enters the next entry of the task list.
    Advance,
    /// The machine, or the work order, records which job is its current one.
    Bind,
    /// The runner reports this many more times.
    Run { reports: u32 },
    /// The job has failed, and the machine stops.
    Stop,
    /// The machine is stopped until an operator restarts it.
    Stopped,
    /// The runner saves the inventory that it found.
    Inventory,
    /// The runner accepts the work order.
    Accept,
    /// The work order's job has ended.
    Conclude,
    /// The machine leaves the fleet.
    Retire,
}

/// The state of a machine, from which all its JSON is written.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: Uuid,
    number: u32,
    hardware: Hardware,
    created: Timestamp,
    pub(super) modified: Timestamp,
    pub(super) modified_by_runner: bool,
    pub(super) workflow: Option<&'static Workflow>,
    pub(super) stage: &'static str,
    pub(super) bootenv: &'static str,
    /// Index into the task list; `None` before its start.
    pub(super) current: Option<usize>,
    pub(super) current_job: Option<Uuid>,
    pub(super) runnable: bool,
    pub(super) inventoried: bool,
    pub(super) patches: u32,
    pub(super) job: Option<Job>,
    pub(super) work_order: Option<WorkOrder>,
    pub(super) phase: Phase,
}

/// A machine's `Profile`: nearly empty, since machines now have params of their own.
const NO_PROFILE: &str = concat!(
    r#"{"Validated":false,"Available":false,"Errors":null,"ReadOnly":false,"Meta":null,"Endpoint":"","Bundle":"","#,
    r#""Name":"","Description":"","Documentation":"","Params":null,"Profiles":null}"#
);

impl Machine {
    pub(super) fn new(number: u32, now: Timestamp, random: &mut Random) -> Self {
        Self {
            id: random.uuid(),
            number,
            hardware: Hardware::new(random),
            created: now,
            modified: now,
            modified_by_runner: false,
            workflow: None,
            stage: "none",
            bootenv: "local",
            current: None,
            current_job: None,
            runnable: true,
            inventoried: false,
            patches: 0,
            job: None,
            work_order: None,
            phase: Phase::Idle,
        }
    }

    /// Puts a new machine at any point of the workflow that provisions it.
    pub(super) fn be_provisioned(&mut self, random: &mut Random) {
        let workflow = &WORKFLOWS[1];
        let done = random.index(workflow.entries().count());
        (self.workflow, self.stage, self.inventoried) = (Some(workflow), workflow.stages[0], true);
        for (index, entry) in workflow.entries().take(done).enumerate() {
            match entry {
                Entry::Stage(stage) => self.stage = stage,
                Entry::BootEnv(bootenv) => self.bootenv = bootenv,
                Entry::Task(_) => {}
            }
            self.current = Some(index);
        }
        self.phase = Phase::Advance;
    }

    /// Returns the principal of the runner on this machine.
    pub(super) fn runner(&self) -> String {
        format!("runner:{}", self.id)
    }

    /// Returns the index of the next entry of the task list, and that entry. At the end of the list these are its
    /// length and `None`.
    pub(super) fn next_entry(&self) -> (usize, Option<Entry>) {
        let at = self.current.map_or(0, |at| at + 1);
        (at, self.workflow.and_then(|workflow| workflow.entries().nth(at)))
    }

    /// Returns whether the workflow has been completed.
    fn is_complete(&self) -> bool {
        let entries = self.workflow.map_or(0, |workflow| workflow.entries().count());
        self.workflow.is_some() && self.current == Some(entries)
    }

    /// Returns the workflow that follows the current one.
    pub(super) fn next_workflow(&self) -> &'static Workflow {
        // By name: a constant need not have the same address everywhere.
        let at = self.workflow.map(|now| WORKFLOWS.iter().position(|w| w.name == now.name));
        match at.flatten() {
            None => &WORKFLOWS[0],
            Some(0) => &WORKFLOWS[1],
            Some(_) => &WORKFLOWS[2],
        }
    }

    pub(super) fn context(&self) -> JobContext {
        let workflow = self.workflow.map_or("", |w| w.name);
        JobContext { machine: self.id, stage: self.stage, workflow, bootenv: self.bootenv }
    }

    /// Returns the whole machine as DRP writes it.
    pub(super) fn json(&self) -> String {
        Writer::object(16 * 1_024, |w| {
            write_common(w, &[("feature-flags", "change-stage-v2"), ("color", "black"), ("icon", "server")]);
            self.write_identity(w);
            self.write_progress(w);
            w.nested("Params", |w| self.write_params(w));
            let by = if self.modified_by_runner { &self.runner() } else { "rocketskates" };
            write_history(w, self.created, self.modified, by);
        })
    }

    fn rack(&self) -> u32 {
        1 + self.number / 40 % 4
    }

    fn write_identity(&self, w: &mut Writer) {
        let slot = self.number % 40;
        w.plain("Name", format_args!("node{slot:02}.rack{}.example.com", 1 + self.number / 40));
        w.text("Description", "");
        w.plain("Uuid", self.id);
        w.plain("Address", format_args!("10.{}.{}.{}", self.number >> 14, (self.number >> 7) & 127, self.number & 127));
        w.text("Arch", "amd64");
        w.text("OS", if self.bootenv == "local" && self.inventoried { "debian-12" } else { "" });
        w.plains("HardwareAddrs", self.hardware.macs());
        let rack = PROFILES[self.rack() as usize].name;
        w.texts("Profiles", [rack, "storage"].into_iter().take(1 + self.number as usize % 2));
        w.raw("Profile", NO_PROFILE);
        write_pool(w);
        w.nested("Fingerprint", |w| {
            w.plain("CSNHash", format_args!("{:040x}", self.number));
            w.texts("MemoryIds", []);
        });
    }

    fn write_progress(&self, w: &mut Writer) {
        w.text("Workflow", self.workflow.map_or("", |workflow| workflow.name));
        w.text("Stage", self.stage);
        w.text("BootEnv", self.bootenv);
        w.plains("Tasks", self.workflow.into_iter().flat_map(Workflow::entries));
        w.number("CurrentTask", self.current.map_or(-1, |at| i64::try_from(at).expect("a task list is short")));
        w.number("RetryTaskAttempt", 0);
        w.texts("TaskErrorStacks", []);
        write_optional(w, "CurrentJob", self.current_job);
        w.flag("Runnable", self.runnable);
        w.flag("WorkflowComplete", self.is_complete());
        w.flag("WorkOrderMode", self.is_complete());
    }

    fn write_params(&self, w: &mut Writer) {
        w.number("fleet/patch-level", self.patches);
        w.plain("ipmi/address", format_args!("172.16.{}.{}", self.number >> 7 & 255, self.number & 127));
        w.text("ipmi/mode", "redfish");
        w.text("ipmi/username", "root");
        w.plain("rack/location", format_args!("hall 1, rack {}, unit {}", self.rack(), self.number % 40));
        self.hardware.write_plan(w);
        if self.inventoried {
            self.hardware.write_inventory(w);
        }
    }
}

fn write_pool(w: &mut Writer) {
    w.flag("Locked", false);
    w.text("Context", "");
    w.text("Partition", "");
    w.text("Pool", "default");
    w.text("PoolStatus", "Free");
    w.flag("PoolAllocated", false);
}
