//! The load generator of hydrant: what it measures and how is told in `docs/loadtest.md`.
//!
//! `args` is the command line; `burst` and `floor` are the work; `client` (many websockets on one thread), `publish`,
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
pub mod floor;
pub mod frame;
pub mod payload;
mod progress;
pub mod publish;
pub mod report;
pub mod server;
pub mod session;
mod tls;

use std::io::Write;

use anyhow::Result;

use crate::args::{Cli, Command};

/// Does what the command line asks for and writes the table to `out`. False if deliveries were at fault.
///
/// # Errors
/// It could not be done.
pub fn run(cli: &Cli, out: &mut dyn Write) -> Result<bool> {
    let (report, json) = match &cli.command {
        Command::Floor(args) => (burst::run_floor(args)?, &args.work.json),
        Command::Burst(args) => (burst::run(args)?, &args.work.json),
    };
    report.write_table(out)?;
    if let Some(path) = json {
        report.write_json(path)?;
    }
    Ok(report.is_clean())
}
