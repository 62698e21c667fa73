//! The log lines that clients can cause: by their logins, or by events that they post at the endpoint.
//!
//! Contract: of each kind there is one in ten seconds at most, of bounded length; those left out are counted.

use std::fmt;

use hyper::StatusCode;

use super::error::IdentityError;
use crate::clock;
use crate::logging::summary::Summary;

/// The maximum number of rows that a line names.
const ROWS: usize = 16;

/// The maximum number of characters of a row's name.
const NAME: usize = 64;

/// Counts the lines of each kind.
#[derive(Debug, Default)]
pub(super) struct Lines {
    undecided: Summary,
    unread: Summary,
    keys: Summary,
    users: Summary,
    long_users: Summary,
    roles: Summary,
    tenants: Summary,
}

impl Lines {
    /// Logs why the endpoint could not check a credential.
    pub(super) fn undecided(&self, reason: &dyn fmt::Display) {
        if let Some(suppressed) = self.undecided.count(clock::instant()) {
            tracing::warn!(%reason, suppressed, "the endpoint cannot check a credential");
        }
    }

    /// Logs why a login could not read the endpoint.
    pub(super) fn unread(&self, failure: &IdentityError) {
        if let Some(suppressed) = self.unread.count(clock::instant()) {
            tracing::error!(error = %failure, suppressed, "cannot read the endpoint's users, roles and tenants");
        }
    }

    /// Logs that the endpoint's preferences could not be read.
    pub(super) fn unread_keys(&self, status: StatusCode) {
        if let Some(suppressed) = self.keys.count(clock::instant()) {
            tracing::warn!(%status, suppressed, "cannot read the endpoint's preferences now; retrying");
        }
    }

    /// Logs why so many users could not be read.
    pub(super) fn unread_users(&self, error: &IdentityError, left: usize) {
        if let Some(suppressed) = self.users.count(clock::instant()) {
            tracing::warn!(%error, left, suppressed, "cannot read some of the endpoint's users; retrying");
        }
    }

    /// Logs that a user is unknown because the endpoint returns more than `allowed` bytes about it.
    pub(super) fn long_user(&self, name: &str, allowed: usize) {
        if let Some(suppressed) = self.long_users.count(clock::instant()) {
            let user: String = name.chars().take(NAME).collect();
            tracing::warn!(user, allowed, suppressed, "ignoring a user about whom the endpoint returns too much");
        }
    }

    /// Logs which rows of the list of roles are ignored.
    pub(super) fn bad_roles(&self, rows: &[String]) {
        bad_rows(&self.roles, "roles", rows);
    }

    /// Logs which rows of the list of tenants are ignored.
    pub(super) fn bad_tenants(&self, rows: &[String]) {
        bad_rows(&self.tenants, "tenants", rows);
    }
}

fn bad_rows(summary: &Summary, list: &str, rows: &[String]) {
    if !rows.is_empty()
        && let Some(suppressed) = summary.count(clock::instant())
    {
        let named: Vec<String> = rows.iter().take(ROWS).map(|name| name.chars().take(NAME).collect()).collect();
        let count = rows.len();
        tracing::warn!(list, count, rows = ?named, suppressed, "ignoring unreadable rows of a list of the endpoint");
    }
}
