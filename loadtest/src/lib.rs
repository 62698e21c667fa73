//! The load generator of hydrant: what it measures and how is told in `docs/loadtest.md`.
//!
//! `args` is the command line; `burst`, `floor`, `fleet`, `stall` and `idle` are the work; `client` (many websockets on one thread), `publish`,
//! `check` and `payload` are what it is done with; `cpu`, `server` and `report` are around it.
//!
//! Contract: every run is bounded in time and count by its flags. A server that loses, repeats, reorders or harms an
//! event makes [`run`] return false, and the report says how often.

pub mod args;
pub mod burst;
pub mod check;
pub mod client;
pub mod cpu;
pub mod endpoint;
pub mod fleet;
pub mod floor;
pub mod frame;
pub mod idle;
pub mod latency;
pub mod payload;
mod progress;
pub mod publish;
pub mod report;
pub mod server;
pub mod session;
pub mod stall;
mod tls;

use std::io::Write;

use anyhow::Result;

use crate::args::{Cli, Command};
use crate::report::Outcome;

/// Does what the command line asks for and writes the table to `out`. False if deliveries were at fault.
///
/// # Errors
/// It could not be done.
pub fn run(cli: &Cli, out: &mut dyn Write) -> Result<bool> {
    let (outcome, place): (Box<dyn Outcome>, _) = match &cli.command {
        Command::Floor(args) => (Box::new(burst::run_floor(args)?), &args.work.place),
        Command::Burst(args) => (Box::new(burst::run(args)?), &args.work.place),
        Command::Fleet(args) => (Box::new(fleet::run(args)?), &args.place),
        Command::Stall(args) => (Box::new(stall::run(args)?), &args.place),
        Command::Idle(args) => (Box::new(idle::run(args)?), &args.place),
    };
    outcome.write_table(out)?;
    if let Some(path) = &place.json {
        report::write_json(outcome.as_ref(), path)?;
    }
    Ok(outcome.is_clean())
}
