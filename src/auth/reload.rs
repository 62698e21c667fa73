//! Reads the files that determine rights again, and puts them in force.
//!
//! Contract: files are independent of each other: each is taken completely or not at all, whatever is wrong with the
//! others, and one whose file system does not answer holds up no other. Only one thread reads a file at a time; a
//! second one gives up after [`HANGS`]. No lock that concerns other files is held while a file is read.

use std::path::PathBuf;
use std::sync::Arc;

use super::authority::Authority;
use super::contents::{read_issuers, read_keys};
use super::issuers::Issuers;
use super::keys::KeyRing;
use super::state::State;
use super::store::{Store, StoreError};
use super::watched::{AuthFile, ReloadError, Watched};
use crate::clock;
use crate::files::{HANGS, Marks, Refusal};

/// The content of a file.
enum Content {
    Users(Store),
    TokenKeys(KeyRing),
    IssuerKeys(Option<Arc<Issuers>>),
}

impl Authority {
    /// Reads the files again. Returns whether anything has changed. Blocks.
    ///
    /// # Errors
    /// [`ReloadError`] lists the files that are missing or invalid; their previous content stays in force.
    pub fn reload(&self) -> Result<bool, ReloadError> {
        let mut changed = false;
        let mut errors = Vec::new();
        for file in AuthFile::ALL {
            match self.reload_file(file) {
                Ok(other) => changed |= other,
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(changed) } else { Err(ReloadError(errors)) }
    }

    /// Reads a changed file and logs the result. Returns whether it could be read, even if its content is refused.
    pub(super) fn follow_up(&self, file: AuthFile) -> bool {
        let before = self.refusal(file).map(|refusal| refusal.reason);
        match self.reload_file(file) {
            Ok(true) => {
                let (path, generation) = (self.path_of(file).unwrap_or_default(), self.generation());
                tracing::info!(file = %path.display(), generation, "reloaded a changed file");
            }
            Ok(false) => {}
            Err(error) => {
                if self.refusal(file).map(|refusal| refusal.reason) != before {
                    tracing::error!(%error, "cannot use the changed file; its previous contents stay in force");
                }
                return !error.may_pass();
            }
        }
        true
    }

    /// Returns the marks of a file as it is now. Blocks.
    pub(super) fn marks(&self, file: AuthFile) -> Marks {
        Marks::of(self.path_of(file).as_deref())
    }

    /// Returns the path of a file; `None` if it is not configured.
    pub(super) fn path_of(&self, file: AuthFile) -> Option<PathBuf> {
        let issuer = self.options.issuer.as_ref();
        match file {
            AuthFile::Users => Some(self.directory.users_path()),
            AuthFile::TokenKeys => Some(self.directory.keys_path()),
            AuthFile::IssuerKeys => issuer.map(|issuer| self.directory.foreign_path(&issuer.jwks)),
        }
    }

    /// Returns the changes that are not in force, and the files of which nobody can tell.
    pub fn refusals(&self) -> Vec<(AuthFile, Refusal)> {
        let of = |file| self.watched(file).hanging.refusal().or_else(|| self.refusal(file));
        AuthFile::ALL.into_iter().filter_map(|file| Some((file, of(file)?))).collect()
    }

    pub(super) fn watched(&self, file: AuthFile) -> &Watched {
        &self.watched[file as usize]
    }

    fn refusal(&self, file: AuthFile) -> Option<Refusal> {
        self.watched(file).refusal.lock().clone()
    }

    pub(super) fn reload_file(&self, file: AuthFile) -> Result<bool, StoreError> {
        let taken = self.take(file);
        let reason = taken.as_ref().err().map(ToString::to_string);
        Refusal::note(&mut self.watched(file).refusal.lock(), reason, clock::now());
        taken
    }

    /// Reads a file and puts its content in force. Returns whether it has changed.
    fn take(&self, file: AuthFile) -> Result<bool, StoreError> {
        let hangs = || StoreError::Hanging { path: self.path_of(file).unwrap_or_default() };
        let _one = self.watched(file).reading.try_lock_for(HANGS).ok_or_else(hangs)?;
        let content = self.read(file)?;
        let _replacing = self.replacing.lock();
        let Some(next) = next_state(&self.state.load(), content) else { return Ok(false) };
        self.state.store(Arc::new(next));
        self.signal();
        Ok(true)
    }

    fn read(&self, file: AuthFile) -> Result<Content, StoreError> {
        let (last, directory) = (self.state.load_full(), &self.directory);
        Ok(match file {
            AuthFile::Users => {
                let store = directory.read_store()?.ok_or_else(|| directory.missing_store())?;
                if store.users().is_empty() && !last.store.users().is_empty() {
                    return Err(directory.no_users());
                }
                Content::Users(store)
            }
            AuthFile::TokenKeys => Content::TokenKeys(read_keys(directory)?.ok_or_else(|| directory.missing_keys())?),
            AuthFile::IssuerKeys => Content::IssuerKeys(read_issuers(directory, &self.options, last.issuers.clone())?),
        })
    }
}

/// Returns the state with this content; `None` if it is the same.
fn next_state(last: &State, content: Content) -> Option<State> {
    let (mut store, mut keys, mut issuers) = (Arc::clone(&last.store), Arc::clone(&last.keys), last.issuers.clone());
    match content {
        Content::Users(read) => store = Arc::new(read),
        Content::TokenKeys(read) => keys = Arc::new(read),
        Content::IssuerKeys(read) => issuers = read,
    }
    let is_same = (&store, &keys, &issuers) == (&last.store, &last.keys, &last.issuers);
    (!is_same).then(|| last.next(store, keys, issuers))
}
