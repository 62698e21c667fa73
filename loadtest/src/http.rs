//! The small part of HTTP/1.1 that a load generator has to read: replies that end by their length or with the
//! connection.

use std::io::{self, Read};

use anyhow::{Context as _, Result, ensure};

/// Maximum length of a reply's head, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// Maximum number of header fields in a reply.
const HEADERS_MAX: usize = 64;

/// Returns the beginning of an error's body, for a message.
pub fn said(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(300).collect::<String>().trim().to_owned()
}

/// The relevant fields of a reply's head.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Number of bytes in the body; `None` if it lasts until the connection ends.
    pub length: Option<usize>,
    /// Number of seconds to wait before a retry.
    pub retry_after: Option<u64>,
    /// Whether permessage-deflate without context takeover was negotiated.
    pub deflate: bool,
}

/// Reads a reply's head. Returns it and the bytes that arrived after it.
///
/// # Errors
/// Fails if the connection ends or is silent, or if its bytes are not a reply.
pub fn read_head(stream: &mut impl Read) -> Result<(Head, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    loop {
        let got = stream.read(&mut chunk).context("cannot read a reply")?;
        ensure!(got > 0, "the server closed the connection without a reply");
        bytes.extend_from_slice(&chunk[..got]);
        if let Some((head, length)) = parse_head(&bytes)? {
            return Ok((head, bytes.split_off(length)));
        }
        ensure!(bytes.len() < HEAD_MAX, "the head of the reply is too long");
    }
}

/// Returns the head at the beginning of `bytes`, and its length; `None` if it is incomplete.
///
/// # Errors
/// Fails if the bytes are not the head of a reply.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes).context("the peer did not answer with HTTP")? else {
        return Ok(None);
    };
    let status = response.code.context("the reply has no status")?;
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let extensions = value("sec-websocket-extensions").unwrap_or_default();
    let head = Head {
        status,
        length: if status == 204 { Some(0) } else { value("content-length").and_then(|text| text.parse().ok()) },
        retry_after: value("retry-after").and_then(|text| text.parse().ok()),
        deflate: extensions.contains("permessage-deflate") && extensions.contains("server_no_context_takeover"),
    };
    Ok(Some((head, length)))
}

/// Reads the rest of a body whose beginning is `body`.
///
/// # Errors
/// Fails if the connection ends too early or is silent.
pub fn read_body(stream: &mut impl Read, head: &Head, mut body: Vec<u8>) -> Result<Vec<u8>> {
    let missing = head.length.map_or(u64::MAX, |length| length.saturating_sub(body.len()) as u64);
    match stream.take(missing).read_to_end(&mut body) {
        Ok(_) => {}
        Err(e) if head.length.is_none() && e.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(e) => return Err(e).context("the reply is incomplete"),
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_in_any_pieces() {
        let reply = b"HTTP/1.1 429 Too Many\r\nContent-LENGTH: 3\r\nRetry-After: 2\r\n\r\nabc".as_slice();
        let (head, rest) = read_head(&mut &reply[..]).unwrap();
        assert_eq!((head.status, head.length, head.retry_after), (429, Some(3), Some(2)));
        assert_eq!(read_body(&mut b"".as_slice(), &head, rest).unwrap(), b"abc");
        assert_eq!(read_body(&mut b"bcX".as_slice(), &head, b"a".to_vec()).unwrap(), b"abc");
        assert!(read_head(&mut b"junk\r\n\r\n".as_slice()).is_err());
        assert!(read_head(&mut b"HTTP/1.1 200".as_slice()).is_err());
    }
}
