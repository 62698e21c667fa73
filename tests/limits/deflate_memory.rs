//! What a decompression bomb costs in memory: no more than a message may be long. Measured on the program itself, in a
//! process of its own.

use crate::common::program::Program;
use crate::common::raw::{deflated, masked};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_cost_no_memory() {
    let program = Program::start("off", "format = 'json'", "shards = 1");
    let token = program.token().await;
    let bomb = masked(0xC1, &deflated(&vec![b' '; 63 << 20]));
    assert!((60_000..65_536).contains(&bomb.len()), "{} bytes", bomb.len());
    // What any message costs at first.
    let mut raw = program.raw_deflate(&token).await;
    raw.send(&masked(0xC1, &deflated(b"register a.b.c"))).await;
    raw.text().await;
    program.forget_peak();
    let before = program.memory("VmHWM");
    for _ in 0..50 {
        let mut raw = program.raw_deflate(&token).await;
        raw.send(&bomb).await;
        assert_eq!(raw.closed().await, (1009, "message too big".to_owned()));
    }
    let grown = program.memory("VmHWM").saturating_sub(before);
    // A busy machine makes the server start threads meanwhile, which take some; one bomb is more than all of that.
    assert!(grown < 16 * MIB, "{grown} bytes");
}
