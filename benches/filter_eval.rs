//! What filters cost an event. Results: `docs/benchmarks/filters.md`.
//!
//! Every figure is for one event from `Engine::begin` to the last candidate, the walk over the event's text included;
//! several events take turns, so that nothing is remembered from one to the next. Time is the thread's processor time.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

#[path = "common/cpu.rs"]
mod cpu;
#[path = "common/machines.rs"]
mod machines;
#[path = "common/passing.rs"]
mod passing;

use std::hint::black_box;
use std::io::Write;

use cpu::CpuTime;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hydrant::event::Event;
use hydrant::index::filter::{Engine, Filter, Leaf, Limits, View};
use hydrant::index::{Class, Index, Limits as IndexLimits, Work};
use machines::events;

fn parse(text: &str) -> Filter {
    Filter::parse(text, &Limits::default()).unwrap()
}

/// A leaf with these filters, each with a member of its own.
fn leaf(engine: &mut Engine, filters: impl Iterator<Item = String>) -> Leaf {
    let mut leaf = Leaf::default();
    for (member, text) in (0..).zip(filters) {
        let id = engine.intern(&parse(&text));
        leaf.insert(engine, id, member);
    }
    leaf
}

/// Asks about one event after the other; returns what one call found.
fn ask(bench: &mut criterion::Bencher<'_, CpuTime>, engine: &mut Engine, leaf: &mut Leaf, events: &[Event]) {
    let mut turn = 0;
    bench.iter(|| {
        turn = (turn + 1) % events.len();
        let mut found = 0_u64;
        leaf.candidates(&mut engine.begin(View::event(&events[turn])), |_| found += 1);
        black_box(found)
    });
}

/// (a) Distinct `Eq` filters under one leaf.
fn distinct(c: &mut Criterion<CpuTime>) {
    let events = events();
    let mut group = c.benchmark_group("distinct");
    for count in [1_usize, 100, 1_000, 10_000] {
        for (name, spell) in [
            ("eq_object", (|n| format!("Object.Name=Eq(m{n}.example.com)")) as fn(usize) -> String),
            ("eq_params", |n| format!("Object.Params.x=Eq({n})")),
            ("and_params", |n| format!("And(Workflow=Eq(universal-runbook),Stage=Changed(),Object.Params.x=Eq({n}))")),
        ] {
            let mut engine = Engine::new();
            let mut leaf = leaf(&mut engine, (0..count).map(spell));
            group.bench_function(BenchmarkId::new(name, count), |bench| ask(bench, &mut engine, &mut leaf, &events));
        }
    }
    group.finish();
}

/// Filters that no value leads to; the cost of one is the figure divided by their number.
fn unliftable(c: &mut Criterion<CpuTime>) {
    let events = events();
    let mut group = c.benchmark_group("unliftable");
    for (name, spell) in [
        ("ne_10000", (|n| format!("Stage=Ne(s{n})")) as fn(usize) -> String),
        ("not_in_10000", |n| format!("Not(Stage=In(a{n},b{n}))")),
        ("exists_10000", |n| format!("Params.p{n}=Exists()")),
        ("re_10000", |n| format!("Stage=Re(^x{n})")),
    ] {
        let mut engine = Engine::new();
        let mut leaf = leaf(&mut engine, (0..10_000).map(spell));
        group.bench_function(name, |bench| ask(bench, &mut engine, &mut leaf, &events));
    }
    group.finish();
}

/// (b) Ten thousand members sharing fifty filters; asserts that each question is asked once.
fn shared(c: &mut Criterion<CpuTime>) {
    let events = events();
    let mut engine = Engine::new();
    let mut leaf = leaf(&mut engine, (0..10_000).map(|n| format!("Field{}=Ne(nothing)", n % 50)));
    let before = engine.counters();
    leaf.candidates(&mut engine.begin(View::event(&events[0])), |_| {});
    let after = engine.counters();
    assert_eq!(after.predicate_evaluations - before.predicate_evaluations, 50);
    assert_eq!(after.field_lookups - before.field_lookups, 50);
    assert_eq!(after.filter_matches - before.filter_matches, 10_000);
    let mut out = std::io::stdout();
    writeln!(
        out,
        "shared/50_of_10000: {} predicate evaluations, {} field lookups, {} members for one event",
        after.predicate_evaluations - before.predicate_evaluations,
        after.field_lookups - before.field_lookups,
        after.filter_matches - before.filter_matches
    )
    .unwrap();
    c.bench_function("shared/50_of_10000", |bench| ask(bench, &mut engine, &mut leaf, &events));
}

/// (c) Four fields of one event, with and without the walk over it.
fn fields(c: &mut Criterion<CpuTime>) {
    let events = events();
    let mut group = c.benchmark_group("fields");
    let names = ["Stage", "Workflow", "Field7", "Runnable"];
    for count in [1, 4] {
        let mut engine = Engine::new();
        let ids: Vec<_> =
            names[..count].iter().map(|name| engine.intern(&parse(&format!("{name}=Exists()")))).collect();
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("with_walk", count), |bench| {
            bench.iter(|| {
                turn = (turn + 1) % events.len();
                let mut evaluation = engine.begin(View::event(&events[turn]));
                ids.iter().filter(|id| evaluation.matches(**id)).count()
            });
        });
    }
    // Many sets of four paths: the first builds the table, each of the others costs what four lookups cost.
    let mut engine = Engine::new();
    let ids: Vec<_> = (0..40).map(|n| engine.intern(&parse(&format!("Field{n}=Exists()")))).collect();
    let mut turn = 0;
    group.bench_function("with_walk/40", |bench| {
        bench.iter(|| {
            turn = (turn + 1) % events.len();
            let mut evaluation = engine.begin(View::event(&events[turn]));
            ids.iter().filter(|id| evaluation.matches(**id)).count()
        });
    });
    group.finish();
}

/// (e) The whole path, `Index::matches`, with a thousand subscribers of `machines.update.*` of whom none, 1 %, half or
/// all have a filter that is true. Each filter is one of its own and is reached by every event; the row `0` is not cut
/// short by the trie.
fn pass_rates(c: &mut Criterion<CpuTime>) {
    let events = events();
    let mut group = c.benchmark_group("pass_rate");
    for percent in [0_usize, 1, 50, 100] {
        let mut index = passing::index(percent);
        let mut found = 0;
        index.matches(&events[1], |_| true, |_| found += 1);
        assert_eq!(found, percent * 10);
        assert!(index.filter_counters().predicate_evaluations > 10 * percent as u64);
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(percent), |bench| {
            bench.iter(|| {
                turn = (turn + 1) % events.len();
                let mut found = 0_u64;
                index.matches(&events[turn], |_| true, |_| found += 1);
                black_box(found)
            });
        });
    }
    group.finish();
}

/// (f) What the budget's bookkeeping costs: the same thousand filters without accounts (`leaf`), through the index with
/// accounts that have no bound (`unbounded`) and with all bounds (`bounded`); the difference to `leaf`, divided by
/// 1,000, is the cost of a question. Besides, a thousand that are paused, a subscriber that 1,000 of its registrations
/// find, and 256 registrations that are kept as their lists.
fn bookkeeping(c: &mut Criterion<CpuTime>) {
    let events = events();
    let filter = |n: usize| format!("And(Field{}=Exists(),Params.p{n}=Ne(1),Stage=Ne(discover))", n % 40);
    let mut group = c.benchmark_group("bookkeeping");
    let mut engine = Engine::new();
    let mut leaf = leaf(&mut engine, (0..1_000).map(filter));
    group.bench_function("leaf_1000", |bench| ask(bench, &mut engine, &mut leaf, &events));
    let work = Work { event: 10_000_000, second: 4_000_000_000, owner: 8_000_000_000 };
    for (name, work, paused) in
        [("unbounded_1000", Work::UNLIMITED, false), ("bounded_1000", work, false), ("paused_1000", work, true)]
    {
        let mut index = Index::new(IndexLimits { work, ..IndexLimits::default() });
        for n in 0..1_000 {
            let slot = index.subscribe_for(n, Class(0), Some("user:a"));
            index.register(slot, &format!("machines.update.*.{}", filter(n))).unwrap();
            index.pause(slot, paused);
        }
        group.bench_function(name, |bench| all(bench, &mut index, &events));
    }
    let mut index = Index::new(IndexLimits::default());
    let slot = index.subscribe(0, Class(0));
    (0..1_000).for_each(|n| assert!(index.register(slot, &format!("machines,t{n}.update.*")).unwrap()));
    group.bench_function("again_1000", |bench| all(bench, &mut index, &events));
    let mut index = Index::new(IndexLimits { expanded: 0, ..IndexLimits::default() });
    let slot = index.subscribe(0, Class(0));
    let list = |name: &str, count: usize| (0..count).map(|n| format!("{name}{n}")).collect::<Vec<_>>().join(",");
    for n in 0..256 {
        let spec = format!("machines,t{n}.{}.{}", list("a", 2), list("k", 256));
        assert!(index.register(slot, &spec).unwrap());
    }
    group.bench_function("wide_256", |bench| all(bench, &mut index, &events));
    group.finish();
}

/// Matches one event after the other, in a second of its own each.
fn all(bench: &mut criterion::Bencher<'_, CpuTime>, index: &mut Index<usize>, events: &[Event]) {
    let mut turn = 0;
    bench.iter(|| {
        turn += 1;
        index.begin_second(u32::try_from(turn).unwrap());
        let mut found = 0_u64;
        index.matches(&events[turn % events.len()], |_| true, |_| found += 1);
        black_box(found)
    });
}

/// Reading filters, as a register does.
fn parsing(c: &mut Criterion<CpuTime>) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("parse");
    for (name, text) in [
        ("eq", "Workflow=Eq(universal-runbook)"),
        ("await", "And(Workflow=Eq(universal-runbook),WorkflowComplete=Eq(true),BootEnv=Eq(local))"),
        ("re", "Stage=Re((?i)^(local|discover)[0-9]*$)"),
    ] {
        group.bench_function(name, |bench| bench.iter(|| Filter::parse(black_box(text), &limits).unwrap()));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = distinct, unliftable, shared, fields, pass_rates, bookkeeping, parsing
}
criterion_main!(benches);
