//! Describes what is wrong with a text that the parser refused, and where.
//!
//! simd-json is fast because it looks at many bytes at a time, so it knows that something is wrong but often neither
//! where nor what. This module scans refused texts byte by byte. It distinguishes what simd-json refuses although it
//! is JSON (numbers beyond a double, unpaired surrogates, deep nesting) from what is not JSON.
//!
//! Contract: terminates for every input, in time linear in its length. Nothing here recurses.

use std::fmt;

/// Maximum nesting, which is that of simd-json.
const DEEPEST: usize = 1024;

/// A byte order mark; it is not white space in JSON.
const MARK: char = '\u{feff}';

/// The kind of error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes are not UTF-8.
    NotUtf8,
    /// The text is in UTF-16.
    Utf16,
    /// The bytes are compressed with gzip.
    Gzip,
    /// The text is empty.
    Empty,
    /// The text ends too early, within the named construct.
    Ends(&'static str),
    /// A control character that must be escaped in a string.
    Control(u8),
    /// A backslash followed by something that is not an escape.
    Escape,
    /// A `\u` without four hexadecimal digits.
    Hexadecimal,
    /// One half of a surrogate pair of `\u` escapes.
    Surrogate,
    /// A malformed number.
    Number,
    /// A number that no double can hold.
    Range,
    /// A word that is not a JSON value, such as `NaN`.
    Word(String),
    /// A second value after the first.
    Second,
    /// A second value on a line that may have only one.
    SecondInLine,
    /// A byte order mark, which is part of no value.
    Mark,
    /// Another character after the value.
    Trailing(char),
    /// An unexpected character, and what is expected instead.
    Unexpected(char, &'static str),
    /// Brackets are nested too deeply.
    Deep,
    /// The parser rejects the text; its reason.
    Parser(String),
}

impl Fault {
    /// Returns whether the text is valid JSON that is deliberately not accepted.
    pub fn is_choice(&self) -> bool {
        matches!(self, Self::Surrogate | Self::Range | Self::Deep)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("not UTF-8"),
            Self::Utf16 => f.write_str("a UTF-16 byte order mark; send JSON in UTF-8"),
            Self::Gzip => f.write_str("gzip data without the header `Content-Encoding: gzip`"),
            Self::Empty => f.write_str("the text is empty"),
            Self::Ends(within) => write!(f, "the text ends within {within}"),
            Self::Control(byte) => {
                write!(f, "a control character (0x{byte:02x}) in a string; write it as `{}`", escape(*byte))
            }
            Self::Escape => f.write_str("an unknown escape in a string"),
            Self::Hexadecimal => f.write_str("`\\u` in a string without four hexadecimal digits after it"),
            Self::Surrogate => f.write_str("a lone surrogate (half a character) is not accepted"),
            Self::Number => f.write_str("not a number in JSON notation"),
            Self::Range => f.write_str("a number beyond the range of a double is not accepted"),
            Self::Word(word) => write!(f, "`{word}` is not a JSON value"),
            Self::Second => f.write_str(
                "a second value after the first; send several events as an array, or one per line with `Content-Type: \
                 application/x-ndjson` (NDJSON)",
            ),
            Self::SecondInLine => f.write_str("a second value on the line; put each event on a line of its own"),
            Self::Mark => f.write_str(
                "a byte order mark (U+FEFF), which may only be the first character of all; remove it where files were \
                 joined",
            ),
            Self::Trailing(c) => write!(f, "text after the value: {c:?}"),
            Self::Unexpected(c, expected) => write!(f, "found {c:?}, expected {expected}"),
            Self::Deep => write!(f, "brackets nested deeper than {DEEPEST} are not accepted"),
            Self::Parser(reason) => f.write_str(reason),
        }
    }
}

/// Returns a control character as JSON escapes it.
fn escape(byte: u8) -> String {
    match byte {
        b'\t' => "\\t".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        other => format!("\\u{other:04x}"),
    }
}

/// An error in a text and its location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) offset: usize,
    pub(super) fault: Fault,
    /// The element of the outermost array that contains the error: its index and its byte offset.
    pub(super) element: Option<(usize, usize)>,
}

/// Returns the first error in a text; `None` if there is none.
pub(super) fn diagnose(text: &str) -> Option<Finding> {
    let mut walk = Walk { text, bytes: text.as_bytes(), at: 0, open: Vec::new(), element: None };
    let fault = walk.run().err()?;
    // An array that does not end is not an error of its last element.
    let is_arrays = fault == Fault::Ends("an array") && walk.open == [b'['];
    Some(Finding { offset: walk.at, fault, element: walk.element.filter(|_| !is_arrays) })
}

/// Returns what is wrong with bytes that are valid UTF-8 only up to offset `valid`.
pub(super) fn not_text(bytes: &[u8], valid: usize) -> Finding {
    let fault = match bytes {
        [0x1f, 0x8b, ..] => Fault::Gzip,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Fault::Utf16,
        _ => Fault::NotUtf8,
    };
    // The valid part necessarily ends early; only the element in which it ends is of interest.
    let head = std::str::from_utf8(&bytes[..valid]).ok().and_then(diagnose);
    Finding { offset: valid, fault, element: head.and_then(|head| head.element) }
}

/// What the walk expects next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    /// A value, or the end of an array that has just begun.
    FirstElement,
    /// A name, or the end of an object that has just begun.
    FirstName,
    Name,
    /// A comma, or the end of the open object or array.
    Comma,
}

struct Walk<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    /// The open brackets.
    open: Vec<u8>,
    element: Option<(usize, usize)>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), Fault> {
        self.skip_space();
        if self.at == self.bytes.len() {
            return Err(Fault::Empty);
        }
        let mut next = Next::Value;
        loop {
            self.skip_space();
            next = match (next, self.bytes.get(self.at)) {
                (Next::Comma, None) if self.open.is_empty() => return Ok(()),
                (Next::Comma, Some(_)) if self.open.is_empty() => return Err(self.trailing()),
                (_, None) => return Err(Fault::Ends(self.within())),
                (Next::FirstElement, Some(b']')) | (Next::FirstName, Some(b'}')) => self.close(),
                (Next::Value | Next::FirstElement, Some(_)) => self.value()?,
                (Next::FirstName | Next::Name, Some(_)) => self.name()?,
                (Next::Comma, Some(_)) => self.comma()?,
            };
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Returns the name of the construct that is open.
    fn within(&self) -> &'static str {
        match self.open.last() {
            Some(b'{') => "an object",
            Some(_) => "an array",
            None => "a value",
        }
    }

    fn unexpected(&self, expected: &'static str) -> Fault {
        match self.text[self.at..].chars().next().unwrap_or_default() {
            MARK => Fault::Mark,
            other => Fault::Unexpected(other, expected),
        }
    }

    fn trailing(&self) -> Fault {
        match self.text[self.at..].chars().next().unwrap_or_default() {
            '{' | '[' => Fault::Second,
            MARK => Fault::Mark,
            other => Fault::Trailing(other),
        }
    }

    fn close(&mut self) -> Next {
        self.open.pop();
        self.at += 1;
        Next::Comma
    }

    fn comma(&mut self) -> Result<Next, Fault> {
        let is_object = self.open.last() == Some(&b'{');
        match self.bytes[self.at] {
            b',' => {
                self.at += 1;
                Ok(if is_object { Next::Name } else { Next::Value })
            }
            b'}' if is_object => Ok(self.close()),
            b']' if !is_object => Ok(self.close()),
            _ if is_object => Err(self.unexpected("a comma or `}`")),
            _ => Err(self.unexpected("a comma or `]`")),
        }
    }

    fn name(&mut self) -> Result<Next, Fault> {
        if self.bytes[self.at] != b'"' {
            return Err(self.unexpected("a name in double quotes"));
        }
        self.string()?;
        self.skip_space();
        match self.bytes.get(self.at) {
            Some(b':') => self.at += 1,
            Some(_) => return Err(self.unexpected("a colon")),
            None => return Err(Fault::Ends("an object")),
        }
        Ok(Next::Value)
    }

    fn value(&mut self) -> Result<Next, Fault> {
        if self.open == [b'['] {
            let number = self.element.map_or(0, |(number, _)| number + 1);
            self.element = Some((number, self.at));
        }
        let byte = self.bytes[self.at];
        match byte {
            b'{' | b'[' => return self.open(byte),
            b'"' => self.string()?,
            b'-' | b'0'..=b'9' => self.number()?,
            byte if byte.is_ascii_alphabetic() => self.word()?,
            _ => return Err(self.unexpected("a value")),
        }
        Ok(Next::Comma)
    }

    /// Enters an object or an array.
    fn open(&mut self, bracket: u8) -> Result<Next, Fault> {
        if self.open.len() >= DEEPEST {
            return Err(Fault::Deep);
        }
        self.open.push(bracket);
        self.at += 1;
        Ok(if bracket == b'{' { Next::FirstName } else { Next::FirstElement })
    }

    /// Returns the word that starts at `from`.
    fn letters(&self, from: usize) -> &str {
        let rest = &self.text[from..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        &rest[..end]
    }

    fn word(&mut self) -> Result<(), Fault> {
        let word = self.letters(self.at);
        if matches!(word, "true" | "false" | "null") {
            self.at += word.len();
            return Ok(());
        }
        Err(Fault::Word(word.chars().take(32).collect()))
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let wrong = |walk: &mut Self| {
            walk.at = start;
            Err(Fault::Number)
        };
        self.at += usize::from(self.bytes[self.at] == b'-');
        if self.bytes.get(self.at).is_some_and(u8::is_ascii_alphabetic) {
            let word = format!("-{}", self.letters(self.at));
            self.at = start;
            return Err(Fault::Word(word.chars().take(32).collect()));
        }
        let leading_zero = self.bytes.get(self.at) == Some(&b'0');
        let whole = self.digits();
        if whole == 0 || leading_zero && whole > 1 {
            return wrong(self);
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return wrong(self);
            }
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return wrong(self);
            }
        }
        if self.text[start..self.at].parse::<f64>().is_ok_and(f64::is_infinite) {
            self.at = start;
            return Err(Fault::Range);
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(Fault::Ends("a string")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(byte) if *byte < 0x20 => return Err(Fault::Control(*byte)),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.bytes.get(self.at + 1) {
            None => Err(Fault::Ends("a string")),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => self.unicode(),
            Some(_) => Err(Fault::Escape),
        }
    }

    /// Returns the code unit of the `\uXXXX` at an offset.
    fn unit(&self, at: usize) -> Option<u16> {
        let digits = self.bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
        u16::from_str_radix(text, 16).ok()
    }

    fn unicode(&mut self) -> Result<(), Fault> {
        let Some(unit) = self.unit(self.at) else { return Err(Fault::Hexadecimal) };
        match unit {
            0xd800..=0xdbff if self.unit(self.at + 6).is_some_and(|low| (0xdc00..=0xdfff).contains(&low)) => {
                self.at += 12;
            }
            0xd800..=0xdfff => return Err(Fault::Surrogate),
            _ => self.at += 6,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::Validator;

    fn found(text: &str) -> Option<(usize, String)> {
        diagnose(text).map(|finding| (finding.offset, finding.fault.to_string()))
    }

    #[test]
    fn each_mistake_is_told_in_words_with_its_place() {
        let digits = "9".repeat(400);
        let deep = "[".repeat(1100);
        for (text, offset, words) in [
            ("", 0, "the text is empty"),
            ("  ", 2, "the text is empty"),
            ("{\"a\":\"x\ty\"}", 7, "control character (0x09)"),
            ("{\"a\":\"x\ny\"}", 7, "`\\n`"),
            ("{\"a\":\"\u{1}\"}", 6, "`\\u0001`"),
            ("[NaN]", 1, "`NaN`"),
            ("[-Infinity]", 1, "`-Infinity`"),
            ("[True]", 1, "`True`"),
            ("{\"a\":1e400}", 5, "beyond the range"),
            (&digits, 0, "beyond the range"),
            ("[-1e400]", 1, "beyond the range"),
            ("[01]", 1, "not a number"),
            ("[1.]", 1, "not a number"),
            ("[-]", 1, "not a number"),
            ("[1e]", 1, "not a number"),
            ("{} {}", 3, "NDJSON"),
            ("{}\n{}", 3, "NDJSON"),
            ("{}x", 2, "text after the value"),
            ("{} //", 3, "text after the value"),
            ("\u{feff}{}", 0, "a byte order mark"),
            ("{}\u{feff}", 2, "a byte order mark"),
            ("[{},\u{feff}{}]", 4, "a byte order mark"),
            ("[{}\u{feff}]", 3, "a byte order mark"),
            ("{\u{feff}\"a\":1}", 1, "a byte order mark"),
            ("{\"a\"\u{feff}:1}", 4, "a byte order mark"),
            ("{\"a\":\u{feff}1}", 5, "a byte order mark"),
            ("{\"a\":1\u{feff}}", 6, "a byte order mark"),
            ("{\"a\" 1}", 5, "expected a colon"),
            ("{a:1}", 1, "name in double quotes"),
            ("{\"a\":1,}", 7, "name in double quotes"),
            ("[1,]", 3, "expected a value"),
            ("[1 2]", 3, "a comma or `]`"),
            ("{\"a\":1 \"b\"}", 7, "a comma or `}`"),
            ("['a']", 1, "expected a value"),
            ("{\"a\":", 5, "ends within an object"),
            ("[1,", 3, "ends within an array"),
            ("[\"ab", 4, "ends within a string"),
            ("[\"\\x\"]", 2, "unknown escape"),
            ("[\"\\u12g4\"]", 2, "`\\u` in a string without four hexadecimal digits"),
            ("[\"\\ud800\"]", 2, "lone surrogate"),
            ("[\"\\udc00\"]", 2, "lone surrogate"),
            ("[\"\\ud800\\u0041\"]", 2, "lone surrogate"),
            (&deep, 1024, "nested deeper"),
        ] {
            let (at, told) = found(text).unwrap_or_else(|| panic!("nothing found in {text}"));
            assert!(at == offset && told.contains(words), "{text:.40}: {at} {told}");
        }
        assert_eq!(found(r#" {"a":[1,-0.5e+3,"\ud83d\ude00 \n"],"b":{},"c":[]} "#), None);
        assert_eq!(found("\"\u{feff}\""), None, "within a string it is text");
    }

    #[test]
    fn the_element_of_the_outermost_array_is_known() {
        let of = |text: &str| diagnose(text).unwrap().element;
        assert_eq!(of("[{}, {\"a\":[1,2,x]}]"), Some((1, 5)));
        assert_eq!(of("[1 2]"), Some((0, 1)));
        assert_eq!(of("{\"a\":[x]}"), None);
        assert_eq!(of("[{}"), None);
        assert_eq!(of("[{}, {"), Some((1, 5)));
        assert_eq!(not_text(b"[1,\"\xff\"]", 4).element, Some((1, 3)));
        assert_eq!(not_text(&[0x1f, 0x8b, 8], 1).fault, Fault::Gzip);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// Whatever the parser refuses, `diagnose` finds an error in it.
        #[test]
        fn nothing_is_refused_without_a_reason(text in r#"[\[\]{}:,"\\ 019.eE+\-trufalsn\u{0}-\u{1f}dD8ué]{0,24}"#) {
            if Validator::default().validate(text.as_bytes()).is_err() {
                prop_assert!(diagnose(&text).is_some(), "{text:?}");
            } else {
                prop_assert_eq!(diagnose(&text), None);
            }
        }
    }
}
