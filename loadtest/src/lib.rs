//! The load generator of hydrant; `docs/loadtest.md` describes what it measures and how.
//!
//! `args` is the command line, `usage` the error of an impossible one. `burst`, `floor`, `compare`, `fleet`, `stall`,
//! `idle`, `storm` and `hostile` are the kinds of work. They use `client` (many websockets on one thread), `wire` (the
//! protocols), `publish`, `check` and `payload`; `server`, `session`, `awake`, `cpu` and `report` support them.
//!
//! Contract: the flags bound every run in time and count. If a server loses, repeats, reorders or harms an event,
//! [`run`] returns false, and the report says how often.

pub mod args;
pub mod awake;
pub mod burst;
pub mod check;
pub mod client;
pub mod compare;
pub mod cpu;
pub mod endpoint;
pub mod fleet;
pub mod floor;
pub mod frame;
pub mod hostile;
pub mod http;
pub mod idle;
pub mod inflate;
pub mod latency;
pub mod payload;
mod progress;
pub mod publish;
pub mod report;
pub mod server;
pub mod session;
mod sockets;
pub mod stall;
pub mod storm;
mod tls;
pub mod usage;
pub mod wire;

use std::io::Write;

use anyhow::{Context as _, Result, bail};

use crate::args::{Cli, Command, Output};
use crate::report::{Difference, Outcome};

/// The default tolerance of `--compare`, in percent.
const TOLERANCE: f64 = 10.0;

/// Runs the command line and writes the table to `out`. Returns false if there were faults in deliveries, or if the
/// second of two compared results is worse.
///
/// # Errors
/// Fails if the work could not be done, or not all of it: then the rest has been written.
pub fn run(cli: &Cli, out: &mut dyn Write) -> Result<bool> {
    let (outcome, output): (Box<dyn Outcome>, _) = match (&cli.command, cli.compare.as_deref()) {
        (None, Some([before, after])) => (Box::new(Difference::of(before, after, TOLERANCE)?), Output::default()),
        (command, _) => dispatch(command.as_ref().context("no subcommand given")?)?,
    };
    report::publish(outcome.as_ref(), &output, out)?;
    outcome.failure().map_or_else(|| Ok(outcome.is_clean()), |failure| bail!(failure))
}

fn dispatch(command: &Command) -> Result<(Box<dyn Outcome>, Output)> {
    command.checked()?;
    let outcome: Box<dyn Outcome> = match command {
        Command::Floor(args) => Box::new(burst::run_floor(args)?),
        Command::Burst(args) => Box::new(burst::run(args)?),
        Command::Compare(args) => Box::new(compare::run(args)?),
        Command::Fleet(args) => Box::new(fleet::run(args)?),
        Command::Stall(args) => Box::new(stall::run(args)?),
        Command::Idle(args) => Box::new(idle::run(args)?),
        Command::Storm(args) => Box::new(storm::run(args)?),
        Command::Hostile(args) => Box::new(hostile::run(args)?),
        Command::Report(args) => Box::new(Difference::of(&args.before, &args.after, args.tolerance)?),
    };
    Ok((outcome, command.output().clone()))
}
