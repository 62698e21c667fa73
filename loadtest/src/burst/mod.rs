//! The closed loop against a server: publish K events, wait until every client has received them, repeat.
//!
//! Rounds of all candidates, sizes and K are interleaved. In each round the floor is measured directly after the
//! servers, with the same number of connections, sizes and K. A server's CPU time is that of the whole process, so it
//! includes accepting, checking and matching events. It is divided by verified deliveries, not by writes.
//!
//! Why closed: at a fixed rate, a slow server coalesces more and looks better per delivery; here K is exact.

mod candidate;
mod group;
mod participant;
mod runner;
mod trial;

use anyhow::Result;

pub use candidate::{Candidate, Open, Transport};
pub use group::Group;

use crate::args::{BurstArgs, FloorArgs};
use crate::cpu;
use crate::floor::Floor;
use crate::progress;
use crate::report::{Machine, Report, Round};
use crate::server::System;
pub use trial::Shape;
use trial::frames;

/// Number of open files besides the connections.
pub(crate) const OTHER_FILES: u64 = 128;

/// Runs `floor`.
///
/// # Errors
/// Fails if the machine is not capable of it.
pub fn run_floor(args: &FloorArgs) -> Result<Report> {
    let cores = args.work.run.checked()?;
    let machine = Machine::here();
    cpu::raise_file_limit(u64::from(args.work.connections) * 2 + OTHER_FILES)?;
    let mut floor = Floor::new(args.work.clients(), cores)?.joined(args.joined);
    let shapes = Shape::all(&args.work, args.deflate, false);
    let mut cases: Vec<_> = shapes.iter().map(|shape| shape.case("floor", "-", args.work.clients())).collect();
    let bar = progress::bar(u64::from(args.work.rounds) * cases.len() as u64, "measuring");
    for _ in 0..args.work.rounds {
        for (shape, case) in shapes.iter().zip(&mut cases) {
            let spread = shape.spread(args.work.clients());
            let frames = frames(shape, "floor", spread)?;
            let measured = floor.measure(&frames, spread, args.work.bounds())?;
            case.counts.received += measured.deliveries;
            case.rounds.push(Round { server: None, floor: Some(measured.into()) });
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(Report { work: "floor", settings: settings(&args.work), machine, servers: Vec::new(), cases })
}

/// Runs `burst`. Faults of the server are counted in the report.
///
/// # Errors
/// Fails if the server cannot be started or reached, or refuses.
pub fn run(args: &BurstArgs) -> Result<Report> {
    let cores = args.work.run.checked()?;
    let machine = Machine::here();
    let mut group = Group::new(&args.work, "burst", cores);
    group.floor = !args.no_floor;
    group.posters = if args.single_post { args.post.count(1) as usize } else { 1 };
    group.turn_timeout = std::time::Duration::from_secs(args.turn_timeout);
    let transport = match (args.target.serve_tls || is_tls(args), args.deflate) {
        (false, false) => Transport::Plain,
        (false, true) => Transport::Deflate,
        (true, false) => Transport::Tls,
        (true, true) => Transport::TlsDeflate,
    };
    let shapes = Shape::all(&args.work, args.deflate, args.single_post);
    let candidate = |name: &str, transport, tls, clients| Candidate {
        name: name.to_owned(),
        system: System::Hydrant,
        transport,
        clients,
        spec: args.spec.clone(),
        open: Open::Target(Box::new(if tls { args.target.with_tls(true) } else { args.target.clone() })),
        beside: None,
    };
    let mut candidates = vec![candidate("server", transport, false, args.work.clients())];
    if args.compare_tls {
        let over = if args.deflate { Transport::TlsDeflate } else { Transport::Tls };
        candidates.push(Candidate { beside: Some(0), ..candidate("server, TLS", over, true, args.work.clients()) });
    }
    if let Some(many) = args.compare_connections {
        candidates.push(Candidate { beside: Some(0), ..candidate("server, more", transport, false, many as usize) });
    }
    let (servers, cases) = group.run(&shapes, &candidates)?;
    Ok(Report { work: "burst", settings: settings(&args.work), machine, servers, cases })
}

fn is_tls(args: &BurstArgs) -> bool {
    args.target.endpoint.as_deref().is_some_and(|url| url.starts_with("https") || url.starts_with("wss"))
}

fn settings(args: &crate::args::Work) -> serde_json::Value {
    serde_json::json!({
        "connections": args.connections, "payload": args.payload, "k": args.k, "rounds": args.rounds,
        "seconds": args.seconds, "turns": args.turns, "selective": args.selective, "run": args.run,
    })
}
