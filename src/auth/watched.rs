//! The files that determine rights, and what is known of each besides its content.

use parking_lot::Mutex;
use thiserror::Error;

use super::store::StoreError;
use crate::files::{Hanging, Refusal};

/// A file that determines rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFile {
    /// Users, roles and tenants.
    Users,
    /// The keys that sign tokens.
    TokenKeys,
    /// The public keys of the external issuer, if one is configured.
    IssuerKeys,
}

impl AuthFile {
    /// All the files.
    pub const ALL: [Self; 3] = [Self::Users, Self::TokenKeys, Self::IssuerKeys];
}

/// Changes that were refused, one error per file. Changes to other files are in force.
#[derive(Debug, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct ReloadError(pub Vec<StoreError>);

/// What is known of a file besides its content.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Held while the file is read and its content put in force, so that an older version never replaces a newer one.
    pub(super) reading: Mutex<()>,
    /// The change that is not in force.
    pub(super) refusal: Mutex<Option<Refusal>>,
    /// Whether a check of the file does not return.
    pub(super) hanging: Hanging,
}
