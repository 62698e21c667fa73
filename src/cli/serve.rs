//! `hydrant serve`: the broker with its listeners.

use thiserror::Error;

use crate::config::Settings;

/// Why the server did not start or did not go on.
#[derive(Debug, Error)]
pub enum ServeError {
    /// This build cannot serve.
    #[error("this build has no server; {listen} stays unbound")]
    Missing {
        /// Where it would have listened.
        listen: String,
    },
}

/// Runs until the process is asked to end.
///
/// # Errors
/// [`ServeError`].
pub fn run(settings: &Settings) -> Result<(), ServeError> {
    let all: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    Err(ServeError::Missing { listen: all.join(", ") })
}
