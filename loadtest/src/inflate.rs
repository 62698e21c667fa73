//! The receiving side of permessage-deflate without context takeover (RFC 7692).
//!
//! Every message is independent, so equal payloads inflate to equal messages: each is inflated once, and repeated ones
//! are only compared. That checks the whole frame, and keeps the reader from dominating the measurement.
//!
//! Contract: an inflated message is at most [`MESSAGE_MAX`] long; the memory for known messages is bounded.

use std::collections::HashMap;

use anyhow::{Result, bail, ensure};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Maximum length of a message; a longer one is a sign of a broken stream.
const MESSAGE_MAX: usize = 64 << 20;

/// Number of bytes of remembered messages at which all are forgotten.
const REMEMBERED_MAX: usize = 16 << 20;

/// The end of a message, which the sender omits.
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// Inflates messages without context takeover, and compares repeated ones byte for byte.
#[derive(Debug)]
pub struct Inflater {
    raw: Decompress,
    known: HashMap<Box<[u8]>, Box<[u8]>>,
    remembered: usize,
    /// Number of messages that were inflated rather than compared.
    pub inflated: u64,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { raw: Decompress::new(false), known: HashMap::new(), remembered: 0, inflated: 0 }
    }
}

impl Inflater {
    /// Returns the message whose compressed form is `payload`.
    ///
    /// # Errors
    /// Fails if the payload is not deflated, or is too long.
    pub fn message(&mut self, payload: &[u8]) -> Result<&[u8]> {
        if !self.known.contains_key(payload) {
            let message = self.inflate(payload)?;
            if self.remembered > REMEMBERED_MAX {
                self.known.clear();
                self.remembered = 0;
            }
            self.remembered += payload.len() + message.len();
            self.known.insert(payload.into(), message.into());
        }
        Ok(self.known.get(payload).map(AsRef::as_ref).unwrap_or_default())
    }

    fn inflate(&mut self, payload: &[u8]) -> Result<Vec<u8>> {
        self.inflated += 1;
        self.raw.reset(false);
        let mut input = payload.to_vec();
        input.extend_from_slice(&TAIL);
        let mut out = Vec::with_capacity(payload.len() * 8 + 64);
        loop {
            let at = usize::try_from(self.raw.total_in())?;
            let before = out.len();
            let status = self.raw.decompress_vec(&input[at..], &mut out, FlushDecompress::Sync)?;
            ensure!(out.len() <= MESSAGE_MAX, "a message is longer than {MESSAGE_MAX} bytes");
            let all_in = usize::try_from(self.raw.total_in())? == input.len();
            if status == Status::StreamEnd || (all_in && out.len() < out.capacity()) {
                return Ok(out);
            }
            if out.len() < out.capacity() && out.len() == before {
                bail!("a compressed message is incomplete");
            }
            out.reserve(out.capacity().max(64));
        }
    }
}

/// Returns the payload of a frame with `message` compressed, as sent by a server that compresses each event once.
///
/// # Errors
/// Never fails in practice: memory accepts all writes.
pub fn deflated(message: &[u8]) -> Result<Vec<u8>> {
    let mut raw = Compress::new(Compression::fast(), false);
    let mut out = Vec::with_capacity(message.len() + 64);
    raw.compress_vec(message, &mut out, FlushCompress::Sync)?;
    ensure!(out.ends_with(&TAIL), "deflate did not flush");
    out.truncate(out.len() - TAIL.len());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deflated_comes_back_and_copies_are_not_inflated_again() {
        let mut inflater = Inflater::default();
        for size in [0, 1, 100, 12_288, 500_000] {
            let message: Vec<u8> = (0..size).map(|at: usize| b'a' + u8::try_from(at * at % 23).unwrap()).collect();
            let payload = deflated(&message).unwrap();
            let before = inflater.inflated;
            for _ in 0..3 {
                assert_eq!(inflater.message(&payload).unwrap(), message, "{size}");
            }
            assert_eq!(inflater.inflated, before + 1);
        }
    }

    #[test]
    fn harm_does_not_go_unseen() {
        let message = "{\"Type\":\"bench\"}".repeat(40);
        let payload = deflated(message.as_bytes()).unwrap();
        let mut inflater = Inflater::default();
        inflater.message(&payload).unwrap();
        let mut harmed = payload.clone();
        harmed[payload.len() / 2] ^= 0x10;
        assert!(inflater.message(&harmed).map_or(true, |found| found != message.as_bytes()));
        assert!(inflater.message(&[0xFF; 20]).is_err());
    }
}
