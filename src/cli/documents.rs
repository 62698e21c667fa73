//! Reads the JSON documents of an input: events as objects, one per line (NDJSON) or in any layout, and arrays of
//! events.
//!
//! Contract: only the current document is kept in memory, so an input may be of any size; the size of a document is
//! limited ([`LONGEST`]). An error is reported with its line, and inside an array with the number of the event. Only
//! the JSON is checked here; the server decides whether it is an event.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use serde_json::de::{IoRead, StreamDeserializer};
use serde_json::value::RawValue;
use thiserror::Error;

use super::text::printable;
use crate::json;

/// Maximum length of a document in bytes: the server's default limit for a whole request.
pub(super) const LONGEST: usize = 64 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The reason why reading the input stopped.
#[derive(Debug, Error)]
pub(crate) enum InputError {
    // Printed after the name of the input, as the others, but without a line.
    #[error(" {0}")]
    Read(#[from] io::Error),
    #[error("{line}: {reason}")]
    Json { line: u64, reason: String },
    #[error("{line}: the JSON value that begins here is longer than {} MiB", LONGEST >> 20)]
    TooLong { line: u64 },
}

/// An object as compact JSON without a line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) text: String,
    /// The line on which it begins, from 1.
    pub(super) line: u64,
}

/// One document of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Document {
    Object(Found),
    /// An array of objects.
    Array {
        /// The text as in the input.
        text: String,
        /// The line on which it begins.
        line: u64,
        events: Vec<Found>,
    },
}

/// Reads documents one after another.
pub(super) struct Documents<R: Read> {
    input: Rc<RefCell<Input<R>>>,
    stream: StreamDeserializer<'static, IoRead<Tap<R>>, Box<RawValue>>,
    ended: bool,
}

impl<R: Read> Documents<R> {
    pub(super) fn new(reader: R) -> Self {
        let reader = BufReader::with_capacity(256 * 1024, reader);
        let input = Input { reader, line: 1, begun: 1, document: Vec::new(), is_first: true };
        let input = Rc::new(RefCell::new(input));
        let stream = StreamDeserializer::new(IoRead::new(Tap(Rc::clone(&input))));
        Self { input, stream, ended: false }
    }

    /// Returns the next document, or `None` at the end of the input and after an error.
    pub(super) fn next(&mut self) -> Result<Option<Document>, InputError> {
        if self.ended {
            return Ok(None);
        }
        let document = match self.stream.next() {
            Some(Ok(text)) => self.document(&text).map(Some),
            Some(Err(error)) => Err(self.mistake(error)),
            None => Ok(None),
        };
        self.ended = !matches!(document, Ok(Some(_)));
        self.input.borrow_mut().document.clear();
        document
    }

    /// Returns whether no more input has been read than the documents returned so far.
    pub(super) fn is_waiting(&self) -> bool {
        self.input.borrow().reader.buffer().trim_ascii().is_empty()
    }

    fn document(&self, text: &RawValue) -> Result<Document, InputError> {
        let (text, line) = (text.get(), self.input.borrow().begun);
        match text.as_bytes().first() {
            Some(b'{') => Ok(Document::Object(found(text, line))),
            Some(b'[') => Ok(Document::Array { events: elements(text, line)?, text: text.to_owned(), line }),
            _ => Err(unexpected(text, line, "an event (a JSON object) or an array of events")),
        }
    }

    /// Returns the error for the document at which reading stopped.
    fn mistake(&self, error: serde_json::Error) -> InputError {
        let input = self.input.borrow();
        if error.is_io() {
            let too_long = input.document.len() > LONGEST;
            return if too_long { InputError::TooLong { line: input.begun } } else { InputError::Read(error.into()) };
        }
        if error.is_eof() {
            let reason = "the JSON that begins here is incomplete: the input ends too early and may be truncated";
            return InputError::Json { line: input.begun, reason: reason.to_owned() };
        }
        let (line, column) = (error.line(), error.column());
        let told = error.to_string();
        let told = told.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&told);
        let reason = format!("not valid JSON at column {column}: {told}{}", element(&input.document, input.begun));
        InputError::Json { line: line as u64, reason }
    }
}

/// Formats the position of an error in its array, which begins on line `begun`; empty if the document is not an array.
fn element(document: &[u8], begun: u64) -> String {
    if document.first() != Some(&b'[') {
        return String::new();
    }
    format!(", at event {} of the array that begins on line {begun}", last(document))
}

fn found(text: &str, line: u64) -> Found {
    let mut compacted = Vec::with_capacity(text.len());
    json::compact(text, &mut compacted);
    Found { text: String::from_utf8(compacted).expect("white space is taken out between characters"), line }
}

/// Parses the objects of an array that begins on this line.
fn elements(array: &str, line: u64) -> Result<Vec<Found>, InputError> {
    let mut events = Vec::new();
    let (mut line, mut seen) = (line, 0);
    for (at, element) in json::elements(array).enumerate() {
        let begins = element.as_ptr().addr() - array.as_ptr().addr();
        line += breaks(&array.as_bytes()[seen..begins]);
        seen = begins;
        if !element.starts_with('{') {
            return Err(unexpected(element, line, &format!("an object as event {} of the array", at + 1)));
        }
        events.push(found(element, line));
    }
    Ok(events)
}

fn unexpected(text: &str, line: u64, wanted: &str) -> InputError {
    let shown: String = text.chars().take(20).collect();
    InputError::Json { line, reason: format!("expected {wanted}, found `{}`", printable(&shown)) }
}

fn breaks(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Returns the number, from 1, of the last element of an incomplete array.
fn last(array: &[u8]) -> usize {
    let (mut depth, mut in_string, mut escaped, mut commas) = (0_usize, false, false, 0);
    for &byte in array {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => commas += 1,
            _ => {}
        }
    }
    commas + 1
}

/// The input, and what has been read of it, which the parser does not report.
struct Input<R> {
    reader: BufReader<R>,
    line: u64,
    /// The line on which the current document begins.
    begun: u64,
    /// The current document, as far as it has been read.
    document: Vec<u8>,
    is_first: bool,
}

struct Tap<R>(Rc<RefCell<Input<R>>>);

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let input = &mut *self.0.borrow_mut();
        if std::mem::take(&mut input.is_first) && input.reader.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
            input.reader.consume(BYTE_ORDER_MARK.len());
        }
        let read = input.reader.read(out)?;
        for &byte in &out[..read] {
            if input.document.is_empty() {
                input.begun = input.line;
            }
            if !(input.document.is_empty() && byte.is_ascii_whitespace()) {
                input.document.push(byte);
            }
            input.line += u64::from(byte == b'\n');
        }
        // The parser's message does not matter: this error is recognized by the document's length.
        if input.document.len() > LONGEST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(read) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Result<Vec<(u64, String)>, String> {
        let mut documents = Documents::new(text.as_bytes());
        let mut all = Vec::new();
        while let Some(document) = documents.next().map_err(|e| e.to_string())? {
            let events = match document {
                Document::Object(found) => vec![found],
                Document::Array { events, .. } => events,
            };
            all.extend(events.into_iter().map(|found| (found.line, found.text)));
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
        let found = events("\u{feff}\n{\"a\": 1}\r\n\n  {\"a\": \"x y\"}\n{}");
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
    fn mistakes_are_told_with_their_place() {
        let many = format!("[{}{{\"a\":\"\t\"}}]", "{\"a\":[1,2]},\n".repeat(699));
        for (text, message) in [
            ("{}\n\n{\"a\":}\n", "3: not valid JSON at column 6: expected value"),
            ("{}\n{\n", "2: the JSON that begins here is incomplete"),
            ("{\n\"a\": 1,\n\"b\" 2\n}", "3: not valid JSON at column 5: expected `:`"),
            ("{\n\"a\":", "1: the JSON that begins here is incomplete"),
            (
                "[{}\n{}]",
                "2: not valid JSON at column 1: expected `,` or `]`, at event 1 of the array that begins on line 1",
            ),
            ("[{},]", "1: not valid JSON at column 5: expected value, at event 2 of the array"),
            ("[{},\n", "1: the JSON that begins here is incomplete"),
            ("{}\n[{},\n1]", "3: expected an object as event 2 of the array, found `1`"),
            ("\n1\n", "2: expected an event (a JSON object) or an array of events, found `1`"),
            ("\"a b\"", "1: expected an event (a JSON object) or an array of events, found `\"a b\"`"),
            ("\nhello\n", "2: not valid JSON at column 1: expected value"),
            (&many, "700: not valid JSON at column 7: control character"),
        ] {
            let error = split(text).unwrap_err();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
        assert!(split(&many).unwrap_err().ends_with("at event 700 of the array that begins on line 1"));
    }

    #[test]
    fn a_document_that_is_too_long_is_told_and_not_kept() {
        let long = format!("\n{{}}\n[\"{}", "x".repeat(LONGEST + 10));
        assert_eq!(split(&long).unwrap_err(), "3: the JSON value that begins here is longer than 64 MiB");
    }

    proptest::proptest! {
        #[test]
        fn any_layout_gives_the_same_events(values in proptest::collection::vec("[a-z{}\\[\\]\", \\\\]{0,8}", 1..6)) {
            let object = |v| serde_json::json!({"k": [v, {"n": v}]});
            let objects: Vec<serde_json::Value> = values.iter().map(object).collect();
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
