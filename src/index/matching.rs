//! Finds the subscribers of an event: its strings as symbols, the leaves they lead to, and their members.
//!
//! Nothing here allocates. With a hundred thousand keys most time is spent waiting for memory, so every step is
//! arranged so that the next ones need not wait for it: the location of every probe depends only on the event's
//! strings.
//!
//! The decision about a class precedes its filters; the [documentation of the index](super) explains why.

use super::accounts::Accounts;
use super::by_class::ByClass;
use super::filter::{Engine, Evaluation, FilterId, Payers, View};
use super::groups::Groups;
use super::leaf::{Content, Leaf};
use super::owners::Watch;
use super::symbols::Symbol;
use super::tallies::Tallies;
use super::trie::Names;
use super::wide::{Wide, Wides};
use super::{Class, Index, Mark, Subscriber};
use crate::event::Event;

/// Units of work for checking what a subscriber has registered about its own owner.
const LOOK: u64 = 32;

/// Units of work for finding a subscriber again by another of its registrations.
const AGAIN: u64 = 4;

impl<S: Copy> Index<S> {
    /// Calls `hit` once for every subscriber that has registered for the event and whose class is `allowed` to see it.
    /// Calls `allowed` at most once per class, before any filter of that class.
    pub fn matches(&mut self, event: &Event, allowed: impl FnMut(Class) -> bool, hit: impl FnMut(S)) {
        self.matches_all(event, None, allowed, hit);
    }

    /// Like [`Index::matches`], for an event of the type of [`Index::with_own_kind`] about an owner: the owner's
    /// subscribers may see it even if their class may not.
    pub fn matches_own(&mut self, event: &Event, owner: &str, allowed: impl FnMut(Class) -> bool, hit: impl FnMut(S)) {
        self.matches_all(event, Some(owner), allowed, hit);
    }

    fn matches_all(
        &mut self,
        event: &Event,
        owner: Option<&str>,
        allowed: impl FnMut(Class) -> bool,
        hit: impl FnMut(S),
    ) {
        let names = self.names(event);
        self.next_event();
        let Self { trie, engine, groups, tallies, marks, decisions, accounts, subscribers, owners, wides, .. } = self;
        let mut hits = Hits { event: self.event, groups, tallies, marks, decisions, accounts, allowed, hit };
        let mut filters = Filters { engine: Some(engine), evaluation: None, event };
        trie.visit(&names, |leaf: &mut Leaf| {
            match leaf.inline_slot() {
                Content::Empty => {}
                Content::Whole { class, members, group } => hits.hit_members(group, class, members),
                Content::Numbered(group) => hits.hit_group(group),
            }
            leaf.listed().iter().for_each(|&group| hits.hit_group(group));
            if let Some(filtered) = leaf.filtered() {
                hits.hit_filtered(filtered, &mut filters);
            }
        });
        if !wides.is_empty() {
            hits.hit_all_wides(wides, subscribers, &mut filters);
        }
        if let Some(owner) = owner {
            hits.hit_watching(owners.watching(owner), subscribers, wides, names.action.symbol, &mut filters);
        }
    }

    /// Advances the event number. Numbers wrap around; then everything that remembers old numbers is cleared.
    fn next_event(&mut self) {
        self.event = self.event.wrapping_add(1);
        if self.event == 0 {
            self.event = 1;
            self.marks.iter_mut().for_each(|mark| mark.event = 0);
            self.decisions.clear();
        }
        self.accounts.begin_event(self.event);
    }

    fn names(&self, event: &Event) -> Names {
        let kind = event.kind();
        let owned = kind == "jobs" && self.trie.wants_owners();
        let name = |text: &str| self.symbols.name(text);
        let (machine, work_order) = if owned { (event.machine(), event.work_order()) } else { (None, None) };
        Names {
            kind: name(kind),
            action: name(event.action()),
            key: name(event.key()),
            machine: machine.map(name),
            work_order: work_order.map(name),
        }
    }
}

fn class_of(subscribers: &[Option<Subscriber>], slot: u32) -> Class {
    subscribers[slot as usize].as_ref().expect("registered").class
}

/// The filters evaluated for one event; begun only when the trie leads to a filter of a class that may see it.
struct Filters<'e> {
    engine: Option<&'e mut Engine>,
    evaluation: Option<Evaluation<'e>>,
    event: &'e Event,
}

impl<'e> Filters<'e> {
    fn begun(&mut self) -> &mut Evaluation<'e> {
        let Self { engine, evaluation, event } = self;
        evaluation.get_or_insert_with(|| engine.take().expect("begun once").begin(View::event(event)))
    }
}

/// Reports the subscribers of one event, each once.
struct Hits<'i, S, A, H> {
    event: u32,
    groups: &'i Groups,
    tallies: &'i mut Tallies,
    marks: &'i mut [Mark<S>],
    decisions: &'i mut Vec<(u32, bool)>,
    accounts: &'i mut Accounts,
    allowed: A,
    hit: H,
}

impl<S: Copy, A: FnMut(Class) -> bool, H: FnMut(S)> Hits<'_, S, A, H> {
    fn hit_group(&mut self, group: u32) {
        let members = self.groups.get(group);
        self.hit_members(group, members.class(), members.slots());
    }

    fn hit_members(&mut self, group: u32, class: Class, members: &[u32]) {
        if self.may_see(class) {
            self.mark(members);
            self.tallies.hit(group);
        }
    }

    fn mark(&mut self, members: &[u32]) {
        // A subscriber found again by other registrations of its own pays for that. Entries of one subscriber are
        // mostly adjacent.
        let mut again = (0, 0);
        for &member in members {
            let mark = &mut self.marks[member as usize];
            if mark.event != self.event {
                mark.event = self.event;
                (self.hit)(mark.id);
            } else if again.0 == member {
                again.1 += AGAIN;
            } else {
                self.charge(again);
                again = (member, AGAIN);
            }
        }
        self.charge(again);
    }

    #[inline]
    fn charge(&mut self, (member, units): (u32, u64)) {
        if units > 0 {
            self.accounts.charge(member, units);
        }
    }

    #[inline]
    fn may_see(&mut self, class: Class) -> bool {
        let at = class.0 as usize;
        if at >= self.decisions.len() {
            self.decisions.resize(at + 1, (0, false));
        }
        if self.decisions[at].0 != self.event {
            self.decisions[at] = (self.event, (self.allowed)(class));
        }
        self.decisions[at].1
    }

    /// Reports the subscribers whose filters match, of all classes that may see the event. A function of its own, as
    /// are the next two: most events reach none of them, and the code for those that do slows the others down.
    #[inline(never)]
    fn hit_filtered(&mut self, filtered: &mut ByClass, filters: &mut Filters<'_>) {
        for (class, leaf) in filtered.iter_mut() {
            if self.may_see(*class) {
                leaf.candidates(filters.begun(), &mut *self);
            }
        }
    }

    /// Reports the subscribers of wide registrations.
    #[inline(never)]
    fn hit_all_wides(&mut self, wides: &Wides, subscribers: &[Option<Subscriber>], filters: &mut Filters<'_>) {
        for (slot, numbers) in wides.by_slot() {
            if self.may_see(class_of(subscribers, slot)) {
                self.hit_wides(slot, numbers, wides, filters);
            }
        }
    }

    /// Reports the subscribers of the event's owner that may not see it otherwise.
    #[inline(never)]
    fn hit_watching<'o>(
        &mut self,
        watching: impl Iterator<Item = (u32, &'o Watch)>,
        subscribers: &[Option<Subscriber>],
        wides: &Wides,
        action: Option<Symbol>,
        filters: &mut Filters<'_>,
    ) {
        // Registrations of a moving subscriber may still be under a class that may not see the event.
        let is_moving = |slot: u32| subscribers[slot as usize].as_ref().is_some_and(|subscriber| subscriber.is_moving);
        for (slot, watch) in watching {
            let is_found = !is_moving(slot) && self.may_see(class_of(subscribers, slot));
            if !is_found && self.wants_own(slot, watch, wides, action, filters) {
                self.mark(&[slot]);
            }
        }
    }

    /// Returns whether a subscriber has registered for this event about its owner.
    fn wants_own(
        &mut self,
        slot: u32,
        watch: &Watch,
        wides: &Wides,
        action: Option<Symbol>,
        filters: &mut Filters<'_>,
    ) -> bool {
        self.accounts.charge(slot, LOOK)
            && (watch
                .wanted(action)
                .any(|wanted| wanted.plain > 0 || wanted.filters().any(|filter| self.is_true(slot, filter, filters)))
                || watch
                    .wide()
                    .iter()
                    .any(|&wide| self.accounts.open(slot).is_some() && self.wants_wide(wides.get(wide), filters)))
    }

    /// Checks the wide registrations of a subscriber that may see the event, as long as its budget lasts.
    fn hit_wides(&mut self, slot: u32, numbers: &[u32], wides: &Wides, filters: &mut Filters<'_>) {
        for &number in numbers {
            if self.accounts.open(slot).is_none() {
                return;
            }
            if self.wants_wide(wides.get(number), filters) {
                self.mark(&[slot]);
            }
        }
    }

    /// Returns whether a wide registration matches the event.
    fn wants_wide(&mut self, wide: &Wide, filters: &mut Filters<'_>) -> bool {
        let wants = self.accounts.charge(wide.slot, wide.price())
            && wide.is_reached_by(filters.event)
            && wide.filter.is_none_or(|filter| self.is_true(wide.slot, filter, filters));
        wide.count(wants, self.tallies);
        wants
    }

    fn is_true(&mut self, slot: u32, filter: FilterId, filters: &mut Filters<'_>) -> bool {
        let evaluation = filters.begun();
        self.pay(slot, evaluation, &mut |evaluation| evaluation.is_true(filter)).0 == Some(true)
    }

    /// Evaluates a predicate and charges a subscriber. Returns the result, `None` if its budget is exhausted, and the
    /// units charged.
    #[inline]
    fn pay<T>(
        &mut self,
        subscriber: u32,
        evaluation: &mut Evaluation<'_>,
        question: &mut impl FnMut(&mut Evaluation<'_>) -> Option<T>,
    ) -> (Option<T>, u32) {
        let Some(units) = self.accounts.open(subscriber) else { return (None, 0) };
        evaluation.allow(units);
        let answer = question(evaluation);
        let spent = self.accounts.close(subscriber, evaluation.left(), answer.is_some());
        (answer, spent)
    }
}

/// The members of a leaf's pairs are groups of a class that may see the event; one of the group's members pays.
impl<S: Copy, A: FnMut(Class) -> bool, H: FnMut(S)> Payers for &mut Hits<'_, S, A, H> {
    #[inline]
    fn ask<T>(
        &mut self,
        group: u32,
        evaluation: &mut Evaluation<'_>,
        mut question: impl FnMut(&mut Evaluation<'_>) -> Option<T>,
    ) -> Option<T> {
        let members = self.groups.get(group);
        members.slots().iter().find_map(|member| {
            let (answer, spent) = self.pay(*member, evaluation, &mut question);
            if let Some(collected) = members.spend(spent) {
                self.tallies.spend(group, collected);
            }
            answer
        })
    }

    #[cold]
    fn bill(&mut self, group: u32, units: u64) {
        let _billed = self.groups.get(group).slots().iter().any(|member| self.accounts.bill(*member, units));
    }

    #[inline]
    fn found(&mut self, group: u32) {
        self.mark(self.groups.get(group).slots());
        self.tallies.hit_filtered(group);
    }
}
