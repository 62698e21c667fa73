//! Reports on registrations for operators: which exist, what each has matched, and what it costs.
//!
//! Contract: a report on one connection visits at most [`MEMBERSHIPS`] combinations, a report on all registrations of a
//! shard at most [`SURVEYED`] groups per turn. The counts come from the index ([`crate::index::Tally`]).

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::outbox::ConnId;
use super::session::Shard;
use crate::auth::Access;
use crate::broker::connection::Connection;
use crate::index::{Busiest, Usage};

/// Combinations visited for one report: less than a millisecond.
const MEMBERSHIPS: usize = 65_536;

/// Groups visited per turn.
pub(super) const SURVEYED: usize = 16_384;

/// One registration, with the totals of all registrations on its shard that share its text and rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registration {
    /// Its text.
    pub spec: Box<str>,
    /// Events matched since the first registration of the group was made.
    pub hits: u64,
    /// Deliveries: like `hits`, but counted once for each connection.
    pub deliveries: u64,
    /// When it last matched, to the second; `None` if it never did.
    pub last_hit: Option<String>,
    /// The number of connections that share it.
    pub shared: usize,
    /// Combinations of type, action and key in its lists.
    pub combinations: usize,
    /// Work of its filter, in units of about a nanosecond.
    pub filter_work: u64,
    /// Bytes of its filter.
    pub filter_bytes: usize,
    /// Warnings about it, if they were requested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A detailed report on one connection.
#[derive(Debug)]
pub struct Inspection {
    /// The state of the connection.
    pub connection: Connection,
    /// Its registrations.
    pub registrations: Vec<Registration>,
    /// Its access rights.
    pub access: Arc<Access>,
}

/// The current time, by the wall clock and by the shard's own.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The wall clock time.
    pub time: Timestamp,
    /// Seconds since the broker started.
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
    /// Returns the registrations of a connection.
    pub fn registrations_of(&mut self, conn: ConnId, now: Moment) -> Vec<Registration> {
        let session = self.sessions.get(conn.0 as usize).and_then(Option::as_ref);
        let Some(slot) = session.and_then(|session| session.slot) else { return Vec::new() };
        let usage = self.index.usage(slot, MEMBERSHIPS);
        usage.into_iter().map(|usage| Registration::of(usage, now)).collect()
    }

    /// Returns whether a connection has the registration with this text.
    pub(super) fn has_registration(&self, conn: ConnId, text: &str) -> bool {
        let session = self.sessions.get(conn.0 as usize).and_then(Option::as_ref);
        session.and_then(|session| session.slot).is_some_and(|slot| self.index.has(slot, text))
    }

    /// Returns the access rights of a connection.
    pub(super) fn access_of(&self, conn: ConnId) -> Option<Arc<Access>> {
        let session = self.sessions.get(conn.0 as usize).and_then(Option::as_ref)?;
        Some(Arc::clone(self.classes.access(session.class)))
    }

    /// Visits the next groups from `from` on. Returns where to continue, or `None` when all have been visited.
    pub(super) fn survey(&mut self, from: usize, busiest: &mut Busiest) -> Option<usize> {
        let next = from + SURVEYED;
        self.index.survey(from..next, busiest);
        (next < self.index.group_numbers()).then_some(next)
    }

    /// Returns the busiest registrations that a survey has found.
    pub(super) fn surveyed(&mut self, busiest: Busiest, now: Moment) -> Vec<Registration> {
        let usage = self.index.busiest(busiest, MEMBERSHIPS);
        usage.into_iter().map(|usage| Registration::of(usage, now)).collect()
    }
}
