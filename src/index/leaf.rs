//! A leaf of the trie: the groups of one (type, action, key).
//!
//! A leaf has an inline slot for one group without a filter. It holds the group's number and, while the group has few
//! members, its class and these members, because the lookup has just loaded that memory. Half of a fleet's machines are
//! watched by two subscribers: with room for only one, matching waited for one more cache line there. All other groups
//! are in a list.
//!
//! Contract: a group is in its leaf once, in the inline slot or in a list. [`super::groups`] remembers where, so it is
//! removed in O(1). A group that outgrows the inline slot becomes a number and stays one.

use super::Class;
use super::by_class::ByClass;
use super::filter::shrink::shrink_list;
use super::filter::{Engine, FilterId};
use super::node::Node;

/// Members that the inline slot holds.
const INLINE: usize = 2;

/// Marks a place of a member, or the number of a group, that is not used.
const NONE: u32 = u32::MAX;

/// The placement of a group without a filter in its leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// Not placed yet.
    Nowhere,
    /// In the inline slot, with its members.
    Whole,
    /// In the inline slot, by its number.
    Numbered,
    /// At this index in the list.
    Listed(u32),
}

/// The content of the leaf's inline slot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content<'l> {
    /// Nothing.
    Empty,
    /// A group with few members.
    Whole { class: Class, members: &'l [u32], group: u32 },
    /// A group by its number.
    Numbered(u32),
}

/// [`Content`] in 16 bytes: an enum would need 4 more for its tag.
#[derive(Debug)]
struct InlineSlot {
    class: Class,
    members: [u32; INLINE],
    group: u32,
}

impl Default for InlineSlot {
    fn default() -> Self {
        Self { class: Class(0), members: [NONE; INLINE], group: NONE }
    }
}

impl InlineSlot {
    fn new(group: u32, class: Class, members: &[u32]) -> Self {
        let mut inline_slot = Self { class, group, ..Self::default() };
        if let Some(few) = inline_slot.members.get_mut(..members.len()) {
            few.copy_from_slice(members);
        }
        inline_slot
    }

    #[inline]
    fn content(&self) -> Content<'_> {
        let Self { class, ref members, group } = *self;
        match *members {
            [NONE, _] if group == NONE => Content::Empty,
            [NONE, _] => Content::Numbered(group),
            [_, NONE] => Content::Whole { class, members: &members[..1], group },
            _ => Content::Whole { class, members, group },
        }
    }
}

/// The groups of one (type, action, key).
#[derive(Debug, Default)]
pub(super) struct Leaf {
    inline_slot: InlineSlot,
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Default)]
struct Rest {
    groups: Vec<u32>,
    filtered: ByClass,
}

impl Node for Leaf {
    fn is_empty(&self) -> bool {
        self.inline_slot.content() == Content::Empty && self.rest.is_none()
    }
}

impl Leaf {
    /// Returns the content of the inline slot.
    #[inline]
    pub(super) fn inline_slot(&self) -> Content<'_> {
        self.inline_slot.content()
    }

    /// Returns the numbers of the other groups without a filter.
    pub(super) fn listed(&self) -> &[u32] {
        self.rest.as_ref().map_or(&[], |rest| &rest.groups)
    }

    /// Returns the groups with a filter by class, if there are any.
    pub(super) fn filtered(&mut self) -> Option<&mut ByClass> {
        self.rest.as_mut().map(|rest| &mut rest.filtered).filter(|filtered| !filtered.is_empty())
    }

    /// Adds a group that is not placed yet.
    pub(super) fn admit(&mut self, group: u32, class: Class, members: &[u32]) -> Placement {
        if self.inline_slot.content() != Content::Empty {
            let groups = &mut self.rest.get_or_insert_default().groups;
            groups.push(group);
            return Placement::Listed(u32::try_from(groups.len() - 1).expect("fewer than 4 billion groups"));
        }
        self.inline_slot = InlineSlot::new(group, class, members);
        if members.len() <= INLINE { Placement::Whole } else { Placement::Numbered }
    }

    /// Removes a group. Returns the group that was moved to its placement, if any.
    pub(super) fn dismiss(&mut self, placement: Placement) -> Option<u32> {
        match (placement, &mut self.rest) {
            (Placement::Whole | Placement::Numbered, _) => self.inline_slot = InlineSlot::default(),
            (Placement::Listed(at), Some(rest)) => {
                rest.groups.swap_remove(at as usize);
                shrink_list(&mut rest.groups);
                let moved = rest.groups.get(at as usize).copied();
                self.drop_rest();
                return moved;
            }
            (Placement::Nowhere | Placement::Listed(_), _) => {}
        }
        None
    }

    /// Adds a group of a class, with a filter.
    pub(super) fn insert_filtered(&mut self, engine: &Engine, class: Class, filter: FilterId, group: u32) {
        self.rest.get_or_insert_default().filtered.insert(engine, class, filter, group);
    }

    /// Removes a group of a class, with a filter.
    pub(super) fn remove_filtered(&mut self, class: Class, filter: FilterId, group: u32) {
        if let Some(rest) = &mut self.rest {
            rest.filtered.remove(class, filter, group);
            self.drop_rest();
        }
    }

    fn drop_rest(&mut self) {
        self.rest.take_if(|rest| rest.groups.is_empty() && rest.filtered.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_small() {
        assert!(size_of::<Leaf>() <= 24, "with the name of its branch half a cache line");
    }

    #[test]
    fn one_group_has_room_and_the_others_are_listed() {
        let mut leaf = Leaf::default();
        assert_eq!(leaf.admit(1, Class(7), &[5]), Placement::Whole);
        assert_eq!(leaf.inline_slot(), Content::Whole { class: Class(7), members: &[5], group: 1 });
        assert_eq!(leaf.admit(2, Class(8), &[5]), Placement::Listed(0));
        assert_eq!(leaf.admit(3, Class(9), &[5]), Placement::Listed(1));
        assert_eq!(leaf.dismiss(Placement::Listed(0)), Some(3), "the last one moves into the gap");
        assert_eq!(leaf.dismiss(Placement::Whole), None);
        assert!(!leaf.is_empty());
        assert_eq!(leaf.admit(1, Class(7), &[5, 6, 7]), Placement::Numbered);
        assert_eq!(leaf.inline_slot(), Content::Numbered(1));
        assert_eq!(leaf.dismiss(Placement::Listed(0)), None);
        assert_eq!(leaf.dismiss(Placement::Numbered), None);
        assert!(leaf.is_empty());
    }

    /// Matching then reads nothing but the leaf: half of a fleet's machines are watched by two.
    #[test]
    fn a_group_of_two_is_in_the_leaf() {
        let mut leaf = Leaf::default();
        assert_eq!(leaf.admit(0, Class(0), &[0, 6]), Placement::Whole);
        assert_eq!(leaf.inline_slot(), Content::Whole { class: Class(0), members: &[0, 6], group: 0 });
        assert_eq!(leaf.dismiss(Placement::Whole), None);
        assert!(leaf.is_empty());
    }
}
