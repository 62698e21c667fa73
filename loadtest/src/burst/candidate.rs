//! One server under test with its clients: what it is called, where it comes from, and how its bytes travel.
//!
//! Contract: nothing is started before [`Candidate::open`].

use anyhow::Result;

use crate::args::Target;
use crate::cpu::Cores;
use crate::server::{Launch, System};
use crate::session::Session;

/// How a candidate's bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// As they are.
    Plain,
    /// With permessage-deflate.
    Deflate,
    /// Over TLS.
    Tls,
    /// Both.
    TlsDeflate,
}

impl Transport {
    /// As shown.
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

/// Where a candidate's server comes from.
#[derive(Debug, Clone)]
pub enum Open {
    /// A hydrant, ours or somebody else's.
    Target(Box<Target>),
    /// A peer that we start.
    Peer(Launch),
}

/// One server and its clients.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// As shown.
    pub name: String,
    /// What it is.
    pub system: System,
    /// How its bytes travel.
    pub transport: Transport,
    /// Connections.
    pub clients: usize,
    /// What every client registers, if not the usual.
    pub spec: Option<String>,
    /// Where it comes from.
    pub open: Open,
    /// The candidate that its figures are divided by, round by round.
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

/// Whose events a target's publisher sends, as the events themselves say.
fn user(target: Option<&Target>) -> &str {
    target.map_or("bench", Target::user)
}
