//! Makes tables smaller from which most entries were removed.
//!
//! Clients decide what is added to a table and removed again. There are tables for each topic, so if each kept the
//! memory of its largest size, no limit would bound the sum.
//!
//! Contract: after a removal, a table that is less than an eighth full is moved to one of about twice the needed size,
//! unless it is small. So its memory stays in proportion to its entries, and a removal takes amortized O(1). The
//! removal that moves the other entries takes an eighth, at most, of the time that growing to that size took the
//! insertion which did it.

use std::hash::{BuildHasher, Hash};

use hashbrown::{HashMap, HashTable};
use smallvec::{Array, SmallVec};

/// Tables of this size keep it: there is nothing to gain.
const SMALL: usize = 16;

/// Returns whether a table with room for `room` entries is too large for `len`.
pub(in crate::index) fn is_sparse(len: usize, room: usize) -> bool {
    room > SMALL && len < room / 8
}

/// Makes a list smaller if it is mostly empty.
pub(in crate::index) fn shrink_list<T>(list: &mut Vec<T>) {
    if is_sparse(list.len(), list.capacity()) {
        list.shrink_to(2 * list.len());
    }
}

/// Makes a list with inline room smaller if it is mostly empty.
pub(in crate::index) fn shrink_inline<A: Array>(list: &mut SmallVec<A>) {
    if is_sparse(list.len(), list.capacity()) {
        // Sets the capacity, which may be a smaller one.
        list.grow(2 * list.len());
    }
}

/// Makes a map smaller if it is mostly empty.
pub(in crate::index) fn shrink_map<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    // `capacity` does not count what can only be used after a rehash. A bucket has a byte besides its entry.
    let buckets = map.allocation_size() / (size_of::<(K, V)>() + 1);
    if is_sparse(map.len(), buckets) {
        map.shrink_to(2 * map.len());
    }
}

/// Makes a hash table smaller if it is mostly empty.
pub(in crate::index) fn shrink_table<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    if is_sparse(table.len(), table.num_buckets()) {
        table.shrink_to(2 * table.len(), hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u32 = 100_000;

    /// Empties a table of [`COUNT`] entries. Returns how many entries were moved to smaller ones in all.
    fn moved<T>(mut table: T, remove: impl Fn(&mut T, u32), room: impl Fn(&T) -> usize) -> usize {
        let mut moved = 0;
        for left in (0..COUNT).rev() {
            let before = room(&table);
            remove(&mut table, left);
            let (after, left) = (room(&table), left as usize);
            assert!(after <= SMALL || left >= after / 8, "{left} in {after}");
            if after < before {
                assert!(left <= before / 8, "{left} are moved at once");
                moved += left;
            }
        }
        moved
    }

    #[test]
    fn what_is_removed_leaves_no_room_and_moves_few_others() {
        let pop = |list: &mut Vec<u32>, _| {
            list.pop();
            shrink_list(list);
        };
        let pop_inline = |list: &mut SmallVec<[u32; 4]>, _| {
            list.pop();
            shrink_inline(list);
        };
        let remove = |map: &mut HashMap<u32, u32>, key| {
            map.remove(&key);
            shrink_map(map);
        };
        let take = |table: &mut HashTable<u32>, key| {
            table.find_entry(hash(key), |other| *other == key).unwrap().remove();
            shrink_table(table, |key| hash(*key));
        };
        let mut table = HashTable::new();
        for key in 0..COUNT {
            table.insert_unique(hash(key), key, |key| hash(*key));
        }
        let all = [
            moved((0..COUNT).collect(), pop, Vec::capacity),
            moved((0..COUNT).collect(), pop_inline, SmallVec::capacity),
            moved((0..COUNT).map(|key| (key, key)).collect(), remove, |map| map.allocation_size() / 9),
            moved(table, take, HashTable::num_buckets),
        ];
        assert!(all.iter().all(|moved| (1..COUNT as usize / 2).contains(moved)), "{all:?}");
    }

    fn hash(key: u32) -> u64 {
        u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}
