//! The filter engine: evaluates the filters of one index, each at most once per event.
//!
//! An index has one engine for all its leaves. A registration interns its filter ([`Engine::intern`]) and releases it
//! when it goes; equal filters, predicates and paths exist once. For each event, [`Engine::begin`] returns an
//! [`Evaluation`], through which filters are evaluated. Nothing is looked up before it is needed, and every lookup,
//! predicate and subtree is computed at most once per event.
//!
//! All work is counted, and limited if [`Evaluation::allow`] was called. Results that could not be paid for are not
//! remembered, so a caller with a larger allowance still gets the answer.
//!
//! Contract: one thread, no locks, no I/O. An [`Evaluation`] borrows the engine, so filters cannot change during an
//! event and results of one event cannot be taken for another's. Recursion is bounded by
//! [`Limits::MOST_NESTING`](super::Limits::MOST_NESTING).
//!
//! Why lazily from the root and not bottom-up as in the A-Tree paper: registrations are first narrowed by type, action
//! and key, so most predicates are never needed; [`Leaf`](super::Leaf) finds the others by hash.

use super::ast::Filter;
use super::canonical::decode;
use super::fields::{Fields, LookupId};
use super::meter::price;
use super::plan::{Expr, FilterId, Keys, Plan, Signed};
use super::value::Value;
use super::view::{View, differ_in_kind};

/// What an engine has done since it was created; the source of the metrics with the same names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Predicates (`Eq`, `Re`, ...) evaluated.
    pub predicate_evaluations: u64,
    /// Paths looked up.
    pub field_lookups: u64,
    /// Filters found true, counted once for every member of a leaf and every call of [`Evaluation::matches`].
    pub filter_matches: u64,
    /// Units of work, of about a nanosecond each.
    pub work: u64,
}

impl Counters {
    /// Returns the difference to an `earlier` reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            predicate_evaluations: self.predicate_evaluations - earlier.predicate_evaluations,
            field_lookups: self.field_lookups - earlier.field_lookups,
            filter_matches: self.filter_matches - earlier.filter_matches,
            work: self.work - earlier.work,
        }
    }

    /// Adds other counts.
    pub fn add(&mut self, more: Self) {
        self.predicate_evaluations += more.predicate_evaluations;
        self.field_lookups += more.field_lookups;
        self.filter_matches += more.filter_matches;
        self.work += more.work;
    }
}

/// Interns and evaluates filters; equal filters, predicates and paths exist once.
pub struct Engine {
    plan: Plan,
    fields: Fields,
    /// The remembered result of each expression.
    memos: Vec<Memo>,
    event: u64,
    counters: Counters,
}

/// The number of the event, and the result in the lowest bit.
#[derive(Clone, Copy, Default)]
struct Memo(u64);

impl Memo {
    fn new(event: u64, truth: bool) -> Self {
        Self(event << 1 | u64::from(truth))
    }

    /// Returns the result for an event, of the expression or its negation, if it is the remembered one.
    #[inline]
    fn of(self, event: u64, signed: Signed) -> Option<bool> {
        (self.0 >> 1 == event).then_some((self.0 & 1 == 1) != signed.negated())
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            plan: Plan::default(),
            fields: Fields::new(),
            memos: Vec::new(),
            event: 0,
            counters: Counters::default(),
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("expressions", &self.plan.len()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Creates an engine without filters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a use of `filter` and returns its id. Equal filters get the same id, even if they are only equal after
    /// rewriting (`Not(A=Ne(1))` and `A=In(1,1.0)`).
    pub fn intern(&mut self, filter: &Filter) -> FilterId {
        self.plan.intern(filter, &mut self.fields)
    }

    /// Removes a use of a filter; parts without a use are freed. The filter must be removed from all leaves first.
    pub fn release(&mut self, filter: FilterId) {
        self.plan.release(filter, &mut self.fields);
    }

    /// Begins the next event.
    pub fn begin<'e>(&'e mut self, view: View<'e>) -> Evaluation<'e> {
        self.event += 1;
        self.fields.begin();
        self.fields.meter.allow(u64::MAX);
        Evaluation { engine: self, view }
    }

    /// Returns the counts since the engine was created.
    pub fn counters(&self) -> Counters {
        Counters { field_lookups: self.fields.count, work: self.fields.meter.spent(), ..self.counters }
    }

    /// Returns the number of expressions, lookups and names held; zero once everything has been released.
    pub fn held(&self) -> usize {
        self.plan.len() + self.fields.len()
    }

    /// Takes over a use of a filter, and returns the id of the same filter with no keys: leaves do not file it by its
    /// values.
    #[must_use]
    pub fn unfiled(&mut self, filter: FilterId) -> FilterId {
        self.plan.unfiled(filter, &mut self.fields)
    }

    /// Returns the cost of filing a filter in a leaf, in keys.
    pub(in crate::index) fn filing(&self, filter: FilterId) -> usize {
        self.plan.filing(filter)
    }

    pub(super) fn keys(&self, filter: FilterId, most: usize) -> Vec<Keys> {
        self.plan.keys(filter, most)
    }
}

/// The evaluation of an engine's filters on one event.
#[derive(Debug)]
pub struct Evaluation<'e> {
    engine: &'e mut Engine,
    view: View<'e>,
}

impl Evaluation<'_> {
    /// Returns whether the filter is true for the event.
    pub fn matches(&mut self, filter: FilterId) -> bool {
        let truth = self.truth(filter.signed());
        self.matched(u64::from(truth));
        truth
    }

    /// Returns the JSON that a filter of a single [`Test`](super::Test) reads: the current value and, for `Changed`,
    /// the previous one. Explains results to users; returns nothing for a filter of several terms.
    pub fn values(&mut self, filter: FilterId) -> [Option<&str>; 2] {
        let lookups = self.engine.plan.get(filter.signed().id()).lookups();
        lookups.map(|lookup| {
            let span = self.engine.fields.find(lookup?, self.view)?;
            std::str::from_utf8(self.view.at(span)).ok()
        })
    }

    /// Sets the units of work that may be spent from now on.
    pub fn allow(&mut self, units: u64) {
        self.engine.fields.meter.allow(units);
    }

    /// Returns the units left of the allowance.
    pub fn left(&self) -> u64 {
        self.engine.fields.meter.left()
    }

    /// Returns the units spent by all evaluations of the engine.
    pub(super) fn spent(&self) -> u64 {
        self.engine.fields.meter.spent()
    }

    /// Returns whether the filter is true, without counting a match; `None` if the allowance does not suffice.
    pub(in crate::index) fn is_true(&mut self, filter: FilterId) -> Option<bool> {
        let truth = self.truth(filter.signed());
        self.unless_short(truth)
    }

    /// Returns the result of the filter if it is already known, at no cost.
    #[inline]
    pub(super) fn known(&self, filter: FilterId) -> Option<bool> {
        let signed = filter.signed();
        self.engine.memos.get(signed.id() as usize)?.of(self.engine.event, signed)
    }

    pub(super) fn matched(&mut self, members: u64) {
        self.engine.counters.filter_matches += members;
    }

    /// Prepares [`Evaluation::key`]; returns `None` if the allowance does not suffice.
    pub(super) fn find_key(&mut self, lookup: LookupId, compounds: bool) -> Option<()> {
        let _made = self.key(lookup, compounds);
        self.unless_short(())
    }

    /// Returns the canonical text of the value that a lookup finds; `None` if it finds nothing, or an array or object
    /// while only scalars are requested.
    pub(super) fn key(&mut self, lookup: LookupId, compounds: bool) -> Option<&[u8]> {
        let span = self.engine.fields.find(lookup, self.view)?;
        if !compounds && matches!(self.view.at(span).first(), Some(b'{' | b'[')) {
            return None;
        }
        self.engine.fields.canonical(lookup, self.view)
    }

    fn unless_short<T>(&self, answer: T) -> Option<T> {
        (!self.engine.fields.meter.is_short()).then_some(answer)
    }

    fn truth(&mut self, signed: Signed) -> bool {
        let id = signed.id() as usize;
        if self.engine.memos.len() <= id {
            self.engine.memos.resize(self.engine.plan.capacity(), Memo::default());
        }
        if let Some(truth) = self.engine.memos[id].of(self.engine.event, signed) {
            self.engine.fields.meter.spend(price::RECALL);
            return truth;
        }
        let truth = self.work_out(signed.id());
        if self.engine.fields.meter.is_short() {
            return false;
        }
        self.engine.memos[id] = Memo::new(self.engine.event, truth);
        truth != signed.negated()
    }

    fn work_out(&mut self, id: u32) -> bool {
        if matches!(self.engine.plan.get(id), Expr::And(_)) {
            return self.all(id);
        }
        if !self.engine.fields.meter.afford(price::QUESTION) {
            return false;
        }
        self.engine.counters.predicate_evaluations += 1;
        self.ask(id)
    }

    /// Returns whether all children of a conjunction are true.
    fn all(&mut self, id: u32) -> bool {
        let mut at = 0;
        loop {
            if let Some(truth) = self.recall(id, &mut at) {
                return truth;
            }
            if !self.truth(self.child(id, at)) || self.engine.fields.meter.is_short() {
                return false;
            }
            at += 1;
        }
    }

    /// Returns the result of a conjunction, if the remembered ones of its children from `at` on suffice; otherwise
    /// moves `at` to the first child that has none. Filters have most of their predicates in common, so this is the
    /// usual case.
    #[inline]
    fn recall(&mut self, id: u32, at: &mut usize) -> Option<bool> {
        let Engine { plan, fields, memos, event, .. } = &mut *self.engine;
        let Expr::And(children) = plan.get(id) else { return Some(false) };
        for child in &children[*at..] {
            let truth = memos.get(child.id() as usize)?.of(*event, *child)?;
            fields.meter.spend(price::RECALL);
            if !truth {
                return Some(false);
            }
            *at += 1;
        }
        Some(true)
    }

    fn child(&self, id: u32, at: usize) -> Signed {
        match self.engine.plan.get(id) {
            Expr::And(children) => children[at],
            _ => Signed::default(),
        }
    }

    fn ask(&mut self, id: u32) -> bool {
        let view = self.view;
        let Engine { plan, fields, .. } = &mut *self.engine;
        match plan.get(id) {
            Expr::Exists(lookup) => fields.find(*lookup, view).is_some(),
            Expr::Eq(lookup, value) => equals(fields, *lookup, view, value),
            Expr::In(lookup, values) => is_in(fields, *lookup, view, values),
            Expr::Re(lookup, pattern) => {
                let Some(span) = fields.find(*lookup, view) else { return false };
                let raw = view.at(span);
                if !fields.meter.afford(price::pattern(raw.len())) {
                    return false;
                }
                let text = if raw.first() == Some(&b'"') { decode(raw) } else { raw.into() };
                // Events are always UTF-8.
                std::str::from_utf8(&text).is_ok_and(|text| pattern.is_match(text))
            }
            Expr::Changed { now, before, from, to } => {
                let to = to.as_ref();
                let changed = view.is_plain() || has_changed(fields, *now, *before, from.as_ref(), view);
                changed && to.is_none_or(|value| equals(fields, *now, view, value))
            }
            Expr::And(_) => false,
        }
    }
}

fn equals(fields: &mut Fields, lookup: LookupId, view: View<'_>, value: &Value) -> bool {
    let Some(span) = fields.find(lookup, view) else { return false };
    let value = value.as_str().as_bytes();
    !differ_in_kind(view.at(span), value) && fields.canonical(lookup, view) == Some(value)
}

fn is_in(fields: &mut Fields, lookup: LookupId, view: View<'_>, values: &[Value]) -> bool {
    let Some(span) = fields.find(lookup, view) else { return false };
    let raw = view.at(span);
    if !has_one_of_its_kind(values, raw) {
        return false;
    }
    let Some(found) = fields.canonical(lookup, view) else { return false };
    values.binary_search_by(|value| value.as_str().as_bytes().cmp(found)).is_ok()
}

/// Returns whether one of the sorted values may be equal to `raw`, by their first bytes; see [`differ_in_kind`]. Takes
/// a few steps for any number of values: no more is charged for them.
fn has_one_of_its_kind(values: &[Value], raw: &[u8]) -> bool {
    let first = |value: &Value| value.as_str().as_bytes().first().copied();
    let from = |byte: u8| values.partition_point(|value| first(value) < Some(byte));
    match raw.first() {
        Some(&kind @ (b'{' | b'[')) => values.get(from(kind)).and_then(first) == Some(kind),
        // Scalars come before arrays, or between arrays and objects.
        _ => values.first().and_then(first) < Some(b'[') || from(b'[' + 1) < from(b'{'),
    }
}

/// Evaluates `Changed` on an event, without its last clause.
fn has_changed(fields: &mut Fields, now: LookupId, before: LookupId, from: Option<&Value>, view: View<'_>) -> bool {
    if fields.has_both_objects(view) && fields.equal([now, before], view).unwrap_or(true) {
        return false;
    }
    from.is_none_or(|value| equals(fields, before, view, value))
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, steps};
    use super::*;

    #[test]
    fn an_allowance_ends_with_its_event() {
        let mut engine = Engine::new();
        let filter = engine.intern(&Filter::parse("A=Eq(1)", &Limits::default()).unwrap());
        let mut first = engine.begin(View::object(r#"{"A":1}"#));
        first.allow(1);
        assert_eq!((first.is_true(filter), first.left()), (None, 0));
        let mut second = engine.begin(View::object(r#"{"A":1}"#));
        assert_eq!((second.left(), second.is_true(filter)), (u64::MAX, Some(true)));
    }

    #[test]
    fn a_list_is_not_searched_for_a_value_of_another_kind() {
        let scalars: Vec<Value> = (10_000..14_096).map(|n| Value::parse(&n.to_string(), 8).unwrap()).collect();
        for raw in [r#"{"a":1}"#, "[1]", "1", "true", "\"x\""] {
            let before = steps::taken();
            let is_scalar = !raw.starts_with(['{', '[']);
            assert_eq!(has_one_of_its_kind(&scalars, raw.as_bytes()), is_scalar, "{raw}");
            let taken = steps::taken() - before;
            assert!(taken <= 16, "{taken} for {raw}");
        }
    }

    #[test]
    fn one_value_of_the_same_kind_is_found_among_all_others() {
        let texts = ["-1", "\"a\"", "7", "[]", "[1]", "false", "null", "true", "{}", r#"{"a":1}"#];
        let all = texts.map(|text| Value::parse(text, 8).unwrap());
        for chosen in 1..1 << all.len() {
            let mut values: Vec<Value> = all
                .iter()
                .enumerate()
                .filter(|(at, _)| chosen >> at & 1 == 1)
                .map(|(_, value)| value.clone())
                .collect();
            values.sort_unstable();
            for raw in texts {
                let expected = values.iter().any(|value| !differ_in_kind(raw.as_bytes(), value.as_str().as_bytes()));
                assert_eq!(has_one_of_its_kind(&values, raw.as_bytes()), expected, "{raw} in {values:?}");
            }
        }
    }
}
