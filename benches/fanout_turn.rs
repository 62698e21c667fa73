//! Our own work for a delivery, without the kernel: into the outbox, into a vectored write, out of the outbox.
//!
//! 1,000 connections get K events each; the time shown by Criterion is for all of it, the throughput is deliveries.
//! Then the same with the index in front of it, which also counts what each registration has done: everybody by one
//! shared registration, or each by its own. Then one pass of the policy *conflate* through an outbox with as many
//! events as may wait by default.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hydrant::event::{Draft, Event};
use hydrant::fanout::outbox::gather::Gathered;
use hydrant::fanout::outbox::{ConnId, Fanout};
use hydrant::index::{Class, Index, Limits};
use hydrant::overflow::Overflow;
use hydrant::stats::OutboxLimits;

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
    write(fanout, dirty);
}

/// Everybody who got something is written to.
fn write(fanout: &mut Fanout, dirty: &mut Vec<ConnId>) {
    fanout.take_dirty(dirty);
    for &conn in dirty.iter() {
        let mut gathered = Gathered::new();
        fanout.gather(conn, 256 << 10, &mut gathered);
        let bytes = black_box(&gathered).iter().map(|slice| slice.len()).sum();
        drop(gathered);
        fanout.advance(conn, bytes, 100);
    }
    fanout.end_round(100);
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

/// The registration of a connection: the same for all, or one of its own that matches too.
fn spec(at: usize, is_own: bool) -> String {
    if is_own { format!("machines,own-{at}.update.*") } else { "machines.update.*".to_owned() }
}

fn matched(criterion: &mut Criterion) {
    const K: usize = 16;
    let mut group = criterion.benchmark_group("matched_turn");
    for (name, is_own) in [("shared", false), ("own", true)] {
        let events = events(K);
        let mut fanout = Fanout::new(OutboxLimits { bytes: 16 << 20, events: 65_536 });
        let mut index = Index::new(Limits::default());
        for at in 0..CONNECTIONS {
            let slot = index.subscribe(fanout.open(Overflow::Disconnect), Class(0));
            index.register(slot, &spec(at, is_own)).expect("it is a registration");
        }
        let mut dirty = Vec::new();
        group.throughput(Throughput::Elements((CONNECTIONS * K) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for event in &events {
                    fanout.begin_event(event);
                    index.matches(
                        event,
                        |_| true,
                        |conn| {
                            black_box(fanout.deliver(event, 0, conn));
                        },
                    );
                    fanout.end_event();
                }
                write(&mut fanout, &mut dirty);
            });
        });
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
