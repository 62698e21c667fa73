//! The command line.

mod check;
mod examples;
mod hostile;
mod peers;
mod run;
mod target;
mod value;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

pub use hostile::{Attack, HostileArgs};
pub use peers::{Peer, PeerArgs};
pub use run::{Output, PostArgs, RunArgs, Work};
pub use target::Target;

/// Fleet simulator and socket-level benchmark of hydrant and of other servers that speak its protocol.
#[derive(Debug, Parser)]
#[command(
    name = "hydrant-loadtest",
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    after_help = examples::PROGRAM
)]
pub struct Cli {
    /// Compare two results written by --json: the same as `report A.json B.json`.
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"])]
    pub compare: Option<Vec<PathBuf>>,
    /// The work to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure the kernel's share: prebuilt frames over loopback, one writev of K frames per connection and turn.
    #[command(after_help = examples::FLOOR)]
    Floor(FloorArgs),
    /// Closed loop against a server: publish K events, wait until every client has received them, repeat; each round
    /// also measures the floor.
    #[command(after_help = examples::BURST)]
    Burst(BurstArgs),
    /// The same work for hydrant and for the installed peers, in turns.
    #[command(after_help = examples::COMPARE)]
    Compare(CompareArgs),
    /// Open loop: a simulated fleet's events at a given rate to runners, portals and scripts; measures latency per
    /// delivery.
    #[command(after_help = examples::FLEET)]
    Fleet(FleetArgs),
    /// Some clients stop reading: measures the effect on the others and on memory, and how the stalled are notified.
    #[command(after_help = examples::STALL)]
    Stall(StallArgs),
    /// Memory per idle connection.
    #[command(after_help = examples::IDLE)]
    Idle(IdleArgs),
    /// All clients lose their connection at once and reconnect.
    #[command(after_help = examples::STORM)]
    Storm(StormArgs),
    /// Hostile clients of many kinds, one after the other: measures the effect of each on the other clients.
    #[command(after_help = examples::HOSTILE)]
    Hostile(Box<HostileArgs>),
    /// Compare two results written by --json: ratios, and what has become worse.
    #[command(after_help = examples::REPORT)]
    Report(ReportArgs),
}

/// The arguments of `floor`.
#[derive(Debug, Clone, Args)]
pub struct FloorArgs {
    /// The amount of work.
    #[command(flatten)]
    pub work: Work,
    /// Compress frames beforehand, as a server that compresses once would send them.
    #[arg(long)]
    pub deflate: bool,
    /// Store the K frames of a turn contiguously, and write them by `send` instead of `writev`.
    #[arg(long)]
    pub joined: bool,
}

/// The arguments of `burst`.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct BurstArgs {
    /// The amount of work.
    #[command(flatten)]
    pub work: Work,
    /// The server.
    #[command(flatten)]
    pub target: Target,
    /// What every client registers, instead of `bench.*.*` (or its own Key with --selective). It must match everything
    /// that the client should receive.
    #[arg(long, value_name = "TYPE.ACTION.KEY[.FILTER]", conflicts_with = "selective")]
    pub spec: Option<String>,
    /// Clients negotiate permessage-deflate; the floor writes frames that were compressed once.
    #[arg(long)]
    pub deflate: bool,
    /// Measure the same over TLS too, on a second server, in the same rounds.
    #[arg(long, requires = "serve", conflicts_with = "serve_tls")]
    pub compare_tls: bool,
    /// Measure the same with this number of connections too, on a second server, in the same rounds.
    #[arg(long, value_name = "N", requires = "serve", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub compare_connections: Option<u32>,
    /// One event per POST over a kept-alive connection, one after the other, instead of K in one.
    #[arg(long)]
    pub single_post: bool,
    /// Connections that publish.
    #[command(flatten)]
    pub post: PostArgs,
    /// Time limit for a turn in seconds; what has not arrived by then is lost.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
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
    /// One connection per event, batches of 64.
    Selective,
    /// One connection per event, one event per POST or message, over several connections.
    Post,
    /// Readers that stop reading.
    Stall,
    /// Memory per connection, plain and TLS.
    Idle,
}

impl Kind {
    /// Returns the name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The arguments of `compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// The program of hydrant.
    #[arg(long, value_name = "PROGRAM")]
    pub serve: PathBuf,
    /// Additional argument for hydrant; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub serve_arg: Vec<String>,
    /// The peers.
    #[command(flatten)]
    pub peers: PeerArgs,
    /// The kinds of work, separated by commas.
    #[arg(
        long,
        value_name = "WORK",
        value_enum,
        value_delimiter = ',',
        default_value = "plain,deflate,tls,selective,post,stall,idle"
    )]
    pub only: Vec<Kind>,
    /// Connections of the closed loops.
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=20_000)
    )]
    pub connections: u32,
    /// Connections of hydrant's second `selective` run; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub many: u32,
    /// Number of times that everything is measured; all systems take turns.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Seconds per round, system and work.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = value::seconds)]
    pub seconds: f64,
    /// Time limit for a turn of a peer, in seconds. A slower peer is left out of that work, and the report says so.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub peer_patience: u32,
    /// Rounds of `stall`.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub stall_rounds: u32,
    /// Megabytes that `stall` publishes in each half.
    #[arg(long, value_name = "MB", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub megabytes: u32,
    /// Connections of `idle`.
    #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub idle: u32,
    /// Seconds of rest in `idle`.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub rest: u32,
    /// Cores and output files.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The arguments of `fleet`.
#[derive(Debug, Clone, Args)]
pub struct FleetArgs {
    /// Machines in the simulated fleet.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub machines: u32,
    /// Clients that each watch one machine and its jobs; at most one per machine.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub runners: u32,
    /// Clients that watch everything.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub portals: u32,
    /// Clients that watch by a filter. 0 for servers without filters.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub scripts: u32,
    /// Events per second, separated by commas.
    #[arg(
        long,
        value_name = "EVENTS",
        value_delimiter = ',',
        default_value = "200",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub rate: Vec<u32>,
    /// First measure the highest rate that the server sustains.
    #[arg(long)]
    pub capacity: bool,
    /// Rates in percent of the highest rate that the server sustains, instead of --rate; separated by commas.
    #[arg(
        long,
        value_name = "PERCENT",
        value_delimiter = ',',
        conflicts_with = "rate",
        value_parser = clap::value_parser!(u32).range(1..=200)
    )]
    pub percent: Vec<u32>,
    /// Seconds for each rate.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub seconds: u32,
    /// Number of times that every rate is measured, in turns.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Also measure the floor at each rate: the same events at the same times to the same clients, written by one
    /// thread.
    #[arg(long)]
    pub floor: bool,
    /// Seed of the fleet: the same seed produces the same events.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Cores and output files.
    #[command(flatten)]
    pub run: RunArgs,
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// The arguments of `stall`.
#[derive(Debug, Clone, Args)]
pub struct StallArgs {
    /// The amount of work.
    #[command(flatten)]
    pub size: StallSize,
    /// Number of rounds; a server that --serve starts is restarted for each.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Cores and output files.
    #[command(flatten)]
    pub run: RunArgs,
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// The amount of work of `stall`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct StallSize {
    /// Clients that read all the time.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub healthy: u32,
    /// Clients that stop reading once they have registered.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub stalled: u32,
    /// Megabytes of events to publish without the stalled clients, and then with them.
    #[arg(long, value_name = "MB", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub megabytes: u32,
    /// Size of an event as delivered, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1_024, value_parser = value::payload)]
    pub payload: usize,
    /// Events per turn.
    #[arg(long = "k", value_name = "K", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    pub k: u64,
}

/// The arguments of `idle`.
#[derive(Debug, Clone, Args)]
pub struct IdleArgs {
    /// Connections, with three registrations each.
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 5_000,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub connections: u32,
    /// Seconds of rest after one event to all clients, before memory is measured.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub rest: u32,
    /// Cores and output files.
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
    /// The clients close all connections; the server keeps running.
    Cut,
    /// The server is stopped (SIGTERM) and started again with the same data.
    Restart,
    /// The server is killed and started again with the same data.
    Kill,
}

/// The arguments of `storm`.
#[derive(Debug, Clone, Args)]
pub struct StormArgs {
    /// Connections, with three registrations each.
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 5_000,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub connections: u32,
    /// How the connections are lost. `restart` and `kill` need --serve.
    #[arg(long, value_name = "HOW", value_enum, default_value = "cut")]
    pub loss: Loss,
    /// Number of storms.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Maximum number of concurrent handshakes; 0: all at once.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub at_once: u32,
    /// Seconds after which clients that have not reconnected are given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub patience: u32,
    /// Cores and output files.
    #[command(flatten)]
    pub run: RunArgs,
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// The arguments of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The earlier result.
    pub before: PathBuf,
    /// The later result.
    pub after: PathBuf,
    /// By how many percent a figure must be worse to count as a regression; it must also be outside the spread of the
    /// earlier one.
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, value_parser = value::percent)]
    pub tolerance: f64,
    /// Output files.
    #[command(flatten)]
    pub output: Output,
}

#[cfg(test)]
mod documented_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::UsageError;
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
    fn a_file_is_checked_by_opening_it_and_left_as_it_was() {
        let home = tempfile::tempdir().unwrap();
        let (new, old) = (home.path().join("new.json"), home.path().join("old.json"));
        std::fs::write(&old, "before").unwrap();
        let output = |file: &PathBuf| Output { json: Some(file.clone()), html: None }.checked();
        output(&new).unwrap();
        output(&old).unwrap();
        assert!(!new.exists());
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "before");
        // Not even root may open it for writing.
        let refused = output(&PathBuf::from("/proc/sys/kernel/version")).unwrap_err();
        assert!(format!("{refused:#}").contains("--json /proc/sys/kernel/version: cannot be written"), "{refused:#}");
    }

    #[test]
    fn nonsense_is_refused_with_the_name_of_the_flag() {
        let refused = |work: &str, more: &[&str]| {
            let error = Cli::try_parse_from([&["hydrant-loadtest", work], more].concat()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        };
        for (flag, values) in [
            ("--k", &["0", "5000"][..]),
            ("--seconds", &["0", "nan", "1e20"]),
            ("--payload", &["0", "99999999"]),
            ("--turns", &["0"]),
            ("--turn-timeout", &["0", "18446744073709551615"]),
        ] {
            for value in values {
                let message = refused("burst", &["--serve", "x", flag, value]);
                assert!(message.contains(flag) && message.contains(value), "{message}");
            }
        }
        assert!(refused("compare", &["--serve", "x", "--seconds=-1"]).contains("--seconds"));
        assert!(refused("stall", &["--serve", "x", "--payload", "0"]).contains("--payload"));
        for value in ["nan", "inf", "=-1"] {
            assert!(refused("report", &["a", "b", "--tolerance", value]).contains("--tolerance"), "{value}");
        }
    }

    #[test]
    fn what_is_impossible_together_is_refused_before_anything_is_done() {
        for line in [
            &["fleet", "--serve", "x", "--runners", "5", "--machines", "4"][..],
            &["fleet", "--serve", "x", "--runners", "0", "--portals", "0", "--scripts", "0"],
            &["storm", "--endpoint", "http://127.0.0.1:1", "--loss", "kill"],
            &["burst", "--endpoint", "http://127.0.0.1:1", "--key", "nobody"],
            &["burst", "--endpoint", "127.0.0.1:1"],
            &["storm", "--endpoint", "http://127.0.0.1:1", "--metrics", "WRONG"],
            &["idle", "--serve", "x", "--html", "/no/such/place/page.html"],
        ] {
            let cli = Cli::try_parse_from([&["hydrant-loadtest"], line, &["--no-pin"]].concat()).unwrap();
            let error = cli.command.unwrap().checked().unwrap_err();
            let named = line.iter().any(|word| word.starts_with("--") && error.to_string().contains(word));
            assert!(named && error.downcast_ref::<UsageError>().is_some(), "{line:?}: {error:#}");
        }
        let cli = Cli::try_parse_from(["hydrant-loadtest", "idle", "--serve", "x", "--server-core", "9999"]).unwrap();
        let error = cli.command.unwrap().checked().unwrap_err();
        assert!(error.to_string().contains("--server-core") && error.downcast_ref::<UsageError>().is_some());
    }
}
