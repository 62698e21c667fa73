//! The authority: authenticates callers and decides what each may see and do.
//!
//! Contract: shared by all threads through an `Arc`; reading the current state takes no lock, except that
//! [`Authority::revision`] takes a read lock for one load. Users, token keys and the issuer's keys are separate files.
//! [`Authority::reload`] takes each file completely or not at all, whatever is wrong with the others, and
//! [`Authority::refusals`] lists the changes that are not in force. The holder of an [`Identity`] asks for its
//! [`Access`] again when [`Authority::revision`] has changed ([`Authority::changes`] signals it); if the answer is a
//! [`RevokedError`], the connection must be closed.
//!
//! The generation changes with this server's files. While it is unchanged, verified credentials of the server's own
//! users need not be verified again. The revision also grows when the endpoint's users change.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::access::{Access, Interner};
use super::checker::PasswordChecker;
use super::claim::Claim;
use super::contents::{first_keys, first_store, new_keys, read_issuers, read_keys};
use super::directory::{Directory as Accounts, own_rights_of};
use super::identity::{Identity, RevokedError, Subject};
use super::keys::{Hasher, salt};
use super::options::AuthOptions;
use super::password::PasswordHash;
use super::state::{State, own_rights};
use super::store::file::Directory;
use super::store::{DEFAULT_PASSWORD, DEFAULT_USER, Store, StoreError};
use super::watched::{AuthFile, Watched};
use crate::clock;
use crate::overflow::RolePolicies;

/// The result of opening the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Whether there was no store, so that one was created with user `rocketskates` and its well-known password.
    pub created: bool,
}

/// Rights as they were at some moment.
#[derive(Debug, Clone)]
pub struct Rights {
    access: Arc<Access>,
    /// The revision of all rights before these were looked up.
    revision: u64,
}

impl Rights {
    /// Returns what they let their holder see and do.
    pub fn access(&self) -> &Access {
        &self.access
    }
}

/// Authenticates callers and compiles their rights. Shared by all threads; see the module for its locks.
#[derive(Debug)]
pub struct Authority {
    pub(super) directory: Directory,
    pub(super) options: AuthOptions,
    pub(super) state: ArcSwap<State>,
    pub(super) interner: Interner,
    /// Hashes names and passwords with a key that is valid only within this process.
    pub(super) hasher: Hasher,
    /// Keys the hashes of what connections show ([`super::remembered`]). Valid only within this process.
    pub(super) salt: [u8; 32],
    /// The number of credentials verified so far.
    pub(super) verified: AtomicU64,
    /// Hash to verify for unknown users while no user has a password.
    pub(super) decoy: PasswordHash,
    pub(super) checker: PasswordChecker,
    /// Users of the endpoint.
    accounts: ArcSwap<Accounts>,
    changes: watch::Sender<u64>,
    /// What is known of each file, indexed by [`AuthFile`].
    pub(super) watched: [Watched; AuthFile::ALL.len()],
    /// Held while a file that has been read is put in force.
    pub(super) replacing: Mutex<()>,
}

impl Authority {
    /// Opens the data directory. Creates it, the first user and the token key if they are missing. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] if a file cannot be read or written or is invalid.
    pub fn open(data_dir: &Path, options: AuthOptions) -> Result<(Self, Opened), StoreError> {
        let directory = Directory::new(data_dir);
        if let Some(store) = directory.read_store()? {
            return Ok((Self::start(directory, store, options)?, Opened { created: false }));
        }
        let lock = directory.lock()?;
        let (store, created) = match directory.read_store()? {
            Some(store) => (store, false),
            None => (first_store(&directory, &lock)?, true),
        };
        drop(lock);
        Ok((Self::start(directory, store, options)?, Opened { created }))
    }

    /// Opens a data directory that already has a store. For commands, which must not create one by mistake. Blocks.
    ///
    /// # Errors
    /// Like [`Authority::open`], and if there is no store.
    pub fn open_existing(data_dir: &Path, options: AuthOptions) -> Result<Self, StoreError> {
        let directory = Directory::new(data_dir);
        let store = directory.read_store()?.ok_or_else(|| directory.missing_store())?;
        Self::start(directory, store, options)
    }

    fn start(directory: Directory, store: Store, options: AuthOptions) -> Result<Self, StoreError> {
        if store.is_empty() {
            return Err(directory.no_users());
        }
        directory.clean();
        let keys = match read_keys(&directory)? {
            Some(keys) => keys,
            None => first_keys(&directory)?,
        };
        let issuers = read_issuers(&directory, &options, None)?;
        Ok(Self {
            hasher: Hasher::random()?,
            salt: salt()?,
            verified: AtomicU64::new(0),
            decoy: PasswordHash::make("nobody has this password")?,
            checker: PasswordChecker::start(&options).map_err(StoreError::Threads)?,
            directory,
            options,
            state: ArcSwap::from_pointee(State::new(Arc::new(store), Arc::new(keys), issuers)),
            interner: Interner::default(),
            accounts: ArcSwap::default(),
            changes: watch::Sender::new(1),
            watched: Default::default(),
            replacing: Mutex::new(()),
        })
    }

    /// Returns the users of the endpoint as last reported.
    pub fn accounts(&self) -> Arc<Accounts> {
        self.accounts.load_full()
    }

    /// Replaces the endpoint's users and notifies holders of rights.
    pub fn set_accounts(&self, accounts: Accounts) {
        self.add_accounts(accounts);
        self.signal();
    }

    /// Notifies the holders of rights. To be called after the change.
    pub(super) fn signal(&self) {
        self.changes.send_modify(|revision| *revision += 1);
    }

    /// Like [`Authority::set_accounts`], for added users whose rights nobody holds yet: notifies nobody.
    pub fn add_accounts(&self, accounts: Accounts) {
        self.accounts.store(Arc::new(accounts));
    }

    /// Returns whether the store has a user with this name.
    pub fn has_user(&self, name: &str) -> bool {
        self.state.load().user(name).is_some()
    }

    /// Returns a number that grows when users, roles, tenants or keys of this server change, but not the endpoint's.
    pub fn generation(&self) -> u64 {
        self.state.load().generation
    }

    /// Returns a number that grows when anybody's rights may have changed.
    pub fn revision(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Subscribes to changes. The receiver sees the revision after the latest change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns what a caller may see and do now. Cheap after the first call for a set of claims, but not meant for the
    /// delivery path: cache the result until the revision changes.
    ///
    /// # Errors
    /// [`RevokedError`] if the credentials would no longer be accepted. Does not check expiry; see
    /// [`Identity::is_expired`].
    pub fn access(&self, identity: &Identity) -> Result<Arc<Access>, RevokedError> {
        match &identity.subject {
            Subject::Account(holder) => {
                let state = self.state.load();
                self.accounts.load().access(&identity.conditions, holder, &state, &self.interner)
            }
            _ => self.state.load().access(identity, &self.interner),
        }
    }

    /// Like [`Authority::access`], for a later [`Authority::renew`].
    ///
    /// # Errors
    /// [`RevokedError`], like [`Authority::access`].
    pub fn rights(&self, identity: &Identity) -> Result<Rights, RevokedError> {
        let revision = self.revision();
        Ok(Rights { access: self.access(identity)?, revision })
    }

    /// Returns what a caller may see and do now. Looks it up only if anybody's rights have changed since `rights`: a
    /// token's take milliseconds to compile.
    ///
    /// # Errors
    /// [`RevokedError`], like [`Authority::access`].
    pub fn renew(&self, identity: &Identity, rights: Rights) -> Result<Arc<Access>, RevokedError> {
        if rights.revision == self.revision() { Ok(rights.access) } else { self.access(identity) }
    }

    /// Returns what a user of the store may see and do now; `None` if there is no such user.
    pub fn access_of_user(&self, name: &str) -> Option<Arc<Access>> {
        self.state.load().access_of_user(name, &self.interner)
    }

    /// Returns the names of the store's roles that show an event.
    pub fn roles_that_show(&self, kind: &str, action: &str, key: &str, machine: Option<&str>) -> Vec<String> {
        self.state.load().roles_that_show(kind, action, key, machine)
    }

    /// Returns the policies that the caller's roles set for its slow consumers.
    pub fn overflow(&self, caller: &Identity) -> RolePolicies {
        let state = self.state.load();
        match &caller.subject {
            Subject::Account(holder) => state.overflow_of(self.accounts.load().roles_of(holder)),
            subject => state.overflow(subject),
        }
    }

    /// Returns whether a REST request is granted: by the caller's claims, or by the rights that every user has over
    /// itself (`users/token,password,get/NAME` and `info/get`). A restricted token never allows changing the password.
    ///
    /// # Errors
    /// [`RevokedError`], like [`Authority::access`].
    pub fn permits(&self, caller: &Identity, scope: &str, action: &str, specific: &str) -> Result<bool, RevokedError> {
        Ok(Self::grants(caller, &*self.access(caller)?, scope, action, specific))
    }

    /// Like [`Authority::permits`], for several questions in a row: `access` is what [`Authority::access`] returned.
    pub fn grants(caller: &Identity, access: &Access, scope: &str, action: &str, specific: &str) -> bool {
        if access.is_everything() {
            return true;
        }
        let own = match &caller.subject {
            Subject::User(name) => own_rights(Some(name), !caller.restrictions.is_empty()),
            Subject::Account(holder) => own_rights_of(holder),
            _ => own_rights(None, false),
        };
        access.grants(&Claim::of(scope, action, specific), &own)
    }

    /// Returns whether `rocketskates` still has its well-known password. Blocks, because it hashes.
    pub fn has_default_password(&self) -> bool {
        let state = self.state.load();
        let password = state.user(DEFAULT_USER).and_then(|(user, _)| user.password.as_ref());
        password.is_some_and(|hash| hash.verify(DEFAULT_PASSWORD))
    }

    /// Creates a new token key. The previous key verifies tokens until the next rotation. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] if a file cannot be read or written or is invalid.
    pub fn rotate_keys(&self) -> Result<(), StoreError> {
        let lock = self.directory.lock()?;
        let keys = read_keys(&self.directory)?.ok_or_else(|| self.directory.missing_keys())?;
        new_keys(&self.directory, &lock, keys.rotated(clock::now())?)?;
        drop(lock);
        self.reload_file(AuthFile::TokenKeys).map(|_| ())
    }
}
