//! How many files a process may have open.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

fn descriptors(process: u32) -> Vec<u64> {
    let names = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// How many files the process may open; it began with the limits of the test.
pub fn limit_files(process: u32, limit: Option<u64>) {
    let usual = getrlimit(Resource::Nofile);
    let current = limit.or(usual.maximum);
    let pid = Pid::from_raw(i32::try_from(process).unwrap());
    prlimit(pid, Resource::Nofile, Rlimit { current, maximum: usual.maximum }).unwrap();
}

/// The process can open nothing more, though what it had open is closed for a while yet.
pub async fn take_all_files(process: u32) {
    let mut limit = u64::MAX;
    for _ in 0..100 {
        let held = descriptors(process);
        let first_free = (0..1 << 20).find(|number| !held.contains(number)).unwrap();
        limit = limit.min(first_free);
        limit_files(process, Some(limit));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
