//! Metrics of credentials that an endpoint authenticates.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::declare::Declare;

/// The reason why the endpoint's users, roles and tenants are not known; the value of the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityFailure {
    /// The endpoint does not respond.
    Away,
    /// The endpoint responds too slowly.
    Late,
    /// The endpoint responds with an error.
    Refused,
    /// The response of the endpoint cannot be parsed.
    Unreadable,
    /// The server's user at the endpoint lacks claims.
    Claims,
    /// The claims of the server's token cannot be read.
    Token,
    /// The server's own credential cannot be read.
    Credential,
}

impl IdentityFailure {
    const ALL: [Self; 7] =
        [Self::Away, Self::Late, Self::Refused, Self::Unreadable, Self::Claims, Self::Token, Self::Credential];

    fn label(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Late => "late",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
            Self::Claims => "claims",
            Self::Token => "token",
            Self::Credential => "credential",
        }
    }
}

/// The result of checking a credential; the value of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityDecision {
    /// Accepted from the cache, without asking the endpoint.
    Known,
    /// Accepted after a check.
    Good,
    /// Accepted from an old cache entry, because the endpoint does not respond.
    Stale,
    /// Rejected.
    Denied,
    /// Not decided: nobody could check it, or there were too many failed logins.
    Undecided,
}

impl IdentityDecision {
    const ALL: [Self; 5] = [Self::Known, Self::Good, Self::Stale, Self::Denied, Self::Undecided];

    fn label(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Good => "good",
            Self::Stale => "stale",
            Self::Denied => "denied",
            Self::Undecided => "undecided",
        }
    }
}

/// Metrics about credentials that an endpoint authenticates.
#[derive(Debug)]
pub struct IdentityMetrics {
    failure: IntGaugeVec,
    decisions: IntCounterVec,
}

impl IdentityMetrics {
    pub(super) fn declare(declare: &Declare<'_>) -> Self {
        let metrics = Self {
            failure: declare.gauges(
                "hydrant_identity_trouble",
                "1 while the endpoint's users, roles and tenants cannot be read, by reason",
                "reason",
            ),
            decisions: declare.counters(
                "hydrant_identity_verdicts_total",
                "Decisions about credentials that the endpoint authenticates, by outcome",
                "outcome",
            ),
        };
        metrics.failure(None);
        IdentityDecision::ALL
            .iter()
            .for_each(|decision| metrics.decisions.with_label_values(&[decision.label()]).inc_by(0));
        metrics
    }

    /// Sets the current failure and clears all others.
    pub fn failure(&self, failure: Option<IdentityFailure>) {
        for one in IdentityFailure::ALL {
            self.failure.with_label_values(&[one.label()]).set((failure == Some(one)).into());
        }
    }

    /// Counts a decision about a credential.
    pub fn decided(&self, decision: IdentityDecision) {
        self.decisions.with_label_values(&[decision.label()]).inc();
    }
}
