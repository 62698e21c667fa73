//! Memory by idle connection.
//!
//! The server's resident memory is read with a few clients that have got an event; then N more clients connect,
//! register three times each and get one event, so that buffers that are made at the first delivery exist; after a rest
//! it is read again. The difference by connection is user-space memory only: the kernel's socket buffers are not in it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::args::IdleArgs;
use crate::burst::OTHER_FILES;
use crate::check::{Checker, Counts};
use crate::client::{Sink, Swarm};
use crate::cpu;
use crate::payload::{KIND, Payloads, Spread};
use crate::progress;
use crate::publish::Publisher;
use crate::report::{self, Bar, Chart, Figure, Machine, Outcome, Page, Section, Table, spread};
use crate::session::Session;

const TIMEOUT: Duration = Duration::from_mins(2);

/// Clients that are there before anything is weighed.
const BASE: usize = 200;

/// Rest of theirs, at most.
const BASE_REST: Duration = Duration::from_secs(10);

/// What was found with one system.
#[derive(Debug, Clone, Serialize)]
pub struct Weight {
    /// The system and how it is spoken to, as shown.
    pub name: String,
    connections: u32,
    rest_seconds: u32,
    /// Bytes with the first few clients.
    resident_before: u64,
    /// Bytes when all were registered.
    resident_registered: u64,
    /// Bytes after one event to all and the rest.
    resident_rested: u64,
    /// Bytes by connection after the rest.
    bytes_by_connection: u64,
    /// Whether the event came to all, and all were still there in the end.
    counts: Counts,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    machine: Machine,
    server: Value,
    weights: Vec<Weight>,
}

/// Runs `idle`.
///
/// # Errors
/// The server cannot be reached or refuses, or its process is not known.
pub fn run(args: &IdleArgs) -> Result<Report> {
    let cores = args.run.checked()?;
    let machine = Machine::here();
    let session = Session::open(&args.target, cores)?;
    let name = if session.endpoint.url().starts_with("https") { "server, TLS" } else { "server" };
    let weight = once(name, [args.connections, args.rest], args.target.user(), &session, cores.client)?;
    Ok(Report { machine, server: session.info.clone(), weights: vec![weight] })
}

/// Weighs the connections of `session`: how many, and seconds of rest.
///
/// # Errors
/// As [`run`].
pub fn once(name: &str, size: [u32; 2], user: &str, session: &Session, core: Option<usize>) -> Result<Weight> {
    cpu::raise_file_limit(u64::from(size[0]) + BASE as u64 + OTHER_FILES)?;
    cpu::pin(core)?;
    measure(name, size, user, session, core).map_err(|error| session.explain(error))
}

fn measure(name: &str, size: [u32; 2], user: &str, session: &Session, core: Option<usize>) -> Result<Weight> {
    let [connections, rest] = size;
    let resident = || session.resident()?.context("memory needs --serve or --server-pid");
    let clients = connections as usize;
    let wire = session.endpoint.wire();
    let mut checker = Checker::for_all(Payloads::new(1_024, user, Spread::All)?, clients);
    let publisher = session.publisher(core)?;
    let mut base = base(session, &publisher, user, rest)?;
    let resident_before = resident()?;

    let mut swarm = registered(session, clients)?;
    let resident_registered = resident()?;

    let events = checker.begin(1);
    publish(&publisher, wire.batch(checker.payloads(), events))?;
    let deadline = Instant::now() + TIMEOUT;
    while !checker.is_complete() && Instant::now() < deadline {
        swarm.poll(Duration::from_millis(50), &mut checker)?;
    }
    checker.give_up();
    let end = Instant::now() + Duration::from_secs(u64::from(rest));
    while Instant::now() < end {
        swarm.poll(Duration::from_millis(200), &mut checker)?;
        base.poll(Duration::ZERO, &mut Nobody)?;
    }
    let resident_rested = resident()?;
    Ok(Weight {
        name: name.to_owned(),
        connections,
        rest_seconds: rest,
        resident_before,
        resident_registered,
        resident_rested,
        bytes_by_connection: resident_rested.saturating_sub(resident_before) / u64::from(connections),
        counts: checker.counts,
    })
}

/// Some clients come first and stay, so that what the first ones cost once is not taken for what each costs: the
/// log-in's password hash, threads' heaps, tables. They get an event, and rest too.
fn base(session: &Session, publisher: &Publisher, user: &str, rest: u32) -> Result<Swarm> {
    let mut swarm = registered(session, BASE)?;
    let mut checker = Checker::for_all(Payloads::new(1_024, user, Spread::All)?, BASE);
    let events = checker.begin(1);
    publish(publisher, session.endpoint.wire().batch(checker.payloads(), events))?;
    let deadline = Instant::now() + TIMEOUT;
    while !checker.is_complete() && Instant::now() < deadline {
        swarm.poll(Duration::from_millis(50), &mut checker)?;
    }
    ensure!(checker.counts.is_clean(), "the first clients did not get their event: {}", checker.counts);
    let end = Instant::now() + Duration::from_secs(u64::from(rest)).min(BASE_REST);
    while Instant::now() < end {
        swarm.poll(Duration::from_millis(100), &mut checker)?;
    }
    Ok(swarm)
}

/// The first clients: what comes to them is counted with the others.
struct Nobody;

impl Sink for Nobody {
    fn text(&mut self, _client: usize, _payload: &[u8]) {}

    fn closed(&mut self, _client: usize, _reason: &str) {}
}

fn publish(publisher: &Publisher, body: Vec<u8>) -> Result<()> {
    publisher.send(vec![body])?;
    ensure!(publisher.answered(TIMEOUT)?.is_some(), "what was published is not answered");
    Ok(())
}

/// The registrations of an idle client: everybody's events, those of one machine, and its jobs.
pub(crate) fn specs(client: usize) -> [String; 3] {
    let machine = format!("00000000-0000-4000-8000-{client:012x}");
    [format!("{KIND}.*.*"), format!("machines.*.{machine}"), format!("machine_jobs.*.{machine}")]
}

fn registered(session: &Session, clients: usize) -> Result<Swarm> {
    let bar = progress::bar(clients as u64, "connecting");
    let mut swarm = session.swarm(false, clients, &mut || bar.inc(1))?;
    bar.finish_and_clear();
    for at in 0..3 {
        swarm.register(TIMEOUT, |client| {
            let [all, machine, jobs] = specs(client);
            [all, machine, jobs].into_iter().nth(at).unwrap_or_default()
        })?;
    }
    Ok(swarm)
}

/// A section of a page.
pub fn section(weights: &[Weight]) -> Section {
    let mut section = Section::new("Idle connections");
    section.note(
        "Resident memory of the server's process, three registrations a connection; the kernel's buffers are not in it",
    );
    let heads = "who|conns|with 200|registered|by connection|after 1 event and rest|by connection|rest s|faults";
    let mut table = Table::new(heads);
    let mut bars = Vec::new();
    for weight in weights {
        let Weight { connections, resident_before, resident_registered, resident_rested, .. } = weight;
        let by_connection = |bytes: u64| {
            let more = bytes.checked_sub(*resident_before).filter(|&more| more > 0);
            more.map_or_else(|| "-".to_owned(), |more| report::bytes(more / u64::from(*connections)))
        };
        table.row(vec![
            weight.name.clone(),
            report::count(u64::from(*connections)),
            report::bytes(*resident_before),
            report::bytes(*resident_registered),
            by_connection(*resident_registered),
            report::bytes(*resident_rested),
            by_connection(*resident_rested),
            weight.rest_seconds.to_string(),
            report::count(weight.counts.faults()),
        ]);
        match kilobytes(weight) {
            Some(figure) => bars.extend(spread([figure]).map(|figure| Bar::new(&weight.name, figure))),
            None => section
                .note(format!("{}: no more memory than with the first {BASE}: too few to be weighed", weight.name)),
        }
        if !weight.counts.is_clean() {
            section.fault(format!("{}: {}", weight.name, weight.counts));
        }
    }
    section.table = Some(table);
    section.charts.push(Chart::bars("Memory by connection, rested", "KB", vec![(String::new(), bars)]));
    section
}

/// By connection; nothing if they cannot be told from what was there before.
#[allow(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn kilobytes(weight: &Weight) -> Option<f64> {
    (weight.bytes_by_connection > 0).then(|| weight.bytes_by_connection as f64 / 1e3)
}

/// The figures of all that were weighed.
pub fn figures(weights: &[Weight]) -> Vec<Figure> {
    let figure =
        |weight: &Weight| Some(Figure::once(format!("idle, {}", weight.name), "KB by connection", kilobytes(weight)?));
    weights.iter().filter_map(figure).collect()
}

/// Everybody got the one event and stayed.
pub fn is_clean(weight: &Weight) -> bool {
    weight.counts.is_clean()
}

impl Outcome for Report {
    fn is_clean(&self) -> bool {
        self.weights.iter().all(is_clean)
    }

    fn page(&self) -> Page {
        let mut page = Page::new("hydrant-loadtest idle", &self.machine);
        page.fact("server", self.server["version"].as_str().unwrap_or("unknown version"));
        page.sections.push(section(&self.weights));
        page
    }

    fn figures(&self) -> Vec<Figure> {
        figures(&self.weights)
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }
}
