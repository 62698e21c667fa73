//! The reasons why a command on users, roles, tenants or tokens failed.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::auth::{
    ClaimError, IssueError, LimitError, PasswordError, PrincipalError, StoreError, TokenError, TtlError,
};
use crate::config::ConfigErrors;

/// The reason why a command failed.
#[derive(Debug, Error)]
pub(crate) enum UsersError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    #[error(transparent)]
    Ttl(#[from] TtlError),
    #[error(transparent)]
    Token(#[from] IssueError),
    #[error(transparent)]
    CheckedToken(#[from] TokenError),
    #[error("{0}")]
    Usage(String),
    #[error("{path}: {source}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl UsersError {
    /// Returns whether the arguments or the configuration are at fault.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Claim(_)
                | Self::Limit(_)
                | Self::Principal(_)
                | Self::Ttl(_)
                | Self::Usage(_)
                | Self::Token(
                    IssueError::Ttl { .. } | IssueError::Claim(_) | IssueError::Principal(_) | IssueError::Roles
                )
                | Self::Store(StoreError::Name(_) | StoreError::Password(PasswordError::Length))
        )
    }
}
