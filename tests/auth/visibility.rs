//! What is visible and what is granted, against a checker that is as simple as the rules are written down.

use std::collections::BTreeMap;

use hydrant::auth::{Access, Identity, TenantRow, TokenRequest};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};

use crate::support::{HASH, Realm, now};

const KINDS: [&str; 7] = ["machines", "jobs", "work_orders", "tasks", "users", "beeblebrox", "a"];
const ACTIONS: [&str; 8] = ["get", "list", "update", "update:/a", "update:/a/b", "save", "action", "action:x"];
const KEYS: [&str; 5] = ["m1", "m2", "j1", "j2", ""];

/// A claim as three texts.
type Triple = (String, String, String);

#[derive(Debug, Clone)]
struct World {
    roles: Vec<Vec<Triple>>,
    users: Vec<Person>,
    tenants: Vec<BTreeMap<String, Vec<String>>>,
    events: Vec<Event>,
}

#[derive(Debug, Clone)]
struct Person {
    roles: Vec<usize>,
    tenant: Option<usize>,
    token_roles: Option<Vec<usize>>,
    token_claim: Option<Triple>,
}

type Event = (&'static str, &'static str, &'static str, Option<&'static str>);

fn part(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("*".to_owned()),
        3 => subsequence(of, 1..=2).prop_map(|some| some.join(",")),
        1 => subsequence(of, 2).prop_map(|some| format!(" {} , {}", some[0], some[1])),
    ]
}

/// Scopes and actions are never empty.
fn claim() -> impl Strategy<Value = Triple> {
    (part(&KINDS), part(&ACTIONS), part(&KEYS))
}

fn person() -> impl Strategy<Value = Person> {
    let some_roles = || subsequence((0..6).collect::<Vec<usize>>(), 0..=3);
    let tenant = prop_oneof![2 => Just(None), 1 => (0..3_usize).prop_map(Some)];
    let token_roles =
        prop_oneof![2 => Just(None), 1 => subsequence((0..6).collect::<Vec<usize>>(), 1..=3).prop_map(Some)];
    let token_claim = prop_oneof![2 => Just(None), 1 => claim().prop_map(Some)];
    (some_roles(), tenant, token_roles, token_claim).prop_map(|(roles, tenant, token_roles, token_claim)| Person {
        roles,
        tenant,
        token_roles,
        token_claim,
    })
}

fn event() -> impl Strategy<Value = Event> {
    let machine = prop_oneof![Just(None), select(&KEYS[..]).prop_map(Some)];
    (select(&KINDS[..]), select(&ACTIONS[..]), select(&KEYS[..]), machine)
}

fn world() -> impl Strategy<Value = World> {
    let role = prop_oneof![
        8 => prop::collection::vec(claim(), 0..4),
        1 => Just(vec![("*".to_owned(), "*".to_owned(), "*".to_owned())]),
    ];
    let listed = subsequence(&KEYS[..], 0..=3).prop_map(|keys| keys.into_iter().map(ToOwned::to_owned).collect());
    let tenant = prop::collection::btree_map(select(&KINDS[..]).prop_map(ToOwned::to_owned), listed, 0..4);
    (
        prop::collection::vec(role, 6),
        prop::collection::vec(person(), 10),
        prop::collection::vec(tenant, 3),
        prop::collection::vec(event(), 200),
    )
        .prop_map(|(roles, users, tenants, events)| World { roles, users, tenants, events })
}

// The rules, word for word (docs/security.md).

fn matches(list: &str, value: &str) -> bool {
    list.split(',').any(|one| one.trim() == "*" || one.trim() == value)
}

fn claim_sees(claim: &Triple, (kind, action, key, machine): Event) -> bool {
    let may_get = claim.1.split(',').any(|one| one.trim() == "get");
    let through_machine =
        kind == "jobs" && machine.is_some_and(|machine| !machine.is_empty() && matches(&claim.2, machine));
    matches(&claim.0, kind) && (matches(&claim.2, key) || through_machine) && (may_get || matches(&claim.1, action))
}

fn action_within(have: &str, wanted: &str) -> bool {
    match wanted {
        "update:/a" => ["*", "update", "update:/a"].contains(&have),
        "update:/a/b" => ["*", "update", "update:/a", "update:/a/b"].contains(&have),
        "action:x" => ["*", "action", "action:x"].contains(&have),
        other => have == "*" || have == other,
    }
}

fn contains(have: &Triple, wanted: &Triple) -> bool {
    let each = |have: &str, wanted: &str, within: fn(&str, &str) -> bool| {
        let list = |text: &str| -> Vec<String> { text.split(',').map(|one| one.trim().to_owned()).collect() };
        let wanted = if list(wanted).contains(&"*".to_owned()) { vec!["*".to_owned()] } else { list(wanted) };
        wanted.iter().all(|wanted| list(have).iter().any(|have| have == "*" || within(have, wanted)))
    };
    each(&have.0, &wanted.0, |h, w| h == w)
        && each(&have.1, &wanted.1, |h, w| if w == "*" { h == "*" } else { action_within(h, w) })
        && each(&have.2, &wanted.2, |h, w| h == w)
}

fn tenant_shows(tenant: &BTreeMap<String, Vec<String>>, (kind, _, key, machine): Event) -> bool {
    let has = |kind: &str, key: &str| tenant.get(kind).is_some_and(|keys| keys.iter().any(|listed| listed == key));
    if kind != "jobs" && kind != "work_orders" {
        return !tenant.contains_key(kind) || has(kind, key);
    }
    let machine = machine.filter(|machine| !machine.is_empty());
    let restricted = tenant.contains_key(kind) || tenant.contains_key("machines");
    !restricted || has(kind, key) || machine.is_some_and(|machine| has(kind, machine) || has("machines", machine))
}

impl World {
    /// The claims that somebody has, before its token's triple.
    fn claims(&self, person: &Person) -> Vec<Triple> {
        let own: Vec<&Vec<Triple>> = person.roles.iter().map(|&role| &self.roles[role]).collect();
        let roles = match &person.token_roles {
            None => own,
            Some(wanted) => {
                let within = |role: &Vec<Triple>| {
                    own.iter().any(|have| role.iter().all(|c| have.iter().any(|h| contains(h, c))))
                };
                wanted.iter().map(|&role| &self.roles[role]).filter(|role| within(role)).collect()
            }
        };
        roles.into_iter().flatten().cloned().collect()
    }

    fn sees(&self, person: &Person, event: Event) -> bool {
        self.claims(person).iter().any(|claim| claim_sees(claim, event))
            && person.token_claim.as_ref().is_none_or(|claim| claim_sees(claim, event))
            && person.tenant.is_none_or(|tenant| tenant_shows(&self.tenants[tenant], event))
    }

    fn permits(&self, person: &Person, (kind, action, key, _): Event) -> bool {
        let wanted = (kind.to_owned(), action.to_owned(), key.to_owned());
        let listed =
            |tenant: &BTreeMap<String, Vec<String>>| tenant.get(kind).is_none_or(|keys| keys.iter().any(|k| k == key));
        self.claims(person).iter().any(|claim| contains(claim, &wanted))
            && person.token_claim.as_ref().is_none_or(|claim| contains(claim, &wanted))
            && person.tenant.is_none_or(|tenant| listed(&self.tenants[tenant]))
    }

    fn realm(&self) -> Realm {
        Realm::new(|store| {
            for (n, role) in self.roles.iter().enumerate() {
                let claims = role.iter().map(|(s, a, k)| hydrant::auth::Claim::new(s, a, k).unwrap());
                store.set_role(&format!("r{n}"), claims.collect())?;
            }
            for (n, person) in self.users.iter().enumerate() {
                let roles: Vec<String> = person.roles.iter().map(|role| format!("r{role}")).collect();
                store.add_user(&format!("u{n}"), HASH.clone(), &roles)?;
            }
            for (n, members) in self.tenants.iter().enumerate() {
                let users = self.users.iter().enumerate().filter(|(_, person)| person.tenant == Some(n));
                let members = members.iter().map(|(kind, keys)| (kind.clone(), keys.iter().cloned().collect()));
                let row =
                    TenantRow { users: users.map(|(n, _)| format!("u{n}")).collect(), members: members.collect() };
                store.set_tenant(&format!("t{n}"), row)?;
            }
            Ok(())
        })
    }
}

fn let_in(realm: &Realm, n: usize, person: &Person) -> Identity {
    let (scope, action, specific) =
        person.token_claim.clone().map_or((None, None, None), |(s, a, k)| (Some(s), Some(a), Some(k)));
    let roles = person.token_roles.iter().flatten().map(|role| format!("r{role}")).collect();
    let request = TokenRequest { ttl: None, roles, scope, action, specific };
    let subject = format!("user:u{n}").parse().unwrap();
    let token = realm.authority.issue_local(&subject, &request, now()).unwrap().token;
    realm.bearer(token.expose(), now()).unwrap()
}

fn agree(world: &World, person: &Person, access: &Access) -> Result<usize, TestCaseError> {
    let mut visible = 0;
    for &event in &world.events {
        let (kind, action, key, machine) = event;
        let seen = access.sees(kind, action, key, machine);
        prop_assert_eq!(seen, world.sees(person, event), "sees {:?}: {:?}", event, person);
        let granted = access.permits(kind, action, key);
        prop_assert_eq!(granted, world.permits(person, event), "permits {:?}: {:?}", event, person);
        visible += usize::from(seen);
    }
    Ok(visible)
}

/// 50 worlds of 10 users and 200 events: 100,000 pairs.
#[test]
fn everybody_sees_exactly_what_the_rules_say() {
    let (pairs, visible) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: 50, failure_persistence: None, ..Config::default() });
    let checked = runner.run(&world(), |world| {
        let realm = world.realm();
        for (n, person) in world.users.iter().enumerate() {
            let identity = let_in(&realm, n, person);
            let access = realm.authority.access(&identity).unwrap();
            visible.set(visible.get() + agree(&world, person, &access)?);
            pairs.set(pairs.get() + world.events.len());
        }
        Ok(())
    });
    checked.unwrap();
    assert!(pairs.get() >= 100_000);
    let share = visible.get() * 100 / pairs.get();
    assert!((5..95).contains(&share), "{share} % are visible: the worlds tell too little");
}
