//! Which subscribers want this event: registrations compiled into a trie.
//!
//! A registration is expanded into the (type, action, key) combinations of its lists, each of them a place in the three-level
//! trie (or in one of the two job indexes). At a place hang *groups*: the subscribers with one filter (or none) and of one class.
//! Filters run only where the trie has led to, each at most once an event ([`filter`]). The class stands for what its subscribers
//! may see; it is opaque here, and the caller's verdict on it is asked for at most once an event, so that authorization costs one
//! verdict per class and not one per subscriber.
//!
//! Contract: pure and single-threaded, no I/O, no clock. Generic over a small `Copy` subscriber id; knows no socket and no claim.
//! One [`Index::matches`] calls back at most once for each subscriber, in no particular order. Everything a registration cost is
//! given back by its deregistration. Registering costs O(combinations), deregistering the same, matching O(groups hit + members);
//! the number of registrations does not matter to it.
//!
//! Why a trie of hashed levels and not one hash table per wildcard shape: both probe at most eight places; the trie skips all
//! places below a type or action that nobody named, and is what the design asks for. `docs/adr/` has the figures.

mod error;
pub mod filter;
mod groups;
mod leaf;
mod matching;
mod node;
mod registrations;
mod spec;
mod symbols;
mod trie;

use smallvec::SmallVec;

pub use error::IndexError;
pub use spec::{Field, MACHINE_JOBS, Spec, SpecError, WORK_ORDER_JOBS};

use error::check_size;
use filter::{Counters, Engine, Filter};
use groups::{GroupKey, Groups, Membership, Removed};
use leaf::Held;
use registrations::{Registration, Registrations};
use symbols::Symbols;
use trie::{Place, Trie};

/// Subscribers of one class see the same events; what that means is the caller's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class(pub u32);

/// How much one subscriber may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Registrations a subscriber.
    pub registrations: usize,
    /// Combinations a registration.
    pub combinations: usize,
    /// Combinations a subscriber, over all its registrations.
    pub combinations_in_all: usize,
    /// How large a filter may be.
    pub filter: filter::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            registrations: 4096,
            combinations: 65_536,
            combinations_in_all: 4 * 65_536,
            filter: filter::Limits::default(),
        }
    }
}

/// A subscriber's handle in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(u32);

#[derive(Debug)]
struct Subscriber {
    class: Class,
    registrations: Registrations,
    combinations: usize,
    most: usize,
}

/// A subscriber as matching sees it.
#[derive(Debug, Clone, Copy)]
struct Mark<S> {
    id: S,
    /// The event it was last hit by.
    event: u32,
}

/// How large the index is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Subscribers.
    pub subscribers: usize,
    /// Registrations of all subscribers.
    pub registrations: usize,
    /// Distinct (place, filter, class) triples.
    pub groups: usize,
    /// Distinct strings.
    pub symbols: usize,
    /// Distinct expressions, lookups and names in filters.
    pub filter_parts: usize,
}

/// The index. See the module's text.
#[derive(Debug)]
pub struct Index<S> {
    limits: Limits,
    symbols: Symbols,
    trie: Trie,
    engine: Engine,
    groups: Groups,
    subscribers: Vec<Option<Subscriber>>,
    /// Beside `subscribers`, because matching touches nothing else of a subscriber.
    marks: Vec<Mark<S>>,
    free: Vec<u32>,
    /// The event a class was last judged for, and the verdict.
    verdicts: Vec<(u32, bool)>,
    /// The number of the event that is being matched; begins anew after four billion.
    event: u32,
    registrations: usize,
}

impl<S: Copy> Index<S> {
    /// An empty index.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            symbols: Symbols::default(),
            trie: Trie::default(),
            engine: Engine::new(),
            groups: Groups::default(),
            subscribers: Vec::new(),
            marks: Vec::new(),
            free: Vec::new(),
            verdicts: Vec::new(),
            event: 0,
            registrations: 0,
        }
    }

    /// Adds a subscriber without registrations.
    pub fn subscribe(&mut self, id: S, class: Class) -> Slot {
        let most = self.limits.registrations;
        let subscriber = Some(Subscriber { class, registrations: Registrations::default(), combinations: 0, most });
        if let Some(free) = self.free.pop() {
            self.subscribers[free as usize] = subscriber;
            self.marks[free as usize] = Mark { id, event: 0 };
            return Slot(free);
        }
        self.subscribers.push(subscriber);
        self.marks.push(Mark { id, event: 0 });
        Slot(u32::try_from(self.marks.len() - 1).expect("fewer than 4 billion subscribers"))
    }

    /// Takes a subscriber out with all its registrations; the slot is used again afterwards.
    pub fn unsubscribe(&mut self, slot: Slot) {
        let Some(subscriber) = self.subscribers[slot.0 as usize].take() else { return };
        for (_, registration) in subscriber.registrations {
            self.registrations -= 1;
            self.leave(&registration);
        }
        self.free.push(slot.0);
    }

    /// Puts a subscriber into another class; its registrations stay.
    pub fn reclass(&mut self, slot: Slot, class: Class) {
        let Some(subscriber) = &mut self.subscribers[slot.0 as usize] else { return };
        if subscriber.class == class {
            return;
        }
        subscriber.class = class;
        let texts = std::mem::take(&mut subscriber.registrations);
        for (text, registration) in texts {
            let spec = Spec::parse(&text, &self.limits.filter).expect("it was read when it was registered");
            // Joined before it leaves, so that what only it uses is not freed and made again.
            let joined = self.join(slot, class, &spec);
            self.leave(&registration);
            self.subscriber(slot).registrations.insert(text, joined);
        }
    }

    /// Registers `text` for a subscriber. Returns whether it is new: the same text again changes nothing.
    ///
    /// # Errors
    /// [`IndexError`]; nothing has changed then.
    pub fn register(&mut self, slot: Slot, text: &str) -> Result<bool, IndexError> {
        let limits = self.limits;
        let subscriber = self.subscriber(slot);
        if subscriber.registrations.contains(text) {
            return Ok(false);
        }
        if subscriber.registrations.len() >= subscriber.most {
            return Err(IndexError::TooManyRegistrations { limit: subscriber.most });
        }
        let spec = Spec::parse(text, &limits.filter)?;
        check_size(spec.combinations(), subscriber.combinations, &limits)?;
        let class = subscriber.class;
        subscriber.combinations += spec.combinations();
        let registration = self.join(slot, class, &spec);
        self.subscriber(slot).registrations.insert(text.into(), registration);
        self.registrations += 1;
        Ok(true)
    }

    /// Takes the registration with exactly this text back.
    ///
    /// # Errors
    /// [`IndexError::NotRegistered`], or [`IndexError::Spec`] if it has fewer than three parts. The text is looked up and its filter
    /// is not read, so what is not there costs no more than that.
    pub fn deregister(&mut self, slot: Slot, text: &str) -> Result<(), IndexError> {
        let limits = self.limits;
        let subscriber = self.subscriber(slot);
        let Some(registration) = subscriber.registrations.remove(text) else {
            if text.matches('.').take(2).count() < 2 {
                Spec::parse(text, &limits.filter)?;
            }
            return Err(IndexError::NotRegistered { spec: text.chars().take(128).collect() });
        };
        subscriber.combinations -= registration.memberships.len();
        self.registrations -= 1;
        self.leave(&registration);
        Ok(())
    }

    /// Lets a subscriber have so many registrations; nothing is what [`Limits`] say. Those that it has already stay.
    pub fn allow(&mut self, slot: Slot, registrations: Option<usize>) {
        let most = registrations.unwrap_or(self.limits.registrations);
        self.subscriber(slot).most = most;
    }

    fn subscriber(&mut self, slot: Slot) -> &mut Subscriber {
        self.subscribers[slot.0 as usize].as_mut().expect("a slot is used only between subscribe and unsubscribe")
    }

    /// How many registrations a subscriber has.
    pub fn registrations(&self, slot: Slot) -> usize {
        self.subscribers[slot.0 as usize].as_ref().map_or(0, |subscriber| subscriber.registrations.len())
    }

    fn join(&mut self, slot: Slot, class: Class, spec: &Spec) -> Registration {
        let filter = spec.filter.as_ref().map(|filter: &Filter| self.engine.intern(filter));
        let mut memberships = SmallVec::with_capacity(spec.combinations());
        for kind in spec.kind.iter() {
            for action in spec.action.iter() {
                for key in spec.key.iter() {
                    let place = self.place(kind, action, key);
                    memberships.push(self.insert(slot, GroupKey { place, filter, class }));
                }
            }
        }
        Registration { memberships, filter }
    }

    fn place(&mut self, kind: Option<&str>, action: Option<&str>, key: Option<&str>) -> Place {
        let mut acquire = |text: Option<&str>| text.map(|text| self.symbols.acquire(text));
        match kind {
            Some(MACHINE_JOBS) => Place::MachineJobs(acquire(action), acquire(key)),
            Some(WORK_ORDER_JOBS) => Place::WorkOrderJobs(acquire(action), acquire(key)),
            _ => Place::Event(acquire(kind), acquire(action), acquire(key)),
        }
    }

    fn insert(&mut self, slot: Slot, key: GroupKey) -> Membership {
        let inserted = self.groups.insert(key, slot.0);
        if !inserted.is_new {
            // The group has its references to the symbols already.
            self.release(key.place);
        }
        match key.filter {
            None => self.hold(key.place, inserted.group),
            Some(filter) if inserted.is_new => {
                self.trie.leaf(&self.symbols, key.place).insert_filtered(&self.engine, filter, inserted.group);
            }
            Some(_) => {}
        }
        inserted.membership
    }

    /// Puts a group without a filter into its leaf, with the members that it has now.
    fn hold(&mut self, place: Place, group: u32) {
        let held = self.groups.held(group);
        if matches!(held, Held::Numbered | Held::Listed(_)) {
            return;
        }
        let leaf = self.trie.leaf(&self.symbols, place);
        leaf.dismiss(held);
        let (class, members) = self.groups.get(group);
        let held = leaf.admit(group, class, members);
        self.groups.set_held(group, held);
    }

    fn leave(&mut self, registration: &Registration) {
        for &membership in &registration.memberships {
            let removed = self.groups.remove(membership);
            match removed {
                Removed { is_last: true, .. } => self.drop_group(&removed),
                Removed { key: GroupKey { filter: None, place, .. }, .. } => self.hold(place, removed.group),
                Removed { .. } => {}
            }
        }
        self.groups.shrink();
        if let Some(filter) = registration.filter {
            self.engine.release(filter);
        }
    }

    fn drop_group(&mut self, &Removed { group, key, held, .. }: &Removed) {
        let mut moved = None;
        self.trie.prune(&self.symbols, key.place, |leaf| match key.filter {
            Some(filter) => leaf.remove_filtered(filter, group),
            None => moved = leaf.dismiss(held),
        });
        if let Some(moved) = moved {
            self.groups.set_held(moved, held);
        }
        self.release(key.place);
    }

    fn release(&mut self, place: Place) {
        place.symbols().for_each(|symbol| self.symbols.release(symbol));
    }

    /// What filters have cost so far.
    pub fn filter_counters(&self) -> Counters {
        self.engine.counters()
    }

    /// How large the index is.
    pub fn stats(&self) -> Stats {
        Stats {
            subscribers: self.subscribers.len() - self.free.len(),
            registrations: self.registrations,
            groups: self.groups.len(),
            symbols: self.symbols.len(),
            filter_parts: self.engine.held(),
        }
    }

    /// Whether nothing at all is registered and nothing is kept of earlier registrations.
    pub fn is_empty(&self) -> bool {
        self.trie.is_empty() && self.stats() == Stats { subscribers: self.stats().subscribers, ..Stats::default() }
    }
}

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
