//! Parses the commands of a client: `register SPEC` and `deregister SPEC`.
//!
//! Contract: one text message is one command. White space around the message and between verb and SPEC is trimmed, and
//! verbs are lower case (`docs/protocol.md`, "Commands"). The index parses the SPEC itself.

use std::borrow::Cow;

use thiserror::Error;

/// A command from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'t> {
    /// Starts delivery of the events that match the SPEC.
    Register(&'t str),
    /// Ends the registration with exactly this SPEC.
    Deregister(&'t str),
}

/// The reason why a message is not a command.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// The message is empty.
    #[error("empty message: expected `register SPEC` or `deregister SPEC`")]
    Empty,
    /// The first word is not a verb.
    #[error("unknown command {verb:?}: expected `register SPEC` or `deregister SPEC`")]
    UnknownVerb {
        /// The first word, truncated to 64 characters.
        verb: String,
    },
    /// The message is binary.
    #[error("binary message: commands are text messages")]
    Binary,
}

impl<'t> Command<'t> {
    /// Parses a message.
    ///
    /// # Errors
    /// Returns a [`CommandError`] if the message is not a command. A missing SPEC is not an error here: it is an empty
    /// SPEC.
    pub fn parse(message: &'t str) -> Result<Self, CommandError> {
        let message = message.trim();
        let (verb, spec) = message.split_once(char::is_whitespace).unwrap_or((message, ""));
        match verb {
            "register" => Ok(Self::Register(spec.trim_start())),
            "deregister" => Ok(Self::Deregister(spec.trim_start())),
            "" => Err(CommandError::Empty),
            _ => Err(CommandError::UnknownVerb { verb: verb.chars().take(64).collect() }),
        }
    }

    /// Returns the verb, which is the Action of the answer.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::Deregister(_) => "deregister",
        }
    }

    /// Returns the text of the registration.
    pub fn spec(self) -> &'t str {
        match self {
            Self::Register(spec) | Self::Deregister(spec) => spec,
        }
    }
}

/// Returns the part of a command, or of the reason why it is refused, that may be logged: the text up to the first
/// value of a filter.
pub fn without_values(text: &str) -> Cow<'_, str> {
    match text.find(['(', '=', '"', '`']) {
        Some(at) => Cow::Owned(format!("{}...", &text[..=at])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_trimmed_but_kept_inside() {
        assert_eq!(Command::parse(" register  a.b.* \n"), Ok(Command::Register("a.b.*")));
        assert_eq!(Command::parse("deregister\ta.b.c d"), Ok(Command::Deregister("a.b.c d")));
        assert_eq!(Command::parse("register"), Ok(Command::Register("")));
    }

    #[test]
    fn values_are_not_for_logs() {
        for (text, told) in [
            ("machines.update.*", "machines.update.*"),
            ("machines.*.*.Object.Secret=Eq(CANARY)", "machines.*.*.Object.Secret=..."),
            ("machines.*.*.Or(A=Eq(CANARY),B=Eq(CANARY))", "machines.*.*.Or(..."),
            ("unknown operator \"CANARY\"", "unknown operator \"..."),
        ] {
            assert_eq!(without_values(text), told);
        }
    }

    #[test]
    fn junk_is_named() {
        assert_eq!(Command::parse(" \n"), Err(CommandError::Empty));
        for junk in ["REGISTER a.b.c", "registera.b.c", "{\"a\":1}"] {
            assert!(matches!(Command::parse(junk), Err(CommandError::UnknownVerb { .. })), "{junk}");
        }
    }
}
