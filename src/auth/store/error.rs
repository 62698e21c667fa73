//! Errors of reading, changing and writing the store. No variant shows a secret.

use std::path::PathBuf;

use thiserror::Error;

use crate::auth::password::PasswordError;
use crate::auth::principal::PrincipalError;
use crate::files::HANGS;

/// The reason why the store cannot be read, changed or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The operating system reported an error.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The operation, such as `read`.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file has a mistake.
    #[error("{}:{line}:{column}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// Counted from one, in bytes.
        column: usize,
        /// The mistake, without any secret of the file.
        reason: String,
    },
    /// The file has lost all its users, or is empty at the start: it was emptied, or is half written.
    #[error(
        "{}: the file has no users; restore it, or remove it before a start to create the user rocketskates",
        path.display()
    )]
    NoUsers {
        /// The file.
        path: PathBuf,
    },
    /// The file changes faster than it can be read.
    #[error("{} is being written by another process; try again", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// Somebody reads the file and has not come to an end: its file system does not answer.
    #[error("cannot read {}: an earlier attempt has not returned for {} s", path.display(), HANGS.as_secs())]
    Hanging {
        /// The file.
        path: PathBuf,
    },
    /// Removing the last user would lock everybody out.
    #[error("{name:?} is the last user; add another before removing it")]
    LastUser {
        /// The user.
        name: String,
    },
    /// Another process has held the lock for five seconds.
    #[error("{} is locked by another hydrant process; try again", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// There is no such user, role or tenant.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// `user`, `role` or `tenant`.
        what: &'static str,
        /// The given name.
        name: String,
    },
    /// A user, role or tenant of this name already exists.
    #[error("the {what} {name:?} already exists")]
    Exists {
        /// `user`, `role` or `tenant`.
        what: &'static str,
        /// The given name.
        name: String,
    },
    /// The role cannot be removed because users have it.
    #[error("role {name:?} is still assigned to {users}")]
    InUse {
        /// The role.
        name: String,
        /// The users who have it, as a comma list.
        users: String,
    },
    /// A user would be in two tenants.
    #[error("user {user:?} is already in tenant {tenant:?}; a user can be in only one")]
    TwoTenants {
        /// The user.
        user: String,
        /// The user's current tenant.
        tenant: String,
    },
    /// The role `superuser` cannot be changed.
    #[error("role \"superuser\" is built in and cannot be changed")]
    BuiltIn,
    /// Not a valid name.
    #[error(transparent)]
    Name(#[from] PrincipalError),
    /// Not a valid password or hash.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The system cannot start the threads that hash passwords.
    #[error("cannot start the threads that hash passwords: {0}")]
    Threads(std::io::Error),
    /// The system provides no random numbers.
    #[error("cannot get random numbers from the system: {0}")]
    Random(#[from] getrandom::Error),
}

impl StoreError {
    /// Returns whether the error may go away although the file stays as it is.
    pub(in crate::auth) fn may_pass(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Changing { .. } | Self::Locked { .. } | Self::Hanging { .. })
    }
}
