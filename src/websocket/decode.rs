//! Turns the frames of one unit into a message, with fastwebsockets and, where it was negotiated, the inflater.
//!
//! What a message costs is not proportional to its length if it is deflated or fragmented: each empty block or fragment
//! takes a few bytes, and as long as hundreds of bytes of text. Such a message, if it is not short ([`SHORT`]), is
//! returned as a [`LongMessage`], and the caller decides where it is decoded.
//!
//! The parser runs over memory that holds a whole unit, so it never waits: there is no task per connection, idle
//! connections hold no read buffer, and nothing can be cancelled halfway. Two checks are made here because the parser
//! does not follow RFC 6455: that the text of a fragmented message is UTF-8 to its end, and which codes a close may
//! carry. Only units that passed the [`super::validator`] may be decoded.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket, WebSocketError};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deflate::{InflateError, Inflater};
use super::validator::Unit;

/// A message from a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(String),
    /// A binary message with its payload.
    Binary(Vec<u8>),
    /// A ping with its payload.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The client closes, with its code if it sent one.
    Close(Option<u16>),
    /// A message that may take long to decode.
    Long(LongMessage),
}

/// A deflated or fragmented message that may take long to decode: some milliseconds for every 64 KiB.
#[derive(Debug, PartialEq, Eq)]
pub struct LongMessage {
    frames: Vec<u8>,
    is_deflated: bool,
    limit: usize,
}

impl LongMessage {
    /// Decodes the message; never returns [`Message::Long`].
    ///
    /// # Errors
    /// Returns a [`DecodeError`], with whose code the connection should be closed.
    pub fn decode(self, inflater: &mut Inflater) -> Result<Message, DecodeError> {
        let (opcode, payload) = join(self.frames, self.limit)?;
        message(opcode, if self.is_deflated { inflater.inflate(&payload, self.limit)? } else { payload })
    }
}

/// The reason why a unit is not a message.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// Text, or the reason of a close, is not UTF-8.
    #[error("text is not UTF-8")]
    BadUtf8,
    /// A close frame with an invalid code or length, or anything else that the parser rejects.
    #[error("malformed frame")]
    Malformed,
    /// A deflated message cannot be inflated.
    #[error("the message cannot be inflated")]
    Corrupt,
    /// A deflated message is longer than allowed once inflated.
    #[error("the message is longer than allowed once inflated")]
    TooBig,
}

impl From<InflateError> for DecodeError {
    fn from(error: InflateError) -> Self {
        match error {
            InflateError::TooBig => Self::TooBig,
            InflateError::Corrupt => Self::Corrupt,
        }
    }
}

/// Length up to which a deflated or fragmented message counts as short, in bytes: some ten microseconds. Commands are
/// hardly longer.
pub const SHORT: usize = 1 << 10;

/// Length up to which a message counts as short once inflated, in bytes.
const SHORT_INFLATED: usize = 16 << 10;

/// The FIN bit: the last frame of a message.
const FIN: u8 = 0x80;

/// Reads from a slice and discards writes, because this crate builds all outgoing frames itself.
struct Memory<'a>(&'a [u8]);

impl AsyncRead for Memory<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let n = self.0.len().min(buf.remaining());
        buf.put_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Decodes one unit, unless it may take long. A message is at most `limit` bytes long, inflated or not.
///
/// # Errors
/// Returns a [`DecodeError`], with whose code the connection should be closed.
pub fn decode(unit: Unit<'_>, limit: usize, inflater: &mut Inflater) -> Result<Message, DecodeError> {
    let long = |frames: &[u8], is_deflated| Message::Long(LongMessage { frames: frames.to_vec(), is_deflated, limit });
    let (opcode, payload) = match unit {
        Unit::Control(frame) if is_close(frame) => return close(frame),
        Unit::Message(frames) if is_fragmented(frames) && frames.len() > SHORT => return Ok(long(frames, false)),
        Unit::Message(frames) if is_fragmented(frames) => join(frames.to_vec(), limit)?,
        Unit::Control(frames) | Unit::Message(frames) => parse(frames, limit)?,
        Unit::Deflated(frames) if frames.len() > SHORT => return Ok(long(frames, true)),
        Unit::Deflated(frames) => {
            let (opcode, deflated) = join(frames.to_vec(), limit)?;
            match inflater.inflate(&deflated, limit.min(SHORT_INFLATED)) {
                // A few bytes may inflate to many.
                Err(InflateError::TooBig) if limit > SHORT_INFLATED => return Ok(long(frames, true)),
                payload => (opcode, payload?),
            }
        }
    };
    message(opcode, payload)
}

fn message(opcode: OpCode, payload: Vec<u8>) -> Result<Message, DecodeError> {
    Ok(match opcode {
        OpCode::Text => Message::Text(String::from_utf8(payload).map_err(|_| DecodeError::BadUtf8)?),
        OpCode::Binary | OpCode::Continuation => Message::Binary(payload),
        OpCode::Ping => Message::Ping(payload),
        OpCode::Pong => Message::Pong,
        OpCode::Close => Message::Close(None),
    })
}

fn is_close(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 0x0F == OpCode::Close as u8)
}

/// Returns whether the first frame of a message is not its last.
fn is_fragmented(frames: &[u8]) -> bool {
    frames.first().is_some_and(|first| first & FIN == 0)
}

/// Returns whether a close may have this code on the wire (RFC 6455, section 7.4, and IANA's registry).
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Parses a close frame: its code, which must be one for the wire, and a reason in UTF-8.
fn close(frame: &[u8]) -> Result<Message, DecodeError> {
    let (mask, payload) =
        frame.get(2..).and_then(|rest| rest.split_first_chunk::<4>()).ok_or(DecodeError::Malformed)?;
    let payload: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    if payload.is_empty() {
        return Ok(Message::Close(None));
    }
    let (code, reason) = payload.split_first_chunk().ok_or(DecodeError::Malformed)?;
    let code = u16::from_be_bytes(*code);
    if !is_close_code(code) {
        return Err(DecodeError::Malformed);
    }
    std::str::from_utf8(reason).map_err(|_| DecodeError::BadUtf8)?;
    Ok(Message::Close(Some(code)))
}

/// Returns the opcode and the joined payload of a deflated or fragmented message. The parser knows no extensions, and
/// drops an incomplete character at the end of a fragmented text; therefore it is given a binary message.
fn join(mut frames: Vec<u8>, limit: usize) -> Result<(OpCode, Vec<u8>), DecodeError> {
    let first = frames.first_mut().ok_or(DecodeError::Malformed)?;
    let opcode = if *first & 0x0F == OpCode::Text as u8 { OpCode::Text } else { OpCode::Binary };
    *first = *first & FIN | OpCode::Binary as u8;
    let (_, payload) = parse(&frames, limit)?;
    Ok((opcode, payload))
}

fn parse(frames: &[u8], limit: usize) -> Result<(OpCode, Vec<u8>), DecodeError> {
    let mut websocket = WebSocket::after_handshake(Memory(frames), Role::Server);
    websocket.set_auto_pong(false);
    websocket.set_max_message_size(limit.saturating_add(1));
    let mut collector = FragmentCollector::new(websocket);
    let mut read = pin!(collector.read_frame());
    let Poll::Ready(frame) = read.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        return Err(DecodeError::Malformed);
    };
    let frame = frame.map_err(|error| match error {
        WebSocketError::InvalidUTF8 => DecodeError::BadUtf8,
        _ => DecodeError::Malformed,
    })?;
    Ok((frame.opcode, frame.payload.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::deflate::Deflater;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = match u8::try_from(payload.len()) {
            Ok(short @ ..126) => vec![first, 0x80 | short],
            _ => [&[first, 0xFE][..], &u16::try_from(payload.len()).unwrap().to_be_bytes()].concat(),
        };
        frame.extend([9; 4]);
        frame.extend(payload.iter().map(|b| b ^ 9));
        frame
    }

    #[test]
    fn messages_and_fragments_are_decoded() {
        let text = |bytes: &[u8]| decode(Unit::Message(bytes), 1000, &mut Inflater::default());
        assert_eq!(text(&frame(0x81, "é".as_bytes())), Ok(Message::Text("é".to_owned())));
        let parts = [frame(0x01, b"\xC3"), frame(0x00, b""), frame(0x80, b"\xA9!")].concat();
        assert_eq!(text(&parts), Ok(Message::Text("é!".to_owned())));
        assert_eq!(text(&frame(0x82, b"x")), Ok(Message::Binary(b"x".to_vec())));
        assert_eq!(text(&frame(0x81, b"\xC3")), Err(DecodeError::BadUtf8));
        let split = [frame(0x01, b"\xC3"), frame(0x80, b"x")].concat();
        assert_eq!(text(&split), Err(DecodeError::BadUtf8));
        for cut in [&b"\xC3"[..], b"\xE2\x82", b"\xF0\x9F\x98"] {
            let ends_early = [frame(0x01, b"ok"), frame(0x80, cut)].concat();
            assert_eq!(text(&ends_early), Err(DecodeError::BadUtf8), "{cut:02x?}");
        }
        let binary = [frame(0x02, b"\xC3"), frame(0x80, b"\xFF")].concat();
        assert_eq!(text(&binary), Ok(Message::Binary(vec![0xC3, 0xFF])));
    }

    /// The example of RFC 7692, section 7.2.3.1, in one frame and in two.
    #[test]
    fn deflated_messages_are_inflated() {
        let deflated = |bytes: &[u8]| decode(Unit::Deflated(bytes), 1000, &mut Inflater::default());
        let hello = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        assert_eq!(deflated(&frame(0xC1, &hello)), Ok(Message::Text("Hello".to_owned())));
        let parts = [frame(0x41, &hello[..3]), frame(0x80, &hello[3..])].concat();
        assert_eq!(deflated(&parts), Ok(Message::Text("Hello".to_owned())));
        assert_eq!(deflated(&frame(0xC2, &hello)), Ok(Message::Binary(b"Hello".to_vec())));
        assert_eq!(deflated(&frame(0xC1, b"Hello")), Err(DecodeError::Corrupt));
        let not_text = [0x00, 0x01, 0x00, 0xFE, 0xFF, 0xC3, 0x00];
        assert_eq!(deflated(&frame(0xC1, &not_text)), Err(DecodeError::BadUtf8));
        let long = Deflater::new(1).frame(&[b'a'; 1001]).unwrap();
        assert_eq!(deflated(&frame(0xC1, &long[2..])), Err(DecodeError::TooBig));
    }

    /// What takes long is left to the caller, and is then the same message.
    #[test]
    fn what_may_take_long_is_decoded_later() {
        let limit = 4 * SHORT_INFLATED;
        let begun = |unit: Unit<'_>| decode(unit, limit, &mut Inflater::default());
        let finished = |unit: Unit<'_>| match begun(unit) {
            Ok(Message::Long(message)) => message.decode(&mut Inflater::default()),
            other => panic!("{other:?}"),
        };
        let hello = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        let empty = [0x00, 0x00, 0x00, 0xFF, 0xFF];
        let blocks = |count| frame(0xC1, &[&empty.repeat(count), &hello[..]].concat());
        let text = |text: &str| Ok(Message::Text(text.to_owned()));
        assert_eq!(begun(Unit::Deflated(&blocks(20))), text("Hello"), "short");
        assert_eq!(finished(Unit::Deflated(&blocks(SHORT / 5))), text("Hello"));
        let inflated = |length| {
            let made = Deflater::new(1).frame(&vec![b'a'; length]).unwrap();
            frame(0xC1, &made[if made[1] == 126 { 4 } else { 2 }..])
        };
        for length in [SHORT_INFLATED + 1, limit] {
            assert_eq!(finished(Unit::Deflated(&inflated(length))), text(&"a".repeat(length)), "{length}");
        }
        assert_eq!(finished(Unit::Deflated(&inflated(limit + 1))), Err(DecodeError::TooBig));
        let fragments = |count| [frame(0x01, b"\xC3"), frame(0x00, b"").repeat(count), frame(0x80, b"\xA9")].concat();
        assert_eq!(begun(Unit::Message(&fragments(20))), text("\u{e9}"), "short");
        assert_eq!(finished(Unit::Message(&fragments(SHORT / 6))), text("\u{e9}"));
        let cut = [frame(0x01, b"\xC3"), frame(0x00, b"").repeat(SHORT / 6), frame(0x80, b"")].concat();
        assert_eq!(finished(Unit::Message(&cut)), Err(DecodeError::BadUtf8));
    }

    #[test]
    fn control_frames_are_decoded() {
        let control = |bytes: &[u8]| decode(Unit::Control(bytes), 1000, &mut Inflater::default());
        assert_eq!(control(&frame(0x89, b"p")), Ok(Message::Ping(b"p".to_vec())));
        assert_eq!(control(&frame(0x8A, b"")), Ok(Message::Pong));
        assert_eq!(control(&frame(0x88, b"")), Ok(Message::Close(None)));
        assert_eq!(control(&frame(0x88, b"\x03\xE8ok")), Ok(Message::Close(Some(1000))));
        assert_eq!(control(&frame(0x88, b"\x03")), Err(DecodeError::Malformed));
        assert_eq!(control(&frame(0x88, b"\x03\xEE")), Err(DecodeError::Malformed), "1006 is not for the wire");
        assert_eq!(control(&frame(0x88, b"\x03\xE8\xFF")), Err(DecodeError::BadUtf8));
        for code in 0..=u16::MAX {
            let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            let expected = if valid { Ok(Message::Close(Some(code))) } else { Err(DecodeError::Malformed) };
            assert_eq!(control(&frame(0x88, &code.to_be_bytes())), expected);
        }
    }
}
