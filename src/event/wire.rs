//! Writing an event down: its fields in their order, compact, with room for the frame's header in front.

use std::ops::Range;

use jiff::Timestamp;

use crate::json;
use crate::websocket::frame::{Encoding, HEADER_ROOM, text_header};

/// Field names of secrets that never leave in `users` events.
const SECRETS: [&str; 2] = ["PasswordHash", "Secret"];

/// What every event begins with.
pub(super) const TIME: &str = "{\"Time\":\"";

/// The frame under construction; its first [`HEADER_ROOM`] bytes are kept for the header.
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

    pub(super) fn value(&mut self, name: &str, text: &str, scrub: bool) -> Range<u32> {
        self.bytes.extend_from_slice(name.as_bytes());
        let start = self.bytes.len();
        if scrub && text.trim_start().starts_with('{') {
            self.scrubbed(text);
        } else {
            json::compact(text, &mut self.bytes);
        }
        offset(start)..offset(self.bytes.len())
    }

    /// An object without its secrets.
    fn scrubbed(&mut self, text: &str) {
        self.bytes.push(b'{');
        let mut first = true;
        for member in json::members(text) {
            let name = member.name();
            if SECRETS.iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
                continue;
            }
            if !first {
                self.bytes.push(b',');
            }
            first = false;
            self.bytes.extend_from_slice(member.name.as_bytes());
            self.bytes.push(b':');
            json::compact(member.value, &mut self.bytes);
        }
        self.bytes.push(b'}');
    }

    /// Puts the header directly in front of the payload. Returns the bytes and where the frame starts in them.
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
