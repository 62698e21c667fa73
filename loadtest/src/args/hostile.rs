//! The arguments of `hostile`.

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{RunArgs, Target};

/// An attack. Unless it says otherwise, it is made by a user without any role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Registrations with regular expressions that are as expensive as the server accepts.
    Regex,
    /// Filters that compare with 4,096 values each.
    WideIn,
    /// Filters nested as deeply, and with as many terms, as the server accepts.
    Deep,
    /// 4,096 registrations on one connection, each with an expensive filter.
    WorstFilters,
    /// Registrations whose lists have 65,536 combinations, repeatedly made and removed.
    WideLists,
    /// Registers and deregisters in pipelined batches.
    Registers,
    /// Commands that are expensive to refuse.
    Refused,
    /// Connections that never read, with the overflow policy `disconnect`.
    DeafDisconnect,
    /// Connections that never read, with the overflow policy `drop-oldest`.
    DeafDropOldest,
    /// Connections that never read, with the overflow policy `conflate`.
    DeafConflate,
    /// Connections that request `conflate` in the query and read slowly.
    Conflate,
    /// Connections that repeatedly request the whole history.
    Replays,
    /// Connections that request the whole history and never read.
    DeafReplays,
    /// Connects and disconnects.
    Connects,
    /// Logins with a wrong password from many networks, without credentials.
    Logins,
    /// Posts whose bodies arrive one byte at a time.
    SlowBodies,
    /// Compressed messages of some kilobytes that inflate to many megabytes.
    DeflateBombs,
    /// TLS handshakes, without credentials.
    Handshakes,
    /// Downloads through the reverse proxy that are hardly read, without credentials. Needs --serve.
    Slots,
    /// Requests with forged tokens.
    Tokens,
}

/// The arguments of `hostile`.
#[derive(Debug, Clone, Args)]
pub struct HostileArgs {
    /// The attacks, separated by commas. All by default.
    #[arg(long, value_name = "ATTACK", value_enum, value_delimiter = ',')]
    pub only: Vec<Attack>,
    /// Clients that watch everything and must not be affected.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub healthy: u32,
    /// Events per second, each for every healthy client.
    #[arg(
        long,
        value_name = "EVENTS",
        default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub rate: u32,
    /// Seconds without each attack, and then with it.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Maximum connections, or logins in progress, of each attack.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(8..=20_000))]
    pub strength: u32,
    /// A token of a user without any role at --endpoint. On a server that --serve starts, such a user is created.
    #[arg(long, env = "HYDRANT_LOADTEST_GUEST_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub guest_token: Option<Secret>,
    /// The server at --endpoint stands in front of an endpoint that has the long public file /files/image.iso.
    #[arg(long)]
    pub files: bool,
    /// Exit status 3 also if the server misses the promised times. They mean something on a quiet machine only.
    #[arg(long)]
    pub enforce: bool,
    /// Cores and output files.
    #[command(flatten)]
    pub run: RunArgs,
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// A text that `Debug` does not show.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}
