//! The amount of work, the cores of its threads, and the output files.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;

use super::value;
use crate::cpu::{self, Cores};
use crate::floor::{Bounds, K_MAX};
use crate::usage::UsageError;

/// The amount and duration of work.
#[derive(Debug, Clone, Args)]
pub struct Work {
    /// Number of connections.
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub connections: u32,
    /// Sizes of an event as delivered, in bytes; separated by commas.
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "1024", value_parser = value::payload)]
    pub payload: Vec<usize>,
    /// Events per turn; separated by commas.
    #[arg(
        long = "k",
        value_name = "K",
        value_delimiter = ',',
        default_value = "1,16,64",
        value_parser = clap::value_parser!(u64).range(1..=K_MAX)
    )]
    pub k: Vec<u64>,
    /// Number of times that everything is measured; the rounds of all K and payloads are interleaved.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Seconds per round, K and payload, separately for the server and for the floor.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = value::seconds)]
    pub seconds: f64,
    /// Maximum turns per round, K and payload.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub turns: u64,
    /// Every event goes to one connection only, by its Key, in turn.
    #[arg(long)]
    pub selective: bool,
    /// Cores and output files.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The connections that publish single events.
#[derive(Debug, Clone, Copy, Args)]
pub struct PostArgs {
    /// Kept-alive connections that publish single events, each one at a time: 1 for `burst --single-post`, 32 for the
    /// work `post` of `compare`, unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub posters: Option<u32>,
}

impl PostArgs {
    /// Returns the number of connections, or `usual` if it is not given.
    pub fn count(self, usual: u32) -> u32 {
        self.posters.unwrap_or(usual)
    }
}

/// The cores of a run's threads, and its output files.
#[derive(Debug, Clone, Args, Serialize)]
pub struct RunArgs {
    /// Core of the server that --serve starts, and of the floor's writer.
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    pub server_core: usize,
    /// Core of everything that publishes and reads.
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    pub client_core: usize,
    /// Pin no thread to a core.
    #[arg(long)]
    pub no_pin: bool,
    /// Output files.
    #[command(flatten)]
    pub output: Output,
}

/// The output files of a run.
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
    /// Checks whether the files can be written, before the work rather than after it. Nothing is changed: a file that
    /// exists keeps its content, another one is removed again.
    ///
    /// # Errors
    /// Fails if the directory of a file does not exist, or if a file is a directory or cannot be opened for writing.
    pub fn checked(&self) -> Result<()> {
        for (flag, file) in [("--json", &self.json), ("--html", &self.html)] {
            let Some(file) = file else { continue };
            let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
            let wrong = |what| UsageError(format!("{flag} {}: {what}", file.display()));
            ensure!(parent.is_none_or(Path::is_dir), wrong("no such directory"));
            ensure!(!file.is_dir(), wrong("is a directory, not a file"));
            is_writable(file).with_context(|| format!("{flag} {}: cannot be written", file.display()))?;
        }
        Ok(())
    }
}

fn is_writable(file: &Path) -> io::Result<()> {
    let is_new = !file.exists();
    if !is_new && !file.is_file() {
        // Opening a pipe has effects on its other end.
        return Ok(());
    }
    OpenOptions::new().append(true).create(true).open(file)?;
    if is_new { fs::remove_file(file) } else { Ok(()) }
}

impl RunArgs {
    /// Returns the cores if they are available.
    ///
    /// # Errors
    /// Fails if one of them is not available to this process.
    pub fn checked(&self) -> Result<Cores> {
        if self.no_pin {
            return Ok(Cores::ANY);
        }
        cpu::checked(Cores { server: Some(self.server_core), client: Some(self.client_core) })
    }
}

impl Work {
    /// Returns when a round ends.
    pub fn bounds(&self) -> Bounds {
        Bounds { time: Duration::from_secs_f64(self.seconds), turns: self.turns }
    }

    /// Returns the number of connections as a `usize`.
    pub fn clients(&self) -> usize {
        self.connections as usize
    }
}
