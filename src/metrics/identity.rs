//! Metrics of credentials that an endpoint authenticates.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::declare::Declare;

/// Why users, roles and tenants of the endpoint are not known; the value of the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityFailure {
    /// It does not answer.
    Away,
    /// It answers too slowly.
    Late,
    /// It answers with an error.
    Refused,
    /// It answers with something else.
    Unreadable,
    /// The server's user there lacks claims.
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

/// What became of a credential; the value of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityDecision {
    /// Known to be good; nobody was asked.
    Known,
    /// Found to be good.
    Good,
    /// Known to have been good, and the endpoint does not answer.
    Stale,
    /// Not good.
    Denied,
    /// Nobody could tell, or it was one guess too many.
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

    /// This is the matter now, and nothing else.
    pub fn failure(&self, failure: Option<IdentityFailure>) {
        for one in IdentityFailure::ALL {
            self.failure.with_label_values(&[one.label()]).set((failure == Some(one)).into());
        }
    }

    /// A credential came to this.
    pub fn decided(&self, decision: IdentityDecision) {
        self.decisions.with_label_values(&[decision.label()]).inc();
    }
}
