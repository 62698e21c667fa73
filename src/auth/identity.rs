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
use super::keys::Fingerprint;
use super::principal::Principal;

/// Why somebody who was let in is so no more. The text may be told to the client.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum RevokedError {
    /// The user does not exist any more.
    #[error("user removed")]
    UserRemoved,
    /// The user has another password now.
    #[error("password changed")]
    PasswordChanged,
    /// Whoever issued the token was removed or has another password now.
    #[error("token revoked")]
    GrantorRevoked,
    /// The key that signed the token was rotated out.
    #[error("token key retired")]
    KeyRetired,
}

/// What a token holds back of its subject's rights. Several of them all hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Restriction {
    /// Only these roles, as far as one of the subject's roles contains them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) roles: Option<Vec<String>>,
    /// Only what this claim allows too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) claim: Option<Claim>,
}

/// Whose rights somebody has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A user of the store.
    User(Arc<str>),
    /// A machine.
    Runner(Arc<str>),
    /// A plugin.
    Plugin(Arc<str>),
    /// Somebody whom another issuer vouches for, with the roles that it says.
    External {
        /// The name, in the issuer's words.
        name: Arc<str>,
        /// Names of roles of the store; others are ignored.
        roles: Arc<[String]>,
    },
    /// Somebody whom the endpoint vouches for; the rights are those of the directory.
    Account(Arc<Holder>),
}

/// A user's secret at the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecretFingerprint {
    pub(super) user: Arc<str>,
    pub(super) fingerprint: Fingerprint,
}

/// The key that has signed a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signer {
    pub(super) id: Box<str>,
    pub(super) fingerprint: Fingerprint,
}

/// What the rights of somebody hang on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    /// The subject's own secret, if it is a user of the store.
    pub(super) own: Option<SecretFingerprint>,
    /// The secrets of those who issued the token, if they are somebody else.
    pub(super) grantors: Vec<SecretFingerprint>,
    /// The key that signed the token, if it is one of ours.
    pub(super) key: Option<Signer>,
    /// When whoever vouched for somebody from outside (another issuer, an authority of certificates) does so no more.
    /// No token that was got with these credentials, or with such a token, lives longer.
    pub(super) until: Option<Timestamp>,
    /// The secrets of users of the endpoint.
    pub(super) endpoint: Option<Arc<Fingerprints>>,
}

/// An authenticated caller: which credentials were valid, and when. Grants nothing by itself; ask the
/// [`Authority`](super::Authority) for its rights.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(super) principal: Principal,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) subject: Subject,
    pub(super) conditions: Conditions,
    pub(super) restrictions: Arc<[Restriction]>,
}

impl Identity {
    /// Who it is, for events and listings.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The user's name; nothing for machines and plugins.
    pub fn user(&self) -> Option<&str> {
        match &self.subject {
            Subject::User(name) | Subject::External { name, .. } => Some(name),
            Subject::Account(holder) => holder.user(),
            Subject::Runner(_) | Subject::Plugin(_) => None,
        }
    }

    /// Whether it is the endpoint that vouches for it.
    pub fn is_endpoints(&self) -> bool {
        matches!(self.subject, Subject::Account(_))
    }

    /// When the token expires; nothing for a password.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Whether the token has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}
