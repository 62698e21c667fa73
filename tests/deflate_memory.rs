//! What a decompression bomb costs in memory: no more than a message may be long. Alone in its binary, because memory is the
//! process's.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use common::Hydrant;
use common::raw::{deflated, masked};

const MIB: u64 = 1 << 20;

/// What the process had at most since the last [`forget_peak`], bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_cost_no_memory() {
    let server = Hydrant::start("shards = 1").await;
    let bomb = masked(0xC1, &deflated(&vec![b' '; 63 << 20]));
    assert!((60_000..65_536).contains(&bomb.len()), "{} bytes", bomb.len());
    let explode = async || {
        let mut raw = server.raw_deflate().await;
        raw.send(&bomb).await;
        assert_eq!(raw.closed().await, (1009, "message too big".to_owned()));
    };
    for _ in 0..5 {
        explode().await;
    }
    forget_peak();
    let before = peak();
    for _ in 0..50 {
        explode().await;
    }
    let grown = peak().saturating_sub(before);
    assert!(grown < MIB, "{grown} bytes");
}
