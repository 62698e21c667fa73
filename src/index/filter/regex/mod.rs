//! Regular expressions with the semantics of Go.
//!
//! Users of DRP know Go, in which it is written, so `Re` means what Go's `regexp` package means: RE2 syntax, linear
//! time, unanchored. Rust's `regex` crate has the same engine family but interprets some of the same text differently
//! (`\d` is Unicode there, `[a&&b]` an intersection, `\Q..\E` an error, ...). So [`translate`] parses the pattern by
//! Go's grammar and writes it in the subset on which both agree.
//!
//! Contract: a pattern either gives Go's result for every text or is refused with a reason and an offset. Matching
//! takes one table lookup per byte of the text, at most a few nanoseconds, whatever the pattern ([`compile`] explains
//! how, and bounds the cost of compiling). Patterns that Go accepts and this module refuses are those over the limits
//! (length, compiled size, steps of compiling, nesting, large classes). Unicode tables are those of the `regex-syntax`
//! crate, a few versions newer than Go's.

mod chars;
mod classes;
mod compile;
mod translate;
mod trim;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use regex_automata::Input;
use regex_automata::dfa::Automaton;
use thiserror::Error;

pub use compile::Budget;
use compile::Machine;

/// A compiled expression; equal to another if the source text is.
#[derive(Clone)]
pub struct Pattern {
    source: Box<str>,
    machine: Arc<Machine>,
}

/// The reason why a pattern is refused. The offset that comes with it counts bytes of the pattern.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PatternError {
    /// The text itself is over the limit.
    #[error("the pattern is longer than {0} bytes")]
    Long(usize),
    /// The compiled pattern would exceed the limit.
    #[error(
        "the compiled pattern is too large (the filter's other patterns leave {0} bytes): use smaller counts \
         in {{n,m}} and fewer alternatives, or split the filter"
    )]
    Large(usize),
    /// There is no automaton for it that looks at each byte once.
    #[error(
        "the pattern, together with the filter's other patterns, could take too long: replace {{n,m}} by + or *, \
         anchor it with ^, or use fewer alternatives and optional parts"
    )]
    Slow,
    /// More large Unicode classes than the limit; each takes long to write out.
    #[error("the pattern has too many large character classes (\\p{{..}} and negated ones, especially with (?i))")]
    Classes,
    /// Groups are nested deeper than the engine accepts.
    #[error("the pattern is nested too deeply")]
    Nested,
    /// A group that is not closed.
    #[error("missing closing )")]
    MissingParen,
    /// `)` without a group.
    #[error("unexpected )")]
    UnexpectedParen,
    /// A class that is not closed.
    #[error("missing closing ]")]
    MissingBracket,
    /// Look-around and other constructs after `(?` that RE2 does not have.
    #[error("invalid or unsupported group syntax (RE2 has no look-around, conditions or comments)")]
    Group,
    /// An invalid group name.
    #[error("invalid group name")]
    GroupName,
    /// `\` at the end.
    #[error("trailing backslash")]
    TrailingBackslash,
    /// An escape that RE2 does not know.
    #[error("invalid escape (RE2 has no back-references)")]
    Escape,
    /// A range that runs backwards or a class name that RE2 does not know.
    #[error("invalid character class")]
    Class,
    /// `*` and the like without anything before.
    #[error("missing argument to a repetition operator")]
    MissingArgument,
    /// `**` and the like.
    #[error("a repetition operator directly after another one")]
    DoubleRepeat,
    /// `{n,m}` that is over 1000 or runs backwards; nested counts multiply.
    #[error("invalid repeat count (at most 1000, where nested counts multiply)")]
    RepeatSize,
    /// The engine refuses what Go accepts; should not happen.
    #[error("unsupported pattern: {0}")]
    Unsupported(String),
}

impl Pattern {
    /// Parses a pattern in Go's syntax. `length` and `compiled` are limits in bytes.
    ///
    /// # Errors
    /// [`PatternError`] with the byte offset in `source`.
    pub fn parse(source: &str, length: usize, compiled: usize) -> Result<Self, (usize, PatternError)> {
        Self::parse_within(source, length, &mut Budget::new(compiled))
    }

    /// Like [`Pattern::parse`], within a budget shared with other patterns, from which the cost of this one is
    /// subtracted.
    ///
    /// # Errors
    /// [`PatternError`] with the byte offset in `source`.
    pub fn parse_within(source: &str, length: usize, budget: &mut Budget) -> Result<Self, (usize, PatternError)> {
        if source.len() > length {
            return Err((length, PatternError::Long(length)));
        }
        let translated = translate::translate(source)?;
        let machine = compile::compile(&translated, budget).map_err(|error| (0, error))?;
        Ok(Self { source: source.into(), machine: Arc::new(machine) })
    }

    /// Returns the pattern as given.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Returns the bytes that the pattern takes.
    pub fn bytes(&self) -> usize {
        self.source.len() + self.machine.memory_usage()
    }

    /// Returns whether the pattern matches anywhere in `text`.
    pub fn is_match(&self, text: &str) -> bool {
        let found = self.machine.try_search_fwd(&Input::new(text).earliest(true));
        found.expect("no byte makes the machine give up").is_some()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.source).finish()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern, 1024, 1 << 20).unwrap_or_else(|e| panic!("{pattern}: {e:?}")).is_match(text)
    }

    #[test]
    fn classes_are_ascii_as_in_go() {
        assert!(matches(r"^\d+$", "12") && !matches(r"^\d+$", "١٢"));
        assert!(!matches(r"\w", "é") && matches(r"\W", "é"));
        assert!(!matches(r"^\s$", "\u{a0}") && !matches(r"^\s$", "\u{b}"));
        assert!(matches(r"é\b", "éa") && !matches(r"é\b", "é"));
        assert!(matches("[a&&b]", "&") && matches("[a~~]", "~"));
    }

    #[test]
    fn a_pattern_may_have_the_length_that_is_allowed_and_no_more() {
        assert!(Pattern::parse("abcd", 4, 1 << 20).is_ok());
        assert_eq!(Pattern::parse("abcde", 4, 1 << 20), Err((4, PatternError::Long(4))));
    }

    #[test]
    fn a_boundary_is_never_inside_a_character() {
        assert!(!matches(r"^a\Bé\Bb$", "aéb"));
        assert!(!matches(r"\B", "aéb".get(0..1).unwrap()));
    }

    #[test]
    fn go_spellings_are_taken() {
        assert!(matches(r"^\Qa.b\E+$", "a.bbb") && !matches(r"\Qa.b", "axb"));
        assert!(matches(r"^a{,3}$", "a{,3}") && matches("^{$", "{"));
        assert!(matches(r"^\012\x41\x{e9}$", "\nAé"));
        assert!(matches("(?i)ſtraße", "STRAßE") && matches("a(?i)b(?-i)c", "aBc"));
        assert!(matches("a(?i)*$", "") && matches(r"^a*\Q\E?$", ""));
        assert!(matches("[[:^alpha:]x]", "1") && matches("[]a]", "]") && matches(r"[\w-.]", "-"));
        assert!(
            matches(r"\pL", "é")
                && matches(r"^\PL$", "1")
                && matches(r"\p{^Greek}", "a")
                && matches("\\p{letter}", "x")
        );
    }

    #[test]
    fn refusals_name_the_place() {
        for (pattern, at, error) in [
            ("a(b", 1, PatternError::MissingParen),
            ("a)b", 1, PatternError::UnexpectedParen),
            ("a[b", 1, PatternError::MissingBracket),
            ("a(?=b)", 1, PatternError::Group),
            ("(?P<a-b>x)", 0, PatternError::GroupName),
            ("ab\\", 2, PatternError::TrailingBackslash),
            (r"ab\u0041", 2, PatternError::Escape),
            (r"(a)\1", 3, PatternError::Escape),
            ("[b-a]", 1, PatternError::Class),
            (r"x\p{Foo}", 1, PatternError::Class),
            ("a|*", 2, PatternError::MissingArgument),
            ("a**", 2, PatternError::DoubleRepeat),
            ("a{1001}", 1, PatternError::RepeatSize),
            ("(a{100}){11}", 8, PatternError::RepeatSize),
            ("a{3,2}", 1, PatternError::RepeatSize),
        ] {
            assert_eq!(Pattern::parse(pattern, 1024, 1 << 20).unwrap_err(), (at, error), "{pattern}");
        }
        assert_eq!(Pattern::parse("abc", 2, 1 << 20).unwrap_err(), (2, PatternError::Long(2)));
        assert_eq!(Pattern::parse(r"^\pL{1000}$", 100, 1 << 20).unwrap_err(), (0, PatternError::Large(1 << 20)));
        assert_eq!(Pattern::parse(r"1[01]{200}[^01]", 100, 1 << 20).unwrap_err(), (0, PatternError::Slow));
        assert_eq!(
            Pattern::parse(r"(?i)(\pL|\PL|\pN|\pS|\pP)x", 100, 1 << 20).unwrap_err(),
            (9, PatternError::Classes)
        );
        let deep = format!("{}{}", "(".repeat(500), ")".repeat(500));
        assert_eq!(Pattern::parse(&deep, 1024, 1 << 20).unwrap_err(), (0, PatternError::Nested));
    }
}
