//! Numbered entries in one list, so that an entry is found in one step. The number of a removed entry is reused.
//!
//! A burst may need millions of entries, and what they took is not to stay behind. So when [most](SPARSE) of a long
//! list is free, the free entries at its end are removed, some in every turn, and the lowest numbers are reused first,
//! so that the end becomes free. An entry that stays keeps all before it in memory.
//!
//! Contract: pure. Inserting, removing and [`Slab::trim`] take a bounded number of steps, apart from memory that is
//! copied: when the list grows, and at most an eighth of it when it has shrunk.

/// A list that is shorter than this, in entries, is not trimmed.
pub(super) const KEPT: usize = 32_768;

/// A list is trimmed when less than this part of it is in use.
pub(super) const SPARSE: usize = 8;

/// Entries removed per turn: less than a millisecond.
const TRIMMED: usize = 65_536;

/// Entries visited to find a free one.
const VISITED: usize = 1024;

/// Numbered entries.
#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<Option<T>>,
    /// The free entries before `unlisted`.
    free: Vec<u32>,
    /// From this entry on, free ones are found by looking for them. The end of the list, unless it was trimmed.
    unlisted: usize,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), unlisted: 0, len: 0 }
    }
}

impl<T> Slab<T> {
    /// Adds an entry and returns its number.
    pub(super) fn insert(&mut self, entry: T) -> u32 {
        self.len += 1;
        match self.free.pop() {
            Some(at) => self.put(at as usize, entry),
            None => self.insert_unlisted(entry),
        }
    }

    fn put(&mut self, at: usize, entry: T) -> u32 {
        self.entries[at] = Some(entry);
        u32::try_from(at).expect("fewer than 4 billion frames fit into memory")
    }

    fn insert_unlisted(&mut self, entry: T) -> u32 {
        let end = self.entries.len().min(self.unlisted + VISITED);
        while self.unlisted < end {
            self.unlisted += 1;
            if self.entries[self.unlisted - 1].is_none() {
                return self.put(self.unlisted - 1, entry);
            }
        }
        let at = self.entries.len();
        self.unlisted += usize::from(self.unlisted == at);
        self.entries.push(None);
        self.put(at, entry)
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let entry = self.entries[number as usize].take()?;
        self.len -= 1;
        if (number as usize) < self.unlisted {
            self.free.push(number);
        }
        Some(entry)
    }

    /// Returns an entry.
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.entries[number as usize].as_ref()
    }

    /// Returns an entry.
    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.entries[number as usize].as_mut()
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Removes some of the free entries at the end if most are free, and gives their memory back at last. To be called
    /// once a turn.
    pub(super) fn trim(&mut self) {
        let before = self.entries.len();
        if before > KEPT && before > SPARSE * self.len {
            self.cut();
        }
        let needed = self.entries.len().max(KEPT);
        if self.entries.len() == before && self.entries.capacity() >= SPARSE * needed {
            self.entries.shrink_to(2 * needed);
        }
    }

    fn cut(&mut self) {
        if self.unlisted == self.entries.len() {
            (self.free, self.unlisted) = (Vec::new(), 0);
        }
        // Those before may be listed.
        let first = self.entries.len().saturating_sub(TRIMMED).max(self.unlisted).max(KEPT);
        let used = self.entries[first..].iter().rposition(Option::is_some);
        self.entries.truncate(used.map_or(first, |last| first + last + 1));
    }

    /// Returns for how many entries there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity().max(self.free.capacity())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Many turns.
    fn trim(slab: &mut Slab<usize>) {
        (0..100).for_each(|_| slab.trim());
    }

    fn filled(entries: usize) -> Slab<usize> {
        let mut slab = Slab::default();
        assert!((0..entries).all(|at| slab.insert(at) as usize == at));
        slab
    }

    fn remove(slab: &mut Slab<usize>, entries: std::ops::Range<usize>) {
        for at in entries {
            assert_eq!(slab.remove(u32::try_from(at).unwrap()), Some(at));
        }
    }

    #[test]
    fn what_a_burst_has_taken_is_given_back() {
        let mut slab = filled(500_000);
        remove(&mut slab, 5..500_000);
        slab.trim();
        assert!(slab.capacity() >= 500_000 && slab.entries.len() == 500_000 - TRIMMED, "not in one turn");
        trim(&mut slab);
        assert_eq!((slab.len(), slab.entries.len(), slab.capacity()), (5, KEPT, 2 * KEPT));
        assert!((0..5).all(|at| slab.get(at) == Some(&(at as usize))));
        assert!((5..100).all(|at| slab.insert(7) == at), "the lowest are reused first");
    }

    #[test]
    fn a_list_that_is_in_use_is_not_trimmed() {
        let mut slab = filled(500_000);
        remove(&mut slab, 0..400_000);
        trim(&mut slab);
        assert_eq!(slab.entries.len(), 500_000);
        assert_eq!(slab.insert(1), 399_999, "memory that is still in the cache");
    }

    /// Otherwise one frame that comes again and again would keep it all.
    #[test]
    fn an_entry_at_the_end_keeps_the_list_only_while_it_stays() {
        let mut slab = filled(500_000);
        remove(&mut slab, 0..499_999);
        trim(&mut slab);
        assert_eq!(slab.entries.len(), 500_000);
        let low = slab.insert(1);
        assert_eq!(low, 0);
        remove(&mut slab, 499_999..500_000);
        trim(&mut slab);
        assert_eq!((slab.entries.len(), slab.capacity(), slab.get(low)), (KEPT, 2 * KEPT, Some(&1)));
    }

    #[test]
    fn a_long_run_of_used_entries_is_not_walked_through_at_once() {
        let used = 10 * VISITED;
        let mut slab = filled(500_000);
        remove(&mut slab, used..499_999);
        trim(&mut slab);
        for _ in 0..used / VISITED {
            let visited = slab.unlisted;
            slab.insert(1);
            assert!(slab.unlisted <= visited + VISITED);
        }
        assert_eq!((slab.insert(1) as usize, slab.len()), (used, used + 1 + used / VISITED + 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

        /// Of a list that is trimmed all the time.
        #[test]
        fn every_entry_has_a_number_of_its_own(
            bursts in prop::collection::vec((0..70_000_usize, 0..70_000_usize, any::<bool>()), 1..12)
        ) {
            let (mut slab, mut model) = (Slab::default(), BTreeMap::new());
            for (step, (inserted, removed, from_end)) in bursts.into_iter().enumerate() {
                for _ in 0..inserted {
                    prop_assert_eq!(model.insert(slab.insert(step), step), None, "a number that was used");
                }
                for _ in 0..removed {
                    let gone = if from_end { model.pop_last() } else { model.pop_first() };
                    let Some((number, entry)) = gone else { break };
                    prop_assert_eq!(slab.remove(number), Some(entry));
                }
                slab.trim();
                prop_assert_eq!(slab.len(), model.len());
            }
            prop_assert!(model.iter().all(|(&number, entry)| slab.get(number) == Some(entry)));
        }
    }
}
