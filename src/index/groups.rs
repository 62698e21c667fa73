//! Groups: the members of one (topic, filter, class), so that a thousand subscribers with the same registration cost
//! one match.
//!
//! Contract: insert and remove are O(1) for any size of the group. A fleet that reconnects removes and adds every
//! machine; with a scan per removal that would be quadratic. A group is no larger than its members need
//! ([`shrink`](super::filter::shrink)), and takes nothing in the heap when it has gone.

use std::cell::Cell;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use super::Class;
use super::filter::FilterId;
use super::filter::shrink::shrink_inline;
use super::leaf::Placement;
use super::trie::Topic;

/// The common key of a group's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub(super) topic: Topic,
    pub(super) filter: Option<FilterId>,
    pub(super) class: Class,
}

/// A subscriber's membership in a group, by the number used to remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Membership(u32);

impl Membership {
    /// Creates a membership from a number that stands for something other than a place in a group.
    pub(super) const fn numbered(number: u32) -> Self {
        Self(number)
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }
}

/// The part of a group that matching accesses: half a cache line, and nothing else while there are few members.
#[derive(Debug)]
pub(super) struct Members {
    class: Class,
    /// Work of its filter that is not in its tally yet, in units; in here because matching has loaded this memory.
    work: Cell<u32>,
    /// Subscriber slots, dense, in no particular order. Empty if the group's number is free.
    slots: SmallVec<[u32; 4]>,
}

impl Members {
    fn new(class: Class) -> Self {
        Self { class, work: Cell::new(0), slots: SmallVec::new() }
    }

    pub(super) fn class(&self) -> Class {
        self.class
    }

    /// Returns the subscribers.
    #[inline]
    pub(super) fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// Adds work of the filter. If the sum is too large, returns what there was, to be added to the tally.
    #[inline]
    #[must_use]
    pub(super) fn spend(&self, units: u32) -> Option<u32> {
        let sum = self.work.get().checked_add(units);
        if let Some(sum) = sum {
            self.work.set(sum);
            return None;
        }
        Some(self.work.replace(units))
    }

    /// Returns the work of the filter that is not in its tally yet.
    pub(super) fn work(&self) -> u32 {
        self.work.get()
    }
}

/// The part of a group that only registering accesses.
#[derive(Debug)]
struct Registered {
    key: GroupKey,
    /// For each member its number in `Groups::memberships`.
    numbers: SmallVec<[u32; 4]>,
    /// Its placement in its leaf, if it has no filter.
    placement: Placement,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    group: u32,
    at: u32,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    members: Vec<Members>,
    registered: Vec<Registered>,
    free: Vec<u32>,
    /// The numbers of groups, found by their keys in `registered`: half of all groups have one member, and storing the
    /// key in the table too would add a tenth to the cost of an idle subscriber.
    by_key: HashTable<u32>,
    hasher: DefaultHashBuilder,
    memberships: Vec<Position>,
    free_memberships: Vec<u32>,
}

/// The result of an insertion.
pub(super) struct Inserted {
    pub(super) membership: Membership,
    pub(super) group: u32,
    /// Whether the group is new and has to be linked into the trie.
    pub(super) is_new: bool,
}

/// The result of a removal.
pub(super) struct Removed {
    pub(super) group: u32,
    pub(super) key: GroupKey,
    /// The group's placement in its leaf, if it has no filter.
    pub(super) placement: Placement,
    /// Whether that was the last member: the group is gone and has to be unlinked from the trie.
    pub(super) is_last: bool,
}

impl Groups {
    /// Adds a subscriber to the group with this key.
    pub(super) fn insert(&mut self, key: GroupKey, subscriber: u32) -> Inserted {
        let (group, is_new) = self.group(key);
        let number = self.free_memberships.pop().unwrap_or_else(|| {
            self.memberships.push(Position { group, at: 0 });
            number(self.memberships.len() - 1)
        });
        let members = &mut self.members[group as usize].slots;
        self.memberships[number as usize] = Position { group, at: self::number(members.len()) };
        members.push(subscriber);
        self.registered[group as usize].numbers.push(number);
        Inserted { membership: Membership(number), group, is_new }
    }

    fn group(&mut self, key: GroupKey) -> (u32, bool) {
        let hash = self.hasher.hash_one(key);
        if let Some(&group) = self.by_key.find(hash, |&group| self.registered[group as usize].key == key) {
            return (group, false);
        }
        let members = Members::new(key.class);
        let registered = Registered { key, numbers: SmallVec::new(), placement: Placement::Nowhere };
        let id = if let Some(free) = self.free.pop() {
            self.members[free as usize] = members;
            self.registered[free as usize] = registered;
            free
        } else {
            self.members.push(members);
            self.registered.push(registered);
            number(self.members.len() - 1)
        };
        let Self { by_key, hasher, registered, .. } = self;
        by_key.insert_unique(hash, id, |&group| hasher.hash_one(registered[group as usize].key));
        (id, true)
    }

    /// Removes a member.
    pub(super) fn remove(&mut self, membership: Membership) -> Removed {
        let Position { group, at } = self.memberships[membership.0 as usize];
        self.free_memberships.push(membership.0);
        let members = &mut self.members[group as usize].slots;
        members.swap_remove(at as usize);
        shrink_inline(members);
        let Registered { key, numbers, placement } = &mut self.registered[group as usize];
        numbers.swap_remove(at as usize);
        shrink_inline(numbers);
        if let Some(&moved) = numbers.get(at as usize) {
            self.memberships[moved as usize].at = at;
        }
        let removed = Removed { group, key: *key, placement: *placement, is_last: members.is_empty() };
        if removed.is_last {
            (*members, *numbers) = Default::default();
            self.free.push(group);
            let hash = self.hasher.hash_one(removed.key);
            if let Ok(entry) = self.by_key.find_entry(hash, |&other| other == group) {
                entry.remove();
            }
        }
        removed
    }

    /// Returns the group of a membership.
    pub(super) fn group_of(&self, membership: Membership) -> u32 {
        self.memberships[membership.0 as usize].group
    }

    /// Returns the key of a membership's group.
    pub(super) fn key(&self, membership: Membership) -> GroupKey {
        self.registered[self.group_of(membership) as usize].key
    }

    /// Returns the placement of a group without a filter in its leaf.
    pub(super) fn placement(&self, group: u32) -> Placement {
        self.registered[group as usize].placement
    }

    /// Sets the placement of a group without a filter in its leaf.
    pub(super) fn set_placement(&mut self, group: u32, placement: Placement) {
        self.registered[group as usize].placement = placement;
    }

    /// Returns the part of a group that matching accesses.
    #[inline]
    pub(super) fn get(&self, group: u32) -> &Members {
        &self.members[group as usize]
    }

    /// Returns the number of groups.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Frees the memory when no group is left.
    pub(super) fn shrink(&mut self) {
        if self.by_key.is_empty() {
            *self = Self::default();
        }
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 4 billion groups and memberships")
}

/// Bytes of a group with few members, without its entry in the table of keys.
#[cfg(test)]
pub(super) const SIZE: usize = size_of::<Members>() + size_of::<Registered>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_keeps_no_room_for_members_that_have_gone() {
        let mut groups = Groups::default();
        let key = |class| GroupKey { topic: Topic::Event(None, None, None), filter: None, class: Class(class) };
        let room = |groups: &Groups, group: u32| {
            let (members, registered) = (&groups.members[group as usize], &groups.registered[group as usize]);
            members.slots.capacity() + registered.numbers.capacity()
        };
        let other = groups.insert(key(1), 7);
        let all: Vec<Inserted> = (0..1_000).map(|subscriber| groups.insert(key(0), subscriber)).collect();
        let group = all[0].group;
        assert!(room(&groups, group) >= 2_000);
        for (left, inserted) in (0..1_000).rev().zip(&all) {
            assert_eq!(groups.remove(inserted.membership).is_last, left == 0);
            assert!(room(&groups, group) <= 16 * left + 40, "{} for {left}", room(&groups, group));
        }
        assert_eq!(room(&groups, group), 8, "what is inline");
        assert_eq!(groups.get(other.group).slots(), [7]);
    }

    #[test]
    fn work_that_is_too_much_for_a_group_is_handed_on() {
        let members = Members::new(Class(0));
        assert_eq!((members.spend(u32::MAX), members.work()), (None, u32::MAX));
        assert_eq!((members.spend(5), members.work()), (Some(u32::MAX), 5));
    }
}
