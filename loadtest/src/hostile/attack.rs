//! What each attack is, and what it needs.

use super::worker::Worker;
use super::{commands, readers, requests};
use crate::args::Attack;

use anyhow::Result;

/// What a server has to have for an attack to make sense.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    /// TLS.
    pub(super) tls: bool,
    /// An endpoint behind it.
    pub(super) upstream: bool,
}

impl Attack {
    /// The name on the command line.
    pub(super) fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(super) fn needs(self) -> Needs {
        match self {
            Self::Handshakes => Needs { tls: true, ..Needs::default() },
            Self::Slots => Needs { upstream: true, ..Needs::default() },
            _ => Needs::default(),
        }
    }

    /// Threads that attack at a time, `strength` connections in all.
    pub(super) fn workers(self, strength: usize) -> usize {
        match self {
            // One login waits for one hash.
            Self::Logins => strength.min(256),
            Self::WorstFilters => 2,
            Self::Regex | Self::WideIn | Self::Deep => 8,
            _ => 4,
        }
    }

    /// Attacks once, until the connection is lost or the worker is to end.
    pub(super) fn run(self, worker: &Worker) -> Result<()> {
        match self {
            Self::Regex => commands::regex(worker),
            Self::WideIn => commands::wide_in(worker),
            Self::Deep => commands::deep(worker),
            Self::WorstFilters => commands::worst_filters(worker),
            Self::Registers => commands::registers(worker),
            Self::Refused => commands::refused(worker),
            Self::DeafDisconnect => readers::deaf(worker, "disconnect"),
            Self::DeafDropOldest => readers::deaf(worker, "drop-oldest"),
            Self::DeafConflate => readers::deaf(worker, "conflate"),
            Self::Conflate => readers::conflate(worker),
            Self::Replays => readers::replays(worker),
            Self::Connects => readers::connects(worker),
            Self::Logins => requests::logins(worker),
            Self::SlowBodies => requests::slow_bodies(worker),
            Self::DeflateBombs => requests::deflate_bombs(worker),
            Self::Handshakes => requests::handshakes(worker),
            Self::Slots => requests::slots(worker),
            Self::Tokens => requests::tokens(worker),
        }
    }
}
