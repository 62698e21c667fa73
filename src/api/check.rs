//! `POST /api/v3/hydrant/check`: whether a registration is good, what is odd about it, and how many of the last events
//! it would have matched.
//!
//! Contract: only events that the caller may see are counted, those that are not retained any more are not. What it may
//! cost is bounded by the number and the bytes of the events that are looked at, one question at a time, at no shard.
//! A registration that cannot be one is 400, with the place.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Api, ApiError, answer, body};
use crate::auth::{Access, Identity};
use crate::broker::CONNECTIONS;
use crate::broker::history::{Position, Retained};
use crate::fanout::report::Registration;
use crate::index::{self, Class, Index, IndexError, Limits, Seen, Spec, Work, filter};
use crate::transport::listener::Answer;

/// Bytes of a question.
const LONGEST: usize = 128 << 10;

/// Events that are looked at.
const LOOKED: u64 = 1000;

/// Bytes of all of them together.
const BYTES: usize = 8 << 20;

/// Units of filter work for each event.
const WORK: u64 = 100_000;

/// Registrations of others that are longer, and patterns that need more than so many bytes, are not read again.
const SHORT: usize = 512;
const SMALL: usize = 64 << 10;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Question {
    spec: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Checked {
    spec: String,
    warnings: Vec<String>,
    /// How many events were looked at, the last ones that the caller may see.
    looked: usize,
    /// How many of them would have come.
    matched: usize,
}

impl Api {
    pub(super) async fn check(&self, request: Request<Incoming>, identity: &Identity) -> Result<Answer, ApiError> {
        let whole = self.bodies.read(request, LONGEST).await?;
        let question: Question = body::object(&whole.bytes)?;
        let text = question.spec.trim();
        let access = self.authority.access(identity)?;
        let seen = self.pool.seen().await;
        let _turn = self.turn_to_explain().await?;
        tokio::task::block_in_place(|| {
            let spec = Spec::parse(text, &self.pool.filter_limits())
                .map_err(|error| ApiError::spec(text, &IndexError::Spec(error)))?;
            let warnings = seen.map_or_else(Vec::new, |seen| index::warnings(text, &spec, &seen));
            let events = self.last_events(&access, identity);
            let matched = count(text, &spec, &events)?;
            let checked = Checked { spec: text.to_owned(), warnings, looked: events.len(), matched };
            Ok(answer::json(
                StatusCode::OK,
                serde_json::to_vec(&checked).expect("texts and numbers are always written"),
            ))
        })
    }

    /// The last events that the caller may see.
    fn last_events(&self, access: &Access, identity: &Identity) -> Vec<Retained> {
        let history = self.broker.history();
        let Position { sequence: end, .. } = history.position();
        let mut events = Vec::new();
        history.read(end.saturating_sub(LOOKED)..end, u64::MAX, usize::MAX, &mut events);
        events.retain(|Retained { event, .. }| {
            let own = event.kind() == CONNECTIONS && event.key() == identity.principal().as_str();
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

/// How many of the events a registration matches.
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

/// Tells what is odd about registrations that others have made.
pub(super) fn warn(registrations: &mut [Registration], seen: &Seen) {
    let limits = filter::Limits { compiled: SMALL, ..filter::Limits::default() };
    for one in registrations.iter_mut().filter(|one| one.spec.len() <= SHORT) {
        if let Ok(spec) = Spec::parse(&one.spec, &limits) {
            one.warnings = index::warnings(&one.spec, &spec, seen);
        }
    }
}
