//! Users of an endpoint: their known roles and tenants, and the rights that follow.
//!
//! Contract: pure, like [`State`](super::state) for the users of the store. A [`Directory`] is one version. It is
//! replaced as a whole by [`Authority::set_accounts`](super::Authority::set_accounts), after which all rights are
//! evaluated again. It contains no passwords and no secrets: of a user's secret it stores a [`Fingerprint`], which is
//! compared in constant time. Claims come from the endpoint; limits come from the store, which may have roles of the
//! same names.

mod identity_cache;
mod parse;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;

pub use super::account::{Account, TenantOf};
pub use identity_cache::{IdentityCache, Known};
pub use parse::{
    Rows, accounts, base_secret, is_info, is_issued_token, is_preferences, issued_token, roles, system_secret, tenants,
};
pub use token::{EndpointToken, TokenKey, TokenKeyError, read_plain};

use super::access::{Access, Content, Interner, Tenant};
use super::account::{Fingerprints, Holder};
use super::claim::Claim;
use super::expiry::Expiry;
use super::identity::{Conditions, Identity, RevokedError, Subject};
use super::keys::Fingerprint;
use super::memo::Memo;
use super::principal::{Principal, PrincipalError};
use super::state::{State, own_rights};
use super::store::SUPERUSER;

/// The content of a directory. Versions share what has not changed: tenants may list a hundred thousand machines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// Claims by role.
    pub roles: Arc<BTreeMap<String, Vec<Claim>>>,
    /// Tenants by name.
    pub tenants: Arc<BTreeMap<String, TenantOf>>,
    /// Users that were requested from the endpoint, by name.
    pub users: BTreeMap<String, Account>,
    /// Fingerprint of the key of tokens, if the endpoint reports the key.
    pub(super) key: Option<Fingerprint>,
}

/// The party that reads an endpoint.
#[derive(Debug)]
pub enum Reader {
    /// A user, with all its roles.
    User(String),
    /// The bearer of a token.
    Token(Box<EndpointToken>),
}

/// One immutable version of what is known about an endpoint's users. Holds fingerprints, never a password or a secret.
#[derive(Debug, Default)]
pub struct Directory {
    entries: Entries,
    tenants: Arc<Tenants>,
    /// Kept for one version of the store, because limits come from there.
    memo: Memo<Base>,
}

/// The input from which rights are compiled.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Base {
    Holder(Arc<Holder>),
    Class(Class),
}

/// Everything but the name that determines a user's rights: they are compiled once for all users with the same input.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Class {
    roles: BTreeSet<String>,
    tenant: Option<Arc<Tenant>>,
    /// The roles that a token names.
    named: Option<Vec<String>>,
}

/// Tenants, compiled.
#[derive(Debug, Default)]
struct Tenants {
    by_name: HashMap<String, Arc<Tenant>>,
    by_user: HashMap<String, Arc<Tenant>>,
}

impl Directory {
    /// Creates a directory.
    pub fn new(entries: Entries) -> Self {
        let tenants = Arc::new(Tenants::new(&entries.tenants, &Tenants::default()));
        Self { entries, tenants, memo: Memo::default() }
    }

    /// Creates the next version; compiles only tenants that have changed.
    #[must_use]
    pub fn next(&self, entries: Entries) -> Self {
        let tenants = if Arc::ptr_eq(&entries.tenants, &self.entries.tenants) {
            Arc::clone(&self.tenants)
        } else {
            Arc::new(Tenants::new(&entries.tenants, &self.tenants))
        };
        Self { entries, tenants, memo: Memo::default() }
    }

    /// Returns the content.
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Returns the identity of a user whose password the endpoint has accepted.
    ///
    /// # Errors
    /// [`RevokedError`] if there is no such user.
    pub fn user(&self, name: &str) -> Result<Identity, RevokedError> {
        let account = self.entries.users.get(name).ok_or(RevokedError::UserRemoved)?;
        let user: Arc<str> = name.into();
        let users = account.fingerprint.map(|fingerprint| (Arc::clone(&user), fingerprint)).into_iter().collect();
        let principal = Principal::endpoint_user(name).map_err(|_| RevokedError::UserRemoved)?;
        let holder = Holder { user: Some(user), direct: Vec::new(), roles: None };
        Ok(identity(principal, Expiry::NEVER, holder, Fingerprints { users, key: None, born: account.born }))
    }

    /// Returns the identity of the bearer of a token that has been verified.
    ///
    /// # Errors
    /// [`RevokedError`] if its user does not exist, or a secret in it is no longer that of its user.
    pub fn bearer(&self, token: &EndpointToken) -> Result<Identity, RevokedError> {
        let principal = token.principal().map_err(|_: PrincipalError| RevokedError::UserRemoved)?;
        let user = token.user();
        let born = user.and_then(|user| self.entries.users.get(user)?.born);
        let fingerprints = Fingerprints { born, ..token.fingerprints() };
        let found = identity(principal, Expiry::at(token.expires_at), holder_of(token), fingerprints);
        self.recheck(found.conditions.endpoint.as_deref(), user)?;
        Ok(found)
    }

    /// Returns whether a token contains secrets of users whose secrets the endpoint does not report, so that only the
    /// endpoint can compare them.
    pub fn hides_secrets_of(&self, token: &EndpointToken) -> bool {
        let hidden = |name| self.entries.users.get(name).is_some_and(|account| account.fingerprint.is_none());
        token.secret_owners().any(hidden)
    }

    /// Returns whether the endpoint does not report the secret of a known user.
    pub fn hides_secret(&self, user: &str) -> bool {
        self.entries.users.get(user).is_some_and(|account| account.fingerprint.is_none())
    }

    /// Returns whether a user is known in both versions, with the same secret.
    pub fn has_same_secret(&self, other: &Self, user: &str) -> bool {
        let [here, there] = [self, other].map(|directory| directory.entries.users.get(user));
        here.zip(there).is_some_and(|(here, there)| here.fingerprint == there.fingerprint)
    }

    /// Checks whether a caller that was accepted before would still be accepted.
    fn recheck(&self, fingerprints: Option<&Fingerprints>, user: Option<&str>) -> Result<(), RevokedError> {
        let account = user.map(|user| self.entries.users.get(user).ok_or(RevokedError::UserRemoved)).transpose()?;
        let Some(fingerprints) = fingerprints else { return Ok(()) };
        let born = account.and_then(|account| account.born);
        if fingerprints.born.zip(born).is_some_and(|(then, now)| then != now) {
            return Err(RevokedError::UserRemoved);
        }
        if fingerprints.key.is_some() && self.entries.key.is_some() && fingerprints.key != self.entries.key {
            return Err(RevokedError::KeyRetired);
        }
        for (name, fingerprint) in &fingerprints.users {
            let account = self.entries.users.get(name.as_ref());
            // A secret that the endpoint does not report cannot be seen to change.
            let good = account.is_some_and(|account| account.fingerprint.is_none_or(|now| now == *fingerprint));
            if !good {
                let own = user.is_some_and(|user| user == name.as_ref());
                return Err(if own { RevokedError::PasswordChanged } else { RevokedError::GrantorRevoked });
            }
        }
        Ok(())
    }

    /// Returns the claims that the reader does not hold at the endpoint.
    pub fn lacking<'c>(&self, reader: &Reader, claims: &[&'c str]) -> Vec<&'c str> {
        let content = self.content(&reader.holder());
        let holds = |claim: &str| claim.parse().is_ok_and(|claim| content.holds(&claim));
        claims.iter().copied().filter(|claim| !holds(claim)).collect()
    }

    /// Returns a caller's rights, with the limits that the store has for roles of the same names.
    pub(super) fn access(
        &self,
        conditions: &Conditions,
        holder: &Arc<Holder>,
        state: &State,
        interner: &Interner,
    ) -> Result<Arc<Access>, RevokedError> {
        self.recheck(conditions.endpoint.as_deref(), holder.user.as_deref())?;
        let compile = || {
            let limits = state.store.limits_of(self.roles_of(holder));
            interner.intern(self.content(holder).limited(limits))
        };
        let find = || match self.class_of(holder) {
            Some(class) => self.kept(Base::Class(class), state.generation, compile),
            None => compile(),
        };
        Ok(self.kept(Base::Holder(Arc::clone(holder)), state.generation, find))
    }

    /// Returns the rights that are kept, or else keeps those that `find` returns.
    fn kept(&self, base: Base, generation: u64, find: impl FnOnce() -> Arc<Access>) -> Arc<Access> {
        if let Some(access) = self.memo.get(generation, &base) {
            return access;
        }
        let (access, names) = (find(), base.names());
        self.memo.keep(generation, base, names, &access);
        access
    }

    /// Returns the class of a user; `None` for holders of claims of their own, and for machines and plugins.
    fn class_of(&self, holder: &Holder) -> Option<Class> {
        let user = holder.user().filter(|_| holder.direct.is_empty())?;
        let roles = self.roles_of(holder).cloned().collect();
        Some(Class { roles, tenant: self.tenants.by_user.get(user).cloned(), named: holder.roles.clone() })
    }

    /// Returns all roles of a user, regardless of a token's restrictions; none for machines and plugins.
    pub(super) fn roles_of(&self, holder: &Holder) -> impl Iterator<Item = &String> {
        let account = holder.user.as_deref().and_then(|user| self.entries.users.get(user));
        account.into_iter().flat_map(|account| &account.roles)
    }

    fn content(&self, holder: &Holder) -> Content {
        let Some(user) = holder.user.as_deref() else {
            let named = holder.roles.iter().flatten().filter_map(|role| self.claims_of(role));
            return Content::new(named.flatten().chain(holder.direct.iter().cloned()).collect(), Vec::new(), None);
        };
        let mut held: Vec<Vec<Claim>> = self.roles_of(holder).filter_map(|role| self.claims_of(role)).collect();
        let own = own_rights(Some(user), false);
        // A token never has more rights than its user has now.
        let within = |claim: &Claim, list: &[Claim]| list.iter().any(|have| have.contains(claim));
        let mut claims: Vec<Claim> = holder.direct.clone();
        claims.retain(|claim| within(claim, &own) || held.iter().any(|list| within(claim, list)));
        if let Some(wanted) = &holder.roles {
            let contained = |role: &Vec<Claim>| held.iter().any(|list| role.iter().all(|claim| within(claim, list)));
            held = wanted.iter().filter_map(|role| self.claims_of(role)).filter(contained).collect();
        }
        claims.extend(held.into_iter().flatten());
        Content::new(claims, Vec::new(), self.tenants.by_user.get(user).cloned())
    }

    fn claims_of(&self, role: &str) -> Option<Vec<Claim>> {
        let listed = self.entries.roles.get(role).cloned();
        listed.or_else(|| (role == SUPERUSER).then(|| vec![Claim::everything()]))
    }
}

impl Base {
    /// Returns the number of names that it holds.
    fn names(&self) -> usize {
        match self {
            Self::Holder(holder) => holder.names(),
            Self::Class(class) => class.roles.len() + class.named.as_ref().map_or(0, Vec::len),
        }
    }
}

impl Tenants {
    /// Compiles tenants. Those that have not changed stay the same, because rights are found by comparing tenants.
    fn new(tenants: &BTreeMap<String, TenantOf>, former: &Self) -> Self {
        let mut new = Self::default();
        for (name, tenant) in tenants {
            let same = former.by_name.get(name).filter(|former| former.is_of(&tenant.members));
            let compiled = same.map_or_else(|| Arc::new(Tenant::new(tenant.members.clone())), Arc::clone);
            new.by_user.extend(tenant.users.iter().map(|user| (user.clone(), Arc::clone(&compiled))));
            new.by_name.insert(name.clone(), compiled);
        }
        new
    }
}

impl Entries {
    /// Returns whether there is such a role.
    pub fn has_role(&self, role: &str) -> bool {
        role == SUPERUSER || self.roles.contains_key(role)
    }

    /// Sets the key that opens tokens.
    pub fn set_key(&mut self, key: Option<&TokenKey>) {
        self.key = key.map(TokenKey::fingerprint);
    }
}

impl Reader {
    /// Returns the user's name; `None` for machines and plugins.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::User(name) => Some(name),
            Self::Token(token) => token.user(),
        }
    }

    fn holder(&self) -> Holder {
        match self {
            Self::User(name) => Holder { user: Some(name.as_str().into()), direct: Vec::new(), roles: None },
            Self::Token(token) => holder_of(token),
        }
    }
}

/// Returns the holder of the rights that a token gives its bearer.
fn holder_of(token: &EndpointToken) -> Holder {
    let user = token.user().map(Into::into);
    Holder { user, direct: token.claims.clone(), roles: Some(token.roles.clone()) }
}

/// Returns the rights that a holder has without any role. A token has only those that its claims list.
pub(super) fn own_rights_of(holder: &Holder) -> Vec<Claim> {
    match (&holder.user, &holder.roles) {
        (Some(user), None) => own_rights(Some(user), false),
        _ => own_rights(None, false),
    }
}

fn identity(principal: Principal, expires_at: Expiry, holder: Holder, endpoint: Fingerprints) -> Identity {
    Identity {
        principal,
        expires_at,
        subject: Subject::Account(Arc::new(holder)),
        conditions: Conditions { endpoint: Some(Arc::new(endpoint)), ..Conditions::default() },
        restrictions: Arc::default(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::auth::keys::KeyRing;

    fn tenant(user: &str, keys: &[&str]) -> TenantOf {
        let members = [("machines".into(), keys.iter().map(|&key| key.into()).collect())].into();
        TenantOf { users: [user.to_owned()].into(), members }
    }

    fn tenants(list: &[(&str, TenantOf)]) -> Arc<BTreeMap<String, TenantOf>> {
        Arc::new(list.iter().map(|(name, tenant)| ((*name).to_owned(), tenant.clone())).collect())
    }

    #[test]
    fn tenants_are_compiled_again_only_if_they_are_others() {
        let of = |user: &str, keys: &[&str]| tenants(&[("lab", tenant(user, keys)), ("b", tenant("b", &["m9"]))]);
        let first = Directory::new(Entries { tenants: of("a", &["m1"]), ..Entries::default() });
        let mut entries = first.entries().clone();
        entries.users.insert("b".to_owned(), Account::default());
        let second = first.next(entries.clone());
        assert!(Arc::ptr_eq(&first.tenants, &second.tenants) && second.user("b").is_ok());
        let third = second.next(Entries { tenants: of("c", &["m1"]), ..entries.clone() });
        let [then, now] = [&second, &third].map(|directory| &directory.tenants.by_user);
        assert!(Arc::ptr_eq(&then["a"], &now["c"]) && !now.contains_key("a"), "only its users are others");
        let fourth = third.next(Entries { tenants: of("c", &["m1", "m2"]), ..entries });
        let [then, now] = [&third, &fourth].map(|directory| &directory.tenants.by_user);
        assert!(then["c"] != now["c"] && Arc::ptr_eq(&then["b"], &now["b"]));
    }

    /// A shard looks up the rights of hundreds of users in a turn, and a role may have thousands of claims.
    #[test]
    fn rights_that_follow_from_the_same_are_compiled_once() {
        let account = Account { roles: ["role".to_owned()].into(), ..Account::default() };
        let users = ["a", "b", "c"].map(|user| (user.to_owned(), account.clone())).into();
        let claims = vec!["machines/get/*".parse().unwrap()];
        let roles = Arc::new([("role".to_owned(), claims)].into());
        let tenants = tenants(&[("lab", tenant("c", &["m1"]))]);
        let directory = Directory::new(Entries { roles, tenants, users, ..Entries::default() });
        let state = State::new(Arc::default(), Arc::new(KeyRing::make(Timestamp::UNIX_EPOCH).unwrap()), None);
        let access = |user: &str, named: Option<&[&str]>, direct: &[&str]| {
            let roles = named.map(|named| named.iter().map(|&role| role.to_owned()).collect());
            let direct = direct.iter().map(|claim| claim.parse().unwrap()).collect();
            let holder = Arc::new(Holder { user: Some(user.into()), direct, roles });
            // Rights that are compiled again are others, because the interner is.
            directory.access(&Conditions::default(), &holder, &state, &Interner::default()).unwrap()
        };
        let of_a = access("a", None, &[]);
        assert!(Arc::ptr_eq(&of_a, &access("b", None, &[])));
        let of_c = access("c", None, &[]);
        assert!(of_a.sees("machines", "get", "m2", None) && !of_c.sees("machines", "get", "m2", None), "its tenant");
        let named = access("a", Some(&["role"]), &[]);
        assert!(Arc::ptr_eq(&named, &access("b", Some(&["role"]), &[])));
        assert!(!access("b", Some(&[]), &[]).sees("machines", "get", "m2", None), "a token without roles");
        let direct = access("b", Some(&[]), &["machines/get/m2"]);
        assert!(direct.sees("machines", "get", "m2", None) && !direct.sees("machines", "get", "m3", None));
    }

    /// What it was given once does not outlive the rights of its user, who may have lost some since.
    #[test]
    fn a_token_grants_nothing_that_its_user_does_not_have() {
        let claims = |text: &str| vec![text.parse().unwrap()];
        let roles = [("mine".to_owned(), claims("machines/get/*")), ("other".to_owned(), claims("profiles/get/*"))];
        let account = Account { roles: ["mine".to_owned()].into(), ..Account::default() };
        let users = [("a".to_owned(), account)].into();
        let directory = Directory::new(Entries { roles: Arc::new(roles.into()), users, ..Entries::default() });
        let sees = |named: &[&str], direct: &[&str]| {
            let roles = Some(named.iter().map(|&role| role.to_owned()).collect());
            let direct = direct.iter().map(|claim| claim.parse().unwrap()).collect();
            let content = directory.content(&Holder { user: Some("a".into()), direct, roles });
            ["machines/get/m2", "profiles/get/p", "users/get/a"].map(|claim| content.holds(&claim.parse().unwrap()))
        };
        assert_eq!(sees(&[], &["machines/get/m2", "profiles/get/p", "users/get/a"]), [true, false, true]);
        assert_eq!(sees(&[], &["*/get/*"]), [false; 3], "wider than what it has");
        assert_eq!(sees(&["mine"], &[]), [true, false, false]);
        assert_eq!(sees(&["other"], &[]), [false; 3]);
        assert_eq!(sees(&["mine", "other"], &["profiles/get/p"]), [true, false, false]);
    }

    /// Without a secret, only the creation time distinguishes the two.
    #[test]
    fn a_user_who_was_made_again_is_another() {
        let born = |time: &str| Account { born: Some(Fingerprint::of(time.as_bytes())), ..Account::default() };
        let with = |account: Account| {
            Directory::new(Entries { users: [("a".to_owned(), account)].into(), ..Entries::default() })
        };
        let identity = with(born("2026-01-01T00:00:00Z")).user("a").unwrap();
        let recheck = |account| with(account).recheck(identity.conditions.endpoint.as_deref(), Some("a"));
        assert_eq!(recheck(born("2026-01-01T00:00:00Z")), Ok(()));
        assert_eq!(recheck(born("2026-01-02T00:00:00Z")), Err(RevokedError::UserRemoved));
        assert_eq!(recheck(Account::default()), Ok(()), "nobody can tell");
    }
}
