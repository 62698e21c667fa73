//! Secrets from the configuration: hidden in all output, or left in their file until they are needed.

use std::fmt;
use std::path::PathBuf;

use super::error::ClientError;

/// A password or token. `Debug` does not show it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text unchanged, including white space.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for the code that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// The source of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The secret is part of the settings.
    Inline(Secret),
    /// The secret is in a file, which is read each time, so that a new secret needs no restart.
    File(PathBuf),
}

impl SecretSource {
    /// Returns the current secret; that of a file without the line break at its end.
    ///
    /// # Errors
    /// Returns [`ClientError::SecretFile`] if the file cannot be read or is empty.
    pub fn read(&self) -> Result<Secret, ClientError> {
        let path = match self {
            Self::Inline(secret) => return Ok(secret.clone()),
            Self::File(path) => path,
        };
        let refuse = |reason: String| ClientError::SecretFile { path: path.clone(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() { Err(refuse("it is empty".to_owned())) } else { Ok(Secret::new(text)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_each_time_and_loses_its_last_line_break() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = SecretSource::File(file.path().to_owned());
        assert!(source.read().unwrap_err().to_string().ends_with("it is empty"));
        std::fs::write(file.path(), " a b \r\n").unwrap();
        assert_eq!(source.read().unwrap().reveal(), " a b ");
        std::fs::write(file.path(), "c").unwrap();
        assert_eq!(source.read().unwrap().reveal(), "c");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let shown = format!("{:?} {:?}", Secret::new("canary"), SecretSource::Inline(Secret::new("canary")));
        assert!(!shown.contains("canary"), "{shown}");
    }
}
