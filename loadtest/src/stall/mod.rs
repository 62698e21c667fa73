//! Some clients stop reading.
//!
//! The same bytes are published twice in a closed loop with the healthy clients: first without, then with the stalled
//! ones, which have registered and then read nothing. At the end, the stalled ones read what is available. Each must
//! have received everything, or a gap notice, or a close with a code; anything else is a silent loss.
//!
//! Memory growth is the maximum of the server's resident memory in the second run, minus that at its start.

mod fate;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

pub use fate::Fates;

use self::fate::Aftermath;
use crate::args::{StallArgs, StallSize};
use crate::burst::OTHER_FILES;
use crate::check::{Checker, Counts};
use crate::client::{Sink, Swarm};
use crate::cpu;
use crate::latency::{Latencies, Quantiles};
use crate::payload::{KIND, Payloads, Spread};
use crate::progress;
use crate::publish::Publisher;
use crate::report::{self, Bar, Chart, Figure, Machine, Outcome, Page, Section, Table, Verdict, spread};
use crate::session::Session;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Time limit for one half; what has not been published by then is left out.
const HALF: Duration = Duration::from_secs(45);

/// Size of the kernel's receive buffer for a client that does not read, in bytes.
const RECEIVE_BUFFER: usize = 64 << 10;

/// The stalled clients have received everything when nothing arrives for this long.
const SILENCE: Duration = Duration::from_secs(2);

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Events published in the first half, without the stalled clients.
    events_without: u64,
    /// Events published in the second half.
    events: u64,
    /// Latency of the healthy clients, from the start of the turn to each delivery.
    latency_without: Quantiles,
    latency_with: Quantiles,
    /// Growth in bytes; `None` if the server's process is not known.
    resident_growth: Option<u64>,
    /// Deliveries to the healthy clients.
    counts: Counts,
    fates: Fates,
    /// The reason given to the first client that was closed.
    reason: Option<String>,
}

/// All runs with one system.
#[derive(Debug, Clone, Serialize)]
pub struct Runs {
    /// Display name of the system.
    pub name: String,
    /// The runs.
    pub rounds: Vec<Round>,
}

/// The results.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    machine: Machine,
    server: Value,
    size: StallSize,
    results: Vec<Runs>,
}

/// Runs `stall`.
///
/// # Errors
/// Fails if the server cannot be reached or refuses.
pub fn run(args: &StallArgs) -> Result<Report> {
    let cores = args.run.checked()?;
    let machine = Machine::here();
    let (mut rounds, mut server) = (Vec::new(), Value::Null);
    for _ in 0..args.rounds {
        let session = Session::open(&args.target, cores)?;
        server = session.info.clone();
        rounds.push(once(&args.size, args.target.user(), &session, cores.client)?);
    }
    let results = vec![Runs { name: "server".to_owned(), rounds }];
    Ok(Report { machine, server, size: args.size.clone(), results })
}

/// Measures once with `session`.
///
/// # Errors
/// Fails like [`run`].
pub fn once(size: &StallSize, user: &str, session: &Session, core: Option<usize>) -> Result<Round> {
    cpu::raise_file_limit(files(size))?;
    cpu::pin(core)?;
    measure(size, user, session, core).map_err(|error| session.explain(error))
}

/// Returns how many files this process opens for this work.
pub fn files(size: &StallSize) -> u64 {
    u64::from(size.healthy) + u64::from(size.stalled) + OTHER_FILES
}

fn measure(size: &StallSize, user: &str, session: &Session, core: Option<usize>) -> Result<Round> {
    let (healthy, stalled) = (size.healthy as usize, size.stalled as usize);
    let payloads = Payloads::new(size.payload, user, Spread::All)?;
    let mut swarm = session.swarm(false, healthy, &mut || {})?;
    swarm.register(TIMEOUT, |_| format!("{KIND}.*.*"))?;
    let publisher = session.publisher(core)?;
    let mut run = Run { swarm, publisher, checker: Checker::for_all(payloads, healthy), k: size.k };
    let turns = (u64::from(size.megabytes) * 1_000_000).div_ceil(size.payload as u64 * size.k);

    let without = run.turns(turns, session)?;
    let first = without.turns * size.k;
    let mut idle = session.swarm(false, stalled, &mut || {})?;
    idle.limit_receive_buffers(RECEIVE_BUFFER)?;
    idle.register(TIMEOUT, |_| format!("{KIND}.*.*"))?;
    let before = session.resident()?;
    let with = run.turns(turns, session)?;

    let events = with.turns * size.k;
    let aftermath = run.listen(&mut idle, Aftermath::new(stalled, first, events, session.endpoint.wire()))?;
    Ok(Round {
        events_without: first,
        events,
        latency_without: without.latencies.quantiles(),
        latency_with: with.latencies.quantiles(),
        resident_growth: with.resident_max.zip(before).map(|(most, before)| most.saturating_sub(before)),
        counts: run.checker.counts,
        fates: aftermath.fates(),
        reason: aftermath.reason,
    })
}

/// The healthy clients.
struct Run {
    swarm: Swarm,
    publisher: Publisher,
    checker: Checker,
    k: u64,
}

struct Phase {
    latencies: Latencies,
    resident_max: Option<u64>,
    /// Number of turns begun.
    turns: u64,
}

impl Run {
    fn turns(&mut self, turns: u64, session: &Session) -> Result<Phase> {
        let mut phase = Phase { latencies: Latencies::new()?, resident_max: None, turns: 0 };
        let bar = progress::bar(turns, "publishing");
        let (begin, mut is_whole) = (Instant::now(), true);
        while is_whole && phase.turns < turns && begin.elapsed() < HALF {
            is_whole = self.turn(&mut phase.latencies, session)?;
            phase.turns += 1;
            phase.resident_max = phase.resident_max.max(session.resident()?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(phase)
    }

    /// Runs one turn. Returns false if something did not arrive: then continuing makes no sense.
    fn turn(&mut self, latencies: &mut Latencies, session: &Session) -> Result<bool> {
        let events = self.checker.begin(self.k);
        let batch = session.endpoint.wire().batch(self.checker.payloads(), events);
        let begin = Instant::now();
        self.publisher.send(vec![batch])?;
        while !self.checker.is_complete() {
            let mut timed = Timed { checker: &mut self.checker, latencies, begin };
            self.swarm.poll(Duration::from_millis(50), &mut timed)?;
            if begin.elapsed() > TIMEOUT {
                self.checker.give_up();
                return Ok(false);
            }
        }
        self.publisher.answered(TIMEOUT)?.context("the server did not answer a publish in time")?;
        Ok(self.checker.counts.closed == 0)
    }

    /// Lets the stalled clients read until nothing more arrives.
    fn listen(&mut self, idle: &mut Swarm, mut aftermath: Aftermath) -> Result<Aftermath> {
        let mut heard = Instant::now();
        let begin = heard;
        while heard.elapsed() < SILENCE && begin.elapsed() < TIMEOUT * 3 {
            let visits = idle.visits;
            idle.poll(Duration::from_millis(100), &mut aftermath)?;
            if idle.visits > visits {
                heard = Instant::now();
            }
            self.swarm.poll(Duration::ZERO, &mut self.checker)?;
        }
        Ok(aftermath)
    }
}

/// Records when each delivery arrived.
struct Timed<'r> {
    checker: &'r mut Checker,
    latencies: &'r mut Latencies,
    begin: Instant,
}

impl Sink for Timed<'_> {
    fn text(&mut self, client: usize, payload: &[u8]) {
        self.latencies.record(self.begin.elapsed());
        self.checker.arrived(client, payload);
    }

    fn closed(&mut self, client: usize, reason: &str) {
        self.checker.lost(client, reason);
    }
}

#[allow(clippy::cast_precision_loss, reason = "microseconds and bytes far below 2^52")]
impl Round {
    fn p99_ratio(&self) -> f64 {
        self.latency_with.p99 as f64 / self.latency_without.p99.max(1) as f64
    }

    fn growth(&self) -> Option<f64> {
        self.resident_growth.map(|bytes| bytes as f64)
    }

    fn faults(&self) -> u64 {
        self.counts.faults() + self.fates.faults()
    }
}

/// Formats a figure as bytes.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of bytes")]
fn bytes(figure: f64) -> String {
    report::bytes(figure.max(0.0) as u64)
}

impl Runs {
    fn row(&self, round: &Round) -> Vec<String> {
        let quantiles = |of: &Quantiles| [of.p50, of.p99, of.p999].map(report::count).join(" / ");
        vec![
            self.name.clone(),
            quantiles(&round.latency_without),
            quantiles(&round.latency_with),
            format!("{:.2}", round.p99_ratio()),
            round.growth().map_or_else(|| "-".to_owned(), bytes),
            round.fates.to_string(),
            report::count(round.faults()),
        ]
    }

    fn figures(&self) -> Vec<Figure> {
        let ratio = spread(self.rounds.iter().map(Round::p99_ratio));
        let growth = spread(self.rounds.iter().filter_map(Round::growth));
        let name = &self.name;
        let ratio =
            ratio.map(|ratio| Figure::of(format!("stall, {name}: p99 with by without the stalled"), "x", ratio));
        let growth = growth.map(|growth| Figure::of(format!("stall, {name}: memory growth"), "B", growth));
        ratio.into_iter().chain(growth).collect()
    }
}

/// Returns a section of a page: table, chart, faults.
pub fn section(size: &StallSize, results: &[Runs]) -> Section {
    let StallSize { healthy, stalled, megabytes, payload, k } = size;
    let wanted = (u64::from(*megabytes) * 1_000_000).div_ceil(*payload as u64 * k) * k;
    let mut section = Section::new("Clients that stop reading");
    section.note(format!(
        "{healthy} healthy and {stalled} stalled clients, {megabytes} MB of events of {payload} B in each half, K = \
         {k}; latency of the healthy from the start of a turn, µs: p50 / p99 / p99.9"
    ));
    let mut table = Table::new("who|none stalled|others stalled|p99 ratio|memory growth|the stalled ones|faults");
    let mut bars = Vec::new();
    for result in results {
        for round in &result.rounds {
            table.row(result.row(round));
            if let Some(reason) = &round.reason {
                section.note(format!("{}: close reason of the first: {reason}", result.name));
            }
            for (half, events) in [("without", round.events_without), ("with", round.events)] {
                if events < wanted {
                    let name = &result.name;
                    section.note(format!(
                        "{name}: the half {half} stalled clients ended after {events} of {wanted} events"
                    ));
                }
            }
            if !round.counts.is_clean() {
                section.fault(format!("{}, healthy: {}", result.name, round.counts));
            }
            if round.fates.faults() > 0 {
                section.fault(format!("{}, stalled: {}", result.name, round.fates));
            }
        }
        let growth = spread(result.rounds.iter().filter_map(Round::growth).map(|bytes| bytes / 1e6));
        bars.extend(growth.map(|growth| Bar::new(&result.name, growth)));
    }
    section.notes.dedup();
    section.table = Some(table);
    section.charts.push(Chart::bars(
        &format!("Memory growth with {stalled} stalled clients"),
        "MB",
        vec![(String::new(), bars)],
    ));
    section
}

/// Returns the figures of all results.
pub fn figures(results: &[Runs]) -> Vec<Figure> {
    results.iter().flat_map(Runs::figures).collect()
}

/// Returns whether no client lost anything without notice.
pub fn is_clean(result: &Runs) -> bool {
    result.rounds.iter().all(|round| round.faults() == 0)
}

impl Outcome for Report {
    fn is_clean(&self) -> bool {
        self.results.iter().all(is_clean)
    }

    fn page(&self) -> Page {
        let mut page = Page::new("hydrant-loadtest stall", &self.machine);
        page.fact("server", self.server["version"].as_str().unwrap_or("unknown version"));
        page.sections.push(section(&self.size, &self.results));
        let text =
            if self.is_clean() { "No faults: every client that lost events was notified" } else { "Faults: see below" };
        page.verdict = Some(Verdict { good: self.is_clean(), text: text.to_owned() });
        page
    }

    fn figures(&self) -> Vec<Figure> {
        figures(&self.results)
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_that_ended_early_is_told_whichever_it_was() {
        let quantiles = Latencies::new().unwrap().quantiles();
        let round = |events_without, events| Round {
            events_without,
            events,
            latency_without: quantiles,
            latency_with: quantiles,
            resident_growth: None,
            counts: Counts::default(),
            fates: Fates::default(),
            reason: None,
        };
        let size = StallSize { healthy: 1, stalled: 1, megabytes: 1, payload: 1_000, k: 10 };
        let notes = |round| {
            let mut notes = section(&size, &[Runs { name: "server".to_owned(), rounds: vec![round] }]).notes;
            notes.split_off(1)
        };
        assert!(notes(round(1_000, 1_000)).is_empty());
        let early = |half| vec![format!("server: the half {half} stalled clients ended after 500 of 1000 events")];
        assert_eq!(notes(round(500, 1_000)), early("without"));
        assert_eq!(notes(round(1_000, 500)), early("with"));
    }
}
