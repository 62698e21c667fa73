//! Reports on registrations for operators: which exist, what each has matched, and what it costs.
//!
//! Contract: a report on one connection visits at most [`MEMBERSHIPS`] combinations, a report on all registrations of
//! a shard at most [`SURVEYED`] groups a turn. The counts come from the index ([`crate::index::Tally`]).

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::outbox::ConnId;
use super::session::Shard;
use crate::auth::Access;
use crate::broker::connection::Connection;
use crate::index::{Busiest, Usage};

/// Combinations that are looked at for one report: less than a millisecond.
const MEMBERSHIPS: usize = 65_536;

/// Groups that are looked at in a turn.
pub(super) const SURVEYED: usize = 16_384;

/// One registration, with what it has done together with all those of the same rights that share it on its shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registration {
    /// Its text.
    pub spec: Box<str>,
    /// Events that it has matched since the first that share it was made.
    pub hits: u64,
    /// The same, once for each connection that it brought them to.
    pub deliveries: u64,
    /// When it last matched, to the second; nothing if it never did.
    pub last_hit: Option<String>,
    /// How many connections share it.
    pub shared: usize,
    /// Combinations of type, action and key that its lists make.
    pub combinations: usize,
    /// Work of its filter, in units of about a nanosecond.
    pub filter_work: u64,
    /// Bytes of its filter.
    pub filter_bytes: usize,
    /// What is odd about it, if somebody has looked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A connection, looked at.
#[derive(Debug)]
pub struct Inspection {
    /// How it is.
    pub connection: Connection,
    /// What it has registered.
    pub registrations: Vec<Registration>,
    /// What it may see.
    pub access: Arc<Access>,
}

/// What time it is, by the clock and by the shard's own.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// By the clock.
    pub time: Timestamp,
    /// Seconds since the broker began.
    pub second: u64,
}

impl Registration {
    fn of(usage: Usage, now: Moment) -> Self {
        let Usage { spec, tally, shared, combinations, filter_bytes } = usage;
        let ago = |second: u32| i64::try_from(now.second.saturating_sub(u64::from(second))).unwrap_or(i64::MAX);
        let at = |second| now.time.checked_sub(SignedDuration::from_secs(ago(second))).unwrap_or(now.time);
        let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time).to_string();
        Self {
            spec,
            hits: tally.hits,
            deliveries: tally.deliveries,
            last_hit: tally.last().map(|second| whole(at(second))),
            shared,
            combinations,
            filter_work: tally.work,
            filter_bytes,
            warnings: Vec::new(),
        }
    }
}

impl Shard {
    /// The registrations of a connection.
    pub fn registrations_of(&self, conn: ConnId, now: Moment) -> Vec<Registration> {
        let session = self.sessions.get(conn.0 as usize).and_then(Option::as_ref);
        let Some(slot) = session.and_then(|session| session.slot) else { return Vec::new() };
        let usage = self.index.usage(slot, MEMBERSHIPS);
        usage.into_iter().map(|usage| Registration::of(usage, now)).collect()
    }

    /// What a connection may see.
    pub(super) fn access_of(&self, conn: ConnId) -> Option<Arc<Access>> {
        let session = self.sessions.get(conn.0 as usize).and_then(Option::as_ref)?;
        Some(Arc::clone(self.classes.access(session.class)))
    }

    /// Looks at the next groups from `from` on. Returns where to go on; nothing when all have been looked at.
    pub(super) fn survey(&self, from: usize, busiest: &mut Busiest) -> Option<usize> {
        let next = from + SURVEYED;
        self.index.survey(from..next, busiest);
        (next < self.index.group_numbers()).then_some(next)
    }

    /// What was found to have done most.
    pub(super) fn surveyed(&self, busiest: Busiest, now: Moment) -> Vec<Registration> {
        let usage = self.index.busiest(busiest, MEMBERSHIPS);
        usage.into_iter().map(|usage| Registration::of(usage, now)).collect()
    }
}
