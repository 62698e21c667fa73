//! `POST /api/v3/hydrant/check`: whether a registration is valid, what is suspicious about it, and how many of the
//! latest events it would have matched.
//!
//! Contract: only retained events that the caller may see are counted. The cost is limited by the number and size of
//! the events examined; one question is processed at a time, principals in turn and outside the shards. An invalid
//! registration is 400, with the position of the error.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};

use super::body::{self, Fields};
use super::{Api, ApiError, answer};
use crate::auth::{Access, Identity};
use crate::broker::CONNECTIONS;
use crate::broker::history::{Position, Retained};
use crate::fanout::report::Registration;
use crate::index::{self, Class, Index, IndexError, Limits, Seen, Spec, Work, filter};
use crate::transport::listener::Answer;

/// Maximum length of a body in bytes.
const LONGEST: usize = 128 << 10;

/// Maximum number of events examined.
const LOOKED: u64 = 1000;

/// Number of events copied at a time: a shard that needs the history waits for that.
const PORTION: usize = 64;

/// Maximum total size of the events examined, in bytes.
const BYTES: usize = 8 << 20;

/// Maximum units of filter work per event.
const WORK: u64 = 100_000;

/// Maximum length of other clients' registrations, and size of their patterns, to be parsed again; both in bytes.
const SHORT: usize = 512;
const SMALL: usize = 64 << 10;

/// The warning that warnings may be missing.
const UNCOMPARED: &str =
    "the type and the action were not compared with those of events: the server is too busy; try again";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Question {
    spec: String,
}

impl Fields for Question {
    const FIELDS: &'static [(&'static str, &'static str)] = &[("Spec", "a string")];
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Checked {
    spec: String,
    warnings: Vec<String>,
    /// Number of events examined: the latest ones that the caller may see.
    looked: usize,
    /// Number of those that the registration matches.
    matched: usize,
}

impl Api {
    pub(super) async fn check(&self, request: Request<Incoming>, identity: &Identity) -> Result<Answer, ApiError> {
        let sent = self.receive_body(request, LONGEST).await?;
        let _turn = self.turn_to_explain(identity).await?;
        let whole = self.inflate_body(sent)?;
        let question: Question = body::object(&whole.bytes)?;
        let text = question.spec.trim();
        let access = self.authority.access(identity)?;
        let seen = self.pool.seen().await;
        self.at_length(|| {
            let spec = Spec::parse(text, &self.pool.filter_limits())
                .map_err(|error| ApiError::spec(text, &IndexError::Spec(error)))?;
            let mut warnings = index::warnings(text, &spec, seen.as_ref());
            warnings.extend(seen.is_none().then(|| UNCOMPARED.to_owned()));
            let events = self.last_events(&access, identity);
            let matched = count(text, &spec, &events)?;
            let checked = Checked { spec: text.to_owned(), warnings, looked: events.len(), matched };
            Ok(answer::json(
                StatusCode::OK,
                serde_json::to_vec(&checked).expect("texts and numbers are always written"),
            ))
        })
    }

    /// Returns the latest events that the caller may see.
    fn last_events(&self, access: &Access, identity: &Identity) -> Vec<Retained> {
        let history = self.broker.history();
        let Position { sequence: end, .. } = history.position();
        let (mut events, mut from) = (Vec::new(), end.saturating_sub(LOOKED));
        while from < end {
            from = history.read(from..end, u64::MAX, PORTION, &mut events).next;
        }
        events.retain(|Retained { event, .. }| {
            let own = event.kind() == CONNECTIONS && event.account() == identity.principal().account();
            own || access.sees(event.kind(), event.action(), event.key(), event.owner())
        });
        let mut left = BYTES;
        let is_beyond = |one: &Retained| {
            left = left.saturating_sub(one.event.json().len());
            left == 0
        };
        let kept = events.iter().rev().position(is_beyond).unwrap_or(events.len());
        events.drain(..events.len() - kept);
        events
    }
}

/// Returns the number of events that a registration matches.
fn count(text: &str, spec: &Spec, events: &[Retained]) -> Result<usize, ApiError> {
    let limits = Limits { work: Work { event: WORK, ..Work::UNLIMITED }, ..Limits::default() };
    let mut index = Index::new(limits).with_common_account();
    let slot = index.subscribe((), Class(0));
    index.enter(slot, text, spec).map_err(|error| ApiError::spec(text, &error))?;
    let mut matched = 0;
    for Retained { event, .. } in events {
        index.matches(event, |_| true, |()| matched += 1);
        while index.take_overdrawn().is_some() {}
    }
    Ok(matched)
}

/// Adds warnings to registrations of other clients; without `seen`, none about names.
pub(super) fn warn(registrations: &mut [Registration], seen: Option<&Seen>) {
    let limits = filter::Limits { compiled: SMALL, ..filter::Limits::default() };
    for one in registrations.iter_mut().filter(|one| one.spec.len() <= SHORT) {
        if let Ok(spec) = Spec::parse(&one.spec, &limits) {
            one.warnings = index::warnings(&one.spec, &spec, seen);
        }
    }
}
