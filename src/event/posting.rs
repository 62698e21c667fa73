//! Parses what a producer posts: one event, an array of events, or one event per line (NDJSON).
//!
//! Contract: all or nothing. An error names the element or line of the first event that cannot be accepted, and the
//! byte in it, counted as in the body that was sent; what is wrong with an event as a whole (its length) has no byte.
//! Nothing here reads a clock; the caller passes a function that returns the time, which is called for each event
//! without a Time. A posted event needs a Type and an Action, and is no notice of the broker's. These rules are for
//! producers of hydrant's own, and not for events that an endpoint has accepted.

use std::borrow::Cow;
use std::{fmt, mem};

use jiff::Timestamp;
use memchr::memchr_iter;
use thiserror::Error;

use super::field::Field;
use super::{Draft, Event, EventError, EventFault, NOTICE_TYPE, time};
use crate::json::{JsonError, JsonFault, Validator, Value};

/// The format of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One event, or an array of events.
    Json,
    /// One event per line; blank lines are ignored.
    Lines,
}

/// The caller's rules for the posted events.
#[derive(Debug, Clone, Copy)]
pub struct Posting<'a> {
    /// The posting principal: that of events that name none, or of all events.
    pub principal: &'a str,
    /// Whether events may name a principal of their own.
    pub may_impersonate: bool,
    /// Maximum length of one event's text, in bytes.
    pub event_bytes: usize,
    /// Maximum number of events. Each costs some hundred bytes besides its text, so that many small events would take
    /// many times the memory of their body.
    pub events: usize,
    /// The clock for events without a time.
    pub now: fn() -> Timestamp,
}

impl Posting<'_> {
    /// Reads the events of a body and seals them, in order.
    ///
    /// # Errors
    /// Returns a [`PostingError`] for the first event that cannot be accepted.
    pub fn read(&self, body: &[u8], form: Form) -> Result<Vec<Event>, PostingError> {
        // Some editors and PowerShell write a byte order mark at the beginning of a file.
        let marked = body.strip_prefix(b"\xEF\xBB\xBF");
        let skipped = if marked.is_some() { 3 } else { 0 };
        let body = marked.unwrap_or(body);
        Validator::lend(|validator| match form {
            Form::Json => self.read_json(validator, body, skipped),
            Form::Lines => self.read_lines(validator, body, skipped),
        })
    }

    fn read_json(&self, validator: &mut Validator, body: &[u8], skipped: usize) -> Result<Vec<Event>, PostingError> {
        let whole = validator.read(body).map_err(|error| within(error, skipped))?;
        if !whole.is_array() {
            let refused = |error: EntryError| Location::Whole.of(error.moved(|offset| offset + skipped));
            return Ok(vec![self.event(&whole).map_err(refused)?]);
        }
        let mut events = Sealed::default();
        for (at, element) in whole.elements().enumerate() {
            let within = |error: EntryError| error.moved(|offset| offset.saturating_sub(element.offset()));
            events.0.push(self.next(at, &element).map_err(|error| Location::Element(at).of(within(error)))?);
        }
        Ok(events.taken())
    }

    fn read_lines(&self, validator: &mut Validator, body: &[u8], skipped: usize) -> Result<Vec<Event>, PostingError> {
        let mut events = Sealed::default();
        for (at, line) in lines(body).enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let skipped = if at == 0 { skipped } else { 0 };
            let refused = |error: EntryError| Location::Line(at + 1).of(error.moved(|offset| offset + skipped));
            let value = validator.read(line).map_err(|error| refused(in_line(error).into()))?;
            let others = events.0.len();
            events.0.push(self.next(others, &value).map_err(refused)?);
        }
        Ok(events.taken())
    }

    /// Reads an event that follows `others` other events.
    fn next(&self, others: usize, value: &Value<'_, '_>) -> Result<Event, EntryError> {
        if others >= self.events {
            return Err(EntryError::TooMany { allowed: self.events });
        }
        self.event(value)
    }

    fn event(&self, value: &Value<'_, '_>) -> Result<Event, EntryError> {
        let bytes = value.text().len();
        if bytes > self.event_bytes {
            return Err(EntryError::TooLarge { bytes, allowed: self.event_bytes });
        }
        let mut draft = Draft::of(value)?;
        check(&draft, value)?;
        // Go clients send the zero time to mean "no time given".
        draft.time.take_if(|time| time::is_zero(time));
        if draft.principal.is_empty() || !self.may_impersonate {
            draft.principal = Cow::Borrowed(self.principal);
        }
        Ok(draft.seal_by(self.now))
    }
}

/// Checks what is required of posted events only.
fn check(draft: &Draft<'_>, value: &Value<'_, '_>) -> Result<(), EventError> {
    let (field, fault) = if draft.kind.is_empty() {
        (Field::Type, EventFault::Missing { field: "Type" })
    } else if draft.action.is_empty() {
        (Field::Action, EventFault::Missing { field: "Action" })
    } else if draft.kind == NOTICE_TYPE {
        (Field::Type, EventFault::Notice)
    } else {
        return Ok(());
    };
    let brace = value.offset() + value.text().len() - 1;
    Err(fault.at(field.offset_in(value.members()).unwrap_or(brace)))
}

/// The events read from a body so far. If they are dropped because of an error, they are no longer counted as
/// serialized.
#[derive(Default)]
struct Sealed(Vec<Event>);

impl Sealed {
    fn taken(mut self) -> Vec<Event> {
        mem::take(&mut self.0)
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        super::discard(self.0.len());
    }
}

/// Converts an error of a whole body. If it is in an element, its offset is made relative to the start of that element.
fn within(mut error: JsonError, skipped: usize) -> PostingError {
    let Some((element, start)) = error.element else {
        error.offset += skipped;
        return Location::Whole.of(error);
    };
    error.offset = error.offset.saturating_sub(start);
    Location::Element(element).of(error)
}

/// Converts an error of a line: whoever sends lines already knows that there may be several events.
fn in_line(error: JsonError) -> JsonError {
    let fault = if error.fault == JsonFault::Second { JsonFault::SecondInLine } else { error.fault };
    JsonError { fault, ..error }
}

/// Splits a body into lines, without their line breaks.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    let ends = memchr_iter(b'\n', body).chain([body.len()]);
    ends.map(move |end| &body[mem::replace(&mut start, end + 1)..end])
}

/// The reason why a body was refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{location}{error}")]
pub struct PostingError {
    /// Location of the error in the body.
    pub location: Location,
    /// The error itself.
    pub error: EntryError,
}

/// A location in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// The body as a whole.
    Whole,
    /// An element of the array, counted from zero.
    Element(usize),
    /// A line, counted from one.
    Line(usize),
}

impl EntryError {
    /// Counts the offset of the error from another byte.
    fn moved(mut self, count: impl FnOnce(usize) -> usize) -> Self {
        match &mut self {
            Self::Json(JsonError { offset, .. }) | Self::Event(EventError { offset, .. }) => *offset = count(*offset),
            Self::TooLarge { .. } | Self::TooMany { .. } => {}
        }
        self
    }
}

impl Location {
    fn of(self, error: impl Into<EntryError>) -> PostingError {
        PostingError { location: self, error: error.into() }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Element(at) => write!(f, "element {at}: "),
            Self::Line(at) => write!(f, "line {at}: "),
        }
    }
}

/// An error in one event.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum EntryError {
    /// The text is not JSON, or is JSON that is deliberately not accepted.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The JSON value is not an event.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The text is too long.
    #[error("an event of {bytes} bytes is too long: at most {allowed} are allowed")]
    TooLarge {
        /// Length of the text in bytes.
        bytes: usize,
        /// Maximum length in bytes.
        allowed: usize,
    },
    /// The body has too many events.
    #[error("too many events in one request: at most {allowed} are allowed; post the rest separately")]
    TooMany {
        /// Maximum number of events.
        allowed: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSTING: Posting<'_> = Posting {
        principal: "user:a",
        may_impersonate: false,
        event_bytes: 1000,
        events: 3,
        now: || Timestamp::UNIX_EPOCH,
    };

    fn read(form: Form, body: &str) -> Result<Vec<String>, String> {
        let events = POSTING.read(body.as_bytes(), form).map_err(|error| error.to_string())?;
        Ok(events.iter().map(|event| event.key().to_owned()).collect())
    }

    const GOOD: &str = r#"{"Type":"a","Action":"b","Key":"k"}"#;

    #[test]
    fn one_event_arrays_and_lines_are_read() {
        assert_eq!(read(Form::Json, GOOD), Ok(vec!["k".to_owned()]));
        assert_eq!(read(Form::Json, &format!(" [ {GOOD} , {GOOD} ] ")).unwrap().len(), 2);
        assert_eq!(read(Form::Json, "[]"), Ok(vec![]));
        assert_eq!(read(Form::Lines, &format!("{GOOD}\r\n\n  {GOOD}\n")).unwrap().len(), 2);
    }

    #[test]
    fn a_second_value_is_told_by_the_form() {
        let line = read(Form::Lines, &format!("{GOOD}\n{GOOD} {GOOD}")).unwrap_err();
        let expected =
            "line 2: not valid JSON at byte 36: a second value on the line; put each event on a line of its own";
        assert_eq!(line, expected);
        let whole = read(Form::Json, &format!("{GOOD} {GOOD}")).unwrap_err();
        assert!(whole.starts_with("not valid JSON at byte 36: a second value after the first; send"), "{whole}");
    }

    #[test]
    fn errors_name_the_place() {
        let event = |kind: &str| format!(r#"{{"Type":"{kind}","Action":"x"}}"#);
        for (form, body, expected) in [
            (Form::Json, r#"{"Type":}"#.to_owned(), "not valid JSON at byte"),
            (Form::Json, format!(r#"[{GOOD},{{"Type":"a"}}]"#), "element 1: at byte 11: Action is missing or empty"),
            (Form::Json, format!(r#"[{GOOD}, {{"Type":"a" }} ]"#), "element 1: at byte 12: Action is missing or empty"),
            (Form::Json, format!(r#"[{GOOD},{{"Action":"","Type":"a"}}]"#), "element 1: at byte 10: Action is missing"),
            (
                Form::Json,
                format!("\u{feff}\n[{GOOD} ,\n{{\"Type\":\"a\",\"Action\":\"b\",\"Key\": 5}}]"),
                "element 1: at byte 32: Key must be a string",
            ),
            (
                Form::Json,
                format!(r#"[{GOOD},{GOOD},{{"Action":"b","Time":"yesterday"}}]"#),
                "element 2: at byte 21: Time is not an RFC 3339 time",
            ),
            (Form::Lines, format!("{GOOD}\n {{\"Type\":1}}"), "line 2: at byte 9: Type must be a string"),
            (Form::Lines, "\u{feff}{\"Type\":}".to_owned(), "line 1: not valid JSON at byte 11: found '}'"),
            (Form::Lines, "\u{feff} {\"Type\":1}".to_owned(), "line 1: at byte 12: Type must be a string"),
            (Form::Lines, format!("\u{feff}{GOOD}\n{{\"Type\":1}}"), "line 2: at byte 8: Type must be a string"),
            (
                Form::Lines,
                format!("\u{feff}{GOOD}\n\u{feff}{GOOD}"),
                "line 2: not valid JSON at byte 0: a byte order mark",
            ),
            (Form::Lines, format!("\u{feff}{GOOD}\u{feff}"), "line 1: not valid JSON at byte 38: a byte order mark"),
            (
                Form::Json,
                format!("[{GOOD},\n\u{feff}{GOOD}]"),
                "element 1: not valid JSON at byte 0: a byte order mark",
            ),
            (Form::Json, format!("\u{feff}\u{feff}{GOOD}"), "not valid JSON at byte 3: a byte order mark"),
            (
                Form::Lines,
                format!("{GOOD}\r\n\n{{\"Type\":\"a\"}}\r\n"),
                "line 3: at byte 11: Action is missing or empty",
            ),
            (
                Form::Json,
                format!("[{GOOD},\n{{\"Type\":\"a\tb\"}}]"),
                "element 1: not valid JSON at byte 10: a control character",
            ),
            (Form::Json, format!("[{GOOD},{{\"Type\":1e400}}]"), "element 1: at byte 8: a number beyond the range"),
            (Form::Json, format!("{GOOD}\n{GOOD}\n"), "not valid JSON at byte 36: a second value after the first"),
            (Form::Json, "\u{feff}{\"Type\":}".to_owned(), "not valid JSON at byte 11: found '}', expected a value"),
            (
                Form::Lines,
                format!("{GOOD}\n{{\"Type\":NaN}}"),
                "line 2: not valid JSON at byte 8: `NaN` is not a JSON value",
            ),
            (Form::Json, r#"{"Action":"b"}"#.to_owned(), "at byte 13: Type is missing or empty"),
            (Form::Json, r#" {"Type":"b","Action":null}"#.to_owned(), "at byte 22: Action is missing or empty"),
            (Form::Json, "\u{feff}{\"Type\":7}".to_owned(), "at byte 11: Type must be a string"),
            (Form::Json, "\u{feff} {}".to_owned(), "at byte 5: Type is missing or empty"),
            (Form::Json, r#"{"Type":"hydrant","Action":"gap"}"#.to_owned(), "at byte 8: Type `hydrant` is reserved"),
            (Form::Lines, event("websocket"), "line 1: at byte 8: Type `websocket` is reserved"),
            (Form::Json, "[ 1]".to_owned(), "element 0: at byte 0: an event must be a JSON object"),
            (Form::Json, " \"x\"".to_owned(), "at byte 1: an event must be a JSON object"),
            (Form::Json, r#" {"Type":}"#.to_owned(), "not valid JSON at byte 9: "),
            (Form::Lines, format!("{GOOD}\n\n{{\"Type\":}}\n"), "line 3: not valid JSON at byte 8: "),
            (Form::Lines, format!("{GOOD}\n\n{{\"Type\":\n"), "line 3: not valid JSON"),
            (Form::Lines, format!("{GOOD}\n[{GOOD}]"), "line 2: at byte 0: an event must be a JSON object"),
            (Form::Lines, format!(r#"{{"Type":"{}"}}"#, "x".repeat(2000)), "line 1: an event of 2011 bytes"),
        ] {
            let error = read(form, &body).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_a_zero_time_is_none() {
        let zero = r#"{"Time":"0001-01-01T00:00:00Z","Type":"a","Action":"b"}"#;
        for form in [Form::Json, Form::Lines] {
            let body = format!("\u{feff}{zero}");
            let events = POSTING.read(body.as_bytes(), form).unwrap();
            assert_eq!(events[0].time(), "1970-01-01T00:00:00Z");
        }
    }

    #[test]
    fn an_event_may_be_as_long_as_allowed() {
        let of = |length: usize| GOOD.replace("\"k\"", &format!("\"{}\"", "k".repeat(length - GOOD.len() + 1)));
        for form in [Form::Json, Form::Lines] {
            assert!(read(form, &format!("  {}  ", of(1000))).is_ok());
            assert!(
                read(form, &of(1001))
                    .unwrap_err()
                    .contains("an event of 1001 bytes is too long: at most 1000 are allowed")
            );
        }
        let error = read(Form::Json, &format!("[{}, {} ]", of(1000), of(1001))).unwrap_err();
        assert_eq!(error, "element 1: an event of 1001 bytes is too long: at most 1000 are allowed");
    }

    #[test]
    fn so_many_events_may_come_together() {
        let body = |count: usize, between: &str| vec![GOOD; count].join(between);
        assert_eq!(read(Form::Json, &format!("[{}]", body(3, ","))).unwrap().len(), 3);
        assert_eq!(read(Form::Lines, &format!("\n{}\n\n", body(3, "\n\n"))).unwrap().len(), 3);
        let error = read(Form::Json, &format!("[{}]", body(4, ","))).unwrap_err();
        assert!(error.starts_with("element 3: too many events in one request: at most 3"), "{error}");
        let error = read(Form::Lines, &body(4, "\n\n")).unwrap_err();
        assert!(error.starts_with("line 7: too many events in one request: at most 3"), "{error}");
    }

    #[test]
    fn the_principal_is_the_callers_unless_it_may_impersonate() {
        let body = br#"{"Type":"a","Action":"b","Principal":"user:other"}"#;
        let principal = |posting: &Posting<'_>| {
            let events = posting.read(body, Form::Json).unwrap();
            events[0].json().contains(r#""Principal":"user:other""#)
        };
        assert!(!principal(&POSTING));
        assert!(principal(&Posting { may_impersonate: true, ..POSTING }));
    }
}
