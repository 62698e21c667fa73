//! The reasons why a text is not an event, and where in it.

use std::fmt;

use thiserror::Error;

/// The reason why a text is not an event. Protocol: `docs/protocol.md`, "Events".
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("at byte {offset}: {fault}")]
pub struct EventError {
    /// Offset of the value that is wrong; of the closing brace if a value is missing.
    pub offset: usize,
    /// The kind of error.
    pub fault: EventFault,
}

/// The kind of error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventFault {
    /// The value is not a JSON object.
    NotAnObject,
    /// A field of the envelope has a value of the wrong type.
    NotAString {
        /// Name of the field.
        field: &'static str,
    },
    /// The `Time` does not follow RFC 3339; Go clients silently lose such events.
    BadTime {
        /// The given value, truncated to 64 characters.
        text: String,
    },
    /// The `Type` or `Action` of a posted event is missing or empty.
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// The `Type` or `Action` is missing where a person has to name it, though it may be empty.
    Unnamed {
        /// Name of the field.
        field: &'static str,
    },
    /// The type is reserved for answers to commands.
    Reserved,
    /// The type is reserved for the broker's own notices.
    Notice,
}

impl EventFault {
    /// Returns the error for this fault at an offset.
    pub(super) fn at(self, offset: usize) -> EventError {
        EventError { offset, fault: self }
    }
}

impl fmt::Display for EventFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("an event must be a JSON object"),
            Self::NotAString { field } => write!(f, "{field} must be a string"),
            Self::BadTime { text } => {
                write!(f, "Time is not an RFC 3339 time with at most nine fractional digits: {text:?}")
            }
            Self::Missing { field } => write!(f, "{field} is missing or empty"),
            Self::Unnamed { field } => write!(f, "{field} is missing"),
            Self::Reserved => f.write_str("Type `websocket` is reserved for answers to commands and cannot be posted"),
            Self::Notice => f.write_str("Type `hydrant` is reserved for notices of the broker and cannot be posted"),
        }
    }
}
