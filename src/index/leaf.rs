//! A leaf of the trie: the groups of one (type, action, key).
//!
//! A leaf has an inline slot for one group without a filter. It holds the group's number or, while the group has one
//! member, its class and that member, because the lookup has just loaded that memory. All other groups are in a list.
//!
//! Contract: a group is in its leaf once, in the inline slot or in a list. [`super::groups`] remembers where, so it is
//! removed in O(1). A group that grows beyond one member becomes a number and stays one.

use super::Class;
use super::by_class::ByClass;
use super::filter::{Engine, FilterId};
use super::node::Node;

/// The placement of a group without a filter in its leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// Not placed yet.
    Nowhere,
    /// In the inline slot, with its one member.
    Whole,
    /// In the inline slot, by its number.
    Numbered,
    /// At this index in the list.
    Listed(u32),
}

/// The content of the leaf's inline slot.
#[derive(Debug, Default)]
pub(super) enum InlineSlot {
    /// Nothing.
    #[default]
    Empty,
    /// A group of one member.
    Whole { class: Class, member: u32, group: u32 },
    /// A group by its number.
    Numbered(u32),
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
        matches!(self.inline_slot, InlineSlot::Empty) && self.rest.is_none()
    }
}

impl Leaf {
    /// Returns the content of the inline slot.
    pub(super) fn inline_slot(&self) -> &InlineSlot {
        &self.inline_slot
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
        if !matches!(self.inline_slot, InlineSlot::Empty) {
            let groups = &mut self.rest.get_or_insert_default().groups;
            groups.push(group);
            return Placement::Listed(u32::try_from(groups.len() - 1).expect("fewer than 4 billion groups"));
        }
        let (inline_slot, placement) = match *members {
            [member] => (InlineSlot::Whole { class, member, group }, Placement::Whole),
            _ => (InlineSlot::Numbered(group), Placement::Numbered),
        };
        self.inline_slot = inline_slot;
        placement
    }

    /// Removes a group. Returns the group that was moved to its placement, if any.
    pub(super) fn dismiss(&mut self, placement: Placement) -> Option<u32> {
        match (placement, &mut self.rest) {
            (Placement::Whole | Placement::Numbered, _) => self.inline_slot = InlineSlot::Empty,
            (Placement::Listed(at), Some(rest)) => {
                rest.groups.swap_remove(at as usize);
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
        assert!(matches!(leaf.inline_slot(), InlineSlot::Whole { class: Class(7), member: 5, group: 1 }));
        assert_eq!(leaf.admit(2, Class(8), &[5]), Placement::Listed(0));
        assert_eq!(leaf.admit(3, Class(9), &[5]), Placement::Listed(1));
        assert_eq!(leaf.dismiss(Placement::Listed(0)), Some(3), "the last one moves into the gap");
        assert_eq!(leaf.dismiss(Placement::Whole), None);
        assert!(!leaf.is_empty());
        assert_eq!(leaf.admit(1, Class(7), &[5, 6]), Placement::Numbered);
        assert!(matches!(leaf.inline_slot(), InlineSlot::Numbered(1)));
        assert_eq!(leaf.dismiss(Placement::Listed(0)), None);
        assert_eq!(leaf.dismiss(Placement::Numbered), None);
        assert!(leaf.is_empty());
    }
}
