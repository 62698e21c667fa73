//! The strings an event is matched by.
//!
//! Contract: pure and immutable. They are stored in one text, because matching reads all of them.

use super::wire::offset;

/// The decoded strings by which an event is matched, concatenated, because matching reads all of them.
#[derive(Debug, Clone)]
pub(super) struct Names {
    text: Box<str>,
    ends: [u32; 7],
}

impl Names {
    /// Concatenates the names.
    pub(super) fn new(names: [&str; 7]) -> Self {
        let mut end = 0;
        let ends = names.map(|name| {
            end += name.len();
            offset(end)
        });
        Self { text: names.concat().into(), ends }
    }

    /// Returns the name of this number, in the order given to [`Names::new`].
    #[inline]
    pub(super) fn get(&self, at: usize) -> &str {
        self.range(at, at)
    }

    /// Returns the names from one number to another, joined.
    #[inline]
    pub(super) fn range(&self, first: usize, last: usize) -> &str {
        let start = if first == 0 { 0 } else { self.ends[first - 1] };
        &self.text[start as usize..self.ends[last] as usize]
    }
}
