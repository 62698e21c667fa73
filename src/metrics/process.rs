//! The standard process metrics, read from `/proc/self` directly: the library's own collector would add a dependency.

use std::fmt::Write;
use std::fs;
use std::sync::LazyLock;

use jiff::Timestamp;

use crate::clock;

/// Kernel clock ticks per second in `/proc/self/stat`; fixed by the Linux ABI.
const TICKS: f64 = 100.0;

/// When the process started, in seconds since the Unix epoch. Read once: it follows from the clock, and a clock that is
/// set would look like a restart.
static STARTED: LazyLock<Option<f64>> = LazyLock::new(|| {
    let [stat, uptime] = ["/proc/self/stat", "/proc/uptime"].map(|path| fs::read_to_string(path).ok());
    started(&stat?, &uptime?, clock::now())
});

/// Appends the values that can be read, and leaves out the others.
pub(super) fn append(text: &mut String) {
    let mut show = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n").expect("memory takes all");
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").ok();
    show("process_cpu_seconds_total", "counter", "User and system time", stat.as_deref().and_then(cpu_seconds));
    show("process_start_time_seconds", "gauge", "When the process started, since the Unix epoch", *STARTED);
    show("process_resident_memory_bytes", "gauge", "Resident memory", resident_bytes());
    show("process_open_fds", "gauge", "Open file descriptors", open_files());
    show("process_max_fds", "gauge", "Open file descriptors that the process may have", most_files());
}

/// Returns the fields of `/proc/self/stat` from this number on, at least 3: those after the command's name, which may
/// contain blanks.
fn fields(stat: &str, from: usize) -> Option<impl Iterator<Item = &str>> {
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(from - 3))
}

/// Returns the sum of user and system time.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = fields(stat, 14)?;
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

/// Returns when a process started that started some time after the system, whose uptime is known at `now`.
fn started(stat: &str, uptime: &str, now: Timestamp) -> Option<f64> {
    let after: f64 = fields(stat, 22)?.next()?.parse().ok()?;
    let up: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let begin = now.as_duration().as_secs_f64() - up + after / TICKS;
    Some((begin * TICKS).round() / TICKS)
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

    #[test]
    fn the_start_is_counted_from_that_of_the_system() {
        // Fields 14 to 22; the last is the start.
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9 0 25050 4096";
        let now = jiff::Timestamp::from_second(1_000_000).unwrap();
        assert_eq!(super::started(stat, "1000.00 1900.00", now), Some(999_250.5));
        assert_eq!(super::started("7 (a) S 1", "1000.00 1900.00", now), None);
    }

    #[test]
    fn this_process_has_started_before_now_and_only_once() {
        let started = super::STARTED.unwrap();
        let now = crate::clock::now().as_duration().as_secs_f64();
        assert!(started > 1.7e9 && started <= now + 1.0, "{started} {now}");
    }
}
