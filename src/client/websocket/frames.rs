//! Reads a server's frames (RFC 6455, section 5) from a socket one by one.
//!
//! Contract: a data frame longer than allowed is not an error. It is read and discarded, so one unwanted message costs
//! neither memory nor the connection. Anything that violates the protocol is an error. A cancelled read loses nothing,
//! except that discarded bytes stay discarded.
//!
//! Why not fastwebsockets, which writes here: its reader gives up the connection at the first frame that is too long.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use fastwebsockets::OpCode;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Bytes that are read from the socket at once.
const READ_BYTES: usize = 64 << 10;
/// An empty buffer that has grown beyond this for a long message is released.
const KEPT_BYTES: usize = 1 << 20;
/// A message longer than this ends the connection: it is bogus or endless. So does a frame that announces such a
/// length.
pub(super) const MOST_SKIPPED: u64 = 4 << 30;
/// Maximum payload of a control frame, in bytes.
const CONTROL_BYTES: u64 = 125;

/// The reason why no frame could be read.
#[derive(Debug, Error)]
pub(super) enum FrameError {
    /// The connection ended between frames or within one.
    #[error("the connection ended without a close frame")]
    End,
    /// Nothing was received for too long.
    #[error("nothing arrived for too long")]
    Silent,
    /// The server violated this rule.
    #[error("{0}")]
    Rule(&'static str),
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// The payload of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// The bytes of the payload.
    Whole(BytesMut),
    /// The payload was longer than allowed; this number of bytes was discarded.
    Skipped(u64),
}

/// A frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) fin: bool,
    pub(super) opcode: OpCode,
    pub(super) payload: Payload,
}

/// The header of a frame.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Head {
    fin: bool,
    opcode: OpCode,
    length: u64,
    /// Length of the header itself, in bytes.
    size: usize,
}

impl Head {
    /// Parses the header at the beginning of `bytes`; returns `None` if it is incomplete.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(FrameError::Rule("reserved bits of a frame are set"));
        }
        if second & 0x80 != 0 {
            return Err(FrameError::Rule("a server's frame is masked"));
        }
        let opcode = OpCode::try_from(first & 0x0F).map_err(|_| FrameError::Rule("a frame's opcode is unknown"))?;
        let (length, size) = match second & 0x7F {
            126 => match rest {
                [a, b, ..] => (u64::from(u16::from_be_bytes([*a, *b])), 4),
                _ => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(eight) => (u64::from_be_bytes(*eight), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        let head = Self { fin: first & 0x80 != 0, opcode, length, size };
        if head.is_control() && (!head.fin || length > CONTROL_BYTES) {
            return Err(FrameError::Rule("a control frame is too long or fragmented"));
        }
        Ok(Some(head))
    }

    fn is_control(&self) -> bool {
        matches!(self.opcode, OpCode::Close | OpCode::Ping | OpCode::Pong)
    }
}

/// Reads a server's frames from a socket, skipping payloads that are too long. Cancel-safe.
#[derive(Debug)]
pub(super) struct Frames<R> {
    socket: R,
    buffer: BytesMut,
    /// Maximum payload that is kept, in bytes.
    longest: usize,
    /// Maximum time without receiving bytes.
    silence: Duration,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Creates a reader of this socket.
    pub(super) fn new(socket: R, longest: usize, silence: Duration) -> Self {
        Self { socket, buffer: BytesMut::new(), longest, silence }
    }

    /// Returns the next frame; `heard` is called whenever bytes have arrived.
    pub(super) async fn next(&mut self, heard: impl Fn()) -> Result<Frame, FrameError> {
        let start = loop {
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
            self.fill(&heard).await?;
        };
        if start.length > MOST_SKIPPED {
            return Err(FrameError::Rule("a frame is longer than any message may be"));
        }
        self.buffer.advance(start.size);
        let payload = match usize::try_from(start.length) {
            Ok(length) if length <= self.longest || start.is_control() => self.whole(length, &heard).await?,
            _ => self.skip(start.length, &heard).await?,
        };
        Ok(Frame { fin: start.fin, opcode: start.opcode, payload })
    }

    async fn whole(&mut self, length: usize, heard: impl Fn()) -> Result<Payload, FrameError> {
        while self.buffer.len() < length {
            self.fill(&heard).await?;
        }
        let payload = self.buffer.split_to(length);
        if self.buffer.is_empty() && payload.len() > KEPT_BYTES {
            self.buffer = BytesMut::new();
        }
        Ok(Payload::Whole(payload))
    }

    async fn skip(&mut self, length: u64, heard: impl Fn()) -> Result<Payload, FrameError> {
        let mut left = length;
        loop {
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            self.buffer.advance(here);
            left -= here as u64;
            if left == 0 {
                return Ok(Payload::Skipped(length));
            }
            self.fill(&heard).await?;
        }
    }

    /// Reads at least one byte.
    async fn fill(&mut self, heard: impl Fn()) -> Result<(), FrameError> {
        self.buffer.reserve(READ_BYTES);
        match timeout(self.silence, self.socket.read_buf(&mut self.buffer)).await {
            Ok(Ok(0)) => Err(FrameError::End),
            Ok(read) => {
                read?;
                heard();
                Ok(())
            }
            Err(_) => Err(FrameError::Silent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: Vec<u8>) -> Frames<io::Cursor<Vec<u8>>> {
        Frames::new(io::Cursor::new(bytes), 1000, Duration::from_secs(1))
    }

    fn long(length: u64) -> Vec<u8> {
        let mut frame = vec![0x81, 127];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.resize(frame.len() + usize::try_from(length).unwrap(), b'x');
        frame
    }

    #[tokio::test]
    async fn what_is_too_long_is_skipped_and_what_follows_is_read() {
        let bytes = [&[0x01, 2][..], b"ab", &long(200_000), &[0x8A, 1, b'p'], &long(1000), &[0x88, 0]].concat();
        let mut frames = frames(bytes);
        let mut next = async || {
            let frame = frames.next(|| ()).await.unwrap();
            let payload = match frame.payload {
                Payload::Whole(bytes) => bytes.len() as u64,
                Payload::Skipped(bytes) => 1_000_000 + bytes,
            };
            (frame.fin, frame.opcode, payload)
        };
        assert_eq!(next().await, (false, OpCode::Text, 2));
        assert_eq!(next().await, (true, OpCode::Text, 1_200_000));
        assert_eq!(next().await, (true, OpCode::Pong, 1));
        assert_eq!(next().await, (true, OpCode::Text, 1000));
        assert_eq!(next().await, (true, OpCode::Close, 0));
        assert!(matches!(frames.next(|| ()).await, Err(FrameError::End)));
    }

    #[tokio::test]
    async fn broken_rules_and_ends_are_told() {
        for bytes in [
            &[0xC1, 0][..],
            &[0x81, 0x80],
            &[0x83, 0],
            &[0x09, 0],
            &[0x88, 126, 0, 126],
            &[0x82, 127, 0, 0, 0, 2, 0, 0, 0, 0],
        ] {
            assert!(matches!(frames(bytes.to_vec()).next(|| ()).await, Err(FrameError::Rule(_))), "{bytes:?}");
        }
        for bytes in [&[][..], &[0x81], &[0x81, 126, 0], &[0x81, 3, b'a'], &long(5000)[..4000]] {
            assert!(matches!(frames(bytes.to_vec()).next(|| ()).await, Err(FrameError::End)), "{bytes:?}");
        }
    }
}
