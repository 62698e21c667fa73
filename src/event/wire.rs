//! Serializes an event: fields in fixed order, compact, with room for the frame header in front.

use std::ops::Range;

use jiff::Timestamp;

use crate::json;
use crate::websocket::frame::{Encoding, HEADER_ROOM, text_header};

/// Names of secret fields that are removed from `users` events.
const SECRETS: [&str; 2] = ["PasswordHash", "Secret"];

/// Preferences whose value is removed from `preferences` events: with one of them, tokens for any user can be forged.
const SECRET_PREFERENCES: [&str; 2] = ["baseTokenSecret", "systemGrantorSecret"];

/// The member of a plugin's action that holds the object it acts on.
const WRAPPED: &str = "Model";

/// Maximum depth of an object whose secrets are removed: the lists and objects around it, and itself. Anything deeper
/// is written as `null`.
const NESTED: u8 = 4;

/// What is removed from an event's Object and Original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scrub {
    /// Nothing.
    Nothing,
    /// The secrets of a user.
    User,
    /// The secret preferences.
    Preference {
        /// Whether `Val` is removed regardless of `Name`, because the event's Key names a secret preference.
        is_secret: bool,
    },
}

impl Scrub {
    /// Returns what is removed from events of this Type and Key.
    pub(super) fn of(kind: &str, key: &str) -> Self {
        match kind {
            "users" => Self::User,
            "preferences" => Self::Preference { is_secret: is_secret_preference(key) },
            _ => Self::Nothing,
        }
    }

    /// Like [`Scrub::of`], for one object: the `Name` of a preference's object can also identify it.
    fn in_object(self, text: &str) -> Self {
        let Self::Preference { is_secret: false } = self else { return self };
        let named = |member: json::Member<'_>| {
            member.name().eq_ignore_ascii_case("Name")
                && json::as_string(member.value).is_some_and(|name| is_secret_preference(&name))
        };
        Self::Preference { is_secret: json::members(text).any(named) }
    }

    fn drops(self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::User => SECRETS.iter().any(|secret| name.eq_ignore_ascii_case(secret)),
            Self::Preference { is_secret } => {
                is_secret_preference(name) || (is_secret && name.eq_ignore_ascii_case("Val"))
            }
        }
    }
}

fn is_secret_preference(name: &str) -> bool {
    SECRET_PREFERENCES.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

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
        self.without_secrets(text, scrub, NESTED);
        offset(start)..offset(self.bytes.len())
    }

    /// Writes a value without its secrets.
    fn without_secrets(&mut self, text: &str, scrub: Scrub, levels: u8) {
        match text.trim_start().as_bytes().first() {
            _ if scrub == Scrub::Nothing => json::compact(text, &mut self.bytes),
            // Deeper than any object that DRP has. What is not looked through does not leave.
            Some(b'{' | b'[') if levels == 0 => self.bytes.extend_from_slice(b"null"),
            Some(b'{') => self.scrubbed(text, scrub.in_object(text), levels - 1),
            Some(b'[') => {
                self.bytes.push(b'[');
                for (at, element) in json::elements(text).enumerate() {
                    self.separate(at == 0);
                    self.without_secrets(element, scrub, levels - 1);
                }
                self.bytes.push(b']');
            }
            // The value of a secret preference, without an object around it.
            _ if scrub == (Scrub::Preference { is_secret: true }) => self.bytes.extend_from_slice(b"null"),
            _ => json::compact(text, &mut self.bytes),
        }
    }

    /// Writes an object without its secrets, and without those of the object that a plugin's action has acted on.
    fn scrubbed(&mut self, text: &str, scrub: Scrub, levels: u8) {
        self.bytes.push(b'{');
        let mut first = true;
        for member in json::members(text) {
            let name = member.name();
            if scrub.drops(&name) {
                continue;
            }
            self.separate(first);
            first = false;
            self.bytes.extend_from_slice(member.name.as_bytes());
            self.bytes.push(b':');
            if name.eq_ignore_ascii_case(WRAPPED) {
                self.without_secrets(member.value, scrub, levels);
            } else {
                json::compact(member.value, &mut self.bytes);
            }
        }
        self.bytes.push(b'}');
    }

    fn separate(&mut self, first: bool) {
        if !first {
            self.bytes.push(b',');
        }
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
