//! Finding the events in a file: one a line (NDJSON), one or more documents over several lines, or an array of them.
//!
//! What the input is, its first line that is not blank tells: if that line is a JSON object by itself, every line is
//! one event; otherwise objects are looked for wherever they begin and end, in an array or not. Nothing but the event
//! at hand is kept, so a file may be of any size; an event may not ([`LONGEST_EVENT`]).
//!
//! Only the JSON is checked here. Whether it is an event is for the server to say.

use std::io::{self, BufRead};

use thiserror::Error;

use crate::json::{self, Validator};

/// The default bound of the server for a whole request; longer events have no chance.
pub(super) const LONGEST_EVENT: usize = 64 << 20;

/// Why the input cannot be read on.
#[derive(Debug, Error)]
pub(crate) enum InputError {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("{line}: {reason}")]
    Json { line: u64, reason: String },
    #[error("{line}: the event that begins here is longer than {} MiB", LONGEST_EVENT >> 20)]
    TooLong { line: u64 },
}

/// An event as compact JSON without a line break.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Found {
    pub(in crate::cli) text: Vec<u8>,
    /// The line on which it begins, from one.
    pub(in crate::cli) line: u64,
}

/// Reads one event after another.
pub(in crate::cli) struct Splitter<R> {
    input: R,
    shape: Shape,
    /// Lines that were read completely.
    lines: u64,
    validator: Validator,
}

/// What the input looks like.
enum Shape {
    Unknown,
    Lines,
    /// Objects anywhere: the line at hand, how far it is read, and what may come next.
    Documents {
        line: Vec<u8>,
        at: usize,
        expect: Expect,
    },
    Ended,
}

/// What may stand between two events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// An event or an array.
    Anything,
    /// The first event of an array, or its end.
    FirstElement,
    /// After a comma: an event.
    Element,
    /// After an event in an array: a comma, or the end.
    Comma,
}

impl<R: BufRead> Splitter<R> {
    pub(in crate::cli) fn new(input: R) -> Self {
        Self { input, shape: Shape::Unknown, lines: 0, validator: Validator::default() }
    }

    /// The reader underneath.
    pub(super) fn input(&self) -> &R {
        &self.input
    }

    /// The next event, nothing at the end of the input. After an error there is nothing more.
    pub(in crate::cli) fn next(&mut self) -> Result<Option<Found>, InputError> {
        let result = match &self.shape {
            Shape::Unknown => self.first(),
            Shape::Lines => self.next_line(),
            Shape::Documents { .. } => self.next_document(),
            Shape::Ended => return Ok(None),
        };
        if !matches!(result, Ok(Some(_))) {
            self.shape = Shape::Ended;
        }
        result
    }

    fn first(&mut self) -> Result<Option<Found>, InputError> {
        let Some(line) = self.full_line()? else { return Ok(None) };
        let alone = line.trim_ascii_start().starts_with(b"{") && self.validator.validate(&line).is_ok();
        if alone {
            self.shape = Shape::Lines;
            return self.found(&line, self.lines).map(Some);
        }
        self.shape = Shape::Documents { line, at: 0, expect: Expect::Anything };
        self.next_document()
    }

    fn next_line(&mut self) -> Result<Option<Found>, InputError> {
        let Some(line) = self.full_line()? else { return Ok(None) };
        self.found(&line, self.lines).map(Some)
    }

    /// Goes to where the next object begins, minding what may stand in between.
    fn next_document(&mut self) -> Result<Option<Found>, InputError> {
        loop {
            let Shape::Documents { line, at, expect } = &mut self.shape else { return Ok(None) };
            let Some(&byte) = line.get(*at) else {
                if self.more()? {
                    continue;
                }
                return self.ended();
            };
            *expect = match (byte, *expect) {
                (b' ' | b'\t' | b'\r' | b'\n', same) => same,
                (b'{', Expect::Anything) => return self.object(Expect::Anything).map(Some),
                (b'{', Expect::FirstElement | Expect::Element) => return self.object(Expect::Comma).map(Some),
                (b'[', Expect::Anything) => Expect::FirstElement,
                (b']', Expect::FirstElement | Expect::Comma) => Expect::Anything,
                (b',', Expect::Comma) => Expect::Element,
                (_, same) => return Err(self.surprise(same)),
            };
            *at += 1;
        }
    }

    fn surprise(&self, expect: Expect) -> InputError {
        let Shape::Documents { line, at, .. } = &self.shape else { return self.error("unexpected text") };
        let text: String = String::from_utf8_lossy(&line[*at..]).trim_end().chars().take(20).collect();
        let wanted = match expect {
            Expect::Anything => "an event (a JSON object) or an array of events",
            Expect::FirstElement | Expect::Element => "an event (a JSON object)",
            Expect::Comma => "`,` or `]` after an event",
        };
        self.error(&format!("expected {wanted}, found `{}`", text.escape_debug()))
    }

    fn ended(&self) -> Result<Option<Found>, InputError> {
        match self.shape {
            Shape::Documents { expect, .. } if expect != Expect::Anything => {
                Err(self.error("the array is not closed at the end of the input"))
            }
            _ => Ok(None),
        }
    }

    /// Reads the object that begins here, up to the brace that closes it.
    fn object(&mut self, after: Expect) -> Result<Found, InputError> {
        let first = self.lines;
        let (mut text, mut scan) = (Vec::new(), Scan::default());
        while let Shape::Documents { line, at, expect } = &mut self.shape {
            if let Some(length) = scan.end(&line[*at..]) {
                text.extend_from_slice(&line[*at..*at + length]);
                (*at, *expect) = (*at + length, after);
                break;
            }
            text.extend_from_slice(&line[*at..]);
            if text.len() > LONGEST_EVENT {
                return Err(InputError::TooLong { line: first });
            }
            if !self.more()? {
                let reason = "the JSON that begins here is not complete at the end of the input".to_owned();
                return Err(InputError::Json { line: first, reason });
            }
        }
        self.found(&text, first)
    }

    /// Takes the next line, blank or not, into a document's shape.
    fn more(&mut self) -> Result<bool, InputError> {
        let Some(next) = self.line()? else { return Ok(false) };
        if let Shape::Documents { line, at, .. } = &mut self.shape {
            (*line, *at) = (next, 0);
        }
        Ok(true)
    }

    /// The next line that is not blank.
    fn full_line(&mut self) -> Result<Option<Vec<u8>>, InputError> {
        while let Some(line) = self.line()? {
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// The next line with its end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, InputError> {
        let mut line = Vec::new();
        let mut limited = io::Read::take(&mut self.input, LONGEST_EVENT as u64 + 1);
        limited.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        self.lines += 1;
        if line.len() > LONGEST_EVENT {
            return Err(InputError::TooLong { line: self.lines });
        }
        Ok(Some(line))
    }

    /// Checks and compacts a text that should be JSON; an error names the line of the file on which it is.
    fn found(&mut self, text: &[u8], first: u64) -> Result<Found, InputError> {
        let valid = self.validator.validate(text).map_err(|e| {
            let before = &text[..e.offset.min(text.len())];
            let breaks = before.split(|byte| *byte == b'\n').skip(1).count();
            InputError::Json { line: first + breaks as u64, reason: e.to_string() }
        })?;
        let mut compacted = Vec::with_capacity(valid.len());
        json::compact(valid, &mut compacted);
        Ok(Found { text: compacted, line: first })
    }

    fn error(&self, reason: &str) -> InputError {
        InputError::Json { line: self.lines, reason: reason.to_owned() }
    }
}

/// Where an object ends, line after line.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// The length up to and including the brace that closes the object, if that is in `bytes`.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, &byte) in bytes.iter().enumerate() {
            if self.in_string {
                self.in_string = self.escaped || byte != b'"';
                self.escaped = byte == b'\\' && !self.escaped;
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.depth == 0 {
                return Some(at + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Result<Vec<(u64, String)>, String> {
        let mut splitter = Splitter::new(text.as_bytes());
        let mut all = Vec::new();
        while let Some(found) = splitter.next().map_err(|e| e.to_string())? {
            all.push((found.line, String::from_utf8(found.text).unwrap()));
        }
        Ok(all)
    }

    fn events(text: &str) -> Vec<(u64, String)> {
        split(text).unwrap()
    }

    fn rows(rows: &[(u64, &str)]) -> Vec<(u64, String)> {
        rows.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
    }

    #[test]
    fn one_a_line_with_blank_lines_between() {
        let found = events("\n{\"a\": 1}\r\n\n  {\"a\": \"x y\"}\n{}");
        assert_eq!(found, rows(&[(2, r#"{"a":1}"#), (4, r#"{"a":"x y"}"#), (5, "{}")]));
        assert_eq!(events(""), rows(&[]));
        assert_eq!(events(" \n \n"), rows(&[]));
    }

    #[test]
    fn documents_over_several_lines() {
        let found = events("{\n  \"a\": [1,\n 2]\n}\n{\"b\":\n\"}\\\"{\"} {}\n");
        assert_eq!(found, rows(&[(1, r#"{"a":[1,2]}"#), (5, r#"{"b":"}\"{"}"#), (6, "{}")]));
    }

    #[test]
    fn arrays_on_one_line_and_over_several() {
        assert_eq!(events(r#"[{"a":1},{"b":[{}]}]"#), rows(&[(1, r#"{"a":1}"#), (1, r#"{"b":[{}]}"#)]));
        assert_eq!(events("[\n{\"a\":1}\n,\n{\n\"b\":2}\n]\n[]"), rows(&[(2, r#"{"a":1}"#), (4, r#"{"b":2}"#)]));
    }

    #[test]
    fn numbers_and_order_stay() {
        let text = r#"{"z":12345678901234567890123,"a":1.0}"#;
        assert_eq!(events(text), rows(&[(1, text)]));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, message) in [
            ("{}\n\n{\"a\":}\n", "3: not valid JSON at byte 5"),
            ("{}\n{\n", "2: not valid JSON"),
            ("{}\n{} {}\n", "2: not valid JSON"),
            ("{\n\"a\": 1,\n\"b\" 2\n}", "3: not valid JSON"),
            ("{\n\"a\":", "1: the JSON that begins here is not complete"),
            ("[{}\n{}]", "2: expected `,` or `]` after an event, found `{}]`"),
            ("[{},]", "1: expected an event (a JSON object), found `]`"),
            ("[{},\n", "1: the array is not closed"),
            ("[1]", "1: expected an event (a JSON object), found `1]`"),
            ("\nhello\n", "2: expected an event (a JSON object) or an array of events, found `hello`"),
        ] {
            let error = split(text).unwrap_err();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_layout_gives_the_same_events(values in proptest::collection::vec("[a-z{}\\[\\]\", \\\\]{0,8}", 1..6)) {
            let objects: Vec<serde_json::Value> = values.iter().map(|v| serde_json::json!({"k": [v, {"n": v}]})).collect();
            let expected: Vec<String> = objects.iter().map(ToString::to_string).collect();
            let pretty: Vec<String> = objects.iter().map(|o| serde_json::to_string_pretty(o).unwrap()).collect();
            let texts = |all: Vec<(u64, String)>| -> Vec<String> { all.into_iter().map(|(_, text)| text).collect() };
            proptest::prop_assert_eq!(&texts(events(&expected.join("\n"))), &expected);
            proptest::prop_assert_eq!(&texts(events(&pretty.join("\n"))), &expected);
            proptest::prop_assert_eq!(&texts(events(&pretty.join(" "))), &expected);
            proptest::prop_assert_eq!(&texts(events(&format!("[{}]", pretty.join(",")))), &expected);
            proptest::prop_assert_eq!(&texts(events(&format!("[{}]", expected.join(",\n")))), &expected);
        }
    }
}
