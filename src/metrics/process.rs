//! The standard process metrics, read from `/proc/self` directly: the library's own collector would add a dependency.

use std::fmt::Write;
use std::fs;

/// Kernel clock ticks per second in `/proc/self/stat`; fixed by the Linux ABI.
const TICKS: f64 = 100.0;

/// Appends the values that can be read, and leaves out the others.
pub(super) fn append(text: &mut String) {
    let mut show = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n").expect("memory takes all");
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").ok();
    show("process_cpu_seconds_total", "counter", "User and system time", stat.as_deref().and_then(cpu_seconds));
    show("process_resident_memory_bytes", "gauge", "Resident memory", resident_bytes());
    show("process_open_fds", "gauge", "Open file descriptors", open_files());
    show("process_max_fds", "gauge", "Open file descriptors that the process may have", most_files());
}

/// Returns the sum of fields 14 and 15, counted from after the command's name, which may contain blanks.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// Returns the soft limit, which the server raises at its start.
fn most_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus values are floating point")]
fn open_files() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0";
        assert_eq!(super::cpu_seconds(stat), Some(2.0));
    }
}
