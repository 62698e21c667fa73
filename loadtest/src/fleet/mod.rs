//! A simulated fleet's events at given rates, sent to the kinds of clients that a real fleet has.
//!
//! Runners watch their own machine and its jobs, portals watch everything, scripts watch by filters. Every client is
//! checked to receive exactly what it should, once, in order.
//!
//! `pace` is the open loop, `expect` decides what must arrive, and `destination` is where events go: to the server, or
//! to the floor, which does the same work with nothing but `writev`. All rates take turns, and at each the floor
//! directly follows the server.

mod destination;
mod expect;
mod inside;
mod pace;
mod poster;
mod report;

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hydrant::demo::Fleet;

pub use self::pace::Sample;
pub use self::report::{Rate, Report};

use self::destination::{Destination, Writer};
use self::expect::Interest;
use self::pace::Bench;
use self::poster::Poster;
use crate::args::FleetArgs;
use crate::burst::OTHER_FILES;
use crate::client::Swarm;
use crate::cpu::{self, Cores};
use crate::floor::per_delivery;
use crate::progress;
use crate::report::Machine;
use crate::session::Session;

/// Time limit for registrations.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Number of machines in the fleet of [`Watchers`].
const MACHINES: u32 = 200;

/// Duration of the search for the highest rate, in seconds.
const CAPACITY_SECONDS: u32 = 5;

/// Runs `fleet`.
///
/// # Errors
/// Fails if the server cannot be reached or refuses.
pub fn run(args: &FleetArgs) -> Result<Report> {
    let cores = args.run.checked()?;
    let machine = Machine::here();
    let clients = u64::from(args.runners) + u64::from(args.portals) + u64::from(args.scripts);
    cpu::raise_file_limit(clients * 3 + OTHER_FILES)?;
    let session = Session::open(&args.target, cores)?;
    cpu::pin(cores.client)?;
    // Events should be published when they are due, not up to 50 us later.
    nix::sys::prctl::set_timerslack(1).context("cannot set exact timers")?;
    measure(args, cores, &session, machine).map_err(|error| session.explain(error))
}

fn measure(args: &FleetArgs, cores: Cores, session: &Session, machine: Machine) -> Result<Report> {
    let mut server = server(args, session)?;
    let mut floor = if args.floor { Some(floor(args, cores)?) } else { None };
    let capacity = if args.capacity || !args.percent.is_empty() {
        Some(with_server(session, || server.saturate(CAPACITY_SECONDS))?)
    } else {
        None
    };
    let rates = rates(args, capacity.as_ref())?;
    let mut found: Vec<Rate> = rates.iter().map(|&(rate, percent)| Rate::new(rate, percent)).collect();
    for _ in 0..args.rounds {
        for rate in &mut found {
            rate.server.push(with_server(session, || server.run(rate.rate, args.seconds, &mut || Ok(())))?);
            if let Some(floor) = &mut floor {
                rate.floor.push(with_writer(floor, rate.rate, args.seconds, &mut || server.stay())?);
            }
        }
    }
    Ok(Report {
        machine,
        server: session.info.clone(),
        settings: serde_json::json!({
            "machines": args.machines, "runners": args.runners, "portals": args.portals, "scripts": args.scripts,
            "rate": args.rate, "percent": args.percent, "seconds": args.seconds, "seed": args.seed, "run": args.run,
        }),
        clients: server.interests.len(),
        capacity,
        rates: found,
    })
}

/// Clients that all watch everything, and a fleet whose events they should receive.
#[derive(Debug)]
pub struct Watchers(Bench);

impl Watchers {
    /// Connects and registers `count` clients, and connects a publisher.
    ///
    /// # Errors
    /// Fails if the server refuses.
    pub fn connect(session: &Session, count: u32) -> Result<Self> {
        let mut fleet = Fleet::new(1, MACHINES);
        while !fleet.is_set_up() {
            fleet.step();
        }
        let interests: Vec<Interest> = (0..count).map(|_| Interest::All).collect();
        let swarm = registered(session, &interests)?;
        let destination = Destination::Server(Box::new(Poster::connect(&session.endpoint, &swarm)?));
        Ok(Self(Bench { fleet, interests, swarm, destination, lost: HashSet::new() }))
    }

    /// Publishes `rate` events per second for `seconds`, each for every client. `meanwhile` is called about once per
    /// second.
    ///
    /// # Errors
    /// Fails if the server does not accept the events, or if `meanwhile` fails.
    pub fn run(&mut self, rate: u32, seconds: u32, meanwhile: &mut dyn FnMut() -> Result<()>) -> Result<Sample> {
        self.0.run(rate, seconds, meanwhile)
    }
}

/// Returns the rates to measure, each with its percentage if it has one.
fn rates(args: &FleetArgs, capacity: Option<&Sample>) -> Result<Vec<(u32, Option<u32>)>> {
    let Some(capacity) = capacity.filter(|_| !args.percent.is_empty()) else {
        return Ok(args.rate.iter().map(|&rate| (rate, None)).collect());
    };
    if !capacity.counts.is_clean() {
        bail!("events were lost while searching for the greatest rate: {}", capacity.counts);
    }
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate")]
    let rate = |percent: u32| (capacity.events as f64 / capacity.seconds * f64::from(percent) / 100.0).max(1.0) as u32;
    Ok(args.percent.iter().map(|&percent| (rate(percent), Some(percent))).collect())
}

fn fleet(args: &FleetArgs) -> Fleet {
    let mut fleet = Fleet::new(args.seed, args.machines);
    while !fleet.is_set_up() {
        fleet.step();
    }
    fleet
}

fn server(args: &FleetArgs, session: &Session) -> Result<Bench> {
    let fleet = fleet(args);
    let interests = interests(args, &fleet);
    let swarm = registered(session, &interests)?;
    let destination = Destination::Server(Box::new(Poster::connect(&session.endpoint, &swarm)?));
    Ok(Bench { fleet, interests, swarm, destination, lost: HashSet::new() })
}

fn floor(args: &FleetArgs, cores: Cores) -> Result<Bench> {
    let fleet = fleet(args);
    let interests = interests(args, &fleet);
    let (writer, swarm) = Writer::start(interests.len(), cores.server)?;
    Ok(Bench { fleet, interests, swarm, destination: Destination::Floor(writer), lost: HashSet::new() })
}

/// Runs `work` and adds the CPU time and memory that the server used, and what it says about its latency.
fn with_server(session: &Session, work: impl FnOnce() -> Result<Sample>) -> Result<Sample> {
    let counted = session.metrics();
    let before = session.cpu()?;
    let mut sample = work()?;
    let used = session.cpu()?.zip(before).map(|(after, before)| after.saturating_sub(before));
    sample.micros_per_delivery = used.map(|used| per_delivery(used, sample.counts.received));
    sample.core_share = used.map(|used| used.as_secs_f64() / sample.seconds);
    sample.resident = session.resident()?;
    sample.inside_p99 = inside::p99(&counted, &session.metrics());
    Ok(sample)
}

fn with_writer(
    floor: &mut Bench,
    rate: u32,
    seconds: u32,
    meanwhile: &mut dyn FnMut() -> Result<()>,
) -> Result<Sample> {
    let cpu = |bench: &Bench| match &bench.destination {
        Destination::Floor(writer) => writer.cpu(),
        Destination::Server(_) => Duration::ZERO,
    };
    let before = cpu(floor);
    let mut sample = floor.run(rate, seconds, meanwhile)?;
    let used = cpu(floor).saturating_sub(before);
    sample.micros_per_delivery = Some(per_delivery(used, sample.counts.received));
    sample.core_share = Some(used.as_secs_f64() / sample.seconds);
    Ok(sample)
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
    // Clients with fewer registrations repeat their last one: it is answered again and changes nothing.
    let most = interests.iter().map(|interest| interest.specs().len()).max().unwrap_or(0);
    for at in 0..most {
        swarm.register(TIMEOUT, |client| {
            let mut specs = interests[client].specs();
            specs.swap_remove(at.min(specs.len() - 1))
        })?;
    }
    Ok(swarm)
}
