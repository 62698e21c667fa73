//! Why an event does or does not reach a connection.
//!
//! The answer is a tree: each step says what was asked, what was found, and what would have been needed. Three things
//! have to hold: the rights show the event ([`rights`]), a registration wants it ([`registration`]), and the outbox
//! kept it, which is for the caller to tell. The steps are asked in the order in which a shard asks them, of the same
//! parts: [`crate::index::Spec`], the filter engine and [`crate::auth::Access`].
//!
//! Contract: pure; no I/O, no clock. [`explain`] agrees with delivery: for the same event, registrations and rights a
//! shard delivers exactly if it says so (a property test holds it). Each cause that is named is needed: with all of
//! them made true the event is delivered, with one of them left as it is it is not. It tells everything of the event
//! and of the rights that it is given; who may ask is for the caller to decide.

mod parts;
mod registration;
mod rights;

use serde::Serialize;

pub use parts::{Cause, Receiver, Step, Verdict};

use crate::event::Event;
use crate::index::Spec;

/// A registration and what it says of the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registration {
    /// Its text.
    pub spec: String,
    /// What it says.
    #[serde(flatten)]
    pub step: Step,
}

/// Why an event is or is not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Explanation {
    /// Whether it is.
    pub delivered: bool,
    /// The same with the reason, in one sentence.
    pub reason: String,
    /// What stands in the way, all of it; of several registrations that do not match, what stands in the way of the
    /// nearest.
    pub causes: Vec<Cause>,
    /// Whether the event may be seen; nothing if that was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rights: Option<Step>,
    /// What the registrations say, those that match first, then the nearest.
    pub registrations: Vec<Registration>,
}

/// Explains what becomes of an event. Without a receiver nothing is asked about rights.
pub fn explain(event: &Event, specs: &[(&str, &Spec)], receiver: Option<Receiver<'_>>) -> Explanation {
    let (rights, mut causes) = match receiver {
        Some(receiver) => {
            let (step, causes) = rights::explain(event, receiver);
            (Some(step), causes)
        }
        None => (None, Vec::new()),
    };
    let mut answers: Vec<(Vec<Cause>, Registration)> = specs
        .iter()
        .map(|(text, spec)| {
            let (step, causes) = registration::explain(spec, event);
            (causes, Registration { spec: (*text).to_owned(), step })
        })
        .collect();
    answers.sort_by_key(|(causes, _)| causes.len());
    match answers.first() {
        Some((of_nearest, _)) => causes.extend(of_nearest.iter().cloned()),
        None => causes.push(Cause::NoRegistration),
    }
    let registrations: Vec<Registration> = answers.into_iter().map(|(_, registration)| registration).collect();
    let delivered = causes.is_empty();
    Explanation { delivered, reason: reason(&causes, &registrations), causes, rights, registrations }
}

fn reason(causes: &[Cause], registrations: &[Registration]) -> String {
    match registrations.first() {
        Some(registration) if causes.is_empty() => format!("delivered: `{}` matches", registration.spec),
        _ => format!("not delivered: {}", causes.iter().map(Cause::sentence).collect::<Vec<_>>().join("; ")),
    }
}

impl Explanation {
    /// The same for whoever may not know what the receiver may see: whether the rights show the event, and not why.
    #[must_use]
    pub fn without_rights(mut self) -> Self {
        let all = self.causes.len();
        self.causes.retain(|cause| !cause.is_of_rights());
        if self.causes.len() < all {
            self.causes.insert(0, Cause::Rights);
        }
        if let Some(rights) = &mut self.rights {
            rights.steps.clear();
        }
        self.reason = reason(&self.causes, &self.registrations);
        self
    }
}
