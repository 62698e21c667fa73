//! The index: which subscribers want an event. Registrations are compiled into a trie.
//!
//! A registration expands into the (type, action, key) combinations of its lists. Each is a topic in the three-level
//! trie (or in one of the two job indexes). Each topic has *groups*: the subscribers with the same filter (or none)
//! and the same class. The class stands for what its subscribers may see. It is opaque here: the caller decides about
//! a class at most once per event, so authorization costs one decision per class and not one per subscriber.
//!
//! **Rights come before filters.** Filters run only on trie hits, each at most once per event ([`filter`]), and only
//! for classes that may see the event: filters of other classes are neither evaluated nor looked up by hash
//! (`by_class.rs`). So the content of a hidden event does not influence the work done for subscribers that may not see
//! it, and they learn nothing from answers, from timing or from cached results: results are remembered for one event
//! only, and a class that may not see the event evaluates nothing. One trace remains: the names in their filters are
//! recorded if an event that others filter contains them, at about ten nanoseconds per name (`filter/table.rs`); this
//! reveals no value.
//!
//! **Filters have a budget.** Their work is counted and charged to subscribers (`accounts.rs`), per event and per
//! second. [`Index::take_overdrawn`] returns the subscribers that exceeded a limit; the caller must remove them.
//!
//! Contract: pure and single-threaded, no I/O, no clock. Generic over a small `Copy` subscriber id; knows neither
//! sockets nor claims. One call of [`Index::matches`] reports each subscriber at most once, in no particular order.
//! Deregistering returns everything that registering took: the tables of a topic, a level of the trie, a group, a
//! subscriber or an owner get smaller with what they hold (`filter/shrink.rs`); those that exist only once keep the
//! room for the most that they have held, which the limits bound. Registering costs O(combinations) up to
//! [`Limits::expanded`] and O(length) beyond, deregistering amortized the same, and matching O(groups hit + members +
//! registrations that are not expanded, `wide.rs`); the number of other registrations does not matter.
//!
//! Why a trie of hashed levels and not one hash table per wildcard shape: both probe at most eight places, but the trie
//! skips everything below a type or action without registrations, and the design requires it. `docs/adr/` has the
//! figures.
//!
//! ```
//! use hydrant::event::Draft;
//! use hydrant::index::{Class, Index, Limits};
//!
//! let mut index = Index::new(Limits::default());
//! let (operators, tenant) = (Class(0), Class(1));
//! for (name, class) in [("portal", operators), ("script", tenant)] {
//!     let slot = index.subscribe(name, class);
//!     index.register(slot, "machines,jobs.create.*")?;
//! }
//!
//! let draft = Draft::read(r#"{"Type":"machines","Action":"create","Key":"42"}"#)?;
//! let event = draft.seal(jiff::Timestamp::UNIX_EPOCH);
//! let mut receivers = Vec::new();
//! // The caller decides once for each class. Here the tenant may not see this machine.
//! index.matches(&event, |class| class == operators, |name| receivers.push(name));
//! assert_eq!(receivers, ["portal"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod accounts;
mod advice;
mod by_class;
mod checking;
mod error;
mod excerpt;
pub mod filter;
mod groups;
mod joining;
mod kinds;
mod leaf;
mod list;
mod matching;
mod moving;
mod names;
mod node;
mod owners;
mod places;
mod registering;
mod registrations;
mod sizes;
mod spec;
mod symbols;
mod tallies;
mod trie;
mod usage;
mod watching;
mod wide;

pub use accounts::{Overdrawn, Work};
pub use advice::{Seen, warnings};
pub use checking::Checking;
pub use error::IndexError;
pub use excerpt::excerpt;
pub use list::List;
pub use moving::Regrouped;
pub use spec::{Field, MACHINE_JOBS, Spec, SpecError, WORK_ORDER_JOBS};
pub use tallies::Tally;
pub use usage::{Busiest, Measure, Usage};

use accounts::{Accounts, NOBODY};
use filter::{Counters, Engine};
use groups::Groups;
use joining::BYTES_PER_ENTRY;
use owners::Owners;
use registrations::Registrations;
use symbols::Symbols;
use tallies::Tallies;
use trie::Trie;
use wide::Wides;

/// A class of subscribers that see the same events; its meaning is up to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class(pub u32);

/// Limits on the registrations of one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Registrations per subscriber.
    pub registrations: usize,
    /// Combinations per registration.
    pub combinations: usize,
    /// Combinations per subscriber, over all its registrations.
    pub combinations_in_all: usize,
    /// Combinations up to which a registration is expanded; wider ones are stored as lists. If the filter has values by
    /// which it can be filed, each four of them count as much as the combinations; beyond that it is not filed.
    pub expanded: usize,
    /// Combinations up to which the registrations of one subscriber together are expanded; the values of their filters
    /// may take half of it.
    pub expanded_in_all: usize,
    /// Size limits of a filter.
    pub filter: filter::Limits,
    /// Bytes of all filters of a subscriber; see [`filter::Filter::bytes`].
    pub filter_bytes: usize,
    /// Bytes of all filters of all subscribers of an owner.
    pub owner_filter_bytes: usize,
    /// Bytes of the texts of all registrations of a subscriber.
    pub text_bytes: usize,
    /// Bytes of the texts of all registrations of all subscribers of an owner.
    pub owner_text_bytes: usize,
    /// Limits on the work of filters.
    pub work: Work,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            registrations: 4096,
            combinations: 65_536,
            combinations_in_all: 4 * 65_536,
            expanded: 1024,
            expanded_in_all: 8192,
            filter: filter::Limits::default(),
            filter_bytes: 64 << 20,
            owner_filter_bytes: 64 << 20,
            text_bytes: 64 << 20,
            owner_text_bytes: 64 << 20,
            work: Work::UNLIMITED,
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
    combinations: u32,
    /// The number of these combinations that are expanded in the trie, and their share of filed filters.
    expanded: u32,
    /// The maximum number of registrations.
    most: u32,
    owner: u32,
    /// Bytes of all its filters.
    filter_bytes: u32,
    /// Bytes of the texts of its registrations.
    text_bytes: u32,
    /// Whether registrations have yet to move to its class.
    is_moving: bool,
}

/// The part of a subscriber that matching accesses.
#[derive(Debug, Clone, Copy)]
struct Mark<S> {
    id: S,
    /// The last event that hit it.
    event: u32,
}

/// The size of an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Number of subscribers.
    pub subscribers: usize,
    /// Number of registrations of all subscribers.
    pub registrations: usize,
    /// Number of distinct (topic, filter, class) triples, plus wide registrations.
    pub groups: usize,
    /// Number of distinct strings.
    pub symbols: usize,
    /// Number of distinct expressions, lookups and names in filters.
    pub filter_parts: usize,
}

/// Finds the subscribers of an event. [`Index::register`] adds registrations, [`Index::matches`] matches events.
#[derive(Debug)]
pub struct Index<S> {
    limits: Limits,
    symbols: Symbols,
    trie: Trie,
    engine: Engine,
    groups: Groups,
    wides: Wides,
    tallies: Tallies,
    subscribers: Vec<Option<Subscriber>>,
    /// Apart from `subscribers`, because matching touches nothing else of a subscriber.
    marks: Vec<Mark<S>>,
    free: Vec<u32>,
    accounts: Accounts,
    owners: Owners,
    /// The type of events that may be about owners.
    own_kind: &'static str,
    /// The last event for which a class was decided, and the decision.
    decisions: Vec<(u32, bool)>,
    /// The number of the event being matched; wraps around after four billion.
    event: u32,
    registrations: usize,
}

impl<S: Copy> Index<S> {
    /// Creates an empty index.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            symbols: Symbols::default(),
            trie: Trie::default(),
            engine: Engine::new(),
            groups: Groups::default(),
            wides: Wides::default(),
            tallies: Tallies::default(),
            subscribers: Vec::new(),
            marks: Vec::new(),
            free: Vec::new(),
            accounts: Accounts::new(limits.work),
            owners: Owners::default(),
            own_kind: "",
            decisions: Vec::new(),
            event: 0,
            registrations: 0,
        }
    }

    /// Sets the type of the events that are passed to [`Index::matches_own`].
    #[must_use]
    pub fn with_own_kind(self, own_kind: &'static str) -> Self {
        Self { own_kind, ..self }
    }

    /// Uses one account for all subscribers: the limits on filter work apply to them together.
    #[must_use]
    pub fn with_common_account(self) -> Self {
        Self { accounts: Accounts::common(self.limits.work), ..self }
    }

    /// Adds a subscriber without registrations.
    pub fn subscribe(&mut self, id: S, class: Class) -> Slot {
        self.subscribe_for(id, class, None)
    }

    /// Adds a subscriber without registrations that belongs to an owner; some limits apply to all subscribers of an
    /// owner together.
    pub fn subscribe_for(&mut self, id: S, class: Class, owner: Option<&str>) -> Slot {
        let owner = owner.map_or(NOBODY, |name| self.owners.acquire(name));
        let most = small(self.limits.registrations);
        let subscriber = Some(Subscriber {
            class,
            registrations: Registrations::default(),
            combinations: 0,
            expanded: 0,
            most,
            owner,
            filter_bytes: 0,
            text_bytes: 0,
            is_moving: false,
        });
        let slot = if let Some(free) = self.free.pop() {
            self.subscribers[free as usize] = subscriber;
            self.marks[free as usize] = Mark { id, event: 0 };
            free
        } else {
            self.subscribers.push(subscriber);
            self.marks.push(Mark { id, event: 0 });
            u32::try_from(self.marks.len() - 1).expect("fewer than 4 billion subscribers")
        };
        if self.owners.is_first(owner) {
            self.accounts.open_owner(owner);
        }
        self.accounts.reset(slot, owner);
        Slot(slot)
    }

    /// Removes a subscriber with all its registrations; the slot is reused afterwards.
    pub fn unsubscribe(&mut self, slot: Slot) {
        let Some(subscriber) = self.subscribers[slot.0 as usize].take() else { return };
        for (_, registration) in subscriber.registrations {
            self.registrations -= 1;
            self.leave(&registration);
        }
        *self.owners.bytes(subscriber.owner) -= subscriber.filter_bytes as usize;
        *self.owners.text_bytes(subscriber.owner) -= subscriber.text_bytes as usize;
        self.owners.forget(subscriber.owner, slot.0);
        self.free.push(slot.0);
    }

    /// Sets the maximum number of registrations of a subscriber; `None` means that of [`Limits`]. Existing ones stay.
    pub fn allow(&mut self, slot: Slot, registrations: Option<usize>) {
        let most = registrations.unwrap_or(self.limits.registrations);
        self.subscriber(slot).most = small(most);
    }

    fn subscriber(&mut self, slot: Slot) -> &mut Subscriber {
        self.subscribers[slot.0 as usize].as_mut().expect("a slot is used only between subscribe and unsubscribe")
    }

    /// Returns the number of registrations of a subscriber.
    pub fn registrations(&self, slot: Slot) -> usize {
        self.subscribers[slot.0 as usize].as_ref().map_or(0, |subscriber| subscriber.registrations.len())
    }

    /// Returns whether a subscriber has the registration with this text.
    pub fn has(&self, slot: Slot, text: &str) -> bool {
        let subscriber = self.subscribers[slot.0 as usize].as_ref();
        subscriber.is_some_and(|subscriber| subscriber.registrations.contains(text))
    }

    /// Returns the cost of moving or removing a subscriber: the number of its registrations, or of its entries in the
    /// trie if there are more, or what its filters amount to in leaves.
    pub fn weight(&self, slot: Slot) -> usize {
        let Some(subscriber) = &self.subscribers[slot.0 as usize] else { return 0 };
        let Subscriber { expanded, filter_bytes, .. } = *subscriber;
        subscriber.registrations.len().max(expanded as usize).max(filter_bytes as usize / BYTES_PER_ENTRY)
    }

    /// Pauses or resumes a subscriber from the next event on. While paused, no predicate is evaluated for it; it may
    /// still be hit. Its filters cost it a few units each for being passed over, and the lookup of a field for which
    /// nobody else pays.
    pub fn pause(&mut self, slot: Slot, paused: bool) {
        self.accounts.pause(slot.0, paused);
    }

    /// Begins this second, for the limits on filter work per second.
    pub fn begin_second(&mut self, second: u32) {
        self.accounts.begin_second(second);
        self.tallies.begin_second(second);
    }

    /// Returns a subscriber that exceeded a limit on filter work, each once per event. Until it is removed it is still
    /// hit through its registrations without filters.
    pub fn take_overdrawn(&mut self) -> Option<(S, Overdrawn)> {
        let (slot, overdrawn) = self.accounts.take_overdrawn()?;
        Some((self.marks[slot as usize].id, overdrawn))
    }

    /// Returns the cost of filters so far, and of the other work that is charged to subscribers.
    pub fn filter_counters(&self) -> Counters {
        let counters = self.engine.counters();
        Counters { work: counters.work + self.accounts.beside(), ..counters }
    }

    /// Returns the size of the index.
    pub fn stats(&self) -> Stats {
        Stats {
            subscribers: self.subscribers.len() - self.free.len(),
            registrations: self.registrations,
            groups: self.groups.len() + self.wides.len(),
            symbols: self.symbols.len(),
            filter_parts: self.engine.held(),
        }
    }

    /// Returns whether nothing is registered and nothing is left of earlier registrations.
    pub fn is_empty(&self) -> bool {
        self.trie.is_empty() && self.stats() == Stats { subscribers: self.stats().subscribers, ..Stats::default() }
    }
}

/// Converts a count that limits keep far below 4 billion.
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod filing_tests;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod tally_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wide_tests;
#[cfg(test)]
mod work_tests;
