//! What it costs to find out who wants an event: `Index::matches` in-process, strings hashed and members walked.
//!
//! Registrations are shaped like a fleet's: nine of ten are `machines.*.UUID` or `machines.update.UUID` or
//! `machine_jobs.*.UUID` of one of 65,000 machines, the others are wildcards. Events are spread over all machines, so that the
//! caches see what they would see; each is matched in turn, ready-made. The figure holds everything from the event's strings to
//! the last subscriber.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hydrant::event::{Draft, Event};
use hydrant::index::{Class, Index, Limits};

const KEYS: usize = 65_000;

/// A UUID-shaped key, spread by a multiplicative hash so that neighbours have nothing in common.
fn key(n: usize) -> String {
    let mixed = (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{:08x}-{:04x}-4000-8000-{:012x}", mixed >> 32, mixed >> 16 & 0xFFFF, mixed & 0xFFFF_FFFF_FFFF)
}

fn spec(n: usize) -> String {
    let key = key(n % KEYS);
    match n % 10 {
        0..=3 => format!("machines.*.{key}"),
        4..=6 => format!("machines.update.{key}"),
        7..=8 => format!("machine_jobs.*.{key}"),
        _ => ["jobs.create.*", "profiles.*.*", "work_orders.update.*", "params.save.*"][n / 10 % 4].to_owned(),
    }
}

/// Ten registrations a subscriber, as a portal or a runner has them.
fn index(registrations: usize) -> Index<u32> {
    let mut index = Index::new(Limits::default());
    let subscribers = registrations.div_ceil(10);
    for subscriber in 0..subscribers {
        let slot = index.subscribe(u32::try_from(subscriber).expect("a million"), Class(0));
        for n in (subscriber..registrations).step_by(subscribers) {
            index.register(slot, &spec(n)).expect("a good registration");
        }
    }
    index
}

fn events(kind: &str) -> Vec<Event> {
    let event = |n: usize| {
        let object = format!("{{\"Machine\":\"{}\"}}", key(n));
        let key = key(n);
        let mut draft = Draft::new(kind, "update", &key);
        draft.object = &object;
        draft.seal(jiff::Timestamp::UNIX_EPOCH)
    };
    // In an order of its own, not that of the registrations.
    (0..KEYS).map(|n| event(n * 7919 % KEYS)).collect()
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("index_match");
    group.throughput(Throughput::Elements(1));
    for registrations in [1_000, 100_000, 1_000_000] {
        let mut index = index(registrations);
        for kind in ["machines", "jobs"] {
            let events = events(kind);
            let mut at = 0;
            let mut hits = 0_u64;
            group.bench_function(BenchmarkId::new(kind, registrations), |b| {
                b.iter(|| {
                    at = (at + 1) % events.len();
                    index.matches(&events[at], |_| true, |_| hits += 1);
                });
            });
            std::hint::black_box(hits);
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = bench
}
criterion_main!(benches);
