//! The parts of an explanation: steps and causes.

use serde::Serialize;

use crate::auth::Access;

/// The outcome of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepResult {
    /// The condition holds.
    Held,
    /// The condition does not hold.
    Failed,
    /// The condition was not evaluated, because the result was already certain.
    Skipped,
}

impl StepResult {
    pub(super) fn of(holds: bool) -> Self {
        if holds { Self::Held } else { Self::Failed }
    }
}

/// One step of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Step {
    /// Outcome of the step.
    pub verdict: StepResult,
    /// The condition that was evaluated.
    pub asked: String,
    /// What was found instead, if it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// The steps of which this one consists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

impl Step {
    pub(super) fn new(verdict: StepResult, asked: impl Into<String>) -> Self {
        Self { verdict, asked: asked.into(), found: None, steps: Vec::new() }
    }

    pub(super) fn found(self, found: impl Into<String>) -> Self {
        Self { found: Some(found.into()), ..self }
    }

    pub(super) fn with(self, steps: Vec<Step>) -> Self {
        Self { steps, ..self }
    }
}

/// A cause that prevents the delivery of an event to a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "Kind", rename_all = "PascalCase", rename_all_fields = "PascalCase")]
pub enum Cause {
    /// No claim covers the event. The given one would.
    Claim {
        /// The claim, in the notation of roles.
        claim: String,
    },
    /// The token is narrowed to claims that do not cover the event.
    Narrowing {
        /// The claim that excludes the event.
        claim: String,
    },
    /// The tenant does not list the object.
    Tenant {
        /// Type of the object.
        model: String,
        /// Key of the object.
        key: String,
    },
    /// The rights do not show the event, and the caller may not know why.
    Rights,
    /// Nothing is registered.
    NoRegistration,
    /// The registration names other types.
    Type {
        /// The type in the registration.
        wanted: String,
        /// The type of the event.
        found: String,
    },
    /// The registration names other actions.
    Action {
        /// The action in the registration.
        wanted: String,
        /// The action of the event.
        found: String,
    },
    /// The registration names other keys.
    Key {
        /// The key in the registration.
        wanted: String,
        /// The key of the event.
        found: String,
    },
    /// The filter does not match.
    Filter {
        /// The term that made the result certain, or its negation, whichever is false.
        term: String,
        /// The value that the term tested; `None` if the field is missing.
        value: Option<String>,
    },
}

impl Cause {
    /// Returns whether the cause concerns the receiver's rights.
    pub(super) fn is_of_rights(&self) -> bool {
        matches!(self, Self::Claim { .. } | Self::Narrowing { .. } | Self::Tenant { .. } | Self::Rights)
    }

    /// Returns the cause in words.
    pub fn sentence(&self) -> String {
        match self {
            Self::Claim { claim } => format!("no claim allows it: {claim} is missing"),
            Self::Narrowing { claim } => format!("the token is restricted to {claim}"),
            Self::Tenant { model, key } => format!("the tenant does not list {model} {key}"),
            Self::Rights => "this principal may not see it".to_owned(),
            Self::NoRegistration => "nothing is registered".to_owned(),
            Self::Type { wanted, found } => format!("the type is {found}, not {wanted}"),
            Self::Action { wanted, found } => format!("the action is {found}, not {wanted}"),
            Self::Key { wanted, found } => format!("the key is {found}, not {wanted}"),
            Self::Filter { term, value: Some(value) } => format!("{term} is false: the value is {value}"),
            Self::Filter { term, value: None } => format!("{term} is false: the field is missing"),
        }
    }
}

/// The receiver for whom rights are evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Receiver<'r> {
    /// Who it is.
    pub principal: &'r str,
    /// Whose it is: events about its connections are visible to it.
    pub account: &'r str,
    /// What it may see.
    pub access: &'r Access,
}
