//! Measures what a hostile client can do to the other clients.
//!
//! Every attack runs against its own server (with `--serve`) with one shard, while healthy clients watch everything at
//! a fixed rate. The same events are published first without and then with the attack, in an open loop, and every
//! delivery to a healthy client is checked. The attacker has the least possible rights: a user without any role, or no
//! credentials at all.
//!
//! `attack` defines the attacks, `commands`, `readers` and `requests` implement them, `worker` runs them on threads
//! beside the healthy clients, `starts` tells when they are ready, `socket` is one websocket of an attacker, `upstream`
//! an endpoint with long public files, and `report` gives the verdict.
//!
//! Contract: an attack is bounded in connections by `--strength`, and in time by `--seconds` and by how long its
//! attackers may take to connect. What is measured begins when all of them are ready; those that are not are reported.
//! A server that fails under an attack determines that attack's verdict, and does not end the run.

mod attack;
mod commands;
mod readers;
mod report;
mod requests;
mod socket;
mod starts;
mod upstream;
mod worker;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use hydrant::client::Credentials;

pub use report::{Measured, Promise, Report, Trial};
pub use upstream::Upstream;

use self::worker::{Attackers, Origin};
use crate::args::{Attack, HostileArgs, Target};
use crate::burst::OTHER_FILES;
use crate::cpu::{self, Cores};
use crate::endpoint::Endpoint;
use crate::fleet::Watchers;
use crate::report::Machine;
use crate::session::Session;

/// Seconds of warm-up, so that the cost of the first events is in neither half.
const WARM_UP: u32 = 1;

/// How long an attack runs before it is measured, once its attackers are ready.
const HEAD_START: Duration = Duration::from_millis(500);

/// Time limit for a request of an attacker. Short, so that an attack ends soon.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs `hostile`.
///
/// # Errors
/// Fails if a server cannot be started or reached, or refuses the healthy clients.
pub fn run(args: &HostileArgs) -> Result<Report> {
    let cores = args.run.checked()?;
    let machine = Machine::here();
    cpu::raise_file_limit(u64::from(args.healthy) + u64::from(args.strength) * 4 + OTHER_FILES)?;
    cpu::pin(cores.client)?;
    // Events should be published when they are due, not up to 50 us later.
    nix::sys::prctl::set_timerslack(1).context("cannot set exact timers")?;
    let attacks = if args.only.is_empty() { Attack::value_variants() } else { args.only.as_slice() };
    let (mut trials, mut server) = (Vec::new(), serde_json::Value::Null);
    for &attack in attacks {
        let Some(battlefield) = Battlefield::open(args, attack, cores)? else {
            trials.push(Trial::left_out(attack, "it needs --serve, or --files"));
            continue;
        };
        server = battlefield.session.info.clone();
        trials.push(battlefield.run(args, attack, cores).unwrap_or_else(|error| Trial::failed(attack, &error)));
    }
    let settings = serde_json::json!({
        "healthy": args.healthy, "rate": args.rate, "seconds": args.seconds, "strength": args.strength, "run": args.run,
    });
    Ok(Report { machine, server, settings, promise: Promise::default(), enforce: args.enforce, trials })
}

/// A server, and the attacker's access to it. The server is dropped before the endpoint behind it.
struct Battlefield {
    session: Session,
    guest: Endpoint,
    _upstream: Option<Upstream>,
}

impl Battlefield {
    /// Nothing if the attack needs an endpoint behind the server, and there is none.
    fn open(args: &HostileArgs, attack: Attack, cores: Cores) -> Result<Option<Self>> {
        let needs = attack.needs();
        let is_ours = args.target.serve.is_some();
        if needs.upstream && !is_ours && !args.files {
            return Ok(None);
        }
        let upstream = if needs.upstream && is_ours { Some(Upstream::start()?) } else { None };
        let mut target = args.target.with_tls(args.target.serve_tls || (is_ours && needs.tls));
        if is_ours {
            target.serve_arg.extend(["--shards".to_owned(), "1".to_owned()]);
            target.serve_arg.extend(upstream.iter().flat_map(Upstream::arguments));
        }
        let session = Session::open(&target, cores)?;
        let guest = guest(args, &target, &session).map_err(|error| session.explain(error))?;
        Ok(Some(Self { session, guest: guest.within(REQUEST_TIMEOUT), _upstream: upstream }))
    }

    fn run(self, args: &HostileArgs, attack: Attack, cores: Cores) -> Result<Trial> {
        let session = &self.session;
        attack.prepare();
        let mut watchers = Watchers::connect(session, args.healthy).map_err(|error| session.explain(error))?;
        watchers
            .run(args.rate, WARM_UP.min(args.seconds / 2), &mut || Ok(()))
            .map_err(|error| session.explain(error))?;
        let without = self.half(&mut watchers, args).map_err(|error| session.explain(error))?;
        let origin = Origin { guest: self.guest.clone(), core: cores.client, strength: args.strength as usize };
        let attackers = Attackers::start(attack.workers(origin.strength), attack.job(), &origin)?;
        let unready = attackers.wait();
        std::thread::sleep(HEAD_START);
        let with = self.half(&mut watchers, args);
        let outcomes = attackers.stop();
        // A process that has ended has no memory.
        let ended = session.resident().is_err();
        Ok(Trial::of(attack, without, with, outcomes, ended).with_unready(unready))
    }

    /// Measures the healthy clients for one half.
    fn half(&self, watchers: &mut Watchers, args: &HostileArgs) -> Result<Measured> {
        let (before, mut most) = (self.session.resident()?, None);
        let sample = watchers.run(args.rate, args.seconds, &mut || {
            most = most.max(self.session.resident()?);
            Ok(())
        })?;
        most = most.max(self.session.resident()?);
        let growth = most.zip(before).map(|(most, before)| most.saturating_sub(before));
        Ok(Measured { latency: sample.latency, counts: sample.counts, growth, first_error: sample.first_error })
    }
}

/// Returns the attacker's access to the server.
fn guest(args: &HostileArgs, target: &Target, session: &Session) -> Result<Endpoint> {
    let token = match &args.guest_token {
        Some(token) => token.0.clone(),
        None => session.guest_token().context("a user without a role is required (--guest-token with --endpoint)")?,
    };
    let guest = target.endpoint_with(&session.endpoint.url(), &Credentials::Token(token))?;
    guest.wait_until_known().context("the user without a role cannot log in")?;
    Ok(guest)
}
