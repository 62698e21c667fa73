//! A server under test with its clients: its name, how it is started or found, and its transport.
//!
//! Contract: nothing is started before [`Candidate::open`].

use anyhow::Result;

use crate::args::Target;
use crate::cpu::Cores;
use crate::server::{Launch, System};
use crate::session::Session;

/// The transport of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Neither compressed nor encrypted.
    Plain,
    /// With permessage-deflate.
    Deflate,
    /// Over TLS.
    Tls,
    /// Over TLS with permessage-deflate.
    TlsDeflate,
}

impl Transport {
    /// Returns the display name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Deflate => "deflate",
            Self::Tls => "TLS",
            Self::TlsDeflate => "TLS+deflate",
        }
    }

    pub(super) fn deflates(self) -> bool {
        matches!(self, Self::Deflate | Self::TlsDeflate)
    }
}

/// How a candidate's server is started or found.
#[derive(Debug, Clone)]
pub enum Open {
    /// A hydrant, started by this program or already running.
    Target(Box<Target>),
    /// A peer that this program starts.
    Peer(Launch),
}

/// One server and its clients.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Display name.
    pub name: String,
    /// The kind of system.
    pub system: System,
    /// The transport.
    pub transport: Transport,
    /// Number of connections.
    pub clients: usize,
    /// What every client registers, if not the default.
    pub spec: Option<String>,
    /// How the server is started or found.
    pub open: Open,
    /// Index of the candidate by which its figures are divided, round by round.
    pub beside: Option<usize>,
}

impl Candidate {
    pub(super) fn open(&self, cores: Cores) -> Result<Session> {
        match &self.open {
            Open::Target(target) => Session::open(target, cores),
            Open::Peer(launch) => Session::peer(launch),
        }
    }

    pub(super) fn user(&self) -> &str {
        match &self.open {
            Open::Target(target) => user(Some(target)),
            Open::Peer(_) => user(None),
        }
    }
}

/// Returns the user whose name the published events carry.
fn user(target: Option<&Target>) -> &str {
    target.map_or("bench", Target::user)
}
