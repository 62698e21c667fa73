//! Parses text into a [`Filter`].
//!
//! One pass, left to right, without recursion: open combinators are stored in a list. Every error has a byte offset and
//! says what was expected there. All limits are checked before memory is allocated for what exceeds them.

use thiserror::Error;

use super::arguments::{argument_end, pattern_end, quoted_pattern, trimmed_pattern};
use super::ast::{Filter, Op, Term, Test};
use super::path::{Path, PathError};
use super::regex::{Budget, Pattern, PatternError};
use super::value::{Value, ValueError};

/// Limits on a filter. A filter that exceeds one is refused when it is parsed, never later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of text.
    pub text: usize,
    /// Nesting depth of combinators, and of brackets in a value. At most [`Limits::MOST_NESTING`].
    pub nesting: usize,
    /// Number of terms.
    pub terms: usize,
    /// Values in one `In` or `Nin`.
    pub list: usize,
    /// Number of regular expressions; compiling them is the most expensive part of a filter.
    pub patterns: usize,
    /// Bytes of one regular expression.
    pub pattern: usize,
    /// Bytes that all compiled regular expressions together may take.
    pub compiled: usize,
}

impl Limits {
    /// The upper bound of `nesting`, whatever the configuration, because evaluation recurses over the tree.
    pub const MOST_NESTING: usize = 256;
}

impl Default for Limits {
    fn default() -> Self {
        Self { text: 64 << 10, nesting: 64, terms: 1024, list: 4096, patterns: 16, pattern: 1024, compiled: 1 << 20 }
    }
}

/// The reason why a text is not a filter, and its position.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("filter, byte {offset}: {reason}")]
pub struct ParseError {
    /// Byte offset in the given text.
    pub offset: usize,
    /// What is wrong there, or what was expected.
    pub reason: SyntaxError,
}

/// An error in a filter; [`ParseError`] adds the offset.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyntaxError {
    /// Neither a combinator nor a field.
    #[error("expected a term: And(..), Or(..), Not(..) or field=Op(..)")]
    Term,
    /// A name before `(` that is not a combinator.
    #[error("`{0}` is not And, Or or Not (names are case-sensitive)")]
    Combinator(String),
    /// A combinator without children.
    #[error("{} requires {} one term", .0, least(.0))]
    NoTerms(&'static str),
    /// A second child of Not.
    #[error("Not takes exactly one term")]
    NotTakesOne,
    /// The path is invalid.
    #[error("{0}")]
    Path(#[from] PathError),
    /// No `=` after the path, or a character that is not allowed in a path.
    #[error("expected `=` after the field (a field name cannot contain `(`, `)` or `,`)")]
    Equals,
    /// Not an operator.
    #[error("`{0}` is not an operator: expected Exists, Eq, Ne, Re, In, Nin or Changed")]
    Operator(String),
    /// An operator without arguments.
    #[error("expected `(` after the operator")]
    Open,
    /// Too many or too few arguments.
    #[error("{operator} takes {takes}")]
    Arguments {
        /// The operator's name.
        operator: &'static str,
        /// The arguments it takes.
        takes: &'static str,
    },
    /// The value is invalid.
    #[error("{0}")]
    Value(#[from] ValueError),
    /// The regular expression is invalid.
    #[error("bad regular expression: {0}")]
    Pattern(#[from] PatternError),
    /// The text ends within the arguments.
    #[error("the arguments that start here have no closing `)` (quotes and brackets must be balanced)")]
    Unclosed,
    /// Unexpected text between terms.
    #[error("expected `,` or `)`")]
    Separator,
    /// Unexpected text after the filter.
    #[error("unexpected text after the filter")]
    Trailing,
    /// A limit is exceeded.
    #[error("over the limit: {what} (at most {most})")]
    Limit {
        /// What the limit applies to.
        what: &'static str,
        /// The maximum.
        most: usize,
    },
}

/// Says how many terms a combinator needs at least.
fn least(combinator: &str) -> &'static str {
    if combinator == "Not" { "exactly" } else { "at least" }
}

impl Filter {
    /// Parses a filter as specified in `docs/protocol.md`, "Filters".
    ///
    /// # Errors
    /// [`ParseError`] with the offset, also if one of the `limits` is exceeded.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, ParseError> {
        let (terms, open) = (Vec::new(), Vec::new());
        let mut parser = Parser { text, at: 0, limits, terms, open, patterns: 0, budget: Budget::new(limits.compiled) };
        parser.filter().map_err(|(offset, reason)| ParseError { offset, reason })?;
        Ok(Self::from_terms(parser.terms))
    }
}

type Step<T> = Result<T, (usize, SyntaxError)>;

fn within(what: &'static str, count: usize, most: usize, offset: usize) -> Step<()> {
    if count <= most { Ok(()) } else { Err((offset, SyntaxError::Limit { what, most })) }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    limits: &'t Limits,
    terms: Vec<Term>,
    /// The indexes in `terms` of the open combinators.
    open: Vec<usize>,
    patterns: usize,
    /// The cost still allowed for further patterns.
    budget: Budget,
}

impl<'t> Parser<'t> {
    fn filter(&mut self) -> Step<()> {
        within("bytes of text", self.text.len(), self.limits.text, self.limits.text)?;
        loop {
            self.skip_space();
            within("terms", self.terms.len() + 1, self.limits.terms, self.at)?;
            if let Some((combinator, width)) = self.combinator()? {
                self.open.push(self.terms.len());
                let most = self.limits.nesting.min(Limits::MOST_NESTING);
                within("nested terms", self.open.len(), most, self.at)?;
                self.terms.push(combinator);
                self.at += width;
                continue;
            }
            let test = self.test()?;
            self.terms.push(Term::Test(Box::new(test)));
            if self.after_term()? {
                return Ok(());
            }
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Returns the combinator that starts here and the number of bytes before its first child.
    fn combinator(&self) -> Step<Option<(Term, usize)>> {
        let rest = self.rest();
        let name = word(rest);
        let gap = &rest[name.len()..];
        if !gap.trim_start().starts_with('(') {
            return Ok(None);
        }
        let term = match name {
            "And" => Term::And(0),
            "Or" => Term::Or(0),
            "Not" => Term::Not(0),
            "" => return Err((self.at, SyntaxError::Term)),
            other => return Err((self.at, SyntaxError::Combinator(cut(other)))),
        };
        Ok(Some((term, name.len() + gap.len() - gap.trim_start().len() + 1)))
    }

    /// Closes the combinators that end here and moves on to the next term; returns true if the filter is complete.
    fn after_term(&mut self) -> Step<bool> {
        loop {
            self.skip_space();
            let Some(&innermost) = self.open.last() else {
                return if self.rest().is_empty() { Ok(true) } else { Err((self.at, SyntaxError::Trailing)) };
            };
            match self.peek() {
                Some(b',') if matches!(self.terms[innermost], Term::Not(_)) => {
                    return Err((self.at, SyntaxError::NotTakesOne));
                }
                Some(b',') => {
                    self.at += 1;
                    return Ok(false);
                }
                Some(b')') => self.close(innermost),
                _ => return Err((self.at, SyntaxError::Separator)),
            }
        }
    }

    fn close(&mut self, index: usize) {
        let count = u32::try_from(self.terms.len() - index).expect("fewer terms than bytes of text");
        match &mut self.terms[index] {
            Term::And(size) | Term::Or(size) | Term::Not(size) => *size = count,
            Term::Test(_) => {}
        }
        self.open.pop();
        self.at += 1;
    }

    fn test(&mut self) -> Step<Test> {
        let path = self.path()?;
        self.skip_space();
        let start = self.at;
        let name = word(self.rest());
        self.at += name.len();
        self.skip_space();
        let op = Operator::from_name(name).ok_or_else(|| (start, SyntaxError::Operator(cut(name))))?;
        if self.peek() != Some(b'(') {
            return Err((self.at, SyntaxError::Open));
        }
        self.at += 1;
        Ok(Test { path, op: self.arguments(op)? })
    }

    /// Parses the field up to the `=`, which is skipped.
    fn path(&mut self) -> Step<Path> {
        let rest = self.rest();
        let Some(end) = rest.find(['=', '(', ')', ',']) else {
            let reason = if rest.is_empty() { self.missing_term() } else { SyntaxError::Equals };
            return Err((self.text.len(), reason));
        };
        let field = rest[..end].trim_end();
        if !rest[end..].starts_with('=') {
            let reason = if field.is_empty() { self.missing_term() } else { SyntaxError::Equals };
            return Err((self.at + end, reason));
        }
        let path = Path::parse(field).map_err(|(inside, error)| (self.at + inside, error.into()))?;
        self.at += end + 1;
        Ok(path)
    }

    /// Returns the error for a missing term.
    fn missing_term(&self) -> SyntaxError {
        match self.open.last() {
            Some(&index) if index + 1 == self.terms.len() => SyntaxError::NoTerms(match self.terms[index] {
                Term::And(_) => "And",
                Term::Or(_) => "Or",
                _ => "Not",
            }),
            _ => SyntaxError::Term,
        }
    }

    fn arguments(&mut self, operator: Operator) -> Step<Op> {
        if operator == Operator::Re {
            return self.pattern().map(Op::Re);
        }
        let start = self.at;
        let mut values = self.values(operator)?;
        let arguments = |takes| Err((start, SyntaxError::Arguments { operator: operator.name(), takes }));
        let single = |values: Vec<Option<Value>>| <[Option<Value>; 1]>::try_from(values).ok().and_then(|[one]| one);
        match operator {
            Operator::Exists if matches!(values[..], [None]) => Ok(Op::Exists),
            Operator::Exists => arguments("no value: Exists()"),
            Operator::Eq => single(values).map_or_else(|| arguments("one value"), |value| Ok(Op::Eq(value))),
            Operator::Ne => single(values).map_or_else(|| arguments("one value"), |value| Ok(Op::Ne(value))),
            Operator::In => Ok(Op::In(values.into_iter().flatten().collect())),
            Operator::Nin => Ok(Op::Nin(values.into_iter().flatten().collect())),
            Operator::Changed if values.len() <= 2 => {
                values.resize(2, None);
                let to = values.pop().flatten();
                Ok(Op::Changed { from: values.pop().flatten(), to })
            }
            Operator::Changed | Operator::Re => arguments("at most two values: Changed(from,to)"),
        }
    }

    /// Parses the values up to the closing parenthesis; omitted values are `None`.
    fn values(&mut self, operator: Operator) -> Step<Vec<Option<Value>>> {
        let start = self.at;
        let mut values = Vec::new();
        loop {
            let end = self.at + argument_end(self.rest()).ok_or((start, SyntaxError::Unclosed))?;
            let raw = &self.text[self.at..end];
            let text = raw.trim();
            let offset = self.at + (raw.len() - raw.trim_start().len());
            let optional = matches!(operator, Operator::Exists | Operator::Changed);
            values.push(match Value::parse(text, self.limits.nesting) {
                Err((_, ValueError::Empty)) if optional => None,
                Err((inside, error)) => return Err((offset + inside, error.into())),
                Ok(value) => Some(value),
            });
            within("values in a list", values.len(), self.limits.list, offset)?;
            self.at = end + 1;
            if self.text.as_bytes()[end] == b')' {
                return Ok(values);
            }
        }
    }

    fn pattern(&mut self) -> Step<Pattern> {
        let start = self.at;
        self.patterns += 1;
        within("regular expressions", self.patterns, self.limits.patterns, start)?;
        let rest = self.rest();
        if let Some((source, end)) = quoted_pattern(rest) {
            self.at += end + 1;
            return self.compile(&source).map_err(|(_, error)| (start, error.into()));
        }
        let end = pattern_end(rest).ok_or((start, SyntaxError::Unclosed))?;
        let offset = start + (rest.len() - rest.trim_start().len()).min(end);
        self.at += end + 1;
        self.compile(trimmed_pattern(&rest[..end])).map_err(|(inside, error)| (offset + inside, error.into()))
    }

    /// Compiles a pattern within the budget left by the filter's other patterns.
    fn compile(&mut self, source: &str) -> Result<Pattern, (usize, PatternError)> {
        Pattern::parse_within(source, self.limits.pattern, &mut self.budget)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Exists,
    Eq,
    Ne,
    Re,
    In,
    Nin,
    Changed,
}

impl Operator {
    const ALL: [Self; 7] = [Self::Exists, Self::Eq, Self::Ne, Self::Re, Self::In, Self::Nin, Self::Changed];

    fn name(self) -> &'static str {
        match self {
            Self::Exists => "Exists",
            Self::Eq => "Eq",
            Self::Ne => "Ne",
            Self::Re => "Re",
            Self::In => "In",
            Self::Nin => "Nin",
            Self::Changed => "Changed",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.name() == name)
    }
}

/// Returns the names of the operators.
pub fn operators() -> impl Iterator<Item = &'static str> {
    Operator::ALL.into_iter().map(Operator::name)
}

/// Returns the letters that `text` starts with.
fn word(text: &str) -> &str {
    &text[..text.bytes().take_while(u8::is_ascii_alphabetic).count()]
}

/// Truncates a name for an error message.
fn cut(name: &str) -> String {
    name.chars().take(32).collect()
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
