//! What a set of claims lets its holder see and do, compiled for the delivery path.
//!
//! Contract: an [`Access`] never changes. Equal claim sets (roles with their limits, token narrowing and tenant taken
//! together) have the same [`AccessId`] and share one allocation, so that 10,000 connections of 20 roles cost 20
//! evaluations per event. Ids are never used twice in a process. [`Access::sees`] takes no lock, allocates nothing and
//! reads no clock.
//!
//! What makes an event visible is in `docs/security.md`, "Events". [`Sight`] has the claims, compiled.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use super::claim::{Claim, Terms};
use super::limits::RoleLimits;
use super::sight::{Sight, names};
use super::visibility::{ClaimMatch, Visibility};

/// Identifies one set of claims for the lifetime of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessId(u64);

impl AccessId {
    /// Returns the number itself.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// The keys that a tenant's users may see, by object type. Types that are not listed are unrestricted.
pub(super) type Members = BTreeMap<Box<str>, Box<[Box<str>]>>;

/// A tenant, compiled once per version of the store and shared by its users.
#[derive(Debug)]
pub(super) struct Tenant {
    members: Members,
    keys: HashMap<Box<str>, HashSet<Box<str>>>,
    /// A hash of the members, which may be a hundred thousand: rights are looked up by their contents.
    hash: u64,
}

impl Tenant {
    pub(super) fn new(members: Members) -> Self {
        let keys = members.iter().map(|(kind, keys)| (kind.clone(), keys.iter().cloned().collect())).collect();
        let mut hasher = DefaultHasher::new();
        members.hash(&mut hasher);
        Self { members, keys, hash: hasher.finish() }
    }

    /// Returns whether it was compiled from these members.
    pub(super) fn is_of(&self, members: &Members) -> bool {
        self.members == *members
    }

    /// Returns whether the tenant shows an object. `machine` is the machine that the object belongs to.
    fn shows(&self, kind: &str, key: &str, machine: Option<&str>) -> bool {
        match kind {
            "jobs" | "work_orders" => self.shows_owned(kind, key, machine),
            "connections" if machine.is_some() => self.shows_owned(kind, key, machine),
            _ => self.keys.get(kind).is_none_or(|listed| listed.contains(key)),
        }
    }

    /// Returns whether the tenant shows an object that belongs to a machine. Such an object is shown if its own key or
    /// its machine's key is listed, under its own type or under `machines`. If either type is listed and neither lists
    /// it, it is hidden, even if its machine is unknown: otherwise a tenant would see the jobs of all machines.
    fn shows_owned(&self, kind: &str, key: &str, machine: Option<&str>) -> bool {
        let own = self.keys.get(kind);
        let machines = self.keys.get("machines");
        if own.is_none() && machines.is_none() {
            return true;
        }
        let has = |listed: Option<&HashSet<Box<str>>>, key: &str| listed.is_some_and(|listed| listed.contains(key));
        has(own, key) || machine.is_some_and(|machine| has(own, machine) || has(machines, machine))
    }

    /// Returns whether everything that a claim asks for is within the tenant.
    fn permits(&self, wanted: &Claim) -> bool {
        let within = |kind: &str| match (&wanted.specific, self.keys.get(kind)) {
            (_, None) => true,
            (Terms::Any, Some(_)) => false,
            (Terms::Only(keys), Some(listed)) => keys.iter().all(|key| listed.contains(key)),
        };
        match &wanted.scope {
            Terms::Any => self.keys.is_empty(),
            Terms::Only(kinds) => kinds.iter().all(|kind| within(kind)),
        }
    }
}

impl PartialEq for Tenant {
    fn eq(&self, other: &Self) -> bool {
        self.is_of(&other.members)
    }
}

impl Eq for Tenant {}

impl Hash for Tenant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

/// Everything that determines what a caller may see and do. Equal contents share one [`Access`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Content {
    claims: Vec<Claim>,
    narrowing: Vec<Claim>,
    tenant: Option<Arc<Tenant>>,
    limits: RoleLimits,
}

impl Content {
    /// Combines the claims held, the claims that each must allow it too, and the tenant that must not hide it.
    pub(super) fn new(mut claims: Vec<Claim>, mut narrowing: Vec<Claim>, tenant: Option<Arc<Tenant>>) -> Self {
        if claims.iter().any(Claim::is_everything) {
            claims = vec![Claim::everything()];
        }
        claims.sort_unstable();
        claims.dedup();
        narrowing.retain(|claim| !claim.is_everything());
        narrowing.sort_unstable();
        narrowing.dedup();
        Self { claims, narrowing, tenant, limits: RoleLimits::default() }
    }

    /// Returns whether one of the claims contains `wanted` and neither narrowing nor a tenant takes any of it away.
    pub(super) fn holds(&self, wanted: &Claim) -> bool {
        self.narrowing.is_empty()
            && self.claims.iter().any(|claim| claim.contains(wanted))
            && self.tenant.as_ref().is_none_or(|tenant| tenant.permits(wanted))
    }

    /// Returns the number of names in the claims.
    fn names(&self) -> usize {
        self.claims.iter().chain(&self.narrowing).map(Claim::names).sum()
    }

    /// Replaces the limits.
    pub(super) fn limited(self, limits: RoleLimits) -> Self {
        Self { limits, ..self }
    }
}

/// The compiled rights of one set of claims. Immutable; equal sets share one allocation and one [`AccessId`].
#[derive(Debug)]
pub struct Access {
    id: AccessId,
    content: Arc<Content>,
    everything: bool,
    sight: Sight,
}

impl Access {
    fn new(id: AccessId, content: Arc<Content>) -> Self {
        let unrestricted = content.narrowing.is_empty() && content.tenant.is_none();
        Self {
            id,
            everything: unrestricted && content.claims.iter().any(Claim::is_everything),
            sight: Sight::new(&content.claims),
            content,
        }
    }

    /// Returns the id of this set of claims.
    pub fn id(&self) -> AccessId {
        self.id
    }

    /// Returns the number of names that it holds, which is a measure of its size and of the time to compile it.
    pub fn names(&self) -> usize {
        self.content.names() + self.sight.compiled()
    }

    /// Returns whether the holder is an unrestricted superuser.
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// Returns the limits that the holder's roles set.
    pub fn limits(&self) -> RoleLimits {
        self.content.limits
    }

    /// Returns whether an event is visible. `machine` is the machine that its object belongs to
    /// ([`Event::owner`](crate::event::Event::owner)), `None` or `""` if there is none. Events about the caller's own
    /// connection are visible too; the caller of this function must add them.
    #[inline]
    pub fn sees(&self, kind: &str, action: &str, key: &str, machine: Option<&str>) -> bool {
        self.everything || self.sees_by_claims(kind, action, key, machine)
    }

    fn sees_by_claims(&self, kind: &str, action: &str, key: &str, machine: Option<&str>) -> bool {
        let machine = machine.filter(|machine| !machine.is_empty());
        let of_job = machine.filter(|_| kind == "jobs");
        self.sight.sees(kind, action, key, of_job)
            && self.content.narrowing.iter().all(|claim| claim.shows(kind, action, names(key, of_job)))
            && self.content.tenant.as_ref().is_none_or(|tenant| tenant.shows(kind, key, machine))
    }

    /// Like [`Access::sees`], with everything that decides it. For diagnosis, never on the delivery path.
    pub fn explain(&self, kind: &str, action: &str, key: &str, machine: Option<&str>) -> Visibility {
        let machine = machine.filter(|machine| !machine.is_empty());
        let of_job = machine.filter(|_| kind == "jobs");
        let tenant = self.content.tenant.as_ref().map(|tenant| tenant.shows(kind, key, machine));
        let narrowed = |claim: &Claim| (claim.to_string(), claim.shows(kind, action, names(key, of_job)));
        Visibility {
            by_claims: self.sight.sees(kind, action, key, of_job),
            claims: self
                .content
                .claims
                .iter()
                .map(|claim| ClaimMatch::of(claim, kind, action, names(key, of_job)))
                .collect(),
            narrowing: self.content.narrowing.iter().map(narrowed).collect(),
            tenant,
        }
    }

    /// Returns the claims, and those that the token is narrowed to, as text for people.
    pub fn claims(&self) -> (Vec<String>, Vec<String>) {
        let texts = |claims: &[Claim]| claims.iter().map(Claim::to_string).collect();
        (texts(&self.content.claims), texts(&self.content.narrowing))
    }

    /// Returns whether the holder is in a tenant.
    pub fn has_tenant(&self) -> bool {
        self.content.tenant.is_some()
    }

    /// Returns whether the holder's tenant shows a principal's connection. A machine agent's belongs to the machine.
    pub fn shows_connection(&self, principal: &str) -> bool {
        let machine = principal.strip_prefix("runner:");
        self.content.tenant.as_ref().is_none_or(|tenant| tenant.shows("connections", principal, machine))
    }

    /// Returns whether a REST request is granted: one claim must contain (scope, action, specific), each of them `*`, a
    /// value or a comma list. Rights that every user has over itself are not part of a claim set:
    /// [`Authority::permits`](super::Authority::permits) adds them.
    pub fn permits(&self, scope: &str, action: &str, specific: &str) -> bool {
        self.everything || self.grants(&Claim::of(scope, action, specific), &[])
    }

    /// Like [`Access::permits`], with further claims.
    pub(super) fn grants(&self, wanted: &Claim, further: &[Claim]) -> bool {
        self.content.claims.iter().chain(further).any(|claim| claim.contains(wanted))
            && self.content.narrowing.iter().all(|claim| claim.contains(wanted))
            && self.content.tenant.as_ref().is_none_or(|tenant| tenant.permits(wanted))
    }
}

/// Key of the intern table, looked up by content.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Interned(Arc<Content>);

impl Borrow<Content> for Interned {
    fn borrow(&self) -> &Content {
        &self.0
    }
}

/// Maps equal claim sets to the same [`Access`]. Never used on the delivery path.
///
/// Contract: nothing is compiled and nothing is freed under its lock, for which all logins wait, and shards.
#[derive(Debug, Default)]
pub(super) struct Interner {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    live: HashMap<Interned, Weak<Access>>,
    /// Every token with new restrictions takes a number, so that 32 bits would be used up within days.
    next: u64,
    /// The number of entries at which unused ones are removed.
    sweep_at: usize,
}

impl Interner {
    pub(super) fn intern(&self, content: Content) -> Arc<Access> {
        self.intern_by(content, Access::new)
    }

    fn intern_by(&self, content: Content, compile: impl FnOnce(AccessId, Arc<Content>) -> Access) -> Arc<Access> {
        let content = Arc::new(content);
        let id = match self.table.lock().find(&content) {
            Ok(access) => return access,
            Err(id) => id,
        };
        let access = Arc::new(compile(id, Arc::clone(&content)));
        let mut table = self.table.lock();
        let swept = table.sweep();
        // Another thread may have been faster.
        let kept = table.keep(content, &access);
        drop(table);
        drop(swept);
        kept.unwrap_or(access)
    }
}

impl Table {
    /// Returns the rights of a content, or else an id for them.
    fn find(&mut self, content: &Content) -> Result<Arc<Access>, AccessId> {
        if let Some(access) = self.live.get(content).and_then(Weak::upgrade) {
            return Ok(access);
        }
        let id = AccessId(self.next);
        self.next += 1;
        Err(id)
    }

    /// Keeps the rights of a content, unless there are some already; then returns these.
    fn keep(&mut self, content: Arc<Content>, access: &Arc<Access>) -> Option<Arc<Access>> {
        let entry = self.live.entry(Interned(content)).or_default();
        let kept = entry.upgrade();
        if kept.is_none() {
            *entry = Arc::downgrade(access);
        }
        kept
    }

    /// Removes unused entries from time to time, and returns them.
    fn sweep(&mut self) -> Vec<(Interned, Weak<Access>)> {
        if self.live.len() < self.sweep_at {
            return Vec::new();
        }
        let swept = self.live.extract_if(|_, access| access.strong_count() == 0).collect();
        self.sweep_at = 2 * self.live.len() + 64;
        swept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(claims: &[&str], narrowing: &[&str], tenant: Option<&[(&str, &[&str])]>) -> Content {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Content::new(parse(claims), parse(narrowing), tenant.map(|members| Arc::new(Tenant::new(members_of(members)))))
    }

    fn members_of(members: &[(&str, &[&str])]) -> Members {
        members.iter().map(|(kind, keys)| ((*kind).into(), keys.iter().map(|&key| key.into()).collect())).collect()
    }

    #[test]
    fn visibility_by_hand() {
        let interner = Interner::default();
        let sees = |claims: &[&str], event: (&str, &str, &str, Option<&str>)| {
            interner.intern(access(claims, &[], None)).sees(event.0, event.1, event.2, event.3)
        };
        let update = ("machines", "update", "a", None);
        assert!(sees(&["*/*/*"], ("beeblebrox", "x", "y", None)));
        assert!(sees(&["machines/get,list/*"], update), "who may read an object may see its updates");
        assert!(!sees(&["machines/list/*"], update));
        assert!(sees(&["machines/update/a"], update));
        assert!(!sees(&["machines/update:/Meta/a"], update));
        assert!(!sees(&["machines/update/b"], update));
        assert!(!sees(&["machines/delete/a", "machines/update/b"], update), "one claim must have all three");
        assert!(!sees(&["machines/*/*"], ("beeblebrox", "x", "y", None)));
        assert!(sees(&["beeblebrox/x/*"], ("beeblebrox", "x", "y", None)));
        assert!(sees(&["*/x/*"], ("beeblebrox", "x", "y", None)));
        assert!(!sees(&[], update));
        assert!(sees(&["jobs/get/m1"], ("jobs", "create", "j1", Some("m1"))), "a job is seen through its machine");
        assert!(!sees(&["jobs/get/m1"], ("jobs", "create", "j1", Some("m2"))));
        assert!(!sees(&["jobs/get/m1"], ("jobs", "create", "j1", None)));
        assert!(!sees(&["jobs/get/,x"], ("jobs", "create", "j1", Some(""))), "an empty machine is none");
        assert!(!sees(&["leases/get/m1"], ("leases", "create", "l1", Some("m1"))), "only jobs have a machine");
    }

    #[test]
    fn tenants_hide_even_from_superusers() {
        let interner = Interner::default();
        let lab: &[(&str, &[&str])] = &[("machines", &["m1"]), ("profiles", &[])];
        let user = interner.intern(access(&["*/*/*"], &[], Some(lab)));
        assert!(!user.is_everything());
        assert!(user.sees("machines", "update", "m1", None));
        assert!(!user.sees("machines", "update", "m2", None));
        assert!(!user.sees("profiles", "update", "p", None));
        assert!(user.sees("tasks", "update", "t", None), "a type that is not listed is not restricted");
        assert!(user.sees("jobs", "create", "j", Some("m1")));
        assert!(!user.sees("jobs", "create", "j", Some("m2")), "a hidden machine's jobs are hidden");
        assert!(!user.sees("jobs", "delete", "j", None), "so is a job whose machine nobody can tell");
        assert!(
            user.sees("work_orders", "create", "w", Some("m1")) && !user.sees("work_orders", "create", "w", Some("m2"))
        );
        assert!(user.sees("connections", "create", "user:a", None), "a person belongs to no machine");
        assert!(!user.sees("connections", "create", "runner:m2", Some("m2")));
        assert!(user.shows_connection("runner:m1") && !user.shows_connection("runner:m2"));
        assert!(user.shows_connection("user:a"));
        assert!(user.permits("machines", "get", "m1") && !user.permits("machines", "get", "m2"));
        assert!(!user.permits("machines", "list", "*") && !user.permits("*", "get", "m1"));
        let of_jobs = interner.intern(access(&["*/*/*"], &[], Some(&[("jobs", &["j1", "m1"])])));
        for (key, machine, seen) in
            [("j1", None, true), ("j2", Some("m1"), true), ("j2", Some("m2"), false), ("j2", None, false)]
        {
            assert_eq!(of_jobs.sees("jobs", "save", key, machine), seen, "{key} {machine:?}");
        }
    }

    #[test]
    fn narrowing_never_widens() {
        let interner = Interner::default();
        let token = interner.intern(access(&["machines/get/*", "tasks/get/*"], &["machines,profiles/*/m1"], None));
        assert!(token.sees("machines", "update", "m1", None));
        assert!(!token.sees("machines", "update", "m2", None));
        assert!(!token.sees("tasks", "update", "m1", None));
        assert!(!token.sees("profiles", "update", "m1", None));
        assert!(token.permits("machines", "get", "m1") && !token.permits("machines", "update", "m1"));
        assert!(!token.permits("profiles", "get", "m1") && !token.permits("tasks", "get", "m1"));
    }

    #[test]
    fn equal_claim_sets_are_one() {
        let interner = Interner::default();
        let lab: &[(&str, &[&str])] = &[("machines", &["m1"])];
        let one = interner.intern(access(&["b/get/*", "a/get/x,y"], &["*/*/*"], Some(lab)));
        let two = interner.intern(access(&["a/get/y,x", "b/get/*", "a/get/y,x"], &[], Some(lab)));
        assert!(Arc::ptr_eq(&one, &two) && one.id() == two.id());
        let other = interner.intern(access(&["a/get/y,x", "b/get/*"], &[], None));
        assert_ne!(one.id(), other.id());
        let id = other.id();
        drop(other);
        let again = interner.intern(access(&["a/get/y,x", "b/get/*"], &[], None));
        assert_ne!(again.id(), id, "an id is never used twice");
    }

    /// Counts what it is given.
    #[derive(Default)]
    struct Counter(usize);

    impl Hasher for Counter {
        fn write(&mut self, bytes: &[u8]) {
            self.0 += bytes.len();
        }

        fn finish(&self) -> u64 {
            0
        }
    }

    /// A shard looks up the rights of hundreds of connections in a turn.
    #[test]
    fn finding_the_rights_of_a_tenants_user_costs_the_same_however_many_members_it_has() {
        let keys: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let cost = |keys: &[&str]| {
            let mut counter = Counter::default();
            access(&["*/*/*"], &[], Some(&[("machines", keys)])).hash(&mut counter);
            counter.0
        };
        assert_eq!(cost(&keys), cost(&keys[..1]));
    }

    /// A token may take milliseconds, and everybody else must not wait for it.
    #[test]
    fn rights_are_compiled_without_the_lock_and_are_one_nevertheless() {
        let interner = Interner::default();
        let content = || access(&["machines/get/*"], &[], None);
        let mut faster = None;
        let one = interner.intern_by(content(), |id, content_of_one| {
            assert!(!interner.table.is_locked());
            faster = Some(interner.intern(content()));
            Access::new(id, content_of_one)
        });
        assert!(faster.is_some_and(|faster| Arc::ptr_eq(&faster, &one)));
        assert!(Arc::ptr_eq(&one, &interner.intern(content())));
    }

    #[test]
    fn ids_do_not_run_out_whoever_asks_for_how_many() {
        let interner = Interner::default();
        interner.table.lock().next = u32::MAX.into();
        let ids = [1, 2, 3].map(|n| interner.intern(access(&[&format!("a/get/{n}")], &[], None)).id());
        assert!(ids[0] < ids[1] && ids[1] < ids[2], "{ids:?}");
    }

    #[test]
    fn what_nobody_uses_is_cleared_out() {
        let interner = Interner::default();
        for n in 0..10_000 {
            interner.intern(access(&[&format!("a/get/{n}")], &[], None));
        }
        assert!(interner.table.lock().live.len() <= 128);
    }
}
