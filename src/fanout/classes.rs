//! Maps the access rights of a shard's connections to classes of its index: equal rights are one class.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::auth::{Access, AccessId};
use crate::index::Class;

#[derive(Debug)]
struct Entry {
    access: Arc<Access>,
    users: usize,
}

/// The classes in use. Numbers are small and reused, because the index stores a decision for each.
#[derive(Debug, Default)]
pub(super) struct Classes {
    entries: Vec<Option<Entry>>,
    by_access: HashMap<AccessId, Class>,
}

impl Classes {
    /// Returns the class of these rights and adds a user to it.
    pub(super) fn acquire(&mut self, access: &Arc<Access>) -> Class {
        if let Some(&class) = self.by_access.get(&access.id()) {
            self.entries[class.0 as usize].as_mut().expect("named by its access").users += 1;
            return class;
        }
        let entry = Some(Entry { access: Arc::clone(access), users: 1 });
        let at = self.entries.iter().position(Option::is_none).unwrap_or(self.entries.len());
        if at == self.entries.len() {
            self.entries.push(entry);
        } else {
            self.entries[at] = entry;
        }
        let class = Class(u32::try_from(at).expect("fewer classes than connections"));
        self.by_access.insert(access.id(), class);
        class
    }

    /// Removes a user from a class, and the class with its last user.
    pub(super) fn release(&mut self, class: Class) {
        let slot = &mut self.entries[class.0 as usize];
        let entry = slot.as_mut().expect("released as often as acquired");
        entry.users -= 1;
        if entry.users == 0 {
            self.by_access.remove(&entry.access.id());
            *slot = None;
        }
    }

    /// Returns the rights of a class.
    pub(super) fn access(&self, class: Class) -> &Arc<Access> {
        &self.entries[class.0 as usize].as_ref().expect("a class in use").access
    }
}

/// A change of rights that the registrations of a connection have yet to follow.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// Classes that its registrations may still belong to.
    pub(super) old: Vec<Class>,
    /// The last registration that has moved.
    pub(super) after: Option<Box<str>>,
}
