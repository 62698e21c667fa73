//! The three-level trie: type, action, key; each level hashed, with a branch for `*` beside the names.
//!
//! Contract: a leaf exists exactly as long as it holds a group. Finding the leaves of an event takes at most two branches a
//! level, so at most eight leaves, whatever the number of registrations. The job indexes are the same structure
//! without the first level.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::filter::{self, Engine, FilterId};
use super::symbols::Symbol;

/// What is under a place of the trie.
pub(super) trait Node: Default {
    /// Whether nothing is left, so that the branch can go.
    fn is_empty(&self) -> bool;
}

/// One level: what is under each name, and what is under `*`.
#[derive(Debug)]
pub(super) struct Level<N> {
    any: Option<Box<N>>,
    named: HashMap<Symbol, N>,
}

impl<N> Default for Level<N> {
    fn default() -> Self {
        Self { any: None, named: HashMap::default() }
    }
}

impl<N: Node> Node for Level<N> {
    fn is_empty(&self) -> bool {
        self.any.is_none() && self.named.is_empty()
    }
}

impl<N: Node> Level<N> {
    /// What applies to `name`: the branch by its name and the branch `*`.
    fn pick(&mut self, name: Option<Symbol>) -> impl Iterator<Item = &mut N> {
        let named = name.and_then(|name| self.named.get_mut(&name));
        named.into_iter().chain(self.any.as_deref_mut())
    }

    /// The branch itself, made if need be.
    pub(super) fn branch(&mut self, name: Option<Symbol>) -> &mut N {
        match name {
            Some(name) => self.named.entry(name).or_default(),
            None => self.any.get_or_insert_default(),
        }
    }

    /// Changes what is under a branch, and cuts the branch if nothing is left of it.
    pub(super) fn prune(&mut self, name: Option<Symbol>, change: impl FnOnce(&mut N)) {
        match name {
            Some(name) => {
                if let Some(node) = self.named.get_mut(&name) {
                    change(node);
                    if node.is_empty() {
                        self.named.remove(&name);
                    }
                }
            }
            None => {
                if let Some(node) = &mut self.any {
                    change(node);
                    if node.is_empty() {
                        self.any = None;
                    }
                }
            }
        }
        if self.named.is_empty() {
            self.named = HashMap::default();
        }
    }
}

/// The groups of one (type, action, key).
#[derive(Debug, Default)]
pub(super) struct Leaf {
    /// Groups without a filter.
    pub(super) groups: SmallVec<[u32; 4]>,
    /// Groups with one.
    pub(super) filtered: Option<Box<filter::Leaf>>,
}

impl Leaf {
    /// Hangs a group in.
    pub(super) fn insert(&mut self, engine: &Engine, filter: Option<FilterId>, group: u32) {
        match filter {
            None => self.groups.push(group),
            Some(filter) => {
                self.filtered.get_or_insert_default().insert(engine, filter, group);
            }
        }
    }

    /// Takes a group out.
    pub(super) fn remove(&mut self, filter: Option<FilterId>, group: u32) {
        match (filter, &mut self.filtered) {
            (Some(filter), Some(leaf)) => {
                leaf.remove(filter, group);
                if leaf.is_empty() {
                    self.filtered = None;
                }
            }
            _ => self.groups.retain(|&mut other| other != group),
        }
    }
}

impl Node for Leaf {
    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.filtered.is_none()
    }
}

/// Where a leaf is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// By type, action and key.
    Event(Option<Symbol>, Option<Symbol>, Option<Symbol>),
    /// Jobs by action and machine.
    MachineJobs(Option<Symbol>, Option<Symbol>),
    /// Jobs by action and work order.
    WorkOrderJobs(Option<Symbol>, Option<Symbol>),
}

impl Place {
    /// The symbols that the place refers to.
    pub(super) fn symbols(self) -> impl Iterator<Item = Symbol> {
        let names = match self {
            Self::Event(kind, action, key) => [kind, action, key],
            Self::MachineJobs(action, owner) | Self::WorkOrderJobs(action, owner) => [None, action, owner],
        };
        names.into_iter().flatten()
    }
}

/// An event's strings as symbols; nothing where no registration names the string.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Names {
    pub(super) kind: Option<Symbol>,
    pub(super) action: Option<Symbol>,
    pub(super) key: Option<Symbol>,
    pub(super) machine: Option<Owner>,
    pub(super) work_order: Option<Owner>,
}

/// A job's owner: it has one, and perhaps somebody has named it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner(pub(super) Option<Symbol>);

/// The trie with its two job indexes.
#[derive(Debug, Default)]
pub(super) struct Trie {
    events: Level<Level<Level<Leaf>>>,
    machine_jobs: Level<Level<Leaf>>,
    work_order_jobs: Level<Level<Leaf>>,
}

impl Trie {
    /// The leaf at a place, made if need be.
    pub(super) fn leaf(&mut self, place: Place) -> &mut Leaf {
        match place {
            Place::Event(kind, action, key) => self.events.branch(kind).branch(action).branch(key),
            Place::MachineJobs(action, owner) => self.machine_jobs.branch(action).branch(owner),
            Place::WorkOrderJobs(action, owner) => self.work_order_jobs.branch(action).branch(owner),
        }
    }

    /// Changes the leaf at a place, and cuts the branches of which nothing is left.
    pub(super) fn prune(&mut self, place: Place, change: impl FnOnce(&mut Leaf)) {
        match place {
            Place::Event(kind, action, key) => {
                self.events.prune(kind, |level| level.prune(action, |level| level.prune(key, change)));
            }
            Place::MachineJobs(action, owner) => {
                self.machine_jobs.prune(action, |level| level.prune(owner, change));
            }
            Place::WorkOrderJobs(action, owner) => {
                self.work_order_jobs.prune(action, |level| level.prune(owner, change));
            }
        }
    }

    /// Calls `visit` with every leaf that the event reaches.
    pub(super) fn visit(&mut self, names: &Names, mut visit: impl FnMut(&mut Leaf)) {
        for actions in self.events.pick(names.kind) {
            for keys in actions.pick(names.action) {
                keys.pick(names.key).for_each(&mut visit);
            }
        }
        for (jobs, owner) in [(&mut self.machine_jobs, names.machine), (&mut self.work_order_jobs, names.work_order)] {
            let Some(Owner(owner)) = owner else { continue };
            for owners in jobs.pick(names.action) {
                owners.pick(owner).for_each(&mut visit);
            }
        }
    }

    /// Whether some registration asks for jobs by their owner.
    pub(super) fn wants_owners(&self) -> bool {
        !self.machine_jobs.is_empty() || !self.work_order_jobs.is_empty()
    }

    /// Whether there is no leaf at all.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.wants_owners()
    }
}
