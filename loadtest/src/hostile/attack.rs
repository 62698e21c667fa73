//! What each attack is, and what it needs.

use super::worker::Job;
use super::{commands, readers, requests};
use crate::args::Attack;

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

    /// Makes what takes long to make, before anything is measured.
    pub(super) fn prepare(self) {
        if let Self::DeflateBombs = self {
            requests::make_bomb();
        }
    }

    /// What each of the threads does, again and again.
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
