//! Explains why a caller may or may not see an event, part by part.
//!
//! Contract: always agrees with [`Access::sees`](super::Access::sees): an event is visible if one claim matches it,
//! every token restriction matches it, and the tenant, if there is one, contains its object.

use super::claim::{Claim, Terms};

/// Everything that a verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whether one of the claims shows the event.
    pub by_claims: bool,
    /// Each claim.
    pub claims: Vec<ClaimVerdict>,
    /// What the token is narrowed to, and whether each shows the event.
    pub narrowing: Vec<(String, bool)>,
    /// Whether the tenant shows it; nothing without a tenant.
    pub tenant: Option<bool>,
}

/// What one claim says of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimVerdict {
    /// The claim.
    pub text: String,
    /// Whether its scope names the type.
    pub scope: bool,
    /// Whether its action shows the event.
    pub action: bool,
    /// Whether its specific names the object, or the machine of a job.
    pub specific: bool,
}

impl ClaimVerdict {
    /// `names` are the event's Key and whatever else it may be named by.
    pub(super) fn of<'n>(claim: &Claim, kind: &str, action: &str, mut names: impl Iterator<Item = &'n str>) -> Self {
        Self {
            text: claim.to_string(),
            scope: names_it(&claim.scope, kind),
            // Who may read an object may see its events.
            action: names_it(&claim.action, "get") || names_it(&claim.action, action),
            specific: names.any(|name| names_it(&claim.specific, name)),
        }
    }

    /// Scope, action and specific.
    pub fn parts(&self) -> [bool; 3] {
        [self.scope, self.action, self.specific]
    }
}

fn names_it(terms: &Terms, name: &str) -> bool {
    match terms {
        Terms::Any => true,
        Terms::Only(names) => names.iter().any(|other| **other == *name),
    }
}
