//! Memory by idle connection.
//!
//! The server's resident memory is read with no clients but after an event has been published; then N clients connect,
//! register three times each and get one event, so that buffers that are made at the first delivery exist; after a rest
//! it is read again. The difference by connection is user-space memory only: the kernel's socket buffers are not in it.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::args::IdleArgs;
use crate::check::{Checker, Counts};
use crate::client::Swarm;
use crate::cpu;
use crate::payload::{KIND, Payloads, Spread};
use crate::progress;
use crate::publish::Publisher;
use crate::report::{Machine, Outcome};
use crate::session::Session;

const PATIENCE: Duration = Duration::from_mins(2);

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    machine: Machine,
    server: Value,
    connections: u32,
    rest_seconds: u32,
    /// Bytes with no clients.
    resident_before: u64,
    /// Bytes when all were registered.
    resident_registered: u64,
    /// Bytes after one event to all and the rest.
    resident_rested: u64,
    /// Whether the event came to all, and all were still there in the end.
    counts: Counts,
}

/// Runs `idle`.
///
/// # Errors
/// The server cannot be reached or refuses, or its process is not known.
pub fn run(args: &IdleArgs) -> Result<Report> {
    let cores = args.place.checked()?;
    let machine = Machine::here();
    cpu::raise_file_limit(u64::from(args.connections) + 128)?;
    let session = Session::open(&args.target, cores)?;
    measure(args, &session, machine).map_err(|error| session.explain(error))
}

fn measure(args: &IdleArgs, session: &Session, machine: Machine) -> Result<Report> {
    let cores = args.place.checked()?;
    cpu::pin(cores.client)?;
    let resident = || session.resident()?.context("memory needs --serve or --server-pid");
    let clients = args.connections as usize;
    let mut checker = Checker::for_all(Payloads::new(1_024, args.target.user(), Spread::All)?, clients);
    let publisher = Publisher::start(&session.endpoint, cores.client)?;
    publish(&publisher, Payloads::new(1_024, args.target.user(), Spread::All)?.body(0, 1))?;
    let resident_before = resident()?;

    let bar = progress::bar(u64::from(args.connections), "connecting");
    let mut swarm = Swarm::connect(&session.endpoint, clients, &mut || bar.inc(1))?;
    bar.finish_and_clear();
    register(&mut swarm)?;
    let resident_registered = resident()?;

    publish(&publisher, checker.begin(1))?;
    let deadline = Instant::now() + PATIENCE;
    while !checker.is_complete() && Instant::now() < deadline {
        swarm.poll(Duration::from_millis(50), &mut checker)?;
    }
    checker.give_up();
    let end = Instant::now() + Duration::from_secs(u64::from(args.rest));
    while Instant::now() < end {
        swarm.poll(Duration::from_millis(200), &mut checker)?;
    }
    Ok(Report {
        machine,
        server: session.info.clone(),
        connections: args.connections,
        rest_seconds: args.rest,
        resident_before,
        resident_registered,
        resident_rested: resident()?,
        counts: checker.counts,
    })
}

fn publish(publisher: &Publisher, body: Vec<u8>) -> Result<()> {
    publisher.send(body)?;
    ensure!(publisher.answered(PATIENCE)?.is_some(), "the server does not answer a POST");
    Ok(())
}

/// Everybody's events, those of one machine, and its jobs.
fn register(swarm: &mut Swarm) -> Result<()> {
    let machine = |client: usize| format!("00000000-0000-4000-8000-{client:012x}");
    swarm.register(PATIENCE, |_| format!("{KIND}.*.*"))?;
    swarm.register(PATIENCE, |client| format!("machines.*.{}", machine(client)))?;
    swarm.register(PATIENCE, |client| format!("machine_jobs.*.{}", machine(client)))
}

impl Report {
    fn by_connection(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.resident_before) / u64::from(self.connections)
    }
}

impl Outcome for Report {
    fn is_clean(&self) -> bool {
        self.counts.is_clean()
    }

    fn write_table(&self, out: &mut dyn Write) -> Result<()> {
        self.machine.write_line(out)?;
        let (connections, rest) = (self.connections, self.rest_seconds);
        writeln!(
            out,
            "{connections} idle connections, 3 registrations each; resident memory of the server in bytes\n"
        )?;
        writeln!(out, "before, with no clients        {:>14}", self.resident_before)?;
        let rows = [
            ("all registered".to_owned(), self.resident_registered),
            (format!("after 1 event and {rest} s"), self.resident_rested),
        ];
        for (name, bytes) in rows {
            writeln!(out, "{name:<30} {bytes:>14} {:>10} by connection", self.by_connection(bytes))?;
        }
        if !self.is_clean() {
            writeln!(out, "\nfaults: {}", serde_json::to_string(&self.counts)?)?;
        }
        Ok(())
    }

    fn json(&self) -> Result<Value> {
        let mut value = serde_json::to_value(self)?;
        value["bytes_by_connection"] = self.by_connection(self.resident_rested).into();
        Ok(value)
    }
}
