//! Values in filters.

use std::fmt;

use thiserror::Error;

use super::canonical::canonical;

/// A JSON value, stored as its canonical text; see [`canonical`](mod@super::canonical).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(Box<str>);

/// The reason why an argument is not a value.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ValueError {
    /// There is nothing between the commas.
    #[error("a value is missing (the empty string is written \"\")")]
    Empty,
    /// The argument starts like JSON but is not valid.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// Arrays and objects are nested beyond the limit.
    #[error("a value nested deeper than {0}")]
    Nested(usize),
}

impl Value {
    /// Parses a trimmed argument: as JSON if it is valid JSON, otherwise as a string that contains the text itself,
    /// unless it starts like a JSON string, array or object.
    ///
    /// # Errors
    /// [`ValueError`] with the byte offset in `text`.
    pub fn parse(text: &str, nesting: usize) -> Result<Self, (usize, ValueError)> {
        if text.is_empty() {
            return Err((0, ValueError::Empty));
        }
        match serde_json::from_str::<&serde_json::value::RawValue>(text) {
            Ok(raw) => Self::from_json(raw.get(), nesting),
            Err(error) if text.starts_with(['"', '[', '{']) => {
                Err((offset_of(text, &error), ValueError::Json(reason(&error))))
            }
            Err(_) => Ok(Self::string(text)),
        }
    }

    fn from_json(raw: &str, nesting: usize) -> Result<Self, (usize, ValueError)> {
        if let Some(at) = deeper_than(raw, nesting) {
            return Err((at, ValueError::Nested(nesting)));
        }
        let text = String::from_utf8(canonical(raw.as_bytes()).into_owned()).expect("made from text");
        Ok(Self(text.into_boxed_str()))
    }

    /// Creates a JSON string from `text`.
    pub fn string(text: &str) -> Self {
        let mut quoted = Vec::with_capacity(text.len() + 2);
        crate::json::quote(text, &mut quoted);
        Self(String::from_utf8(quoted).expect("made from text").into_boxed_str())
    }

    /// Returns the canonical JSON text.
    pub fn as_str(&self) -> &str {
        #[cfg(test)]
        super::steps::take();
        &self.0
    }

    /// Returns whether the value is an array or an object.
    pub fn is_compound(&self) -> bool {
        self.0.starts_with(['[', '{'])
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the offset of a bracket that opens a level beyond `limit`.
fn deeper_than(json: &str, limit: usize) -> Option<usize> {
    let bytes = json.as_bytes();
    let (mut depth, mut at, mut quoted) = (0_usize, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth -= 1,
            _ => {}
        }
        if depth > limit {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Converts the line and column of serde (in bytes, from 1) to an offset in bytes from 0.
fn offset_of(text: &str, error: &serde_json::Error) -> usize {
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    (before + error.column().saturating_sub(1)).min(text.len())
}

/// Returns the message without serde's own position.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        Value::parse(text, 8).unwrap().to_string()
    }

    #[test]
    fn json_is_json_and_the_rest_is_text() {
        for (text, canon) in [
            ("true", "true"),
            ("12", "12"),
            ("1.0", "1"),
            ("\"12\"", "\"12\""),
            ("universal-runbook", "\"universal-runbook\""),
            ("01", "\"01\""),
            ("NaN", "\"NaN\""),
            ("a b", "\"a b\""),
            ("say \"x\"", r#""say \"x\"""#),
            (r#"{"b": 1, "a": [ ]}"#, r#"{"a":[],"b":1}"#),
        ] {
            assert_eq!(parsed(text), canon, "{text}");
            assert_eq!(parsed(canon), canon, "stable");
        }
    }

    #[test]
    fn broken_json_is_refused_with_the_place() {
        assert_eq!(Value::parse("", 8), Err((0, ValueError::Empty)));
        for (text, at) in [("\"abc", 3), ("[1,", 2), ("{\"a\":}", 5), ("[1]x", 3)] {
            let (offset, error) = Value::parse(text, 8).unwrap_err();
            assert_eq!(offset, at, "{text}: {error}");
            assert!(matches!(error, ValueError::Json(_)), "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(Value::parse("[[[[[[[[1]]]]]]]]", 8).is_ok());
        assert_eq!(Value::parse("[[[[[[[[[1]]]]]]]]]", 8), Err((8, ValueError::Nested(8))));
        assert_eq!(parsed(r#"["[[[[[[[[[\"[["]"#), r#"["[[[[[[[[[\"[["]"#);
    }
}
