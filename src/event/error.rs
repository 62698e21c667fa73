//! The reasons why a text is not an event.

use thiserror::Error;

/// The reason why a text is not an event. Protocol: `docs/protocol.md`, "Events".
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum EventError {
    /// The value is not a JSON object.
    #[error("an event must be a JSON object")]
    NotAnObject,
    /// A field of the envelope has a value of the wrong type.
    #[error("{field} must be a string")]
    NotAString {
        /// Name of the field.
        field: &'static str,
    },
    /// The `Time` does not follow RFC 3339; Go clients silently lose such events.
    #[error("Time is not an RFC 3339 time with at most nine fractional digits: {text:?}")]
    BadTime {
        /// The given value, truncated to 64 characters.
        text: String,
    },
    /// The `Type` or `Action` of a posted event is missing or empty, or it is missing where a person has to name it.
    #[error("{field} is missing or empty")]
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// The type is reserved for answers to commands.
    #[error("Type `websocket` is reserved for answers to commands and cannot be posted")]
    Reserved,
    /// The type is reserved for the broker's own notices.
    #[error("Type `hydrant` is reserved for notices of the broker and cannot be posted")]
    Notice,
}
