//! The authority: who is who, and what each may see and do, now.
//!
//! Contract: used through an `Arc` by any thread. Reading the present state takes no lock. [`Authority::reload`] replaces it
//! all or nothing: a bad file is refused and what was there stays. Whoever holds an [`Identity`] asks again for its
//! [`Access`] when [`Authority::generation`] has changed ([`Authority::changes`] tells when); a [`Revoked`] in answer
//! means that the connection has to go.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::access::{Access, Interner};
use super::certificate::CertificateName;
use super::claim::Claim;
use super::directory::Directory as Accounts;
use super::identity::{Identity, Revoked, Subject};
use super::issuers::{IssuerOptions, Issuers};
use super::keys::KeyRing;
use super::login::Logins;
use super::state::{State, own_rights};
use super::store::file::{Directory, Lock};
use super::store::{DEFAULT_PASSWORD, DEFAULT_USER, Store, StoreError};
use super::throttle::Limits;
use crate::clock;
use crate::overflow::RolePolicies;

/// How an [`Authority`] behaves; `docs/security.md`, "Limits".
#[derive(Debug, Clone)]
pub struct AuthOptions {
    /// How long a token lives if nobody says.
    pub token_ttl: Duration,
    /// The longest that a token may live.
    pub max_token_ttl: Duration,
    /// How many passwords may be tried.
    pub throttle: Limits,
    /// How many passwords are hashed at once; 0 means half as many as there are cores.
    pub hash_workers: usize,
    /// How many logins may wait for a hash worker before more are turned away.
    pub hash_queue: usize,
    /// For how long a password that was right is known without hashing it again; zero turns that off.
    pub password_cache: Duration,
    /// Whose tokens are taken besides our own.
    pub issuer: Option<IssuerOptions>,
    /// Where in a client's certificate its name stands.
    pub certificate_name: CertificateName,
}

impl Default for AuthOptions {
    fn default() -> Self {
        Self {
            token_ttl: Duration::from_hours(1),
            max_token_ttl: Duration::from_hours(90 * 24),
            throttle: Limits::default(),
            hash_workers: 0,
            hash_queue: 256,
            password_cache: Duration::from_mins(1),
            issuer: None,
            certificate_name: CertificateName::default(),
        }
    }
}

/// What was found when the data directory was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// There was no store, so one was made with the user `rocketskates` and its well-known password.
    pub created: bool,
}

/// See the module's text.
#[derive(Debug)]
pub struct Authority {
    pub(super) directory: Directory,
    pub(super) options: AuthOptions,
    pub(super) state: ArcSwap<State>,
    pub(super) interner: Interner,
    pub(super) logins: Logins,
    /// Users of the endpoint.
    accounts: ArcSwap<Accounts>,
    changes: watch::Sender<u64>,
    /// One reload at a time, so that an older version never replaces a newer one.
    reloading: Mutex<()>,
}

impl Authority {
    /// Opens the data directory; makes it, the first user and the token key if they are missing. Blocks.
    ///
    /// # Errors
    /// Everything that can be wrong with files.
    pub fn open(data_dir: &Path, options: AuthOptions) -> Result<(Self, Opened), StoreError> {
        let directory = Directory::new(data_dir);
        let lock = directory.lock()?;
        let (store, created) = match directory.read_store()? {
            Some(store) => (store, false),
            None => (first_store(&directory, &lock)?, true),
        };
        Ok((Self::start(directory, lock, store, options)?, Opened { created }))
    }

    /// Opens a data directory that has a store already: for commands, which must not make one where there is none by
    /// mistake. Blocks.
    ///
    /// # Errors
    /// As [`Authority::open`], and if there is no store.
    pub fn open_existing(data_dir: &Path, options: AuthOptions) -> Result<Self, StoreError> {
        let directory = Directory::new(data_dir);
        let store = directory.read_store()?.ok_or_else(|| directory.missing_store())?;
        let lock = directory.lock()?;
        Self::start(directory, lock, store, options)
    }

    fn start(directory: Directory, lock: Lock, store: Store, options: AuthOptions) -> Result<Self, StoreError> {
        let keys = match read_keys(&directory)? {
            Some(keys) => keys,
            None => new_keys(&directory, &lock, KeyRing::make(clock::now())?)?,
        };
        drop(lock);
        let issuers = read_issuers(&directory, &options)?;
        Ok(Self {
            logins: Logins::new(&options)?,
            directory,
            options,
            state: ArcSwap::from_pointee(State::new(1, store, keys, issuers)),
            interner: Interner::default(),
            accounts: ArcSwap::default(),
            changes: watch::Sender::new(1),
            reloading: Mutex::new(()),
        })
    }

    /// Reads the data directory again. Returns whether anything has changed. Blocks.
    ///
    /// # Errors
    /// A file that is missing or bad; everything stays as it was.
    pub fn reload(&self) -> Result<bool, StoreError> {
        let _one = self.reloading.lock();
        let store = self.directory.read_store()?.ok_or_else(|| self.directory.missing_store())?;
        let keys = read_keys(&self.directory)?.ok_or_else(|| self.directory.missing_keys())?;
        let issuers = read_issuers(&self.directory, &self.options)?;
        let last = self.state.load();
        if last.store == store && last.keys == keys && last.issuers == issuers {
            return Ok(false);
        }
        let generation = last.generation + 1;
        self.state.store(Arc::new(State::new(generation, store, keys, issuers)));
        self.changes.send_replace(generation);
        Ok(true)
    }

    /// Users of the endpoint, as they were last told.
    pub fn accounts(&self) -> Arc<Accounts> {
        self.accounts.load_full()
    }

    /// Replaces what is known of the endpoint's users, and tells those who hold rights.
    pub fn set_accounts(&self, accounts: Accounts) {
        self.accounts.store(Arc::new(accounts));
        self.changes.send_modify(|generation| *generation += 1);
    }

    /// The same with more users, whose rights nobody holds yet: nobody has to be told.
    pub fn add_accounts(&self, accounts: Accounts) {
        self.accounts.store(Arc::new(accounts));
    }

    /// Whether there is a user of the store with this name.
    pub fn has_user(&self, name: &str) -> bool {
        self.state.load().user(name).is_some()
    }

    /// A number that grows when users, roles, tenants or keys change.
    pub fn generation(&self) -> u64 {
        self.state.load().generation
    }

    /// Tells of every change by its generation.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What somebody may see and do now. Cheap after the first of its kind, but not for the delivery path: keep the answer
    /// until the generation changes.
    ///
    /// # Errors
    /// [`Revoked`] if the credentials would not be taken any more. Expiry is not looked at; see [`Identity::is_expired`].
    pub fn access(&self, identity: &Identity) -> Result<Arc<Access>, Revoked> {
        match &identity.subject {
            Subject::Account(holder) => {
                let state = self.state.load();
                self.accounts.load().access(&identity.conditions, holder, &state, &self.interner)
            }
            _ => self.state.load().access(identity, &self.interner),
        }
    }

    /// What the roles of this caller say of its websockets that do not follow.
    pub fn overflow(&self, caller: &Identity) -> RolePolicies {
        let state = self.state.load();
        match &caller.subject {
            Subject::Account(holder) => state.overflow_of(self.accounts.load().roles_of(holder)),
            subject => state.overflow(subject),
        }
    }

    /// Whether a REST request is granted: by the caller's claims, or by what every user may do for itself
    /// (`users/token,password,get/NAME` and `info/get`). A restricted token never allows to change the password.
    ///
    /// # Errors
    /// [`Revoked`], as [`Authority::access`].
    pub fn permits(&self, caller: &Identity, scope: &str, action: &str, specific: &str) -> Result<bool, Revoked> {
        let access = self.access(caller)?;
        if access.is_everything() {
            return Ok(true);
        }
        let wanted = Claim::of(scope, action, specific);
        let own = match &caller.subject {
            Subject::User(name) => own_rights(Some(name), !caller.restrictions.is_empty()),
            Subject::Account(holder) => holder.own_rights(),
            _ => own_rights(None, false),
        };
        Ok(access.grants(&wanted, &own))
    }

    /// Whether `rocketskates` still has its well-known password. Hashes, so it blocks.
    pub fn has_default_password(&self) -> bool {
        let state = self.state.load();
        let password = state.user(DEFAULT_USER).and_then(|(user, _)| user.password.as_ref());
        password.is_some_and(|hash| hash.verify(DEFAULT_PASSWORD))
    }

    /// Makes a new token key; the one that signed so far verifies until the next time. Blocks.
    ///
    /// # Errors
    /// Everything that can go wrong with files.
    pub fn rotate_keys(&self) -> Result<(), StoreError> {
        let lock = self.directory.lock()?;
        let keys = read_keys(&self.directory)?.ok_or_else(|| self.directory.missing_keys())?;
        new_keys(&self.directory, &lock, keys.rotated(clock::now())?)?;
        drop(lock);
        self.reload().map(|_| ())
    }
}

fn first_store(directory: &Directory, lock: &Lock) -> Result<Store, StoreError> {
    let store = Store::first()?;
    directory.write_store(lock, &store)?;
    Ok(store)
}

fn read_keys(directory: &Directory) -> Result<Option<KeyRing>, StoreError> {
    let Some(text) = directory.read_keys()? else { return Ok(None) };
    KeyRing::parse(&text).map(Some).map_err(|(line, reason)| directory.invalid_keys(line, reason))
}

fn read_issuers(directory: &Directory, options: &AuthOptions) -> Result<Option<Issuers>, StoreError> {
    let Some(issuer) = &options.issuer else { return Ok(None) };
    let text = directory.read_foreign(&issuer.jwks)?;
    let invalid = |(line, column, reason)| StoreError::Invalid { path: issuer.jwks.clone(), line, column, reason };
    Issuers::parse(issuer, text).map(Some).map_err(invalid)
}

fn new_keys(directory: &Directory, lock: &Lock, keys: KeyRing) -> Result<KeyRing, StoreError> {
    directory.write_keys(lock, &keys.to_text())?;
    Ok(keys)
}
