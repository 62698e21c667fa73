//! Rewrites filters for evaluation, so that equal parts of all filters exist once.
//!
//! There are only conjunctions and predicates; `Or`, `Not`, `Ne` and `Nin` are negations, which cost nothing (a bit in
//! the reference). Every predicate is true or false (a missing field makes `Eq`, `In`, `Re` and `Exists` false, and
//! `Ne` and `Nin` are defined as their opposites), so De Morgan's laws hold and no rewrite changes a result. Nested
//! conjunctions are flattened, duplicate children are merged, and a conjunction of one is replaced by its child.
//! Children are sorted by cost: evaluation cannot fail and has no effects, so their order is free.

use super::ast::{Filter, Op, Term, Test};
use super::fields::{Fields, LookupId, OBJECT, ORIGINAL};
use super::pool::Pool;
use super::regex::Pattern;
use super::value::Value;

/// A filter held by an engine, until it is released as often as it was interned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FilterId(Signed);

impl FilterId {
    /// A placeholder for no filter. It equals the first id that an engine assigns, so it must never be evaluated.
    pub(in crate::index) const NONE: Self = Self(Signed(0));

    pub(super) fn signed(self) -> Signed {
        self.0
    }
}

/// A reference to an expression or its negation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Signed(u32);

impl Signed {
    fn new(id: u32) -> Self {
        Self(id << 1)
    }

    pub(super) fn id(self) -> u32 {
        self.0 >> 1
    }

    pub(super) fn negated(self) -> bool {
        self.0 & 1 == 1
    }

    fn not(self) -> Self {
        Self(self.0 ^ 1)
    }
}

/// A predicate, or a conjunction.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Expr {
    Exists(LookupId),
    Eq(LookupId, Value),
    /// Sorted, at least two.
    In(LookupId, Box<[Value]>),
    Re(LookupId, Pattern),
    Changed {
        now: LookupId,
        before: LookupId,
        from: Option<Value>,
        to: Option<Value>,
    },
    /// Sorted by cost, at least two; or only one, which is a filter that leaves do not file by its values.
    And(Box<[Signed]>),
}

impl Expr {
    /// Returns the rank in a conjunction; cheap predicates come first.
    fn cost(&self) -> u8 {
        match self {
            Self::Exists(_) => 0,
            Self::Eq(..) => 1,
            Self::In(..) => 2,
            Self::Changed { .. } => 3,
            Self::And(_) => 4,
            Self::Re(..) => 5,
        }
    }

    /// Returns the fields that it reads; for `Changed`, the current and the previous one.
    pub(super) fn lookups(&self) -> [Option<LookupId>; 2] {
        match self {
            Self::Exists(lookup) | Self::Eq(lookup, _) | Self::In(lookup, _) | Self::Re(lookup, _) => {
                [Some(*lookup), None]
            }
            Self::Changed { now, before, .. } => [Some(*now), Some(*before)],
            Self::And(_) => [None, None],
        }
    }
}

/// Equalities of which at least one must hold for a filter to be true: the value found by a lookup equals the given
/// value.
pub(super) type Keys = Vec<(LookupId, Value)>;

/// Maximum number of keys per filter; more would make the index larger than what it saves.
const MOST_KEYS: usize = 4096;

/// Expressions that are visited in the time that it takes to file one key.
const STEPS_PER_KEY: usize = 8;

/// All expressions in use.
#[derive(Default)]
pub(super) struct Plan {
    exprs: Pool<Expr>,
}

impl Plan {
    pub(super) fn get(&self, id: u32) -> &Expr {
        self.exprs.get(id)
    }

    /// Returns the number of expressions.
    pub(super) fn len(&self) -> usize {
        self.exprs.len()
    }

    /// Returns one more than the largest possible id.
    pub(super) fn capacity(&self) -> usize {
        self.exprs.capacity()
    }

    /// Adds a use of the filter.
    pub(super) fn intern(&mut self, filter: &Filter, fields: &mut Fields) -> FilterId {
        let mut built: Vec<Option<Signed>> = vec![None; filter.terms().len()];
        // Children follow their parents, so in reverse order every child is built before its parent.
        for index in (0..built.len()).rev() {
            built[index] = Some(self.term(filter, index, &mut built, fields));
        }
        FilterId(built[0].expect("the root is built last"))
    }

    /// Adds a use of the term at `index`, whose children are already built.
    fn term(&mut self, filter: &Filter, index: usize, built: &mut [Option<Signed>], fields: &mut Fields) -> Signed {
        let mut take = |child: usize| built[child].take().expect("children follow their parents");
        match &filter.terms()[index] {
            Term::Test(test) => self.test(test, fields),
            Term::Not(_) => take(index + 1).not(),
            Term::And(_) => {
                let children = filter.children(index).map(take).collect();
                self.conjunction(children, fields)
            }
            Term::Or(_) => {
                let children = filter.children(index).map(|child| take(child).not()).collect();
                self.conjunction(children, fields).not()
            }
        }
    }

    fn test(&mut self, test: &Test, fields: &mut Fields) -> Signed {
        if let Op::Changed { from, to } = &test.op {
            let segments = test.path.within_object();
            let now = fields.intern_within(OBJECT, segments);
            let before = fields.intern_within(ORIGINAL, segments);
            return self.expr(Expr::Changed { now, before, from: from.clone(), to: to.clone() }, fields);
        }
        let lookup = fields.intern(&test.path);
        match &test.op {
            Op::Exists | Op::Changed { .. } => self.expr(Expr::Exists(lookup), fields),
            Op::Eq(value) => self.expr(Expr::Eq(lookup, value.clone()), fields),
            Op::Ne(value) => self.expr(Expr::Eq(lookup, value.clone()), fields).not(),
            Op::Re(pattern) => self.expr(Expr::Re(lookup, pattern.clone()), fields),
            Op::In(values) => self.list(lookup, values, fields),
            Op::Nin(values) => self.list(lookup, values, fields).not(),
        }
    }

    fn list(&mut self, lookup: LookupId, values: &[Value], fields: &mut Fields) -> Signed {
        let mut values = values.to_vec();
        values.sort_unstable();
        values.dedup();
        match <[Value; 1]>::try_from(values) {
            Ok([only]) => self.expr(Expr::Eq(lookup, only), fields),
            Err(values) => self.expr(Expr::In(lookup, values.into()), fields),
        }
    }

    /// Interns an expression that holds its own uses of lookups and children.
    fn expr(&mut self, expr: Expr, fields: &mut Fields) -> Signed {
        let lookups = expr.lookups();
        let children: Box<[Signed]> = if let Expr::And(children) = &expr { children.clone() } else { Box::default() };
        let (id, new) = self.exprs.intern(expr);
        if !new {
            lookups.into_iter().flatten().for_each(|lookup| fields.release(lookup));
            children.iter().for_each(|child| self.release_signed(*child, fields));
        }
        Signed::new(id)
    }

    /// Creates the conjunction of the children. Takes over their uses.
    fn conjunction(&mut self, children: Vec<Signed>, fields: &mut Fields) -> Signed {
        let mut flat = Vec::with_capacity(children.len());
        for child in children {
            match self.get(child.id()) {
                Expr::And(inner) if !child.negated() => {
                    let inner = inner.clone();
                    inner.iter().for_each(|grandchild| self.exprs.retain(grandchild.id()));
                    flat.extend_from_slice(&inner);
                    self.release_signed(child, fields);
                }
                _ => flat.push(child),
            }
        }
        flat.sort_unstable_by_key(|child| (self.get(child.id()).cost(), *child));
        let mut unique: Vec<Signed> = Vec::with_capacity(flat.len());
        for child in flat {
            if unique.last() == Some(&child) {
                self.release_signed(child, fields);
            } else {
                unique.push(child);
            }
        }
        if let [only] = unique[..] { only } else { self.expr(Expr::And(unique.into()), fields) }
    }

    /// Removes a use of a filter; parts without a use are freed.
    pub(super) fn release(&mut self, filter: FilterId, fields: &mut Fields) {
        self.release_signed(filter.0, fields);
    }

    fn release_signed(&mut self, signed: Signed, fields: &mut Fields) {
        let mut queue = vec![signed];
        while let Some(signed) = queue.pop() {
            let Some(expr) = self.exprs.release(signed.id()) else { continue };
            expr.lookups().into_iter().flatten().for_each(|lookup| fields.release(lookup));
            if let Expr::And(children) = expr {
                queue.extend_from_slice(&children);
            }
        }
    }

    /// Wraps a filter, whose use it takes over, so that it has no keys.
    pub(super) fn unfiled(&mut self, filter: FilterId, fields: &mut Fields) -> FilterId {
        FilterId(self.expr(Expr::And([filter.0].into()), fields))
    }

    /// Returns the parts of which all must be true, except those of a filter that is not filed.
    fn parts<'p>(&'p self, filter: &'p FilterId) -> &'p [Signed] {
        match self.get(filter.0.id()) {
            Expr::And(children) if !filter.0.negated() => {
                if children.len() > 1 {
                    children
                } else {
                    &[]
                }
            }
            _ => std::slice::from_ref(&filter.0),
        }
    }

    /// Returns the sets of keys by which a filter can be found: it is true only if at least one key of each set holds.
    /// Empty if there is none, as for `Not(A=Exists())`. Sets with more than `most` keys are left out.
    pub(super) fn keys(&self, filter: FilterId, most: usize) -> Vec<Keys> {
        let parts = self.parts(&filter).iter();
        let few = parts.filter(|part| self.key_count(**part, &mut 0).is_some_and(|count| count <= most));
        few.filter_map(|part| self.one_key_set(*part)).collect()
    }

    /// Returns the cost of [`Plan::keys`] and of using what it returns, in keys.
    pub(super) fn filing(&self, filter: FilterId) -> usize {
        let mut steps = 0;
        let keys: usize = self.parts(&filter).iter().filter_map(|part| self.key_count(*part, &mut steps)).sum();
        keys + steps / STEPS_PER_KEY
    }

    /// Returns the size of [`Plan::one_key_set`] before equal keys are merged, without creating it.
    fn key_count(&self, signed: Signed, steps: &mut usize) -> Option<usize> {
        *steps += 1;
        let count = match (self.get(signed.id()), signed.negated()) {
            (Expr::Eq(..), false) => 1,
            (Expr::In(_, values), false) => values.len(),
            (Expr::And(children), false) => children.iter().filter_map(|child| self.key_count(*child, steps)).min()?,
            (Expr::And(children), true) => {
                children.iter().try_fold(0, |sum, child| Some(sum + self.key_count(child.not(), steps)?))?
            }
            _ => return None,
        };
        (count <= MOST_KEYS).then_some(count)
    }

    /// Returns the smallest set for this expression. Recursion is bounded by the nesting of filters.
    fn one_key_set(&self, signed: Signed) -> Option<Keys> {
        let keys = match (self.get(signed.id()), signed.negated()) {
            (Expr::Eq(lookup, value), false) => vec![(*lookup, value.clone())],
            (Expr::In(lookup, values), false) => values.iter().map(|value| (*lookup, value.clone())).collect(),
            (Expr::And(children), false) => {
                children.iter().filter_map(|child| self.one_key_set(*child)).min_by_key(Vec::len)?
            }
            (Expr::And(children), true) => self.any_of(children)?,
            _ => return None,
        };
        (keys.len() <= MOST_KEYS).then_some(keys)
    }

    /// Returns the keys of an `Or`: every branch must have keys, and any of them may be the one that holds.
    fn any_of(&self, negated_branches: &[Signed]) -> Option<Keys> {
        let mut all = Vec::new();
        for branch in negated_branches {
            all.append(&mut self.one_key_set(branch.not())?);
            if all.len() > MOST_KEYS {
                return None;
            }
        }
        all.sort_unstable();
        all.dedup();
        Some(all)
    }
}
