//! NATS subjects of events: `PREFIX.EVENTS.TYPE.ACTION.KEY`.
//!
//! A token of a subject must not be empty and may contain neither dots, wildcards nor white space, but keys may contain
//! anything. Letters, digits, `-` and `_` stand for themselves, every other byte is encoded as `=` and two hexadecimal
//! digits, and the empty string as `=`. The encoding is reversible ([`unescape`]), so operators can subscribe to one
//! key by hand. A token longer than [`LONGEST`] is truncated and ends in `=-` and a digest of the whole: it still
//! distinguishes events, but cannot be decoded. Receivers never need to: the message contains the event.

use std::borrow::Cow;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};

use memchr::memchr;

/// Maximum length of a token in bytes; NATS servers accept lines of 4 KiB.
pub const LONGEST: usize = 256;

const DIGEST: usize = 18;

/// Returns the subject of an event.
pub fn event(prefix: &str, kind: &str, action: &str, key: &str) -> String {
    format!("{prefix}.EVENTS.{}.{}.{}", escape(kind), escape(action), escape(key))
}

/// Returns the wildcard subject of all events and of the heartbeats that streams store.
pub fn all(prefix: &str) -> String {
    format!("{prefix}.EVENTS.>")
}

/// Returns the subject of heartbeats that no stream should store: greetings, and heartbeats while a node is idle.
pub fn sign(prefix: &str) -> String {
    format!("{prefix}.NODES.heartbeat")
}

/// Returns the wildcard subject of those heartbeats.
pub fn signs(prefix: &str) -> String {
    format!("{prefix}.NODES.>")
}

/// Returns the subject of the heartbeats that follow events and that streams store.
pub fn heartbeat(prefix: &str) -> String {
    format!("{prefix}.EVENTS.heartbeat")
}

/// Returns the Type of the event published on a subject, or `None` if it cannot be decoded.
pub fn kind<'s>(prefix: &str, subject: &'s [u8]) -> Option<Cow<'s, str>> {
    let rest = subject.strip_prefix(prefix.as_bytes())?.strip_prefix(b".EVENTS.")?;
    let (token, _) = rest.split_at_checked(memchr(b'.', rest)?)?;
    let token = std::str::from_utf8(token).ok()?;
    if token.contains('=') { unescape(token).map(Cow::Owned) } else { Some(Cow::Borrowed(token)) }
}

/// Encodes a text as one token.
pub fn escape(text: &str) -> String {
    if text.is_empty() {
        return "=".to_owned();
    }
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            token.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(token, "={byte:02X}");
        }
    }
    if token.len() > LONGEST {
        token.truncate(LONGEST - DIGEST);
        let mut hasher = DefaultHasher::new();
        hasher.write(text.as_bytes());
        let _ = write!(token, "=-{:016x}", hasher.finish());
    }
    token
}

/// Decodes a token; returns `None` if it is not one of ours or was truncated.
pub fn unescape(token: &str) -> Option<String> {
    if token == "=" {
        return Some(String::new());
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(token.len()), token.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_token(token: &str) -> bool {
        !token.is_empty()
            && token.len() <= LONGEST
            && token.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'>'))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn every_short_text_comes_back(text in "\\PC{0,20}|[a-z.*> =\\n\\x00-]{0,80}") {
            let token = escape(&text);
            prop_assert!(is_token(&token), "{token}");
            prop_assert_eq!(unescape(&token), Some(text));
        }

        #[test]
        fn long_ones_are_bounded_and_still_differ(text in "[a-z.]{257,2000}", other in "[a-z.]{257,2000}") {
            prop_assert!(is_token(&escape(&text)));
            prop_assert_eq!(unescape(&escape(&text)), None);
            prop_assert_eq!(escape(&text) == escape(&other), text == other);
        }

        #[test]
        fn anything_can_be_asked_for(token in "\\PC{0,60}") {
            if let Some(text) = unescape(&token) {
                prop_assert!(text.len() <= token.len());
            }
        }
    }

    #[test]
    fn a_subject_looks_like_this() {
        assert_eq!(event("hydrant", "machines", "update", "a.b*"), "hydrant.EVENTS.machines.update.a=2Eb=2A");
        assert_eq!(event("h", "jobs", "x y", ""), "h.EVENTS.jobs.x=20y.=");
        for (type_of, told) in
            [("jobs", Some("jobs")), ("a.b*", Some("a.b*")), ("", Some("")), (&"x".repeat(999), None)]
        {
            assert_eq!(kind("h", event("h", type_of, "x", "y").as_bytes()).as_deref(), told);
        }
        assert_eq!(kind("h", heartbeat("h").as_bytes()), None);
        assert_eq!(kind("other", event("h", "jobs", "x", "y").as_bytes()), None);
    }
}
