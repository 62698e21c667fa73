//! Why the store cannot be read, changed or written. No variant shows a secret.

use std::path::PathBuf;

use thiserror::Error;

use crate::auth::password::PasswordError;
use crate::auth::principal::PrincipalError;

/// Why the store cannot be read, changed or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The operating system said no.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `read`.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's reason.
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
        /// What is wrong, without any secret of the file.
        reason: String,
    },
    /// A file without users, where there were some or none could come in: it was emptied, or is half written.
    #[error(
        "{}: there are no users in it; put it back, or remove it before a start to get the user rocketskates",
        path.display()
    )]
    NoUsers {
        /// The file.
        path: PathBuf,
    },
    /// The file changes faster than it can be read.
    #[error("{} is being written", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// Nobody could come in any more.
    #[error("{name:?} is the last user; add another before removing it")]
    LastUser {
        /// The user.
        name: String,
    },
    /// Somebody else has been writing for five seconds.
    #[error("{} is locked by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// There is no such user, role or tenant.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// `user`, `role` or `tenant`.
        what: &'static str,
        /// The name given.
        name: String,
    },
    /// There is one already.
    #[error("there is a {what} {name:?} already")]
    Exists {
        /// `user`, `role` or `tenant`.
        what: &'static str,
        /// The name given.
        name: String,
    },
    /// A role that somebody has cannot be removed.
    #[error("role {name:?} is in use by {users}")]
    InUse {
        /// The role.
        name: String,
        /// Who has it, as a comma list.
        users: String,
    },
    /// A user would be in two tenants.
    #[error("user {user:?} is in tenant {tenant:?} already; a user is in at most one")]
    TwoTenants {
        /// The user.
        user: String,
        /// Where it is already.
        tenant: String,
    },
    /// `superuser` is as it is.
    #[error("role \"superuser\" is built in and cannot be changed")]
    BuiltIn,
    /// Not a name.
    #[error(transparent)]
    Name(#[from] PrincipalError),
    /// Not a password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The system gives no threads to hash passwords on.
    #[error("cannot start the threads that hash passwords: {0}")]
    Threads(std::io::Error),
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

impl StoreError {
    /// Whether it may go away though the file stays as it is.
    pub(in crate::auth) fn may_pass(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Changing { .. } | Self::Locked { .. })
    }
}
