//! Counts what each group has done, so that operators see which registrations match and what they cost.
//!
//! Counts are kept per group and not per registration or subscriber, whose numbers differ by thousands: an event that
//! reaches a group updates one entry, whatever the number of members. Entries are stored apart from the groups,
//! because nothing waits for them: an update is a store that the processor completes when it can.
//!
//! Contract: pure; the caller says which second it is. A group's counts begin when the group is made.

/// What a group, or all groups of a registration, have done since they were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that matched.
    pub hits: u64,
    /// Events that matched, once for each member.
    pub deliveries: u64,
    /// Work of the filter, in units of about a nanosecond.
    pub work: u64,
    /// The second of the last match, from one; 0 if there was none.
    last: u32,
}

impl Tally {
    /// The second of the last match, if there was one.
    pub fn last(&self) -> Option<u32> {
        self.last.checked_sub(1)
    }

    /// Both together.
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

/// One entry a group, by its number.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    by_group: Vec<Tally>,
    second: u32,
}

impl Tallies {
    /// A group is new, under a number that may have been another's.
    pub(super) fn reset(&mut self, group: u32) {
        let count = self.by_group.len().max(group as usize + 1);
        self.by_group.resize(count, Tally::default());
        self.by_group[group as usize] = Tally::default();
    }

    /// Goes on to this second.
    pub(super) fn begin_second(&mut self, second: u32) {
        self.second = second.saturating_add(1);
    }

    /// An event matched a group of so many members.
    #[inline]
    pub(super) fn hit(&mut self, group: u32, members: usize) {
        let tally = &mut self.by_group[group as usize];
        tally.hits += 1;
        tally.deliveries += members as u64;
        tally.last = self.second;
    }

    /// The group's filter has cost so much. What belongs to no group is not noted.
    #[inline]
    pub(super) fn spend(&mut self, group: u32, units: u64) {
        if let Some(tally) = self.by_group.get_mut(group as usize) {
            tally.work += units;
        }
    }

    /// What stands apart from the groups has cost so much, and matched an event or not.
    pub(super) fn note(&self, tally: &mut Tally, units: u64, hit: bool) {
        tally.work += units;
        if hit {
            (tally.hits, tally.deliveries) = (tally.hits + 1, tally.deliveries + 1);
            tally.last = self.second;
        }
    }

    /// What a group has done.
    pub(super) fn get(&self, group: u32) -> Tally {
        self.by_group[group as usize]
    }

    /// How many numbers of groups there are.
    pub(super) fn len(&self) -> usize {
        self.by_group.len()
    }

    /// Gives the memory back: no group is left.
    pub(super) fn clear(&mut self) {
        self.by_group = Vec::new();
    }
}
