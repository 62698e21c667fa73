//! How much work, where its threads are, and what is kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::cpu::{self, Cores};
use crate::floor::{Bounds, K_MAX};

/// How much work, and for how long.
#[derive(Debug, Clone, Args)]
pub struct Work {
    /// Connections.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Bytes of an event as delivered; several with commas.
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "1024")]
    pub payload: Vec<usize>,
    /// Events by turn; several with commas.
    #[arg(long = "k", value_name = "K", value_delimiter = ',', default_value = "1,16,64")]
    pub k: Vec<u64>,
    /// How often everything is measured; the rounds of all K and payloads are interleaved.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Seconds by round, K and payload, for the server and for the floor each.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub seconds: f64,
    /// Turns at most by round, K and payload.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub turns: u64,
    /// Every event goes to one connection only, by its Key, in turn.
    #[arg(long)]
    pub selective: bool,
    /// Where it runs and what is kept.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Where a run's threads are, and what is kept of it.
#[derive(Debug, Clone, Args, Serialize)]
pub struct RunArgs {
    /// Core of the server that --serve starts, and of the floor's writer.
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    pub server_core: usize,
    /// Core of everything that publishes and reads.
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    pub client_core: usize,
    /// Pin nothing to a core.
    #[arg(long)]
    pub no_pin: bool,
    /// What is kept.
    #[command(flatten)]
    pub output: Output,
}

/// What is kept of a run.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct Output {
    /// Write the results as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the results as one HTML page with charts to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl Output {
    /// Whether the files can be there: better said before the work than after it.
    ///
    /// # Errors
    /// One is to be in a directory that does not exist, or is one.
    pub fn checked(&self) -> Result<()> {
        for (flag, file) in [("--json", &self.json), ("--html", &self.html)] {
            let Some(file) = file else { continue };
            let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
            ensure!(parent.is_none_or(Path::is_dir), "{flag} {}: there is no such directory", file.display());
            ensure!(!file.is_dir(), "{flag} {}: this is a directory", file.display());
        }
        Ok(())
    }
}

impl RunArgs {
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
        self.run.checked()
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
