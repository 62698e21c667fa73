//! Navigates JSON text that is already known to be valid.
//!
//! An event passes through hydrant byte for byte except for insignificant white space, so objects are never decoded
//! and encoded again. [`Validator::read`] asks simd-json once whether the text is JSON. Afterwards parts are found in
//! the text itself: by the token offsets that simd-json recorded ([`Value`]), or by scanning the text where it was not
//! just parsed ([`members`], [`elements`]).
//!
//! Contract: everything except [`Validator`] expects valid JSON. For other text the functions still terminate and
//! never read out of bounds, but their results are meaningless. Nothing here recurses, so nesting cannot exhaust the
//! stack.
//!
//! Why not simd-json's tape: it loses digits of numbers beyond 64 bits and decodes strings.

pub(crate) mod block;
mod compact;
mod diagnose;
mod lane;
#[cfg(test)]
mod tests;
mod validator;
mod value;

use std::borrow::Cow;

use memchr::{memchr, memchr2};

pub use compact::compact;
pub use diagnose::Fault as JsonFault;
pub use validator::{JsonError, Validator};
pub use value::{Elements as ValueElements, Members as ValueMembers, Value};

/// Returns the offset after the string that starts at `at` (which must be its opening quote).
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(found) = memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
        at += found + 1;
        if bytes[at - 1] == b'"' {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

/// Returns the offset after the value that starts at `at` (which must be its first byte).
fn value_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(b'"') => string_end(bytes, at),
        Some(b'{' | b'[') => at + block::container(&bytes[at..]),
        _ => scalar_end(bytes, at),
    }
}

/// Returns the offset after a number or a literal name.
fn scalar_end(bytes: &[u8], at: usize) -> usize {
    let Some(rest) = bytes.get(at + 1..) else { return bytes.len() };
    let ends = |b: &u8| matches!(b, b',' | b':' | b'}' | b']' | b'"' | b' ' | b'\t' | b'\n' | b'\r');
    at + 1 + rest.iter().position(ends).unwrap_or(rest.len())
}

fn skip_space(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(rest.len())
}

/// One member of an object, as written in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'t> {
    /// The name with its quotes and escapes.
    pub name: &'t str,
    /// The value.
    pub value: &'t str,
    /// Byte offset of the value in the parsed text.
    pub offset: usize,
}

impl<'t> Member<'t> {
    /// Returns the name, decoded.
    pub fn name(&self) -> Cow<'t, str> {
        unquote(self.name)
    }
}

/// Returns the members of an object in the order of the text, duplicates included. Empty for any other value.
pub fn members(text: &str) -> Members<'_> {
    let at = skip_space(text.as_bytes(), 0);
    let open = text.as_bytes().get(at) == Some(&b'{');
    Members { text, at: if open { at + 1 } else { text.len() } }
}

/// Iterator over the members of an object; returned by [`members`].
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

/// Returns the elements of an array in order. Empty for any other value.
pub fn elements(text: &str) -> Elements<'_> {
    let at = skip_space(text.as_bytes(), 0);
    let open = text.as_bytes().get(at) == Some(&b'[');
    Elements { text, at: if open { at + 1 } else { text.len() } }
}

/// Iterator over the elements of an array; returned by [`elements`].
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

/// Decodes a JSON string with its quotes; borrows if it has no escapes. Text that is not a string is returned
/// unchanged.
pub fn unquote(quoted: &str) -> Cow<'_, str> {
    let Some(inner) = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(quoted);
    };
    if memchr(b'\\', inner.as_bytes()).is_some() {
        serde_json::from_str::<String>(quoted).map_or(Cow::Borrowed(quoted), Cow::Owned)
    } else {
        Cow::Borrowed(inner)
    }
}

/// Returns the decoded text of a string value; `None` for other values.
pub fn as_string(value: &str) -> Option<Cow<'_, str>> {
    value.starts_with('"').then(|| unquote(value))
}

/// Appends `text` as a JSON string.
///
/// Names and keys need no escapes, and are copied as a whole.
pub fn quote(text: &str, out: &mut Vec<u8>) {
    // Without a branch for each byte, so that the compiler uses vectors.
    let escape = |&byte: &u8| u8::from(byte < b' ') | u8::from(byte == b'"') | u8::from(byte == b'\\');
    if text.as_bytes().iter().map(escape).fold(0, |found, one| found | one) != 0 {
        return serde_json::to_writer(out, text).expect("a string is always written to memory");
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}
