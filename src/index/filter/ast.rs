//! The syntax tree of a filter.
//!
//! Terms are stored in one list in prefix order, each combinator with the size of its subtree. So copying, comparing,
//! hashing and dropping a filter are loops over a list, and no nesting can exhaust the stack.

use super::path::Path;
use super::regex::Pattern;
use super::value::Value;

/// Estimated bytes of a term, with its share of the tables that lead to it.
const TERM_BYTES: usize = 256;

/// Estimated bytes of a value, with its share of those tables.
const VALUE_BYTES: usize = 64;

/// A parsed filter. Two filters are equal if their canonical texts are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    terms: Box<[Term]>,
}

/// One node of the tree. The number is the count of terms in the subtree, this one included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Term {
    /// True if every child is true.
    And(u32),
    /// True if any child is true.
    Or(u32),
    /// True if its only child is false.
    Not(u32),
    /// A predicate on one field.
    Test(Box<Test>),
}

impl Term {
    /// Returns the number of terms in the subtree, this one included.
    pub fn size(&self) -> usize {
        match self {
            Self::And(size) | Self::Or(size) | Self::Not(size) => *size as usize,
            Self::Test(_) => 1,
        }
    }
}

/// A predicate on one field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Test {
    /// The path of the field.
    pub path: Path,
    /// The operator with its values.
    pub op: Op,
}

impl Test {
    /// Returns the estimated bytes of the predicate, with its field and its values.
    fn bytes(&self) -> usize {
        let names: usize = self.path.segments().iter().map(|name| VALUE_BYTES + name.len()).sum();
        TERM_BYTES + names + self.op.bytes()
    }
}

/// An operator with its values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    /// The field exists; `null` counts as existing.
    Exists,
    /// The field exists and is equal.
    Eq(Value),
    /// The field is missing or different.
    Ne(Value),
    /// The field exists and the expression matches somewhere in it.
    Re(Pattern),
    /// The field exists and is equal to one of the values.
    In(Box<[Value]>),
    /// The field is missing or equal to none of the values.
    Nin(Box<[Value]>),
    /// The field differs between Original and Object, and has these values there.
    Changed {
        /// The value required in Original.
        from: Option<Value>,
        /// The value required in Object.
        to: Option<Value>,
    },
}

impl Op {
    /// Returns the estimated bytes of its values.
    fn bytes(&self) -> usize {
        let value = |value: &Value| VALUE_BYTES + 2 * value.as_str().len();
        match self {
            Self::Exists => 0,
            Self::Eq(one) | Self::Ne(one) => value(one),
            Self::In(values) | Self::Nin(values) => values.iter().map(value).sum(),
            Self::Re(pattern) => pattern.bytes(),
            Self::Changed { from, to } => [from, to].into_iter().flatten().map(value).sum(),
        }
    }

    /// Returns the operator's name in the language.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exists => "Exists",
            Self::Eq(_) => "Eq",
            Self::Ne(_) => "Ne",
            Self::Re(_) => "Re",
            Self::In(_) => "In",
            Self::Nin(_) => "Nin",
            Self::Changed { .. } => "Changed",
        }
    }
}

impl Filter {
    /// Creates a filter from terms in prefix order; used by the parser.
    pub(super) fn from_terms(terms: Vec<Term>) -> Self {
        debug_assert_eq!(terms.first().map(Term::size), Some(terms.len()), "one complete tree");
        Self { terms: terms.into_boxed_slice() }
    }

    /// Returns the terms in prefix order; the first is the root.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Returns the term at `index` of [`Filter::terms`] with its subtree, as a filter of its own.
    #[must_use]
    pub fn subtree(&self, index: usize) -> Self {
        Self { terms: self.terms[index..index + self.terms[index].size()].into() }
    }

    /// Returns the estimated bytes of the filter once it is registered: its terms, their fields and values, and
    /// compiled patterns.
    pub fn bytes(&self) -> usize {
        let term = |term: &Term| match term {
            Term::Test(test) => test.bytes(),
            Term::And(_) | Term::Or(_) | Term::Not(_) => VALUE_BYTES,
        };
        self.terms.iter().map(term).sum()
    }

    /// Returns the indexes in [`Filter::terms`] of the children of the term at `index`.
    pub fn children(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let end = index + self.terms[index].size();
        let mut next = index + 1;
        std::iter::from_fn(move || {
            let child = (next < end).then_some(next)?;
            next += self.terms[child].size();
            Some(child)
        })
    }
}
