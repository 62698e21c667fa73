//! How far a reader of an archive has got with the events of one node ([`super::splice`]).
//!
//! Contract: pure. At most [`HOLES`] jumps in the numbers are remembered, and more only while they are being filled.

use std::ops::Range;

use jiff::Timestamp;

/// The maximum number of jumps: more than there are messages in a page. What was skipped in an earlier page was found
/// elsewhere, or reported.
const HOLES: usize = 512;

/// How far a reader has got with one node.
#[derive(Debug)]
pub(super) struct Reached {
    /// The number of its next event.
    pub(super) next: u64,
    /// Lower numbers were not to be delivered.
    pub(super) since: u64,
    /// Ranges of numbers that were skipped.
    holes: Vec<Range<u64>>,
    /// The time at which the node's last message was stored.
    pub(super) stored: Timestamp,
}

impl Reached {
    pub(super) fn new(next: u64, stored: Timestamp) -> Self {
        Self { next, since: next, holes: Vec::new(), stored }
    }

    /// Returns the skipped numbers. A number that was skipped before shows that the jump was forged, and undoes it.
    pub(super) fn reach(&mut self, number: u64) -> Range<u64> {
        let known = self.next;
        if number < known {
            if let Some(at) = self.hole(number) {
                self.holes.truncate(at + 1);
                self.holes[at].end = number;
                self.holes.retain(|hole| !hole.is_empty());
                // Their number has a bound, and so their memory must.
                self.holes.shrink_to_fit();
                (self.next, self.since) = (number, self.since.min(number));
            }
            return 0..0;
        }
        self.next = number;
        if number > known {
            self.skip(known..number);
        }
        known..number
    }

    fn skip(&mut self, numbers: Range<u64>) {
        match self.holes.last_mut().filter(|last| last.end == numbers.start) {
            Some(last) => last.end = numbers.end,
            None => self.holes.push(numbers),
        }
        let most = self.holes.len().saturating_sub(HOLES);
        self.holes.drain(..most);
    }

    pub(super) fn hole(&self, number: u64) -> Option<usize> {
        self.holes.iter().position(|hole| hole.contains(&number))
    }

    pub(super) fn has(&self, number: u64) -> bool {
        number < self.next && self.hole(number).is_none()
    }

    pub(super) fn has_delivered(&self, number: u64) -> bool {
        number >= self.since && self.has(number)
    }

    /// Removes a number that was found elsewhere from the skipped ones.
    pub(super) fn fill(&mut self, number: u64) {
        let Some(at) = self.hole(number) else { return };
        let hole = self.holes.remove(at);
        let rest = [hole.start..number, number + 1..hole.end];
        self.holes.splice(at..at, rest.into_iter().filter(|rest| !rest.is_empty()));
    }

    /// Returns the number of ranges of skipped numbers.
    pub(super) fn holes(&self) -> usize {
        self.holes.len()
    }

    /// Forgets which numbers were skipped, as if they had been delivered. Returns the number of ranges.
    pub(super) fn forget_holes(&mut self) -> usize {
        std::mem::take(&mut self.holes).len()
    }
}
