//! Records registrations that may match events about a subscriber's own owner.
//!
//! A subscriber may see events about its owner whatever its class. There may be many such subscribers, each with many
//! registrations, so these registrations are recorded when they are made ([`Watch`](super::owners::Watch)) and not
//! searched for when an event arrives.
//!
//! Contract: a record exists exactly as long as its registration.

use super::accounts::NOBODY;
use super::registrations::Registration;
use super::symbols::Symbol;
use super::trie::Topic;
use super::{Index, Slot, Spec};

/// Returns the Key of events about an owner: its name without a source prefix, as in `endpoint/user:a`.
fn key(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, key)| key)
}

impl<S: Copy> Index<S> {
    /// Records a new registration if it may match events about the owner.
    pub(super) fn watch(&mut self, slot: Slot, spec: &Spec, registration: &Registration) {
        let owner = self.subscriber(slot).owner;
        let Some(name) = self.owners.name(owner) else { return };
        if !(spec.kind.matches(self.own_kind) && spec.key.matches(key(name))) {
            return;
        }
        if let Some(wide) = registration.number() {
            return self.owners.watch_wide(owner, slot.0, wide);
        }
        for action in self.own_actions(owner, registration) {
            self.owners.watch(owner, slot.0, action, registration.filter());
        }
    }

    /// Removes the record, before the registration leaves its groups.
    pub(super) fn unwatch(&mut self, slot: Slot, registration: &Registration) {
        let owner = self.subscriber(slot).owner;
        if owner == NOBODY || !self.owners.is_watching(owner, slot.0) {
            return;
        }
        if let Some(wide) = registration.number() {
            return self.owners.unwatch_wide(owner, slot.0, wide);
        }
        for action in self.own_actions(owner, registration) {
            self.owners.unwatch(owner, slot.0, action, registration.filter());
        }
    }

    /// Returns the actions of the registration's topics that match events about the owner.
    fn own_actions(&self, owner: u32, registration: &Registration) -> Vec<Option<Symbol>> {
        let symbol = |text: &str| self.symbols.name(text).symbol;
        let (kind, key) = (symbol(self.own_kind), self.owners.name(owner).map(key).and_then(symbol));
        let reaches = |own: Option<Symbol>, name: Option<Symbol>| own.is_none() || own == name;
        let action = |topic: Topic| match topic {
            Topic::Event(a_kind, action, a_key) if reaches(a_kind, kind) && reaches(a_key, key) => Some(action),
            _ => None,
        };
        registration.memberships().iter().filter_map(|&membership| action(self.groups.key(membership).topic)).collect()
    }
}
