//! Groups: the members of one (topic, filter, class), so that a thousand subscribers with the same registration cost
//! one match.
//!
//! Contract: insert and remove are O(1) for any size of the group. A fleet that reconnects removes and adds every
//! machine; with a scan per removal that would be quadratic.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use super::Class;
use super::filter::FilterId;
use super::leaf::Placement;
use super::trie::Topic;

/// What the members of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub(super) topic: Topic,
    pub(super) filter: Option<FilterId>,
    pub(super) class: Class,
}

/// One subscriber's place in a group; the number under which it is taken out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Membership(u32);

impl Membership {
    /// A number that stands for something else than a place in a group.
    pub(super) fn numbered(number: u32) -> Self {
        Self(number)
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }
}

/// What matching touches of a group: half a cache line, and nothing else as long as there are few members.
#[derive(Debug)]
struct Members {
    class: Class,
    /// Subscriber slots, dense, in no particular order. Empty if the group's number is free.
    slots: SmallVec<[u32; 4]>,
}

/// What only registering touches.
#[derive(Debug)]
struct Registered {
    key: GroupKey,
    /// For each member its number in `Groups::memberships`.
    numbers: SmallVec<[u32; 4]>,
    /// Where it is in its leaf, if it has no filter.
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
    /// Numbers of groups, found by their keys, which stand in `registered`: half of all groups have one member, and a
    /// key in the table too would be a tenth of what an idle subscriber costs.
    by_key: HashTable<u32>,
    hasher: DefaultHashBuilder,
    memberships: Vec<Position>,
    free_memberships: Vec<u32>,
}

/// What an insertion did.
pub(super) struct Inserted {
    pub(super) membership: Membership,
    pub(super) group: u32,
    /// The group is new and has to be hung into the trie.
    pub(super) is_new: bool,
}

/// What a removal did.
pub(super) struct Removed {
    pub(super) group: u32,
    pub(super) key: GroupKey,
    /// Where the group is in its leaf, if it has no filter.
    pub(super) placement: Placement,
    /// That was the last member: the group is gone and has to be taken out of the trie.
    pub(super) is_last: bool,
}

impl Groups {
    /// Makes a subscriber a member of the group with this key.
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
        let members = Members { class: key.class, slots: SmallVec::new() };
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

    /// Takes a member out.
    pub(super) fn remove(&mut self, membership: Membership) -> Removed {
        let Position { group, at } = self.memberships[membership.0 as usize];
        self.free_memberships.push(membership.0);
        let members = &mut self.members[group as usize].slots;
        members.swap_remove(at as usize);
        let Registered { key, numbers, placement } = &mut self.registered[group as usize];
        numbers.swap_remove(at as usize);
        if let Some(&moved) = numbers.get(at as usize) {
            self.memberships[moved as usize].at = at;
        }
        let removed = Removed { group, key: *key, placement: *placement, is_last: members.is_empty() };
        if removed.is_last {
            self.free.push(group);
            let hash = self.hasher.hash_one(removed.key);
            if let Ok(entry) = self.by_key.find_entry(hash, |&other| other == group) {
                entry.remove();
            }
        }
        removed
    }

    /// The group of a membership.
    pub(super) fn group_of(&self, membership: Membership) -> u32 {
        self.memberships[membership.0 as usize].group
    }

    /// What a membership is about.
    pub(super) fn key(&self, membership: Membership) -> GroupKey {
        self.registered[self.group_of(membership) as usize].key
    }

    /// Where a group without a filter is in its leaf.
    pub(super) fn placement(&self, group: u32) -> Placement {
        self.registered[group as usize].placement
    }

    /// Notes where a group without a filter is in its leaf.
    pub(super) fn set_placement(&mut self, group: u32, placement: Placement) {
        self.registered[group as usize].placement = placement;
    }

    /// The class and the members of a group.
    pub(super) fn get(&self, group: u32) -> (Class, &[u32]) {
        let group = &self.members[group as usize];
        (group.class, &group.slots)
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Gives the memory back when nothing is left.
    pub(super) fn shrink(&mut self) {
        if self.by_key.is_empty() {
            *self = Self::default();
        }
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 4 billion groups and memberships")
}

/// Bytes of a group with few members, but for its place in the table of keys.
#[cfg(test)]
pub(super) const SIZE: usize = size_of::<Members>() + size_of::<Registered>();
