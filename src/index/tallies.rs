//! Counts what each group has done, so that operators see which registrations match and what they cost.
//!
//! Counts are kept per group and not per registration or subscriber, whose numbers differ by thousands: an event that
//! reaches a group updates one entry, whatever the number of members.
//!
//! An event that waits for that entry takes up to 50 % longer. So:
//! - A match only notes the group's number, and the entries of about a hundred hits are updated together. The processor
//!   then waits for many of them at the same time. Groups with a filter are counted at once.
//! - What a match updates is small: a count and a second, so that a cache line holds eight entries. Deliveries are not
//!   counted but computed when they are asked for, as hits times members; so the entry is folded into the totals when
//!   the members change.
//! - The work of a filter is collected in the memory of its group, which the match has loaded
//!   ([`Members`](super::groups::Members)), and comes here only when its sum there is full; [`Tallies::get`] adds the
//!   rest.
//!
//! Contract: pure; the caller sets the current second, and folds a group whenever its members change. A group's counts
//! begin when the group is created. Notes are counted within their second, and before a count is read or folded, so all
//! counts are exact.

use hashbrown::HashMap;

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
    /// For groups with four billion recent hits or more: how many times that many are missing in `recent`.
    wrapped: HashMap<u32, u32>,
    notes: Notes,
    /// The current second, plus one.
    second: u32,
}

/// The groups of hits that are not counted yet.
#[derive(Debug)]
struct Notes {
    groups: [u32; NOTES],
    count: usize,
}

impl Default for Notes {
    fn default() -> Self {
        Self { groups: [0; NOTES], count: 0 }
    }
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
        self.wrapped.remove(&group);
    }

    /// Begins this second, if it is another one.
    #[inline]
    pub(super) fn begin_second(&mut self, second: u32) {
        if self.second != second.saturating_add(1) {
            self.settle();
            self.second = second.saturating_add(1);
        }
    }

    /// Counts an event that matched a group.
    #[inline]
    pub(super) fn hit(&mut self, group: u32) {
        let Notes { groups, count } = &mut self.notes;
        groups[*count % NOTES] = group;
        *count += 1;
        if *count == NOTES {
            self.settle();
        }
    }

    /// Counts an event that matched a group with a filter. Several such groups, often adjacent ones, match an event, so
    /// that counting them at once costs less than a note.
    #[inline]
    pub(super) fn hit_filtered(&mut self, group: u32) {
        self.count(group);
    }

    /// Counts the noted hits.
    #[inline(never)]
    fn settle(&mut self) {
        let Notes { groups, count } = std::mem::take(&mut self.notes);
        groups[..count].iter().for_each(|&group| self.count(group));
    }

    #[inline]
    fn count(&mut self, group: u32) {
        let recent = &mut self.recent[group as usize];
        let (hits, is_wrapped) = recent.hits.overflowing_add(1);
        *recent = Recent { hits, last: self.second };
        if is_wrapped {
            self.wrap(group);
        }
    }

    #[cold]
    fn wrap(&mut self, group: u32) {
        *self.wrapped.entry(group).or_default() += 1;
    }

    /// Returns a group's hits since it was folded.
    fn recent_hits(&self, group: u32) -> u64 {
        let wrapped = self.wrapped.get(&group).copied().unwrap_or_default();
        u64::from(self.recent[group as usize].hits) + (u64::from(wrapped) << u32::BITS)
    }

    /// Brings a group's totals up to date when its members change; `members` is their number before.
    pub(super) fn fold(&mut self, group: u32, members: usize) {
        self.settle();
        let hits = self.recent_hits(group);
        self.recent[group as usize].hits = 0;
        self.wrapped.remove(&group);
        let folded = &mut self.folded[group as usize];
        folded.hits += hits;
        folded.deliveries += hits * members as u64;
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
        if self.notes.count > 0 {
            self.settle();
        }
        let (recent, folded) = (self.recent_hits(group), self.folded[group as usize]);
        Tally {
            hits: folded.hits + recent,
            deliveries: folded.deliveries + recent * members as u64,
            work: folded.work + u64::from(work),
            last: self.recent[group as usize].last,
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
            tallies.hit(0);
        }
        assert_eq!(tallies.notes.count, 3);
        let three = Tally { hits: 3, deliveries: 6, work: 0, last: 8 };
        assert_eq!((tallies.get(0, 2, 0), tallies.notes.count), (three, 0));
        tallies.hit(0);
        tallies.begin_second(8);
        assert_eq!((tallies.notes.count, tallies.get(0, 2, 0).last()), (0, Some(7)), "counted within its second");
        (0..NOTES).for_each(|_| tallies.hit(0));
        assert_eq!((tallies.notes.count, tallies.get(0, 2, 0).hits), (0, 4 + NOTES as u64), "no more are kept");
    }

    #[test]
    fn deliveries_are_those_of_the_members_at_the_time() {
        let mut tallies = Tallies::default();
        tallies.reset(0);
        let mut expected = Tally { last: 1, ..Tally::default() };
        tallies.begin_second(0);
        for members in [1, 2, 3, 2, 7] {
            (0..members + 200).for_each(|_| tallies.hit(0));
            tallies.hit_filtered(0);
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
        (0..3).for_each(|_| tallies.hit(0));
        tallies.spend(0, u32::MAX);
        let expected = Tally { hits: most + 2, deliveries: 3 * (most + 2), work: 2 * most, last: 0 };
        assert_eq!(tallies.get(0, 3, u32::MAX), expected);
        tallies.fold(0, 3);
        assert_eq!(tallies.get(0, 1, u32::MAX), expected, "folded once");
        tallies.recent[0].hits = u32::MAX;
        tallies.hit_filtered(0);
        tallies.reset(0);
        assert_eq!(tallies.get(0, 3, 0), Tally::default(), "nothing is left for a new group");
    }

    #[test]
    fn what_a_match_updates_is_small() {
        assert_eq!((size_of::<Recent>(), size_of::<Recent>() + size_of::<Folded>()), (8, 32));
    }
}
