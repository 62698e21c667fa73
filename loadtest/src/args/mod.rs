//! The command line.

mod examples;
mod hostile;
mod peers;
mod run;
mod target;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

pub use hostile::{Attack, HostileArgs};
pub use peers::{Peer, PeerArgs};
pub use run::{Output, RunArgs, Work};
pub use target::Target;

/// Fleet simulator and socket-level benchmark of hydrant, and of what else speaks its protocol.
#[derive(Debug, Parser)]
#[command(name = "hydrant-loadtest", version, arg_required_else_help = true, args_conflicts_with_subcommands = true, after_help = examples::PROGRAM)]
pub struct Cli {
    /// Compare two results kept by --json: the same as `report A.json B.json`.
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"])]
    pub compare: Option<Vec<PathBuf>>,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What the kernel charges: ready-made frames over loopback, one writev of K frames a connection and turn.
    #[command(after_help = examples::FLOOR)]
    Floor(FloorArgs),
    /// Closed loop against a server: publish K events, wait until every client has them, again; the floor in each
    /// round.
    #[command(after_help = examples::BURST)]
    Burst(BurstArgs),
    /// The same work for hydrant and for the peers that are installed, taking turns.
    #[command(after_help = examples::COMPARE)]
    Compare(CompareArgs),
    /// Open loop: a simulated fleet's events at a given rate to runners, portals and scripts; latency by delivery.
    #[command(after_help = examples::FLEET)]
    Fleet(FleetArgs),
    /// Some clients stop reading: what happens to the others, to the memory, and what the stalled ones are told.
    #[command(after_help = examples::STALL)]
    Stall(StallArgs),
    /// Memory by idle connection.
    #[command(after_help = examples::IDLE)]
    Idle(IdleArgs),
    /// Everybody loses the connection at once and comes back.
    #[command(after_help = examples::STORM)]
    Storm(StormArgs),
    /// Hostile clients of many kinds, one after the other: what the others notice of each.
    #[command(after_help = examples::HOSTILE)]
    Hostile(Box<HostileArgs>),
    /// Compare two results kept by --json: ratios, and what has become worse.
    #[command(after_help = examples::REPORT)]
    Report(ReportArgs),
}

impl Command {
    /// What is kept.
    pub fn output(&self) -> &Output {
        match self {
            Self::Floor(args) => &args.work.run.output,
            Self::Burst(args) => &args.work.run.output,
            Self::Compare(args) => &args.run.output,
            Self::Fleet(args) => &args.run.output,
            Self::Stall(args) => &args.run.output,
            Self::Idle(args) => &args.run.output,
            Self::Storm(args) => &args.run.output,
            Self::Hostile(args) => &args.run.output,
            Self::Report(args) => &args.output,
        }
    }
}

/// `floor`.
#[derive(Debug, Clone, Args)]
pub struct FloorArgs {
    /// The work.
    #[command(flatten)]
    pub work: Work,
    /// Frames are compressed beforehand, as a server that compresses once would send them.
    #[arg(long)]
    pub deflate: bool,
    /// The K frames of a turn lie in one piece of memory, and go out by `send` instead of `writev`.
    #[arg(long)]
    pub joined: bool,
}

/// `burst`.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
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
    /// Clients negotiate permessage-deflate; the floor writes frames that were compressed once.
    #[arg(long)]
    pub deflate: bool,
    /// Measure the same over TLS too, on a second server, in the same rounds.
    #[arg(long, requires = "serve", conflicts_with = "serve_tls")]
    pub compare_tls: bool,
    /// Measure the same with so many connections too, on a second server, in the same rounds.
    #[arg(long, value_name = "N", requires = "serve", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub compare_connections: Option<u32>,
    /// One event by POST over a kept-alive connection, one after the other, instead of K in one.
    #[arg(long)]
    pub single_post: bool,
    /// Seconds that a turn may take; what has not come by then is lost.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub turn_timeout: u64,
    /// Measure the server only.
    #[arg(long)]
    pub no_floor: bool,
}

/// The kinds of work of `compare`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// 1 KB with K = 1, 16 and 64, 12 KB with K = 16.
    Plain,
    /// 12 KB JSON with permessage-deflate, K = 1 and 16.
    Deflate,
    /// 1 KB with K = 16 over TLS.
    Tls,
    /// One connection by event, batches of 64.
    Selective,
    /// Readers that stop.
    Stall,
    /// Memory by connection, plain and TLS.
    Idle,
}

/// `compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// hydrant.
    #[arg(long, value_name = "PROGRAM")]
    pub serve: PathBuf,
    /// Another argument for hydrant; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub serve_arg: Vec<String>,
    /// The others.
    #[command(flatten)]
    pub peers: PeerArgs,
    /// Which work; several with commas.
    #[arg(
        long,
        value_name = "WORK",
        value_enum,
        value_delimiter = ',',
        default_value = "plain,deflate,tls,selective,stall,idle"
    )]
    pub only: Vec<Kind>,
    /// Connections of the closed loops.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub connections: u32,
    /// Connections of the second `selective` run of hydrant; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub many: u32,
    /// How often everything is measured, all systems taking turns.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Seconds by round, system and work.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub seconds: f64,
    /// Seconds that a turn of a peer may take. One that needs longer is left out of that work, and the report says so.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub peer_patience: u32,
    /// Rounds of `stall`.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub stall_rounds: u32,
    /// Millions of bytes that `stall` publishes in each half.
    #[arg(long, value_name = "MB", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub megabytes: u32,
    /// Connections of `idle`.
    #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub idle: u32,
    /// Seconds of rest of `idle`.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub rest: u32,
    /// Where it runs and what is kept.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `fleet`.
#[derive(Debug, Clone, Args)]
pub struct FleetArgs {
    /// Machines in the simulated fleet.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub machines: u32,
    /// Clients that watch one machine and its jobs each; at most one a machine.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub runners: u32,
    /// Clients that watch everything.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub portals: u32,
    /// Clients that watch by a filter. 0 for servers without filters.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub scripts: u32,
    /// Events a second; several with commas.
    #[arg(long, value_name = "EVENTS", value_delimiter = ',', default_value = "200", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Vec<u32>,
    /// Measure what the server can take at most first.
    #[arg(long)]
    pub capacity: bool,
    /// Rates in percent of what the server can take at most, instead of --rate; several with commas.
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub percent: Vec<u32>,
    /// How long each rate is kept, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// How often every rate is measured, taking turns.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Measure the floor at each rate too: the same events at the same times to the same clients, written by one
    /// thread.
    #[arg(long)]
    pub floor: bool,
    /// Seed of the fleet: the same seed gives the same events.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Where it runs and what is kept.
    #[command(flatten)]
    pub run: RunArgs,
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `stall`.
#[derive(Debug, Clone, Args)]
pub struct StallArgs {
    /// How much work.
    #[command(flatten)]
    pub size: StallSize,
    /// How often; a server of ours is started afresh for each.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Where it runs and what is kept.
    #[command(flatten)]
    pub run: RunArgs,
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// How much work a `stall` is.
#[derive(Debug, Clone, Args, Serialize)]
pub struct StallSize {
    /// Clients that read all the time.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub healthy: u32,
    /// Clients that stop reading once they have registered.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub stalled: u32,
    /// Millions of bytes of events to publish, without and then with the stalled clients.
    #[arg(long, value_name = "MB", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub megabytes: u32,
    /// Bytes of an event as delivered.
    #[arg(long, value_name = "BYTES", default_value_t = 1_024)]
    pub payload: usize,
    /// Events by turn.
    #[arg(long = "k", value_name = "K", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    pub k: u64,
}

/// `idle`.
#[derive(Debug, Clone, Args)]
pub struct IdleArgs {
    /// Connections, with three registrations each.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Seconds of rest after one event to all, before memory is measured.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub rest: u32,
    /// Where it runs and what is kept.
    #[command(flatten)]
    pub run: RunArgs,
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// How the connections of a storm are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// We cut them all; the server stays.
    Cut,
    /// The server is asked to end (SIGTERM) and started again with the same data.
    Restart,
    /// The server is killed and started again with the same data.
    Kill,
}

/// `storm`.
#[derive(Debug, Clone, Args)]
pub struct StormArgs {
    /// Connections, with three registrations each.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// How the connections are lost. `restart` and `kill` need --serve.
    #[arg(long, value_name = "HOW", value_enum, default_value = "cut")]
    pub loss: Loss,
    /// How often.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Handshakes under way at a time at most; 0: all at once.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub at_once: u32,
    /// Seconds until those who are not back are given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub patience: u32,
    /// Where it runs and what is kept.
    #[command(flatten)]
    pub run: RunArgs,
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The earlier result.
    pub before: PathBuf,
    /// The later result.
    pub after: PathBuf,
    /// By how many percent a figure has to be worse to count as a regression; it must also be outside the spread of
    /// the earlier one.
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0)]
    pub tolerance: f64,
    /// What is kept.
    #[command(flatten)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn burst(more: &[&str]) -> Result<BurstArgs, clap::Error> {
        let cli = Cli::try_parse_from(["hydrant-loadtest", "burst"].iter().chain(more))?;
        match cli.command {
            Some(Command::Burst(args)) => Ok(args),
            other => unreachable!("burst was asked for, not {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn comparing_is_a_flag_too() {
        let cli = Cli::try_parse_from(["hydrant-loadtest", "--compare", "a.json", "b.json"]).unwrap();
        assert_eq!(cli.compare.unwrap(), [PathBuf::from("a.json"), PathBuf::from("b.json")]);
        assert!(cli.command.is_none());
        assert!(Cli::try_parse_from(["hydrant-loadtest", "--compare", "a.json"]).is_err());
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
    fn a_missing_server_is_told_with_both_ways_to_name_one() {
        let error = burst(&[]).unwrap_err().to_string();
        assert!(error.contains("--endpoint <URL>") && error.contains("--serve <PROGRAM>"), "{error}");
    }

    #[test]
    fn results_that_cannot_be_kept_are_told_before_the_work() {
        let output = |file: &str| Output { json: None, html: Some(PathBuf::from(file)) }.checked();
        assert!(output("page.html").is_ok() && output("/tmp/page.html").is_ok());
        for bad in ["/no/such/place/page.html", "/tmp"] {
            assert!(output(bad).unwrap_err().to_string().contains(&format!("--html {bad}")), "{bad}");
        }
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_done() {
        for bad in [["--k", "0"], ["--k", "5000"], ["--seconds", "0"], ["--payload", "99999999"], ["--turns", "0"]] {
            let args = burst(&["--serve", "x", "--no-pin", bad[0], bad[1]]).unwrap();
            assert!(args.work.checked().is_err(), "{bad:?}");
        }
    }
}
