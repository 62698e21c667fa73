//! Walking over JSON text that is already known to be valid.
//!
//! An event passes through hydrant byte for byte apart from insignificant white space, so its objects are never
//! decoded and encoded again: [`Validator::validate`] asks simd-json once whether the text is JSON, and the functions here
//! then find their way through the text itself.
//!
//! Contract: everything but [`Validator::validate`] expects valid JSON. On other text the functions still end and never read
//! out of bounds, but what they return means nothing. Nothing here recurses, so nesting cannot exhaust the stack.
//!
//! Why not simd-json's tape alone: the tape keeps no place in the source text, and numbers beyond 64 bits lose digits in it.

use std::borrow::Cow;

use thiserror::Error;

/// Why a text is not JSON.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("not valid JSON at byte {offset}: {reason}")]
pub struct JsonError {
    /// Byte offset of the first byte that does not fit.
    pub offset: usize,
    /// What the parser says about it.
    pub reason: String,
}

/// Reusable memory for [`Validator::validate`].
#[derive(Default)]
pub struct Validator {
    scratch: Vec<u8>,
    buffers: simd_json::Buffers,
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Validator").finish_non_exhaustive()
    }
}

impl Validator {
    /// Tells whether `text` is one JSON value with nothing but white space around it.
    ///
    /// # Errors
    /// [`JsonError`] with the place. Nesting deeper than 1,024 is an error too (simd-json's own limit).
    pub fn validate<'t>(&mut self, text: &'t [u8]) -> Result<&'t str, JsonError> {
        let text = std::str::from_utf8(text)
            .map_err(|e| JsonError { offset: e.valid_up_to(), reason: "not UTF-8".to_owned() })?;
        self.scratch.clear();
        self.scratch.extend_from_slice(text.as_bytes());
        match simd_json::to_tape_with_buffers(&mut self.scratch, &mut self.buffers) {
            Ok(_) => Ok(text),
            Err(e) => Err(JsonError { offset: e.index(), reason: reason(&e) }),
        }
    }
}

/// simd-json names its errors by variants; the name is the reason, split into words.
fn reason(error: &simd_json::Error) -> String {
    let name = format!("{:?}", error.error());
    let mut words = String::with_capacity(name.len() + 8);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// Appends `text` to `out` without its insignificant white space.
pub fn compact(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut from = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at),
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.extend_from_slice(&bytes[from..at]);
                at += 1;
                from = at;
            }
            _ => at += 1,
        }
    }
    out.extend_from_slice(&bytes[from..]);
}

/// The offset behind the string that starts at `at` (which must be its opening quote).
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The offset behind the value that starts at `at` (which must be its first byte).
fn value_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth > 0 => {
                at += 1;
                continue;
            }
            _ => at = scalar_end(bytes, at),
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// The offset behind a number or a literal name.
fn scalar_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at + 1..).unwrap_or_default();
    let ends = |b: &u8| matches!(b, b',' | b':' | b'}' | b']' | b'"' | b' ' | b'\t' | b'\n' | b'\r');
    at + 1 + rest.iter().position(ends).unwrap_or(rest.len())
}

fn skip_space(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(rest.len())
}

/// One member of an object, as it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'t> {
    /// The name with its quotes and escapes.
    pub name: &'t str,
    /// The value.
    pub value: &'t str,
    /// Byte offset of the value in the text that was walked.
    pub offset: usize,
}

impl<'t> Member<'t> {
    /// The name, decoded.
    pub fn name(&self) -> Cow<'t, str> {
        unquote(self.name)
    }
}

/// The members of an object in the order of the text, duplicates included. Empty for anything but an object.
pub fn members(text: &str) -> Members<'_> {
    let at = skip_space(text.as_bytes(), 0);
    let open = text.as_bytes().get(at) == Some(&b'{');
    Members { text, at: if open { at + 1 } else { text.len() } }
}

/// See [`members`].
#[derive(Debug, Clone)]
pub struct Members<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Iterator for Members<'t> {
    type Item = Member<'t>;

    fn next(&mut self) -> Option<Member<'t>> {
        let bytes = self.text.as_bytes();
        let mut start = skip_space(bytes, self.at);
        if bytes.get(start) == Some(&b',') {
            start = skip_space(bytes, start + 1);
        }
        if bytes.get(start) != Some(&b'"') {
            self.at = bytes.len();
            return None;
        }
        let name_end = string_end(bytes, start);
        let colon = skip_space(bytes, name_end);
        let value = skip_space(bytes, colon + 1);
        self.at = value_end(bytes, value);
        Some(Member { name: &self.text[start..name_end], value: self.text.get(value..self.at)?, offset: value })
    }
}

/// The elements of an array in order. Empty for anything but an array.
pub fn elements(text: &str) -> Elements<'_> {
    let at = skip_space(text.as_bytes(), 0);
    let open = text.as_bytes().get(at) == Some(&b'[');
    Elements { text, at: if open { at + 1 } else { text.len() } }
}

/// See [`elements`].
#[derive(Debug, Clone)]
pub struct Elements<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Iterator for Elements<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let bytes = self.text.as_bytes();
        let mut start = skip_space(bytes, self.at);
        if bytes.get(start) == Some(&b',') {
            start = skip_space(bytes, start + 1);
        }
        if start >= bytes.len() || bytes[start] == b']' {
            self.at = bytes.len();
            return None;
        }
        self.at = value_end(bytes, start);
        self.text.get(start..self.at)
    }
}

/// Decodes a JSON string with its quotes; without escapes it borrows. Anything that is not a string comes back as it is.
pub fn unquote(quoted: &str) -> Cow<'_, str> {
    let Some(inner) = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(quoted);
    };
    if inner.contains('\\') {
        serde_json::from_str::<String>(quoted).map_or(Cow::Borrowed(quoted), Cow::Owned)
    } else {
        Cow::Borrowed(inner)
    }
}

/// The decoded text of a value that is a string, otherwise nothing.
pub fn as_string(value: &str) -> Option<Cow<'_, str>> {
    value.starts_with('"').then(|| unquote(value))
}

/// Appends `text` as a JSON string.
pub fn quote(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always written to memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted(text: &str) -> String {
        let mut out = Vec::new();
        compact(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn compaction_keeps_strings_and_digits() {
        let text = " { \"a b\" : [ 1 , 12345678901234567890123 ,\t\"x \\\" y\" ] ,\r\n \"n\":1.0 } ";
        assert_eq!(compacted(text), r#"{"a b":[1,12345678901234567890123,"x \" y"],"n":1.0}"#);
    }

    #[test]
    fn members_keep_order_and_duplicates() {
        let text = r#" { "a" : {"b":[1,{"c":"}"}]} , "a":null, "\u0062" : "x,y" , "e":{} ,"n":-1.5e3}"#;
        let found: Vec<(String, &str)> = members(text).map(|m| (m.name().into_owned(), m.value)).collect();
        let expected =
            [("a", r#"{"b":[1,{"c":"}"}]}"#), ("a", "null"), ("b", r#""x,y""#), ("e", "{}"), ("n", "-1.5e3")];
        assert_eq!(found, expected.map(|(n, v)| (n.to_owned(), v)));
        for member in members(text) {
            assert!(text[member.offset..].starts_with(member.value));
        }
    }

    #[test]
    fn members_of_something_else_are_none() {
        for text in ["null", "[]", "1", "\"{\"", "", "{}", "{ }"] {
            assert_eq!(members(text).count(), 0, "{text}");
        }
    }

    #[test]
    fn elements_are_found_at_their_depth() {
        let text = r#" [ 1 , [2,[3]] , "]" , {"a":[]} ,null] "#;
        let found: Vec<&str> = elements(text).collect();
        assert_eq!(found, ["1", "[2,[3]]", "\"]\"", r#"{"a":[]}"#, "null"]);
        assert_eq!(elements("[]").count(), 0);
        assert_eq!(elements("{}").count(), 0);
    }

    #[test]
    fn validation_names_the_place() {
        let mut validator = Validator::default();
        assert!(validator.validate(br#"{"a":123456789012345678901234567890}"#).is_ok());
        assert!(validator.validate(br#"{"a":}"#).is_err());
        assert!(validator.validate(b"").is_err());
        assert_eq!(validator.validate(b"\"\xff\"").unwrap_err().offset, 1);
        let deep = "[".repeat(20_000);
        assert!(validator.validate(deep.as_bytes()).is_err());
    }

    #[test]
    fn strings_are_decoded_and_encoded() {
        assert_eq!(unquote(r#""a\u00e9\n""#), "aé\n");
        assert_eq!(as_string("12"), None);
        let mut out = Vec::new();
        quote("a\"\n<", &mut out);
        assert_eq!(out, br#""a\"\n<""#);
    }
}
