//! Validates frames before the websocket parser sees them: splits a client's bytes into whole frames and refuses what
//! the parser would let pass.
//!
//! fastwebsockets 0.10 accepts unmasked frames, loses the first part of a message that a new one interrupts, accepts
//! control frames of any length, bounds the size of a frame but not of a message, and reserves as much memory as a
//! header announces. So nothing reaches it before this validator has seen a whole frame that follows the rules (RFC
//! 6455, sections 5.1 to 5.5).
//!
//! If permessage-deflate was negotiated, the first frame of a message may have RSV1 set (RFC 7692, section 6); such
//! messages are marked as compressed.
//!
//! Contract: sans I/O. [`FrameValidator::feed`] accepts bytes as they arrive and returns units: a control frame, or
//! all frames of one message. The caller may stop after any unit and continue later; the bytes after it are kept until
//! then. Memory grows only with bytes received, never with an announced length: at most about twice the message limit
//! besides what the caller stopped at, and nothing between frames or after an error. After an error the connection must
//! be closed; feeding more bytes keeps failing.

use std::ops::ControlFlow;

use thiserror::Error;

use super::frame::Encoding;

/// The rule that the client broke.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// A client must mask its frames.
    #[error("a frame is not masked")]
    Unmasked,
    /// A reserved bit is set for which no extension was negotiated.
    #[error("a reserved bit is set")]
    ReservedBit,
    /// The opcode is unknown.
    #[error("unknown opcode")]
    UnknownOpcode,
    /// A control frame is fragmented or longer than 125 bytes.
    #[error("a control frame is fragmented or too long")]
    BadControl,
    /// A continuation frame does not continue any message.
    #[error("a continuation frame without a message to continue")]
    StrayContinuation,
    /// A new message begins before the current one has ended.
    #[error("a new message begins before the previous one has ended")]
    Interrupted,
    /// A length is encoded in more bytes than needed, or has its top bit set.
    #[error("a length is not encoded in its shortest form")]
    BadLength,
    /// The message is longer than allowed.
    #[error("a message is longer than allowed")]
    TooBig,
}

/// A piece of input that the parser accepts in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit<'a> {
    /// One ping, pong or close frame.
    Control(&'a [u8]),
    /// All frames of one message.
    Message(&'a [u8]),
    /// All frames of one message whose joined payload is deflated; RSV1 is set in the first frame.
    Deflated(&'a [u8]),
}

impl<'a> Unit<'a> {
    fn message(frames: &'a [u8]) -> Self {
        if frames[0] & RSV1 == 0 { Self::Message(frames) } else { Self::Deflated(frames) }
    }
}

const RSV1: u8 = 0x40;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PONG: u8 = 10;

struct Header {
    fin: bool,
    opcode: u8,
    /// Length of the whole frame, header included.
    frame: usize,
    payload: usize,
}

/// Splits a client's bytes into frames and rejects those that violate RFC 6455. Does no I/O.
#[derive(Debug, Default)]
pub struct FrameValidator {
    /// The encoding negotiated in the handshake.
    encoding: Encoding,
    failed: Option<FrameError>,
    /// `None` while nothing is buffered, so that an idle connection costs one pointer.
    held: Option<Box<Held>>,
}

/// The bytes that are kept until more bytes arrive.
#[derive(Debug, Default)]
struct Held {
    /// The bytes of an incomplete frame.
    partial: Vec<u8>,
    /// The complete frames of an incomplete message.
    message: Vec<u8>,
    /// Payload bytes in `message`.
    payload: usize,
}

impl FrameValidator {
    /// Creates the frame validator of a connection with this negotiated encoding.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, ..Self::default() }
    }

    /// Reads bytes and calls `emit` with every complete unit, until it breaks. `limit` bounds the payload of a message,
    /// in bytes. Returns whether `emit` broke: feed again, with more bytes or none, to continue after that unit.
    ///
    /// # Errors
    /// Returns the first rule that the client broke; all units before it have been emitted.
    pub fn feed(
        &mut self,
        input: &[u8],
        limit: usize,
        mut emit: impl FnMut(Unit<'_>) -> ControlFlow<()>,
    ) -> Result<bool, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let partial =
            self.held.as_mut().map(|held| std::mem::take(&mut held.partial)).filter(|bytes| !bytes.is_empty());
        let result = match partial {
            None => self.split(input, limit, &mut emit).map(|(used, stopped)| {
                self.hold(input[used..].to_vec());
                stopped
            }),
            Some(mut bytes) => {
                bytes.extend_from_slice(input);
                self.split(&bytes, limit, &mut emit).map(|(used, stopped)| {
                    bytes.drain(..used);
                    // The rest may not come for a long time.
                    bytes.shrink_to(2 * bytes.len());
                    self.hold(bytes);
                    stopped
                })
            }
        };
        self.held.take_if(|held| result.is_err() || (held.partial.is_empty() && held.message.is_empty()));
        self.failed = result.as_ref().err().copied();
        result
    }

    /// Returns how many bytes are kept until more arrive. They take at most twice as much memory.
    pub fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.partial.len() + held.message.len())
    }

    /// Drops the bytes that are kept. Feeding more fails.
    pub fn give_up(&mut self) {
        (self.held, self.failed) = (None, Some(FrameError::TooBig));
    }

    /// Keeps bytes for the next [`FrameValidator::feed`].
    pub fn keep(&mut self, input: &[u8]) {
        if !input.is_empty() {
            self.held.get_or_insert_default().partial.extend_from_slice(input);
        }
    }

    /// Keeps the bytes of a frame that is incomplete or not yet emitted.
    fn hold(&mut self, partial: Vec<u8>) {
        if !partial.is_empty() {
            self.held.get_or_insert_default().partial = partial;
        }
    }

    /// Returns whether a message has begun and not ended.
    fn is_under_way(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !held.message.is_empty())
    }

    /// Emits complete frames. Returns their total number of bytes, and whether `emit` broke.
    fn split(
        &mut self,
        bytes: &[u8],
        limit: usize,
        emit: &mut impl FnMut(Unit<'_>) -> ControlFlow<()>,
    ) -> Result<(usize, bool), FrameError> {
        let mut used = 0;
        while let Some(header) = self.header(&bytes[used..], limit)? {
            let Some(frame) = bytes.get(used..used + header.frame) else { break };
            used += header.frame;
            if self.take(&header, frame, limit, emit)?.is_break() {
                return Ok((used, true));
            }
        }
        Ok((used, false))
    }

    /// Parses and checks a header once enough of its bytes have arrived.
    fn header(&self, bytes: &[u8], limit: usize) -> Result<Option<Header>, FrameError> {
        let [first, second, ..] = *bytes else { return Ok(None) };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        self.check_opcode(first, fin, opcode)?;
        if second & 0x80 == 0 {
            return Err(FrameError::Unmasked);
        }
        let short = usize::from(second & 0x7F);
        if opcode >= CLOSE && short > 125 {
            return Err(FrameError::BadControl);
        }
        let Some((payload, length)) = extended_length(short, &bytes[2..])? else { return Ok(None) };
        let others = self.held.as_ref().filter(|_| opcode < CLOSE).map_or(0, |held| held.payload);
        if payload > limit.saturating_sub(others) {
            return Err(FrameError::TooBig);
        }
        Ok(Some(Header { fin, opcode, frame: 2 + length + 4 + payload, payload }))
    }

    fn check_opcode(&self, first: u8, fin: bool, opcode: u8) -> Result<(), FrameError> {
        let begins = matches!(opcode, TEXT | BINARY);
        let allowed = if begins && self.encoding == Encoding::Deflate { RSV1 } else { 0 };
        if first & 0x70 & !allowed != 0 {
            return Err(FrameError::ReservedBit);
        }
        let under_way = self.is_under_way();
        match opcode {
            CONTINUATION if !under_way => Err(FrameError::StrayContinuation),
            TEXT | BINARY if under_way => Err(FrameError::Interrupted),
            CLOSE..=PONG if !fin => Err(FrameError::BadControl),
            CONTINUATION | TEXT | BINARY | CLOSE..=PONG => Ok(()),
            _ => Err(FrameError::UnknownOpcode),
        }
    }

    fn take(
        &mut self,
        header: &Header,
        frame: &[u8],
        limit: usize,
        emit: &mut impl FnMut(Unit<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, FrameError> {
        if header.opcode >= CLOSE {
            return Ok(emit(Unit::Control(frame)));
        }
        if header.fin && !self.is_under_way() {
            return Ok(emit(Unit::message(frame)));
        }
        let held = self.held.get_or_insert_default();
        held.message.extend_from_slice(frame);
        held.payload += header.payload;
        // Headers count too: otherwise endless empty fragments would grow without bound.
        if held.message.len() > 2 * limit + 1024 {
            return Err(FrameError::TooBig);
        }
        if !header.fin {
            return Ok(ControlFlow::Continue(()));
        }
        held.payload = 0;
        Ok(emit(Unit::message(&std::mem::take(&mut held.message))))
    }
}

/// Returns the payload's length and the number of header bytes, beyond the first two, that encode it; `None` if they
/// are incomplete.
fn extended_length(short: usize, bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let (length, size, least) = match short {
        126 => {
            let Some(bytes) = bytes.first_chunk::<2>() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*bytes)), 2, 126)
        }
        127 => {
            let Some(bytes) = bytes.first_chunk::<8>() else { return Ok(None) };
            (u64::from_be_bytes(*bytes), 8, 65_536)
        }
        short => (short as u64, 0, 0),
    };
    if length < least || length > i64::MAX as u64 {
        return Err(FrameError::BadLength);
    }
    Ok(Some((usize::try_from(length).map_err(|_| FrameError::TooBig)?, size)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1000;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        if let Ok(short @ 0..=125) = u8::try_from(payload.len()) {
            frame.push(0x80 | short);
        } else {
            frame.push(0xFE);
            frame.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
        frame.extend_from_slice(&[1, 2, 3, 4]);
        frame.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(b, m)| b ^ m));
        frame
    }

    fn units(validator: &mut FrameValidator, chunks: &[&[u8]]) -> Result<Vec<(bool, Vec<u8>)>, FrameError> {
        let mut units = Vec::new();
        for chunk in chunks {
            validator.feed(chunk, LIMIT, |unit| {
                units.push(match unit {
                    Unit::Control(bytes) => (true, bytes.to_vec()),
                    Unit::Message(bytes) | Unit::Deflated(bytes) => (false, bytes.to_vec()),
                });
                ControlFlow::Continue(())
            })?;
        }
        Ok(units)
    }

    #[test]
    fn whole_frames_pass_however_they_are_cut() {
        let (ping, text, long) = (frame(0x89, b"p"), frame(0x81, b"hello"), frame(0x82, &[7; 900]));
        let all = [ping.clone(), text.clone(), long.clone()].concat();
        let expected = vec![(true, ping), (false, text), (false, long)];
        let whole = units(&mut FrameValidator::default(), &[&all]).unwrap();
        let bytes: Vec<&[u8]> = all.chunks(1).collect();
        let mut validator = FrameValidator::default();
        let dripped = units(&mut validator, &bytes).unwrap();
        assert_eq!((&whole, &dripped), (&expected, &expected));
        assert!(validator.held.is_none(), "nothing is held at rest");
        assert!(size_of::<FrameValidator>() <= 16);
    }

    #[test]
    fn who_breaks_off_goes_on_behind_that_unit() {
        let frames =
            [frame(0x89, b"p"), frame(0x81, b"hello"), frame(0x01, b"he"), frame(0x80, b"llo"), frame(0x82, b"")];
        let all = frames.concat();
        let (cut, mut validator, mut found) = (all.len() - 3, FrameValidator::default(), Vec::new());
        let mut one = |unit: Unit<'_>| {
            found.push(format!("{unit:?}"));
            ControlFlow::Break(())
        };
        validator.keep(&all[..9]);
        let mut calls = vec![validator.feed(&all[9..cut], LIMIT, &mut one)];
        calls.extend((0..3).map(|_| validator.feed(&[], LIMIT, &mut one)));
        calls.extend([&all[cut..], &[]].map(|rest| validator.feed(rest, LIMIT, &mut one)));
        assert_eq!(calls, [true, true, true, false, true, false].map(Ok));
        let mut expected = Vec::new();
        let note = |unit: Unit<'_>| {
            expected.push(format!("{unit:?}"));
            ControlFlow::Continue(())
        };
        assert_eq!(FrameValidator::default().feed(&all, LIMIT, note), Ok(false));
        assert_eq!(found, expected);
        assert!(validator.held.is_none(), "nothing is held at rest");
    }

    #[test]
    fn control_frames_pass_between_fragments() {
        let (a, ping, b) = (frame(0x01, b"he"), frame(0x89, b""), frame(0x80, b"llo"));
        let all = [a.clone(), ping.clone(), b.clone()].concat();
        let found = units(&mut FrameValidator::default(), &[&all]).unwrap();
        assert_eq!(found, [(true, ping), (false, [a, b].concat())]);
    }

    #[test]
    fn deflated_messages_pass_where_they_were_agreed_on() {
        let mut found = Vec::new();
        let mut validator = FrameValidator::new(Encoding::Deflate);
        let whole = frame(0xC1, b"x");
        let parts = [frame(0x41, b"a"), frame(0x00, b"b"), frame(0x80, b"c")];
        let [first, middle, last] = &parts;
        let all = [&whole, first, &frame(0x89, b"p"), middle, last, &frame(0x81, b"plain")].map(Vec::as_slice).concat();
        let mut note = |unit: Unit<'_>| {
            found.push(format!("{unit:?}"));
            ControlFlow::Continue(())
        };
        assert_eq!(validator.feed(&all, LIMIT, &mut note), Ok(false));
        let expected = [
            Unit::Deflated(&whole),
            Unit::Control(&frame(0x89, b"p")),
            Unit::Deflated(&parts.concat()),
            Unit::Message(&frame(0x81, b"plain")),
        ];
        assert_eq!(found, expected.map(|unit| format!("{unit:?}")));
        for (what, bytes) in [
            ("a continuation", [frame(0x41, b"a"), frame(0xC0, b"b")].concat()),
            ("a continuation of a plain message", [frame(0x01, b"a"), frame(0xC0, b"b")].concat()),
            ("a ping", frame(0xC9, b"")),
            ("a close", frame(0xC8, b"")),
            ("RSV2", frame(0xA1, b"")),
            ("RSV3", frame(0xD1, b"")),
        ] {
            let result = FrameValidator::new(Encoding::Deflate).feed(&bytes, LIMIT, |_| ControlFlow::Continue(()));
            assert_eq!(result, Err(FrameError::ReservedBit), "{what}");
        }
    }

    #[test]
    fn broken_rules_are_refused_before_the_payload_comes() {
        let mut unmasked = frame(0x81, b"x");
        unmasked[1] &= 0x7F;
        for (bytes, error) in [
            (unmasked, FrameError::Unmasked),
            (frame(0xC1, b""), FrameError::ReservedBit),
            (frame(0x83, b""), FrameError::UnknownOpcode),
            (frame(0x8B, b""), FrameError::UnknownOpcode),
            (frame(0x09, b""), FrameError::BadControl),
            (vec![0x8A, 0xFE], FrameError::BadControl),
            (frame(0x80, b""), FrameError::StrayContinuation),
            ([frame(0x01, b"a"), frame(0x01, b"b")].concat(), FrameError::Interrupted),
            (vec![0x81, 0xFE, 0, 5], FrameError::BadLength),
            (vec![0x81, 0xFF, 0, 0, 0, 0, 0, 0, 1, 0], FrameError::BadLength),
            (vec![0x81, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0], FrameError::BadLength),
            (vec![0x82, 0xFF, 0, 0, 0, 0, 3, 0xFF, 0xFF, 0xFF], FrameError::TooBig),
            ([frame(0x01, &[0; 600]), frame(0x00, &[0; 401])].concat(), FrameError::TooBig),
        ] {
            let mut validator = FrameValidator::default();
            assert_eq!(units(&mut validator, &[&bytes]), Err(error), "{bytes:02x?}");
            assert_eq!(units(&mut validator, &[&frame(0x81, b"x")]), Err(error), "it stays refused");
        }
    }

    #[test]
    fn the_frames_of_a_message_may_take_twice_its_limit_and_a_kibibyte() {
        let fragments = |count: usize| {
            let [first, middle, last] = [0x01, 0x00, 0x80].map(|head| frame(head, b"x"));
            [first, middle.repeat(count - 2), last].concat()
        };
        let most = (2 * LIMIT + 1024) / frame(0x00, b"x").len();
        assert!(most < LIMIT);
        assert!(units(&mut FrameValidator::default(), &[&fragments(most)]).is_ok());
        assert_eq!(units(&mut FrameValidator::default(), &[&fragments(most + 1)]), Err(FrameError::TooBig));
    }

    #[test]
    fn empty_fragments_do_not_grow_for_ever() {
        let mut validator = FrameValidator::default();
        let mut result = validator.feed(&frame(0x01, b""), LIMIT, |_| ControlFlow::Continue(()));
        let empty = frame(0x00, b"");
        for _ in 0..10_000 {
            result = validator.feed(&empty, LIMIT, |_| ControlFlow::Continue(()));
        }
        assert_eq!(result, Err(FrameError::TooBig));
        assert!(validator.held_bytes() < 3 * LIMIT + 2048);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_within_bounds(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..30)
        ) {
            let mut validator = FrameValidator::default();
            for chunk in &chunks {
                let _ = validator.feed(chunk, LIMIT, |_| ControlFlow::Continue(()));
                prop_assert!(validator.held_bytes() < 4 * LIMIT);
            }
        }
    }
}
