//! Cores, CPU clocks and limits of the operating system (Linux).
//!
//! CPU time is read from the scheduler's own clocks (`CLOCK_THREAD_CPUTIME_ID` and the process clock of
//! `clock_getcpuclockid`), which count nanoseconds over all threads, including those that have ended. Why not
//! `/proc/PID/stat`: it counts the same in ticks of 10 ms, so that a round would have to last at least 5 s.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::usage::UsageError;

/// The assignment of work to cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// Core of the server and of the floor's writer; `None` leaves it to the kernel.
    pub server: Option<usize>,
    /// Core of all readers.
    pub client: Option<usize>,
}

impl Cores {
    /// Pins no thread.
    pub const ANY: Self = Self { server: None, client: None };
}

/// Pins the calling thread, and the threads that it starts later, to `cores`; without cores, nothing changes.
///
/// # Errors
/// Fails if a core does not exist or is not available to this process.
pub fn pin(cores: impl IntoIterator<Item = usize>) -> Result<()> {
    let cores: Vec<usize> = cores.into_iter().collect();
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &core in &cores {
        set.set(core).with_context(|| format!("core {core} is out of range"))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot pin a thread to the cores {cores:?}"))
}

/// Returns the cores on which a process (0: this thread) may run.
///
/// # Errors
/// Fails if there is no such process.
pub fn allowed(pid: i32) -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(pid))
        .with_context(|| format!("cannot read the allowed cores of process {pid}"))?;
    Ok((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect())
}

/// Returns the CPU time of the calling thread, user and system.
///
/// # Errors
/// Fails if the kernel has no such clock.
pub fn thread_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("no thread CPU clock")?.into())
}

/// The CPU clock of a process: all its threads, user and system.
#[derive(Debug, Clone, Copy)]
pub struct ProcessClock {
    pid: i32,
    clock: ClockId,
}

impl ProcessClock {
    /// Returns the clock of process `pid`.
    ///
    /// # Errors
    /// Fails if there is no such process.
    pub fn of(pid: u32) -> Result<Self> {
        let raw = i32::try_from(pid).ok().filter(|&pid| pid > 0).context("a process id must be a positive number")?;
        let clock = clock_getcpuclockid(Pid::from_raw(raw)).with_context(|| format!("no process {pid}"))?;
        Ok(Self { pid: raw, clock })
    }

    /// Returns the CPU time used so far.
    ///
    /// # Errors
    /// Fails if the process has ended.
    pub fn time(self) -> Result<Duration> {
        let time = clock_gettime(self.clock).with_context(|| format!("process {} has ended", self.pid))?;
        Ok(time.into())
    }

    /// Returns the resident memory of the process in bytes.
    ///
    /// # Errors
    /// Fails if the process has ended.
    pub fn resident(self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid);
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("its status has no VmRSS line")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is not a number")?;
        Ok(kib * 1_024)
    }
}

/// Ensures that `needed` files can be open at once, by raising the soft limit as far as the hard limit allows.
///
/// # Errors
/// Fails if the hard limit is too low; the error says how to raise it.
pub fn raise_file_limit(needed: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    if soft >= needed {
        return Ok(());
    }
    ensure!(
        hard >= needed,
        "this run needs {needed} open files, but the hard limit is {hard}: use fewer connections, or raise the limit \
         (`ulimit -Hn {needed}` as root, or LimitNOFILE= of the service)"
    );
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).context("cannot raise the limit of open files")
}

/// Returns the requested cores if both are available.
///
/// # Errors
/// Fails if one of them is not available to this process.
pub fn checked(cores: Cores) -> Result<Cores> {
    let allowed = allowed(0)?;
    for core in [cores.server, cores.client].into_iter().flatten() {
        if !allowed.contains(&core) {
            bail!(UsageError(format!(
                "core {core} is not among the cores that this process may use ({allowed:?}): see --server-core, \
                 --client-core, --no-pin"
            )));
        }
    }
    Ok(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_at_least_what_its_thread_has() {
        let mut sum = 0_u64;
        while thread_time().unwrap() < Duration::from_millis(5) {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        let process = ProcessClock::of(std::process::id()).unwrap();
        assert!(process.time().unwrap() >= thread_time().unwrap(), "{sum}");
        assert!(process.resident().unwrap() > 100_000);
    }

    #[test]
    fn a_pinned_thread_runs_on_one_core() {
        std::thread::spawn(|| {
            let first = allowed(0).unwrap()[0];
            pin(Some(first)).unwrap();
            assert_eq!(allowed(0).unwrap(), [first]);
        })
        .join()
        .unwrap();
        assert!(pin(Some(100_000)).is_err());
    }

    #[test]
    fn an_impossible_file_limit_is_told() {
        let error = raise_file_limit(u64::MAX - 1).map_err(|e| e.to_string());
        assert!(error.is_err_and(|text| text.contains("ulimit")));
        raise_file_limit(16).unwrap();
    }

    #[test]
    fn missing_processes_are_errors() {
        assert!(ProcessClock::of(0).is_err());
        assert!(ProcessClock::of(u32::MAX).is_err());
    }
}
