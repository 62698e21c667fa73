//! Which registrations of a connection match a retained event, and how far each of them has come.
//!
//! Every text that is or was registered has one entry, with a filter that was compiled once. Changes to a registration
//! only change numbers in its entry; nothing is parsed or moved.
//!
//! Contract: pure. The cost of matching is counted ([`Registered::take_cost`]) and bounded per event for all entries
//! together ([`Registered::is_overdrawn`]). Entries of deregistered texts have limits of their own
//! ([`Registered::has_too_many_marks`]).

use hashbrown::HashMap;

use super::{ANYBODY, FILTERED_MARKS, MARKED_COMBINATIONS, MARKS};
use crate::event::Event;
use crate::index::filter::Counters;
use crate::index::{Index, Limits, Slot, Spec, Work};

/// Units of work charged for each entry that an event matches.
const HIT: u64 = 8;

/// Registrations with up to this many combinations are expanded in this index.
const EXPANDED: usize = 16;

#[derive(Debug)]
struct Entry {
    text: Box<str>,
    slot: Slot,
    combinations: usize,
    has_filter: bool,
    /// The pass that delivers it, or delivered it; `None` once deregistered.
    pass: Option<u64>,
    /// The connection has received its matches before this position.
    until: u64,
}

/// Totals of the deregistered entries that are remembered.
#[derive(Debug, Default, Clone, Copy)]
struct Marks {
    all: usize,
    filtered: usize,
    combinations: usize,
}

impl Marks {
    fn add(&mut self, entry: &Entry) {
        self.all += 1;
        self.filtered += usize::from(entry.has_filter);
        self.combinations += entry.combinations;
    }

    fn remove(&mut self, entry: &Entry) {
        self.all -= 1;
        self.filtered -= usize::from(entry.has_filter);
        self.combinations -= entry.combinations;
    }
}

/// Which registrations match an event.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// One of an earlier pass matches.
    pub(super) before: bool,
    /// One of the current pass matches.
    pub(super) now: bool,
    /// The connection has already received the event.
    pub(super) had: bool,
}

/// The registrations of a replaying connection with their progress, matched through an index of their own.
#[derive(Debug)]
pub(in crate::fanout) struct Registered {
    index: Index<u32>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_text: HashMap<Box<str>, u32>,
    marks: Marks,
    hits: u64,
    /// The cost of filters at the last call of [`Registered::take_cost`].
    cost: Counters,
}

impl Registered {
    /// Creates an empty set. `limits` are those of the shard's index, which has already accepted every registration
    /// added here; so only the limit on work per event applies, because a role may allow more than the settings do.
    pub(super) fn new(limits: Limits) -> Self {
        let Work { event, .. } = limits.work;
        let index = Index::new(Limits {
            registrations: usize::MAX,
            combinations_in_all: usize::MAX,
            expanded: EXPANDED,
            filter_bytes: usize::MAX,
            owner_filter_bytes: usize::MAX,
            text_bytes: usize::MAX,
            owner_text_bytes: usize::MAX,
            work: Work { event, ..Work::UNLIMITED },
            ..limits
        })
        .with_common_account();
        Self {
            index,
            entries: Vec::new(),
            free: Vec::new(),
            by_text: HashMap::new(),
            marks: Marks::default(),
            hits: 0,
            cost: Counters::default(),
        }
    }

    /// Adds a registration that is delivered by this pass.
    pub(super) fn register(&mut self, text: &str, spec: &Spec, pass: u64) {
        if let Some(&number) = self.by_text.get(text) {
            let entry = self.entries[number as usize].as_mut().expect("named by its text");
            self.marks.remove(entry);
            entry.pass = Some(pass);
            return;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("fewer than 4 billion registrations")
        });
        let slot = self.index.subscribe(number, ANYBODY);
        self.index.enter(slot, text, spec).expect("the shard's index took it, and this one takes no less");
        let (combinations, has_filter) = (spec.combinations(), spec.filter.is_some());
        let entry = Entry { text: text.into(), slot, combinations, has_filter, pass: Some(pass), until: 0 };
        self.entries[number as usize] = Some(entry);
        self.by_text.insert(text.into(), number);
    }

    /// Returns the pass of a registration.
    pub(super) fn pass(&self, text: &str) -> Option<u64> {
        let number = *self.by_text.get(text)?;
        self.entries[number as usize].as_ref()?.pass
    }

    /// Marks a registration as deregistered. If `until` is given, the connection has received its matches before that
    /// position.
    pub(super) fn deregister(&mut self, text: &str, until: Option<u64>) {
        let Some(&number) = self.by_text.get(text) else { return };
        let entry = self.entries[number as usize].as_mut().expect("named by its text");
        entry.pass = None;
        entry.until = entry.until.max(until.unwrap_or(0));
        let is_mark = entry.until > 0;
        self.marks.add(entry);
        if !is_mark {
            self.forget(number);
        }
    }

    /// Forgets a deregistered entry.
    fn forget(&mut self, number: u32) {
        let Some(entry) = self.entries[number as usize].take() else { return };
        self.marks.remove(&entry);
        self.index.unsubscribe(entry.slot);
        self.by_text.remove(&entry.text);
        self.free.push(number);
    }

    /// Returns whether more deregistered entries are remembered than allowed.
    pub(super) fn has_too_many_marks(&self) -> bool {
        let Marks { all, filtered, combinations } = self.marks;
        all > MARKS || filtered > FILTERED_MARKS || combinations > MARKED_COMBINATIONS
    }

    /// Forgets deregistered entries and marks the others as settled, because no earlier event is requested any more.
    pub(super) fn settle(&mut self) {
        for number in 0..u32::try_from(self.entries.len()).expect("fewer than 4 billion registrations") {
            match &mut self.entries[number as usize] {
                Some(Entry { pass: pass @ Some(_), until, .. }) => (*pass, *until) = (Some(0), 0),
                Some(_) => self.forget(number),
                None => {}
            }
        }
    }

    /// Returns which registrations match the event at this position, while `pass` is the current pass.
    pub(super) fn wanted(&mut self, position: u64, event: &Event, pass: u64) -> Wanted {
        let Self { index, entries, hits, .. } = self;
        let mut wanted = Wanted::default();
        index.matches(
            event,
            |_| true,
            |number| {
                let Some(entry) = &entries[number as usize] else { return };
                *hits += 1;
                wanted.had |= position < entry.until;
                wanted.before |= entry.pass.is_some_and(|own| own < pass);
                wanted.now |= entry.pass == Some(pass);
            },
        );
        wanted
    }

    /// Returns whether removing everything takes more than this many steps; see [`Registered::strip`].
    pub(in crate::fanout) fn is_heavier_than(&self, most: usize) -> bool {
        let mut weight = 0;
        self.entries.iter().flatten().any(|entry| {
            weight += self.weight(entry);
            weight > most
        })
    }

    fn weight(&self, entry: &Entry) -> usize {
        self.index.weight(entry.slot).max(1)
    }

    /// Removes entries at the end of the replay, until `most` steps are taken; each entry is removed as a whole. A step
    /// is an entry in the trie, or as much of a filter. Returns the number taken.
    pub(in crate::fanout) fn strip(&mut self, most: usize) -> usize {
        let mut gone = 0;
        while gone < most
            && let Some(entry) = self.entries.pop()
        {
            gone += entry.as_ref().map_or(1, |entry| self.weight(entry));
            if let Some(Entry { text, slot, .. }) = entry {
                self.index.unsubscribe(slot);
                self.by_text.remove(&text);
            }
        }
        gone
    }

    /// Returns whether there is no entry.
    pub(in crate::fanout) fn is_empty(&self) -> bool {
        self.by_text.is_empty()
    }

    /// Returns the cost of matching since the last call.
    pub(super) fn take_cost(&mut self) -> Counters {
        let now = self.index.filter_counters();
        let mut cost = now.since(std::mem::replace(&mut self.cost, now));
        cost.work += HIT * std::mem::take(&mut self.hits);
        cost
    }

    /// Returns whether the filters of an event have exceeded their work limit since the last call.
    pub(super) fn is_overdrawn(&mut self) -> bool {
        std::iter::from_fn(|| self.index.take_overdrawn()).count() > 0
    }
}
