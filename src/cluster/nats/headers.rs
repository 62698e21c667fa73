//! The header block of a NATS message: `NATS/1.0`, an optional status, and `Name: value` lines, all ended by CR LF.
//!
//! Contract: pure. Blocks and values are bytes, since any publisher may send anything in them; lines that are not
//! headers are skipped.

use std::fmt::Write;

use memchr::{memchr, memmem};

const VERSION: &str = "NATS/1.0";

/// Writes a header block with these fields. Names and values must not contain line breaks.
pub fn block(fields: &[(&str, &str)]) -> String {
    let mut block = String::with_capacity(160);
    block.push_str(VERSION);
    block.push_str("\r\n");
    for (name, value) in fields {
        // Writing to a string does not fail.
        let _ = write!(block, "{name}: {value}\r\n");
    }
    block.push_str("\r\n");
    block
}

/// Returns the lines of a block, the version line first.
fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let end = memmem::find(rest, b"\r\n")?;
        let line = &rest[..end];
        rest = &rest[end + 2..];
        Some(line)
    })
}

/// Returns the values of the fields with this name, in order.
pub fn values<'a>(block: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    lines(block).skip(1).filter_map(move |line| {
        let at = memchr(b':', line)?;
        (line[..at] == *name.as_bytes()).then(|| line[at + 1..].trim_ascii())
    })
}

/// Returns the first value of a field if it is UTF-8.
pub fn first<'a>(block: &'a [u8], name: &'a str) -> Option<&'a str> {
    std::str::from_utf8(values(block, name).next()?).ok()
}

/// Returns the last value of a field if it is UTF-8: servers add theirs after any that a publisher made up.
pub fn last<'a>(block: &'a [u8], name: &'a str) -> Option<&'a str> {
    std::str::from_utf8(values(block, name).last()?).ok()
}

/// Returns the status code and description with which a server answers by itself.
pub fn status(block: &[u8]) -> Option<(u16, String)> {
    let line = lines(block).next()?.strip_prefix(VERSION.as_bytes())?.trim_ascii();
    let digits = line.get(..3)?;
    let code = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((code, String::from_utf8_lossy(line[3..].trim_ascii()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let block = block(&[("A", "1"), ("B", "x: y"), ("A", "2")]);
        assert_eq!((first(block.as_bytes(), "A"), last(block.as_bytes(), "A")), (Some("1"), Some("2")));
        assert_eq!(first(block.as_bytes(), "B"), Some("x: y"));
        assert_eq!((first(block.as_bytes(), "C"), status(block.as_bytes())), (None, None));
    }

    #[test]
    fn bytes_that_are_no_text_hide_nothing_else() {
        let block = b"NATS/1.0\r\nBad: \xff\xfe\r\nno colon\r\n\xc3: 1\r\nGood:  2 \r\n\r\n";
        assert_eq!((first(block, "Bad"), first(block, "Good")), (None, Some("2")));
        assert_eq!(values(block, "Bad").next(), Some(&b"\xff\xfe"[..]));
    }

    #[test]
    fn a_status_is_read() {
        assert_eq!(status(b"NATS/1.0 503\r\n\r\n"), Some((503, String::new())));
        assert_eq!(status(b"NATS/1.0 404 Not Found\r\n\r\n"), Some((404, "Not Found".to_owned())));
        for none in [&b"NATS/1.0 x\r\n\r\n"[..], b"", b"NATS/1.0", b"HTTP/1.1 200\r\n"] {
            assert_eq!(status(none), None);
        }
    }
}
