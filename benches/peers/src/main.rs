//! Filters of the common subset (equality of one field, and of three) beside the crates `quamina` and `a-tree`.
//!
//! Same events of 12 KB, same filters, one thread, in turns: in each round every library is asked about all events, and
//! what is printed is the median of the rounds. hydrant and quamina are given the event's text and find the fields in
//! it. a-tree takes no text: its events are made before, outside the time, from the three values that the filters need.
//! All three must find the same number of filters.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../../common/machines.rs"]
mod machines;

use std::hint::black_box;
use std::io::{self, Write};
use std::time::Instant;

use a_tree::{ATree, AttributeDefinition};
use hydrant::event::Event;
use hydrant::index::filter::{Engine, Filter, Leaf, Limits, View};
use quamina::Quamina;

const ROUNDS: usize = 41;

/// One library with its filters: asks about one event of those that it was made with, and tells how many filters are
/// true.
type Ask<'e> = Box<dyn FnMut(usize) -> usize + 'e>;

#[derive(Clone, Copy)]
enum Shape {
    One,
    Three,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::One => "x=Eq(n)",
            Self::Three => "And(Workflow=Eq(..),Stage=Eq(..),x=Eq(n))",
        }
    }
}

fn hydrant(shape: Shape, count: usize, events: &[Event]) -> Ask<'_> {
    let mut engine = Engine::new();
    let mut leaf = Leaf::default();
    for (member, n) in (0..).zip(0..count) {
        let text = match shape {
            Shape::One => format!("Object.Params.x=Eq({n})"),
            Shape::Three => {
                format!("And(Object.Workflow=Eq(universal-runbook),Object.Stage=Eq(local),Object.Params.x=Eq({n}))")
            }
        };
        let id = engine.intern(&Filter::parse(&text, &Limits::default()).unwrap());
        leaf.insert(&engine, id, member);
    }
    Box::new(move |at| {
        let mut found = 0;
        leaf.candidates(&mut engine.begin(View::event(&events[at])), |_| found += 1);
        found
    })
}

fn quamina(shape: Shape, count: usize, events: &[Event]) -> Ask<'_> {
    let mut patterns = Quamina::<usize>::new();
    for n in 0..count {
        let text = match shape {
            Shape::One => format!(r#"{{"Object":{{"Params":{{"x":[{n}]}}}}}}"#),
            Shape::Three => {
                format!(r#"{{"Object":{{"Workflow":["universal-runbook"],"Stage":["local"],"Params":{{"x":[{n}]}}}}}}"#)
            }
        };
        patterns.add_pattern(n, &text).unwrap();
    }
    Box::new(move |at| patterns.matches_for_event(events[at].json().as_bytes()).unwrap().len())
}

fn a_tree(shape: Shape, count: usize, events: usize) -> Ask<'static> {
    let attributes = [
        AttributeDefinition::string("workflow"),
        AttributeDefinition::string("stage"),
        AttributeDefinition::integer("x"),
    ];
    let mut tree = ATree::new(&attributes).unwrap();
    for n in 0..count {
        let text = match shape {
            Shape::One => format!("x = {n}"),
            Shape::Three => format!("workflow = 'universal-runbook' and stage = 'local' and x = {n}"),
        };
        tree.insert(&n, &text).unwrap();
    }
    let made: Vec<_> = (0..events)
        .map(|n| {
            let mut event = tree.make_event();
            event.with_string("workflow", "universal-runbook").unwrap();
            event.with_string("stage", "local").unwrap();
            event.with_integer("x", i64::try_from(n).unwrap()).unwrap();
            event.build().unwrap()
        })
        .collect();
    Box::new(move |at| tree.search(&made[at]).unwrap().matches().len())
}

/// Nanoseconds an event, the median of all rounds, for each library.
fn measure(libraries: &mut [Ask<'_>], events: usize) -> Vec<f64> {
    let mut times = vec![Vec::new(); libraries.len()];
    for _ in 0..ROUNDS {
        for (ask, times) in libraries.iter_mut().zip(&mut times) {
            // Once outside the time: the library before may have emptied the caches.
            (0..events).for_each(|at| {
                black_box(ask(at));
            });
            let started = Instant::now();
            for at in 0..events {
                black_box(ask(at));
            }
            times.push(started.elapsed().as_secs_f64() * 1e9 / events as f64);
        }
    }
    times
        .into_iter()
        .map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect()
}

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    let events = machines::events();
    writeln!(out, "ns an event of {} bytes; in brackets: times hydrant", events[0].json().len())?;
    for shape in [Shape::One, Shape::Three] {
        for count in [100, 1_000, 10_000] {
            let mut libraries =
                [hydrant(shape, count, &events), quamina(shape, count, &events), a_tree(shape, count, events.len())];
            for at in 0..events.len() {
                let found = libraries.each_mut().map(|ask| ask(at));
                assert!(found.iter().all(|&found| found == usize::from(at < count)), "{found:?} at {at}");
            }
            let times = measure(&mut libraries, events.len());
            writeln!(
                out,
                "{:>6} {:<42} hydrant {:>6.0}   quamina {:>6.0} ({:.1})   a-tree {:>7.0} ({:.1})",
                count,
                shape.name(),
                times[0],
                times[1],
                times[1] / times[0],
                times[2],
                times[2] / times[0]
            )?;
        }
    }
    Ok(())
}
