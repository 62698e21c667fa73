//! Configuration errors with their locations.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a TOML file. Line and column are counted from one, columns in characters.
    File {
        /// Path of the file, as given.
        path: PathBuf,
        /// Line number.
        line: usize,
        /// Column number.
        column: usize,
    },
    /// In the environment variable with this name.
    Variable(String),
    /// In a command line flag.
    Flag(&'static str),
    /// Nowhere: the value is the default.
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

/// An error in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Read {
        /// Path of the file, as given.
        path: PathBuf,
        /// The error of the operating system, or why such a file is not read.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{location}: {reason}")]
    Syntax {
        /// Location of the error.
        location: Location,
        /// The error of the parser.
        reason: String,
    },
    /// The setting does not exist.
    #[error("{location}: unknown {what} `{name}`{}", hint(near.as_deref()))]
    Unknown {
        /// Location of the name.
        location: Location,
        /// `key` or `variable`.
        what: &'static str,
        /// The given name.
        name: String,
        /// A setting with a similar name.
        near: Option<String>,
    },
    /// The value is invalid for the setting.
    #[error("{location}: {key}: {reason}")]
    Value {
        /// Location of the value.
        location: Location,
        /// Name of the setting.
        key: &'static str,
        /// What is wrong with the value, and what is valid.
        reason: String,
    },
}

fn hint(near: Option<&str>) -> String {
    near.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// All errors in a configuration; never empty. Displayed one per line.
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
