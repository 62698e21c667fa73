//! What must be read again at the endpoint.
//!
//! Pure. Changes accumulate; beyond [`NAMES`] names all accounts are read again, so the set stays bounded.

use std::collections::BTreeSet;

/// Names that are noted one by one; with more, all are read again.
const NAMES: usize = 1024;

/// What has to be read again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing to read")]
pub(super) struct Changed {
    pub(super) keys: bool,
    pub(super) roles: bool,
    pub(super) tenants: bool,
    pub(super) users: Users,
    /// Events are missing: everything may have changed.
    pub(super) missed: bool,
}

/// Whose accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Users {
    /// Theirs.
    Named(BTreeSet<String>),
    /// Everybody's that is known.
    All,
}

impl Default for Users {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Users {
    /// The names, if they are.
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

    /// What a content pack may have brought.
    pub(super) fn contents() -> Self {
        Self { users: Users::All, ..Self::lists() }
    }

    /// Roles and tenants, which are read together.
    pub(super) fn lists() -> Self {
        Self { roles: true, tenants: true, ..Self::default() }
    }

    pub(super) fn keys() -> Self {
        Self { keys: true, ..Self::default() }
    }

    pub(super) fn users(names: impl IntoIterator<Item = String>) -> Self {
        Self { users: Users::Named(names.into_iter().collect()), ..Self::default() }
    }

    /// Whether there is nothing to read.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it takes more than the keys and a few users.
    pub(super) fn has_lists(&self) -> bool {
        self.roles || self.tenants || self.missed || self.users == Users::All
    }

    /// All of it; if events are missing, everything.
    pub(super) fn take_all(&mut self) -> Self {
        let mut all = std::mem::take(self);
        if all.missed {
            all = Self { keys: true, missed: true, ..Self::contents() };
        }
        all
    }

    /// The keys and the users that are named; lists stay.
    pub(super) fn take_single(&mut self) -> Self {
        let users = if self.users == Users::All { Users::default() } else { std::mem::take(&mut self.users) };
        Self { keys: std::mem::take(&mut self.keys), users, ..Self::default() }
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
