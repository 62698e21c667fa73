//! Inspects registrations: what each has matched and cost, and which are the busiest.
//!
//! Contract: read-only. The caller limits how many groups or memberships a call may visit, because it runs on a thread
//! that also delivers events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::groups::Members;
use super::registrations::Registration;
use super::tallies::{Tallies, Tally};
use super::wide::Wide;
use super::{Index, Slot};

/// The measure by which registrations are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Events matched.
    Hits,
    /// Events matched, counted once for each connection.
    Deliveries,
    /// Work of filters.
    Work,
}

impl Measure {
    fn of(self, tally: &Tally) -> u64 {
        match self {
            Self::Hits => tally.hits,
            Self::Deliveries => tally.deliveries,
            Self::Work => tally.work,
        }
    }
}

/// What a registration has matched and cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The text of the registration.
    pub spec: Box<str>,
    /// The totals of all registrations of its group.
    pub tally: Tally,
    /// The number of connections with the same rights that share it, itself included.
    pub shared: usize,
    /// Combinations of type, action and key.
    pub combinations: usize,
    /// Bytes of its filter; 0 if it has none.
    pub filter_bytes: usize,
}

/// The number of a group, or of a wide registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Group(u32),
    Wide(u32),
}

/// The busiest of the groups visited so far.
#[derive(Debug)]
pub struct Busiest {
    measure: Measure,
    most: usize,
    heap: BinaryHeap<(Reverse<u64>, Found)>,
}

impl Busiest {
    /// Creates an empty result for up to `most` groups.
    pub fn new(measure: Measure, most: usize) -> Self {
        Self { measure, most, heap: BinaryHeap::new() }
    }

    /// Takes a group if it is among the busiest so far. Nearly all of many are not, which takes one comparison.
    fn offer(&mut self, found: Found, tally: &Tally) {
        let offered = (Reverse(self.measure.of(tally)), found);
        let is_full = self.heap.len() >= self.most;
        if is_full && self.heap.peek().is_none_or(|least| offered >= *least) {
            return;
        }
        self.heap.push(offered);
        if is_full {
            self.heap.pop();
        }
    }
}

fn tally_of(tallies: &mut Tallies, group: u32, members: &Members) -> Tally {
    tallies.get(group, members.slots().len(), members.work())
}

impl<S: Copy> Index<S> {
    /// Returns the usage of each registration of a subscriber, sorted by text. Visits at most `memberships`
    /// combinations; those of a registration beyond that are not counted.
    pub fn usage(&mut self, slot: Slot, mut memberships: usize) -> Vec<Usage> {
        let Self { subscribers, groups, tallies, wides, .. } = self;
        let Some(subscriber) = &subscribers[slot.0 as usize] else { return Vec::new() };
        let usage = |(spec, registration): (&str, &Registration)| {
            let all = registration.memberships();
            let looked_at = all.len().min(memberships);
            memberships -= looked_at;
            let groups_of = all[..looked_at].iter().map(|&membership| groups.group_of(membership));
            let (tally, shared) = groups_of.fold((Tally::default(), 0), |(tally, shared): (Tally, usize), group| {
                let members = groups.get(group);
                (tally.and(tally_of(tallies, group, members)), shared.max(members.slots().len()))
            });
            let wide = registration.number().map(|wide| wides.get(wide));
            Usage {
                spec: spec.into(),
                tally: wide.map_or(tally, Wide::tally),
                shared: shared.max(1),
                combinations: wide.map_or(all.len(), Wide::combinations),
                filter_bytes: registration.bytes(),
            }
        };
        subscriber.registrations.iter_with_text().map(usage).collect()
    }

    /// Returns an upper bound on the numbers of groups and of wide registrations.
    pub fn group_numbers(&self) -> usize {
        self.tallies.len().max(self.wides.numbers())
    }

    /// Visits the groups and the wide registrations with these numbers.
    pub fn survey(&mut self, numbers: Range<usize>, busiest: &mut Busiest) {
        for at in numbers.start..numbers.end.min(self.group_numbers()) {
            let number = u32::try_from(at).expect("fewer than 4 billion groups");
            if at < self.tallies.len() {
                let members = self.groups.get(number);
                if !members.slots().is_empty() {
                    busiest.offer(Found::Group(number), &tally_of(&mut self.tallies, number, members));
                }
            }
            if let Some(wide) = self.wides.find(at) {
                busiest.offer(Found::Wide(number), &wide.tally());
            }
        }
    }

    /// Returns the usage of the busiest groups, in descending order. Omits groups that are gone, and those whose
    /// registration is not found within `memberships` combinations.
    pub fn busiest(&mut self, busiest: Busiest, mut memberships: usize) -> Vec<Usage> {
        let found = busiest.heap.into_sorted_vec();
        let usage = |(_, found)| match found {
            Found::Group(group) => self.usage_of(group, &mut memberships),
            Found::Wide(wide) => self.usage_of_wide(wide, &mut memberships),
        };
        found.into_iter().filter_map(usage).collect()
    }

    fn usage_of_wide(&self, number: u32, memberships: &mut usize) -> Option<Usage> {
        let wide = self.wides.find(number as usize)?;
        let subscriber = self.subscribers[wide.slot as usize].as_ref()?;
        let looked_at = subscriber.registrations.len().min(*memberships);
        *memberships -= looked_at;
        let mut looked_at = subscriber.registrations.iter_with_text().take(looked_at);
        let (spec, registration) = looked_at.find(|(_, registration)| registration.number() == Some(number))?;
        Some(Usage {
            spec: spec.into(),
            tally: wide.tally(),
            shared: 1,
            combinations: wide.combinations(),
            filter_bytes: registration.bytes(),
        })
    }

    fn usage_of(&mut self, group: u32, memberships: &mut usize) -> Option<Usage> {
        // All groups may have gone since the survey.
        if group as usize >= self.tallies.len() {
            return None;
        }
        let members = self.groups.get(group);
        let subscriber = self.subscribers[*members.slots().first()? as usize].as_ref()?;
        let (spec, registration) = subscriber.registrations.iter_with_text().find(|(_, registration)| {
            let looked_at = registration.memberships().len().min(*memberships);
            *memberships -= looked_at;
            registration.memberships()[..looked_at].iter().any(|&membership| self.groups.group_of(membership) == group)
        })?;
        Some(Usage {
            spec: spec.into(),
            tally: tally_of(&mut self.tallies, group, members),
            shared: members.slots().len(),
            combinations: registration.memberships().len(),
            filter_bytes: registration.bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Draft, Event};
    use crate::index::{Class, Limits};

    fn event(key: &str, object: &str) -> Event {
        let mut draft = Draft::new("machines", "update", key);
        draft.object = object;
        draft.seal(jiff::Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn hits_deliveries_and_work_are_those_of_the_registration() {
        let mut index: Index<u32> = Index::new(Limits::default());
        let slots: Vec<Slot> = (0..3).map(|id| index.subscribe(id, Class(0))).collect();
        let filtered = "machines.update.*.Stage=Eq(local)";
        for &slot in &slots {
            index.register(slot, "machines.*.a,b").unwrap();
        }
        index.register(slots[0], filtered).unwrap();
        index.register(slots[1], "machines.*.c").unwrap();
        index.begin_second(7);
        for (key, stage) in [("a", "local"), ("b", "none"), ("z", "none")] {
            index.matches(&event(key, &format!("{{\"Stage\":\"{stage}\"}}")), |_| true, |_| {});
        }
        let [with_filter, list] = &index.usage(slots[0], 100)[..] else { panic!("two registrations") };
        let of = |usage: &Usage| (usage.spec.to_string(), usage.tally.hits, usage.tally.deliveries, usage.tally.last());
        // Sorted by text: `*` comes before `u`.
        assert_eq!(of(with_filter), ("machines.*.a,b".to_owned(), 2, 6, Some(7)));
        assert_eq!(of(list), (filtered.to_owned(), 1, 1, Some(7)));
        assert_eq!((with_filter.shared, with_filter.combinations, with_filter.tally.work), (3, 2, 0));
        assert!(list.filter_bytes > 0 && list.tally.work > 0, "{list:?}");
        assert_eq!(of(&index.usage(slots[1], 100)[1]), ("machines.*.c".to_owned(), 0, 0, None));
        let mut busiest = Busiest::new(Measure::Work, 2);
        index.survey(0..index.group_numbers(), &mut busiest);
        let found = index.busiest(busiest, 100);
        assert_eq!((found.len(), &*found[0].spec), (2, filtered));
        slots.into_iter().for_each(|slot| index.unsubscribe(slot));
        assert_eq!(index.group_numbers(), 0, "nothing is kept");
    }

    #[test]
    fn counts_are_exact_however_many_hits_come_between_two_looks() {
        let mut index = Index::<u32>::new(Limits::default());
        let slots: Vec<Slot> = (0..2).map(|id| index.subscribe(id, Class(0))).collect();
        let counts = |index: &mut Index<u32>, slot| {
            let usage = index.usage(slot, 10).remove(0);
            (usage.tally.hits, usage.tally.deliveries, usage.tally.last())
        };
        for &slot in &slots {
            index.register(slot, "machines.*.a").unwrap();
        }
        let mut hits = 0;
        for (second, more) in [1, 127, 128, 129, 1000].into_iter().enumerate() {
            let second = u32::try_from(second).unwrap();
            index.begin_second(second);
            (0..more).for_each(|_| index.matches(&event("a", "{}"), |_| true, |_| {}));
            hits += more;
            assert_eq!(counts(&mut index, slots[0]), (hits, 2 * hits, Some(second)));
        }
        // Hits that nobody has looked at belong to their second, and not to whoever gets the group's number next.
        index.matches(&event("a", "{}"), |_| true, |_| {});
        index.begin_second(100);
        assert_eq!(counts(&mut index, slots[1]), (hits + 1, 2 * hits + 2, Some(4)));
        index.register(slots[0], "machines.*.b").unwrap();
        index.matches(&event("b", "{}"), |_| true, |_| {});
        index.deregister(slots[0], "machines.*.b").unwrap();
        index.register(slots[0], "machines.*.A").unwrap();
        assert_eq!(counts(&mut index, slots[0]), (0, 0, None), "machines.*.A is first");
    }

    #[test]
    fn the_busiest_of_many_are_found_in_whatever_order_they_come() {
        let mut index: Index<u32> = Index::new(Limits::default());
        let slot = index.subscribe(1, Class(0));
        for n in 0..50 {
            index.register(slot, &format!("machines.*.k{n}")).unwrap();
            (0..n * 7 % 50).for_each(|_| index.matches(&event(&format!("k{n}"), "{}"), |_| true, |_| {}));
        }
        for most in [0, 3, 50, 60] {
            let mut busiest = Busiest::new(Measure::Hits, most);
            (0..10).for_each(|part| index.survey(5 * part..5 * part + 5, &mut busiest));
            let hits: Vec<u64> = index.busiest(busiest, 100_000).iter().map(|usage| usage.tally.hits).collect();
            let expected: Vec<u64> = (0..50).rev().take(most).collect();
            assert_eq!(hits, expected);
        }
    }

    #[test]
    fn those_that_are_kept_as_their_lists_are_found_too() {
        let mut index: Index<u32> = Index::new(Limits { expanded: 2, ..Limits::default() });
        let slot = index.subscribe(1, Class(0));
        let wide = "machines.*.a,b,c";
        for spec in ["machines.*.a", wide] {
            index.register(slot, spec).unwrap();
        }
        for key in ["a", "b", "c"] {
            index.matches(&event(key, "{}"), |_| true, |_| {});
        }
        let mut busiest = Busiest::new(Measure::Hits, 1);
        index.survey(0..index.group_numbers(), &mut busiest);
        let found = index.busiest(busiest, 100);
        assert_eq!((&*found[0].spec, found[0].tally.hits, found[0].combinations), (wide, 3, 3));
        index.unsubscribe(slot);
        assert_eq!(index.group_numbers(), 0, "nothing is kept");
    }

    #[test]
    fn groups_that_have_all_gone_since_they_were_looked_at_are_left_out() {
        let mut index = Index::<u32>::new(Limits::default());
        let slot = index.subscribe(1, Class(0));
        index.register(slot, "a.b.c").unwrap();
        let mut busiest = Busiest::new(Measure::Hits, 2);
        index.survey(0..index.group_numbers(), &mut busiest);
        index.unsubscribe(slot);
        assert!(index.busiest(busiest, 100).is_empty());
    }
}
