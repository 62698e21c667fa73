//! Deflate as websocket messages use it (RFC 7692, section 7.2): every message on its own, without its end marker.
//!
//! Contract: pure. No message leaves state for the next one (`no_context_takeover` on both sides), so a deflated frame
//! is the same for all connections and is built once. Incoming messages are inflated in steps, and inflating stops as
//! soon as the result exceeds the limit: a message never costs more memory than its limit and one step.
//!
//! Why flate2 on zlib-rs: no C, and the fastest at the levels that pay off here (`docs/benchmarks/deflate.md`).

use std::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use thiserror::Error;

use super::frame::{Encoding, HEADER_ROOM, text_header};

/// The end of a flush, which a message omits.
const FLUSHED: &[u8] = &[0x00, 0x00, 0xFF, 0xFF];

/// The omitted end of a message, followed by an empty last block: a truncated message does not reach the end of that
/// block.
const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];

/// Bytes that are inflated per step.
const STEP: usize = 16 << 10;

/// Working memory above this is released, so that a large event does not occupy it permanently.
const KEPT: usize = 256 << 10;

/// Builds deflated frames. Holds about 300 KB of tables; there is one per shard.
pub struct Deflater {
    level: Compression,
    compress: Compress,
    scratch: Vec<u8>,
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("compress", &self.compress).finish_non_exhaustive()
    }
}

impl Deflater {
    /// Creates a deflater with a level from 1 (fastest) to 9.
    pub fn new(level: u32) -> Self {
        let level = Compression::new(level);
        Self { level, compress: Compress::new(level, false), scratch: Vec::new() }
    }

    /// Returns the websocket text frame of a payload, header included; `None` if it would not be shorter than the
    /// payload.
    pub fn frame(&mut self, payload: &[u8]) -> Option<Box<[u8]>> {
        // The buffer is no longer than a result that pays off: deflating stops there.
        self.scratch.resize(HEADER_ROOM + payload.len(), 0);
        self.compress.reset();
        let room = &mut self.scratch[HEADER_ROOM..];
        let result = self.compress.compress(payload, room, FlushCompress::Sync);
        let written = usize::try_from(self.compress.total_out()).expect("it fits the buffer");
        // If a flush fills the buffer, it may be incomplete.
        let whole = result.is_ok() && written < payload.len();
        let body = room[..written].strip_suffix(FLUSHED).filter(|_| whole).map(<[u8]>::len);
        if body.is_none() {
            // What found no room is left in it, and zlib-rs 0.6 does not forget all of that by a reset: a later message
            // would panic.
            self.compress = Compress::new(self.level, false);
        }
        let frame = body.map(|body| finish(&mut self.scratch, body));
        self.scratch.clear();
        self.scratch.shrink_to(KEPT);
        frame
    }
}

/// Writes the header before a body of `body` bytes.
fn finish(scratch: &mut [u8], body: usize) -> Box<[u8]> {
    let mut header = [0; HEADER_ROOM];
    let len = text_header(body, Encoding::Deflate, &mut header);
    let start = HEADER_ROOM - len;
    scratch[start..HEADER_ROOM].copy_from_slice(&header[..len]);
    scratch[start..HEADER_ROOM + body].into()
}

/// The reason why a message cannot be inflated.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum InflateError {
    /// The inflated message is longer than allowed.
    #[error("the message is longer than allowed once inflated")]
    TooBig,
    /// The data is not deflated, or is incomplete.
    #[error("the message cannot be inflated")]
    Corrupt,
}

/// Inflates messages. Holds about 60 KB of tables and window; there is one per shard.
pub struct Inflater {
    decompress: Decompress,
    step: Box<[u8]>,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("decompress", &self.decompress).finish_non_exhaustive()
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self { decompress: Decompress::new(false), step: vec![0; STEP].into() }
    }
}

impl Inflater {
    /// Inflates the payload of a message, joined from its frames. The result has at most `limit` bytes.
    ///
    /// # Errors
    /// Returns an [`InflateError`], with whose code the connection should be closed.
    pub fn inflate(&mut self, payload: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
        self.decompress.reset(false);
        let mut out = Vec::new();
        self.take(payload, limit, &mut out)?;
        let ended = self.take(TAIL, limit, &mut out)?;
        if ended { Ok(out) } else { Err(InflateError::Corrupt) }
    }

    /// Inflates a part of the input. Returns whether it ends exactly at the end of a last block.
    fn take(&mut self, mut input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<bool, InflateError> {
        loop {
            let (read, written) = (self.decompress.total_in(), self.decompress.total_out());
            let status = self.decompress.decompress(input, &mut self.step, FlushDecompress::None);
            let status = status.map_err(|_| InflateError::Corrupt)?;
            let step = |now: u64, before: u64| usize::try_from(now - before).expect("a step is short");
            let (read, written) = (step(self.decompress.total_in(), read), step(self.decompress.total_out(), written));
            if written > limit - out.len() {
                return Err(InflateError::TooBig);
            }
            out.extend_from_slice(&self.step[..written]);
            input = &input[read..];
            if status == Status::StreamEnd {
                if input.is_empty() {
                    return Ok(true);
                }
                // A sender may end its data with a last block instead of a flush (section 7.2.3.4).
                self.decompress.reset(false);
            } else if input.is_empty() && written < STEP {
                return Ok(false);
            } else if read == 0 && written == 0 {
                return Err(InflateError::Corrupt);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 64 << 10;

    fn inflate(payload: &[u8]) -> Result<Vec<u8>, InflateError> {
        Inflater::default().inflate(payload, LIMIT)
    }

    /// Section 7.2.3 of the RFC, byte for byte.
    #[test]
    fn the_examples_of_the_rfc_are_inflated() {
        for (what, payload, text) in [
            ("one block", &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00][..], "Hello"),
            ("no compression", &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00], "Hello"),
            ("a last block", &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00], "Hello"),
            ("two blocks", &[0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00], "Hello"),
            ("nothing", &[0x00], ""),
        ] {
            assert_eq!(inflate(payload).as_deref(), Ok(text.as_bytes()), "{what}");
        }
        let shared = &[0xF2, 0x00, 0x11, 0x00, 0x00];
        assert_eq!(inflate(shared), Err(InflateError::Corrupt), "it needs the window of the message before");
    }

    #[test]
    fn what_is_cut_or_garbled_is_refused() {
        let whole = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        for cut in 0..whole.len() {
            assert_eq!(inflate(&whole[..cut]), Err(InflateError::Corrupt), "{cut}");
        }
        for garbled in [&[0xFF, 0xFF][..], b"plain text", &[0x07], &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00]] {
            assert_eq!(inflate(garbled), Err(InflateError::Corrupt), "{garbled:02x?}");
        }
    }

    /// The payload of a frame that is shorter than 65,536 bytes.
    fn body(frame: &[u8]) -> &[u8] {
        assert_eq!(frame[0], 0xC1);
        let (start, len) = match frame[1] {
            126 => (4, usize::from(u16::from_be_bytes([frame[2], frame[3]]))),
            short => (2, usize::from(short)),
        };
        assert_eq!(frame.len(), start + len);
        &frame[start..]
    }

    #[test]
    fn the_limit_binds_to_the_byte() {
        let frame = Deflater::new(1).frame(&vec![b'a'; LIMIT]).unwrap();
        assert_eq!(inflate(body(&frame)).map(|text| text.len()), Ok(LIMIT));
        let frame = Deflater::new(1).frame(&vec![b'a'; LIMIT + 1]).unwrap();
        assert_eq!(inflate(body(&frame)), Err(InflateError::TooBig));
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut noise = 1_u32;
        let mut random = || {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            noise.to_le_bytes()[0]
        };
        (0..length).map(|_| random()).collect()
    }

    /// At level 1, zlib-rs panicked at a long text after noise, and with it the shard's thread. Autobahn's case 12.2.3
    /// found it.
    #[test]
    fn what_found_no_room_leaves_nothing_behind() {
        for level in 1..=9 {
            let (mut deflater, mut inflater) = (Deflater::new(level), Inflater::default());
            for length in [300, 1000, 5000, 20_000, 64_000, 131_072, 1 << 20] {
                assert_eq!(deflater.frame(&noise(length)), None, "level {level}, {length} bytes of noise");
                // Of sixteen values a byte it halves, so that much is written.
                for text in [120_000, 800_000].map(|length| noise(length).iter().map(|b| b & 15).collect::<Vec<u8>>()) {
                    let frame = deflater.frame(&text).unwrap();
                    let start = if frame[1] == 127 { 10 } else { 4 };
                    assert!(inflater.inflate(&frame[start..], 1 << 20) == Ok(text), "level {level}, {length}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_shrink_is_not_made() {
        let random = noise(10_000);
        let mut deflater = Deflater::new(6);
        assert_eq!(deflater.frame(&random), None);
        assert_eq!(deflater.frame(b""), None);
        let text = b"abcabcabcabcabcabcabc".repeat(10);
        let frame = deflater.frame(&text).unwrap();
        assert_eq!(inflate(body(&frame)), Ok(text), "what was given up before leaves nothing behind");
    }

    #[test]
    fn a_large_event_leaves_no_memory_behind() {
        let mut deflater = Deflater::new(1);
        assert!(deflater.frame(&vec![b'x'; 8 << 20]).is_some());
        assert!(deflater.scratch.capacity() <= KEPT);
    }

    proptest! {
        #[test]
        fn what_is_deflated_inflates_to_itself(
            level in 1..=9_u32, texts in prop::collection::vec("[a-f]{0,400}", 1..6)
        ) {
            let (mut deflater, mut inflater) = (Deflater::new(level), Inflater::default());
            for text in &texts {
                if let Some(frame) = deflater.frame(text.as_bytes()) {
                    prop_assert!(frame.len() < text.len() + 10);
                    prop_assert_eq!(inflater.inflate(body(&frame), LIMIT), Ok(text.clone().into_bytes()));
                }
            }
        }

        #[test]
        fn any_bytes_are_survived_within_the_limit(payload in prop::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok(out) = Inflater::default().inflate(&payload, 1000) {
                prop_assert!(out.len() <= 1000);
            }
        }
    }
}
