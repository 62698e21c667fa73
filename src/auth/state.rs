//! One version of everything that decides rights: the store, the token keys and the keys of other issuers.
//!
//! Contract: immutable except for a cache of compiled rights; replaced as a whole when anything changes. Rights are
//! compiled once for each combination of roles, tenant and token restrictions, however many connections have it.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use super::access::{Access, Content, Interner, Members, Tenant};
use super::claim::{Claim, Terms};
use super::identity::{Identity, Restriction, RevokedError, SecretFingerprint, Subject};
use super::issuers::Issuers;
use super::keys::{Fingerprint, KeyRing};
use super::limits::RoleLimits;
use super::memo::Memo;
use super::password::PasswordHash;
use super::store::{Store, TenantRow, User};
use super::visibility::ClaimMatch;
use crate::overflow::RolePolicies;

/// The properties that determine a user's rights; shared by users with equal rights.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Class {
    roles: BTreeSet<String>,
    tenant: Option<String>,
}

#[derive(Debug)]
struct Known {
    name: Arc<str>,
    fingerprint: Fingerprint,
    class: usize,
}

/// The length in bytes from which a name counts as several.
const LONG_NAME: usize = 64;

/// The subject of compiled rights.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Base {
    Class(usize),
    Runner(Arc<str>),
    Plugin,
    /// The names of roles in a token of another issuer; there may be no such roles.
    Roles(Arc<[String]>),
}

impl Base {
    /// Returns how many names it takes the memory of.
    fn names(&self) -> usize {
        let Self::Roles(roles) = self else { return 0 };
        roles.iter().map(|role| 1 + role.len() / LONG_NAME).sum()
    }
}

/// An immutable version of the users, roles, tenants and keys that decide rights. Replaced as a whole on every change.
#[derive(Debug)]
pub(super) struct State {
    pub(super) generation: u64,
    pub(super) store: Arc<Store>,
    pub(super) keys: Arc<KeyRing>,
    /// The external issuer whose tokens are accepted, with its keys.
    pub(super) issuers: Option<Arc<Issuers>>,
    users: HashMap<Box<str>, Known>,
    classes: Vec<Arc<Class>>,
    tenants: HashMap<String, Arc<Tenant>>,
    /// Hashes to verify for users who do not exist.
    decoys: Vec<PasswordHash>,
    memo: Memo<(Base, Arc<[Restriction]>)>,
}

impl State {
    pub(super) fn new(store: Arc<Store>, keys: Arc<KeyRing>, issuers: Option<Arc<Issuers>>) -> Self {
        Self::after(0, &HashMap::new(), store, keys, issuers)
    }

    /// Creates the next version. Tenants that have not changed stay the same, because rights are found by comparing
    /// tenants.
    pub(super) fn next(&self, store: Arc<Store>, keys: Arc<KeyRing>, issuers: Option<Arc<Issuers>>) -> Self {
        Self::after(self.generation, &self.tenants, store, keys, issuers)
    }

    fn after(
        generation: u64,
        tenants: &HashMap<String, Arc<Tenant>>,
        store: Arc<Store>,
        keys: Arc<KeyRing>,
        issuers: Option<Arc<Issuers>>,
    ) -> Self {
        let (users, classes) = users(&store);
        let tenant = |(name, row): (&String, &TenantRow)| {
            let members = members(row);
            let same = tenants.get(name).filter(|former| former.is_of(&members)).cloned();
            (name.clone(), same.unwrap_or_else(|| Arc::new(Tenant::new(members))))
        };
        let tenants = store.tenants().iter().map(tenant).collect();
        let decoys = store.users().values().filter_map(|user| user.password.clone()).collect();
        let generation = generation + 1;
        Self { generation, store, keys, issuers, users, classes, tenants, decoys, memo: Memo::default() }
    }

    /// Returns a user and the secret's fingerprint that its identities depend on.
    pub(super) fn user(&self, name: &str) -> Option<(&User, SecretFingerprint)> {
        let known = self.users.get(name)?;
        Some((
            &self.store.users()[name],
            SecretFingerprint { user: Arc::clone(&known.name), fingerprint: known.fingerprint },
        ))
    }

    /// Returns a hash to verify for a user who does not exist, so that it takes as long as for one who does. It belongs
    /// to another user and is always the same for the same name.
    pub(super) fn decoy(&self, name: u64) -> Option<&PasswordHash> {
        let count = u64::try_from(self.decoys.len()).ok().filter(|&count| count > 0)?;
        usize::try_from(name % count).ok().and_then(|at| self.decoys.get(at))
    }

    /// Checks whether credentials that were accepted before would still be accepted.
    pub(super) fn recheck(&self, Identity { subject, conditions, .. }: &Identity) -> Result<(), RevokedError> {
        if let (Some(own), Subject::User(name)) = (conditions.own, subject) {
            let known = self.users.get(name.as_ref()).ok_or(RevokedError::UserRemoved)?;
            if known.fingerprint != own {
                return Err(RevokedError::PasswordChanged);
            }
        }
        for grantor in &conditions.grantors {
            let known = self.users.get(grantor.user.as_ref());
            if known.is_none_or(|known| known.fingerprint != grantor.fingerprint) {
                return Err(RevokedError::GrantorRevoked);
            }
        }
        match &conditions.key {
            // Another key may have the same id now.
            Some(key) if self.keys.find(&key.id).is_none_or(|now| now.signer.fingerprint != key.fingerprint) => {
                Err(RevokedError::KeyRetired)
            }
            _ => Ok(()),
        }
    }

    /// Returns the rights of a caller.
    pub(super) fn access(&self, identity: &Identity, interner: &Interner) -> Result<Arc<Access>, RevokedError> {
        self.recheck(identity)?;
        let base = self.base(&identity.subject)?;
        let key = (base, Arc::clone(&identity.restrictions));
        if let Some(access) = self.memo.get(self.generation, &key) {
            return Ok(access);
        }
        let access = interner.intern(self.content(&key.0, &key.1));
        let names = key.0.names() + key.1.iter().map(Restriction::names).sum::<usize>();
        self.memo.keep(self.generation, key, names, &access);
        Ok(access)
    }

    /// Returns the rights of a user with all its roles.
    pub(super) fn access_of_user(&self, name: &str, interner: &Interner) -> Option<Arc<Access>> {
        let base = self.base(&Subject::User(name.into())).ok()?;
        Some(interner.intern(self.content(&base, &[])))
    }

    /// Returns the roles that have a claim that shows an event.
    pub(super) fn roles_that_show(&self, kind: &str, action: &str, key: &str, machine: Option<&str>) -> Vec<String> {
        let shows = |claim: &Claim| {
            let names = std::iter::once(key).chain(machine);
            ClaimMatch::of(claim, kind, action, names).parts() == [true; 3]
        };
        let roles = self.store.roles().keys();
        let showing = roles.filter(|role| self.store.claims_of(role).is_some_and(|claims| claims.iter().any(shows)));
        showing.cloned().collect()
    }

    /// Returns the policies that a subject's roles set for slow consumers.
    pub(super) fn overflow(&self, subject: &Subject) -> RolePolicies {
        match subject {
            Subject::User(name) => match self.users.get(name.as_ref()) {
                Some(known) => self.overflow_of(&self.classes[known.class].roles),
                None => RolePolicies::default(),
            },
            Subject::External { roles } => self.overflow_of(roles.iter()),
            Subject::Runner(_) | Subject::Plugin(_) | Subject::Account(_) => RolePolicies::default(),
        }
    }

    /// Returns the combined policies of roles with these names.
    pub(super) fn overflow_of<'r>(&self, roles: impl IntoIterator<Item = &'r String>) -> RolePolicies {
        let known = roles.into_iter().filter_map(|role| self.store.roles().get(role));
        let policies = known.map(|role| RolePolicies { policy: role.overflow, askable: role.query_overflow.clone() });
        policies.reduce(RolePolicies::or_more).unwrap_or_default()
    }

    fn base(&self, subject: &Subject) -> Result<Base, RevokedError> {
        Ok(match subject {
            Subject::User(name) => Base::Class(self.users.get(name.as_ref()).ok_or(RevokedError::UserRemoved)?.class),
            Subject::Runner(uuid) => Base::Runner(Arc::clone(uuid)),
            Subject::Plugin(_) => Base::Plugin,
            Subject::External { roles } => Base::Roles(Arc::clone(roles)),
            // The directory decides its rights; the store has no such user.
            Subject::Account(_) => return Err(RevokedError::UserRemoved),
        })
    }

    fn content(&self, base: &Base, restrictions: &[Restriction]) -> Content {
        let (mut lists, tenant) = match base {
            Base::Class(at) => {
                let class = &self.classes[*at];
                let tenant = class.tenant.as_ref().and_then(|name| self.tenants.get(name)).cloned();
                (self.lists(&class.roles), tenant)
            }
            Base::Runner(uuid) => (vec![runner_claims(uuid)], None),
            Base::Plugin => (vec![vec![Claim::everything()]], None),
            Base::Roles(roles) => (self.lists(roles.iter()), None),
        };
        for wanted in restrictions.iter().filter_map(|restriction| restriction.roles.as_ref()) {
            lists = self.kept(&lists, wanted);
        }
        let narrowing = restrictions.iter().filter_map(|restriction| restriction.claim.clone()).collect();
        Content::new(lists.into_iter().flatten().collect(), narrowing, tenant).limited(self.limits(base))
    }

    /// Returns the subject's limits. A token's restrictions must not lift them, so they do not matter here.
    fn limits(&self, base: &Base) -> RoleLimits {
        match base {
            Base::Class(at) => self.store.limits_of(&self.classes[*at].roles),
            Base::Roles(roles) => self.store.limits_of(roles.iter()),
            Base::Runner(_) | Base::Plugin => RoleLimits::default(),
        }
    }

    fn lists<'r>(&self, roles: impl IntoIterator<Item = &'r String>) -> Vec<Vec<Claim>> {
        roles.into_iter().filter_map(|role| self.store.claims_of(role)).collect()
    }

    /// Returns the claims of those `wanted` roles that are contained in a single list of `held`.
    fn kept(&self, held: &[Vec<Claim>], wanted: &[String]) -> Vec<Vec<Claim>> {
        let within = |claim: &Claim, list: &[Claim]| list.iter().any(|have| have.contains(claim));
        let contained = |role: &Vec<Claim>| held.iter().any(|list| role.iter().all(|claim| within(claim, list)));
        self.lists(wanted).into_iter().filter(contained).collect()
    }

    /// Returns the `wanted` roles that a token of this subject would really have.
    pub(super) fn effective_roles(&self, subject: &Subject, earlier: &[Restriction], wanted: &[String]) -> Vec<String> {
        let Ok(base) = self.base(subject) else { return Vec::new() };
        let mut lists = match &base {
            Base::Class(at) => self.lists(&self.classes[*at].roles),
            Base::Runner(uuid) => vec![runner_claims(uuid)],
            Base::Plugin => vec![vec![Claim::everything()]],
            Base::Roles(roles) => self.lists(roles.iter()),
        };
        for roles in earlier.iter().filter_map(|restriction| restriction.roles.as_ref()) {
            lists = self.kept(&lists, roles);
        }
        wanted.iter().filter(|role| !self.kept(&lists, std::slice::from_ref(role)).is_empty()).cloned().collect()
    }
}

/// Returns every user by name, and the classes that they belong to.
fn users(store: &Store) -> (HashMap<Box<str>, Known>, Vec<Arc<Class>>) {
    let rows = store.tenants().iter();
    let tenant_of: HashMap<&str, &String> =
        rows.flat_map(|(tenant, row)| row.users.iter().map(move |user| (user.as_str(), tenant))).collect();
    let mut classes = Classes::default();
    let mut known = |(name, user): (&String, &User)| {
        let tenant = tenant_of.get(name.as_str()).map(|&tenant| tenant.clone());
        let class = classes.index(Class { roles: user.roles.clone(), tenant });
        (name.as_str().into(), Known { name: name.as_str().into(), fingerprint: user.secret.fingerprint(), class })
    };
    let users = store.users().iter().map(&mut known).collect();
    (users, classes.list)
}

fn members(row: &TenantRow) -> Members {
    let keys = |keys: &BTreeSet<String>| keys.iter().map(|key| key.as_str().into()).collect();
    row.members.iter().map(|(kind, listed)| (kind.as_str().into(), keys(listed))).collect()
}

#[derive(Debug, Default)]
struct Classes {
    list: Vec<Arc<Class>>,
    by_content: HashMap<Arc<Class>, usize>,
}

impl Classes {
    fn index(&mut self, class: Class) -> usize {
        let class = Arc::new(class);
        *self.by_content.entry(Arc::clone(&class)).or_insert_with(|| {
            self.list.push(class);
            self.list.len() - 1
        })
    }
}

/// Returns the rights of a machine's agent, as in DRP: everything with its own machine, its jobs (by the machine's
/// UUID), reading what tasks need, and posting events.
fn runner_claims(uuid: &str) -> Vec<Claim> {
    vec![
        Claim::of("machines", "*", uuid),
        Claim::of("jobs", "create,get,update,actions,log", uuid),
        Claim::of("params,stages,tasks", "get", "*"),
        Claim::of("info", "get", "*"),
        Claim::of("events", "post", "*"),
        Claim::of("reservations", "create", "*"),
    ]
}

/// Returns the rights that every user has without any role: read itself, change its password, get tokens, and read the
/// server's info. A `restricted` token may not change the password, which would remove its restrictions.
pub(super) fn own_rights(user: Option<&str>, restricted: bool) -> Vec<Claim> {
    let actions = if restricted { "token,get" } else { "token,password,get" };
    let itself = user.map(|user| Claim { specific: Terms::one(user), ..Claim::of("users", actions, "") });
    std::iter::once(Claim::of("info", "get", "*")).chain(itself).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    /// Tokens of another issuer may name as many groups as they have room for, whether there are such roles or not.
    #[test]
    fn the_roles_of_foreign_tokens_count_in_the_memo() {
        let keys = Arc::new(KeyRing::make(Timestamp::UNIX_EPOCH).unwrap());
        let state = State::new(Arc::new(Store::first().unwrap()), keys, None);
        let interner = Interner::default();
        let counted = |roles: Vec<String>| {
            let identity = Identity {
                principal: crate::auth::Principal::user("alice").unwrap(),
                expires_at: crate::auth::expiry::Expiry::NEVER,
                subject: Subject::External { roles: roles.into() },
                conditions: crate::auth::identity::Conditions::default(),
                restrictions: Arc::default(),
            };
            let before = state.memo.names();
            state.access(&identity, &interner).unwrap();
            state.memo.names() - before
        };
        // The rights, which are the same for all, count once.
        counted(vec!["none".to_owned()]);
        assert_eq!(counted((0..3000).map(|n| format!("group{n}")).collect()), 3000);
        assert_eq!(counted(vec!["x".repeat(16 << 10)]), 257, "a long name counts as several");
    }

    #[test]
    fn tenants_are_compiled_again_only_if_they_are_others() {
        let store = |keys: &[&str]| {
            let mut store = Store::first().unwrap();
            for (tenant, keys) in [("lab", keys), ("other", &["m9"])] {
                let keys = keys.iter().map(|&key| key.to_owned()).collect();
                let row = TenantRow { members: [("machines".to_owned(), keys)].into(), ..TenantRow::default() };
                store.set_tenant(tenant, row).unwrap();
            }
            Arc::new(store)
        };
        let keys = Arc::new(KeyRing::make(Timestamp::UNIX_EPOCH).unwrap());
        let first = State::new(store(&["m1"]), Arc::clone(&keys), None);
        let second = first.next(store(&["m1", "m2"]), keys, None);
        assert_eq!((first.generation, second.generation), (1, 2));
        assert!(Arc::ptr_eq(&first.tenants["other"], &second.tenants["other"]));
        assert!(first.tenants["lab"] != second.tenants["lab"]);
    }
}
