//! The part of a replay that comes from the archive. It is read once, and again for the pass of a late registration.
//!
//! Contract: nothing is read before it is requested, and nothing is read twice at the same time. What of the history
//! came from the archive is told for each read by its own [`Splice`]: one that is read again may end early.

use std::ops::Range;
use std::sync::Arc;

use crate::broker::archive::{Chunk, PageChannel, Pages, Progress, Reading, Wake, page_channel};
use crate::broker::history::Beyond;
use crate::broker::splice::Splice;

/// The repeated read, for the current pass.
#[derive(Debug, Default)]
struct Again {
    pages: Option<Pages>,
    /// The position after the last event received.
    end: u64,
    /// How the pass continues in the history, once the pages have ended.
    splice: Option<Splice>,
}

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
    once: Option<Pages>,
    /// The position of the first event received.
    given: Option<u64>,
    /// The position after the last one.
    end: u64,
    /// How the replay continues in the history, once the first read has ended.
    splice: Option<Arc<Splice>>,
    again: Again,
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
            given: None,
            end: 0,
            splice: None,
            again: Again::default(),
        }
    }

    /// Drops the pages that a reader has withdrawn.
    pub(super) fn drop_withdrawn(&mut self) {
        [&mut self.once, &mut self.again.pages].into_iter().flatten().for_each(Pages::drop_withdrawn);
    }

    /// Returns the current read, of a pass up to the `edge` or the first one; starts it if necessary.
    pub(super) fn reading(&mut self, pass: bool, edge: u64) -> &mut Pages {
        let until = pass.then_some(self.until(edge));
        let Self { beyond: Beyond { archive, time, begin }, first, wake, progress, account, given, splice, .. } = self;
        let read = || {
            let (given, brought) = (given.filter(|_| pass), splice.clone().filter(|_| pass));
            let (filler, pages): (PageChannel, Pages) = page_channel(wake.clone(), progress.clone());
            let reading = Reading { time: *time, begin: *begin, first: *first, until, given, brought };
            archive.read(reading, account, filler);
            pages
        };
        let pages = if pass { &mut self.again.pages } else { &mut self.once };
        pages.get_or_insert_with(read)
    }

    /// Returns the end of what a pass reads again.
    fn until(&self, edge: u64) -> u64 {
        edge.min(self.end)
    }

    /// Removes and returns the next chunk of the current read. What lies beyond the requested range is dropped.
    pub(super) fn take(&mut self, pass: bool, edge: u64) -> Option<Chunk> {
        let chunk = self.reading(pass, edge).take()?;
        let Chunk::Event(position, _) = chunk else { return Some(chunk) };
        if !pass {
            self.given.get_or_insert(position);
            self.end = position + 1;
        } else if position < self.until(edge) {
            self.again.end = position + 1;
        } else {
            return None;
        }
        Some(chunk)
    }

    /// Notes that the current read has ended, and that this is how it continues in the history.
    pub(super) fn leave(&mut self, pass: bool, mut splice: Splice) {
        if pass {
            splice.settle(self.again.end);
            (self.again.pages, self.again.splice) = (None, Some(splice));
        } else {
            splice.settle(self.end);
            (self.once, self.splice) = (None, Some(Arc::new(splice)));
        }
    }

    /// Notes that the current read has ended, and that nothing is known of what the history has of it. So that nothing
    /// is repeated, the replay continues at the number `next`, and a pass leaves out all that the first read brought.
    pub(super) fn give_up(&mut self, pass: bool, next: u64) {
        if pass { self.again.pages = None } else { self.leave(false, Splice::at(next)) }
    }

    /// Notes that the current pass has ended.
    pub(super) fn end_pass(&mut self) {
        self.again = Again::default();
    }

    /// Forgets what is left out of the history once all of that precedes the number that `number` returns: the history
    /// no longer holds it, and the settled registrations are past it. Calls `number` only if something is left out.
    pub(super) fn forget_before(&mut self, number: impl FnOnce() -> u64) {
        let leaves_out = |splice: &&mut Arc<Splice>| splice.first() < splice.end() && splice.is_past(number());
        if let Some(splice) = self.splice.as_mut().filter(leaves_out) {
            Arc::make_mut(splice).forget();
        }
    }

    /// Returns how the replay continues in the history after the first read.
    pub(super) fn splice(&self) -> Option<&Splice> {
        self.splice.as_deref()
    }

    /// Returns the number after the last one of the history that the first read brought, if the pass continues there.
    pub(super) fn end_of_brought(&self) -> Option<u64> {
        self.again.splice.as_ref()?;
        Some(self.splice()?.end())
    }

    /// Returns whether the current pass has had this event of the history from the archive, or the settled
    /// registrations have.
    pub(super) fn leaves_out(&self, number: u64) -> bool {
        self.again.splice.as_ref().or(self.splice()).is_some_and(|splice| splice.leaves_out(number))
    }

    /// Returns how many events in a range of the history they have not had. What the history had dropped before it was
    /// compared with the repeated read is in the splice of the first read only.
    pub(super) fn undelivered(&self, range: Range<u64>) -> u64 {
        let count = |splice: Option<&Splice>, range: Range<u64>| match splice {
            Some(splice) => splice.wanted(range),
            None => range.end.saturating_sub(range.start),
        };
        let Some(again) = &self.again.splice else { return count(self.splice(), range) };
        let compared = again.first().clamp(range.start, range.end.max(range.start));
        count(self.splice(), range.start..compared) + count(Some(again), compared..range.end)
    }
}
