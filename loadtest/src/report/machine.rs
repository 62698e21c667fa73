//! The machine on which a run was measured.

use std::fs;

use serde::Serialize;

/// The machine on which a run was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Start of the run, in UTC, to the second.
    pub when: String,
    /// Kernel release.
    pub kernel: String,
    /// Name of the processor.
    pub processor: String,
    /// Number of cores available to this process.
    pub cores: usize,
    /// TCP congestion control, which affects the cost of a write.
    pub congestion_control: String,
    /// Load average before the run: other work on the machine.
    pub load_before: String,
}

impl Machine {
    /// Returns a summary in one line.
    pub fn line(&self) -> String {
        let Self { processor, kernel, cores, congestion_control, load_before, when: _ } = self;
        format!("{processor}, {cores} cores, kernel {kernel}, {congestion_control}, load before {load_before}")
    }

    /// Returns this machine in its current state. What cannot be read is empty.
    pub fn here() -> Self {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let processor =
            line("/proc/cpuinfo").lines().find_map(|line| line.strip_prefix("model name").map(str::to_owned));
        Self {
            when: hydrant::clock::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            kernel: line("/proc/sys/kernel/osrelease"),
            processor: processor.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: crate::cpu::allowed(0).map_or(0, |cores| cores.len()),
            congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
            load_before: line("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}
