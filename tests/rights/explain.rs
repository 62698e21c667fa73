//! What `explain` says is what a shard does, and what it names is what is missing: for random registrations, events,
//! users, tenants and tokens.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hydrant::auth::{
    Access, AuthOptions, Authority, Claim, Credential, Principal, Secret, TenantRow, TokenRequest, edit_store,
};
use hydrant::clock;
use hydrant::event::{Draft, Event};
use hydrant::explain::{Cause, Explanation, Receiver, explain};
use hydrant::fanout::session::Shard;
use hydrant::index::filter::{self, Engine, Filter, View};
use hydrant::index::{Limits, Spec};
use hydrant::overflow::Overflow;
use hydrant::stats::OutboxLimits;

use crate::common::people::{HASH, now};

const TUPLES: usize = 10_000;
/// Users, each with rights and perhaps a tenant of its own.
const USERS: usize = 24;

const KINDS: [&str; 5] = ["machines", "jobs", "profiles", "connections", "tasks"];
const ACTIONS: [&str; 3] = ["create", "update", "delete"];
const KEYS: [&str; 6] = ["m1", "m2", "j1", "p1", "user:u0", "user:u1"];
const FILTERS: [&str; 6] = [
    "Stage=Eq(local)",
    "And(Stage=Ne(none),Machine=Exists())",
    "Or(Stage=In(a,b),Not(Machine=Eq(m1)))",
    "Stage=Changed(,local)",
    "Not(And(Stage=Re(^l),Machine=Exists()))",
    "Action=Eq(update)",
];

/// Plain numbers, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    /// `*`, a name or two.
    fn field(&mut self, all: &[&str]) -> String {
        match self.below(5) {
            0 | 1 => "*".to_owned(),
            2 => format!("{},{}", self.one_of(all), self.one_of(all)),
            _ => self.one_of(all).to_owned(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Registration {
    kind: String,
    action: String,
    key: String,
    filter: Option<String>,
}

impl Registration {
    fn random(numbers: &mut Numbers) -> Self {
        let kinds = [KINDS.as_slice(), &["machine_jobs"]].concat();
        Self {
            kind: numbers.field(&kinds),
            action: numbers.field(&ACTIONS),
            key: numbers.field(&KEYS),
            filter: (numbers.below(2) == 0).then(|| numbers.one_of(&FILTERS).to_owned()),
        }
    }

    fn text(&self) -> String {
        let filter = self.filter.as_ref().map(|filter| format!(".{filter}")).unwrap_or_default();
        format!("{}.{}.{}{filter}", self.kind, self.action, self.key)
    }

    /// With what a cause names made true.
    fn mended(&self, cause: &Cause, event: &Event) -> Self {
        let mut mended = self.clone();
        match cause {
            Cause::Type { .. } => event.kind().clone_into(&mut mended.kind),
            Cause::Action { .. } => event.action().clone_into(&mut mended.action),
            Cause::Key { found, .. } => found.trim_matches('`').clone_into(&mut mended.key),
            Cause::Filter { .. } => mended.filter = None,
            _ => {}
        }
        mended
    }
}

fn event(numbers: &mut Numbers) -> Event {
    let (kind, key) = (numbers.one_of(&KINDS), numbers.one_of(&KEYS));
    let machine = ["", r#","Machine":"m1""#, r#","Machine":"m2""#][numbers.below(3)];
    let object = format!(r#"{{"Stage":"{}"{machine}}}"#, numbers.one_of(&["local", "none", "a"]));
    let mut draft = Draft::new(kind, numbers.one_of(&ACTIONS), key);
    (draft.object, draft.original) = (&object, r#"{"Stage":"none"}"#);
    draft.seal(now())
}

/// What decides what somebody may see.
#[derive(Debug, Clone)]
struct Rights {
    name: String,
    claims: Vec<String>,
    tenant: Option<TenantRow>,
    narrowing: Option<[String; 3]>,
}

impl Rights {
    fn random(number: usize, numbers: &mut Numbers) -> Self {
        let name = format!("u{number}");
        let actions = ["get", "update", "list", "*", "create,delete"];
        let claim =
            |numbers: &mut Numbers| [numbers.field(&KINDS), numbers.one_of(&actions).to_owned(), numbers.field(&KEYS)];
        let claims = (0..numbers.below(4)).map(|_| claim(numbers).join("/")).collect();
        let listed =
            |numbers: &mut Numbers| (numbers.one_of(&KINDS).to_owned(), [numbers.one_of(&KEYS).to_owned()].into());
        let members = (0..numbers.below(3)).map(|_| listed(numbers)).collect();
        let tenant = (numbers.below(3) == 0).then(|| TenantRow { users: [name.clone()].into(), members });
        let narrowing = (numbers.below(4) == 0).then(|| claim(numbers));
        Self { name, claims, tenant, narrowing }
    }

    /// With what a cause names made true.
    fn mended(&self, cause: &Cause) -> Self {
        let mut mended = self.clone();
        match cause {
            Cause::Claim { claim } => mended.claims.push(claim.clone()),
            Cause::Narrowing { .. } => mended.narrowing = None,
            Cause::Tenant { model, key } => {
                let tenant = mended.tenant.as_mut().unwrap();
                tenant.members.entry(model.clone()).or_default().insert(key.clone());
            }
            _ => {}
        }
        mended
    }

    fn principal(&self) -> Principal {
        format!("user:{}", self.name).parse().unwrap()
    }
}

/// What these people may see, by a store of their own.
fn accesses(all: &[Rights]) -> Vec<Arc<Access>> {
    let dir = tempfile::tempdir().unwrap();
    edit_store(dir.path(), |store| {
        for Rights { name, claims, tenant, .. } in all {
            let claims: Vec<Claim> = claims.iter().map(|claim| claim.parse().unwrap()).collect();
            store.set_role(name, claims)?;
            store.add_user(name, HASH.clone(), std::slice::from_ref(name))?;
            if let Some(tenant) = tenant {
                store.set_tenant(name, tenant.clone())?;
            }
        }
        Ok(())
    })
    .unwrap();
    let (authority, _) = Authority::open(dir.path(), AuthOptions::default()).unwrap();
    let access = |rights: &Rights| {
        let Some([scope, action, specific]) = rights.narrowing.clone() else {
            return authority.access_of_user(&rights.name).unwrap();
        };
        let request = TokenRequest {
            scope: Some(scope),
            action: Some(action),
            specific: Some(specific),
            ..TokenRequest::default()
        };
        let issued = authority.issue_local(&rights.principal(), &request, now()).unwrap();
        let credential = Credential::Bearer(Secret::new(issued.token.expose()));
        let identity = authority.authenticate(&credential, IpAddr::V4(Ipv4Addr::LOCALHOST), clock::both()).unwrap();
        authority.access(&identity).unwrap()
    };
    all.iter().map(access).collect()
}

/// Whether a shard delivers.
fn delivers(
    shard: &mut Shard,
    event: &Arc<Event>,
    all: &[Registration],
    rights: &Rights,
    access: &Arc<Access>,
) -> bool {
    let conn = shard.open(rights.principal(), access, Overflow::Disconnect);
    for registration in all {
        shard.text(conn, &format!("register {}", registration.text()), now());
    }
    let before = shard.fanout().depth(conn).events;
    shard.publish(event, 0);
    let delivered = shard.fanout().depth(conn).events > before;
    shard.remove(conn);
    delivered
}

fn explained(event: &Event, all: &[Registration], rights: &Rights, access: &Access) -> Explanation {
    let texts: Vec<String> = all.iter().map(Registration::text).collect();
    let limits = filter::Limits::default();
    let specs: Vec<Spec> = texts.iter().map(|text| Spec::parse(text, &limits).unwrap()).collect();
    let pairs: Vec<(&str, &Spec)> = texts.iter().map(String::as_str).zip(&specs).collect();
    let principal = rights.principal();
    explain(event, &pairs, Some(Receiver { principal: principal.as_str(), account: principal.account(), access }))
}

/// Returns whether what a cause says about the filter is so: its term is false.
fn is_so(cause: &Cause, event: &Event) -> bool {
    let Cause::Filter { term, .. } = cause else { return true };
    let mut engine = Engine::new();
    let term = engine.intern(&Filter::parse(term, &filter::Limits::default()).unwrap());
    !engine.begin(View::event(event)).matches(term)
}

fn is_of_rights(cause: &Cause) -> bool {
    matches!(cause, Cause::Claim { .. } | Cause::Narrowing { .. } | Cause::Tenant { .. })
}

/// What is delivered once something that an explanation names is made true.
struct Trial {
    event: Arc<Event>,
    registration: Registration,
    person: usize,
    rights: Rights,
    delivers: bool,
    case: String,
}

/// What everybody may see whose rights were mended, by these rights: one store for all, in which each has a name of its
/// own.
fn mended_accesses(trials: &[Trial]) -> BTreeMap<String, Arc<Access>> {
    let distinct: BTreeMap<String, &Rights> =
        trials.iter().map(|trial| (format!("{:?}", trial.rights), &trial.rights)).collect();
    let named = |(number, rights): (usize, &&Rights)| {
        let name = format!("mended-{number}");
        let tenant = rights.tenant.clone().map(|tenant| TenantRow { users: [name.clone()].into(), ..tenant });
        Rights { name, tenant, ..(*rights).clone() }
    };
    let all: Vec<Rights> = distinct.values().enumerate().map(named).collect();
    distinct.into_keys().zip(accesses(&all)).collect()
}

#[test]
fn explain_agrees_with_delivery_and_names_what_is_missing() {
    let mut numbers = Numbers(7);
    let people: Vec<Rights> = (0..USERS).map(|number| Rights::random(number, &mut numbers)).collect();
    let accesses = accesses(&people);
    let mut shard = Shard::new(Limits::default(), OutboxLimits { bytes: 1 << 20, events: 1000 }, None);
    let (mut delivered, mut by_registrations, mut by_rights, mut trials) = (0, 0, 0, Vec::new());
    for _ in 0..TUPLES {
        let event = Arc::new(event(&mut numbers));
        let all: Vec<Registration> = (0..numbers.below(4)).map(|_| Registration::random(&mut numbers)).collect();
        let at = numbers.below(USERS);
        let (rights, access) = (&people[at], &accesses[at]);
        let said = explained(&event, &all, rights, access);
        let does = delivers(&mut shard, &event, &all, rights, access);
        let case = || format!("{} for {rights:?} with {all:?}: {said:?}", event.json());
        assert_eq!(said.delivered, does, "{}", case());
        assert_eq!(said.delivered, said.causes.is_empty(), "{}", case());
        assert!(said.causes.iter().all(|cause| is_so(cause, &event)), "{}", case());
        delivered += usize::from(does);
        if does || all.is_empty() {
            assert_eq!(said.causes.contains(&Cause::NoRegistration), all.is_empty(), "{}", case());
            continue;
        }
        let (of_rights, of_specs): (Vec<&Cause>, Vec<&Cause>) =
            said.causes.iter().partition(|cause| is_of_rights(cause));
        let nearest = all.iter().find(|one| one.text() == said.registrations[0].spec).unwrap();
        // All that is named is made true, or all but one.
        for left_out in std::iter::once(None).chain(said.causes.iter().map(Some)) {
            let is_mended = |cause: &&&Cause| left_out != Some(**cause);
            let registration =
                of_specs.iter().filter(is_mended).fold(nearest.clone(), |one, cause| one.mended(cause, &event));
            let rights = of_rights.iter().filter(is_mended).fold(rights.clone(), |one, cause| one.mended(cause));
            let case = format!("without {left_out:?}: {}", case());
            trials.push(Trial {
                event: Arc::clone(&event),
                registration,
                person: at,
                rights,
                delivers: left_out.is_none(),
                case,
            });
        }
        by_registrations += usize::from(!of_specs.is_empty());
        by_rights += usize::from(!of_rights.is_empty());
    }
    let accesses = mended_accesses(&trials);
    for Trial { event, registration, person, rights, delivers, case } in &trials {
        let access = &accesses[&format!("{rights:?}")];
        let does = self::delivers(&mut shard, event, std::slice::from_ref(registration), &people[*person], access);
        assert_eq!(does, *delivers, "{case}");
    }
    assert!(
        delivered > TUPLES / 50 && by_registrations > TUPLES / 50 && by_rights > TUPLES / 50,
        "{delivered} {by_registrations} {by_rights}"
    );
}
