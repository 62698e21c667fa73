//! Explains why a caller may or may not see an event, part by part.
//!
//! Contract: always agrees with [`Access::sees`](super::Access::sees): an event is visible if one claim matches it,
//! every token restriction matches it, and the tenant, if there is one, contains its object.

use super::claim::Claim;

/// Whether a caller sees an event, and what decides that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visibility {
    /// Whether one of the claims shows the event.
    pub by_claims: bool,
    /// Which parts of each claim match the event.
    pub claims: Vec<ClaimMatch>,
    /// The claims that narrow the token, and whether each shows the event.
    pub narrowing: Vec<(String, bool)>,
    /// Whether the tenant shows the event; `None` without a tenant.
    pub tenant: Option<bool>,
}

/// Which parts of a claim match an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimMatch {
    /// The text of the claim.
    pub text: String,
    /// Whether its scope matches the type.
    pub scope: bool,
    /// Whether its action shows the event.
    pub action: bool,
    /// Whether its specific matches the object, or the machine of a job.
    pub specific: bool,
}

impl ClaimMatch {
    /// Evaluates a claim. `names` are the event's Key and any other names that a specific may match.
    pub(super) fn of<'n>(claim: &Claim, kind: &str, action: &str, mut names: impl Iterator<Item = &'n str>) -> Self {
        Self {
            text: claim.to_string(),
            scope: claim.scope.has(kind),
            action: claim.shows_action(action),
            specific: names.any(|name| claim.specific.has(name)),
        }
    }

    /// Returns whether scope, action and specific match.
    pub fn parts(&self) -> [bool; 3] {
        [self.scope, self.action, self.specific]
    }
}
