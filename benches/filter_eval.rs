//! What filters cost an event. Results: `docs/benchmarks/filters.md`.
//!
//! Every figure is for one event from `Engine::begin` to the last candidate, the walk over the event's text included
//! unless the name says `known`; several events take turns, so that nothing is remembered from one to the next.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::fmt::Write;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hydrant::event::{Draft, Event};
use hydrant::index::filter::{Engine, Filter, Leaf, Limits, View};

/// Objects of 12 KB as DRP sends machines: some sixty fields, parameters, and the state before.
fn machine(number: usize) -> Event {
    let object = |stage: &str| {
        let mut text = format!(
            r#"{{"Validated":true,"Available":true,"Errors":[],"ReadOnly":false,"Meta":{{"color":"black","icon":"server","feature-flags":"change-stage-v2","title":"machine {number}"}},"Name":"m{number}.example.com","Description":"Machine in rack {}, unit {}","Uuid":"00e03d2c-0000-4000-8000-{number:012}","#,
            number % 40,
            number % 42,
        );
        write!(text, r#""Stage":"{stage}","Workflow":"universal-runbook","BootEnv":"local","Runnable":true,"Address":"10.0.{}.{}","#, number / 250 % 250, number % 250).unwrap();
        for field in 0..40 {
            write!(text, r#""Field{field}":"some text of the usual length {}","#, field * number).unwrap();
        }
        write!(text, r#""Tasks":["stage:discover","bootenv:sledgehammer","gohai","network-discovery","stage:{stage}"],"Params":{{"x":{number},"#).unwrap();
        for param in 0..57 {
            write!(
                text,
                r#""group-{}/param-{param}":{{"value":"v{}","ports":[{param},22,443],"on":true}},"#,
                param % 7,
                param * number
            )
            .unwrap();
        }
        text + r#""last-param":null},"Arch":"amd64","OS":"ubuntu-22.04"}"#
    };
    let (object, original) = (object("local"), object("discover"));
    let mut draft = Draft::new("machines", "update", "00e03d2c");
    (draft.object, draft.original) = (&object, &original);
    draft.seal("2026-01-02T03:04:05Z".parse().unwrap())
}

fn events() -> Vec<Event> {
    let events: Vec<Event> = (0..64).map(machine).collect();
    let size = events[0].json().len();
    assert!((11_500..13_000).contains(&size), "{size} bytes");
    events
}

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
fn ask(bench: &mut criterion::Bencher<'_>, engine: &mut Engine, leaf: &mut Leaf, events: &[Event]) {
    let mut turn = 0;
    bench.iter(|| {
        turn = (turn + 1) % events.len();
        let mut found = 0_u64;
        leaf.candidates(&mut engine.begin(View::event(&events[turn])), |_| found += 1);
        black_box(found)
    });
}

/// (a) Distinct `Eq` filters under one leaf.
fn distinct(c: &mut Criterion) {
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
fn unliftable(c: &mut Criterion) {
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
fn shared(c: &mut Criterion) {
    let events = events();
    let mut engine = Engine::new();
    let mut leaf = leaf(&mut engine, (0..10_000).map(|n| format!("Field{}=Ne(nothing)", n % 50)));
    let before = engine.counters();
    leaf.candidates(&mut engine.begin(View::event(&events[0])), |_| {});
    let after = engine.counters();
    assert_eq!(after.predicate_evaluations - before.predicate_evaluations, 50);
    assert_eq!(after.field_lookups - before.field_lookups, 50);
    assert_eq!(after.filter_matches - before.filter_matches, 10_000);
    c.bench_function("shared/50_of_10000", |bench| ask(bench, &mut engine, &mut leaf, &events));
}

/// (c) Four fields of one event, with and without the walk over it.
fn fields(c: &mut Criterion) {
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

/// (e) A thousand members of one leaf of whom none, 1 %, half or all have a filter that is true.
fn pass_rates(c: &mut Criterion) {
    let events = events();
    let mut group = c.benchmark_group("pass_rate");
    for percent in [0_usize, 1, 50, 100] {
        let mut engine = Engine::new();
        let spell = |n: usize| {
            let stage = if n % 100 < percent { "local" } else { "elsewhere" };
            format!("And(Stage=Eq({stage}),Field{}=Exists())", n % 40)
        };
        let mut leaf = leaf(&mut engine, (0..1_000).map(spell));
        let mut found = 0;
        leaf.candidates(&mut engine.begin(View::event(&events[1])), |_| found += 1);
        assert_eq!(found, percent * 10);
        group.bench_function(BenchmarkId::from_parameter(percent), |bench| ask(bench, &mut engine, &mut leaf, &events));
    }
    group.finish();
}

/// Reading filters, as a register does.
fn parsing(c: &mut Criterion) {
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

criterion_group!(benches, distinct, unliftable, shared, fields, pass_rates, parsing);
criterion_main!(benches);
