//! Some clients stop reading.
//!
//! The same bytes are published twice in a closed loop with the healthy clients: first without, then with the
//! stalled ones, which have registered and then read nothing. In the end the stalled ones read what there is. Each must
//! have got everything, or a gap notice, or a coded close; anything else is a silent loss.
//!
//! Memory is the server's resident memory at its greatest in the second run, against that at its start.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hydrant::event::Draft;
use serde::Serialize;
use serde_json::Value;

use crate::args::StallArgs;
use crate::check::{Checker, Counts};
use crate::client::{Sink, Swarm};
use crate::cpu;
use crate::latency::{Latencies, Quantiles};
use crate::payload::{KIND, Payloads, Spread};
use crate::progress;
use crate::publish::Publisher;
use crate::report::{Machine, Outcome};
use crate::session::Session;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the kernel may take for a client that does not read.
const RECEIVE_BUFFER: usize = 64 << 10;

/// The stalled clients have heard everything when nothing comes for so long.
const SILENCE: Duration = Duration::from_secs(2);

/// What became of the stalled clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Fates {
    /// Got everything after all.
    pub complete: u64,
    /// Were told of a gap.
    pub told: u64,
    /// Were closed with a code.
    pub closed: u64,
    /// Lost their connection without a word.
    pub cut: u64,
    /// Are connected, have lost events, and do not know.
    pub silent: u64,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    machine: Machine,
    server: Value,
    healthy: u32,
    stalled: u32,
    payload: usize,
    k: u64,
    events: u64,
    /// Of the healthy clients: from the start of the POST to each delivery.
    latency_without: Quantiles,
    latency_with: Quantiles,
    /// Bytes; nothing if the server's process is not known.
    resident_growth: Option<u64>,
    /// Deliveries to the healthy clients.
    counts: Counts,
    fates: Fates,
    /// The reason given to the first that was closed.
    reason: Option<String>,
}

/// Runs `stall`.
///
/// # Errors
/// The server cannot be reached or refuses.
pub fn run(args: &StallArgs) -> Result<Report> {
    let cores = args.place.checked()?;
    let machine = Machine::here();
    cpu::raise_file_limit(u64::from(args.healthy) + u64::from(args.stalled) + 128)?;
    let session = Session::open(&args.target, cores)?;
    cpu::pin(cores.client)?;
    measure(args, &session, machine).map_err(|error| session.explain(error))
}

fn measure(args: &StallArgs, session: &Session, machine: Machine) -> Result<Report> {
    let (healthy, stalled) = (args.healthy as usize, args.stalled as usize);
    let payloads = Payloads::new(args.payload, args.target.user(), Spread::All)?;
    let mut swarm = Swarm::connect(&session.endpoint, healthy, &mut || {})?;
    swarm.register(PATIENCE, |_| format!("{KIND}.*.*"))?;
    let publisher = Publisher::start(&session.endpoint, args.place.checked()?.client)?;
    let mut run = Run { swarm, publisher, checker: Checker::for_all(payloads, healthy), k: args.k };
    let turns = (u64::from(args.megabytes) * 1_000_000).div_ceil(args.payload as u64 * args.k);

    let without = run.turns(turns, session)?;
    let mut idle = Swarm::connect(&session.endpoint, stalled, &mut || {})?;
    idle.limit_receive_buffers(RECEIVE_BUFFER)?;
    idle.register(PATIENCE, |_| format!("{KIND}.*.*"))?;
    let before = session.resident()?;
    let with = run.turns(turns, session)?;

    let aftermath = run.listen(&mut idle, turns * args.k)?;
    Ok(Report {
        machine,
        server: session.info.clone(),
        healthy: args.healthy,
        stalled: args.stalled,
        payload: args.payload,
        k: args.k,
        events: turns * args.k,
        latency_without: without.latencies.quantiles(),
        latency_with: with.latencies.quantiles(),
        resident_growth: with.resident_max.zip(before).map(|(most, before)| most.saturating_sub(before)),
        counts: run.checker.counts,
        fates: aftermath.fates(),
        reason: aftermath.reason,
    })
}

/// The healthy part.
struct Run {
    swarm: Swarm,
    publisher: Publisher,
    checker: Checker,
    k: u64,
}

struct Phase {
    latencies: Latencies,
    resident_max: Option<u64>,
}

impl Run {
    fn turns(&mut self, turns: u64, session: &Session) -> Result<Phase> {
        let mut phase = Phase { latencies: Latencies::new()?, resident_max: None };
        let bar = progress::bar(turns, "publishing");
        for _ in 0..turns {
            self.turn(&mut phase.latencies)?;
            phase.resident_max = phase.resident_max.max(session.resident()?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(phase)
    }

    fn turn(&mut self, latencies: &mut Latencies) -> Result<()> {
        let body = self.checker.begin(self.k);
        let begin = Instant::now();
        self.publisher.send(body)?;
        while !self.checker.is_complete() {
            let mut timed = Timed { checker: &mut self.checker, latencies, begin };
            self.swarm.poll(Duration::from_millis(50), &mut timed)?;
            if begin.elapsed() > PATIENCE {
                self.checker.give_up();
            }
        }
        self.publisher.answered(PATIENCE)?.context("the server does not answer a POST")?;
        Ok(())
    }

    /// Lets the stalled clients read until nothing comes any more.
    fn listen(&mut self, idle: &mut Swarm, events: u64) -> Result<Aftermath> {
        let mut aftermath = Aftermath::new(idle.len(), events);
        let mut heard = Instant::now();
        let begin = heard;
        while heard.elapsed() < SILENCE && begin.elapsed() < PATIENCE * 3 {
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

/// Records when each delivery came.
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

#[derive(Debug, Clone, Default)]
struct Stalled {
    events: u64,
    told: bool,
    closed: Option<bool>,
}

/// What the stalled clients find when they read again.
#[derive(Debug)]
struct Aftermath {
    clients: Vec<Stalled>,
    published: u64,
    reason: Option<String>,
}

impl Aftermath {
    fn new(clients: usize, published: u64) -> Self {
        Self { clients: vec![Stalled::default(); clients], published, reason: None }
    }

    fn fates(&self) -> Fates {
        let mut fates = Fates::default();
        for client in &self.clients {
            let fate = match client.closed {
                _ if client.events >= self.published => &mut fates.complete,
                Some(true) => &mut fates.closed,
                _ if client.told => &mut fates.told,
                Some(false) => &mut fates.cut,
                None => &mut fates.silent,
            };
            *fate += 1;
        }
        fates
    }
}

impl Sink for Aftermath {
    fn text(&mut self, client: usize, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload);
        let Ok(draft) = Draft::read(&text) else { return };
        if draft.kind == KIND {
            self.clients[client].events += 1;
        } else if draft.kind == "hydrant" && draft.action == "gap" {
            self.clients[client].told = true;
        }
    }

    fn closed(&mut self, client: usize, reason: &str) {
        self.clients[client].closed = Some(reason.starts_with("closed: 1"));
        self.reason.get_or_insert_with(|| reason.to_owned());
    }
}

impl Outcome for Report {
    fn is_clean(&self) -> bool {
        self.counts.is_clean() && self.fates.silent + self.fates.cut == 0
    }

    fn write_table(&self, out: &mut dyn Write) -> Result<()> {
        self.machine.write_line(out)?;
        let Self { healthy, stalled, payload, k, events, fates, .. } = self;
        writeln!(
            out,
            "{healthy} healthy and {stalled} stalled clients, {events} events of {payload} bytes, K = {k}\n"
        )?;
        writeln!(out, "healthy, nobody stalled  {}", self.latency_without)?;
        writeln!(out, "healthy, others stalled  {}", self.latency_with)?;
        let growth = self.resident_growth.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes} bytes"));
        writeln!(out, "memory growth            {growth}")?;
        let Fates { complete, told, closed, cut, silent } = fates;
        writeln!(
            out,
            "stalled: {complete} got all, {told} told of a gap, {closed} closed with a code, {cut} cut off, {silent} silent losses"
        )?;
        if let Some(reason) = &self.reason {
            writeln!(out, "first one's reason: {reason}")?;
        }
        if !self.counts.is_clean() {
            writeln!(out, "faults of the healthy: {}", serde_json::to_string(&self.counts)?)?;
        }
        Ok(())
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates_are_told_apart() {
        let mut aftermath = Aftermath::new(5, 1);
        aftermath.text(0, br#"{"Type":"bench","Action":"update"}"#);
        aftermath.text(1, br#"{"Type":"hydrant","Action":"gap","Key":"queue"}"#);
        aftermath.closed(2, "closed: 1013 slow consumer: 5 events, 9 bytes queued");
        aftermath.closed(3, "the server ended the connection");
        let expected = Fates { complete: 1, told: 1, closed: 1, cut: 1, silent: 1 };
        assert_eq!(aftermath.fates(), expected);
        assert!(aftermath.reason.is_some_and(|reason| reason.contains("1013")));
    }
}
