//! Writes the objects of the fleet as DRP 4.x does.

use std::fmt::Display;

use jiff::Timestamp;

use super::catalogue::{Param, Profile, Stage, Task, Workflow};
use super::writer::Writer;

/// Go's zero time.
pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";

/// Writes the members with which every DRP object begins.
pub(super) fn write_common(w: &mut Writer, meta: &[(&str, &str)]) {
    w.flag("Validated", true);
    w.flag("Available", true);
    w.texts("Errors", []);
    w.flag("ReadOnly", false);
    w.nested("Meta", |w| {
        for (name, value) in meta {
            w.text(name, value);
        }
    });
    w.text("Endpoint", "");
    w.text("Bundle", "");
}

/// Writes who created an object and who changed it last, and when.
pub(super) fn write_history(w: &mut Writer, created: Timestamp, modified: Timestamp, by: &str) {
    w.plain("CreatedAt", created);
    w.text("CreatedBy", "rocketskates");
    w.plain("LastModifiedAt", modified);
    w.text("LastModifiedBy", by);
}

fn write_named(w: &mut Writer, meta: &[(&str, &str)], name: &str, about: &str) {
    write_common(w, meta);
    w.text("Name", name);
    w.text("Description", about);
    w.text("Documentation", "");
}

/// Returns a param as JSON; `edition` is the number of times it was saved.
pub(super) fn param(param: &Param, edition: u32) -> String {
    Writer::object(512, |w| {
        write_common(w, &[("icon", "tag")]);
        w.text("Name", param.name);
        w.text("Description", param.about);
        w.plain("Documentation", format_args!("Edition {edition}"));
        w.flag("Secure", false);
        w.raw("Schema", param.schema);
    })
}

/// Returns a profile as JSON; `patches` is its patch level.
pub(super) fn profile(profile: &Profile, patches: u32) -> String {
    Writer::object(512, |w| {
        write_named(w, &[("color", "blue"), ("icon", "server")], profile.name, "");
        w.raw("Params", &format!("{{{},\"fleet/patch-level\":{patches}}}", profile.params));
        w.texts("Profiles", []);
    })
}

pub(super) fn task(task: &Task) -> String {
    Writer::object(1_024, |w| {
        write_named(w, &[("feature-flags", "sane-exit-codes")], task.name, task.about);
        w.list("Templates", 1, |w, _| {
            w.plain("Name", format_args!("{}.sh", task.name));
            w.text("Path", "");
            w.text("ID", "");
            let script =
                "#!/usr/bin/env bash\n# {{.Task.Name}} on {{.Machine.Name}}\nset -e\n{{template \"setup.tmpl\" .}}\n";
            w.text("Contents", &format!("{script}run_task {:?}\nexit 0\n", task.name));
        });
        w.texts("RequiredParams", []);
        w.texts("OptionalParams", []);
        w.texts("Prerequisites", []);
    })
}

pub(super) fn stage(stage: &Stage) -> String {
    Writer::object(1_024, |w| {
        write_named(w, &[("color", stage.color), ("icon", "layer group")], stage.name, "");
        w.text("BootEnv", stage.bootenv);
        w.texts("Tasks", stage.tasks.iter().copied());
        w.texts("Profiles", []);
        w.texts("Templates", []);
        w.texts("RequiredParams", []);
        w.nested("Params", |_| {});
        w.flag("RunnerWait", true);
        w.flag("Reboot", false);
    })
}

pub(super) fn workflow(workflow: &Workflow) -> String {
    Writer::object(512, |w| {
        write_named(w, &[("color", "green"), ("icon", "tasks")], workflow.name, "");
        w.texts("Stages", workflow.stages.iter().copied());
    })
}

/// Writes a member that DRP writes as an empty string if there is no value.
pub(super) fn write_optional(w: &mut Writer, name: &str, value: Option<impl Display>) {
    match value {
        Some(value) => w.plain(name, value),
        None => w.text(name, ""),
    }
}
