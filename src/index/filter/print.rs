//! The canonical text of a filter; [`Filter::parse`](super::Filter::parse) parses it to the same tree.
//!
//! No white space, values as JSON (strings always quoted), patterns as JSON strings, paths dotted where that parses
//! back. The order of terms is preserved.

use std::fmt::{self, Display, Formatter};

use super::ast::{Filter, Op, Term, Test};
use super::value::Value;

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // The ends of the open combinators; the list is at most as long as the nesting limit.
        let mut ends: Vec<usize> = Vec::new();
        for (index, term) in self.terms().iter().enumerate() {
            match term {
                Term::And(_) => f.write_str("And(")?,
                Term::Or(_) => f.write_str("Or(")?,
                Term::Not(_) => f.write_str("Not(")?,
                Term::Test(test) => {
                    test.fmt(f)?;
                    close(index + 1, &mut ends, f)?;
                    continue;
                }
            }
            ends.push(index + term.size());
        }
        Ok(())
    }
}

/// Writes the text between the term that ended before `next` and the next one.
fn close(next: usize, ends: &mut Vec<usize>, f: &mut Formatter<'_>) -> fmt::Result {
    while ends.last() == Some(&next) {
        ends.pop();
        f.write_str(")")?;
    }
    if ends.is_empty() { Ok(()) } else { f.write_str(",") }
}

impl Display for Test {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.path, self.op)
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name())?;
        match self {
            Self::Exists => {}
            Self::Eq(value) | Self::Ne(value) => value.fmt(f)?,
            Self::Re(pattern) => Value::string(pattern.as_str()).fmt(f)?,
            Self::In(values) | Self::Nin(values) => list(values, f)?,
            Self::Changed { from, to } => {
                from.iter().try_for_each(|value| value.fmt(f))?;
                to.iter().try_for_each(|value| write!(f, ",{value}"))?;
            }
        }
        f.write_str(")")
    }
}

fn list(values: &[Value], f: &mut Formatter<'_>) -> fmt::Result {
    for (position, value) in values.iter().enumerate() {
        if position > 0 {
            f.write_str(",")?;
        }
        value.fmt(f)?;
    }
    Ok(())
}
