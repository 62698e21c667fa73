//! `POST /api/v3/hydrant/explain`: why an event does or does not reach a client.
//!
//! The body names an event (`Event`, or its `Position` in the history), registrations (`Spec` or `Specs`), and the
//! recipient (`User`; by default the caller). `Connection` stands for the registrations and the rights of an open
//! connection.
//!
//! Contract: callers learn nothing about events or users that they may not see. An event of the history must be visible
//! to the caller and is otherwise unknown; another user needs the claim users/get, a connection connections/get, both
//! within the caller's tenant. A caller that may see a connection but not its user learns whether the rights show the
//! event, but not why. Roles that would show an event are listed only for callers who may list roles. `User` names the
//! principal that logs in by that name: a user of this server's own if there is one, otherwise one of the endpoint,
//! with the rights known since that user first logged in.
//!
//! Bounds: any caller may ask, so one question is processed at a time, from inflating and parsing it to the answer,
//! principals in turn and outside the shards. Only the answer of a shard about a connection is not waited for in the
//! turn: a shard that is stuck would hold up all other questions. The cost of a question is limited by the number of
//! registrations, including those of a connection, and by their number times the bytes of the event.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

use super::body::{self, Fields, Held};
use super::connections::Inspected;
use super::turn::Turn;
use super::{Api, ApiError, answer};
use crate::auth::{Access, Identity};
use crate::broker::CONNECTIONS;
use crate::broker::history::{Position, Since};
use crate::clock;
use crate::event::{Draft, Event};
use crate::explain::{Cause, Explanation, Receiver, explain};
use crate::fanout::report::Inspection;
use crate::index::{IndexError, Spec, filter};
use crate::transport::listener::Answer;

/// Maximum length of a body in bytes, in addition to the event in it.
const REST: usize = 1 << 20;

/// Maximum number of registrations in a question.
const ASKED: usize = 64;

/// Maximum length in bytes of an event in a question that the answer repeats.
const REPEATED: usize = 64 << 10;

/// Maximum product of the event's length in bytes and the number of registrations: some 100 ms.
const WORK: usize = 64 << 20;

/// The body of a request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Question {
    event: Option<Box<RawValue>>,
    position: Option<String>,
    spec: Option<String>,
    #[serde(default, deserialize_with = "some_more_than_asked")]
    specs: Vec<String>,
    user: Option<String>,
    connection: Option<String>,
}

impl Fields for Question {
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("Event", "an object"),
        ("Position", "a string"),
        ("Spec", "a string"),
        ("Specs", "an array of strings"),
        ("User", "a string"),
        ("Connection", "a string"),
    ];
}

/// The body of the answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ExplanationReport {
    #[serde(flatten)]
    explanation: Explanation,
    /// The recipient.
    principal: String,
    /// Roles that show the event, if a claim is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    /// The connection's losses, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<String>,
    /// The event, unless the caller has sent it and it is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Box<RawValue>>,
}

/// The recipient.
struct Asked {
    principal: String,
    account: String,
    access: Arc<Access>,
    inspection: Option<Inspected<Held>>,
    /// Whether the caller may learn about the recipient's rights.
    is_known: bool,
}

impl Api {
    pub(super) async fn explain(&self, request: Request<Incoming>, identity: &Identity) -> Result<Answer, ApiError> {
        let most = self.limits.event_bytes.saturating_add(REST).min(self.limits.body_bytes);
        let sent = self.receive_body(request, most).await?;
        // A question may be long, and a few bytes may inflate to many: that and parsing it are a part of the work.
        let mut turn = self.turn_to_explain(identity).await?;
        let whole = self.inflate_body(sent)?;
        let question: Question = self.at_length(|| body::object(&whole.bytes))?;
        let specs = specs(&question)?;
        let asked = if let Some(address) = &question.connection {
            drop(turn);
            let asked = self.receiver_at(address, &question, identity).await?;
            turn = self.turn_to_explain(identity).await?;
            asked
        } else {
            self.receiver_in_question(&question, identity)?
        };
        let report = self.at_length(|| self.work_out(&question, specs, asked, identity));
        drop(turn);
        report
    }

    /// Explains the event and writes the answer.
    fn work_out(
        &self,
        question: &Question,
        specs: Vec<&str>,
        asked: Asked,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        let inspection = asked.inspection.as_deref();
        let texts = with_those_of(inspection, specs)?;
        let event = self.event_in_question(question, identity)?;
        bound_work(texts.len(), event.json().len())?;
        let limits = self.pool.filter_limits();
        let specs = texts.iter().map(|text| read_spec(text, &limits)).collect::<Result<Vec<_>, _>>()?;
        let pairs: Vec<(&str, &Spec)> = texts.iter().copied().zip(&specs).collect();
        let receiver = Receiver { principal: &asked.principal, account: &asked.account, access: &asked.access };
        let explanation = explain(&event, &pairs, Some(receiver));
        let explanation = if asked.is_known { explanation } else { explanation.without_rights() };
        let roles = self.roles_for(&explanation, &event, identity)?;
        let loss = inspection.and_then(loss);
        let is_repeated = question.event.is_none() || event.json().len() <= REPEATED;
        let event =
            is_repeated.then(|| RawValue::from_string(event.json().to_owned()).expect("an event is valid JSON"));
        let report = ExplanationReport { explanation, principal: asked.principal, roles, loss, event };
        Ok(answer::json(StatusCode::OK, serde_json::to_vec(&report).expect("texts and flags are always written")))
    }

    /// Waits for the turn of an expensive question.
    pub(super) async fn turn_to_explain(&self, identity: &Identity) -> Result<Turn, ApiError> {
        self.explaining.take(identity.principal()).await
    }

    /// Returns whether the caller may learn what this principal may see.
    fn knows(&self, identity: &Identity, principal: &str, account: &str) -> Result<bool, ApiError> {
        if identity.principal().account() == account {
            return Ok(true);
        }
        // The right that every user has over itself is none over a namesake of another store, so only claims count.
        let access = self.authority.access(identity)?;
        let is_permitted = |user| access.permits("users", "get", user);
        Ok(access.is_everything() || principal.strip_prefix("user:").is_some_and(is_permitted))
    }

    fn event_in_question(&self, question: &Question, identity: &Identity) -> Result<Arc<Event>, ApiError> {
        match (&question.event, &question.position) {
            (Some(text), None) => {
                let draft = Draft::read_named(text.get()).map_err(|error| bad(format!("Event: {error}")))?;
                Ok(Arc::new(draft.seal_for_one(clock::now())))
            }
            (None, Some(position)) => self.retained(position, identity),
            _ => Err(bad("exactly one of Event and Position is required".to_owned())),
        }
    }

    /// Returns an event of the history if the caller may see it.
    fn retained(&self, position: &str, identity: &Identity) -> Result<Arc<Event>, ApiError> {
        let unknown = || ApiError::Unknown { model: "events", key: position.chars().take(64).collect() };
        let Ok(Since::Position(Position { epoch, sequence })) = position.parse() else {
            return Err(bad("Position must be EPOCH:SEQUENCE, like the id of an event in a stream".to_owned()));
        };
        let history = self.broker.history();
        if epoch != history.position().epoch {
            return Err(unknown());
        }
        let mut found = Vec::new();
        history.read(sequence..sequence.saturating_add(1), u64::MAX, 1, &mut found);
        let event = found.pop().filter(|one| one.number == sequence).map(|one| one.event).ok_or_else(unknown)?;
        let access = self.authority.access(identity)?;
        let own = event.kind() == CONNECTIONS && event.account() == identity.principal().account();
        if own || access.sees(event.kind(), event.action(), event.key(), event.owner()) {
            return Ok(event);
        }
        Err(unknown())
    }

    /// Returns the recipient whose connection comes from this address.
    async fn receiver_at(&self, address: &str, question: &Question, identity: &Identity) -> Result<Asked, ApiError> {
        if question.user.is_some() {
            return Err(bad("give either User or Connection, not both".to_owned()));
        }
        let inspected = self.inspect(address, identity).await?;
        // Before memory is reserved: a connection can have far more than are explained.
        bound_number(inspected.registrations.len())?;
        let inspection = inspected.pass_on(&self.bodies)?;
        let (principal, account) = (inspection.connection.principal.clone(), inspection.connection.account.clone());
        let is_known = self.knows(identity, &principal, &account)?;
        let access = Arc::clone(&inspection.access);
        Ok(Asked { principal, account, access, inspection: Some(inspection), is_known })
    }

    /// Returns the recipient that is given by its name, or the caller.
    fn receiver_in_question(&self, question: &Question, identity: &Identity) -> Result<Asked, ApiError> {
        if let Some(user) = question.user.as_ref().filter(|user| identity.user() != Some(user)) {
            let unknown = || ApiError::Unknown { model: "users", key: user.clone() };
            if !self.permits(identity, "users", "get", user)? {
                return Err(unknown());
            }
            return self.user_in_question(user)?.ok_or_else(unknown);
        }
        let access = self.authority.access(identity)?;
        let principal = identity.principal();
        let (principal, account) = (principal.as_str().to_owned(), principal.account().to_owned());
        Ok(Asked { principal, account, access, inspection: None, is_known: true })
    }

    /// Returns the user who logs in by this name, chosen as [`Api::login`] chooses.
    fn user_in_question(&self, user: &str) -> Result<Option<Asked>, ApiError> {
        if self.delegation.is_none() || (self.own_users && self.authority.has_user(user)) {
            let principal = format!("user:{user}");
            let asked =
                |access| Asked { account: principal.clone(), principal, access, inspection: None, is_known: true };
            return Ok(self.authority.access_of_user(user).map(asked));
        }
        let identity = self.authority.accounts().user(user);
        let found = identity.and_then(|identity| Ok((self.authority.access(&identity)?, identity)));
        let (access, identity) = found.map_err(|_| {
            bad(format!(
                "the rights of the endpoint's user {user:?} are not known here, because nobody has logged in with that \
                 name yet: try again after a login, or give one of the user's connections as Connection"
            ))
        })?;
        let (principal, account) =
            (identity.principal().as_str().to_owned(), identity.principal().account().to_owned());
        Ok(Some(Asked { principal, account, access, inspection: None, is_known: true }))
    }

    fn roles_for(
        &self,
        explanation: &Explanation,
        event: &Event,
        identity: &Identity,
    ) -> Result<Vec<String>, ApiError> {
        let lacks = explanation.causes.iter().any(|cause| matches!(cause, Cause::Claim { .. }));
        if !lacks || !self.permits(identity, "roles", "list", "*")? {
            return Ok(Vec::new());
        }
        Ok(self.authority.roles_that_show(event.kind(), event.action(), event.key(), event.machine()))
    }
}

/// Refuses an explanation whose registrations and event size together exceed [`WORK`].
fn bound_work(registrations: usize, bytes: usize) -> Result<(), ApiError> {
    if registrations.saturating_mul(bytes) <= WORK {
        return Ok(());
    }
    Err(bad(format!("too much work for one request: {registrations} registrations and an event of {bytes} bytes")))
}

fn read_spec(text: &str, limits: &filter::Limits) -> Result<Spec, ApiError> {
    Spec::parse(text, limits).map_err(|error| ApiError::spec(text, &IndexError::Spec(error)))
}

/// Reads texts, but keeps only one more than may be asked about: a body has room for millions, which would take far
/// more memory than the body.
fn some_more_than_asked<'de, D: Deserializer<'de>>(texts: D) -> Result<Vec<String>, D::Error> {
    struct Texts;
    impl<'de> Visitor<'de> for Texts {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of strings")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Vec<String>, A::Error> {
            let mut kept = Vec::new();
            while let Some(text) = if kept.len() > ASKED { None } else { texts.next_element()? } {
                kept.push(text);
            }
            while texts.next_element::<IgnoredAny>()?.is_some() {}
            Ok(kept)
        }
    }
    texts.deserialize_seq(Texts)
}

/// Returns the registrations of a question; none if it is about those of a connection.
fn specs(question: &Question) -> Result<Vec<&str>, ApiError> {
    let texts: Vec<&str> = question.spec.iter().chain(&question.specs).map(|text| text.trim()).collect();
    if texts.is_empty() && question.connection.is_none() {
        return Err(bad("Spec, Specs or Connection is required".to_owned()));
    }
    bound_number(texts.len())?;
    Ok(texts)
}

/// Adds the registrations of the connection in question, if there is one.
fn with_those_of<'t>(inspection: Option<&'t Inspection>, mut texts: Vec<&'t str>) -> Result<Vec<&'t str>, ApiError> {
    let registered = inspection.map_or(&[][..], |found| &found.registrations);
    bound_number(texts.len() + registered.len())?;
    texts.extend(registered.iter().map(|one| &*one.spec));
    Ok(texts)
}

/// Refuses more registrations than [`ASKED`].
fn bound_number(registrations: usize) -> Result<(), ApiError> {
    if registrations <= ASKED {
        return Ok(());
    }
    Err(bad(format!(
        "too many registrations: at most {ASKED} are explained per request, together with those of the connection"
    )))
}

/// Describes the events that the connection's outbox has dropped.
fn loss(inspection: &Inspection) -> Option<String> {
    let connection = &inspection.connection;
    let policy = connection.overflow.unwrap_or("disconnect");
    (connection.dropped_events > 0).then(|| {
        format!(
            "the connection was too slow and has lost {} events (policy {policy}); this one may be among them",
            connection.dropped_events
        )
    })
}

fn bad(reason: String) -> ApiError {
    ApiError::Bad(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_and_bytes_are_bounded_together() {
        assert!(bound_work(ASKED, WORK / ASKED).is_ok());
        assert!(bound_work(ASKED + 1, WORK / ASKED).is_err() && bound_work(1, WORK + 1).is_err());
        assert!(bound_work(usize::MAX, 2).is_err());
    }

    #[test]
    fn no_more_registrations_are_kept_than_are_needed_to_refuse_them() {
        let kept = |count: usize| {
            let body = format!("{{\"Specs\":[{}\"last\"]}}", "\"\",".repeat(count - 1));
            body::object::<Question>(body.as_bytes()).unwrap().specs
        };
        assert_eq!((kept(ASKED).len(), kept(ASKED + 1).len(), kept(100_000).len()), (ASKED, ASKED + 1, ASKED + 1));
        assert_eq!(kept(ASKED)[ASKED - 1], "last");
        let error = body::object::<Question>(br#"{"Specs":["a",1]}"#).unwrap_err();
        assert_eq!(error.to_string(), "at byte 9: Specs must be an array of strings");
    }
}
