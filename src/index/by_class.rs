//! The filters of one topic, partitioned by the class of their subscribers.
//!
//! Whether a class may see an event is decided before any of its filters is evaluated. Filters of a class that may not
//! see it are not even looked up by hash, so the content of a hidden event has no influence on the work done for
//! subscribers that may not see it.
//!
//! Contract: finding the filters of a class takes O(1); visiting all takes a step per class.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::Class;
use super::filter::shrink::{shrink_inline, shrink_map};
use super::filter::{Engine, FilterId, Leaf};

/// Up to this many classes are searched linearly.
const LINEAR: usize = 8;

/// The filters of one topic, partitioned by class.
#[derive(Debug, Default)]
pub(super) struct ByClass {
    /// None of the leaves is empty.
    leaves: SmallVec<[(Class, Leaf); 1]>,
    /// The index of each class, if there are more than `LINEAR`.
    positions: Option<Box<HashMap<Class, usize>>>,
}

impl ByClass {
    pub(super) fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Returns all classes with their filters.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut (Class, Leaf)> {
        self.leaves.iter_mut()
    }

    fn find(&self, class: Class) -> Option<usize> {
        match &self.positions {
            Some(positions) => positions.get(&class).copied(),
            None => self.leaves.iter().position(|(other, _)| *other == class),
        }
    }

    pub(super) fn insert(&mut self, engine: &Engine, class: Class, filter: FilterId, group: u32) {
        let at = self.find(class).unwrap_or_else(|| self.add(class));
        self.leaves[at].1.insert(engine, filter, group);
    }

    fn add(&mut self, class: Class) -> usize {
        let at = self.leaves.len();
        self.leaves.push((class, Leaf::default()));
        if let Some(positions) = &mut self.positions {
            positions.insert(class, at);
        } else if at >= LINEAR {
            let positions = self.leaves.iter().enumerate().map(|(at, (class, _))| (*class, at));
            self.positions = Some(Box::new(positions.collect()));
        }
        at
    }

    pub(super) fn remove(&mut self, class: Class, filter: FilterId, group: u32) {
        let Some(at) = self.find(class) else { return };
        let leaf = &mut self.leaves[at].1;
        leaf.remove(filter, group);
        if leaf.is_empty() {
            self.drop_leaf(at);
        }
    }

    fn drop_leaf(&mut self, at: usize) {
        let (class, _) = self.leaves.swap_remove(at);
        shrink_inline(&mut self.leaves);
        let Some(positions) = &mut self.positions else { return };
        positions.remove(&class);
        if let Some((moved, _)) = self.leaves.get(at) {
            positions.insert(*moved, at);
        }
        shrink_map(positions);
        if self.leaves.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::{Filter, Limits};
    use super::*;

    #[test]
    fn classes_come_and_go_among_many() {
        let mut engine = Engine::new();
        let filter = engine.intern(&Filter::parse("A=Ne(1)", &Limits::default()).unwrap());
        let mut all = ByClass::default();
        for class in 0..50 {
            all.insert(&engine, Class(class), filter, class);
        }
        for class in (0..50).filter(|class| class % 3 > 0) {
            all.remove(Class(class), filter, class);
        }
        all.remove(Class(1), filter, 1);
        let mut left: Vec<u32> = all.iter_mut().map(|(class, _)| class.0).collect();
        left.sort_unstable();
        assert_eq!(left, (0..50).filter(|class| class % 3 == 0).collect::<Vec<_>>());
        for class in left {
            assert_eq!(all.find(Class(class)).map(|at| all.leaves[at].0), Some(Class(class)));
            all.remove(Class(class), filter, class);
        }
        assert!(all.is_empty() && all.positions.is_none());
    }
}
