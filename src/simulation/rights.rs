//! Who may see what: the file that the server reads, and a naive reading of the same rules.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use super::facts::{Fact, KEYS, KINDS};
use super::random::Random;
use crate::auth::{AuthOptions, Authority, Credential, Identity, Principal, TokenRequest, store_file};
use crate::clock;

pub(super) const USERS: usize = 4;
const ROLES: usize = 3;

/// A version of users, roles and one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rights {
    /// The secret of each user; `None` once it is removed.
    secrets: [Option<u8>; USERS],
    /// The role of each user.
    roles: [usize; USERS],
    /// The claims of each role.
    claims: [Vec<[&'static str; 3]>; ROLES],
    /// The member of the tenant, and the machines that it may see.
    tenant: Option<(usize, Vec<&'static str>)>,
}

impl Rights {
    /// Everybody may see everything.
    fn first() -> Self {
        let claims = [(); ROLES].map(|()| vec![["*", "*", "*"]]);
        Self { secrets: [Some(1); USERS], roles: [0, 1, 2, 0], claims, tenant: None }
    }

    fn change(&mut self, random: &mut Random) {
        let user = random.below(USERS);
        match random.below(10) {
            // The store needs one user.
            0 if user > 0 => self.secrets[user] = None,
            0..2 => self.secrets[user] = Some(self.secrets[user].map_or(9, |secret| secret % 20 + 1)),
            2..5 => self.roles[user] = random.below(ROLES),
            5..7 => {
                let keys = KEYS.into_iter().filter(|_| random.percent(50)).collect();
                self.tenant = random.percent(70).then_some((user, keys));
            }
            _ => {
                let claims = (0..random.between(1, 3)).map(|_| Self::claim(random)).collect();
                self.claims[random.below(ROLES)] = claims;
            }
        }
    }

    fn claim(random: &mut Random) -> [&'static str; 3] {
        let scope = if random.percent(40) { "*" } else { random.pick(&KINDS) };
        let specific = if random.percent(50) { "*" } else { random.pick(&KEYS) };
        [scope, random.pick(&["*", "get", "update", "create"]), specific]
    }

    fn to_toml(&self) -> String {
        let mut text = String::new();
        for (role, claims) in self.claims.iter().enumerate() {
            let claims: Vec<String> = claims.iter().map(|parts| format!("\"{}\"", parts.join("/"))).collect();
            writeln!(text, "[roles.r{role}]\nclaims = [{}]", claims.join(", ")).unwrap();
        }
        for (user, secret) in self.secrets.iter().enumerate() {
            let Some(secret) = secret else { continue };
            let (role, letter) = (self.roles[user], char::from(b'a' + secret % 25));
            writeln!(text, "[users.u{user}]\nroles = [\"r{role}\"]\nsecret = \"{letter:A>24}\"").unwrap();
        }
        if let Some((user, keys)) = self.tenant.as_ref().filter(|(user, _)| self.secrets[*user].is_some()) {
            writeln!(text, "[tenants.t]\nusers = [\"u{user}\"]\n[tenants.t.members]\nmachines = {keys:?}").unwrap();
        }
        text
    }

    pub(super) fn secret(&self, user: usize) -> Option<u8> {
        self.secrets[user]
    }

    /// Returns whether somebody who logged in with this secret may see an event.
    pub(super) fn sees(&self, user: usize, secret: u8, fact: &Fact) -> bool {
        if self.secrets[user] != Some(secret) {
            return false;
        }
        if fact.kind == "connections" && fact.key == format!("user:u{user}") {
            return true;
        }
        let claims = &self.claims[self.roles[user]];
        let is = |part: &str, name: &str| part == "*" || part == name;
        let shows = |[scope, action, key]: &[&str; 3]| {
            is(scope, &fact.kind) && (is(action, &fact.action) || *action == "get") && is(key, &fact.key)
        };
        let is_hidden = self.tenant.as_ref().is_some_and(|(member, keys)| {
            *member == user && fact.kind == "machines" && !keys.contains(&fact.key.as_str())
        });
        claims.iter().any(shows) && !is_hidden
    }
}

/// The real authority with its files, and what they are meant to say.
#[derive(Debug)]
pub(super) struct Office {
    data: tempfile::TempDir,
    pub(super) authority: Arc<Authority>,
}

thread_local! {
    /// One for all runs of a thread: opening one hashes passwords and starts threads.
    static OFFICE: RefCell<Option<Rc<Office>>> = const { RefCell::new(None) };
}

impl Office {
    /// Returns the authority, with the rights that every run begins with.
    pub(super) fn open() -> (Rc<Self>, Rights) {
        let rights = Rights::first();
        let office =
            OFFICE.with_borrow_mut(|office| Rc::clone(office.get_or_insert_with(|| Rc::new(Self::new(&rights)))));
        office.write(&rights.to_toml());
        office.authority.reload().unwrap();
        (office, rights)
    }

    fn new(rights: &Rights) -> Self {
        let data = tempfile::tempdir().unwrap();
        fs::write(store_file(data.path()), rights.to_toml()).unwrap();
        let options = AuthOptions { hash_workers: 1, ..AuthOptions::default() };
        let (authority, _) = Authority::open(data.path(), options).unwrap();
        Self { data, authority: Arc::new(authority) }
    }

    fn write(&self, text: &str) {
        let path = store_file(self.data.path());
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        }
        fs::write(path, text).unwrap();
    }

    /// Changes the file and has it read. What cannot be read changes nothing.
    pub(super) fn change(&self, rights: &mut Rights, random: &mut Random) {
        let path = store_file(self.data.path());
        if random.percent(25) {
            match random.below(3) {
                0 => self.write("[users.u0]\nroles = [\"nobody\"]\nsecret = \"A\"\n"),
                1 => self.write(""),
                _ if path.is_dir() => {}
                _ => {
                    fs::remove_file(&path).unwrap();
                    fs::create_dir(&path).unwrap();
                }
            }
            assert!(self.authority.reload().is_err(), "a file without use is refused");
            return;
        }
        rights.change(random);
        self.write(&rights.to_toml());
        self.authority.reload().unwrap();
    }

    /// Logs a user in; `None` if it was removed.
    pub(super) fn identity(&self, user: usize) -> Option<Identity> {
        let principal: Principal = format!("user:u{user}").parse().unwrap();
        let now = clock::now();
        let issued = self.authority.issue_local(&principal, &TokenRequest::default(), now).ok()?;
        let credential = Credential::Bearer(issued.token);
        Some(self.authority.authenticate(&credential, IpAddr::V4(Ipv4Addr::LOCALHOST), clock::both()).unwrap())
    }
}
