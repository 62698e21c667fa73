//! The reasons why the endpoint's users, roles, tenants or keys cannot be read.

use std::time::Duration;

use hyper::StatusCode;
use thiserror::Error;

use crate::client::ClientError;
use crate::endpoint::http::UpstreamError;

/// How long the endpoint may take to check a credential, and to tell what is needed for that.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A user's path, without the name.
pub(super) const USER: &str = "users/NAME";

/// Why something cannot be read.
#[derive(Debug, Error)]
pub(super) enum IdentityError {
    /// The endpoint does not answer.
    #[error(transparent)]
    Away(#[from] UpstreamError),
    /// It answers with an error.
    #[error("GET {what}: the endpoint answers {status}; may the server's user (upstream.username) read it?")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The answer.
        status: StatusCode,
    },
    /// It has none, which no DRP endpoint has.
    #[error(
        "the endpoint has no roles to tell; a hydrant that stands in front of no DRP endpoint cannot authenticate for \
         another: set auth.mode = \"local\" here, and give both the same auth.toml and token-keys.toml"
    )]
    NoDirectory,
    /// Its answers leave out what the service may not read, and do not say so.
    #[error(
        "the user that hydrant is at the endpoint (upstream.username) lacks {}; the endpoint leaves out of its answers \
         what that user may not read, so give it a role with these claims", .claims.join(" and ")
    )]
    Lacks {
        /// The claims that it would need.
        claims: Vec<&'static str>,
    },
    /// Nobody can tell what the service may read.
    #[error(
        "the claims of upstream.token cannot be read here, so nobody can tell whether the endpoint leaves out tenants: \
         give its user the claim preferences/list, for the preference baseTokenSecret, or set upstream.username instead"
    )]
    Opaque,
    /// It answers with something else.
    #[error("GET {what}: the answer cannot be read")]
    Unreadable {
        /// What was asked for.
        what: &'static str,
    },
    /// It takes too long.
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Late,
    /// The service has no credential.
    #[error(transparent)]
    Credential(#[from] ClientError),
}

impl IdentityError {
    /// Whether others will have it too; an odd answer may be about one user.
    pub(super) fn is_everybodys(&self) -> bool {
        !matches!(self, Self::Refused { what: USER, .. } | Self::Unreadable { what: USER })
    }

    /// Whether it is over as soon as the endpoint answers at all.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Late)
    }
}
