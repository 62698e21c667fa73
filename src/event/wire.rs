//! Serializes an event: fields in fixed order, compact, with room for the frame header in front.

use std::ops::Range;

use jiff::Timestamp;

use super::secrets::Scrub;
use crate::json;
use crate::websocket::frame::{Encoding, HEADER_ROOM, text_header};

/// The beginning of every event.
pub(super) const TIME: &str = "{\"Time\":\"";

/// A frame under construction; its first [`HEADER_ROOM`] bytes are reserved for the header.
pub(super) struct Wire {
    pub(super) bytes: Vec<u8>,
}

impl Wire {
    pub(super) fn new(size_hint: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_ROOM + size_hint + 192);
        bytes.resize(HEADER_ROOM, 0);
        Self { bytes }
    }

    pub(super) fn time(&mut self, given: Option<&str>, clock: impl FnOnce() -> Timestamp) {
        self.bytes.extend_from_slice(TIME.as_bytes());
        match given {
            Some(text) => self.bytes.extend_from_slice(text.as_bytes()),
            None => self.bytes.extend_from_slice(clock().to_string().as_bytes()),
        }
        self.bytes.push(b'"');
    }

    pub(super) fn string(&mut self, name: &str, text: &str) {
        self.bytes.extend_from_slice(name.as_bytes());
        json::quote(text, &mut self.bytes);
    }

    pub(super) fn value(&mut self, name: &str, text: &str, scrub: Scrub) -> Range<u32> {
        self.bytes.extend_from_slice(name.as_bytes());
        let start = self.bytes.len();
        scrub.write(text, &mut self.bytes);
        offset(start)..offset(self.bytes.len())
    }

    /// Writes the header directly before the payload. Returns the bytes and the offset at which the frame starts.
    pub(super) fn finish(mut self) -> (Box<[u8]>, FrameStart) {
        self.bytes.push(b'}');
        let mut header = [0; HEADER_ROOM];
        let len = text_header(self.bytes.len() - HEADER_ROOM, Encoding::Plain, &mut header);
        let start = HEADER_ROOM - len;
        self.bytes[start..HEADER_ROOM].copy_from_slice(&header[..len]);
        (self.bytes.into_boxed_slice(), FrameStart(u8::try_from(start).expect("at most ten")))
    }
}

pub(super) fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("an event is bounded far below 4 GiB at the intake")
}

#[derive(Debug, Clone, Copy)]
pub(super) struct FrameStart(pub(super) u8);
