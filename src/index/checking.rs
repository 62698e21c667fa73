//! Checks the registrations of a subscriber that does not exist yet.
//!
//! Contract: a text is refused exactly if [`Index::register`](super::Index::register) would refuse it after those that
//! were checked before, except that the limits of the owner and on the number of registrations are not applied.
//! Nothing is kept of a filter but its size.

use hashbrown::HashSet;

use super::error::check_size;
use super::{IndexError, Limits, Spec};

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
        let (bytes, limit) = (self.text_bytes + text.len(), self.limits.text_bytes);
        if bytes > limit {
            return Err(IndexError::TextBytes { bytes, limit });
        }
        let spec = Spec::parse(text, &self.limits.filter)?;
        let combinations = spec.combinations();
        check_size(combinations, self.combinations, &self.limits)?;
        self.filter_bytes = self.filter_bytes_with(&spec)?;
        self.combinations += combinations;
        self.text_bytes = bytes;
        self.texts.insert(text.into());
        Ok(())
    }

    /// Returns the size of all filters with that of another registration.
    fn filter_bytes_with(&self, spec: &Spec) -> Result<usize, IndexError> {
        let Some(filter) = &spec.filter else { return Ok(self.filter_bytes) };
        let (bytes, limit) = (self.filter_bytes + filter.bytes(), self.limits.filter_bytes);
        if bytes > limit { Err(IndexError::FilterBytes { bytes, limit }) } else { Ok(bytes) }
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
