//! Our own work for a delivery, without the kernel: into the outbox, into a vectored write, out of the outbox.
//!
//! 1,000 connections get K events each; the time shown by Criterion is for all of it, the throughput is deliveries.
//! Then the same with the index in front of it, which also counts what each registration has done: everybody by one
//! registration that all share, or each by one of its own, because of other rights or of another filter. Then one pass
//! of the policy *conflate* through an outbox with as many events as may wait by default.

#[path = "common/matched.rs"]
mod matched;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hydrant::event::{Draft, Event};
use hydrant::fanout::outbox::{ConnId, Fanout};
use hydrant::overflow::Overflow;
use hydrant::stats::OutboxLimits;
use matched::Turn;

const CONNECTIONS: usize = 1_000;

fn events(count: usize) -> Vec<Arc<Event>> {
    let object = format!("\"{}\"", "x".repeat(900));
    let seal = |at: usize| {
        let key = at.to_string();
        let mut draft = Draft::new("machines", "update", &key);
        draft.object = &object;
        Arc::new(draft.seal(jiff::Timestamp::UNIX_EPOCH))
    };
    (0..count).map(seal).collect()
}

/// A turn of `Fanout`: every event to everybody, then everybody is written to.
fn turn(fanout: &mut Fanout, conns: &[ConnId], events: &[Arc<Event>], dirty: &mut Vec<ConnId>) {
    for event in events {
        fanout.begin_event(event);
        for &conn in conns {
            black_box(fanout.deliver(event, 0, conn));
        }
        fanout.end_event();
    }
    matched::write(fanout, dirty);
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout_turn");
    for k in [1, 16, 64] {
        let events = events(k);
        let mut fanout = Fanout::new(OutboxLimits { bytes: 16 << 20, events: 65_536 });
        let conns: Vec<ConnId> = (0..CONNECTIONS).map(|_| fanout.open(Overflow::Disconnect)).collect();
        let mut dirty = Vec::new();
        group.throughput(Throughput::Elements((CONNECTIONS * k) as u64));
        group.bench_function(BenchmarkId::from_parameter(k), |bencher| {
            bencher.iter(|| turn(&mut fanout, &conns, &events, &mut dirty));
        });
    }
    group.finish();
}

fn matched(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matched_turn");
    for kind in matched::KINDS {
        let mut turn = Turn::new(kind);
        group.throughput(Throughput::Elements((matched::CONNECTIONS * matched::EVENTS) as u64));
        group.bench_function(kind, |bencher| bencher.iter(|| turn.run()));
    }
    group.finish();
}

/// Events that may wait for a connection by default.
const WAITING: usize = 65_536;

/// A connection with [`WAITING`] short updates of `objects` objects, in turn.
fn full(objects: usize) -> (Fanout, ConnId) {
    // Four times as many may wait, so that no pass was made before.
    let mut fanout = Fanout::new(OutboxLimits { bytes: 1 << 30, events: 4 * WAITING + 4 });
    let conn = fanout.open(Overflow::Conflate);
    for at in 0..WAITING {
        let key = (at % objects).to_string();
        let mut draft = Draft::new("machines", "update", &key);
        (draft.object, draft.original) = (r#"{"Stage":"ready"}"#, r#"{"Stage":"none"}"#);
        let event = Arc::new(draft.seal(jiff::Timestamp::UNIX_EPOCH));
        fanout.begin_event(&event);
        fanout.deliver(&event, 0, conn);
        fanout.end_event();
    }
    (fanout, conn)
}

fn conflate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conflate");
    group.sample_size(10);
    for objects in [1, WAITING / 2, WAITING] {
        group.throughput(Throughput::Elements(WAITING as u64));
        group.bench_function(BenchmarkId::new("objects", objects), |bencher| {
            let pass = |full: &mut (Fanout, ConnId)| black_box(full.0.shrink(full.1));
            bencher.iter_batched_ref(|| full(objects), pass, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, bench, matched, conflate);
criterion_main!(benches);
