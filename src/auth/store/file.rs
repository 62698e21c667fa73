//! Reads and writes `auth.toml` and `token-keys.toml` in the data directory.
//!
//! Contract: a reader sees the old file or the new one, never a mixture (written to a temporary file, synced,
//! renamed). Writers exclude each other by a lock on `auth.lock`, across processes too, so the command line may edit
//! while a server runs. Only the owner can read the files; a missing directory is created the same way. Everything
//! here blocks.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Store, StoreError, parse};
use crate::files::{self, Marks, is_taken};

const STORE: &str = "auth.toml";
const KEYS: &str = "token-keys.toml";
const LOCK: &str = "auth.lock";

/// The number of times that a writer tries to lock, at intervals of [`LOCK_PAUSE`].
const LOCK_TRIES: u32 = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The number of times that a file is read if it changes meanwhile.
const READ_TRIES: u32 = 5;

const HEADER: &str = "\
# Users, roles and tenants of hydrant. Change them with `hydrant users|roles|tenants`, or here: a running server
# applies a change at once and rejects a file with an error. The commands remove comments.

";

/// The data directory.
#[derive(Debug, Clone)]
pub(in crate::auth) struct Directory(PathBuf);

/// The write lock on the files, held until it is dropped.
#[derive(Debug)]
pub(in crate::auth) struct Lock(#[allow(dead_code, reason = "closing the file gives the lock back")] File);

impl Directory {
    pub(in crate::auth) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Returns the path of the users, roles and tenants.
    pub(in crate::auth) fn users_path(&self) -> PathBuf {
        self.path(STORE)
    }

    /// Returns the path of the keys that sign tokens.
    pub(in crate::auth) fn keys_path(&self) -> PathBuf {
        self.path(KEYS)
    }

    /// Resolves the path of a file that hydrant does not write.
    pub(in crate::auth) fn foreign_path(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Creates the directory if it is missing and waits until no other process writes.
    pub(in crate::auth) fn lock(&self) -> Result<Lock, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|source| io("create", &self.0, source))?;
        let path = self.path(LOCK);
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = open.map_err(|source| io("open", &path, source))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Lock(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(source)) => return Err(io("lock", &path, source)),
            }
        }
        Err(StoreError::Locked { path })
    }

    /// Reads the store; returns `None` if there is no file.
    pub(in crate::auth) fn read_store(&self) -> Result<Option<Store>, StoreError> {
        let Some(text) = self.read(STORE)? else { return Ok(None) };
        parse::store(&text).map(Some).map_err(|mistake| StoreError::Invalid {
            path: self.path(STORE),
            line: mistake.line,
            column: mistake.column,
            reason: mistake.reason,
        })
    }

    pub(in crate::auth) fn write_store(&self, _lock: &Lock, store: &Store) -> Result<(), StoreError> {
        let body = toml::to_string(store).expect("a store is made of tables, lists and texts");
        self.write(STORE, &format!("{HEADER}{body}"))
    }

    pub(in crate::auth) fn read_keys(&self) -> Result<Option<String>, StoreError> {
        self.read(KEYS)
    }

    pub(in crate::auth) fn write_keys(&self, _lock: &Lock, text: &str) -> Result<(), StoreError> {
        self.write(KEYS, text)
    }

    pub(in crate::auth) fn invalid_keys(&self, line: usize, reason: &str) -> StoreError {
        StoreError::Invalid { path: self.path(KEYS), line, column: 1, reason: reason.to_owned() }
    }

    /// Reads a file that hydrant does not write.
    pub(in crate::auth) fn read_foreign(&self, path: &Path) -> Result<String, StoreError> {
        read_whole(&self.0.join(path))
    }

    pub(in crate::auth) fn missing_store(&self) -> StoreError {
        io("read", &self.path(STORE), missing())
    }

    pub(in crate::auth) fn missing_keys(&self) -> StoreError {
        io("read", &self.path(KEYS), missing())
    }

    pub(in crate::auth) fn no_users(&self) -> StoreError {
        StoreError::NoUsers { path: self.path(STORE) }
    }

    /// Removes temporary files that a killed command left behind. Failing to do so is harmless: the next start tries
    /// again.
    pub(in crate::auth) fn clean(&self) {
        let left: Vec<PathBuf> =
            [STORE, KEYS].map(|name| self.beside(name)).into_iter().filter(|p| p.exists()).collect();
        // No other process writes while the lock is held.
        let Some(_lock) = (!left.is_empty()).then(|| self.lock().ok()).flatten() else { return };
        for path in left {
            match std::fs::remove_file(&path) {
                Ok(()) => tracing::info!(file = %path.display(), "removed a temporary file of a command that was \
                    killed"),
                Err(error) => tracing::warn!(file = %path.display(), %error, "cannot remove a temporary file of a \
                    command that was killed"),
            }
        }
    }

    fn read(&self, name: &str) -> Result<Option<String>, StoreError> {
        let path = self.path(name);
        match read_whole(&path) {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound && !is_taken(&path) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Returns the path at which a new version is written before it replaces the old one.
    fn beside(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.new"))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), StoreError> {
        let path = self.path(name);
        let beside = self.beside(name);
        let written = files::replace(&self.0, &beside, &path, (text, files::SECRET));
        if written.is_err() {
            // Report the first error, which is the cause; a temporary file that remains is overwritten next time.
            let _ = std::fs::remove_file(&beside);
        }
        written.map_err(|source| io("write", &path, source))
    }
}

fn missing() -> std::io::Error {
    std::io::Error::new(ErrorKind::NotFound, "there is no such file")
}

/// Reads a file as a whole, never while it is being written.
fn read_whole(path: &Path) -> Result<String, StoreError> {
    for _ in 0..READ_TRIES {
        let before = Marks::of([path]);
        let text = files::read_text(path).map_err(|source| io("read", path, source))?;
        if Marks::of([path]) == before {
            return Ok(text);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(StoreError::Changing { path: path.to_owned() })
}

fn io(what: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io { what, path: path.to_owned(), source }
}

/// Changes the store in a data directory: reads it under the lock, applies `change`, and writes it if that succeeds. A
/// running server applies the change by itself. If there was no store and `change` adds no user, the store gets the
/// user of a first start, so that nobody is locked out.
///
/// # Errors
/// The error of `change`, or [`StoreError`] if a file cannot be read or written or is invalid.
pub fn edit<T>(data_dir: &Path, change: impl FnOnce(&mut Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
    let directory = Directory::new(data_dir);
    let lock = directory.lock()?;
    let found = directory.read_store()?;
    let fresh = found.is_none();
    let mut store = found.unwrap_or_default();
    let result = change(&mut store)?;
    if fresh {
        store.ensure_user()?;
    }
    directory.write_store(&lock, &store)?;
    Ok(result)
}

/// Returns the path of the store in a data directory.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(STORE)
}

/// Returns the file with the keys of tokens in a data directory.
pub fn keys_path(directory: &Path) -> PathBuf {
    directory.join(KEYS)
}

/// Reads the store in a data directory.
///
/// # Errors
/// [`StoreError`] if the file is missing, unreadable or invalid.
pub fn read(data_dir: &Path) -> Result<Store, StoreError> {
    let directory = Directory::new(data_dir);
    directory.read_store()?.ok_or_else(|| directory.missing_store())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::auth::claim::Claim;

    fn role(data_dir: &Path, name: &str) -> Result<(), StoreError> {
        edit(data_dir, |store| store.set_role(name, vec![Claim::everything()]))
    }

    #[test]
    fn files_are_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        role(&data, "one").unwrap();
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(data.clone()), mode(data.join(STORE)), mode(data.join(LOCK))), (0o700, 0o600, 0o600));
        assert!(!data.join("auth.toml.new").exists());
    }

    /// Users that are not there yet must not be replaced by the well-known one.
    #[test]
    fn a_link_whose_target_is_missing_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join(STORE);
        std::os::unix::fs::symlink("not-mounted", &store).unwrap();
        let told = role(dir.path(), "one").unwrap_err().to_string();
        assert!(told.contains(store.to_str().unwrap()) && store.is_symlink(), "{told}");
    }

    #[test]
    fn a_change_that_fails_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        role(dir.path(), "one").unwrap();
        let marks = || Marks::of([dir.path().join(STORE).as_path()]);
        let before = marks();
        let refused = edit(dir.path(), |store| {
            store.set_role("two", Vec::new())?;
            store.remove_role("three")
        });
        assert!(matches!(refused, Err(StoreError::NotFound { .. })));
        assert_eq!(marks(), before);
        assert_eq!(read(dir.path()).unwrap().roles().len(), 1);
    }

    #[test]
    fn writers_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let data = dir.path();
                scope.spawn(move || {
                    for n in 0..5 {
                        // Who locks again at once may let others wait for longer than they are patient.
                        while let Err(error) = role(data, &format!("role-{writer}-{n}")) {
                            assert!(matches!(error, StoreError::Locked { .. }), "{error}");
                        }
                    }
                });
            }
        });
        assert_eq!(read(dir.path()).unwrap().roles().len(), 40, "no writer undoes another's work");
    }

    #[test]
    fn a_bad_file_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(STORE), "[users.alice]\nroles = [\"x\"]\nsecret = \"AAAAAAAAAAAAAAAAAAAAAA\"\n")
            .unwrap();
        let error = role(dir.path(), "one").unwrap_err().to_string();
        assert!(error.ends_with("auth.toml:2:10: there is no role \"x\""), "{error}");
    }
}
