//! What a posted body costs until its events are sealed: validated, taken apart, written down. Results:
//! `docs/benchmarks/intake.md`.
//!
//! The objects are those of the simulated fleet, as in the bursts over sockets. Time is the thread's processor time.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

#[path = "common/bodies.rs"]
mod bodies;
#[path = "common/cpu.rs"]
mod cpu;

use cpu::CpuTime;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hydrant::event::posting::{Form, Posting};

const POSTING: Posting<'_> = Posting {
    principal: "user:bench",
    may_impersonate: false,
    event_bytes: 1 << 20,
    events: usize::MAX,
    now: || jiff::Timestamp::UNIX_EPOCH,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One event a line.
fn lines(count: usize, size: usize) -> Vec<u8> {
    let texts: Vec<String> = bodies::events(count, size).collect();
    texts.join("\n").into_bytes()
}

/// An array as people write it, with white space between the tokens.
fn pretty(count: usize, size: usize) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_slice(&bodies::array(count, size)).unwrap();
    serde_json::to_vec_pretty(&value).unwrap()
}

/// Bodies in each form: 64 events of 1 KB, 16 of 12 KB, one alone.
fn reading(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("intake");
    for (count, size) in [(64, 1_024), (16, 12_288), (1, 1_024)] {
        for (name, form, body) in [
            ("array", Form::Json, bodies::array(count, size)),
            ("lines", Form::Lines, lines(count, size)),
            ("pretty", Form::Json, pretty(count, size)),
        ] {
            assert_eq!(POSTING.read(&body, form).unwrap().len(), count);
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(BenchmarkId::new(name, format!("{count}x{size}")), |bench| {
                bench.iter(|| POSTING.read(&body, form).unwrap());
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = reading
}
criterion_main!(benches);
