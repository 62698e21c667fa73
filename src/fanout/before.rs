//! The part of a replay that comes from the archive. It is read once, and again for the pass of a late registration.
//!
//! Contract: nothing is read before it is asked for, and nothing is read twice at the same time.

use crate::broker::archive::{PageChannel, Pages, Reading, Wake, page_channel};
use crate::broker::history::Beyond;
use crate::broker::splice::Splice;

/// The part of a replay that is read from the archive.
#[derive(Debug)]
pub(super) struct Before {
    beyond: Beyond,
    /// Where what was asked for begins in the history.
    first: u64,
    wake: Wake,
    /// The first time through.
    pub(super) once: Option<Pages>,
    /// Again, for the pass that is on.
    pub(super) again: Option<Pages>,
    /// Behind the last event that came.
    pub(super) end: u64,
    pub(super) splice: Option<Splice>,
}

impl Before {
    /// Nothing is read yet. The history is wanted from the number `first` on.
    pub(super) fn new(beyond: Beyond, first: u64, wake: &Wake) -> Self {
        Self { beyond, first, wake: wake.clone(), once: None, again: None, end: 0, splice: None }
    }

    /// What is being read, by a pass up to the `edge` or for the first time; begins to read if need be.
    pub(super) fn reading(&mut self, pass: bool, edge: u64) -> &mut Pages {
        let Self { beyond: Beyond { archive, time, begin }, first, wake, .. } = self;
        let until = pass.then_some(edge.min(self.end));
        let read = || {
            let (filler, pages): (PageChannel, Pages) = page_channel(wake.clone());
            archive.read(Reading { time: *time, begin: *begin, first: *first, until }, filler);
            pages
        };
        let pages = if pass { &mut self.again } else { &mut self.once };
        pages.get_or_insert_with(read)
    }
}
