//! Counts what each group has done, so that operators see which registrations match and what they cost.
//!
//! Counts are kept per group and not per registration or subscriber, whose numbers differ by thousands: an event that
//! reaches a group updates one entry, whatever the number of members.
//!
//! With a million groups that entry is rarely in a cache, and an event that waits for it takes 50 % longer. So a match
//! only notes its hits, and the entries of about a hundred hits are updated together. The processor then waits for many
//! of them at the same time. Groups with a filter are counted at once: their entry has just been loaded, because it
//! also counts the filter's work.
//!
//! Contract: pure; the caller sets the current second. A group's counts begin when the group is created. Notes are
//! counted within their second, and reading a count counts them first, so all counts are exact.

use super::small;

/// Number of hits that are noted before they are counted.
const NOTES: usize = 128;

/// What a group, or all groups of a registration, have matched and cost since they were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events matched.
    pub hits: u64,
    /// Events matched, counted once for each member.
    pub deliveries: u64,
    /// Work of the filter, in units of about a nanosecond.
    pub work: u64,
    /// The second of the last match, plus one; 0 if there was none.
    last: u32,
}

impl Tally {
    /// Returns the second of the last match, if there was one.
    pub fn last(&self) -> Option<u32> {
        self.last.checked_sub(1)
    }

    /// Counts a match in this second, plus one.
    #[inline]
    fn add(&mut self, members: u32, second: u32) {
        self.hits += 1;
        self.deliveries += u64::from(members);
        self.last = second;
    }

    /// Returns the sum of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            deliveries: self.deliveries + other.deliveries,
            work: self.work + other.work,
            last: self.last.max(other.last),
        }
    }
}

/// One entry per group, by its number.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    by_group: Vec<Tally>,
    /// Hits that are not counted yet: the group, and the number of its members.
    notes: Vec<(u32, u32)>,
    /// The current second, plus one.
    second: u32,
}

impl Tallies {
    /// Clears the entry of a new group, whose number may have been reused.
    pub(super) fn reset(&mut self, group: u32) {
        self.settle();
        let count = self.by_group.len().max(group as usize + 1);
        self.by_group.resize(count, Tally::default());
        self.by_group[group as usize] = Tally::default();
    }

    /// Begins this second, if it is another one.
    #[inline]
    pub(super) fn begin_second(&mut self, second: u32) {
        if self.second != second.saturating_add(1) {
            self.settle();
            self.second = second.saturating_add(1);
        }
    }

    /// Counts an event that matched a group with this many members.
    #[inline]
    pub(super) fn hit(&mut self, group: u32, members: usize) {
        self.notes.push((group, small(members)));
        if self.notes.len() == NOTES {
            self.settle();
        }
    }

    /// Counts an event whose filter has just been evaluated for a group with this many members.
    #[inline]
    pub(super) fn hit_filtered(&mut self, group: u32, members: usize) {
        self.by_group[group as usize].add(small(members), self.second);
    }

    /// Counts the noted hits.
    #[inline(never)]
    fn settle(&mut self) {
        for (group, members) in self.notes.drain(..) {
            self.by_group[group as usize].add(members, self.second);
        }
    }

    /// Adds work to a group's filter. Work that belongs to no group is not recorded.
    #[inline]
    pub(super) fn spend(&mut self, group: u32, units: u64) {
        if let Some(tally) = self.by_group.get_mut(group as usize) {
            tally.work += units;
        }
    }

    /// Counts work, and possibly a match, in a tally outside the groups.
    pub(super) fn note(&self, tally: &mut Tally, units: u64, hit: bool) {
        tally.work += units;
        if hit {
            tally.add(1, self.second);
        }
    }

    /// Returns the counts of a group, all hits included.
    #[inline]
    pub(super) fn get(&mut self, group: u32) -> Tally {
        if !self.notes.is_empty() {
            self.settle();
        }
        self.by_group[group as usize]
    }

    /// Returns how many group numbers exist.
    pub(super) fn len(&self) -> usize {
        self.by_group.len()
    }

    /// Frees the memory; no group may be left.
    pub(super) fn clear(&mut self) {
        *self = Self { second: self.second, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every event begins its second, so notes must outlast that: only many together are cheap to count.
    #[test]
    fn notes_are_kept_within_a_second_and_counted_when_a_count_is_read() {
        let mut tallies = Tallies::default();
        tallies.reset(0);
        for _ in 0..3 {
            tallies.begin_second(7);
            tallies.hit(0, 2);
        }
        assert_eq!(tallies.notes.len(), 3);
        let three = Tally { hits: 3, deliveries: 6, work: 0, last: 8 };
        assert_eq!((tallies.get(0), tallies.notes.len()), (three, 0));
        tallies.hit(0, 2);
        tallies.begin_second(8);
        assert_eq!((tallies.notes.len(), tallies.get(0).last()), (0, Some(7)), "counted within its second");
        (0..NOTES).for_each(|_| tallies.hit(0, 1));
        assert_eq!((tallies.notes.len(), tallies.by_group[0].hits), (0, 4 + NOTES as u64), "no more are kept");
    }
}
