//! Removes the parts of a pattern that do not affect whether it matches.
//!
//! A search may start and end anywhere, so an optional part at an unanchored edge of a pattern has no influence:
//! `.*foo` matches the same texts as `foo`, and `[a-z]{1,40}-[0-9]+` the same as `[a-z]-[0-9]`. Removing such parts is
//! exact, and it keeps many patterns that users write within the limits of [`compile`](super::compile).
//!
//! Contract: pure. The result matches exactly the texts that the pattern matches. Recursion is bounded by the parser's
//! limit on nesting.

use regex_syntax::hir::{Hir, HirKind, Repetition};

/// The edge of a pattern to be trimmed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Front,
    Back,
}

/// Returns the pattern without the parts that have no influence.
pub(super) fn trim(pattern: Hir) -> Hir {
    cut(cut(pattern, Edge::Front), Edge::Back)
}

fn cut(pattern: Hir, edge: Edge) -> Hir {
    if can_be_empty(&pattern) {
        return Hir::empty();
    }
    match pattern.into_kind() {
        HirKind::Concat(parts) => cut_concat(parts, edge),
        HirKind::Alternation(branches) => {
            Hir::alternation(branches.into_iter().map(|branch| cut(branch, edge)).collect())
        }
        HirKind::Repetition(repetition) => cut_repetition(repetition, edge),
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Capture(capture) => Hir::capture(capture),
    }
}

/// Reduces a repetition to its minimum: more repetitions contain that many.
fn cut_repetition(repetition: Repetition, edge: Edge) -> Hir {
    match repetition {
        Repetition { min: 1, sub, .. } => cut(*sub, edge),
        Repetition { min, .. } => Hir::repetition(Repetition { max: Some(min), ..repetition }),
    }
}

fn cut_concat(mut parts: Vec<Hir>, edge: Edge) -> Hir {
    let outermost = |parts: &[Hir]| if edge == Edge::Front { 0 } else { parts.len() - 1 };
    while !parts.is_empty() && can_be_empty(&parts[outermost(&parts)]) {
        parts.remove(outermost(&parts));
    }
    if !parts.is_empty() {
        let at = outermost(&parts);
        let part = std::mem::replace(&mut parts[at], Hir::empty());
        parts[at] = cut(part, edge);
    }
    Hir::concat(parts)
}

/// Returns whether a part matches the empty text anywhere, whatever surrounds it.
fn can_be_empty(part: &Hir) -> bool {
    let looks = !part.properties().look_set().is_empty();
    match part.kind() {
        HirKind::Repetition(repetition) => repetition.min == 0 || can_be_empty(&repetition.sub),
        _ => !looks && part.properties().minimum_len() == Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(pattern: &str, trimmed: &str) {
        let parse = |text| regex_syntax::parse(text).unwrap();
        assert_eq!(trim(parse(pattern)), parse(trimmed), "{pattern}");
    }

    #[test]
    fn what_can_be_empty_at_an_edge_is_cut_off() {
        same("[^x]*foo", "foo");
        same("foo.*", "foo");
        same("a?b{1,40}-c{2,}", "b-c{2}");
        same("(?:a*b|c)(?:d|e+f?)", "(?:b|c)(?:d|e)");
        same("(?:[a-z]?[a-y]?){100}[^a-z]", "[^a-z]");
        same("(?:a?|b)*", "");
        same("x+", "x");
    }

    #[test]
    fn what_is_anchored_stays() {
        same(r"\Aa*b?\z", r"\Aa*b?\z");
        same(r"\Aa+b*", r"\Aa");
        same(r"a*\z", r"\z");
        same(r"(?:\b|a)b", r"(?:\b|a)b");
        same(r"(?:\ba)*b", "b");
    }
}
