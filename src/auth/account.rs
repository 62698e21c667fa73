//! Users and tenants of an endpoint, whose rights somebody has there, and the secrets those rights hang on.
//!
//! Contract: data only. What follows from it is worked out by [`Directory`](super::directory::Directory). Secrets are
//! kept as [`Fingerprint`]s only.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::access::Members;
use super::claim::Claim;
use super::keys::Fingerprint;

/// A user of the endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Names of roles.
    pub roles: BTreeSet<String>,
    /// Stands for the user's secret; nothing if the endpoint does not tell it.
    pub(super) fingerprint: Option<Fingerprint>,
    /// Stands for the time when the user was made; nothing if the endpoint does not tell it. It tells a user that was
    /// removed and made again from the one before, where no secret does.
    pub(super) born: Option<Fingerprint>,
}

/// A tenant of the endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantOf {
    /// Whom it restricts.
    pub users: BTreeSet<String>,
    /// To which keys of which types.
    pub(super) members: Members,
}

/// Whose rights somebody has at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    /// The user's name; nothing for machines and plugins.
    pub(super) user: Option<Arc<str>>,
    /// What a token grants by itself.
    pub(super) direct: Vec<Claim>,
    /// The roles that a token names; without one, all of the user's.
    pub(super) roles: Option<Vec<String>>,
}

/// The endpoint's secrets at the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fingerprints {
    /// Of users.
    pub(super) users: Vec<(Arc<str>, Fingerprint)>,
    /// Of the key that has opened the token.
    pub(super) key: Option<Fingerprint>,
    /// Of the time when the bearer's own user was made.
    pub(super) born: Option<Fingerprint>,
}

impl Holder {
    /// The user's name; nothing for machines and plugins.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
}
