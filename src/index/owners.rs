//! The owners of subscribers: whose bounds are common to several subscribers, and who see what is about themselves.
//!
//! Contract: an owner is there as long as it has a subscriber. Numbers are small and used again; [`NOBODY`] is the owner of those that
//! have none, and has no bounds.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::accounts::NOBODY;

#[derive(Debug, Clone, Default)]
struct Owner {
    name: Arc<str>,
    subscribers: usize,
    /// Bytes of all their filters.
    bytes: usize,
    /// Those that have registered for what may be about the owner.
    watching: HashSet<u32>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Owners {
    by_name: HashMap<Arc<str>, u32>,
    all: Vec<Owner>,
    free: Vec<u32>,
}

impl Default for Owners {
    fn default() -> Self {
        Self { by_name: HashMap::new(), all: vec![Owner::default()], free: Vec::new() }
    }
}

impl Owners {
    /// One subscriber more of an owner.
    pub(super) fn acquire(&mut self, name: &str) -> u32 {
        let number = self.by_name.get(name).copied().unwrap_or_else(|| self.add(name.into()));
        self.all[number as usize].subscribers += 1;
        number
    }

    fn add(&mut self, name: Arc<str>) -> u32 {
        let owner = Owner { name: Arc::clone(&name), ..Owner::default() };
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(Owner::default());
            u32::try_from(self.all.len() - 1).expect("fewer owners than subscribers")
        });
        self.all[number as usize] = owner;
        self.by_name.insert(name, number);
        number
    }

    /// Whether an owner has this one subscriber only, so that its number may have been another's before.
    pub(super) fn is_first(&self, number: u32) -> bool {
        number != NOBODY && self.all[number as usize].subscribers == 1
    }

    /// One subscriber less.
    fn release(&mut self, number: u32) {
        if number == NOBODY {
            return;
        }
        let owner = &mut self.all[number as usize];
        owner.subscribers -= 1;
        if owner.subscribers == 0 {
            self.by_name.remove(&owner.name);
            *owner = Owner::default();
            self.free.push(number);
        }
    }

    /// A subscriber has registered for what may be about its owner.
    pub(super) fn watch(&mut self, number: u32, subscriber: u32) {
        if number != NOBODY {
            self.all[number as usize].watching.insert(subscriber);
        }
    }

    /// A subscriber is gone.
    pub(super) fn forget(&mut self, number: u32, subscriber: u32) {
        self.all[number as usize].watching.remove(&subscriber);
        self.release(number);
    }

    /// The subscribers that have registered for what may be about an owner.
    pub(super) fn watching(&self, name: &str) -> impl Iterator<Item = u32> {
        let owner = self.by_name.get(name).map(|&number| &self.all[number as usize]);
        owner.into_iter().flat_map(|owner| owner.watching.iter().copied())
    }

    /// Bytes of all filters of an owner.
    pub(super) fn bytes(&mut self, number: u32) -> &mut usize {
        &mut self.all[number as usize].bytes
    }
}
