//! An authenticated caller, and what is needed to check it again later.
//!
//! Contract: an [`Identity`] is a statement about the past: these credentials were valid at that time. What its holder
//! may see and do is decided by the [`Authority`](super::Authority), which must be asked again whenever rights change;
//! nothing here grants anything.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::account::{Fingerprints, Holder};
use super::claim::Claim;
use super::expiry::Expiry;
use super::keys::{Fingerprint, Signer};
use super::principal::{Principal, PrincipalKind};

/// The reason why an accepted caller is no longer accepted. The text may be shown to the client.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum RevokedError {
    /// The user no longer exists.
    #[error("user removed")]
    UserRemoved,
    /// The user's password has changed.
    #[error("password changed")]
    PasswordChanged,
    /// A user who issued the token was removed or has a new password.
    #[error("token revoked")]
    GrantorRevoked,
    /// The key that signed the token was rotated out.
    #[error("token key retired")]
    KeyRetired,
}

/// A limit that a token puts on its subject's rights. If there are several, all apply.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Restriction {
    /// Grants only these roles, as far as one of the subject's roles contains them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) roles: Option<Vec<String>>,
    /// Grants only what this claim also allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) claim: Option<Claim>,
}

impl Restriction {
    /// Returns the number of names that it lists.
    pub(super) fn names(&self) -> usize {
        self.roles.as_ref().map_or(0, Vec::len) + self.claim.as_ref().map_or(0, Claim::names)
    }
}

/// The subject whose rights a caller has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A user of the store.
    User(Arc<str>),
    /// A machine.
    Runner(Arc<str>),
    /// A plugin.
    Plugin(Arc<str>),
    /// A caller that another issuer vouches for, with the roles that the issuer names.
    External {
        /// Names of roles of the store; unknown ones are ignored.
        roles: Arc<[String]>,
    },
    /// A caller that the endpoint vouches for; its rights come from the directory.
    Account(Arc<Holder>),
}

/// The fingerprint of a user's secret at authentication time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecretFingerprint {
    pub(super) user: Arc<str>,
    pub(super) fingerprint: Fingerprint,
}

/// The conditions on which a caller's rights depend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    /// The fingerprint of the subject's own secret, if it is a user of the store.
    pub(super) own: Option<Fingerprint>,
    /// The secrets of the users who issued the token, except the subject's own.
    pub(super) grantors: Box<[SecretFingerprint]>,
    /// The key that signed the token, if it is one of this server's.
    pub(super) key: Option<Arc<Signer>>,
    /// The time at which an external party (another issuer or a certificate authority) stops vouching for the caller.
    /// No token obtained with these credentials, or with such a token, lives longer.
    pub(super) until: Expiry,
    /// The secrets of users of the endpoint.
    pub(super) endpoint: Option<Arc<Fingerprints>>,
}

/// An authenticated caller: which credentials were valid, and when. Grants nothing by itself; ask the
/// [`Authority`](super::Authority) for its rights. Every open connection stores one, so it is small.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(super) principal: Principal,
    pub(super) expires_at: Expiry,
    pub(super) subject: Subject,
    pub(super) conditions: Conditions,
    pub(super) restrictions: Arc<[Restriction]>,
}

impl Identity {
    /// Returns the principal, for events and listings.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns the user's name; `None` for machines and plugins.
    pub fn user(&self) -> Option<&str> {
        match &self.subject {
            Subject::User(name) => Some(name),
            Subject::External { .. } => Some(self.principal.name()),
            Subject::Account(holder) => holder.user(),
            Subject::Runner(_) | Subject::Plugin(_) => None,
        }
    }

    /// Returns who answers for the caller's credentials: itself, or the user of the endpoint who had the token of a
    /// machine or plugin issued.
    pub(super) fn owner(&self) -> Principal {
        let granted = self.conditions.endpoint.as_ref().filter(|_| self.principal.kind() != PrincipalKind::User);
        let grantor = granted.and_then(|granted| Principal::endpoint_user(&granted.users.last()?.0).ok());
        grantor.unwrap_or_else(|| self.principal.clone())
    }

    /// Returns the caller and the fingerprint of its own secret, if it is a user of the store.
    pub(super) fn own_secret(&self) -> Option<SecretFingerprint> {
        let Subject::User(name) = &self.subject else { return None };
        self.conditions.own.map(|fingerprint| SecretFingerprint { user: Arc::clone(name), fingerprint })
    }

    /// Returns whether the endpoint vouches for the caller.
    pub fn is_endpoints(&self) -> bool {
        matches!(self.subject, Subject::Account(_))
    }

    /// Returns the number of names that the endpoint's token has given it.
    pub(super) fn names(&self) -> usize {
        if let Subject::Account(holder) = &self.subject { holder.names() } else { 0 }
    }

    /// Returns the token's expiry; `None` for a password.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at.time()
    }

    /// Returns whether the token has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_connection_stores_is_small() {
        assert!(size_of::<Identity>() <= 128, "{}", size_of::<Identity>());
    }
}
