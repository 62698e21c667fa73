//! Reads the files that determine rights, and creates those that a new data directory lacks.
//!
//! Contract: blocks. An error names the file and, if it is invalid, the place. What is created is written under the
//! directory's lock, so that two servers that start at once have one store and one set of keys.

use std::sync::Arc;

use super::issuers::Issuers;
use super::keys::KeyRing;
use super::options::AuthOptions;
use super::store::file::{Directory, Lock};
use super::store::{Store, StoreError};
use crate::clock;

/// Creates the first store, with the user of every new server.
pub(super) fn first_store(directory: &Directory, lock: &Lock) -> Result<Store, StoreError> {
    let store = Store::first()?;
    directory.write_store(lock, &store)?;
    Ok(store)
}

/// Reads the token keys; `None` if there are none.
pub(super) fn read_keys(directory: &Directory) -> Result<Option<KeyRing>, StoreError> {
    let Some(text) = directory.read_keys()? else { return Ok(None) };
    KeyRing::parse(&text).map(Some).map_err(|(line, reason)| directory.invalid_keys(line, reason))
}

/// Reads the issuer's keys from the file; returns `last` if the file has not changed.
pub(super) fn read_issuers(
    directory: &Directory,
    options: &AuthOptions,
    last: Option<Arc<Issuers>>,
) -> Result<Option<Arc<Issuers>>, StoreError> {
    let Some(issuer) = &options.issuer else { return Ok(None) };
    let text = directory.read_foreign(&issuer.jwks)?;
    if let Some(last) = last.filter(|last| last.is_of(&text)) {
        return Ok(Some(last));
    }
    let invalid = |(line, column, reason)| StoreError::Invalid { path: issuer.jwks.clone(), line, column, reason };
    let issuers = Issuers::parse(issuer, text).map_err(invalid)?;
    let skipped = issuers.skipped();
    if !skipped.is_empty() {
        tracing::warn!(file = %issuer.jwks.display(), skipped = skipped.join("; "), "ignoring unusable keys of the \
            JWKS");
    }
    Ok(Some(Arc::new(issuers)))
}

/// Reads the token keys; creates them if they are missing.
pub(super) fn first_keys(directory: &Directory) -> Result<KeyRing, StoreError> {
    let lock = directory.lock()?;
    match read_keys(directory)? {
        Some(keys) => Ok(keys),
        None => new_keys(directory, &lock, KeyRing::make(clock::now())?),
    }
}

/// Writes token keys and returns them.
pub(super) fn new_keys(directory: &Directory, lock: &Lock, keys: KeyRing) -> Result<KeyRing, StoreError> {
    directory.write_keys(lock, &keys.to_text())?;
    Ok(keys)
}
