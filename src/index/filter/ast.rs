//! The syntax tree of a filter.
//!
//! Terms are stored in one list in prefix order, each combinator with the size of its subtree. So copying, comparing,
//! hashing and dropping a filter are loops over a list, and no nesting can exhaust the stack.

use super::path::Path;
use super::regex::Pattern;
use super::value::Value;

/// A term with its share of the tables that lead to it.
const TERM_BYTES: usize = 256;

/// A value with its share of them.
const VALUE_BYTES: usize = 64;

/// A parsed filter. Two filters are equal if their canonical texts are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    terms: Box<[Term]>,
}

/// One node of the tree. The number is the count of terms in the subtree, this one included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Term {
    /// True if every child is.
    And(u32),
    /// True if any child is.
    Or(u32),
    /// True if its only child is not.
    Not(u32),
    /// A question about one field.
    Test(Box<Test>),
}

impl Term {
    /// How many terms the subtree has, this one included.
    pub fn size(&self) -> usize {
        match self {
            Self::And(size) | Self::Or(size) | Self::Not(size) => *size as usize,
            Self::Test(_) => 1,
        }
    }
}

/// A question about one field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Test {
    /// Which field.
    pub path: Path,
    /// What is asked of it.
    pub op: Op,
}

impl Test {
    /// About how many bytes it takes, with its field and its values.
    fn bytes(&self) -> usize {
        let names: usize = self.path.segments().iter().map(|name| VALUE_BYTES + name.len()).sum();
        TERM_BYTES + names + self.op.bytes()
    }
}

/// What is asked of a field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    /// The field is there; `null` is there.
    Exists,
    /// It is there and equal.
    Eq(Value),
    /// It is missing or different.
    Ne(Value),
    /// It is there and the expression matches somewhere in it.
    Re(Pattern),
    /// It is there and equal to one of them.
    In(Box<[Value]>),
    /// It is missing or equal to none of them.
    Nin(Box<[Value]>),
    /// It differs between Original and Object, and had and has these values.
    Changed {
        /// What Original must hold.
        from: Option<Value>,
        /// What Object must hold.
        to: Option<Value>,
    },
}

impl Op {
    /// About how many bytes its values take.
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

    /// The operator's name in the language.
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
    /// Takes terms in prefix order; the parser's way in.
    pub(super) fn from_terms(terms: Vec<Term>) -> Self {
        debug_assert_eq!(terms.first().map(Term::size), Some(terms.len()), "one complete tree");
        Self { terms: terms.into_boxed_slice() }
    }

    /// The terms in prefix order; the first is the root.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The term at `index` of [`Filter::terms`] with all below it, as a filter of its own.
    #[must_use]
    pub fn subtree(&self, index: usize) -> Self {
        Self { terms: self.terms[index..index + self.terms[index].size()].into() }
    }

    /// About how many bytes the filter takes once it is registered: its terms, their fields and values, compiled
    /// patterns.
    pub fn bytes(&self) -> usize {
        let term = |term: &Term| match term {
            Term::Test(test) => test.bytes(),
            Term::And(_) | Term::Or(_) | Term::Not(_) => VALUE_BYTES,
        };
        self.terms.iter().map(term).sum()
    }

    /// Where the children of the term at `index` stand in [`Filter::terms`].
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
