//! Counts what each group has done, so that operators see which registrations match and what they cost.
//!
//! Counts are kept per group and not per registration or subscriber, whose numbers differ by thousands: an event that
//! reaches a group updates one entry, whatever the number of members.
//!
//! An event that waits for that entry takes up to 50 % longer. So:
//! - A match only notes its hits, and the entries of about a hundred hits are updated together. The processor then
//!   waits for many of them at the same time. Groups with a filter are counted at once.
//! - What a match updates is small: a count and a second, so that a cache holds eight times as many entries as lines.
//!   Deliveries are not counted but computed when they are asked for, as hits by members; so the entry is folded into
//!   the totals before the members change.
//! - The work of a filter is collected in the memory of its group, which the match has loaded
//!   ([`Members`](super::groups::Members)), and comes here when it is folded too.
//!
//! Contract: pure; the caller sets the current second, and folds a group before its members change. A group's counts
//! begin when the group is created. Notes are counted within their second, and before a count is read or folded, so all
//! counts are exact.

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

/// What matching updates of a group.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    /// Events matched since the group was folded.
    hits: u32,
    /// The second of the last match, plus one; 0 if there was none.
    last: u32,
}

/// Totals of a group without what is recent.
#[derive(Debug, Clone, Copy, Default)]
struct Folded {
    hits: u64,
    deliveries: u64,
    work: u64,
}

/// One entry per group, by its number.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    recent: Vec<Recent>,
    folded: Vec<Folded>,
    /// Hits that are not counted yet: the group, and the number of its members.
    notes: Vec<(u32, u32)>,
    /// The current second, plus one.
    second: u32,
}

impl Tallies {
    /// Clears the entry of a new group, whose number may have been reused.
    pub(super) fn reset(&mut self, group: u32) {
        self.settle();
        let count = self.len().max(group as usize + 1);
        self.recent.resize(count, Recent::default());
        self.folded.resize(count, Folded::default());
        self.recent[group as usize] = Recent::default();
        self.folded[group as usize] = Folded::default();
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

    /// Counts an event that matched a group with a filter and this many members. Several such groups, often adjacent
    /// ones, match an event, so that counting them at once costs less than a note.
    #[inline]
    pub(super) fn hit_filtered(&mut self, group: u32, members: usize) {
        self.count(group, small(members));
    }

    /// Counts the noted hits.
    #[inline(never)]
    fn settle(&mut self) {
        let mut notes = std::mem::take(&mut self.notes);
        notes.drain(..).for_each(|(group, members)| self.count(group, members));
        self.notes = notes;
    }

    #[inline]
    fn count(&mut self, group: u32, members: u32) {
        let recent = &mut self.recent[group as usize];
        recent.hits += 1;
        recent.last = self.second;
        if recent.hits == u32::MAX {
            self.add(group, members as usize);
        }
    }

    /// Adds the recent hits of a group with this many members to its totals.
    #[cold]
    fn add(&mut self, group: u32, members: usize) {
        let hits = u64::from(std::mem::take(&mut self.recent[group as usize].hits));
        let folded = &mut self.folded[group as usize];
        folded.hits += hits;
        folded.deliveries += hits * members as u64;
    }

    /// Brings a group's totals up to date, before its members change; it has this many now.
    pub(super) fn fold(&mut self, group: u32, members: usize) {
        self.settle();
        if self.recent[group as usize].hits > 0 {
            self.add(group, members);
        }
    }

    /// Adds collected work to the totals of a group.
    #[cold]
    pub(super) fn spend(&mut self, group: u32, units: u32) {
        self.folded[group as usize].work += u64::from(units);
    }

    /// Counts work, and possibly a match, in a tally outside the groups.
    pub(super) fn note(&self, tally: &mut Tally, units: u64, hit: bool) {
        tally.work += units;
        if hit {
            tally.hits += 1;
            tally.deliveries += 1;
            tally.last = self.second;
        }
    }

    /// Returns the counts of a group, all hits included. It has this many members, and its filter's work that is not
    /// in the totals yet is `work`.
    #[inline]
    pub(super) fn get(&mut self, group: u32, members: usize, work: u32) -> Tally {
        if !self.notes.is_empty() {
            self.settle();
        }
        let (recent, folded) = (self.recent[group as usize], self.folded[group as usize]);
        Tally {
            hits: folded.hits + u64::from(recent.hits),
            deliveries: folded.deliveries + u64::from(recent.hits) * members as u64,
            work: folded.work + u64::from(work),
            last: recent.last,
        }
    }

    /// Returns how many group numbers exist.
    pub(super) fn len(&self) -> usize {
        self.recent.len()
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
        assert_eq!((tallies.get(0, 2, 0), tallies.notes.len()), (three, 0));
        tallies.hit(0, 2);
        tallies.begin_second(8);
        assert_eq!((tallies.notes.len(), tallies.get(0, 2, 0).last()), (0, Some(7)), "counted within its second");
        (0..NOTES).for_each(|_| tallies.hit(0, 2));
        assert_eq!((tallies.notes.len(), tallies.recent[0].hits), (0, 4 + small(NOTES)), "no more are kept");
    }

    #[test]
    fn deliveries_are_those_of_the_members_at_the_time() {
        let mut tallies = Tallies::default();
        tallies.reset(0);
        let mut expected = Tally { last: 1, ..Tally::default() };
        tallies.begin_second(0);
        for members in [1, 2, 3, 2, 7] {
            (0..members + 200).for_each(|_| tallies.hit(0, members));
            tallies.hit_filtered(0, members);
            expected.hits += members as u64 + 201;
            expected.deliveries += (members as u64 + 201) * members as u64;
            assert_eq!(tallies.get(0, members, 0), expected);
            tallies.fold(0, members);
            assert_eq!(tallies.get(0, 1, 0), expected, "whatever comes after");
        }
    }

    #[test]
    fn counts_go_beyond_those_of_an_entry() {
        let mut tallies = Tallies::default();
        tallies.reset(0);
        let most = u64::from(u32::MAX);
        tallies.recent[0].hits = u32::MAX - 1;
        (0..2).for_each(|_| tallies.hit(0, 3));
        tallies.spend(0, u32::MAX);
        let expected = Tally { hits: most + 1, deliveries: 3 * (most + 1), work: 2 * most, last: 0 };
        assert_eq!(tallies.get(0, 3, u32::MAX), expected);
    }

    #[test]
    fn what_a_match_updates_is_small() {
        assert_eq!((size_of::<Recent>(), size_of::<Recent>() + size_of::<Folded>()), (8, 32));
    }
}
