//! Events: validated once, framed once, immutable afterwards.
//!
//! A [`Draft`] is what a producer sent, as slices of its text. [`Draft::seal`] writes the event's only wire form: the
//! seven fields in fixed order, compact, with the websocket frame header in front. Object and Original are copied byte
//! for byte except for insignificant white space, so large integers, key order and escapes survive.
//!
//! Contract: a sealed [`Event`] never changes. It is shared by reference count, one count per shard and not per
//! delivery. Nothing here reads a clock or does I/O; the caller of `seal` passes the time.
//!
//! A producer's fields are all optional here: an endpoint publishes events with an empty Type, Action or Key, and its
//! clients receive them. What is required of a posted event is the rule of [`posting`].
//!
//! Why the frame is built here rather than for the first subscriber: the event is serialized once anyway, and the
//! header costs ten bytes. Most events need no deflated frame and no text for event streams, so the shard whose
//! subscriber needs one first builds it, while other shards wait.
//!
//! ```
//! use hydrant::event::Draft;
//!
//! let text = r#"{ "Type": "jobs", "Action": "create", "Key": "7", "Object": { "Big": 12345678901234567890123 } }"#;
//! let event = Draft::read(text)?.seal(jiff::Timestamp::UNIX_EPOCH);
//! assert_eq!(event.object(), r#"{"Big":12345678901234567890123}"#);
//! assert!(event.json().starts_with(r#"{"Time":"1970-01-01T00:00:00Z","Type":"jobs","Action":"create","Key":"7""#));
//! # Ok::<(), hydrant::event::EventError>(())
//! ```

mod error;
mod field;
mod holders;
mod names;
mod owner;
mod plugin_action;
mod position;
pub mod posting;
mod secrets;
mod stream;
mod strings;
mod time;
mod wire;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use crate::json;
use crate::websocket::frame::{Encoding, HEADER_ROOM};
pub use error::{EventError, EventFault};
use field::Field;
use holders::Holders;
use names::Names;
pub use owner::{ENDPOINT, ISSUER, store};
pub use position::Position;
use stream::StreamText;
pub use time::parse as parse_time;
use wire::{FrameStart, TIME, Wire, offset};

/// The type of answers to commands; clients cannot publish it.
pub const ANSWER_TYPE: &str = "websocket";

/// The type of the broker's own notices; clients cannot post it.
const NOTICE_TYPE: &str = "hydrant";

static SERIALISATIONS: AtomicU64 = AtomicU64::new(0);

/// Returns the number of events serialized by this process and not refused afterwards, except those for one connection.
pub fn serialisations() -> u64 {
    SERIALISATIONS.load(Ordering::Relaxed)
}

/// Subtracts events from the count of [`serialisations`]: they were serialized but never accepted, because they were
/// refused together with others, or were duplicates.
pub fn discard(events: usize) {
    SERIALISATIONS.fetch_sub(events as u64, Ordering::Relaxed);
}

/// An event as a producer sent it: slices of its text, not yet serialized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft<'t> {
    /// Time in RFC 3339, as given; `None` if it was missing.
    pub time: Option<Cow<'t, str>>,
    /// Type of the object, such as `machines`.
    pub kind: Cow<'t, str>,
    /// What happened to the object, such as `update`.
    pub action: Cow<'t, str>,
    /// Key of the object, such as a UUID or a name.
    pub key: Cow<'t, str>,
    /// The principal that caused the event, according to the producer.
    pub principal: Cow<'t, str>,
    /// The object after the change, as JSON text; `null` if there is none.
    pub object: &'t str,
    /// The object before the change, as JSON text; `null` if there is none.
    pub original: &'t str,
    /// The prefix of the accounts of the users it names: [`ENDPOINT`], [`ISSUER`] or, for hydrant's own, nothing.
    pub store: &'static str,
}

impl<'t> Draft<'t> {
    /// Creates an event without objects, principal and time.
    pub fn new(kind: &'t str, action: &'t str, key: &'t str) -> Self {
        Self {
            time: None,
            kind: Cow::Borrowed(kind),
            action: Cow::Borrowed(action),
            key: Cow::Borrowed(key),
            principal: Cow::Borrowed(""),
            object: "null",
            original: "null",
            store: "",
        }
    }

    /// Reads the fields of an event from valid JSON. Names match in any letter case, unknown names are ignored, the
    /// last of several equal names wins, and `null` means absent. An absent Type, Action or Key is empty.
    ///
    /// # Errors
    /// Returns an [`EventError`] for the first field that cannot be accepted.
    pub fn read(text: &'t str) -> Result<Self, EventError> {
        let start = text.len() - text.trim_start().len();
        if !text[start..].starts_with('{') {
            return Err(EventFault::NotAnObject.at(start));
        }
        Self::from_members(json::members(text))
    }

    /// Like [`Draft::read`], for a text that a person has written and may have written wrongly: it must name a Type and
    /// an Action, though they may be empty.
    ///
    /// # Errors
    /// As [`Draft::read`], and if one of the two is missing.
    pub fn read_named(text: &'t str) -> Result<Self, EventError> {
        let draft = Self::read(text)?;
        let named = [("Type", Field::Type), ("Action", Field::Action)];
        match named.into_iter().find(|(_, field)| field.offset_in(json::members(text)).is_none()) {
            Some((field, _)) => Err(EventFault::Unnamed { field }.at(text.trim_end().len() - 1)),
            None => Ok(draft),
        }
    }

    /// Like [`Draft::read`], with the same errors, from a parsed value whose text is not walked again. Offsets count
    /// from the start of the whole parsed text.
    ///
    /// # Errors
    /// As [`Draft::read`].
    pub fn of(value: &json::Value<'t, '_>) -> Result<Self, EventError> {
        if !value.is_object() {
            return Err(EventFault::NotAnObject.at(value.offset()));
        }
        Self::from_members(value.members())
    }

    fn from_members(members: impl Iterator<Item = json::Member<'t>> + Clone) -> Result<Self, EventError> {
        let mut draft = Self::new("", "", "");
        for member in members.clone() {
            draft.take(&member)?;
        }
        if draft.kind == ANSWER_TYPE {
            return Err(EventFault::Reserved.at(Field::Type.offset_in(members).unwrap_or_default()));
        }
        Ok(draft)
    }

    fn take(&mut self, member: &json::Member<'t>) -> Result<(), EventError> {
        match Field::of(member) {
            Some(Field::Time) => self.time = time(member)?,
            Some(Field::Type) => self.kind = string("Type", member)?,
            Some(Field::Action) => self.action = string("Action", member)?,
            Some(Field::Key) => self.key = string("Key", member)?,
            Some(Field::Principal) => self.principal = string("Principal", member)?,
            Some(Field::Object) => self.object = member.value,
            Some(Field::Original) => self.original = member.value,
            None => {}
        }
        Ok(())
    }

    /// Serializes the event. `now` replaces a missing time.
    pub fn seal(&self, now: Timestamp) -> Event {
        self.seal_by(|| now)
    }

    /// Like [`Draft::seal`], with a clock that is read only if no time was given.
    pub fn seal_by(&self, clock: impl FnOnce() -> Timestamp) -> Event {
        SERIALISATIONS.fetch_add(1, Ordering::Relaxed);
        self.write(clock)
    }

    /// Serializes an event for a single connection, such as an answer; [`serialisations`] does not count it.
    pub fn seal_for_one(&self, now: Timestamp) -> Event {
        self.write(|| now)
    }

    fn write(&self, clock: impl FnOnce() -> Timestamp) -> Event {
        let mut wire = Wire::new(self.object.len() + self.original.len() + self.key.len());
        wire.time(self.time.as_deref(), clock);
        wire.string(",\"Type\":", &self.kind);
        wire.string(",\"Action\":", &self.action);
        wire.string(",\"Key\":", &self.key);
        wire.string(",\"Principal\":", &self.principal);
        let scrub = secrets::Scrub::of(&self.kind, &self.key);
        let object = wire.value(",\"Object\":", self.object, scrub);
        let original = wire.value(",\"Original\":", self.original, scrub);
        let (frame, header) = wire.finish();
        let (machine, work_order) = if self.kind == "jobs" { owner::of_job(self.object) } else { (None, None) };
        let owner = match machine.as_deref() {
            Some(machine) if !machine.is_empty() => Some(Cow::Borrowed(machine)),
            _ => owner::machine(&self.kind, &self.key, self.object, self.original),
        };
        let names = Names::new([
            self.kind.as_ref(),
            self.action.as_ref(),
            owner::source(&self.kind, &self.key, self.store),
            self.key.as_ref(),
            machine.as_deref().unwrap_or_default(),
            work_order.as_deref().unwrap_or_default(),
            owner.as_deref().unwrap_or_default(),
        ]);
        let (deflated, streamed, holders) = (OnceLock::new(), OnceLock::new(), Holders::default());
        Event {
            frame,
            header,
            object,
            original,
            names,
            position: None,
            is_resumable: true,
            deflated,
            streamed,
            holders,
        }
    }
}

fn string<'t>(field: &'static str, member: &json::Member<'t>) -> Result<Cow<'t, str>, EventError> {
    if member.value == "null" {
        return Ok(Cow::Borrowed(""));
    }
    json::as_string(member.value).ok_or_else(|| EventFault::NotAString { field }.at(member.offset))
}

fn time<'t>(member: &json::Member<'t>) -> Result<Option<Cow<'t, str>>, EventError> {
    let text = string("Time", member)?;
    if text.is_empty() {
        return Ok(None);
    }
    if time::parse(text.as_bytes()).is_some() {
        return Ok(Some(text));
    }
    Err(EventFault::BadTime { text: text.chars().take(64).collect() }.at(member.offset))
}

/// A validated event with its websocket frame, ready for any number of sockets. Immutable, shared by reference count.
#[derive(Debug)]
pub struct Event {
    frame: Box<[u8]>,
    header: FrameStart,
    object: Range<u32>,
    original: Range<u32>,
    names: Names,
    /// Position in this process's order; `None` if the event was never sequenced.
    position: Option<Position>,
    /// Whether a client can resume from its Time.
    is_resumable: bool,
    /// The deflated frame, or `None` if the event is better sent plain; not set before it is first needed.
    deflated: OnceLock<Option<Box<[u8]>>>,
    /// The text for connections that are not websockets; not set before it is first needed.
    streamed: OnceLock<StreamText>,
    holders: Holders,
}

impl Event {
    /// Returns the websocket text frame, header included.
    pub fn frame(&self) -> &[u8] {
        &self.frame[usize::from(self.header.0)..]
    }

    /// Sets the event's position; the sequencer calls this before the event is shared.
    pub fn set_position(&mut self, position: Position) {
        self.position = Some(position);
    }

    /// Has event streams write no id for this event, unless it has a position: nobody can resume from its Time.
    pub fn forbid_resuming(&mut self) {
        self.is_resumable = false;
    }

    /// Returns the position in this process's order; `None` if the event was never sequenced here.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Returns the bytes for a connection with this encoding: the plain frame if the event has no deflated one. The
    /// text for streams is written when it is first needed, at most once per event.
    pub fn frame_in(&self, encoding: Encoding) -> &[u8] {
        match encoding {
            Encoding::Plain => self.frame(),
            Encoding::Deflate => self.deflated.get().and_then(Option::as_deref).unwrap_or_else(|| self.frame()),
            Encoding::EventStream => self.streamed().message(),
            Encoding::Lines => self.streamed().line(),
        }
    }

    fn streamed(&self) -> &StreamText {
        self.streamed.get_or_init(|| StreamText::of(self))
    }

    /// Creates the deflated frame by `make`, which receives the JSON text, unless this was already tried: at most once
    /// per event, across all threads. Returns the encoding that now has a frame.
    pub fn deflate_once(&self, make: impl FnOnce(&str) -> Option<Box<[u8]>>) -> Encoding {
        match self.deflated.get_or_init(|| make(self.json())) {
            Some(_) => Encoding::Deflate,
            None => Encoding::Plain,
        }
    }

    /// Returns the whole event as compact JSON.
    pub fn json(&self) -> &str {
        self.text(HEADER_ROOM..self.frame.len())
    }

    /// Returns this event with the Original of `earlier`, so that it describes all changes since then.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut wire = Wire { bytes: Vec::with_capacity(self.original.start as usize + earlier.original.len() + 1) };
        wire.bytes.extend_from_slice(&self.frame[..self.original.start as usize]);
        wire.bytes.extend_from_slice(earlier.original().as_bytes());
        let original = self.original.start..offset(wire.bytes.len());
        let (frame, header) = wire.finish();
        Self {
            frame,
            header,
            object: self.object.clone(),
            original,
            names: self.names.clone(),
            position: self.position,
            is_resumable: self.is_resumable,
            deflated: OnceLock::new(),
            streamed: OnceLock::new(),
            holders: Holders::default(),
        }
    }

    /// Returns the event's time in RFC 3339, at most 35 bytes.
    pub fn time(&self) -> &str {
        // Without a look at the rest, which is long.
        let start = HEADER_ROOM + TIME.len();
        memchr::memchr(b'"', &self.frame[start..]).map_or("", |length| self.text(start..start + length))
    }

    /// Returns the event's time, parsed.
    pub fn moment(&self) -> Option<Timestamp> {
        time::parse(self.time())
    }

    /// Returns the object after the change as compact JSON; `null` if there is none.
    pub fn object(&self) -> &str {
        self.text(self.object.start as usize..self.object.end as usize)
    }

    /// Returns the object before the change as compact JSON; `null` if there is none.
    pub fn original(&self) -> &str {
        self.text(self.original.start as usize..self.original.end as usize)
    }

    fn text(&self, range: Range<usize>) -> &str {
        std::str::from_utf8(&self.frame[range]).expect("written from text, cut at the ends of values")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(text: &str) -> Event {
        Draft::read(text).unwrap().seal("2026-01-02T03:04:05Z".parse().unwrap())
    }

    #[test]
    fn fields_are_written_in_order_and_none_is_left_out() {
        let event = sealed(r#"{"key":"k","TYPE":"machines","Action":"update","Extra":1}"#);
        let expected = concat!(
            r#"{"Time":"2026-01-02T03:04:05Z","Type":"machines","Action":"update","Key":"k","#,
            r#""Principal":"","Object":null,"Original":null}"#
        );
        assert_eq!(event.json(), expected);
        assert_eq!((event.object(), event.original()), ("null", "null"));
        assert_eq!(event.time(), "2026-01-02T03:04:05Z");
    }

    #[test]
    fn objects_pass_through_byte_for_byte() {
        let event = sealed(concat!(
            r#"{"Type":"a","Action":"b","Object": {"z": 12345678901234567890123, "a" :"\u00e9 <", "n":1.0},"#,
            r#""Original":[ 1 ]}"#,
        ));
        assert_eq!(event.object(), r#"{"z":12345678901234567890123,"a":"\u00e9 <","n":1.0}"#);
        assert_eq!(event.original(), "[1]");
    }

    #[test]
    fn the_frame_header_tells_the_payload_length() {
        for size in [0, 1, 100, 200, 65_000, 65_600, 70_000] {
            let text = format!(r#"{{"Type":"a","Action":"b","Object":"{}"}}"#, "x".repeat(size));
            let event = sealed(&text);
            let frame = event.frame();
            let (len, header) = match frame[1] {
                126 => (u64::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
                127 => (u64::from_be_bytes(frame[2..10].try_into().unwrap()), 10),
                short => (u64::from(short), 2),
            };
            assert_eq!(frame[0], 0x81);
            assert_eq!(len, event.json().len() as u64);
            assert_eq!(&frame[header..], event.json().as_bytes());
        }
    }

    #[test]
    fn an_event_since_an_earlier_one_shows_the_whole_change() {
        let at = |second: u8, object: &str, original: &str| {
            sealed(&format!(
                "{{\"Time\":\"2026-01-02T03:04:0{second}Z\",\"Type\":\"jobs\",\"Action\":\"update\",\"Key\":\"k\",\
                 \"Object\":{object},\"Original\":{original}}}"
            ))
        };
        let long = format!("{{\"Machine\":\"m\",\"N\":\"{}\"}}", "x".repeat(70_000));
        let (first, last) = (at(1, "{}", r#"{"a":1}"#), at(2, &long, "{}"));
        let both = last.since(&first);
        assert_eq!(
            (both.time(), both.object(), both.original()),
            ("2026-01-02T03:04:02Z", last.object(), r#"{"a":1}"#)
        );
        let written = at(2, &long, r#"{"a":1}"#);
        assert_eq!((both.frame(), both.machine()), (written.frame(), Some("m")));
        assert_eq!(first.since(&last).original(), "{}");
    }

    #[test]
    fn jobs_know_their_machine_and_work_order() {
        let job = sealed(r#"{"Type":"jobs","Action":"b","Object":{"Machine":"m0","Machine":"m1","WorkOrder":""}}"#);
        assert_eq!((job.machine(), job.work_order()), (Some("m1"), None));
        let other = sealed(r#"{"Type":"machines","Action":"b","Object":{"Machine":"m1"}}"#);
        assert_eq!(other.machine(), None);
    }

    #[test]
    fn secrets_are_removed_from_object_and_original() {
        for kind in ["users", "machines", "preferences"] {
            let object = r#"{"Secret":"s","systemGrantorSecret":"s"}"#;
            let event = sealed(&format!(r#"{{"Type":"{kind}","Action":"b","Object":{object},"Original":{object}}}"#));
            assert_eq!(event.original(), event.object());
            assert!(event.object().len() < object.len(), "{kind}: {}", event.object());
        }
    }

    #[test]
    fn names_that_are_missing_are_empty() {
        for text in ["{}", r#"{"Type":"","Action":"","Key":""}"#, r#"{"Type":null,"Action":null,"Key":null}"#] {
            let event = sealed(text);
            assert!(event.json().contains(r#""Type":"","Action":"","Key":"","Principal":"""#), "{}", event.json());
            assert_eq!((event.kind(), event.action(), event.key()), ("", "", ""), "{text}");
        }
    }

    #[test]
    fn bad_events_are_refused_with_the_field() {
        for (text, error) in [
            ("  []", EventFault::NotAnObject.at(2)),
            (r#"{"Type":1,"Action":"b"}"#, EventFault::NotAString { field: "Type" }.at(8)),
            (r#"{"Key":"k", "Type" : ["a"]}"#, EventFault::NotAString { field: "Type" }.at(21)),
            (r#"{"Type":"websocket","Action":"b"}"#, EventFault::Reserved.at(8)),
            (r#" {"Type":"a","typ\u0065":"websocket"}"#, EventFault::Reserved.at(25)),
        ] {
            assert_eq!(Draft::read(text).unwrap_err(), error, "{text}");
            let of =
                |validator: &mut json::Validator| Draft::of(&validator.read(text.as_bytes()).unwrap()).unwrap_err();
            assert_eq!(json::Validator::lend(of), error, "{text}");
        }
    }

    #[test]
    fn who_writes_by_hand_names_a_type_and_an_action() {
        let missing = |field: &'static str, at| Err(EventFault::Unnamed { field }.at(at));
        assert_eq!(Draft::read_named("{} "), missing("Type", 1));
        assert_eq!(Draft::read_named(r#"{"type":"","Object":{"Action":"b"}}"#), missing("Action", 34));
        assert_eq!(Draft::read_named(r#"{"action":null,"Type":""}"#), Ok(Draft::new("", "", "")));
    }

    #[test]
    fn times_are_checked_as_go_reads_them() {
        let with = |time: &str| format!(r#"{{"Time":"{time}","Type":"a","Action":"b"}}"#);
        for good in [
            "2026-11-24T04:22:08.335670491Z",
            "2026-11-24T04:22:08+02:00",
            "2026-11-24T04:22:08.5-11:30",
            "1996-12-19T16:39:57Z",
        ] {
            assert!(sealed(&with(good)).json().contains(good), "{good}");
        }
        for bad in [
            "2026-11-24 04:22:08Z",
            "2026-11-24t04:22:08z",
            "2026-11-24T04:22:60Z",
            "2026-13-24T04:22:08Z",
            "2026-02-30T04:22:08Z",
            "2026-11-24T04:22:08",
            "2026-11-24T04:22:08.1234567890Z",
            "2026-11-24T04:22:08.Z",
            "now",
        ] {
            let error = Draft::read(&with(bad)).unwrap_err();
            assert!(matches!(error, EventError { offset: 8, fault: EventFault::BadTime { .. } }), "{bad}: {error}");
        }
        assert_eq!(
            sealed(&with("0001-01-01T00:00:00Z")).time(),
            "0001-01-01T00:00:00Z",
            "an endpoint's passes through"
        );
        assert!(sealed(&with("")).json().contains("2026-01-02T03:04:05Z"));
    }
}
