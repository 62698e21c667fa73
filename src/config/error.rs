//! Configuration errors with their locations.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a TOML file; line and column count from one, columns in characters.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// In an environment variable.
    Variable(String),
    /// In a command line flag.
    Flag(&'static str),
    /// Nowhere: it is the default.
    Default,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Read {
        /// The file as it was named.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{location}: {reason}")]
    Syntax {
        /// Where.
        location: Location,
        /// What the parser says.
        reason: String,
    },
    /// There is no such setting.
    #[error("{location}: unknown {what} `{name}`{}", hint(near.as_deref()))]
    Unknown {
        /// Where.
        location: Location,
        /// `key` or `variable`.
        what: &'static str,
        /// The name as given.
        name: String,
        /// A setting with nearly that name.
        near: Option<String>,
    },
    /// A value that the setting cannot take.
    #[error("{location}: {key}: {reason}")]
    Value {
        /// Where.
        location: Location,
        /// The setting.
        key: &'static str,
        /// What is wrong with the value, and what is right.
        reason: String,
    },
}

fn hint(near: Option<&str>) -> String {
    near.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// All that is wrong with a configuration; never empty. Displayed one a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}
