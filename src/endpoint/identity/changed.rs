//! What has to be read again at the endpoint.
//!
//! Pure. Changes add up; with more than [`NAMES`] names everybody's account is read again, so that it stays bounded.

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
    pub(super) fn everything() -> Self {
        Self { keys: true, roles: true, tenants: true, users: Users::All, missed: false }
    }

    pub(super) fn missed() -> Self {
        Self { missed: true, ..Self::default() }
    }

    pub(super) fn keys() -> Self {
        Self { keys: true, ..Self::default() }
    }

    pub(super) fn users(names: impl IntoIterator<Item = String>) -> Self {
        Self { users: Users::Named(names.into_iter().collect()), ..Self::default() }
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
