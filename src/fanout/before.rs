//! The part of a replay that comes from the archive. It is read once, and again for the pass of a late registration.
//!
//! Contract: nothing is read before it is requested, and nothing is read twice at the same time.

use crate::broker::archive::{PageChannel, Pages, Progress, Reading, Wake, page_channel};
use crate::broker::history::Beyond;
use crate::broker::splice::Splice;

/// The part of a replay that is read from the archive.
#[derive(Debug)]
pub(super) struct Before {
    beyond: Beyond,
    /// The number in the history where the replay continues.
    first: u64,
    wake: Wake,
    /// That of the replay: the first read has to wait while a later registration's is handled.
    pub(super) progress: Progress,
    /// The account of the connection's principal.
    account: Box<str>,
    /// The first read.
    pub(super) once: Option<Pages>,
    /// The repeated read, for the current pass.
    pub(super) again: Option<Pages>,
    /// The position of the first event received.
    pub(super) given: Option<u64>,
    /// The position after the last one.
    pub(super) end: u64,
    pub(super) splice: Option<Splice>,
}

impl Before {
    /// Creates the state; nothing is read yet. The replay continues in the history at the number `first`.
    pub(super) fn new(beyond: Beyond, first: u64, wake: &Wake, account: &str) -> Self {
        Self {
            beyond,
            first,
            wake: wake.clone(),
            progress: Progress::default(),
            account: account.into(),
            once: None,
            again: None,
            given: None,
            end: 0,
            splice: None,
        }
    }

    /// Drops the pages that a reader has withdrawn.
    pub(super) fn drop_withdrawn(&mut self) {
        [&mut self.once, &mut self.again].into_iter().flatten().for_each(Pages::drop_withdrawn);
    }

    /// Returns the current read, of a pass up to the `edge` or the first one; starts it if necessary.
    pub(super) fn reading(&mut self, pass: bool, edge: u64) -> &mut Pages {
        let Self { beyond: Beyond { archive, time, begin }, first, wake, progress, account, given, .. } = self;
        let until = pass.then_some(edge.min(self.end));
        let given = given.filter(|_| pass);
        let read = || {
            let (filler, pages): (PageChannel, Pages) = page_channel(wake.clone(), progress.clone());
            archive.read(Reading { time: *time, begin: *begin, first: *first, until, given }, account, filler);
            pages
        };
        let pages = if pass { &mut self.again } else { &mut self.once };
        pages.get_or_insert_with(read)
    }
}
