//! The objects that manage the simulated fleet: params, tasks, stages, workflows and profiles.
//!
//! DRP operators know their names and shapes; the contents are invented.

use std::fmt;

/// A named, typed setting.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    /// JSON schema of the value.
    pub(super) schema: &'static str,
    pub(super) about: &'static str,
}

/// A unit of work that a machine's runner performs.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
}

/// A list of tasks to be performed in one boot environment.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    /// The boot environment; empty if it does not change.
    pub(super) bootenv: &'static str,
    pub(super) tasks: &'static [&'static str],
    pub(super) color: &'static str,
}

/// A list of stages.
#[derive(Debug)]
pub(super) struct Workflow {
    pub(super) name: &'static str,
    pub(super) stages: &'static [&'static str],
}

/// A named set of param values.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) name: &'static str,
    /// Members of a JSON object, without its braces.
    pub(super) params: &'static str,
}

const fn param(name: &'static str, schema: &'static str, about: &'static str) -> Param {
    Param { name, schema, about }
}

const fn task(name: &'static str, about: &'static str) -> Task {
    Task { name, about }
}

pub(super) const PARAMS: &[Param] = &[
    param("access-keys", r#"{"type":"object"}"#, "Public keys that may log in as root, by owner"),
    param("access-ssh-root-mode", r#"{"type":"string","default":"without-password"}"#, "PermitRootLogin of sshd"),
    param("bios-target-configuration", r#"{"type":"object"}"#, "Firmware settings that the machine is to have"),
    param("cluster/tags", r#"{"type":"array","items":{"type":"string"}}"#, "Clusters that the machine may join"),
    param("dns-domain", r#"{"type":"string"}"#, "Domain of the machine's name"),
    param("flash-list", r#"{"type":"array","items":{"type":"object"}}"#, "Firmware that the machine is to have"),
    param("fleet/patch-level", r#"{"type":"integer","minimum":0}"#, "Number of the last patch set applied"),
    param("gohai-inventory", r#"{"type":"object"}"#, "What discovery found in the machine"),
    param("ipmi/address", r#"{"type":"string","format":"ipv4"}"#, "Address of the management controller"),
    param("ipmi/mode", r#"{"type":"string","enum":["ipmitool","redfish","racadm"]}"#, "How to speak to it"),
    param("ipmi/username", r#"{"type":"string","default":"root"}"#, "Who to be when speaking to it"),
    param("kernel-console", r#"{"type":"string"}"#, "Console parameters of the kernel's command line"),
    param("network-topology", r#"{"type":"object"}"#, "Bonds, bridges and VLANs to configure"),
    param("ntp-servers", r#"{"type":"array","items":{"type":"string"}}"#, "Where the time comes from"),
    param("rack/location", r#"{"type":"string"}"#, "Where the machine stands"),
    param("raid-target-config", r#"{"type":"array","items":{"type":"object"}}"#, "Volumes that the machine is to have"),
];

pub(super) const TASKS: &[Task] = &[
    task("gohai", "Looks at the hardware and saves gohai-inventory"),
    task("ssh-access", "Installs the access keys"),
    task("inventory-check", "Compares the inventory with what was ordered"),
    task("inventory-classify", "Adds profiles by what was found"),
    task("ipmi-discover", "Finds the management controller's address"),
    task("ipmi-configure", "Sets the management controller's user and network"),
    task("flash-discover", "Lists firmware versions"),
    task("flash-update", "Brings firmware up to the wanted versions"),
    task("bios-current-config", "Reads the firmware settings"),
    task("bios-configure", "Writes the firmware settings"),
    task("raid-tools-install", "Installs the controller's tools"),
    task("raid-inventory", "Lists controllers, disks and volumes"),
    task("raid-reset", "Removes foreign volumes"),
    task("raid-configure", "Creates the wanted volumes"),
    task("os-prepare", "Picks the disk and wipes its partition table"),
    task("os-install", "Runs the installer"),
    task("network-configure", "Writes bonds, bridges and VLANs"),
    task("storage-mount", "Creates file systems and mounts them"),
    task("runner-service", "Installs the runner as a service"),
    task("motd-update", "Says on the console what the machine is"),
    task("patch-apply", "Applies the patch set of fleet/patch-level"),
    task("health-check", "Runs the acceptance checks"),
];

const fn stage(
    name: &'static str,
    bootenv: &'static str,
    tasks: &'static [&'static str],
    color: &'static str,
) -> Stage {
    Stage { name, bootenv, tasks, color }
}

pub(super) const STAGES: &[Stage] = &[
    stage("discover", "sledgehammer", &["gohai", "ssh-access"], "blue"),
    stage("inventory", "", &["inventory-check", "inventory-classify", "ipmi-discover", "ipmi-configure"], "teal"),
    stage("firmware", "", &["flash-discover", "flash-update", "bios-current-config", "bios-configure"], "purple"),
    stage("raid", "", &["raid-tools-install", "raid-inventory", "raid-reset", "raid-configure"], "orange"),
    stage("os-install", "debian-12-install", &["os-prepare", "os-install"], "yellow"),
    stage("configure", "local", &["network-configure", "storage-mount", "runner-service"], "olive"),
    stage("maintain", "local", &["patch-apply", "health-check"], "brown"),
    stage("local", "local", &["motd-update"], "green"),
    stage("complete-nobootenv", "", &[], "green"),
];

pub(super) const WORKFLOWS: &[Workflow] = &[
    Workflow { name: "discover-base", stages: &["discover", "inventory", "complete-nobootenv"] },
    Workflow {
        name: "provision-base",
        stages: &["discover", "inventory", "firmware", "raid", "os-install", "configure", "local"],
    },
    Workflow { name: "maintain-base", stages: &["maintain", "local"] },
];

/// All machines have the first profile, and each has one of the others too.
pub(super) const PROFILES: &[Profile] = &[
    Profile {
        name: "global",
        params: r#""access-ssh-root-mode":"without-password","dns-domain":"example.com","ntp-servers":["192.0.2.123"]"#,
    },
    Profile { name: "rack-1", params: r#""kernel-console":"console=ttyS1,115200","rack/location":"hall 1, rack 1""# },
    Profile { name: "rack-2", params: r#""kernel-console":"console=ttyS1,115200","rack/location":"hall 1, rack 2""# },
    Profile { name: "rack-3", params: r#""kernel-console":"console=ttyS0,115200","rack/location":"hall 2, rack 3""# },
    Profile { name: "rack-4", params: r#""kernel-console":"console=ttyS0,115200","rack/location":"hall 2, rack 4""# },
    Profile { name: "storage", params: r#""cluster/tags":["ceph"],"raid-target-config":[]"# },
];

/// One entry of a machine's task list, as DRP writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// `bootenv:NAME`: boot this environment.
    BootEnv(&'static str),
    /// `stage:NAME`: enter this stage.
    Stage(&'static str),
    /// `NAME`: perform this task.
    Task(&'static str),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BootEnv(name) => write!(f, "bootenv:{name}"),
            Self::Stage(name) => write!(f, "stage:{name}"),
            Self::Task(name) => f.write_str(name),
        }
    }
}

impl Workflow {
    /// Returns the task list of a machine with this workflow.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.stages.iter().flat_map(|name| {
            let stage = stage_named(name);
            let bootenv = (!stage.bootenv.is_empty()).then_some(Entry::BootEnv(stage.bootenv));
            let tasks = stage.tasks.iter().map(|task| Entry::Task(task));
            std::iter::once(Entry::Stage(stage.name)).chain(bootenv).chain(tasks)
        })
    }
}

fn stage_named(name: &str) -> &'static Stage {
    STAGES.iter().find(|stage| stage.name == name).expect("workflows name stages of the catalogue")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_named_exists() {
        for workflow in WORKFLOWS {
            for entry in workflow.entries() {
                if let Entry::Task(name) = entry {
                    assert!(TASKS.iter().any(|task| task.name == name), "{name}");
                }
            }
        }
        let first: Vec<Entry> = WORKFLOWS[0].entries().take(3).collect();
        assert_eq!(first, [Entry::Stage("discover"), Entry::BootEnv("sledgehammer"), Entry::Task("gohai")]);
    }
}
