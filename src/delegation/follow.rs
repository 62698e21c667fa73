//! What has changed at the endpoint, as its stream tells it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::Delegation;
use super::source::Trouble;

/// The longest wait before what could not be read is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Names that are noted one by one; with more, all are read again.
const NAMES: usize = 1024;

/// What has to be read again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) keys: bool,
    pub(super) roles: bool,
    pub(super) tenants: bool,
    pub(super) users: Users,
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

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.contains(name),
            Self::All => true,
        }
    }

    fn and(self, other: Self) -> Self {
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
        Self { keys: true, roles: true, tenants: true, users: Users::All }
    }

    pub(super) fn keys() -> Self {
        Self { keys: true, ..Self::default() }
    }

    pub(super) fn users(names: impl IntoIterator<Item = String>) -> Self {
        Self { users: Users::Named(names.into_iter().collect()), ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        self.keys |= other.keys;
        self.roles |= other.roles;
        self.tenants |= other.tenants;
        self.users = std::mem::take(&mut self.users).and(other.users);
    }
}

impl Delegation {
    /// Takes note of an event of the stream. Neither blocks nor asks anybody.
    pub fn saw(&self, kind: &str, action: &str, key: &str) {
        let changed = match (kind, action) {
            ("users", _) => {
                self.verdicts.forget_user(key);
                Changed::users([key.to_owned()])
            }
            ("roles", _) => Changed { roles: true, ..Changed::default() },
            ("tenants", _) => Changed { tenants: true, ..Changed::default() },
            ("preferences", _) => Changed::keys(),
            // Nobody knows what was missed.
            ("hydrant", "gap") => {
                self.verdicts.doubt();
                Changed::everything()
            }
            _ => return,
        };
        self.changed.lock().add(changed);
        self.told.notify_one();
    }

    /// Reads again what has changed, and everything once in a while, until told to stop.
    pub async fn follow(&self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow_on() => {}
            // Nobody is left to tell if it fails.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn follow_on(&self) {
        let mut pause = Duration::from_millis(500);
        loop {
            let changed = std::mem::take(&mut *self.changed.lock());
            if let Err(trouble) = self.read_all(&changed).await {
                tracing::warn!(%trouble, "the endpoint does not tell its users, roles and tenants");
                self.changed.lock().add(changed);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            pause = Duration::from_millis(500);
            if timeout(self.limits.refresh, self.told.notified()).await.is_err() {
                self.changed.lock().add(Changed::everything());
            }
        }
    }

    /// Users one by one, so that logins in between do not wait for all of them.
    async fn read_all(&self, changed: &Changed) -> Result<(), Trouble> {
        let accounts = self.authority.accounts();
        let known = accounts.entries().users.keys();
        let names: Vec<&String> = known.filter(|name| changed.users.has(name)).collect();
        self.read(&Changed { users: Users::default(), ..*changed }).await?;
        for name in names {
            self.read(&Changed::users([name.clone()])).await?;
        }
        Ok(())
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
