//! The peers, their programs and their cores.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;

use super::PostArgs;
use crate::cpu::Cores;
use crate::server::{Launch, System};
use crate::usage::UsageError;

/// The peers to compare with.
#[derive(Debug, Clone, Args)]
pub struct PeerArgs {
    /// Program of nats-server; by default searched on PATH and where `go install` puts it.
    #[arg(long, value_name = "PROGRAM")]
    pub nats: Option<PathBuf>,
    /// Program of mosquitto; by default searched on PATH and in /usr/sbin.
    #[arg(long, value_name = "PROGRAM")]
    pub mosquitto: Option<PathBuf>,
    /// Compare with no peers: measure only hydrant and the floor.
    #[arg(long, conflicts_with_all = ["nats", "mosquitto", "peer_cores"])]
    pub no_peers: bool,
    /// Cores of the peers, separated by commas, if they differ from --server-core.
    #[arg(long, value_delimiter = ',', value_name = "CORE")]
    pub peer_cores: Vec<usize>,
    /// Connections that publish to each system.
    #[command(flatten)]
    pub post: PostArgs,
}

/// A peer, installed or not.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The kind of system.
    pub system: System,
    /// Path of the program; `None` if it is not installed.
    pub program: Option<PathBuf>,
    /// Cores that it may use; empty: all.
    pub cores: Vec<usize>,
}

impl Peer {
    /// Returns how to start the peer; `None` if it is not installed.
    pub fn launch(&self, tls: bool) -> Option<Launch> {
        let program = self.program.clone()?;
        Some(Launch { system: self.system, program, tls, cores: self.cores.clone(), arguments: Vec::new() })
    }
}

impl PeerArgs {
    /// Returns all requested peers, installed or not.
    ///
    /// # Errors
    /// Fails if a program named on the command line does not exist.
    pub fn all(&self, cores: Cores) -> Result<Vec<Peer>> {
        if self.no_peers {
            return Ok(Vec::new());
        }
        for (flag, named) in [("--nats", &self.nats), ("--mosquitto", &self.mosquitto)] {
            if let Some(program) = named {
                let missing = || UsageError(format!("{flag} {}: no such program", program.display()));
                ensure!(program.is_file(), missing());
            }
        }
        let cores =
            if self.peer_cores.is_empty() { cores.server.into_iter().collect() } else { self.peer_cores.clone() };
        let found = [
            (System::Nats, self.nats.clone().or_else(|| find("nats-server"))),
            (System::Mosquitto, self.mosquitto.clone().or_else(|| find("mosquitto"))),
        ];
        Ok(found.into_iter().map(|(system, program)| Peer { system, program, cores: cores.clone() }).collect())
    }
}

/// Searches a program on PATH, where Go installs, and where Debian puts servers.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let go = std::env::var_os("GOBIN").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join("go/bin"));
    let directories = std::env::split_paths(&path).chain(go).chain(home).chain([PathBuf::from("/usr/sbin")]);
    directories.map(|directory| directory.join(name)).find(|program| program.is_file())
}
