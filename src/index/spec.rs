//! Parses registration strings: `type.action.key[.filter]` (`docs/protocol.md`, "SPEC").
//!
//! Contract: pure; the result does not depend on other registrations. Lists are stored as lists here. Their product is
//! counted but not built, so a hostile SPEC costs no more than its own length.

use std::borrow::Cow;

use thiserror::Error;

use super::filter::{Filter, Limits, ParseError};
use super::list::List;
use crate::event::Event;

/// The reason why a text is not a registration.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum SpecError {
    /// The text contains fewer than two dots.
    #[error("a registration requires at least three parts, type.action.key: found {parts} in {spec:?}")]
    TooFewParts {
        /// The text, truncated to 128 characters.
        spec: String,
        /// The number of parts found.
        parts: usize,
    },
    /// The part after the key looks like a filter but is not a valid one.
    #[error("bad filter at byte {} of the registration: {error}", offset + error.offset)]
    Filter {
        /// Byte offset of the filter in the SPEC.
        offset: usize,
        /// The error, with its offset in the filter.
        error: ParseError,
    },
}

/// One of the three fields of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// `*`
    Any,
    /// `*` as a type, and also these special types, which `*` does not include.
    AnyAnd(List),
    /// One of these, without duplicates.
    Of(List),
}

impl Field {
    /// Returns the number of branches of the trie that the field uses.
    pub fn branches(&self) -> usize {
        match self {
            Self::Any => 1,
            Self::AnyAnd(names) => 1 + names.len(),
            Self::Of(names) => names.len(),
        }
    }

    /// Returns the number of special types among the names; each has a branch of its own besides that of its name.
    fn specials(&self) -> usize {
        self.iter().flatten().filter(|name| is_special(name)).count()
    }

    /// Returns whether the field matches `text`.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any | Self::AnyAnd(_) => true,
            Self::Of(names) => names.contains(text),
        }
    }

    /// Returns whether `text` is one of the names, ignoring the wildcard.
    fn names(&self, text: &str) -> bool {
        match self {
            Self::Any => false,
            Self::AnyAnd(names) | Self::Of(names) => names.contains(text),
        }
    }

    /// Returns the branches: a name, or `None` for the wildcard.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        let (any, names) = match self {
            Self::Any => (Some(None), None),
            Self::AnyAnd(names) => (Some(None), Some(names)),
            Self::Of(names) => (None, Some(names)),
        };
        any.into_iter().chain(names.into_iter().flat_map(List::iter).map(Some))
    }
}

/// A parsed registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Matches the event's Type; may name the special job types.
    pub kind: Field,
    /// Matches the event's Action.
    pub action: Field,
    /// Matches the event's Key, or the owner for the special job types.
    pub key: Field,
    /// The filter that the event must also satisfy.
    pub filter: Option<Filter>,
}

/// The special type that matches jobs by their `Machine`.
pub const MACHINE_JOBS: &str = "machine_jobs";

/// The special type that matches jobs by their `WorkOrder`.
pub const WORK_ORDER_JOBS: &str = "work_order_jobs";

/// Returns whether a type is one of those two.
fn is_special(kind: &str) -> bool {
    matches!(kind, MACHINE_JOBS | WORK_ORDER_JOBS)
}

impl Spec {
    /// Parses a registration; `text` must already be trimmed.
    ///
    /// # Errors
    /// [`SpecError`], with what is missing or where the filter is wrong.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, SpecError> {
        let mut parts = text.splitn(3, '.');
        let (Some(kind), Some(action), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            let spec = text.chars().take(128).collect();
            return Err(SpecError::TooFewParts {
                spec,
                parts: text.split('.').filter(|part| !part.is_empty()).count(),
            });
        };
        let (key, filter) = key_of(rest, text.len() - rest.len(), limits)?;
        Ok(Self { kind: types(kind), action: field(action), key: field(key), filter })
    }

    /// Returns whether the lists match the event, ignoring the filter.
    pub(super) fn lists_match(&self, event: &Event) -> bool {
        let owner = |kind: &str, owner: Option<&str>| {
            self.kind.names(kind) && owner.is_some_and(|owner| self.key.matches(owner))
        };
        self.action.matches(event.action())
            && (self.kind.matches(event.kind()) && self.key.matches(event.key())
                || event.kind() == "jobs"
                    && (owner(MACHINE_JOBS, event.machine()) || owner(WORK_ORDER_JOBS, event.work_order())))
    }

    /// Returns the number of (type, action, key) combinations in the lists; saturates.
    pub fn combinations(&self) -> usize {
        let types = self.kind.branches() + self.kind.specials();
        types.saturating_mul(self.action.branches()).saturating_mul(self.key.branches())
    }
}

/// Splits off the key, and the filter if the part after the first dot is one. Old clients register keys with dots, so
/// anything else belongs to the key; but a part with a parenthesis is a wrong filter, not a key that never matches.
fn key_of<'t>(rest: &'t str, offset: usize, limits: &Limits) -> Result<(&'t str, Option<Filter>), SpecError> {
    let Some((key, text)) = rest.split_once('.') else { return Ok((rest, None)) };
    match Filter::parse(text, limits) {
        Ok(filter) => Ok((key, Some(filter))),
        Err(error) if text.contains('(') => Err(SpecError::Filter { offset: offset + key.len() + 1, error }),
        Err(_) => Ok((rest, None)),
    }
}

/// Parses the types: a bare `*` does not include the special types, so those listed beside it are kept.
fn types(text: &str) -> Field {
    let Field::Any = field(text) else { return field(text) };
    let specials = List::of(text.split(',').map(name).filter(|name| is_special(name)).collect());
    if specials.is_empty() { Field::Any } else { Field::AnyAnd(specials) }
}

fn field(text: &str) -> Field {
    if text.split(',').any(|element| element.trim() == "*") {
        return Field::Any;
    }
    Field::Of(List::of(text.split(',').map(name).collect()))
}

/// Unescapes a name: `\1` is a dot, `\2` a comma, `\3` an asterisk; any other backslash stands for itself.
fn name(element: &str) -> Cow<'_, str> {
    if !element.contains('\\') {
        return element.trim().into();
    }
    let mut out = String::with_capacity(element.len());
    let mut rest = element;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let replacement = match rest.as_bytes().get(at + 1) {
            Some(b'1') => Some('.'),
            Some(b'2') => Some(','),
            Some(b'3') => Some('*'),
            _ => None,
        };
        out.push(replacement.unwrap_or('\\'));
        rest = &rest[at + if replacement.is_some() { 2 } else { 1 }..];
    }
    out.push_str(rest);
    out.trim().to_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Spec, SpecError> {
        Spec::parse(text, &Limits::default())
    }

    fn of(names: &[&str]) -> Field {
        Field::Of(List::of(names.iter().map(|&name| name.into()).collect()))
    }

    #[test]
    fn lists_escapes_and_wildcards_are_read() {
        let spec = parse(r"b,a,a . * .d\1e, f\2\3,\9").unwrap();
        assert_eq!(spec.kind, of(&["a", "b"]));
        assert_eq!(spec.action, Field::Any);
        assert_eq!(spec.key, of(&[r"\9", "d.e", "f,*"]));
        assert_eq!(spec.combinations(), 6);
        assert_eq!(parse("a,*.b.").unwrap().kind, Field::Any);
        assert_eq!(parse("a.b.").unwrap().key, of(&[""]));
        let jobs = parse("machine_jobs,*,a,machine_jobs.b.c").unwrap();
        assert_eq!((jobs.combinations(), jobs.kind), (3, Field::AnyAnd(List::of(vec!["machine_jobs".into()]))));
        assert_eq!(parse("a.machine_jobs,*.c").unwrap().action, Field::Any);
        assert_eq!(parse(r"a.b.\3").unwrap().key, of(&["*"]));
    }

    #[test]
    fn a_key_keeps_its_dots() {
        assert_eq!(parse("templates.update.foo.tmpl").unwrap().key, of(&["foo.tmpl"]));
    }

    #[test]
    fn a_filter_follows_the_first_dot_of_the_key() {
        let spec = parse("machines.update.*.Params.x=Eq(1.5)").unwrap();
        assert_eq!(spec.key, Field::Any);
        assert_eq!(spec.filter.unwrap().to_string(), "Params.x=Eq(1.5)");
        let error = parse("machines.update.k.Stage=Eq(local").unwrap_err();
        let SpecError::Filter { offset, .. } = &error else { panic!("{error}") };
        assert_eq!(*offset, "machines.update.k.".len());
        assert!(error.to_string().starts_with("bad filter at byte "), "{error}");
    }

    #[test]
    fn too_few_parts_are_refused() {
        for (text, parts) in [("", 0), ("machines", 1), ("machines.update", 2)] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, SpecError::TooFewParts { spec: text.to_owned(), parts });
        }
    }
}
