//! Counts what each group has done, so that operators see which registrations match and what they cost.
//!
//! Counts are kept per group and not per registration or subscriber, whose numbers differ by thousands: an event that
//! reaches a group updates one entry, whatever the number of members.
//!
//! With a million groups that entry is rarely in a cache, and an event that waits for it takes 50 % longer. So a match
//! only notes its hits, and the entries of about a hundred hits are updated together. The processor then waits for many
//! of them at the same time.
//!
//! Contract: pure; the caller sets the current second. A group's counts begin when the group is created. Notes are
//! counted within their second, and before any count is read ([`Tallies::settle`]), so all counts are exact.

/// Maximum number of hits that are noted before they are counted.
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

/// One entry per group, by its number.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    by_group: Vec<Tally>,
    /// Hits that are not counted yet: the group, and the number of its members.
    notes: Vec<(u32, usize)>,
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

    /// Begins this second.
    pub(super) fn begin_second(&mut self, second: u32) {
        self.settle();
        self.second = second.saturating_add(1);
    }

    /// Counts an event that matched a group with this many members.
    #[inline]
    pub(super) fn hit(&mut self, group: u32, members: usize) {
        if self.notes.len() == NOTES {
            self.settle();
        }
        self.notes.push((group, members));
    }

    /// Counts the noted hits.
    pub(super) fn settle(&mut self) {
        for (group, members) in self.notes.drain(..) {
            let tally = &mut self.by_group[group as usize];
            tally.hits += 1;
            tally.deliveries += members as u64;
            tally.last = self.second;
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
            (tally.hits, tally.deliveries) = (tally.hits + 1, tally.deliveries + 1);
            tally.last = self.second;
        }
    }

    /// Returns the counts of a group. The notes must have been settled before.
    pub(super) fn get(&self, group: u32) -> Tally {
        debug_assert!(self.notes.is_empty(), "settled before");
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
