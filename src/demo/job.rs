//! Jobs and work orders: the tasks of a machine's runner, and their outcome.

use jiff::Timestamp;

use super::catalogue::Entry;
use super::model::{NEVER, write_common, write_optional};
use super::random::Uuid;
use super::writer::Writer;

/// The state of a job or a work order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Created,
    Running,
    Finished,
    Failed,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }

    fn exit(self) -> &'static str {
        match self {
            Self::Created | Self::Running => "",
            Self::Finished => "complete",
            Self::Failed => "failed",
        }
    }
}

/// One run of one task on one machine.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) id: Uuid,
    pub(super) context: JobContext,
    pub(super) previous: Uuid,
    pub(super) work_order: Option<Uuid>,
    pub(super) task: &'static str,
    pub(super) index: usize,
    pub(super) state: State,
    pub(super) current: bool,
    /// Number of bytes of log that the runner has sent.
    pub(super) log: u32,
    pub(super) started: Timestamp,
    pub(super) ended: Option<Timestamp>,
}

/// The machine's stage, workflow and boot environment when the job was created.
#[derive(Debug, Clone, Copy)]
pub(super) struct JobContext {
    pub(super) machine: Uuid,
    pub(super) stage: &'static str,
    pub(super) workflow: &'static str,
    pub(super) bootenv: &'static str,
}

impl Job {
    pub(super) fn json(&self) -> String {
        let context = self.context;
        Writer::object(1_024, |w| {
            write_common(w, &[]);
            w.plain("Uuid", self.id);
            w.plain("Previous", self.previous);
            w.plain("Machine", context.machine);
            write_optional(w, "WorkOrder", self.work_order);
            w.text("TargetPrefix", "machines");
            w.plain("TargetKey", context.machine);
            w.text("Task", self.task);
            w.text("Stage", context.stage);
            w.text("Workflow", context.workflow);
            w.text("BootEnv", context.bootenv);
            w.text("State", self.state.name());
            w.text("ExitState", self.state.exit());
            w.texts("ResultErrors", (self.state == State::Failed).then_some("exit status 1"));
            w.number("LogPosition", self.log);
            w.plain("StartTime", self.started);
            match self.ended {
                Some(time) => w.plain("EndTime", time),
                None => w.text("EndTime", NEVER),
            }
            w.flag("Archived", false);
            w.flag("Current", self.current);
            w.flag("Independent", self.work_order.is_some());
            w.number("CurrentIndex", i64::try_from(self.index).expect("a task list is short"));
            w.number("NextIndex", i64::try_from(self.index + 1).expect("a task list is short"));
        })
    }
}

/// A blueprint to be run on one machine outside its workflow.
#[derive(Debug, Clone)]
pub(super) struct WorkOrder {
    pub(super) id: Uuid,
    pub(super) task: &'static str,
    pub(super) state: State,
    pub(super) job: Option<Uuid>,
    pub(super) started: Timestamp,
}

impl WorkOrder {
    pub(super) fn json(&self, machine: Uuid) -> String {
        Writer::object(768, |w| {
            write_common(w, &[]);
            w.plain("Uuid", self.id);
            w.plain("Machine", machine);
            w.plain("Blueprint", format_args!("run-{}", self.task));
            w.text("Stage", "");
            w.plains("Tasks", [Entry::Task(self.task)]);
            w.number("CurrentTask", if self.job.is_some() { 0 } else { -1 });
            write_optional(w, "CurrentJob", self.job);
            w.text("State", self.state.name());
            w.text("Status", "");
            w.flag("Runnable", true);
            w.flag("Archived", false);
            w.texts("Profiles", []);
            w.nested("Params", |_| {});
            w.plain("StartTime", self.started);
        })
    }
}
