//! The few parts of RFC 6455 that a load generator needs: reading server frames, writing masked client frames.
//!
//! Why not a websocket library: a reader that costs more than the server under test measures itself. Here, finding the
//! frames in the 100 KB of one `read` takes some nanoseconds per frame, and nothing is copied.

use anyhow::{Result, bail, ensure};

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further part of a message.
    Continuation,
    /// A text message, or its first part.
    Text,
    /// A binary message, or its first part.
    Binary,
    /// The peer closes.
    Close,
    /// A ping, which must be answered with a pong.
    Ping,
    /// An answer to a ping.
    Pong,
}

/// A complete frame at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'b> {
    /// The kind of the frame.
    pub opcode: Opcode,
    /// The payload.
    pub payload: &'b [u8],
    /// Length of header and payload together, in bytes.
    pub len: usize,
    /// Whether this is the last part of its message.
    pub is_last: bool,
    /// Whether the payload is compressed (RFC 7692).
    pub deflated: bool,
}

/// Maximum payload in bytes; a longer frame is a sign of a broken stream.
const PAYLOAD_MAX: u64 = 64 << 20;

/// Returns the frame at the beginning of `bytes`; `None` if it is incomplete.
///
/// # Errors
/// Fails if no server may send such a frame, or if it is longer than 64 MiB.
pub fn first(bytes: &[u8]) -> Result<Option<Frame<'_>>> {
    let [kind, size, rest @ ..] = bytes else { return Ok(None) };
    ensure!(size & 0x80 == 0, "the server sent a masked frame");
    let opcode = match kind & !(FIN | DEFLATED) {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => bail!("the server sent a frame that starts with {kind:#04x}"),
    };
    let (is_last, deflated) = (kind & FIN != 0, kind & DEFLATED != 0);
    let (header, length) = match (size, rest) {
        (126, [a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b]))),
        (127, rest) if rest.len() >= 8 => (10, u64::from_be_bytes(rest[..8].try_into()?)),
        (126 | 127, _) => return Ok(None),
        (short, _) => (2, u64::from(*short)),
    };
    ensure!(length <= PAYLOAD_MAX, "the server sent a frame of {length} bytes, which is too long");
    let len = header + usize::try_from(length)?;
    Ok(bytes.get(header..len).map(|payload| Frame { opcode, payload, len, is_last, deflated }))
}

const FIN: u8 = 0x80;

/// The first reserved bit, which permessage-deflate uses.
const DEFLATED: u8 = 0x40;

/// Returns a whole text message as a compressing server sends it.
pub fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![FIN | DEFLATED | 1];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(medium)) => {
            frame.push(126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Appends a masked client frame with a payload below 64 KiB.
///
/// # Errors
/// Fails if the payload is too long.
pub fn write_masked(opcode: Opcode, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) -> Result<()> {
    const MASKED: u8 = 0x80;
    const SIXTEEN_BITS: u8 = 0x7E;
    let code = match opcode {
        Opcode::Continuation => 0,
        Opcode::Text => 1,
        Opcode::Binary => 2,
        Opcode::Close => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
    };
    out.push(FIN | code);
    if let Ok(short @ 0..=125) = u8::try_from(payload.len()) {
        out.push(MASKED | short);
    } else {
        ensure!(payload.len() <= 0xFFFF, "a command of {} bytes is too long", payload.len());
        out.push(MASKED | SIXTEEN_BITS);
        out.extend_from_slice(&u16::try_from(payload.len())?.to_be_bytes());
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(())
}

/// Returns code and reason from the payload of a close frame.
pub fn close_reason(payload: &[u8]) -> String {
    match payload {
        [a, b, reason @ ..] => {
            format!("{} {}", u16::from_be_bytes([*a, *b]), String::from_utf8_lossy(reason)).trim().to_owned()
        }
        _ => "no code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydrant::event::Draft;

    #[test]
    fn frames_are_found_only_when_whole() {
        for size in [0, 80, 300, 70_000] {
            let object = format!("\"{}\"", "x".repeat(size));
            let event = Draft { object: &object, ..Draft::new("a", "b", "c") }.seal(hydrant::clock::now());
            let mut bytes = event.frame().to_vec();
            for cut in [0, 1, 3, 9, bytes.len() - 1] {
                assert_eq!(first(&bytes[..cut.min(bytes.len() - 1)]).unwrap(), None);
            }
            bytes.extend_from_slice(b"\x89\x00");
            let frame = first(&bytes).unwrap().unwrap();
            assert_eq!((frame.opcode, frame.payload), (Opcode::Text, event.json().as_bytes()));
            assert_eq!(first(&bytes[frame.len..]).unwrap().unwrap().opcode, Opcode::Ping);
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_an_error() {
        for bytes in [b"\x81\x85abcd".as_slice(), b"\x83\x00", b"\x91\x00", b"\x81\x7F\xFF\0\0\0\0\0\0\0"] {
            assert!(first(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn compressed_frames_say_so() {
        for size in [3, 126, 70_000] {
            let payload = vec![b'z'; size];
            let bytes = deflated(&payload);
            let frame = first(&bytes).unwrap().unwrap();
            assert_eq!((frame.opcode, frame.payload, frame.len), (Opcode::Text, payload.as_slice(), bytes.len()));
            assert!(frame.deflated && frame.is_last);
        }
    }

    #[test]
    fn client_frames_are_masked() {
        for size in [3_usize, 125, 126, 65_535] {
            let payload = vec![b'r'; size];
            let mut out = Vec::new();
            write_masked(Opcode::Text, &payload, [1, 2, 3, 4], &mut out).unwrap();
            let header = if size < 126 { 2 } else { 4 };
            assert_eq!(out[1] & 0x80, 0x80);
            assert_eq!(out.len(), header + 4 + size);
            assert_eq!(out[header + 4..header + 7], [b'r' ^ 1, b'r' ^ 2, b'r' ^ 3]);
        }
        assert!(write_masked(Opcode::Text, &vec![0; 65_536], [0; 4], &mut Vec::new()).is_err());
    }

    #[test]
    fn close_frames_tell_their_reason() {
        assert_eq!(close_reason(b"\x03\xF5slow consumer"), "1013 slow consumer");
        assert_eq!(close_reason(b""), "no code");
    }
}
