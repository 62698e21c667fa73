//! The part of a replay that begins in the archive: which of the two sources an event is in, and how they are joined.
//!
//! Contract: pure. Positions in the archive are below [`POSITIONS`](crate::broker::archive::POSITIONS), those of the
//! history above it.

use super::{Range, Replay};
use crate::broker::archive::Chunk;
use crate::broker::splice::Splice;

impl Replay {
    /// Returns whether the next event is in the archive.
    pub(in crate::fanout) fn is_in_archive(&self, range: Range) -> bool {
        range.from < self.base
    }

    /// Returns the numbers in the history that a range of positions stands for.
    pub(in crate::fanout) fn numbers(&self, range: Range) -> std::ops::Range<u64> {
        range.from - self.base..range.until - self.base
    }

    /// Returns the position of an event of the history.
    pub(in crate::fanout) fn position(&self, number: u64) -> u64 {
        self.base + number
    }

    /// Drops the pages that a reader of the archive has withdrawn, even if the connection has no room for anything.
    pub(in crate::fanout) fn drop_withdrawn(&mut self) {
        if let Some(before) = &mut self.before {
            before.drop_withdrawn();
        }
    }

    /// Returns the next chunk from the archive, if it has arrived, without removing it.
    pub(in crate::fanout) fn peek(&mut self) -> Option<&Chunk> {
        let (pass, edge) = (self.pass.is_some(), self.edge);
        self.before.as_mut()?.reading(pass, edge).peek()
    }

    /// Removes and returns the next chunk.
    pub(in crate::fanout) fn take(&mut self) -> Option<Chunk> {
        let (pass, edge) = (self.pass.is_some(), self.edge);
        let before = self.before.as_mut()?;
        let chunk = before.reading(pass, edge).take()?;
        if let (Chunk::Event(position, _), false) = (&chunk, pass) {
            before.given.get_or_insert(*position);
            before.end = position + 1;
        }
        Some(chunk)
    }

    /// Notes that the archive has delivered everything. After the first read `splice` says where the history continues.
    pub(in crate::fanout) fn leave_archive(&mut self, splice: Option<Splice>) {
        let Some(before) = &mut self.before else { return };
        if self.pass.is_some() {
            before.again = None;
        } else {
            let mut splice = splice.unwrap_or_default();
            splice.settle(before.end);
            (before.once, before.splice) = (None, Some(splice));
        }
        self.enter_history();
    }

    /// Notes that the archive delivers no more, and nothing is known of what the history has of it: after the first
    /// read, repetitions can only be avoided by continuing from `position`.
    pub(in crate::fanout) fn give_up_archive(&mut self, position: u64) {
        self.leave_archive(Some(Splice::at(position)));
    }

    fn enter_history(&mut self) {
        let first = self.splice().map(|splice| self.base + splice.first());
        match &mut self.pass {
            Some(pass) => *pass = first.unwrap_or(self.edge).min(self.edge),
            None => self.edge = first.unwrap_or(self.edge),
        }
    }

    pub(super) fn splice(&self) -> Option<&Splice> {
        self.before.as_ref()?.splice.as_ref()
    }

    /// Returns whether the event of the history with this number came from the archive.
    pub(in crate::fanout) fn was_delivered(&self, number: u64) -> bool {
        self.splice().is_some_and(|splice| splice.leaves_out(number))
    }

    /// Returns how many events in a range of the history did not come from the archive.
    pub(in crate::fanout) fn undelivered(&self, range: std::ops::Range<u64>) -> u64 {
        let all = range.end.saturating_sub(range.start);
        self.splice().map_or(all, |splice| splice.wanted(range))
    }
}
