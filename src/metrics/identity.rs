//! Metrics of credentials that an endpoint judges.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::declare::Declare;

/// Why users, roles and tenants of the endpoint are not known; the value of the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityTrouble {
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

impl IdentityTrouble {
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
pub enum IdentityVerdict {
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

impl IdentityVerdict {
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

/// See the module's text.
#[derive(Debug)]
pub struct IdentityMetrics {
    trouble: IntGaugeVec,
    verdicts: IntCounterVec,
}

impl IdentityMetrics {
    pub(super) fn declare(declare: &Declare<'_>) -> Self {
        let metrics = Self {
            trouble: declare.gauges(
                "hydrant_identity_trouble",
                "1 while users, roles and tenants of the endpoint cannot be read, by the reason",
                "reason",
            ),
            verdicts: declare.counters(
                "hydrant_identity_verdicts_total",
                "Credentials that are the endpoint's to judge, by outcome",
                "outcome",
            ),
        };
        metrics.trouble(None);
        IdentityVerdict::ALL
            .iter()
            .for_each(|verdict| metrics.verdicts.with_label_values(&[verdict.label()]).inc_by(0));
        metrics
    }

    /// This is the matter now, and nothing else.
    pub fn trouble(&self, trouble: Option<IdentityTrouble>) {
        for one in IdentityTrouble::ALL {
            self.trouble.with_label_values(&[one.label()]).set((trouble == Some(one)).into());
        }
    }

    /// A credential came to this.
    pub fn judged(&self, verdict: IdentityVerdict) {
        self.verdicts.with_label_values(&[verdict.label()]).inc();
    }
}
