//! The parts of an explanation: steps and causes.

use serde::Serialize;

use crate::auth::Access;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is so.
    Held,
    /// It is not so.
    Failed,
    /// It was not asked: the answer was certain before.
    Skipped,
}

impl Verdict {
    pub(super) fn of(holds: bool) -> Self {
        if holds { Self::Held } else { Self::Failed }
    }
}

/// One step of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Step {
    /// What became of it.
    pub verdict: Verdict,
    /// What was asked.
    pub asked: String,
    /// What was found, if that is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What it consists of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

impl Step {
    pub(super) fn new(verdict: Verdict, asked: impl Into<String>) -> Self {
        Self { verdict, asked: asked.into(), found: None, steps: Vec::new() }
    }

    pub(super) fn found(self, found: impl Into<String>) -> Self {
        Self { found: Some(found.into()), ..self }
    }

    pub(super) fn with(self, steps: Vec<Step>) -> Self {
        Self { steps, ..self }
    }
}

/// What stands between an event and a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "Kind", rename_all = "PascalCase", rename_all_fields = "PascalCase")]
pub enum Cause {
    /// No claim shows the event. This one would.
    Claim {
        /// As roles have it.
        claim: String,
    },
    /// The token is narrowed to claims that do not show the event.
    Narrowing {
        /// The one that holds it back.
        claim: String,
    },
    /// The tenant does not list the object.
    Tenant {
        /// The type of the object.
        model: String,
        /// Its key.
        key: String,
    },
    /// The rights do not show the event, and the caller may not know why.
    Rights,
    /// Nothing is registered.
    NoRegistration,
    /// The registration names other types.
    Type {
        /// What it names.
        wanted: String,
        /// What the event has.
        found: String,
    },
    /// The registration names other actions.
    Action {
        /// What it names.
        wanted: String,
        /// What the event has.
        found: String,
    },
    /// The registration names other keys.
    Key {
        /// What it names.
        wanted: String,
        /// What the event has.
        found: String,
    },
    /// The filter is not true.
    Filter {
        /// The term at which that was certain.
        term: String,
        /// The value that it asked about; nothing if the field is missing.
        value: Option<String>,
    },
}

impl Cause {
    /// Whether it is a matter of what the receiver may see.
    pub(super) fn is_of_rights(&self) -> bool {
        matches!(self, Self::Claim { .. } | Self::Narrowing { .. } | Self::Tenant { .. } | Self::Rights)
    }

    /// The cause in words.
    pub fn sentence(&self) -> String {
        match self {
            Self::Claim { claim } => format!("no claim shows it: {claim} is missing"),
            Self::Narrowing { claim } => format!("the token is narrowed to {claim}"),
            Self::Tenant { model, key } => format!("the tenant does not list {model} {key}"),
            Self::Rights => "the rights of this principal do not show it".to_owned(),
            Self::NoRegistration => "nothing is registered".to_owned(),
            Self::Type { wanted, found } => format!("the type is {found}, not {wanted}"),
            Self::Action { wanted, found } => format!("the action is {found}, not {wanted}"),
            Self::Key { wanted, found } => format!("the key is {found}, not {wanted}"),
            Self::Filter { term, value: Some(value) } => format!("{term} is not so: the value is {value}"),
            Self::Filter { term, value: None } => format!("{term} is not so: the field is missing"),
        }
    }
}

/// Who would get the event.
#[derive(Debug, Clone, Copy)]
pub struct Receiver<'r> {
    /// Who it is.
    pub principal: &'r str,
    /// Whose it is: events about its connections are visible to it.
    pub account: &'r str,
    /// What it may see.
    pub access: &'r Access,
}
