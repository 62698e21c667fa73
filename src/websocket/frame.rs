//! Writes websocket frames (RFC 6455, section 5.2): unfragmented and unmasked as a server does and, for commands that
//! arrive in the handshake's query, masked as a client does.
//!
//! Every byte that goes to a client's socket is made here or in [`crate::event`], once; connections only write
//! finished bytes. Pure functions, no state.

/// Length of the longest header of a server frame, in bytes.
pub const HEADER_ROOM: usize = 10;

/// Maximum payload of a control frame, in bytes.
pub const CONTROL_MAX: usize = 125;

/// A ping without payload.
pub const PING: &[u8] = &[0x89, 0x00];

/// How messages to a connection are encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Websocket frames, uncompressed.
    #[default]
    Plain,
    /// Websocket frames, deflated (RFC 7692), for connections that negotiated it.
    Deflate,
    /// Server-Sent Events instead of websocket frames.
    EventStream,
    /// NDJSON instead of websocket frames: one event per line.
    Lines,
}

impl Encoding {
    /// The number of encodings.
    pub const COUNT: usize = 4;

    /// Returns whether the connection is a websocket.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Plain | Self::Deflate)
    }

    /// Returns the name that users see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Deflate => "deflate",
            Self::EventStream => "sse",
            Self::Lines => "ndjson",
        }
    }
}

const FIN_TEXT: u8 = 0x81;
const FIN_TEXT_DEFLATED: u8 = 0xC1;
const FIN_CLOSE: u8 = 0x88;
const FIN_PONG: u8 = 0x8A;

/// The bit, in the byte with the length, that marks a client's frame.
const MASKED: u8 = 0x80;

/// Writes the header of a text frame into the front of `header` and returns its length in bytes.
pub fn text_header(payload: usize, encoding: Encoding, header: &mut [u8; HEADER_ROOM]) -> usize {
    header[0] = if encoding == Encoding::Deflate { FIN_TEXT_DEFLATED } else { FIN_TEXT };
    write_length(payload, header)
}

/// Writes the length of an unmasked frame after the first byte of its header (RFC 6455, section 5.2). Returns the
/// length of the header.
fn write_length(payload: usize, header: &mut [u8; HEADER_ROOM]) -> usize {
    match payload {
        0..=125 => {
            header[1] = u8::try_from(payload).expect("at most 125");
            2
        }
        126..=0xFFFF => {
            header[1] = 126;
            header[2..4].copy_from_slice(&u16::try_from(payload).expect("fits 16 bits").to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
            10
        }
    }
}

/// Returns a short text message as a client writes it, with a mask of zeros.
pub fn from_client(text: &str) -> Vec<u8> {
    let mut header = [0; HEADER_ROOM];
    let length = text_header(text.len(), Encoding::Plain, &mut header);
    header[1] |= MASKED;
    [&header[..length], &[0; 4], text.as_bytes()].concat()
}

/// Returns a pong with the payload of the ping it answers, truncated to what a control frame can hold.
pub fn pong(payload: &[u8]) -> Box<[u8]> {
    control(FIN_PONG, &[payload])
}

/// Returns a close frame; the reason is truncated at a character boundary to what fits.
pub fn close(code: u16, reason: &str) -> Box<[u8]> {
    control(FIN_CLOSE, &[&code.to_be_bytes(), cut(reason, CONTROL_MAX - 2).as_bytes()])
}

fn control(opcode: u8, parts: &[&[u8]]) -> Box<[u8]> {
    let mut payload = parts.concat();
    payload.truncate(CONTROL_MAX);
    let mut frame = vec![opcode, u8::try_from(payload.len()).expect("cut to 125")];
    frame.append(&mut payload);
    frame.into_boxed_slice()
}

/// Returns the longest prefix of `text` with at most `max` bytes that ends at a character boundary.
pub fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_frames_never_exceed_their_size() {
        let long = "é".repeat(100);
        let frame = close(1013, &long);
        assert_eq!((frame[0], frame.len()), (0x88, 2 + 2 + 122));
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
        assert_eq!(&*pong(b"abc"), b"\x8A\x03abc");
        assert_eq!(pong(&[0; 300]).len(), 127);
    }
}
