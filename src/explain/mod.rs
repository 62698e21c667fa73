//! Explains why an event does or does not reach a connection.
//!
//! The answer is a tree. Each step says what was checked, what was found, and what would have been needed. Three
//! things must hold: the rights make the event visible ([`rights`]), a registration matches it ([`registration`]), and
//! the outbox kept it, which the caller reports. The steps run in the order in which a shard checks them, on the same
//! parts: [`crate::index::Spec`], the filter engine and [`crate::auth::Access`].
//!
//! Contract: pure; no I/O, no clock. [`explain`] agrees with delivery: for the same event, registrations and rights a
//! shard delivers exactly if the explanation says so (a property test holds it). Every cause it names is necessary: if
//! all of them are made true, the event is delivered; if one of them is left, it is not. A filter is one cause; of its
//! terms it names only the false one that made the result certain. An explanation reveals everything about the event
//! and the rights it is given; the caller decides who may ask.
//!
//! ```
//! use hydrant::event::Draft;
//! use hydrant::explain::explain;
//! use hydrant::index::Spec;
//! use hydrant::index::filter::Limits;
//!
//! let text = r#"{"Type":"machines","Action":"update","Key":"42","Object":{"Stage":"local"}}"#;
//! let event = Draft::read(text)?.seal(jiff::Timestamp::UNIX_EPOCH);
//! let text = "machines.delete.*";
//! let spec = Spec::parse(text, &Limits::default())?;
//!
//! let explanation = explain(&event, &[(text, &spec)], None);
//! assert!(!explanation.delivered);
//! assert!(explanation.reason.contains("delete"), "{}", explanation.reason);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod parts;
mod registration;
mod rights;

use serde::Serialize;

pub use parts::{Cause, Receiver, Step, StepResult};

use crate::event::Event;
use crate::index::Spec;

/// A registration and how it evaluates for the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registration {
    /// Text of the registration.
    pub spec: String,
    /// The evaluation.
    #[serde(flatten)]
    pub step: Step,
}

/// Why an event is or is not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Explanation {
    /// Whether the event is delivered.
    pub delivered: bool,
    /// The outcome and its reason in one sentence.
    pub reason: String,
    /// All causes that prevent delivery. If none of several registrations matches, the causes are those of the nearest.
    pub causes: Vec<Cause>,
    /// Whether the receiver may see the event; `None` without a receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rights: Option<Step>,
    /// The evaluation of the registrations: first those that match, then the nearest.
    pub registrations: Vec<Registration>,
}

/// Explains whether and why an event is delivered. Without a receiver, rights are not evaluated.
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
    /// Returns the explanation for a caller that may not know the receiver's rights: whether they show the event, not
    /// why.
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
