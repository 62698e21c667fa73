//! Moves subscribers to another class, or removes them, a part at a time: they may have thousands of registrations.
//!
//! Contract: between two parts every guarantee of the index holds. Until all of a subscriber's registrations have moved
//! to its new class, the others are still under their old class; wide registrations, and those for events about the
//! owner, move immediately.

use super::registrations::Registration;
use super::{Class, Index, Slot};

/// The result of [`Index::regroup`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regrouped {
    /// The number of entries moved, counting at least one for each registration visited.
    pub moved: usize,
    /// Where to continue, or `None` when all have moved.
    pub after: Option<Box<str>>,
}

impl<S: Copy> Index<S> {
    /// Moves a subscriber with all its registrations to another class.
    #[cfg(test)]
    pub(super) fn reclass(&mut self, slot: Slot, class: Class) {
        self.set_class(slot, class);
        self.regroup(slot, None, usize::MAX);
    }

    /// Sets the class of a subscriber. [`Index::regroup`] then moves its registrations.
    pub fn set_class(&mut self, slot: Slot, class: Class) {
        if let Some(subscriber) = &mut self.subscribers[slot.0 as usize] {
            (subscriber.class, subscriber.is_moving) = (class, true);
        }
    }

    /// Moves registrations of a subscriber to its class, in the order of their texts, starting after the text `after`,
    /// until `most` entries have moved.
    pub fn regroup(&mut self, slot: Slot, after: Option<Box<str>>, most: usize) -> Regrouped {
        let Some(subscriber) = &mut self.subscribers[slot.0 as usize] else {
            return Regrouped { moved: 0, after: None };
        };
        let class = subscriber.class;
        let mut registrations = std::mem::take(&mut subscriber.registrations);
        let mut at = after.map_or(0, |text| registrations.behind(&text));
        let mut moved = 0;
        while moved < most
            && let Some(registration) = registrations.get_mut(at)
        {
            moved += self.move_to(slot, registration, class).max(1);
            at += 1;
        }
        let after = (at < registrations.len()).then(|| registrations.text_before(at).into());
        let subscriber = self.subscriber(slot);
        (subscriber.registrations, subscriber.is_moving) = (registrations, after.is_some());
        Regrouped { moved, after }
    }

    /// Moves one registration. Returns the number of entries moved.
    fn move_to(&mut self, slot: Slot, registration: &mut Registration, class: Class) -> usize {
        let is_there = |&membership| self.groups.key(membership).class == class;
        if registration.memberships().first().is_none_or(is_there) {
            return 0;
        }
        let moved = registration.memberships().iter().map(|&membership| self.rejoin(slot, membership, class)).collect();
        // Joined before it leaves, so that parts used only by it are not freed and created again.
        let left = registration.replace(moved);
        self.leave_groups(left.as_slice());
        self.cost(registration)
    }

    /// Removes registrations of a departing subscriber, until `most` entries are removed; each registration is
    /// removed as a whole. Returns the number removed. The subscriber no longer receives events about its owner.
    pub fn strip(&mut self, slot: Slot, most: usize) -> usize {
        let owner = self.subscriber(slot).owner;
        self.owners.silence(owner, slot.0);
        let mut gone = 0;
        while gone < most
            && let Some((text, registration)) = self.subscriber(slot).registrations.pop()
        {
            gone += self.cost(&registration);
            let entries = super::small(self.entries(&registration));
            self.subscriber(slot).expanded -= entries;
            self.count_filter(slot, registration.bytes(), usize::wrapping_sub);
            self.count_text(slot, text.len(), usize::wrapping_sub);
            self.registrations -= 1;
            self.leave(&registration);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::hits;
    use super::super::{Limits, Stats};
    use super::*;
    use crate::event::Draft;

    fn registered(texts: usize) -> (Index<u32>, Slot) {
        let mut index = Index::new(Limits::default());
        let slot = index.subscribe(7, Class(1));
        for n in 0..texts {
            index.register(slot, &format!("a.b.{n:04}")).unwrap();
        }
        (index, slot)
    }

    /// Returns whether the subscriber is hit by an event that only this class may see.
    fn is_hit(index: &mut Index<u32>, key: &str, class: u32) -> bool {
        let event = Draft::new("a", "b", key).seal(jiff::Timestamp::UNIX_EPOCH);
        let mut hit = false;
        index.matches(&event, |asked| asked == Class(class), |_| hit = true);
        hit
    }

    #[test]
    fn registrations_follow_by_parts_whatever_comes_and_goes_meanwhile() {
        let (mut index, slot) = registered(100);
        index.set_class(slot, Class(2));
        let first = index.regroup(slot, None, 20);
        assert_eq!((first.moved, first.after.as_deref()), (20, Some("a.b.0019")));
        assert!(is_hit(&mut index, "0019", 2) && is_hit(&mut index, "0020", 1) && !is_hit(&mut index, "0020", 2));
        // One is added before the position where the move continues, and two are removed.
        index.register(slot, "a.b.000").unwrap();
        assert!(is_hit(&mut index, "000", 2), "it stands where it belongs");
        index.deregister(slot, "a.b.0001").unwrap();
        index.deregister(slot, "a.b.0019").unwrap();
        let mut next = first.after;
        while let Some(after) = next {
            next = index.regroup(slot, Some(after), 20).after;
        }
        for n in (20..100).map(|n| format!("{n:04}")) {
            assert!(is_hit(&mut index, &n, 2) && !is_hit(&mut index, &n, 1), "{n}");
        }
        index.unsubscribe(slot);
        assert!(index.is_empty());
    }

    #[test]
    fn one_that_leaves_goes_by_parts() {
        let (mut index, slot) = registered(100);
        index.register(slot, "a.b.w1,w2,w3.N=Eq(1)").unwrap();
        assert_eq!(index.weight(slot), 103);
        assert_eq!(index.strip(slot, 2), 3, "each with all its places");
        assert_eq!(index.strip(slot, 10), 10);
        assert_eq!((index.registrations(slot), index.weight(slot)), (90, 90));
        let event = Draft::new("a", "b", "0000").seal(jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(hits(&mut index, &event), [7], "the rest is there");
        assert_eq!(index.strip(slot, usize::MAX), 90);
        index.unsubscribe(slot);
        assert_eq!(index.stats(), Stats::default());
    }
}
