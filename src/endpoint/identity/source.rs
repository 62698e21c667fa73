//! Reads users, roles, tenants and preferences from the endpoint.
//!
//! Contract: data read together takes effect together, except for the [`Keys`] of tokens, which count at once. An older
//! answer never replaces a newer one: lists, and accounts that are already known, are read by one task at a time
//! ([`Delegation::read`]). Unknown accounts are read by the logins that need them, many at a time; they are only ever
//! added. Each wait, for the turn and for the endpoint, lasts at most [`ANSWER_TIMEOUT`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;

use super::Delegation;
use super::changed::Changed;
use super::error::{ANSWER_TIMEOUT, Failures, IdentityError, USER};
use super::keys::Keys;
use crate::auth::directory::{Account, Entries, Reader, Rows, TenantOf, accounts, read_plain, roles, tenants};
use crate::auth::{AuthError, Claim, Secret};
use crate::client::Login;
use crate::clock;
use crate::endpoint::http::{UpstreamError, Whole};
use crate::tasks;

/// The claims that the service needs so that the endpoint omits nothing from its answers.
const NEEDED: [&str; 3] = ["tenants/list/*", ROLES, "users/get/*"];
const ROLES: &str = "roles/list/*";

/// Maximum length of an answer in bytes: of a list, of which one is read at a time.
const LONGEST: usize = 64 << 20;

/// The same of one user, because many logins read one each at the same time.
const LONGEST_USER: usize = 1 << 20;

/// Data that was read, to be applied to the known entries.
#[derive(Debug, Default)]
struct Update {
    keys: Option<Keys>,
    roles: Option<BTreeMap<String, Vec<Claim>>>,
    tenants: Option<BTreeMap<String, TenantOf>>,
    /// By name; `None` if the endpoint has no such user.
    users: BTreeMap<String, Option<Account>>,
}

impl Update {
    fn over(&self, known: &Entries) -> Entries {
        let mut entries = known.clone();
        if let Some(keys) = &self.keys {
            entries.set_key(keys.token());
        }
        // Lists that have not changed stay shared with the former version.
        if let Some(roles) = self.roles.as_ref().filter(|roles| **roles != *entries.roles) {
            entries.roles = Arc::new(roles.clone());
        }
        if let Some(tenants) = self.tenants.as_ref().filter(|tenants| **tenants != *entries.tenants) {
            entries.tenants = Arc::new(tenants.clone());
        }
        for (name, account) in &self.users {
            match account {
                Some(account) => drop(entries.users.insert(name.clone(), account.clone())),
                None => drop(entries.users.remove(name)),
            }
        }
        entries
    }
}

impl Delegation {
    /// Reads what has changed, and everything never read so far, and applies it. Returns what must be read again soon,
    /// because its answer was unusable.
    pub(super) async fn read(&self, changed: &Changed) -> Result<Changed, IdentityError> {
        let _turn = self.reading.lock().await;
        self.read_in_turn(changed).await
    }

    async fn read_in_turn(&self, changed: &Changed) -> Result<Changed, IdentityError> {
        let first = !self.has_read();
        let result = self.read_update(changed, first).await;
        match &result {
            // An answer without the keys, such as a page of a server in front of the endpoint, is no data.
            Ok(again) if again.keys && !first && *changed == Changed::keys() => self.health.answered(),
            Ok(_) => {
                self.note_heard();
                *self.failed.lock() = Failures::default();
                if first {
                    self.health.read();
                } else {
                    self.health.answered();
                }
            }
            Err(failure) => {
                if matches!(failure, IdentityError::Lacks { .. } | IdentityError::Opaque) {
                    // The known data is not trusted until all of it has been read again.
                    self.has_read.store(false, Ordering::Release);
                }
                self.health.failed(failure);
            }
        }
        result
    }

    async fn read_update(&self, changed: &Changed, first: bool) -> Result<Changed, IdentityError> {
        let own = self.upstream.own_credential()?;
        let (mut update, mut again) = (Update::default(), Changed::default());
        let number = self.lists_begun.fetch_add(1, Ordering::AcqRel) + 1;
        if changed.keys || first {
            let keys = self.read_keys(&own).await?;
            again.keys = keys.is_none();
            let known = keys.unwrap_or_else(|| self.keys.lock().clone());
            update.keys = Some(known.read_now());
            // Applied even if the rest fails: a secret is changed because somebody else may know it.
            self.put_in_force(&update);
        }
        let whole = changed.roles || changed.tenants || first;
        if whole {
            update.tenants = Some(self.read_tenants(&own).await?);
        }
        let mut in_doubt = whole;
        for name in changed.users.named() {
            let account = self.read_user(name, &own).await?;
            in_doubt |= account.as_ref().is_none_or(|account| self.has_news_of_roles(account));
            update.users.insert(name.clone(), account);
        }
        if in_doubt {
            // Read last, so that a claim lost before this read is noticed.
            let roles = self.read_roles(&own).await?;
            self.note_missing(&update, &roles, whole);
            update.roles = Some(roles);
            self.check_own(&mut update, &own).await?;
        }
        self.put_in_force(&update);
        if update.tenants.is_some() && update.roles.is_some() {
            self.lists_read.store(number, Ordering::Release);
        }
        self.has_read.store(true, Ordering::Release);
        Ok(again)
    }

    /// Returns whether a user has a role that is neither known nor known to be missing. It is then read with the user:
    /// an unknown role grants nothing.
    fn has_news_of_roles(&self, account: &Account) -> bool {
        let (known, missing) = (self.authority.accounts(), self.missing_roles.lock());
        account.roles.iter().any(|role| !known.entries().has_role(role) && !missing.contains(role))
    }

    /// Records roles of users that the endpoint does not have, so that they are not looked up each time. They are
    /// looked up again when the `whole` list is read.
    fn note_missing(&self, update: &Update, roles: &BTreeMap<String, Vec<Claim>>, whole: bool) {
        let mut missing = self.missing_roles.lock();
        if whole {
            missing.clear();
        }
        let named = update.users.values().flatten().flat_map(|account| &account.roles);
        missing.extend(named.filter(|role| !roles.contains_key(*role)).cloned());
    }

    /// Works for a while on this thread: a list may have a hundred thousand machines.
    fn at_length<T>(&self, work: impl FnOnce() -> T) -> T {
        self.wake.wake();
        tasks::block_in_place(work)
    }

    fn put_in_force(&self, update: &Update) {
        if let Some(keys) = update.keys.clone() {
            *self.keys.lock() = keys;
        }
        self.at_length(|| {
            let _alone = self.putting.lock();
            let last = self.authority.accounts();
            let entries = update.over(last.entries());
            if entries != *last.entries() {
                self.authority.set_accounts(last.next(entries));
            }
        });
    }

    /// Reads users that are not known yet; returns `None` if the endpoint lacks any of them. Takes no turn, so many
    /// first logins do not wait for one another.
    async fn meet(&self, names: &[String]) -> Result<Option<BTreeMap<String, Account>>, IdentityError> {
        let own = self.upstream.own_credential()?;
        let mut users = BTreeMap::new();
        for name in names {
            let Some(account) = self.read_user(name, &own).await? else { return Ok(None) };
            users.insert(name.clone(), account);
        }
        self.note_heard();
        Ok(Some(users))
    }

    /// Adds users that are not known. No rights depend on them yet, so no one is notified. If events about users have
    /// arrived since `reported`, the users are read again: one may have changed after its answer was written, when it
    /// was not yet known as one to read again. Only known users are read, so they are compared once they are known.
    fn add(&self, users: BTreeMap<String, Account>, reported: u64) {
        let names: Vec<String> = users.keys().cloned().collect();
        self.put_new(users);
        if self.users_reported.load(Ordering::Acquire) != reported {
            self.note(Changed::users(names));
        }
    }

    fn put_new(&self, users: BTreeMap<String, Account>) {
        self.at_length(|| {
            let _alone = self.putting.lock();
            let last = self.authority.accounts();
            let mut entries = last.entries().clone();
            for (name, account) in users {
                entries.users.entry(name).or_insert(account);
            }
            self.authority.add_accounts(last.next(entries));
        });
    }

    pub(super) fn is_own(&self, name: &str) -> bool {
        matches!(self.upstream.login(), Login::Password { user, .. } if user == name)
    }

    /// Verifies that the service may read everything that is read here. To a caller without the right, the endpoint
    /// answers an empty list for lists and 404 for objects.
    async fn check_own(&self, update: &mut Update, own: &HeaderValue) -> Result<(), IdentityError> {
        let reader = match self.upstream.login() {
            Login::Password { user, .. } => Reader::User(user.clone()),
            Login::Token(token) => {
                let token = Secret::new(token.read()?.reveal());
                let keys = update.keys.clone().unwrap_or_else(|| self.keys.lock().clone());
                let opened = keys.open(&token, clock::now()).and_then(Result::ok);
                Reader::Token(Box::new(opened.or_else(|| read_plain(&token)).ok_or(IdentityError::Opaque)?))
            }
        };
        if let Some(user) = reader.user() {
            let account = self.read_user(user, own).await?;
            update.users.insert(user.to_owned(), account);
        }
        let (mut claims, no_roles) = self.at_length(|| {
            let last = self.authority.accounts();
            let entries = update.over(last.entries());
            let no_roles = entries.roles.is_empty();
            (last.next(entries).lacking(&reader, &NEEDED), no_roles)
        });
        if no_roles {
            // Every endpoint has roles; without seeing them, the other claims cannot be determined.
            claims.retain(|claim| *claim == ROLES);
        }
        if claims.is_empty() { Ok(()) } else { Err(IdentityError::Lacks { claims }) }
    }

    /// Reads a user; returns `None` if the endpoint has none of that name, or answers with too many bytes. The latter
    /// is not an error: after an error a user keeps its former rights, and some users can lengthen this answer.
    async fn read_user(&self, name: &str, own: &HeaderValue) -> Result<Option<Account>, IdentityError> {
        let path = format!("users/{}", utf8_percent_encode(name, NON_ALPHANUMERIC));
        let answer = match self.get(&path, own, LONGEST_USER).await {
            Err(IdentityError::Away(UpstreamError::LongAnswer { allowed, .. })) => {
                self.lines.long_user(name, allowed);
                return Ok(None);
            }
            answer => answer?,
        };
        if answer.is_missing() {
            return Ok(None);
        }
        let account = self.parse(USER, &answer, accounts)?.into_iter().find(|(row, _)| row == name);
        account.map(|(_, account)| Some(account)).ok_or(IdentityError::Unreadable { what: USER })
    }

    async fn read_roles(&self, own: &HeaderValue) -> Result<BTreeMap<String, Vec<Claim>>, IdentityError> {
        let answer = self.get("roles", own, LONGEST).await?;
        if answer.is_missing() {
            return Err(IdentityError::NoDirectory);
        }
        let Rows { good, bad } = self.parse("roles", &answer, roles)?;
        self.lines.bad_roles(&bad);
        Ok(good)
    }

    /// Reads the tenants. Endpoints without tenants have no such path. Once there were tenants, a 404 is an error of a
    /// server in front of the endpoint and does not remove them.
    async fn read_tenants(&self, own: &HeaderValue) -> Result<BTreeMap<String, TenantOf>, IdentityError> {
        let answer = self.get("tenants", own, LONGEST).await?;
        if answer.is_missing() && self.authority.accounts().entries().tenants.is_empty() {
            return Ok(BTreeMap::new());
        }
        let Rows { mut good, bad } = self.parse("tenants", &answer, tenants)?;
        self.lines.bad_tenants(&bad);
        // A tenant whose row is unreadable still hides what it hid before.
        let known = self.authority.accounts();
        let kept = bad.iter().filter_map(|name| known.entries().tenants.get_key_value(name));
        kept.for_each(|(name, tenant)| drop(good.insert(name.clone(), tenant.clone())));
        Ok(good)
    }

    /// Ensures that these users are known, if they exist.
    pub(super) async fn need<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<(), AuthError> {
        let (begun, reported) = (self.lists_begun.load(Ordering::Acquire), self.users_reported.load(Ordering::Acquire));
        if !self.has_read() {
            self.read_soon(&Changed::default(), || self.has_read()).await?;
        }
        let known = self.authority.accounts();
        let unknown = |name: &&str| !known.entries().users.contains_key(*name);
        let missing: Vec<String> = names.into_iter().filter(unknown).map(str::to_owned).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if let Some(users) = self.in_time(self.meet(&missing)).await? {
            // A new user may have a tenant or a role that is new too.
            let read = || self.lists_read.load(Ordering::Acquire) > begun;
            self.read_soon(&Changed::lists(), read).await?;
            self.add(users, reported);
            return Ok(());
        }
        // Or the service can no longer see them, which affects all users.
        self.read_soon(&Changed::users(missing), || false).await
    }

    /// Like [`read`](Self::read), for a waiting caller; skipped if `is_there` returns true when its turn comes. A turn
    /// that does not come in time is no failure of the endpoint: whoever has it reports one.
    pub(super) async fn read_soon(&self, changed: &Changed, is_there: impl Fn() -> bool) -> Result<(), AuthError> {
        if let Some(error) = self.failed_lately() {
            return Err(error);
        }
        let turn = timeout(ANSWER_TIMEOUT, self.reading.lock()).await;
        let Ok(_turn) = turn else { return Err(AuthError::EndpointAway) };
        if is_there() {
            return Ok(());
        }
        self.retry_later(self.in_time(self.read_in_turn(changed)).await?);
        Ok(())
    }

    /// Limits the wait for a read; one that is cancelled has changed nothing. After a recent failure it is not retried:
    /// anyone can present a token.
    async fn in_time<T>(&self, reading: impl Future<Output = Result<T, IdentityError>>) -> Result<T, AuthError> {
        if let Some(error) = self.failed_lately() {
            return Err(error);
        }
        match timeout(ANSWER_TIMEOUT, reading).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(failure)) => Err(self.note_failure(&failure)),
            Err(_) => Err(self.note_failure(&IdentityError::Late)),
        }
    }

    fn note_failure(&self, failure: &IdentityError) -> AuthError {
        self.lines.unread(failure);
        let error = failure.refusal();
        if failure.is_everybodys() {
            self.failed.lock().reading = Some((Instant::now(), error));
            self.health.failed(failure);
        }
        error
    }

    /// Reads an answer of at most `longest` bytes with the service's credential.
    pub(super) async fn get(&self, path: &str, own: &HeaderValue, longest: usize) -> Result<Whole, IdentityError> {
        let path = format!("/api/v3/{path}");
        let asked = self.upstream.get(&path, own, longest);
        Ok(timeout(ANSWER_TIMEOUT, asked).await.map_err(|_| IdentityError::Late)??)
    }

    fn parse<T>(
        &self,
        what: &'static str,
        answer: &Whole,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, IdentityError> {
        if answer.status != StatusCode::OK {
            return Err(IdentityError::Refused { what, status: answer.status });
        }
        self.at_length(|| parse(&answer.body)).ok_or(IdentityError::Unreadable { what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::identity::tests::delegation;

    /// Whoever reads again what has changed reads only users that are known.
    #[tokio::test]
    async fn a_user_that_is_to_be_read_again_is_known_by_then() {
        let data = tempfile::tempdir().unwrap();
        let delegation = delegation(data.path(), "https://127.0.0.1:1");
        // So many that adding one takes a while.
        let many = (0..20_000).map(|n| (format!("user-{n}"), Account::default())).collect();
        delegation.add(many, 0);
        delegation.saw("users", "delete", "alice");
        delegation.changed.lock().take_all();
        std::thread::scope(|scope| {
            scope.spawn(|| delegation.add([("alice".to_owned(), Account::default())].into(), 0));
            while delegation.changed.lock().is_empty() {
                std::hint::spin_loop();
            }
            assert!(delegation.authority.accounts().entries().users.contains_key("alice"));
        });
    }

    /// Events that name no user may concern one who is just logging in.
    #[tokio::test]
    async fn a_user_whom_an_event_may_concern_is_read_again() {
        let data = tempfile::tempdir().unwrap();
        let delegation = delegation(data.path(), "https://127.0.0.1:1");
        for (kind, action, again) in
            [("users", "save", true), ("contents", "create", true), ("hydrant", "gap", true), ("roles", "save", false)]
        {
            let reported = delegation.users_reported.load(Ordering::Acquire);
            delegation.saw(kind, action, "x");
            delegation.changed.lock().take_all();
            delegation.add([(kind.to_owned(), Account::default())].into(), reported);
            let changed = delegation.changed.lock().take_all();
            assert_eq!(changed.users.has(kind), again, "{kind}.{action}");
        }
    }

    /// Such an answer may have been about the former password. The two meet at every point in some round.
    #[tokio::test]
    async fn what_was_answered_before_an_event_is_not_cached() {
        let data = tempfile::tempdir().unwrap();
        let delegation = delegation(data.path(), "https://127.0.0.1:1");
        delegation.add([("alice".to_owned(), Account::default())].into(), 0);
        delegation.note_heard();
        let alice = delegation.authority.accounts().user("alice").unwrap();
        let (key, barrier) = ([7; 32], std::sync::Barrier::new(2));
        delegation.keep(key, &alice, 0);
        assert!(delegation.known(&key).is_some());
        let login = |reported| {
            barrier.wait();
            delegation.keep(key, &alice, reported);
        };
        for round in 0..2_000 {
            let reported = delegation.users_reported.load(Ordering::Acquire);
            std::thread::scope(|scope| {
                scope.spawn(|| login(reported));
                barrier.wait();
                delegation.saw("users", "save", "alice");
            });
            assert!(delegation.known(&key).is_none(), "round {round}");
        }
    }

    /// Somebody may keep the turn busy with tokens of a user who is gone.
    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_says_nothing_about_the_endpoint() {
        let data = tempfile::tempdir().unwrap();
        let delegation = delegation(data.path(), "https://127.0.0.1:1");
        let _turn = delegation.reading.lock().await;
        let waited = delegation.read_soon(&Changed::lists(), || false).await;
        assert_eq!(waited, Err(AuthError::EndpointAway));
        assert_eq!(delegation.failed_lately(), None, "others are not refused for it");
        assert_eq!(delegation.report().error, "");
    }
}
