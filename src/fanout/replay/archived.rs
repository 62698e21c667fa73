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
        self.before.as_mut()?.take(pass, edge)
    }

    /// Notes that the archive has delivered everything, and how the replay, or the pass, continues in the history.
    pub(in crate::fanout) fn leave_archive(&mut self, splice: Splice) {
        let pass = self.pass.is_some();
        if let Some(before) = &mut self.before {
            before.leave(pass, splice);
        }
        self.enter_history();
    }

    /// Notes that the archive delivers no more. Events are lost, and `position` is that of the shard.
    pub(in crate::fanout) fn give_up_archive(&mut self, position: u64) {
        let pass = self.pass.is_some();
        if let Some(before) = &mut self.before {
            before.give_up(pass, position);
        }
        self.enter_history();
    }

    /// A pass goes over the history from where it is known what came from the archive: what has been dropped since the
    /// first read is counted.
    fn enter_history(&mut self) {
        let first = self.splice().map_or(self.edge, |splice| self.base + splice.first());
        match &mut self.pass {
            Some(pass) => *pass = first.min(self.edge),
            None => self.edge = first,
        }
    }

    /// Forgets what the replay left out of the history, if that is gone from there: `first` returns the lowest number
    /// in it.
    pub(in crate::fanout) fn forget_left_out(&mut self, first: impl FnOnce() -> u64) {
        let handled = self.edge.checked_sub(self.base).filter(|_| self.pass.is_none());
        if let (Some(before), Some(handled)) = (&mut self.before, handled) {
            before.forget_before(|| first().min(handled));
        }
    }

    pub(super) fn splice(&self) -> Option<&Splice> {
        self.before.as_ref()?.splice()
    }

    /// Returns the position at which an event is looked up among what deregistered registrations have received. It is
    /// the lowest if the first read had the event: where it stood in the archive is not known.
    pub(super) fn position_before(&self, position: u64) -> u64 {
        let number = position.checked_sub(self.base);
        let had = |number| self.splice().is_some_and(|splice| splice.leaves_out(number));
        if number.is_some_and(had) { self.begin } else { position }
    }

    /// Returns the end of the current pass. Beyond the edge it delivers only what the first read brought, which the
    /// settled registrations will leave out there.
    pub(super) fn pass_end(&self) -> u64 {
        let brought = self.before.as_ref().and_then(|before| before.end_of_brought());
        self.edge.max(brought.map_or(0, |end| self.base + end))
    }

    /// Returns whether the event of the history with this number came from the archive, or comes after the pass.
    pub(in crate::fanout) fn was_delivered(&self, number: u64) -> bool {
        let is_beyond = self.pass.is_some() && self.position(number) >= self.edge;
        let comes = |splice: &Splice| is_beyond && !splice.leaves_out(number);
        self.splice().is_some_and(comes) || self.before.as_ref().is_some_and(|before| before.leaves_out(number))
    }

    /// Returns how many events in a range of the history did not come from the archive. What lies beyond the edge is
    /// not counted in a pass.
    pub(in crate::fanout) fn undelivered(&self, mut range: std::ops::Range<u64>) -> u64 {
        if self.pass.is_some() {
            range.end = range.end.min(self.edge.saturating_sub(self.base));
        }
        match &self.before {
            Some(before) => before.undelivered(range),
            None => range.end.saturating_sub(range.start),
        }
    }
}
