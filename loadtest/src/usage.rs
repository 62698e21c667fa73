//! The error of a command line that can be parsed, but not be done.

use std::fmt;

/// What the command line asks for is impossible. Exit status 2, as for one that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}
