//! Collects the types that are registered for, so that event sources can leave out the others.

use super::Index;

/// The type of the events that registrations of jobs by owner match.
const JOBS: &str = "jobs";

impl<S: Copy> Index<S> {
    /// Returns the types of events that may match some registration, or `None` if any type may match or there are more
    /// than `most`. Takes time proportional to `most` at worst.
    pub fn kinds(&self, most: usize) -> Option<Vec<String>> {
        if !self.wides.is_empty() {
            return None;
        }
        let mut kinds = self.trie.kinds(&self.symbols, most)?;
        if self.trie.wants_owners() {
            kinds.push(JOBS.to_owned());
        }
        Some(kinds)
    }
}

#[cfg(test)]
mod tests {
    use crate::index::{Class, Index, Limits, Spec, filter};

    #[test]
    fn the_types_of_registrations_are_told_while_they_stand() {
        let mut index = Index::new(Limits::default());
        let slot = index.subscribe(1, Class(0));
        let register = |index: &mut Index<i32>, text: &str| {
            index.enter(slot, text, &Spec::parse(text, &filter::Limits::default()).unwrap()).unwrap();
        };
        let sorted = |index: &Index<i32>| {
            index.kinds(2).map(|mut kinds| {
                kinds.sort();
                kinds
            })
        };
        assert_eq!(sorted(&index), Some(vec![]));
        register(&mut index, "machines.*.*");
        register(&mut index, "machine_jobs.*.m1");
        // A registration of jobs by owner also matches events whose Type is literally that.
        let kinds = ["jobs", "machine_jobs", "machines"].map(str::to_owned);
        assert_eq!(sorted(&index), Some(kinds.to_vec()));
        register(&mut index, "a,b.*.*");
        assert_eq!(sorted(&index), None, "too many to tell");
        index.deregister(slot, "a,b.*.*").unwrap();
        register(&mut index, "*.create.*");
        assert_eq!(sorted(&index), None, "any");
        index.unsubscribe(slot);
        assert_eq!(sorted(&index), Some(vec![]));
    }
}
