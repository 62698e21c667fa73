//! Parses what a NATS server sends from a buffer of bytes, and writes what a client publishes into one.
//!
//! Contract: pure. [`Parser::next`] removes complete operations from the front of the buffer and leaves incomplete
//! ones. Sizes are bounded: a line longer than [`LINE`] or a message longer than [`MESSAGE`] is an error, as is
//! anything that is not the protocol. In whatever pieces an operation arrives, each of its bytes is searched once, and
//! its line is parsed twice at most. The *publisher's* part of a message (headers, payload, the subject's bytes) is
//! never parsed here, so no publisher can end a connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::memmem;
use serde::Deserialize;
use thiserror::Error;

/// Maximum length of a line in bytes; an INFO lists all servers of a cluster.
const LINE: usize = 1 << 20;

/// Maximum length of a message in bytes; servers allow a `max_payload` of 64 MiB at most.
const MESSAGE: usize = 72 << 20;

/// Why bytes are not the protocol of a NATS server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpError {
    /// An operation that no server sends.
    #[error("the server does not speak the NATS protocol: {0:?}")]
    Unknown(String),
    /// An operation whose arguments cannot be parsed.
    #[error("a malformed {0}")]
    Malformed(&'static str),
    /// A line or message longer than its limit in bytes.
    #[error("a {0} of more than {1} bytes")]
    TooLong(&'static str, usize),
}

/// The INFO of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ServerInfo {
    /// Maximum length of a message in bytes, headers included; 0 if the server does not say.
    #[serde(default)]
    pub max_payload: usize,
    /// Whether the server requires TLS.
    #[serde(default)]
    pub tls_required: bool,
    /// The nonce to be signed by a client with an nkey.
    #[serde(default)]
    pub nonce: String,
    /// Other servers of its cluster, as `HOST:PORT`.
    #[serde(default)]
    pub connect_urls: Vec<String>,
    /// Whether the server is shutting down (lame duck mode).
    #[serde(default)]
    pub ldm: bool,
}

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The id of the subscription it was delivered for.
    pub sid: u64,
    /// The subject it was published on.
    pub subject: Bytes,
    /// The header block ([`super::headers`]); empty if there is none.
    pub headers: Bytes,
    /// The published payload.
    pub payload: Bytes,
}

impl Message {
    /// Returns the total length of subject, headers and payload in bytes.
    pub fn len(&self) -> usize {
        self.subject.len() + self.headers.len() + self.payload.len()
    }

    /// Returns whether subject, headers and payload are all empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An operation received from a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The server's description of itself.
    Info(ServerInfo),
    /// A published message.
    Message(Message),
    /// A PING, to be answered by a PONG.
    Ping,
    /// A PONG: everything before the PING that it answers was processed.
    Pong,
    /// The acknowledgement of an operation.
    Ok,
    /// An error.
    Error(String),
}

/// Parses the operations at the front of one buffer, to which bytes are only appended in between.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes at the front in which no line ends.
    searched: usize,
    /// Bytes that the operation at the front takes at least.
    least: usize,
}

impl Parser {
    /// Removes the next operation from the buffer; returns `None` if it is incomplete.
    ///
    /// # Errors
    /// [`OpError`]; nothing more can be read from the buffer then.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Op>, OpError> {
        if buffer.len() < self.least {
            return Ok(None);
        }
        let head = &buffer[..buffer.len().min(LINE)];
        let Some(found) = memmem::find(&head[self.searched..], b"\r\n") else {
            // The last byte may be the first of the two.
            self.searched = head.len().saturating_sub(1);
            return if head.len() < LINE { Ok(None) } else { Err(OpError::TooLong("line", LINE)) };
        };
        self.searched += found;
        match operation(buffer, self.searched)? {
            Parsed::Needs(bytes) => {
                self.least = bytes;
                buffer.reserve(bytes - buffer.len());
                Ok(None)
            }
            Parsed::Op(op) => {
                *self = Self::default();
                Ok(Some(op))
            }
        }
    }
}

/// What parsing an operation whose line is complete comes to.
enum Parsed {
    /// It was removed from the buffer.
    Op(Op),
    /// It takes that many bytes, which are not there yet.
    Needs(usize),
}

/// Parses the operation at the front, whose line ends at `end`.
fn operation(buffer: &mut BytesMut, end: usize) -> Result<Parsed, OpError> {
    let line = &buffer[..end];
    let (name, arguments) = match line.iter().position(|byte| matches!(byte, b' ' | b'\t')) {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &line[end..]),
    };
    let has_headers = name.eq_ignore_ascii_case(b"HMSG");
    if has_headers || name.eq_ignore_ascii_case(b"MSG") {
        return message(buffer, end, has_headers);
    }
    let op = control(name, arguments)?;
    buffer.advance(end + 2);
    Ok(Parsed::Op(op))
}

/// Parses an operation that is a single line.
fn control(name: &[u8], arguments: &[u8]) -> Result<Op, OpError> {
    Ok(match name.to_ascii_uppercase().as_slice() {
        b"PING" => Op::Ping,
        b"PONG" => Op::Pong,
        b"+OK" => Op::Ok,
        b"-ERR" => Op::Error(String::from_utf8_lossy(arguments).trim().trim_matches('\'').to_owned()),
        b"INFO" => Op::Info(serde_json::from_slice(arguments).map_err(|_| OpError::Malformed("INFO"))?),
        other => return Err(OpError::Unknown(String::from_utf8_lossy(&other[..other.len().min(64)]).into_owned())),
    })
}

/// Parses `MSG subject sid [reply] bytes` or `HMSG subject sid [reply] header-bytes bytes`, followed by that many
/// bytes.
fn message(buffer: &mut BytesMut, end: usize, has_headers: bool) -> Result<Parsed, OpError> {
    const MALFORMED: OpError = OpError::Malformed("message");
    let line = &buffer[..end];
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()).skip(1);
    let words: [Option<&[u8]>; 6] = std::array::from_fn(|_| words.next());
    let count = words.iter().flatten().count();
    let numbers = 1 + usize::from(has_headers);
    let (2.., Some(rest)) = (count, count.checked_sub(2 + numbers)) else { return Err(MALFORMED) };
    let (Some(subject), Some(sid), 0..=1) = (words[0], words[1], rest) else { return Err(MALFORMED) };
    let number = |at: usize| words[at].and_then(number).ok_or(MALFORMED);
    let total = number(count - 1)?;
    let headers = if has_headers { number(count - 2)? } else { 0 };
    if headers > total {
        return Err(MALFORMED);
    }
    if total > MESSAGE {
        return Err(OpError::TooLong("message", MESSAGE));
    }
    let sid = self::number(sid).ok_or(MALFORMED)? as u64;
    let subject_at = subject.as_ptr() as usize - line.as_ptr() as usize..;
    let subject = subject_at.start..subject_at.start + subject.len();
    let length = end + 2 + total + 2;
    if buffer.len() < length {
        return Ok(Parsed::Needs(length));
    }
    let line = buffer.split_to(end + 2).freeze();
    let headers = buffer.split_to(headers).freeze();
    let payload = buffer.split_to(total - headers.len()).freeze();
    if !buffer.starts_with(b"\r\n") {
        return Err(MALFORMED);
    }
    buffer.advance(2);
    Ok(Parsed::Op(Op::Message(Message { sid, subject: line.slice(subject), headers, payload })))
}

fn number(word: &[u8]) -> Option<usize> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Writes a publication. `headers` is a header block or empty.
pub fn publish(into: &mut BytesMut, subject: &str, reply: Option<&str>, headers: &[u8], payload: &[u8]) {
    into.reserve(64 + subject.len() + headers.len() + payload.len());
    into.put_slice(if headers.is_empty() { b"PUB " } else { b"HPUB " });
    into.put_slice(subject.as_bytes());
    if let Some(reply) = reply {
        into.put_u8(b' ');
        into.put_slice(reply.as_bytes());
    }
    if !headers.is_empty() {
        into.put_slice(format!(" {}", headers.len()).as_bytes());
    }
    into.put_slice(format!(" {}\r\n", headers.len() + payload.len()).as_bytes());
    into.put_slice(headers);
    into.put_slice(payload);
    into.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Op>, OpError> {
        let (mut buffer, mut parser) = (BytesMut::from(bytes), Parser::default());
        let mut ops = Vec::new();
        while let Some(op) = parser.next(&mut buffer)? {
            ops.push(op);
        }
        Ok(ops)
    }

    fn message(sid: u64, subject: &'static str, headers: &'static [u8], payload: &'static [u8]) -> Op {
        Op::Message(Message {
            sid,
            subject: Bytes::from_static(subject.as_bytes()),
            headers: Bytes::from_static(headers),
            payload: Bytes::from_static(payload),
        })
    }

    const ALL: &[u8] = b"INFO {\"max_payload\":7,\"ldm\":true}\r\nPING\r\nMSG a.b 1 3\r\n\r\n\xff\r\n\
        HMSG c 22 _INBOX.x 6 8\r\nh\xff\r\n\r\nok\r\n+OK\r\n-ERR 'no'\r\nPONG\r\n";

    #[test]
    fn operations_are_told_apart() {
        let ops = all(ALL).unwrap();
        let info = ServerInfo { max_payload: 7, ldm: true, ..ServerInfo::default() };
        let expected = [
            Op::Info(info),
            Op::Ping,
            message(1, "a.b", b"", b"\r\n\xff"),
            message(22, "c", b"h\xff\r\n\r\n", b"ok"),
            Op::Ok,
            Op::Error("no".to_owned()),
            Op::Pong,
        ];
        assert_eq!(ops, expected);
    }

    #[test]
    fn what_is_not_the_protocol_is_an_error() {
        for bad in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"MSG a 1\r\n",
            b"MSG a x 1\r\n",
            b"MSG a 1 r r 1\r\n",
            b"HMSG a 1 9 3\r\n",
            b"MSG a 1 -1\r\n",
            b"MSG a 1 99999999999\r\n",
            b"MSG a 1 1\r\nxyz",
            b"INFO nothing\r\n",
            b"MSG\r\n",
            b"\r\n",
        ] {
            assert!(all(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert!(all(&vec![b'x'; LINE + 1]).is_err());
    }

    /// A server may send a long line, or a message with one, byte by byte. What must not be looked at again is changed.
    #[test]
    fn no_byte_is_searched_again_when_more_arrive() {
        let (mut buffer, mut parser) = (BytesMut::from(&b"INFO {\"nonce\":\"a b\"}"[..]), Parser::default());
        let mut next = |buffer: &mut BytesMut, more: &[u8]| {
            buffer.extend_from_slice(more);
            parser.next(buffer).unwrap()
        };
        assert_eq!(next(&mut buffer, b""), None);
        buffer[16..18].copy_from_slice(b"\r\n");
        assert_eq!(next(&mut buffer, b"\r"), None);
        buffer[16..18].copy_from_slice(b" b");
        let info = ServerInfo { nonce: "a b".to_owned(), ..ServerInfo::default() };
        assert_eq!(next(&mut buffer, b"\nMSG a 1 6\r\none"), Some(Op::Info(info)));
        assert_eq!(next(&mut buffer, b""), None);
        buffer[..3].copy_from_slice(b"???");
        assert_eq!(next(&mut buffer, b"tw"), None);
        buffer[..3].copy_from_slice(b"MSG");
        assert_eq!(next(&mut buffer, b"o\r\nPONG\r\n"), Some(message(1, "a", b"", b"onetwo")));
        assert_eq!(next(&mut buffer, b""), Some(Op::Pong));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut buffer = BytesMut::new();
        publish(&mut buffer, "a.b", None, b"", b"one");
        publish(&mut buffer, "c", Some("r"), b"H\r\n\r\n", b"");
        assert_eq!(&buffer[..], b"PUB a.b 3\r\none\r\nHPUB c r 5 5\r\nH\r\n\r\n\r\n");
    }

    proptest! {
        /// Splitting the bytes differently yields the same operations.
        #[test]
        fn pieces_do_not_matter(cuts in prop::collection::vec(1..20_usize, 1..60)) {
            let (mut buffer, mut ops, mut at) = (BytesMut::new(), Vec::new(), 0);
            let mut parser = Parser::default();
            for cut in cuts.into_iter().chain(std::iter::repeat(7)) {
                while let Some(op) = parser.next(&mut buffer).unwrap() {
                    ops.push(op);
                }
                if at == ALL.len() {
                    break;
                }
                let end = ALL.len().min(at + cut);
                buffer.extend_from_slice(&ALL[at..end]);
                at = end;
            }
            prop_assert_eq!(ops, all(ALL).unwrap());
        }

        /// Arbitrary bytes never cause a panic, and bytes are removed only from the front.
        #[test]
        fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..150_usize) {
            let mut mixed = ALL.to_vec();
            mixed.splice(at.min(ALL.len())..at.min(ALL.len()), bytes.iter().copied());
            for bytes in [&bytes, &mixed] {
                let (mut buffer, mut parser) = (BytesMut::from(&bytes[..]), Parser::default());
                let mut left = buffer.len();
                while let Ok(Some(_)) = parser.next(&mut buffer) {
                    prop_assert!(buffer.len() < left);
                    left = buffer.len();
                }
            }
        }
    }
}
