//! Users and tenants of an endpoint, the holders of rights there, and the secrets those rights depend on.
//!
//! Contract: data only. [`Directory`](super::directory::Directory) derives rights from it. Secrets are kept only as
//! [`Fingerprint`]s.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::access::Members;
use super::claim::Claim;
use super::keys::Fingerprint;

/// A user of the endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Names of the user's roles.
    pub roles: BTreeSet<String>,
    /// Fingerprint of the user's secret; `None` if the endpoint does not report it.
    pub(super) fingerprint: Option<Fingerprint>,
    /// Fingerprint of the user's creation time; `None` if the endpoint does not report it. Where no secret does, it
    /// distinguishes a user that was removed and created again from its predecessor.
    pub(super) born: Option<Fingerprint>,
}

/// A tenant of the endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantOf {
    /// Names of the users that the tenant restricts.
    pub users: BTreeSet<String>,
    /// The keys that these users may see, by object type.
    pub(super) members: Members,
}

/// The holder of rights at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    /// The user's name; `None` for machines and plugins.
    pub(super) user: Option<Arc<str>>,
    /// Claims that a token grants directly.
    pub(super) direct: Vec<Claim>,
    /// The roles that a token names; `None` means all roles of the user.
    pub(super) roles: Option<Vec<String>>,
}

/// Fingerprints of the endpoint's secrets at authentication time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fingerprints {
    /// Fingerprints of users' secrets, by user name.
    pub(super) users: Vec<(Arc<str>, Fingerprint)>,
    /// Fingerprint of the key that opened the token.
    pub(super) key: Option<Fingerprint>,
    /// Fingerprint of the creation time of the bearer's own user.
    pub(super) born: Option<Fingerprint>,
}

impl Holder {
    /// Returns the user's name; `None` for machines and plugins.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the number of names in the claims and roles of a token.
    pub(super) fn names(&self) -> usize {
        let roles = self.roles.as_ref().map_or(0, Vec::len);
        self.direct.iter().map(Claim::names).sum::<usize>() + roles
    }
}
