//! The first line of a request as it was received, for the refusal of one that hyper cannot parse: hyper says neither
//! what it refuses nor which method the client used.
//!
//! Contract: pure, and bounded by the bytes given. What is found serves only to explain a refusal, so it may lack
//! something, for example if the line comes in pieces; it decides nothing.

use memchr::{memchr, memmem};

/// The methods that a refusal may name.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The characters that people forget to percent-encode in a target, with their names and encodings. None of the texts
/// needs an escape in JSON.
const UNENCODED: [(u8, &str, &str); 4] =
    [(b'"', "a double quote", "%22"), (b' ', "a blank", "%20"), (b'<', "a `<`", "%3C"), (b'>', "a `>`", "%3E")];

/// What is known of the first line of a request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestLine {
    /// The method, if it is a usual one.
    pub(super) method: Option<&'static str>,
    /// The name and the encoding of a character in the target that has to be percent-encoded.
    pub(super) unencoded: Option<(&'static str, &'static str)>,
}

impl RequestLine {
    /// Looks at the first bytes of a request.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let bytes = bytes.trim_ascii_start();
        let line = memchr(b'\n', bytes).map_or(bytes, |end| &bytes[..end]);
        let named = |method: &&str| line.strip_prefix(method.as_bytes()).is_some_and(|rest| rest.starts_with(b" "));
        let Some(method) = METHODS.into_iter().find(named) else { return Self::default() };
        let rest = &line[method.len()..];
        // The target may contain blanks, but a version does not.
        let target = memmem::rfind(rest, b" HTTP/").map_or(rest, |end| &rest[..end]).trim_ascii();
        let unencoded = UNENCODED.into_iter().find(|(character, ..)| target.contains(character));
        Self { method: Some(method), unencoded: unencoded.map(|(_, name, encoded)| (name, encoded)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_not_encoded_is_told() {
        let quote = Some(("a double quote", "%22"));
        let blank = Some(("a blank", "%20"));
        for (line, method, unencoded) in [
            ("GET /e?register=a.b.c.S=Eq(\"local\") HTTP/1.1\r\nHost: a\r\n\r\n", Some("GET"), quote),
            ("POST /a b HTTP/1.1\r\n", Some("POST"), blank),
            ("GET /a<b HTTP/1.1\r\n", Some("GET"), Some(("a `<`", "%3C"))),
            ("\r\nGET /a HTTP/1.1\r\nX: \"a b\"\r\n\r\n", Some("GET"), None),
            ("GET  /a HTTP/1.1\r\n", Some("GET"), None),
            ("GET /a HTTP/1.1 \r\n", Some("GET"), None),
            ("GET /a\"", Some("GET"), quote),
            ("GE", None, None),
            ("GET\t/a\" HTTP/1.1\r\n", None, None),
            ("local\") HTTP/1.1\r\n", None, None),
            ("", None, None),
        ] {
            assert_eq!(RequestLine::of(line.as_bytes()), RequestLine { method, unencoded }, "{line:?}");
        }
    }
}
