//! What it costs to find out who wants an event, in-process: strings hashed, and members walked to the last subscriber.
//!
//! Registrations are shaped like a fleet's: nine of ten are `machines.*.UUID` or `machines.update.UUID` or
//! `machine_jobs.*.UUID` of one of 65,000 machines, the others are wildcards. Events are spread over all machines, so
//! that the caches see what they would see; each is matched in turn, ready-made.
//!
//! Rows, all for one event: `cold` is `Index::matches` for one event after the other, `warm` the same with strings that
//! have been read just before, outside the time, as they have been on the way into a shard. By how much it is less, so
//! much costs reading the strings of 65,000 other events. `strings` only hashes the strings, in the same order, cold.

#[path = "common/cpu.rs"]
mod cpu;
#[path = "common/fleet.rs"]
mod fleet;

use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::time::Duration;

use cpu::CpuTime;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hydrant::event::Event;
use hydrant::index::Index;

/// As in the server: where memory lies is half of what is measured here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of a turn of a shard; the time is taken once a turn.
const TURN: usize = 256;

/// The events that a run of so many takes, in pieces, going on where the last run ended.
fn pieces<'e>(events: &'e [Event], at: &mut usize, count: u64, size: usize) -> Vec<&'e [Event]> {
    let mut left = usize::try_from(count).expect("a count of events");
    let mut pieces = Vec::with_capacity(left.div_ceil(size) + left / events.len());
    while left > 0 {
        let piece = &events[*at..events.len().min(*at + size.min(left))];
        left -= piece.len();
        *at = (*at + piece.len()) % events.len();
        pieces.push(piece);
    }
    pieces
}

fn find(index: &mut Index<u32>, events: &[Event], hits: &mut u64) {
    for event in events {
        index.matches(event, |_| true, |_| *hits += 1);
    }
}

fn strings(event: &Event) -> impl Iterator<Item = &str> {
    let owners = [event.machine(), event.work_order()].into_iter().flatten();
    [event.kind(), event.action(), event.key()].into_iter().chain(owners)
}

/// Reads what matching reads of these events.
fn warm(events: &[Event]) {
    for event in events {
        let _: u8 = black_box(strings(event).flat_map(str::bytes).fold(0, u8::wrapping_add));
    }
}

/// The time that `work` takes for `count` events; `prepare` runs before each piece, outside the time.
fn time(
    events: &[Event],
    at: &mut usize,
    count: u64,
    prepare: impl Fn(&[Event]),
    mut work: impl FnMut(&[Event]),
) -> Duration {
    let mut spent = Duration::ZERO;
    for piece in pieces(events, at, count, TURN) {
        prepare(piece);
        let started = CpuTime::now();
        work(piece);
        spent += CpuTime::since(started);
    }
    spent
}

fn bench(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("index_match");
    group.throughput(Throughput::Elements(1));
    let both = ["machines", "jobs"].map(|kind| (kind, fleet::events(kind).collect::<Vec<_>>()));
    for registrations in [1_000, 100_000, 1_000_000] {
        let mut index = fleet::index(registrations);
        let (mut at, mut hits) = (0, 0_u64);
        for (kind, events) in &both {
            let id = |row: &str| BenchmarkId::new(format!("{kind}/{row}"), registrations);
            group.bench_function(id("cold"), |b| {
                b.iter_custom(|n| time(events, &mut at, n, |_| (), |piece| find(&mut index, piece, &mut hits)));
            });
            group.bench_function(id("warm"), |b| {
                b.iter_custom(|n| time(events, &mut at, n, warm, |piece| find(&mut index, piece, &mut hits)));
            });
        }
        black_box(hits);
    }
    for (kind, events) in &both {
        let (hasher, mut at) = (hashbrown::DefaultHashBuilder::default(), 0);
        let hash = |text: &str| {
            let mut hasher = hasher.build_hasher();
            hasher.write(text.as_bytes());
            hasher.finish()
        };
        group.bench_function(BenchmarkId::new(format!("{kind}/strings"), 0), |b| {
            b.iter_custom(|n| {
                time(
                    events,
                    &mut at,
                    n,
                    |_| (),
                    |piece| {
                        let all = piece.iter().flat_map(strings).map(hash);
                        black_box(all.fold(0, u64::wrapping_add));
                    },
                )
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).sample_size(30);
    targets = bench
}
criterion_main!(benches);
