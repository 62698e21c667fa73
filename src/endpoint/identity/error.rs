//! The reasons why the endpoint's users, roles, tenants or keys cannot be read.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use thiserror::Error;

use crate::auth::AuthError;
use crate::client::ClientError;
use crate::endpoint::http::UpstreamError;

/// Time limit for the endpoint to check a credential, and to return the data needed for that.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The path of a user, as errors name it.
pub(super) const USER: &str = "users/NAME";

/// The latest failures of the endpoint, with their times. Checking credentials may work while reading users fails.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) checking: Option<(Instant, AuthError)>,
    pub(super) reading: Option<(Instant, AuthError)>,
}

impl Failures {
    /// Returns a failure that is younger than `age`.
    pub(super) fn within(&self, age: Duration) -> Option<AuthError> {
        let mut recent = [self.checking, self.reading].into_iter().flatten();
        recent.find(|(at, _)| at.elapsed() < age).map(|(_, error)| error)
    }
}

/// Why the endpoint's data cannot be read.
#[derive(Debug, Error)]
pub(super) enum IdentityError {
    /// The endpoint cannot be reached or does not answer.
    #[error(transparent)]
    Away(#[from] UpstreamError),
    /// The endpoint answers with an error.
    #[error(
        "GET {what}: the endpoint answered {status}; check that hydrant's own user there (upstream.username) may read \
         it"
    )]
    Refused {
        /// The path that was requested.
        what: &'static str,
        /// The status of the answer.
        status: StatusCode,
    },
    /// The endpoint has no roles, although every DRP endpoint has them.
    #[error(
        "the endpoint has no roles: it may be a hydrant without a DRP endpoint, which cannot authenticate users for \
         another hydrant; set auth.mode = \"local\" here, and give both the same auth.toml and token-keys.toml"
    )]
    NoDirectory,
    /// The endpoint silently omits from its answers what the service may not read.
    #[error(
        "hydrant's own user at the endpoint (upstream.username) lacks {}; the endpoint omits what that user may not \
         read, so give it a role with these claims", .claims.join(" and ")
    )]
    Lacks {
        /// The claims that the service lacks.
        claims: Vec<&'static str>,
    },
    /// It cannot be determined what the service may read.
    #[error(
        "hydrant cannot read the claims of upstream.token, so it cannot tell whether the endpoint omits tenants: give \
         its user the claim preferences/list, to read the preference baseTokenSecret, or set upstream.username instead"
    )]
    Opaque,
    /// The answer cannot be parsed.
    #[error("GET {what}: cannot parse the endpoint's answer")]
    Unreadable {
        /// The path that was requested.
        what: &'static str,
    },
    /// The endpoint does not answer in time.
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Late,
    /// The service has no usable credential.
    #[error(transparent)]
    Credential(#[from] ClientError),
}

impl IdentityError {
    /// Returns whether the failure affects all users; an unexpected answer may concern only one.
    pub(super) fn is_everybodys(&self) -> bool {
        !matches!(self, Self::Refused { what: USER, .. } | Self::Unreadable { what: USER })
    }

    /// Returns the error for the caller.
    pub(super) fn refusal(&self) -> AuthError {
        match self {
            Self::Lacks { claims } => AuthError::EndpointHides(claims.first().copied().unwrap_or_default()),
            Self::Opaque => AuthError::EndpointHides("preferences/list"),
            _ => AuthError::EndpointAway,
        }
    }

    /// Returns whether the failure ends as soon as the endpoint answers at all.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Late)
    }
}
