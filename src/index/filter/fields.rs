//! Looks up fields in an event: each path at most once per event, and only when needed.
//!
//! Paths used by registrations are interned as a tree of names, so that `Params.a` and `Params.b` share the step to
//! `Params`. Results are remembered per event by stamping them with the event's number, so starting the next event
//! clears nothing.
//!
//! The lookup rule (`docs/protocol.md`, "Filters"): in Object and, if Object has no field with the first name of the
//! path, in the event itself, which a leading `event.` selects explicitly.

use super::canonical::canonical;
use super::meter::{Meter, price};
use super::path::{Path, array_index};
use super::pool::Pool;
use super::scan::Scanner;
use super::table::{Span, Table, Tables, Wanted, value_end};
use super::view::{View, differ_in_kind};

/// Object as the start of a path.
pub(super) const OBJECT: u32 = 0;
/// Original as the start of a path.
pub(super) const ORIGINAL: u32 = 1;
/// The event itself as the start of a path; only its five fields besides Object and Original.
const ENVELOPE: u32 = 2;

/// The part of the wire form after the first five fields; see `event::Draft::seal`.
const BEFORE_OBJECT: &[u8] = b"\"Object\":";
const BEFORE_ORIGINAL: usize = ",\"Original\":".len();

/// A name below another path.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Node {
    parent: u32,
    name: Box<str>,
}

/// The remembered data of a node.
#[derive(Clone)]
struct NodeMemo {
    /// The hash of its name.
    hash: u32,
    index: Option<usize>,
    /// The names below it that were interned since it exists.
    wanted: Wanted,
    /// The event that `found` belongs to.
    found_in: u64,
    found: Option<Span>,
    /// The event that `table` belongs to.
    table_in: u64,
    table: Option<Table>,
}

/// A field that filters read; ids are [`LookupId`]s.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Lookup {
    /// By the lookup rule: under Object if `first` exists there, otherwise in the envelope.
    Anywhere { first: u32, within: u32, outside: Option<u32> },
    /// Under Object or Original alone, for `Changed`.
    Within(u32),
}

/// The id of an interned lookup.
#[derive(Debug, Clone, Copy, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(not(test), derive(PartialEq))]
#[cfg_attr(test, expect(clippy::derived_hash_with_manual_eq, reason = "it is the same, but counts"))]
pub(super) struct LookupId(u32);

#[cfg(test)]
impl PartialEq for LookupId {
    fn eq(&self, other: &Self) -> bool {
        super::steps::take();
        self.0 == other.0
    }
}

/// The remembered data of a lookup.
#[derive(Clone, Copy, Default)]
struct LookupMemo {
    found_in: u64,
    found: Option<Span>,
    /// The event that `canonical` belongs to.
    canonical_in: u64,
    /// The range of the canonical text in the scratch memory; `None` if the text itself is canonical.
    canonical: Option<(usize, usize)>,
}

/// The field data of an engine.
pub(super) struct Fields {
    nodes: Pool<Node>,
    node_memos: Vec<NodeMemo>,
    lookups: Pool<Lookup>,
    lookup_memos: Vec<LookupMemo>,
    event: u64,
    /// The offset of Object's value, once the envelope's table was built.
    object_start: usize,
    scanner: Scanner,
    tables: Tables,
    canonicals: Vec<u8>,
    /// The number of lookups performed.
    pub(super) count: u64,
    pub(super) meter: Meter,
}

impl Fields {
    pub(super) fn new() -> Self {
        let mut fields = Self {
            nodes: Pool::default(),
            node_memos: Vec::new(),
            lookups: Pool::default(),
            lookup_memos: Vec::new(),
            event: 1,
            object_start: 0,
            scanner: Scanner::default(),
            tables: Tables::default(),
            canonicals: Vec::new(),
            count: 0,
            meter: Meter::default(),
        };
        for (root, name) in [(OBJECT, "Object"), (ORIGINAL, "Original"), (ENVELOPE, "")] {
            assert_eq!(fields.node(u32::MAX, name), root, "the roots come first and stay");
        }
        fields
    }

    /// Begins the next event.
    pub(super) fn begin(&mut self) {
        const KEPT: usize = 1 << 20;
        self.event += 1;
        self.scanner.reset();
        self.tables.reset();
        self.canonicals.clear();
        self.canonicals.shrink_to(KEPT);
    }

    /// Returns the number of nodes and lookups without the roots.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() + self.lookups.len() - 3
    }

    /// Adds a use of the field that `path` means by the lookup rule.
    pub(super) fn intern(&mut self, path: &Path) -> LookupId {
        let segments = path.segments();
        let within = self.chain(OBJECT, segments);
        let first = self.chain(OBJECT, &segments[..1]);
        let outside = match segments {
            // RackN's event router uses this name for the event itself.
            [event, named @ ..] if &**event == "event" && !named.is_empty() => self.outside(named),
            named => self.outside(named),
        };
        self.lookup(Lookup::Anywhere { first, within, outside })
    }

    /// Adds a use of the field that a path means in the event itself, if there is one.
    fn outside(&mut self, segments: &[Box<str>]) -> Option<u32> {
        match &*segments[0] {
            "Object" => Some(self.chain(OBJECT, &segments[1..])),
            "Original" => Some(self.chain(ORIGINAL, &segments[1..])),
            "Time" | "Type" | "Action" | "Key" | "Principal" => Some(self.chain(ENVELOPE, segments)),
            _ => None,
        }
    }

    /// Adds a use of the field below `root` alone.
    pub(super) fn intern_within(&mut self, root: u32, segments: &[Box<str>]) -> LookupId {
        let node = self.chain(root, segments);
        self.lookup(Lookup::Within(node))
    }

    /// Interns a lookup whose uses of nodes were already counted.
    fn lookup(&mut self, lookup: Lookup) -> LookupId {
        let nodes = lookup.nodes();
        let (id, new) = self.lookups.intern(lookup);
        if new {
            let count = self.lookup_memos.len().max(id as usize + 1);
            self.lookup_memos.resize(count, LookupMemo::default());
            self.lookup_memos[id as usize] = LookupMemo::default();
        } else {
            nodes.into_iter().flatten().for_each(|node| self.release_node(node));
        }
        LookupId(id)
    }

    /// Removes a use.
    pub(super) fn release(&mut self, id: LookupId) {
        if let Some(lookup) = self.lookups.release(id.0) {
            lookup.nodes().into_iter().flatten().for_each(|node| self.release_node(node));
        }
    }

    /// Adds a use of the node below `root`; each node holds a use of its parent.
    fn chain(&mut self, root: u32, segments: &[Box<str>]) -> u32 {
        self.nodes.retain(root);
        segments.iter().fold(root, |parent, name| self.node(parent, name))
    }

    /// Returns the node for `name`; takes over the use of the parent.
    fn node(&mut self, parent: u32, name: &str) -> u32 {
        let (id, new) = self.nodes.intern(Node { parent, name: name.into() });
        if new {
            let hash = self.tables.hash(name.as_bytes());
            let index = array_index(name);
            let wanted = Wanted::default();
            let memo = NodeMemo { hash, index, wanted, found_in: 0, found: None, table_in: 0, table: None };
            let count = self.node_memos.len().max(id as usize + 1);
            self.node_memos.resize(count, memo.clone());
            self.node_memos[id as usize] = memo;
            if let Some(parent) = self.node_memos.get_mut(parent as usize) {
                parent.wanted.add(name);
            }
        } else {
            self.release_node(parent);
        }
        id
    }

    fn release_node(&mut self, mut id: u32) {
        while let Some(node) = self.nodes.release(id) {
            id = node.parent;
        }
    }

    /// Returns the field that `id` means in this event.
    pub(super) fn find(&mut self, id: LookupId, view: View<'_>) -> Option<Span> {
        let memo = self.lookup_memos[id.0 as usize];
        if memo.found_in == self.event {
            return memo.found;
        }
        self.count += 1;
        self.meter.spend(price::LOOKUP);
        let found = match *self.lookups.get(id.0) {
            Lookup::Within(node) => self.resolve(node, view),
            Lookup::Anywhere { first, within, outside } => {
                if self.resolve(first, view).is_some() {
                    self.resolve(within, view)
                } else {
                    outside.and_then(|node| self.resolve(node, view))
                }
            }
        };
        let memo = &mut self.lookup_memos[id.0 as usize];
        (memo.found_in, memo.found) = (self.event, found);
        found
    }

    /// Returns the canonical text of the value that [`Fields::find`] finds; also `None` if the allowance does not
    /// suffice.
    pub(super) fn canonical<'a>(&'a mut self, id: LookupId, view: View<'a>) -> Option<&'a [u8]> {
        let raw = view.at(self.find(id, view)?);
        self.make_canonical(id, raw).then_some(())?;
        Some(self.made(id, raw))
    }

    /// Returns whether two lookups find equal values; `None` if the allowance does not suffice.
    pub(super) fn equal(&mut self, [a, b]: [LookupId; 2], view: View<'_>) -> Option<bool> {
        let [first, second] = [self.find(a, view), self.find(b, view)].map(|span| span.map(|span| view.at(span)));
        let (Some(first), Some(second)) = (first, second) else { return Some(first.is_none() && second.is_none()) };
        self.meter.spend(price::compare(first.len()));
        if first == second || differ_in_kind(first, second) {
            return Some(first == second);
        }
        (self.make_canonical(a, first) && self.make_canonical(b, second)).then_some(())?;
        Some(self.made(a, first) == self.made(b, second))
    }

    /// Creates the canonical text of a found value unless it exists; returns false if the allowance does not suffice.
    fn make_canonical(&mut self, id: LookupId, raw: &[u8]) -> bool {
        if self.lookup_memos[id.0 as usize].canonical_in == self.event {
            return true;
        }
        // Most scalars are already canonical.
        let scalar = !matches!(raw.first(), Some(b'{' | b'['));
        if !self.meter.afford(if scalar { price::compare(raw.len()) } else { price::canonical(raw.len()) }) {
            return false;
        }
        let made = match canonical(raw) {
            std::borrow::Cow::Borrowed(_) => None,
            std::borrow::Cow::Owned(text) => {
                self.meter.spend(if scalar { price::canonical(raw.len()) } else { 0 });
                let start = self.canonicals.len();
                self.canonicals.extend_from_slice(&text);
                Some((start, self.canonicals.len()))
            }
        };
        let memo = &mut self.lookup_memos[id.0 as usize];
        (memo.canonical_in, memo.canonical) = (self.event, made);
        true
    }

    /// Returns the canonical text created for a found value.
    fn made<'a>(&'a self, id: LookupId, raw: &'a [u8]) -> &'a [u8] {
        self.lookup_memos[id.0 as usize].canonical.map_or(raw, |(start, end)| &self.canonicals[start..end])
    }

    /// Returns whether neither Object nor Original is null.
    pub(super) fn has_both_objects(&mut self, view: View<'_>) -> bool {
        [OBJECT, ORIGINAL].into_iter().all(|root| {
            let found = self.resolve(root, view);
            found.is_some_and(|span| view.at(span).first() != Some(&b'n'))
        })
    }

    /// Returns the field of a node in this event. Recursion ends at the root; paths have a bounded length.
    fn resolve(&mut self, id: u32, view: View<'_>) -> Option<Span> {
        let memo = &self.node_memos[id as usize];
        if memo.found_in == self.event {
            return memo.found;
        }
        let found = match id {
            OBJECT => Some(self.object(view)),
            ORIGINAL => self.original(view),
            _ => self.resolve_child(id, view),
        };
        self.found(id, found);
        found
    }

    fn found(&mut self, id: u32, found: Option<Span>) {
        let memo = &mut self.node_memos[id as usize];
        (memo.found_in, memo.found) = (self.event, found);
    }

    fn object(&mut self, view: View<'_>) -> Span {
        let start = self.object_start(view);
        let span = Span::new(start, value_end(view.text, start, &mut self.scanner));
        self.meter.spend(price::walk(view.at(span).len()));
        span
    }

    /// Returns Original, which is the last field of an event, directly after Object.
    fn original(&mut self, view: View<'_>) -> Option<Span> {
        let object = self.resolve(OBJECT, view)?;
        let start = object.end as usize + BEFORE_ORIGINAL;
        (!view.plain).then(|| Span::new(start, view.text.len().saturating_sub(1)))
    }

    fn resolve_child(&mut self, id: u32, view: View<'_>) -> Option<Span> {
        let parent = self.nodes.get(id).parent;
        let table = self.table(parent, view)?;
        let memo = &self.node_memos[id as usize];
        if table.is_array() {
            return self.element(parent, table, memo.index?, view);
        }
        self.tables.member_named(view.text, table, self.nodes.get(id).name.as_bytes(), memo.hash)
    }

    /// Returns an element of a node's value, which is an array. The elements up to this one are recorded now, if they
    /// were not: nobody pays for those that only others look up.
    fn element(&mut self, array: u32, mut table: Table, index: usize, view: View<'_>) -> Option<Span> {
        let known = table.elements();
        if index >= known {
            let start = self.resolve(array, view)?.start as usize;
            table = self.tables.extend(view.text, start, table, index, &mut self.scanner);
            self.meter.spend(price::elements(table.elements() - known));
            self.set_table(array, table);
        }
        self.tables.element(table, index)
    }

    /// Returns the table of a node's value; empty for a scalar.
    fn table(&mut self, id: u32, view: View<'_>) -> Option<Table> {
        let memo = &self.node_memos[id as usize];
        if memo.table_in == self.event {
            return memo.table;
        }
        let start = match id {
            ENVELOPE => return self.envelope(view),
            OBJECT => self.object_start(view),
            _ => self.resolve(id, view)?.start as usize,
        };
        let wanted = self.node_memos[id as usize].wanted;
        let (table, end) = self.tables.build(view.text, start, wanted, &mut self.scanner);
        self.meter.spend(price::walk(end - start.min(end)));
        if id == OBJECT {
            self.found(OBJECT, Some(Span::new(start, end)));
        }
        self.set_table(id, table)
    }

    fn set_table(&mut self, id: u32, table: Table) -> Option<Table> {
        let memo = &mut self.node_memos[id as usize];
        (memo.table_in, memo.table) = (self.event, Some(table));
        memo.table
    }

    fn object_start(&mut self, view: View<'_>) -> usize {
        self.table(ENVELOPE, view);
        self.object_start
    }

    /// Returns the table of the fields before Object, and records where Object starts.
    fn envelope(&mut self, view: View<'_>) -> Option<Table> {
        let stop = if view.plain { &[] } else { BEFORE_OBJECT };
        let (table, behind) = self.tables.build_until(view.text, 0, stop, &mut self.scanner);
        self.object_start = if view.plain { 0 } else { behind };
        self.set_table(ENVELOPE, table)
    }
}

impl Lookup {
    /// Returns the nodes that it holds a use of.
    fn nodes(&self) -> [Option<u32>; 3] {
        match *self {
            Self::Anywhere { first, within, outside } => [Some(first), Some(within), outside],
            Self::Within(node) => [Some(node), None, None],
        }
    }
}
