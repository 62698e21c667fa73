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
//! and key, so most predicates are never needed; [`Leaf`](super::Leaf) finds by hash those that are.

use super::ast::Filter;
use super::canonical::decode;
use super::fields::{Fields, LookupId};
use super::meter::price;
use super::plan::{Expr, FilterId, Keys, Plan, Signed};
use super::value::Value;
use super::view::{View, differ_in_kind};

/// What an engine has done since it was made; for the metrics of the same names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Questions (`Eq`, `Re`, ...) worked out.
    pub predicate_evaluations: u64,
    /// Paths looked up.
    pub field_lookups: u64,
    /// Filters found true, counted once for every member of a leaf and every call of [`Evaluation::matches`].
    pub filter_matches: u64,
    /// Units of work, of about a nanosecond each.
    pub work: u64,
}

impl Counters {
    /// What has been done since an `earlier` look.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            predicate_evaluations: self.predicate_evaluations - earlier.predicate_evaluations,
            field_lookups: self.field_lookups - earlier.field_lookups,
            filter_matches: self.filter_matches - earlier.filter_matches,
            work: self.work - earlier.work,
        }
    }

    /// Adds what something else has done.
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
    /// What is known about each expression.
    memos: Vec<Memo>,
    event: u64,
    counters: Counters,
}

/// The number of the event, and in the lowest bit the answer.
#[derive(Clone, Copy, Default)]
struct Memo(u64);

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
    /// An engine without filters.
    pub fn new() -> Self {
        Self::default()
    }

    /// A use of `filter`. Equal filters get the same id, also if they are only equal after rewriting
    /// (`Not(A=Ne(1))` and `A=In(1,1.0)`).
    pub fn intern(&mut self, filter: &Filter) -> FilterId {
        self.plan.intern(filter, &mut self.fields)
    }

    /// One use less; what nobody uses any more is freed. A filter must leave the leaves that it is in before.
    pub fn release(&mut self, filter: FilterId) {
        self.plan.release(filter, &mut self.fields);
    }

    /// Starts the next event.
    pub fn begin<'e>(&'e mut self, view: View<'e>) -> Evaluation<'e> {
        self.event += 1;
        self.fields.begin();
        self.fields.meter.allow(u64::MAX);
        Evaluation { engine: self, view }
    }

    /// What has been done so far.
    pub fn counters(&self) -> Counters {
        Counters { field_lookups: self.fields.count, work: self.fields.meter.spent(), ..self.counters }
    }

    /// How many expressions, lookups and names are held; zero once everything has been released.
    pub fn held(&self) -> usize {
        self.plan.len() + self.fields.len()
    }

    pub(super) fn keys(&self, filter: FilterId) -> Vec<Keys> {
        self.plan.keys(filter)
    }
}

/// One event before the filters of an engine.
#[derive(Debug)]
pub struct Evaluation<'e> {
    engine: &'e mut Engine,
    view: View<'e>,
}

impl Evaluation<'_> {
    /// Whether the filter is true of the event.
    pub fn matches(&mut self, filter: FilterId) -> bool {
        let truth = self.truth(filter.signed());
        self.matched(u64::from(truth));
        truth
    }

    /// The JSON that a filter of one [`Test`](super::Test) looks at: the value now and, for `Changed`, the value before
    /// it. For people who want to know why; a filter of several terms gives nothing.
    pub fn values(&mut self, filter: FilterId) -> [Option<&str>; 2] {
        let lookups = self.engine.plan.get(filter.signed().id()).lookups();
        lookups.map(|lookup| {
            let span = self.engine.fields.find(lookup?, self.view)?;
            std::str::from_utf8(self.view.at(span)).ok()
        })
    }

    /// From now on, so many units of work may be spent.
    pub fn allow(&mut self, units: u64) {
        self.engine.fields.meter.allow(units);
    }

    /// Units that are left of what was allowed.
    pub fn left(&self) -> u64 {
        self.engine.fields.meter.left()
    }

    /// Whether the filter is true, without counting it; nothing if what was allowed is not enough to know.
    pub(in crate::index) fn is_true(&mut self, filter: FilterId) -> Option<bool> {
        let truth = self.truth(filter.signed());
        self.unless_short(truth)
    }

    /// What is known already about the filter, at no cost.
    #[inline]
    pub(super) fn known(&self, filter: FilterId) -> Option<bool> {
        let signed = filter.signed();
        let memo = self.engine.memos.get(signed.id() as usize)?;
        (memo.0 >> 1 == self.engine.event).then_some((memo.0 & 1 == 1) != signed.negated())
    }

    pub(super) fn matched(&mut self, members: u64) {
        self.engine.counters.filter_matches += members;
    }

    /// Prepares [`Evaluation::key`]; nothing if what was allowed is not enough.
    pub(super) fn find_key(&mut self, lookup: LookupId, compounds: bool) -> Option<()> {
        let _made = self.key(lookup, compounds);
        self.unless_short(())
    }

    /// The canonical text of what a lookup finds; nothing if it finds nothing, or an array or object although only
    /// scalars are asked for.
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
        let memo = self.engine.memos[id];
        if memo.0 >> 1 == self.engine.event {
            self.engine.fields.meter.spend(price::RECALL);
            return (memo.0 & 1 == 1) != signed.negated();
        }
        let truth = self.work_out(signed.id());
        if self.engine.fields.meter.is_short() {
            return false;
        }
        self.engine.memos[id] = Memo(self.engine.event << 1 | u64::from(truth));
        truth != signed.negated()
    }

    fn work_out(&mut self, id: u32) -> bool {
        if let Expr::And(children) = self.engine.plan.get(id) {
            let count = children.len();
            return (0..count).all(|index| self.truth(self.child(id, index)) && !self.engine.fields.meter.is_short());
        }
        if !self.engine.fields.meter.afford(price::QUESTION) {
            return false;
        }
        self.engine.counters.predicate_evaluations += 1;
        self.ask(id)
    }

    fn child(&self, id: u32, index: usize) -> Signed {
        match self.engine.plan.get(id) {
            Expr::And(children) => children[index],
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
                // What is not UTF-8 cannot come from an event.
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
    if values.iter().all(|value| differ_in_kind(raw, value.as_str().as_bytes())) {
        return false;
    }
    let Some(found) = fields.canonical(lookup, view) else { return false };
    values.binary_search_by(|value| value.as_str().as_bytes().cmp(found)).is_ok()
}

/// `Changed` up to its last clause, on an event.
fn has_changed(fields: &mut Fields, now: LookupId, before: LookupId, from: Option<&Value>, view: View<'_>) -> bool {
    if fields.has_both_objects(view) && fields.equal([now, before], view).unwrap_or(true) {
        return false;
    }
    from.is_none_or(|value| equals(fields, before, view, value))
}
