//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::cpu::{self, Cores};
use crate::endpoint::{Credentials, Endpoint, Trust};
use crate::floor::{Bounds, K_MAX};
use crate::server::Launch;

/// Fleet simulator and socket-level benchmark of hydrant, and of what else speaks its protocol.
#[derive(Debug, Parser)]
#[command(name = "hydrant-loadtest", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What the kernel charges: ready-made frames over loopback, one writev of K frames a connection and turn.
    Floor(FloorArgs),
    /// Closed loop against a server: publish K events, wait until every client has them, again; the floor in each round.
    Burst(BurstArgs),
    /// Open loop: a simulated fleet's events at a given rate to runners, portals and scripts; latency by delivery.
    Fleet(FleetArgs),
    /// Some clients stop reading: what happens to the others, to the memory, and what the stalled ones are told.
    Stall(StallArgs),
    /// Memory by idle connection.
    Idle(IdleArgs),
}

/// How much work, and for how long.
#[derive(Debug, Clone, Args)]
pub struct Work {
    /// Connections.
    #[arg(short = 'n', long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Bytes of an event as delivered; several with commas.
    #[arg(long, value_delimiter = ',', default_value = "1024")]
    pub payload: Vec<usize>,
    /// Events by turn; several with commas.
    #[arg(long = "k", value_name = "K", value_delimiter = ',', default_value = "1,16,64")]
    pub k: Vec<u64>,
    /// How often everything is measured; the rounds of all K and payloads are interleaved.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Seconds by round, K and payload, for the server and for the floor each.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Turns at most by round, K and payload.
    #[arg(long, default_value_t = 1_000_000)]
    pub turns: u64,
    /// Every event goes to one connection only, by its Key, in turn.
    #[arg(long)]
    pub selective: bool,
    /// Where it runs and what is kept.
    #[command(flatten)]
    pub place: Place,
}

/// Where a run's threads are, and what is kept of it.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Place {
    /// Core of the server that --serve starts, and of the floor's writer.
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,
    /// Core of everything that publishes and reads.
    #[arg(long, default_value_t = 1)]
    pub client_core: usize,
    /// Pin nothing to a core.
    #[arg(long)]
    pub no_pin: bool,
    /// Write the results as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Place {
    /// The cores, if we may use them.
    ///
    /// # Errors
    /// One of them is not ours to use.
    pub fn checked(&self) -> Result<Cores> {
        if self.no_pin {
            return Ok(Cores::ANY);
        }
        cpu::checked(Cores { server: Some(self.server_core), client: Some(self.client_core) })
    }
}

impl Work {
    /// The cores, if we may use them.
    ///
    /// # Errors
    /// A value makes no sense on this machine.
    pub fn checked(&self) -> Result<Cores> {
        ensure!(self.seconds > 0.0 && self.seconds <= 3_600.0, "--seconds is more than 0 and at most 3600");
        ensure!(!self.k.is_empty() && self.k.iter().all(|k| (1..=K_MAX).contains(k)), "--k is from 1 to {K_MAX}");
        let sizes = 1..=16 << 20;
        ensure!(self.payload.iter().all(|size| sizes.contains(size)), "--payload is at most 16 MiB");
        ensure!(self.turns > 0, "--turns is at least 1");
        self.place.checked()
    }

    /// When a round is over.
    pub fn bounds(&self) -> Bounds {
        Bounds { time: Duration::from_secs_f64(self.seconds), turns: self.turns }
    }

    /// Connections, as a size.
    pub fn clients(&self) -> usize {
        self.connections as usize
    }
}

/// `floor`.
#[derive(Debug, Clone, Args)]
pub struct FloorArgs {
    /// The work.
    #[command(flatten)]
    pub work: Work,
}

/// `burst`.
#[derive(Debug, Clone, Args)]
pub struct BurstArgs {
    /// The work.
    #[command(flatten)]
    pub work: Work,
    /// The server.
    #[command(flatten)]
    pub target: Target,
    /// What every client registers, instead of `bench.*.*` (or its own Key with --selective). It must match all that
    /// the client is to get.
    #[arg(long, value_name = "TYPE.ACTION.KEY[.FILTER]", conflicts_with = "selective")]
    pub spec: Option<String>,
    /// Seconds that a turn may take; what has not come by then is lost.
    #[arg(long, default_value_t = 20)]
    pub turn_timeout: u64,
    /// Measure the server only.
    #[arg(long)]
    pub no_floor: bool,
}

/// `fleet`.
#[derive(Debug, Clone, Args)]
pub struct FleetArgs {
    /// Machines in the simulated fleet.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub machines: u32,
    /// Clients that watch one machine and its jobs each; at most one a machine.
    #[arg(long, default_value_t = 200)]
    pub runners: u32,
    /// Clients that watch everything.
    #[arg(long, default_value_t = 5)]
    pub portals: u32,
    /// Clients that watch by a filter. 0 for servers without filters.
    #[arg(long, default_value_t = 10)]
    pub scripts: u32,
    /// Events a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// How long, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// Seed of the fleet: the same seed gives the same events.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where it runs and what is kept.
    #[command(flatten)]
    pub place: Place,
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `stall`.
#[derive(Debug, Clone, Args)]
pub struct StallArgs {
    /// Clients that read all the time.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub healthy: u32,
    /// Clients that stop reading once they have registered.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub stalled: u32,
    /// Millions of bytes of events to publish, without and then with the stalled clients.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub megabytes: u32,
    /// Bytes of an event as delivered.
    #[arg(long, default_value_t = 1_024)]
    pub payload: usize,
    /// Events by turn.
    #[arg(long = "k", value_name = "K", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    pub k: u64,
    /// Where it runs and what is kept.
    #[command(flatten)]
    pub place: Place,
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `idle`.
#[derive(Debug, Clone, Args)]
pub struct IdleArgs {
    /// Connections, with three registrations each.
    #[arg(short = 'n', long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Seconds of rest after one event to all, before memory is measured.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub rest: u32,
    /// Where it runs and what is kept.
    #[command(flatten)]
    pub place: Place,
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// Which server, and how to get in.
#[derive(Clone, Args)]
#[group(skip)]
pub struct Target {
    /// URL of the server: http, https, ws or wss, host and port. Not taken from `RS_ENDPOINT`, lest somebody's
    /// production server is loaded by accident.
    #[arg(short = 'E', long, required_unless_present = "serve", conflicts_with = "serve")]
    pub endpoint: Option<String>,
    /// Start this hydrant on --server-core with a new data directory, and end it afterwards.
    #[arg(long, value_name = "PROGRAM")]
    pub serve: Option<PathBuf>,
    /// Another argument for the server that --serve starts; may be repeated.
    #[arg(long, value_name = "ARG", requires = "serve", allow_hyphen_values = true)]
    pub serve_arg: Vec<String>,
    /// Let the server that --serve starts speak TLS.
    #[arg(long, requires = "serve")]
    pub serve_tls: bool,
    /// Process id of the server at --endpoint, for its CPU time; without it there is no CPU figure.
    #[arg(long, value_name = "PID", conflicts_with = "serve")]
    pub server_pid: Option<u32>,
    /// Believe any certificate.
    #[arg(short = 'k', long)]
    pub insecure: bool,
    /// Believe certificates signed by those in this PEM file.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// User and password.
    #[arg(
        long,
        env = "RS_KEY",
        hide_env_values = true,
        value_name = "USER:PASSWORD",
        default_value = "rocketskates:r0cketsk8ts"
    )]
    pub key: String,
    /// A token instead of them.
    #[arg(long, env = "RS_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("endpoint", &self.endpoint).field("serve", &self.serve).finish_non_exhaustive()
    }
}

impl Target {
    /// How to start the server, if it is ours to start.
    pub fn launch(&self, cores: Cores) -> Option<Launch> {
        let program = self.serve.clone()?;
        Some(Launch { program, tls: self.serve_tls, core: cores.server, arguments: self.serve_arg.clone() })
    }

    /// The endpoint at `url`.
    ///
    /// # Errors
    /// The URL or the credentials make no sense.
    pub fn endpoint_at(&self, url: &str) -> Result<Endpoint> {
        let trust = match &self.ca {
            _ if self.insecure || self.serve_tls => Trust::Anyone,
            Some(path) => Trust::Authorities(path),
            None => Trust::Nobody,
        };
        let credentials = if let Some(token) = &self.token {
            Credentials::Token(token.clone())
        } else {
            let (user, password) = self.user_and_password()?;
            Credentials::Password { user: user.to_owned(), password: password.to_owned() }
        };
        Endpoint::new(url, trust, credentials)
    }

    /// Whose events will say that he published them.
    pub fn user(&self) -> &str {
        self.key.split(':').next().unwrap_or_default()
    }

    fn user_and_password(&self) -> Result<(&str, &str)> {
        let parts = self.key.split_once(':');
        ensure!(parts.is_some(), "--key (RS_KEY) is USER:PASSWORD");
        Ok(parts.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn burst(more: &[&str]) -> Result<BurstArgs, clap::Error> {
        let cli = Cli::try_parse_from(["hydrant-loadtest", "burst"].iter().chain(more))?;
        match cli.command {
            Command::Burst(args) => Ok(args),
            other => unreachable!("burst was asked for, not {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_and_secrets() {
        let args = burst(&["--endpoint", "http://127.0.0.1:1", "--k", "1,2", "--key", "a:s3cret"]).unwrap();
        assert_eq!(args.work.k, [1, 2]);
        assert_eq!(args.target.user(), "a");
        assert!(!format!("{args:?}").contains("s3cret"));
    }

    #[test]
    fn a_server_is_needed_and_only_one() {
        assert!(burst(&[]).is_err());
        assert!(burst(&["--insecure"]).is_err());
        assert!(burst(&["--serve", "x"]).is_ok());
        assert!(burst(&["--serve", "x", "--endpoint", "http://127.0.0.1:1"]).is_err());
        assert!(burst(&["--serve", "x", "--server-pid", "1"]).is_err());
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_done() {
        for bad in [["--k", "0"], ["--k", "5000"], ["--seconds", "0"], ["--payload", "99999999"], ["--turns", "0"]] {
            let args = burst(&["--serve", "x", "--no-pin", bad[0], bad[1]]).unwrap();
            assert!(args.work.checked().is_err(), "{bad:?}");
        }
    }
}
