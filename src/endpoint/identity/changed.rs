//! What must be read again at the endpoint.
//!
//! Pure. Changes accumulate; beyond [`NAMES`] names all accounts are read again, so the set stays bounded.

use std::collections::BTreeSet;

/// Maximum number of names recorded individually; beyond that, all accounts are read again.
const NAMES: usize = 1024;

/// What must be read again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing to read")]
pub(super) struct Changed {
    pub(super) keys: bool,
    pub(super) roles: bool,
    pub(super) tenants: bool,
    pub(super) users: Users,
    /// Whether events are missing, so that everything may have changed.
    pub(super) missed: bool,
}

/// The users whose accounts must be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Users {
    /// These users.
    Named(BTreeSet<String>),
    /// All known users.
    All,
}

impl Default for Users {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Users {
    /// Returns the names, if they are listed individually.
    pub(super) fn named(&self) -> impl Iterator<Item = &String> {
        let names = if let Self::Named(names) = self { Some(names) } else { None };
        names.into_iter().flatten()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.contains(name),
            Self::All => true,
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Named(mut names), Self::Named(more)) if names.len() + more.len() <= NAMES => {
                names.extend(more);
                Self::Named(names)
            }
            _ => Self::All,
        }
    }
}

impl Changed {
    pub(super) fn missed() -> Self {
        Self { missed: true, ..Self::default() }
    }

    /// Returns what a content pack may have brought.
    pub(super) fn contents() -> Self {
        Self { users: Users::All, ..Self::lists() }
    }

    /// Returns roles and tenants, which are read together.
    pub(super) fn lists() -> Self {
        Self { roles: true, tenants: true, ..Self::default() }
    }

    pub(super) fn keys() -> Self {
        Self { keys: true, ..Self::default() }
    }

    pub(super) fn users(names: impl IntoIterator<Item = String>) -> Self {
        Self { users: Users::Named(names.into_iter().collect()), ..Self::default() }
    }

    /// Returns whether there is nothing to read.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether it includes more than the keys and individual users.
    pub(super) fn has_lists(&self) -> bool {
        self.roles || self.tenants || self.missed || self.users == Users::All
    }

    /// Removes and returns all of it; everything if events are missing.
    pub(super) fn take_all(&mut self) -> Self {
        let mut all = std::mem::take(self);
        if all.missed {
            all = Self { keys: true, missed: true, ..Self::contents() };
        }
        all
    }

    /// Removes and returns the keys and the users listed by name; lists stay.
    pub(super) fn take_single(&mut self) -> Self {
        let users = if self.users == Users::All { Users::default() } else { std::mem::take(&mut self.users) };
        Self { keys: std::mem::take(&mut self.keys), users, ..Self::default() }
    }

    /// Removes and returns roles and tenants.
    pub(super) fn take_lists(&mut self) -> Self {
        let [roles, tenants] = [&mut self.roles, &mut self.tenants].map(std::mem::take);
        Self { roles, tenants, ..Self::default() }
    }

    /// Removes and returns the keys, or the roles and tenants, or one of the users listed by name.
    pub(super) fn take_one(&mut self) -> Self {
        if std::mem::take(&mut self.keys) {
            return Self::keys();
        }
        let lists = self.take_lists();
        match &mut self.users {
            Users::Named(names) if lists.is_empty() => Self::users(names.pop_first()),
            _ => lists,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.keys |= other.keys;
        self.roles |= other.roles;
        self.tenants |= other.tenants;
        self.missed |= other.missed;
        self.users = std::mem::take(&mut self.users).and(other.users);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_taken_after_the_other() {
        let mut changed = Changed::users(["b", "a"].map(str::to_owned));
        changed.add(Changed { keys: true, ..Changed::lists() });
        let taken = std::iter::repeat_with(|| changed.take_one()).take_while(|one| !one.is_empty());
        let user = |name: &str| Changed::users([name.to_owned()]);
        assert_eq!(taken.collect::<Vec<_>>(), [Changed::keys(), Changed::lists(), user("a"), user("b")]);
        changed.add(Changed::contents());
        assert_eq!((changed.take_lists(), changed.take_one()), (Changed::lists(), Changed::default()));
        assert_eq!(changed.users, Users::All, "all of them are not one");
    }

    #[test]
    fn many_names_become_everybody() {
        let mut changed = Changed::default();
        (0..NAMES).for_each(|n| changed.add(Changed::users([n.to_string()])));
        assert_eq!(changed.users.named().count(), NAMES);
        changed.add(Changed::users(["one more".to_owned()]));
        assert_eq!(changed.users, Users::All);
        changed.add(Changed::keys());
        assert!(changed.keys && !changed.roles);
    }
}
