//! Memory per idle connection.
//!
//! The server's resident memory is read while a few clients are connected that have received an event. Then N more
//! clients connect, make three registrations each and receive one event, so that buffers allocated at the first
//! delivery exist. After a rest, memory is read again. The difference per connection is user-space memory only: the
//! kernel's socket buffers are not included.

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

/// Number of clients that connect before the first measurement.
const BASE: usize = 200;

/// Maximum rest of these clients.
const BASE_REST: Duration = Duration::from_secs(10);

/// The result for one system.
#[derive(Debug, Clone, Serialize)]
pub struct Weight {
    /// Display name of the system and its transport.
    pub name: String,
    connections: u32,
    rest_seconds: u32,
    /// Bytes with only the first few clients.
    resident_before: u64,
    /// Bytes when all clients were registered.
    resident_registered: u64,
    /// Bytes after one event to all clients and the rest.
    resident_rested: u64,
    /// Bytes per connection after the rest.
    bytes_by_connection: u64,
    /// Whether the event reached all clients, and all were still connected at the end.
    counts: Counts,
}

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    machine: Machine,
    server: Value,
    weights: Vec<Weight>,
}

/// Runs `idle`.
///
/// # Errors
/// Fails if the server cannot be reached or refuses, or if its process is not known.
pub fn run(args: &IdleArgs) -> Result<Report> {
    let cores = args.run.checked()?;
    let machine = Machine::here();
    let session = Session::open(&args.target, cores)?;
    let name = if session.endpoint.url().starts_with("https") { "server, TLS" } else { "server" };
    let weight = once(name, [args.connections, args.rest], args.target.user(), &session, cores.client)?;
    Ok(Report { machine, server: session.info.clone(), weights: vec![weight] })
}

/// Measures the memory of the connections of `session`. `size` is their number and the seconds of rest.
///
/// # Errors
/// Fails like [`run`].
pub fn once(name: &str, size: [u32; 2], user: &str, session: &Session, core: Option<usize>) -> Result<Weight> {
    cpu::raise_file_limit(files(size[0]))?;
    cpu::pin(core)?;
    measure(name, size, user, session, core).map_err(|error| session.explain(error))
}

/// Returns how many files this process opens for so many connections.
pub fn files(connections: u32) -> u64 {
    u64::from(connections) + BASE as u64 + OTHER_FILES
}

fn measure(name: &str, size: [u32; 2], user: &str, session: &Session, core: Option<usize>) -> Result<Weight> {
    let [connections, rest] = size;
    let resident = || session.resident()?.context("measuring memory requires --serve or --server-pid");
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

/// Connects the first clients, which stay connected, so that one-time costs are not attributed to each connection: the
/// login's password hash, heaps of threads, tables. They also receive an event, and rest.
fn base(session: &Session, publisher: &Publisher, user: &str, rest: u32) -> Result<Swarm> {
    let mut swarm = registered(session, BASE)?;
    let mut checker = Checker::for_all(Payloads::new(1_024, user, Spread::All)?, BASE);
    let events = checker.begin(1);
    publish(publisher, session.endpoint.wire().batch(checker.payloads(), events))?;
    let deadline = Instant::now() + TIMEOUT;
    while !checker.is_complete() && Instant::now() < deadline {
        swarm.poll(Duration::from_millis(50), &mut checker)?;
    }
    received(&mut checker)?;
    let end = Instant::now() + Duration::from_secs(u64::from(rest)).min(BASE_REST);
    while Instant::now() < end {
        swarm.poll(Duration::from_millis(100), &mut checker)?;
    }
    Ok(swarm)
}

/// Ends the wait for the event of the first clients.
fn received(checker: &mut Checker) -> Result<()> {
    checker.give_up();
    ensure!(checker.counts.is_clean(), "the first clients did not receive their event: {}", checker.counts);
    Ok(())
}

/// Ignores what the first clients receive: it is counted for the others.
struct Nobody;

impl Sink for Nobody {
    fn text(&mut self, _client: usize, _payload: &[u8]) {}

    fn closed(&mut self, _client: usize, _reason: &str) {}
}

fn publish(publisher: &Publisher, body: Vec<u8>) -> Result<()> {
    publisher.send(vec![body])?;
    ensure!(publisher.answered(TIMEOUT)?.is_some(), "the server did not answer a publish in time");
    Ok(())
}

/// Returns the registrations of an idle client: the events of all clients, those of one machine, and its jobs.
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

/// Returns the result as a section of a page.
pub fn section(weights: &[Weight]) -> Section {
    let mut section = Section::new("Idle connections");
    section.note(
        "Resident memory of the server's process, with three registrations per connection; without the kernel's \
         buffers",
    );
    let heads = "who|conns|with 200|registered|per connection|after 1 event and rest|per connection|rest s|faults";
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
            None => section.note(format!(
                "{}: no more memory than with the first {BASE} connections: too few connections to measure",
                weight.name
            )),
        }
        if !weight.counts.is_clean() {
            section.fault(format!("{}: {}", weight.name, weight.counts));
        }
    }
    section.table = Some(table);
    section.charts.push(Chart::bars("Memory per connection, at rest", "KB", vec![(String::new(), bars)]));
    section
}

/// Returns kilobytes per connection; `None` if they do not exceed the memory used before.
#[allow(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn kilobytes(weight: &Weight) -> Option<f64> {
    (weight.bytes_by_connection > 0).then(|| weight.bytes_by_connection as f64 / 1e3)
}

/// Returns the figures of all systems.
pub fn figures(weights: &[Weight]) -> Vec<Figure> {
    let figure =
        |weight: &Weight| Some(Figure::once(format!("idle, {}", weight.name), "KB per connection", kilobytes(weight)?));
    weights.iter().filter_map(figure).collect()
}

/// Returns whether every client received the event and stayed connected.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_never_reaches_the_first_clients_is_found() {
        let mut checker = Checker::for_all(Payloads::new(1_024, "a", Spread::All).unwrap(), 2);
        checker.begin(1);
        let error = received(&mut checker).unwrap_err().to_string();
        assert!(error.contains("did not receive their event: 0 received, 2 lost"), "{error}");
    }
}
