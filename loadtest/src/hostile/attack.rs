//! The definition of each attack, and what it needs.

use super::worker::Job;
use super::{commands, readers, requests};
use crate::args::Attack;

/// What an attack needs from a server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    /// A listener with TLS.
    pub(super) tls: bool,
    /// An endpoint behind the server.
    pub(super) upstream: bool,
}

impl Attack {
    /// Returns the name on the command line.
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

    /// Returns the number of attacking threads, which share `strength` connections.
    pub(super) fn workers(self, strength: usize) -> usize {
        match self {
            // One login waits for one password hash.
            Self::Logins => strength.min(256),
            Self::WorstFilters => 2,
            Self::Regex | Self::WideIn | Self::Deep => 8,
            _ => 4,
        }
    }

    /// Prepares what takes long to compute, before anything is measured.
    pub(super) fn prepare(self) {
        if let Self::DeflateBombs = self {
            requests::make_bomb();
        }
    }

    /// Returns what each of the threads does repeatedly.
    pub(super) fn job(self) -> Job {
        match self {
            Self::Regex => commands::regex,
            Self::WideIn => commands::wide_in,
            Self::Deep => commands::deep,
            Self::WorstFilters => commands::worst_filters,
            Self::WideLists => commands::wide_lists,
            Self::Registers => commands::registers,
            Self::Refused => commands::refused,
            Self::DeafDisconnect => |worker| readers::deaf(worker, "disconnect"),
            Self::DeafDropOldest => |worker| readers::deaf(worker, "drop-oldest"),
            Self::DeafConflate => |worker| readers::deaf(worker, "conflate"),
            Self::Conflate => readers::conflate,
            Self::Replays => readers::replays,
            Self::DeafReplays => readers::deaf_replays,
            Self::Connects => readers::connects,
            Self::Logins => requests::logins,
            Self::SlowBodies => requests::slow_bodies,
            Self::DeflateBombs => requests::deflate_bombs,
            Self::Handshakes => requests::handshakes,
            Self::Slots => requests::slots,
            Self::Tokens => requests::tokens,
        }
    }
}
