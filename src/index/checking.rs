//! Checks the registrations of a subscriber that does not exist yet.
//!
//! Contract: a text is refused exactly if [`Index::register`](super::Index::register) would refuse it after those that
//! were checked before, except that the limits of the owner and on the number of registrations are not applied.
//! Nothing is kept of a filter but its size.

use hashbrown::HashSet;

use super::error::check_size;
use super::{IndexError, Limits, Spec};
use crate::index::filter::Filter;

/// The sizes of the registrations checked so far.
#[derive(Debug)]
pub struct Checking {
    limits: Limits,
    texts: HashSet<Box<str>>,
    text_bytes: usize,
    combinations: usize,
    filter_bytes: usize,
}

impl Checking {
    /// Begins with a subscriber without registrations.
    pub fn new(limits: Limits) -> Self {
        Self { limits, texts: HashSet::new(), text_bytes: 0, combinations: 0, filter_bytes: 0 }
    }

    /// Checks another registration.
    ///
    /// # Errors
    /// [`IndexError`]; nothing has changed then.
    pub fn add(&mut self, text: &str) -> Result<(), IndexError> {
        if self.texts.contains(text) {
            return Ok(());
        }
        let Limits { text_bytes: most_text, filter_bytes: most_filters, .. } = self.limits;
        let text_bytes = self.text_bytes + text.len();
        if text_bytes > most_text {
            return Err(IndexError::TextBytes { bytes: text_bytes, limit: most_text });
        }
        let spec = Spec::parse(text, &self.limits.filter)?;
        let combinations = spec.combinations();
        check_size(combinations, self.combinations, &self.limits)?;
        let more = spec.filter.as_ref().map_or(0, Filter::bytes);
        let filter_bytes = self.filter_bytes + more;
        if more > 0 && filter_bytes > most_filters {
            return Err(IndexError::FilterBytes { bytes: filter_bytes, limit: most_filters });
        }
        self.combinations += combinations;
        (self.text_bytes, self.filter_bytes) = (text_bytes, filter_bytes);
        self.texts.insert(text.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Class, Index};
    use super::*;

    /// A check that is stricter would refuse what a websocket may register; a laxer one lets more be compiled.
    #[test]
    fn it_refuses_what_an_index_refuses() {
        let texts = ["a.b.c", "a.b", "a.b.N=Re(", "a.b.c", "a.b,c.d,e", "a.b.c.N=Re(x+y)", "a.b.c.N=Re(y+z)", "d.e.f"];
        let filter_bytes = Spec::parse(texts[5], &Limits::default().filter).unwrap().filter.unwrap().bytes();
        for limits in [
            Limits::default(),
            Limits { filter_bytes, ..Limits::default() },
            Limits { text_bytes: 20, ..Limits::default() },
            Limits { combinations: 3, ..Limits::default() },
            Limits { combinations_in_all: 6, ..Limits::default() },
        ] {
            let (mut checking, mut index) = (Checking::new(limits), Index::new(limits));
            let slot = index.subscribe((), Class(0));
            for text in texts {
                assert_eq!(checking.add(text), index.register(slot, text).map(drop), "{text} within {limits:?}");
            }
        }
    }
}
