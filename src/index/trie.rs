//! The three-level trie: type, action, key. Each level is hashed and has a branch for `*` beside the names.
//!
//! Contract: a leaf exists exactly as long as it holds a group, and a level is no larger than its branches need
//! ([`shrink`](super::filter::shrink)). Finding the leaves of an event follows at most two
//! branches per level, so at most eight leaves, whatever the number of registrations. The job indexes are the same
//! structure without the first level.
//!
//! Most leaves of a fleet are those of one machine with one or two subscribers. Such a leaf is stored inside the table
//! of its level, members included, in half a cache line with the branch's name, so an event finds its subscribers
//! where it finds its key and waits for memory once. Tables are probed by the hash of the string and not by its
//! number: the probes of one event depend only on the event, so the processor has them in flight at the same time.

use hashbrown::HashTable;

use super::filter::shrink::shrink_table;
use super::leaf::Leaf;
use super::node::Node;
use super::symbols::{Name, Symbol, Symbols};

/// One level: the nodes under each name, and the node under `*`.
#[derive(Debug)]
pub(super) struct Level<N> {
    any: Option<Box<N>>,
    named: HashTable<Branch<N>>,
}

#[derive(Debug)]
struct Branch<N> {
    name: Symbol,
    node: N,
}

impl<N> Default for Level<N> {
    fn default() -> Self {
        Self { any: None, named: HashTable::new() }
    }
}

impl<N: Node> Node for Level<N> {
    fn is_empty(&self) -> bool {
        self.any.is_none() && self.named.is_empty()
    }
}

impl<N: Node> Level<N> {
    /// Calls `visit` with the nodes that match `name`: that of the branch by its name and that of the branch `*`. It is
    /// not an iterator, because nested ones are not inlined, which costs a tenth of a match.
    #[inline]
    fn each(&mut self, name: Name, mut visit: impl FnMut(&mut N)) {
        if let Some(symbol) = name.symbol
            && let Some(branch) = self.named.find_mut(name.hash, |branch| branch.name == symbol)
        {
            visit(&mut branch.node);
        }
        if let Some(any) = &mut self.any {
            visit(any);
        }
    }

    /// Returns the node of exactly this branch; creates it if necessary.
    fn branch(&mut self, symbols: &Symbols, name: Option<Symbol>) -> &mut N {
        let Some(name) = name else { return self.any.get_or_insert_default() };
        let rehash = |branch: &Branch<N>| symbols.hash_of(branch.name);
        let entry = self.named.entry(symbols.hash_of(name), |branch| branch.name == name, rehash);
        &mut entry.or_insert_with(|| Branch { name, node: N::default() }).into_mut().node
    }

    /// Changes the node of a branch, and removes the branch if it is empty afterwards.
    fn prune(&mut self, symbols: &Symbols, name: Option<Symbol>, change: impl FnOnce(&mut N)) {
        if let Some(name) = name {
            self.prune_named(symbols, name, change);
        } else if let Some(node) = &mut self.any {
            change(node);
            if node.is_empty() {
                self.any = None;
            }
        }
        if self.named.is_empty() {
            self.named = HashTable::new();
        }
    }

    fn prune_named(&mut self, symbols: &Symbols, name: Symbol, change: impl FnOnce(&mut N)) {
        let Ok(mut branch) = self.named.find_entry(symbols.hash_of(name), |branch| branch.name == name) else { return };
        change(&mut branch.get_mut().node);
        if branch.get().node.is_empty() {
            branch.remove();
            shrink_table(&mut self.named, |branch| symbols.hash_of(branch.name));
        }
    }
}

#[cfg(test)]
impl<N> Level<N> {
    fn all(&mut self, mut visit: impl FnMut(&mut N)) {
        self.named.iter_mut().for_each(|branch| visit(&mut branch.node));
        self.any.iter_mut().for_each(|node| visit(node));
    }
}

/// The location of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    /// By type, action and key.
    Event(Option<Symbol>, Option<Symbol>, Option<Symbol>),
    /// Jobs by action and machine.
    MachineJobs(Option<Symbol>, Option<Symbol>),
    /// Jobs by action and work order.
    WorkOrderJobs(Option<Symbol>, Option<Symbol>),
}

impl Topic {
    /// Returns the symbols that the topic refers to.
    pub(super) fn symbols(self) -> impl Iterator<Item = Symbol> {
        let names = match self {
            Self::Event(kind, action, key) => [kind, action, key],
            Self::MachineJobs(action, owner) | Self::WorkOrderJobs(action, owner) => [None, action, owner],
        };
        names.into_iter().flatten()
    }
}

/// The looked-up strings of an event. An owner is set if the event is a job that has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    pub(super) kind: Name,
    pub(super) action: Name,
    pub(super) key: Name,
    pub(super) machine: Option<Name>,
    pub(super) work_order: Option<Name>,
}

/// The trie with its two job indexes.
#[derive(Debug, Default)]
pub(super) struct Trie {
    events: Level<Level<Level<Leaf>>>,
    machine_jobs: Level<Level<Leaf>>,
    work_order_jobs: Level<Level<Leaf>>,
}

impl Trie {
    /// Returns the leaf of a topic; creates it if necessary.
    pub(super) fn leaf(&mut self, symbols: &Symbols, topic: Topic) -> &mut Leaf {
        match topic {
            Topic::Event(kind, action, key) => {
                self.events.branch(symbols, kind).branch(symbols, action).branch(symbols, key)
            }
            Topic::MachineJobs(action, owner) => self.machine_jobs.branch(symbols, action).branch(symbols, owner),
            Topic::WorkOrderJobs(action, owner) => self.work_order_jobs.branch(symbols, action).branch(symbols, owner),
        }
    }

    /// Changes the leaf of a topic, and removes the branches that are empty afterwards.
    pub(super) fn prune(&mut self, symbols: &Symbols, topic: Topic, change: impl FnOnce(&mut Leaf)) {
        let (jobs, action, owner) = match topic {
            Topic::Event(kind, action, key) => {
                return self.events.prune(symbols, kind, |level| {
                    level.prune(symbols, action, |level| level.prune(symbols, key, change));
                });
            }
            Topic::MachineJobs(action, owner) => (&mut self.machine_jobs, action, owner),
            Topic::WorkOrderJobs(action, owner) => (&mut self.work_order_jobs, action, owner),
        };
        jobs.prune(symbols, action, |level| level.prune(symbols, owner, change));
    }

    /// Calls `visit` with every leaf that the event reaches.
    pub(super) fn visit(&mut self, names: &Names, mut visit: impl FnMut(&mut Leaf)) {
        self.events.each(names.kind, |actions| {
            actions.each(names.action, |keys| keys.each(names.key, &mut visit));
        });
        for (jobs, owner) in [(&mut self.machine_jobs, names.machine), (&mut self.work_order_jobs, names.work_order)] {
            let Some(owner) = owner else { continue };
            jobs.each(names.action, |owners| owners.each(owner, &mut visit));
        }
    }

    /// Calls `visit` with every leaf.
    #[cfg(test)]
    pub(super) fn each_leaf(&mut self, mut visit: impl FnMut(&mut Leaf)) {
        self.events.all(|actions| actions.all(|keys| keys.all(&mut visit)));
        for jobs in [&mut self.machine_jobs, &mut self.work_order_jobs] {
            jobs.all(|owners| owners.all(&mut visit));
        }
    }

    /// Returns the number of branches for which there is room, in all levels below the types.
    #[cfg(test)]
    pub(super) fn room(&mut self) -> usize {
        let mut room = 0;
        self.events.all(|actions| {
            room += actions.named.num_buckets();
            actions.all(|keys| room += keys.named.num_buckets());
        });
        room
    }

    /// Returns the types of all branches, or `None` if any type may match or there are more than `most`.
    pub(super) fn kinds(&self, symbols: &Symbols, most: usize) -> Option<Vec<String>> {
        let Level { any, named } = &self.events;
        if any.is_some() || named.len() > most {
            return None;
        }
        named.iter().map(|branch| symbols.text(branch.name).map(str::to_owned)).collect()
    }

    /// Returns whether some registration matches jobs by their owner.
    pub(super) fn wants_owners(&self) -> bool {
        !self.machine_jobs.is_empty() || !self.work_order_jobs.is_empty()
    }

    /// Returns whether there is no leaf at all.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.wants_owners()
    }
}
