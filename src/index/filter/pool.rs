//! Interning with reference counts.
//!
//! Equal items get the same id. An item is removed when its last user releases it, and its id is reused. Everything is
//! O(1). Ids are dense, so data about items can be stored in a list beside the pool.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// A reference-counted set of items.
pub(super) struct Pool<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

struct Slot<T> {
    item: Option<T>,
    uses: u32,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), index: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }
}

impl<T: Hash + Eq> Pool<T> {
    /// Adds a use of `item`. Returns its id and whether the item is new.
    pub(super) fn intern(&mut self, item: T) -> (u32, bool) {
        let hash = self.hasher.hash_one(&item);
        let slots = &self.slots;
        if let Some(&id) = self.index.find(hash, |id| slots[*id as usize].item.as_ref() == Some(&item)) {
            self.retain(id);
            return (id, false);
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { item: None, uses: 0 });
            u32::try_from(self.slots.len() - 1).expect("fewer items than bytes of memory / 4")
        });
        self.slots[id as usize] = Slot { item: Some(item), uses: 1 };
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |id: &u32| slots[*id as usize].item.as_ref().map_or(0, |item| hasher.hash_one(item));
        self.index.insert_unique(hash, id, rehash);
        (id, true)
    }

    /// Adds a use of an existing item.
    pub(super) fn retain(&mut self, id: u32) {
        self.slots[id as usize].uses += 1;
    }

    /// Removes a use; returns the item if that was the last.
    pub(super) fn release(&mut self, id: u32) -> Option<T> {
        let slot = &mut self.slots[id as usize];
        slot.uses -= 1;
        if slot.uses > 0 {
            return None;
        }
        let item = slot.item.take()?;
        if let Ok(entry) = self.index.find_entry(self.hasher.hash_one(&item), |other| *other == id) {
            entry.remove();
        }
        self.free.push(id);
        Some(item)
    }

    /// Returns the item with this id.
    pub(super) fn get(&self, id: u32) -> &T {
        self.slots[id as usize].item.as_ref().expect("an id is valid until it is released")
    }

    /// Returns one more than the largest id assigned so far.
    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Returns the number of items.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_live_as_long_as_somebody_uses_them() {
        let mut pool = Pool::default();
        let (a, new) = pool.intern("a".to_owned());
        assert!(new);
        assert_eq!(pool.intern("a".to_owned()), (a, false));
        let (b, _) = pool.intern("b".to_owned());
        assert_ne!(a, b);
        assert_eq!(pool.release(a), None);
        assert_eq!(pool.get(a), "a");
        assert_eq!(pool.release(a), Some("a".to_owned()));
        assert_eq!(pool.len(), 1);
        assert_eq!(pool.intern("c".to_owned()), (a, true));
        assert_eq!(pool.intern("b".to_owned()), (b, false));
    }

    #[test]
    fn many_come_and_go_through_growth() {
        let mut pool = Pool::default();
        for round in 0..3_u32 {
            let ids: Vec<u32> = (0..5_000).map(|n| pool.intern(n + round).0).collect();
            assert_eq!(pool.len(), 5_000);
            for id in ids {
                assert!(pool.release(id).is_some());
            }
        }
        assert_eq!((pool.len(), pool.slots.len()), (0, 5_000));
    }
}
