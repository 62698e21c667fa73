//! All clients lose their connection at once and reconnect.
//!
//! N clients with three registrations each are connected. All connections are lost, closed by the clients or by the
//! server's end, and all clients immediately try to reconnect until they succeed. The report has the time until half,
//! nine tenths and all are back *and registered*, the failures meanwhile, the server's memory before and after, and
//! whether its own counts of connections and registrations are right: when all are back, and again when all have
//! disconnected.

mod client;
mod swarm;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use serde_json::Value;

use self::swarm::{ReconnectSwarm, Reconnection};
use crate::args::{Loss, StormArgs};
use crate::burst::OTHER_FILES;
use crate::cpu;
use crate::progress;
use crate::report::{self, Chart, Figure, Line, Machine, Outcome, Page, Section, Table, Ticks, Verdict, spread};
use crate::session::Session;

/// Time limit until the server's counts must be right.
const SETTLE: Duration = Duration::from_secs(15);

/// Rest, during which clients still receive, before memory is read.
const REST: Duration = Duration::from_secs(2);

/// The server's own counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Held {
    connections: u64,
    registrations: u64,
}

impl Held {
    /// Returns the counts with so many clients more, each with three registrations.
    fn with(self, clients: u32) -> Self {
        let clients = u64::from(clients);
        Self { connections: self.connections + clients, registrations: self.registrations + 3 * clients }
    }
}

/// One storm.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    reconnection: Reconnection,
    /// Seconds until the server listened again, if it was restarted.
    down: Option<f64>,
    resident_before: Option<u64>,
    resident_after: Option<u64>,
    /// The server's counts when all clients are back; `None` if its metrics are not known.
    held: Option<Held>,
}

/// The results of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    machine: Machine,
    server: Value,
    connections: u32,
    loss: Loss,
    tls: bool,
    /// The first time that all clients connect.
    arrival: Reconnection,
    rounds: Vec<Round>,
    /// The server's counts before the first client connected (and, in `held_after`, after the last disconnected).
    held_before: Option<Held>,
    held_after: Option<Held>,
}

/// Runs `storm`.
///
/// # Errors
/// Fails if the server cannot be reached, or if not all clients can connect at the beginning.
pub fn run(args: &StormArgs) -> Result<Report> {
    let cores = args.run.checked()?;
    let machine = Machine::here();
    cpu::raise_file_limit(u64::from(args.connections) + OTHER_FILES)?;
    let mut session = Session::open(&args.target, cores)?;
    cpu::pin(cores.client)?;
    measure(args, &mut session, machine).map_err(|error| session.explain(error))
}

fn measure(args: &StormArgs, session: &mut Session, machine: Machine) -> Result<Report> {
    let held_before = held(session);
    let timeout = Duration::from_secs(u64::from(args.patience));
    let mut swarm = ReconnectSwarm::new(&session.endpoint, args.connections as usize, args.at_once as usize)?;
    let arrival = reconnect_all(&mut swarm, timeout, &|| true)?;
    if arrival.back.len() < args.connections as usize {
        bail!("only {} of {} clients could connect: {:?}", arrival.back.len(), args.connections, arrival.errors);
    }
    let mut rounds = Vec::new();
    for _ in 0..args.rounds {
        rounds.push(storm(args, session, &mut swarm, held_before)?);
    }
    swarm.disconnect_all();
    let held_after = held_before.map(|before| settled(session, before));
    let server = session.info.clone();
    let (connections, loss, tls) = (args.connections, args.loss, session.endpoint.url().starts_with("https"));
    Ok(Report { machine, server, connections, loss, tls, arrival, rounds, held_before, held_after })
}

fn reconnect_all(swarm: &mut ReconnectSwarm, timeout: Duration, is_lost: &dyn Fn() -> bool) -> Result<Reconnection> {
    let bar = progress::bar(0, "reconnecting");
    let reconnection = swarm.reconnect_all(timeout, is_lost, &|back| bar.set_position(back));
    bar.finish_and_clear();
    reconnection
}

fn storm(
    args: &StormArgs,
    session: &mut Session,
    swarm: &mut ReconnectSwarm,
    held_before: Option<Held>,
) -> Result<Round> {
    let timeout = Duration::from_secs(u64::from(args.patience));
    swarm.rest(REST)?;
    let resident_before = session.resident()?;
    let (reconnection, down) = match args.loss {
        Loss::Cut => {
            swarm.disconnect_all();
            (reconnect_all(swarm, timeout, &|| true)?, None)
        }
        Loss::Restart | Loss::Kill => restarted(args.loss == Loss::Kill, session, swarm, timeout)?,
    };
    swarm.rest(REST)?;
    let counted = held(session).and(held_before).map(|before| settled(session, before.with(args.connections)));
    Ok(Round { reconnection, down, resident_before, resident_after: session.resident()?, held: counted })
}

/// Restarts the server while all clients try to reconnect.
fn restarted(
    abruptly: bool,
    session: &mut Session,
    swarm: &mut ReconnectSwarm,
    timeout: Duration,
) -> Result<(Reconnection, Option<f64>)> {
    let is_up = AtomicBool::new(false);
    let begin = Instant::now();
    thread::scope(|scope| {
        let work = || {
            let result = session.restart(abruptly);
            is_up.store(true, Ordering::SeqCst);
            result.map(|_| begin.elapsed().as_secs_f64())
        };
        let restarting = scope.spawn(work);
        let reconnection = reconnect_all(swarm, timeout, &|| is_up.load(Ordering::SeqCst));
        let down = restarting.join().map_err(|_| anyhow!("the restarting thread has failed"))?;
        Ok((reconnection?, Some(down.context("the server did not start again")?)))
    })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
fn held(session: &Session) -> Option<Held> {
    let metrics = session.metrics();
    let count = |name: &str| metrics.get(name).map(|&value| value.max(0.0) as u64);
    Some(Held { connections: count("hydrant_connections")?, registrations: count("hydrant_registrations")? })
}

/// Returns the server's counts as soon as they are as expected, or at the end of [`SETTLE`].
fn settled(session: &Session, expected: Held) -> Held {
    let deadline = Instant::now() + SETTLE;
    loop {
        let now = held(session).unwrap_or(Held { connections: 0, registrations: 0 });
        if now == expected || Instant::now() > deadline {
            return now;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

impl Reconnection {
    /// Returns the seconds until that share of `all` was back.
    fn until(&self, share: f64, all: u32) -> Option<f64> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let count = (f64::from(all) * share).ceil() as usize;
        self.back.get(count.max(1) - 1).copied()
    }

    fn errors(&self) -> String {
        let all: Vec<String> = self.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    }
}

impl Report {
    fn leaks(&self) -> Vec<String> {
        let told = |what: &str, held: Held, expected: Held| {
            let Held { connections, registrations } = held;
            let (c, r) = (expected.connections, expected.registrations);
            format!(
                "{what}: the server counts {connections} connections and {registrations} registrations, expected {c} \
                 and {r}"
            )
        };
        let rounds = self.rounds.iter().filter(|round| round.reconnection.back.len() == self.connections as usize);
        let expected = self.held_before.map(|before| before.with(self.connections));
        let pairs = rounds.filter_map(|round| round.held.zip(expected)).filter(|(held, expected)| held != expected);
        let mut leaks: Vec<String> =
            pairs.map(|(held, expected)| told("with all clients back", held, expected)).collect();
        if let (Some(before), Some(after)) = (self.held_before, self.held_after)
            && before != after
        {
            leaks.push(told("after all clients have left", after, before));
        }
        leaks
    }

    fn missing(&self) -> u64 {
        let all = self.connections as usize;
        self.rounds.iter().map(|round| (all - round.reconnection.back.len()) as u64).sum()
    }

    fn row(&self, name: &str, reconnection: &Reconnection, down: Option<f64>, memory: [Option<u64>; 2]) -> Vec<String> {
        let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let mut cells = vec![name.to_owned(), seconds(down)];
        cells.extend([0.5, 0.9, 1.0].map(|share| seconds(reconnection.until(share, self.connections))));
        cells.push(report::count(u64::from(self.connections) - reconnection.back.len() as u64));
        cells.push(report::count(reconnection.tries));
        cells.extend(memory.map(|memory| memory.map_or_else(|| "-".to_owned(), report::bytes)));
        cells.push(reconnection.errors());
        cells
    }

    #[allow(clippy::cast_precision_loss, reason = "a count of connections")]
    fn chart(&self) -> Chart {
        let line = |name: String, reconnection: &Reconnection, colour| {
            let all = f64::from(self.connections);
            let step = (reconnection.back.len() / 100).max(1);
            let points = reconnection.back.iter().enumerate().step_by(step);
            let mut points: Vec<(f64, f64)> = points.map(|(at, &when)| (when, (at + 1) as f64 / all * 100.0)).collect();
            points.extend(reconnection.back.last().map(|&when| (when, reconnection.back.len() as f64 / all * 100.0)));
            Line { name, points, colour, dashed: colour == 0 }
        };
        let storms = self.rounds.iter().enumerate();
        let storms = storms.map(|(at, round)| line(format!("storm {}", at + 1), &round.reconnection, at + 1));
        Chart::Lines {
            title: "Back and registered".to_owned(),
            x: Ticks::Linear("seconds since the loss".to_owned()),
            y: Ticks::Linear("%".to_owned()),
            lines: [line("arrival".to_owned(), &self.arrival, 0)].into_iter().chain(storms).collect(),
        }
    }
}

impl Outcome for Report {
    fn is_clean(&self) -> bool {
        self.missing() == 0 && self.leaks().is_empty()
    }

    fn page(&self) -> Page {
        let mut page = Page::new("hydrant-loadtest storm", &self.machine);
        page.fact("server", self.server["version"].as_str().unwrap_or("unknown version"));
        let mut section = Section::new("All clients reconnect at once");
        let how = match self.loss {
            Loss::Cut => "closed by the clients",
            Loss::Restart => "lost by a restart of the server",
            Loss::Kill => "lost by killing and starting the server",
        };
        let over = if self.tls { "TLS" } else { "plain" };
        section.note(format!(
            "{} connections ({over}) with three registrations each, all {how}; seconds from the loss until that share \
             is back and registered",
            self.connections
        ));
        let heads = "wave|server down|50 %|90 %|all|missing|tries|memory before|memory after|failed tries";
        let mut table = Table::new(heads);
        table.row(self.row("arrival", &self.arrival, None, [None, None]));
        for (at, round) in self.rounds.iter().enumerate() {
            let memory = [round.resident_before, round.resident_after];
            table.row(self.row(&format!("storm {}", at + 1), &round.reconnection, round.down, memory));
        }
        section.table = Some(table);
        section.charts.push(self.chart());
        if self.missing() > 0 {
            section.fault(format!("{} clients did not reconnect", self.missing()));
        }
        for leak in self.leaks() {
            section.fault(leak);
        }
        if self.held_before.is_none() {
            section.note("the server's own counts are unknown: give --metrics");
        }
        page.sections.push(section);
        let text =
            if self.is_clean() { "No faults: all clients came back, and nothing leaked" } else { "Faults: see below" };
        page.verdict = Some(Verdict { good: self.is_clean(), text: text.to_owned() });
        page
    }

    fn figures(&self) -> Vec<Figure> {
        let figure = |(name, share): (&str, f64)| {
            let found =
                spread(self.rounds.iter().filter_map(|round| round.reconnection.until(share, self.connections)))?;
            Some(Figure::of(format!("storm of {}: {name} back", self.connections), "s", found))
        };
        [("50 %", 0.5), ("90 %", 0.9), ("all", 1.0)].into_iter().filter_map(figure).collect()
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_of_all_and_not_of_those_who_came() {
        let reconnection =
            Reconnection { back: vec![0.1, 0.2, 0.3], errors: [("refused".to_owned(), 4)].into(), tries: 8 };
        assert_eq!(reconnection.until(0.5, 4), Some(0.2));
        assert_eq!(reconnection.until(0.75, 4), Some(0.3));
        assert_eq!(reconnection.until(1.0, 4), None);
        assert_eq!(reconnection.errors(), "4 refused");
    }
}
