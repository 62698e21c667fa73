//! What deflating an event costs and saves, by level. Results: `docs/benchmarks/deflate.md`.
//!
//! The name of each figure says how many bytes go in and come out, on average. Events of the simulated fleet are of
//! about 12 KB, with both states of a machine; recorded ones are those of `tests/data/drp-v3.ndjson`. One deflater does
//! all of them, as in a shard; several events take turns.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hydrant::demo::Fleet;
use hydrant::event::Draft;
use hydrant::websocket::deflate::{Deflater, Inflater};

/// Updates of simulated machines, Object and Original, of 10 to 14 KB.
fn simulated() -> Vec<String> {
    let mut fleet = Fleet::new(1, 50);
    let steps = std::iter::from_fn(|| Some(fleet.step())).take(20_000);
    let sealed = steps.map(|step| step.draft().seal(hydrant::clock::now()).json().to_owned());
    let events: Vec<String> = sealed.filter(|json| (10_000..14_000).contains(&json.len())).take(64).collect();
    assert_eq!(events.len(), 64);
    events
}

fn recorded() -> Vec<String> {
    let lines = include_str!("../tests/data/drp-v3.ndjson").lines();
    let sealed = lines.map(|line| Draft::read(line).unwrap().seal(hydrant::clock::now()).json().to_owned());
    sealed.filter(|json| json.len() >= 256).collect()
}

fn mean(total: usize, events: &[String]) -> usize {
    total / events.len()
}

fn deflating(c: &mut Criterion) {
    for (what, events) in [("simulated", simulated()), ("recorded", recorded())] {
        let before = mean(events.iter().map(String::len).sum(), &events);
        let mut group = c.benchmark_group(format!("deflate/{what}"));
        for level in 1..=9 {
            let mut deflater = Deflater::new(level);
            let sizes =
                events.iter().map(|json| deflater.frame(json.as_bytes()).map_or(json.len(), |frame| frame.len()));
            let after = mean(sizes.sum(), &events);
            group.bench_function(format!("level {level}, {before} to {after} bytes"), |b| {
                let mut turn = events.iter().cycle();
                b.iter(|| black_box(deflater.frame(turn.next().unwrap().as_bytes())));
            });
        }
    }
}

/// A client's command, the longest one, and a message that is refused because it grows too long.
fn inflating(c: &mut Criterion) {
    const LIMIT: usize = 64 << 10;
    let mut group = c.benchmark_group("inflate");
    let mut inflater = Inflater::default();
    let command =
        "register machines.update.*.And(Eq(Stage,local),Eq(Workflow,universal),Eq(Stage,local),Changed(Stage))"
            .to_owned();
    for (what, text) in
        [("command", command), ("longest", "abc def ".repeat(LIMIT / 8)), ("bomb", " ".repeat(60 << 20))]
    {
        let frame = Deflater::new(9).frame(text.as_bytes()).unwrap();
        let header = match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        group.bench_function(format!("{what}, {} to {} bytes", frame.len() - header, text.len()), |b| {
            b.iter(|| black_box(inflater.inflate(&frame[header..], LIMIT).map(|text| text.len())));
        });
    }
}

criterion_group!(benches, deflating, inflating);
criterion_main!(benches);
