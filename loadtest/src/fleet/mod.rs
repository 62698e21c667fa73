//! A simulated fleet's events at a given rate, to clients as a real fleet has them.
//!
//! Runners watch their own machine and its jobs, portals watch everything, scripts watch by filters. Every client is
//! checked for getting exactly what it should, once, in order.
//!
//! Open loop: event `n` is due at `n` by the rate, whether the server has taken the ones before or not, and latency
//! counts from when it was due. A server (or a reader) that stops for a second therefore shows a second, and not the one
//! slow event that a closed loop would show (*coordinated omission*). What is due is published in batches, one POST at
//! a time; how many frames a client gets by read is reported beside the figures, since it is what K is here.

mod expect;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hydrant::ingest::demo::Fleet;
use serde::Serialize;
use serde_json::Value;

use self::expect::{Expectations, Interest};
use crate::args::FleetArgs;
use crate::check::Counts;
use crate::client::{Sink, Swarm};
use crate::cpu;
use crate::floor::per_delivery;
use crate::latency::{Latencies, Quantiles};
use crate::progress;
use crate::publish::Publisher;
use crate::report::{Machine, Outcome};
use crate::session::Session;

/// Events in one POST at most.
const BATCH_MAX: u64 = 256;

/// How long registrations, a POST, or the last deliveries may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest wait for a socket; shorter than an event's latency matters at.
const TICK: Duration = Duration::from_millis(2);

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    machine: Machine,
    server: Value,
    settings: Value,
    clients: usize,
    events: u64,
    /// Wall-clock time from the first event due to the last delivery.
    seconds: f64,
    /// From when an event was due to each of its deliveries.
    latency: Quantiles,
    /// Frames by read of a connection: about what K was.
    frames_by_read: f64,
    /// Nothing if the server's process is not known.
    server_micros_per_delivery: Option<f64>,
    server_core_share: Option<f64>,
    resident: Option<u64>,
    /// How often the server answered 429.
    busy: u64,
    counts: Counts,
    trouble: Option<String>,
}

/// Runs `fleet`.
///
/// # Errors
/// The server cannot be reached or refuses.
pub fn run(args: &FleetArgs) -> Result<Report> {
    let cores = args.place.checked()?;
    let machine = Machine::here();
    ensure!(args.runners <= args.machines, "--runners is at most --machines");
    cpu::raise_file_limit(u64::from(args.runners) + u64::from(args.portals) + u64::from(args.scripts) + 128)?;
    let session = Session::open(&args.target, cores)?;
    cpu::pin(cores.client)?;
    measure(args, &session, machine).map_err(|error| session.explain(error))
}

fn measure(args: &FleetArgs, session: &Session, machine: Machine) -> Result<Report> {
    let mut fleet = Fleet::new(args.seed, args.machines);
    while !fleet.is_set_up() {
        fleet.step();
    }
    let interests = interests(args, &fleet);
    ensure!(!interests.is_empty(), "there are no clients: see --runners, --portals and --scripts");
    let swarm = registered(session, &interests)?;
    let publisher = Publisher::start(&session.endpoint, args.place.checked()?.client)?;
    let expectations = Expectations::new(&interests, Latencies::new()?);
    let mut run = Run { fleet, swarm, publisher, expectations, rate: args.rate, busy: 0, published: 0 };
    let total = u64::from(args.rate) * u64::from(args.seconds);
    let (begin, cpu, visits) = (Instant::now(), session.cpu()?, run.swarm.visits);
    run.publish_all(total, begin)?;
    run.drain()?;
    let elapsed = begin.elapsed();
    let counts = run.expectations.counts;
    let used = session.cpu()?.zip(cpu).map(|(after, before)| after.saturating_sub(before));
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let frames_by_read = counts.received as f64 / (run.swarm.visits - visits).max(1) as f64;
    Ok(Report {
        machine,
        server: session.info.clone(),
        settings: serde_json::json!({
            "machines": args.machines, "runners": args.runners, "portals": args.portals, "scripts": args.scripts,
            "rate": args.rate, "seconds": args.seconds, "seed": args.seed, "place": args.place,
        }),
        clients: interests.len(),
        events: run.published,
        seconds: elapsed.as_secs_f64(),
        latency: run.expectations.latencies.quantiles(),
        frames_by_read,
        server_micros_per_delivery: used.map(|used| per_delivery(used, counts.received)),
        server_core_share: used.map(|used| used.as_secs_f64() / elapsed.as_secs_f64()),
        resident: session.resident()?,
        busy: run.busy,
        counts,
        trouble: run.expectations.trouble,
    })
}

fn interests(args: &FleetArgs, fleet: &Fleet) -> Vec<Interest> {
    let runners = fleet.machine_keys().take(args.runners as usize).map(Interest::Machine);
    let portals = (0..args.portals).map(|_| Interest::All);
    let filters = [Interest::StageChanged, Interest::JobFailed, Interest::Stopped];
    let scripts = filters.into_iter().cycle().take(args.scripts as usize);
    runners.chain(portals).chain(scripts).collect()
}

fn registered(session: &Session, interests: &[Interest]) -> Result<Swarm> {
    let bar = progress::bar(interests.len() as u64, "connecting");
    let mut swarm = Swarm::connect(&session.endpoint, interests.len(), &mut || bar.inc(1))?;
    bar.finish_and_clear();
    // Those with fewer registrations repeat their last one: it is answered again and changes nothing.
    let most = interests.iter().map(|interest| interest.specs().len()).max().unwrap_or(0);
    for at in 0..most {
        swarm.register(PATIENCE, |client| {
            let mut specs = interests[client].specs();
            specs.swap_remove(at.min(specs.len() - 1))
        })?;
    }
    Ok(swarm)
}

/// How long to wait for sockets when the next event is due in `pause`: epoll rounds up to milliseconds, so less than
/// one is not waited at all, lest events are published late.
fn whole_millis(pause: Duration) -> Duration {
    Duration::from_millis(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)).min(TICK)
}

struct Run {
    fleet: Fleet,
    swarm: Swarm,
    publisher: Publisher,
    expectations: Expectations,
    rate: u32,
    busy: u64,
    published: u64,
}

impl Run {
    fn publish_all(&mut self, total: u64, begin: Instant) -> Result<()> {
        let bar = progress::bar(total, "publishing");
        let mut waiting_since = None;
        while self.published < total || waiting_since.is_some() {
            if let Some(since) = waiting_since
                && self.is_answered(since)?
            {
                waiting_since = None;
            }
            if waiting_since.is_none() && self.publish_due(total, begin)? {
                waiting_since = Some(Instant::now());
                bar.set_position(self.published);
            }
            let pause = self.due(begin, self.published).saturating_duration_since(Instant::now());
            self.swarm.poll(whole_millis(pause), &mut self.expectations)?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn is_answered(&mut self, since: Instant) -> Result<bool> {
        let answer = self.publisher.answered(Duration::ZERO)?;
        ensure!(answer.is_some() || since.elapsed() < PATIENCE, "the server does not answer a POST");
        self.busy += answer.map_or(0, |published| u64::from(published.busy));
        Ok(answer.is_some())
    }

    /// When event `number` is due.
    fn due(&self, begin: Instant, number: u64) -> Instant {
        begin + Duration::from_secs(number) / self.rate
    }

    /// Hands over what is due, if anything is.
    fn publish_due(&mut self, total: u64, begin: Instant) -> Result<bool> {
        let now = Instant::now();
        let mut body = Vec::new();
        for _ in 0..BATCH_MAX {
            let due = self.due(begin, self.published);
            if self.published == total || due > now {
                break;
            }
            let event = self.fleet.step();
            event.write_json(&mut body);
            body.push(b'\n');
            self.expectations.publish(event, due);
            self.published += 1;
        }
        if body.is_empty() {
            return Ok(false);
        }
        self.publisher.send(body).context("cannot publish")?;
        Ok(true)
    }

    /// Waits for the last deliveries.
    fn drain(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.expectations.outstanding > 0 && Instant::now() < deadline {
            self.swarm.poll(TICK, &mut self.expectations)?;
        }
        self.expectations.give_up();
        Ok(())
    }
}

impl Sink for Expectations {
    fn text(&mut self, client: usize, payload: &[u8]) {
        self.arrived(client, payload, Instant::now());
    }

    fn closed(&mut self, client: usize, reason: &str) {
        self.lost(client, reason);
    }
}

impl Outcome for Report {
    fn is_clean(&self) -> bool {
        self.counts.is_clean()
    }

    fn write_table(&self, out: &mut dyn Write) -> Result<()> {
        self.machine.write_line(out)?;
        let Self { clients, events, seconds, latency, counts, .. } = self;
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let (events_rate, rate) = (*events as f64 / seconds, counts.received as f64 / seconds);
        writeln!(out, "{clients} clients, {events} events in {seconds:.1} s ({events_rate:.0} a second), open loop\n")?;
        writeln!(
            out,
            "deliveries    {} ({rate:.0} a second), {:.1} frames by read",
            counts.received, self.frames_by_read
        )?;
        writeln!(out, "latency       {latency}, from when an event was due")?;
        if let (Some(micros), Some(share)) = (self.server_micros_per_delivery, self.server_core_share) {
            let resident = self.resident.unwrap_or_default();
            let percent = share * 100.0;
            writeln!(
                out,
                "server        {micros:.2} us CPU by delivery, {percent:.0}% of a core, {resident} bytes resident"
            )?;
        }
        writeln!(out, "faults        {}", serde_json::to_string(counts)?)?;
        if let Some(trouble) = &self.trouble {
            writeln!(out, "first connection lost: {trouble}")?;
        }
        Ok(())
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }
}
