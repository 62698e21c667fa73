//! Adds subscribers to groups and removes them; links groups into the trie and unlinks them.
//!
//! Contract: leaving returns everything that joining took: symbols, groups, topics and the use of the filter. Joining
//! is bounded by [`Limits::expanded`](super::Limits::expanded): a leaf may file a filter under each of its keys, so a
//! list of topics with a list of values costs their product. Beyond the bound the filter is in every leaf, but not
//! filed: it is evaluated for every event that reaches the leaf and charged like any other.

use smallvec::SmallVec;

use super::filter::{Filter, FilterId};
use super::groups::{GroupKey, Membership, Removed};
use super::leaf::Placement;
use super::places::Places;
use super::registrations::Registration;
use super::trie::Topic;
use super::wide::Wide;
use super::{Class, Index, MACHINE_JOBS, Slot, Spec, WORK_ORDER_JOBS, small};

/// Keys of a filter that cost about as much in a leaf as one entry in the trie, in time and in memory.
const KEYS_PER_ENTRY: usize = 4;

/// Bytes of a filter that is filed in one leaf, which take about as long to file or remove as one entry.
pub(super) const BYTES_PER_ENTRY: usize = 1024;

impl<S: Copy> Index<S> {
    /// Adds a subscriber's registration to the index.
    pub(super) fn join(&mut self, slot: Slot, class: Class, spec: &Spec, filter_bytes: usize) -> Registration {
        let filter = spec.filter.as_ref().map(|filter: &Filter| self.engine.intern(filter));
        let (combinations, limits) = (spec.combinations(), self.limits);
        let before = self.subscriber(slot).expanded as usize;
        if combinations > limits.expanded || before + combinations > limits.expanded_in_all {
            let number = self.wides.add(Wide::new(slot.0, spec, filter));
            return Registration::wide(number, filter.map(|filter| (filter, filter_bytes)));
        }
        let load = self.load(combinations, filter);
        let is_filed = load <= limits.expanded && before + load <= limits.expanded_in_all / 2;
        let filter =
            filter.map(|filter| if is_filed || load == combinations { filter } else { self.engine.unfiled(filter) });
        self.subscriber(slot).expanded = small(before + if is_filed { load } else { combinations });
        let places = self.expand(slot, class, spec, filter);
        Registration::new(places, filter.map(|filter| (filter, filter_bytes)))
    }

    /// Returns how many entries of the trie a registration counts for: its combinations, and for every few keys of its
    /// filter as many again, because each leaf may file the filter by its keys. Filing it in the first leaf is not
    /// counted: the size of the filter pays for that, and a long list of values would otherwise never be filed.
    fn load(&self, combinations: usize, filter: Option<FilterId>) -> usize {
        let keys = if combinations > 1 { filter.map_or(0, |filter| self.engine.filing(filter)) } else { 0 };
        combinations.saturating_mul(1 + keys / KEYS_PER_ENTRY)
    }

    /// Returns how many entries a registration counts for among those of its subscriber.
    pub(super) fn entries(&self, registration: &Registration) -> usize {
        self.load(registration.memberships().len(), registration.filter())
    }

    /// Returns the cost of moving or removing a registration, in entries.
    pub(super) fn cost(&self, registration: &Registration) -> usize {
        self.entries(registration).max(registration.bytes() / BYTES_PER_ENTRY).max(1)
    }

    fn expand(&mut self, slot: Slot, class: Class, spec: &Spec, filter: Option<FilterId>) -> Places {
        let mut memberships = SmallVec::<[Membership; 2]>::with_capacity(spec.combinations());
        for kind in spec.kind.iter() {
            for action in spec.action.iter() {
                for key in spec.key.iter() {
                    for topic in self.topics(kind, action, key).into_iter().flatten() {
                        memberships.push(self.insert(slot, GroupKey { topic, filter, class }));
                    }
                }
            }
        }
        memberships.into_iter().collect()
    }

    /// Returns how many combinations a registration counts for.
    pub(super) fn combinations(&self, registration: &Registration) -> usize {
        registration.number().map_or(registration.memberships().len(), |wide| self.wides.get(wide).combinations())
    }

    /// Returns the topics of a combination. A special type has two: the owner of jobs, and its own name like any other
    /// type.
    fn topics(&mut self, kind: Option<&str>, action: Option<&str>, key: Option<&str>) -> [Option<Topic>; 2] {
        let mut acquire = |text: Option<&str>| text.map(|text| self.symbols.acquire(text));
        let owners = match kind {
            Some(MACHINE_JOBS) => Some(Topic::MachineJobs(acquire(action), acquire(key))),
            Some(WORK_ORDER_JOBS) => Some(Topic::WorkOrderJobs(acquire(action), acquire(key))),
            _ => None,
        };
        [owners, Some(Topic::Event(acquire(kind), acquire(action), acquire(key)))]
    }

    fn insert(&mut self, slot: Slot, key: GroupKey) -> Membership {
        let inserted = self.groups.insert(key, slot.0);
        if inserted.is_new {
            self.tallies.reset(inserted.group);
        } else {
            self.tallies.fold(inserted.group, self.groups.get(inserted.group).slots().len() - 1);
            // The group already holds references to the symbols.
            self.release(key.topic);
        }
        match key.filter {
            None => self.place_group(key.topic, inserted.group),
            Some(filter) if inserted.is_new => {
                self.trie.leaf(&self.symbols, key.topic).insert_filtered(
                    &self.engine,
                    key.class,
                    filter,
                    inserted.group,
                );
            }
            Some(_) => {}
        }
        inserted.membership
    }

    /// Places a group without a filter into its leaf, according to its current members.
    fn place_group(&mut self, topic: Topic, group: u32) {
        let placement = self.groups.placement(group);
        if matches!(placement, Placement::Numbered | Placement::Listed(_)) {
            return;
        }
        let leaf = self.trie.leaf(&self.symbols, topic);
        leaf.dismiss(placement);
        let members = self.groups.get(group);
        let placement = leaf.admit(group, members.class(), members.slots());
        self.groups.set_placement(group, placement);
    }

    pub(super) fn leave(&mut self, registration: &Registration) {
        self.leave_groups(registration.memberships());
        if let Some(wide) = registration.number() {
            self.wides.remove(wide);
        }
        if let Some(filter) = registration.filter() {
            self.engine.release(filter);
        }
    }

    pub(super) fn leave_groups(&mut self, memberships: &[Membership]) {
        for &membership in memberships {
            let removed = self.groups.remove(membership);
            if removed.is_last {
                self.drop_group(&removed);
                continue;
            }
            self.tallies.fold(removed.group, self.groups.get(removed.group).slots().len() + 1);
            if let GroupKey { filter: None, topic, .. } = removed.key {
                self.place_group(topic, removed.group);
            }
        }
        self.groups.shrink();
        if self.groups.len() == 0 {
            self.tallies.clear();
        }
    }

    fn drop_group(&mut self, &Removed { group, key, placement, .. }: &Removed) {
        let mut moved = None;
        self.trie.prune(&self.symbols, key.topic, |leaf| match key.filter {
            Some(filter) => leaf.remove_filtered(key.class, filter, group),
            None => moved = leaf.dismiss(placement),
        });
        if let Some(moved) = moved {
            self.groups.set_placement(moved, placement);
        }
        self.release(key.topic);
    }

    fn release(&mut self, topic: Topic) {
        topic.symbols().for_each(|symbol| self.symbols.release(symbol));
    }

    /// Joins the group with the same topic and filter in another class.
    pub(super) fn rejoin(&mut self, slot: Slot, membership: Membership, class: Class) -> Membership {
        let key = self.groups.key(membership);
        key.topic.symbols().for_each(|symbol| self.symbols.retain(symbol));
        self.insert(slot, GroupKey { class, ..key })
    }
}
