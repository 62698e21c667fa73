//! What a connection has shown before is not verified again, until anything that it depends on has changed.

use std::net::IpAddr;
use std::sync::Arc;

use hydrant::auth::{AuthOptions, Credential, Identity, PasswordHash, Recognized, Remembered, Secret, TokenRequest};
use jiff::Timestamp;

use super::support::{HASH, PASSWORD, PEER, Realm, at, clocks, now, options, usual};

/// One connection of a client.
struct Kept<'r> {
    realm: &'r Realm,
    remembered: Remembered,
    /// The client's address.
    peer: IpAddr,
}

impl<'r> Kept<'r> {
    fn new(realm: &'r Realm) -> Self {
        Self { realm, remembered: Remembered::default(), peer: PEER }
    }

    /// What a request with these credentials does; whether it was recognized.
    fn request(&self, header: &str, credential: &Credential, now: Timestamp) -> Option<(Arc<Identity>, bool)> {
        let authority = &self.realm.authority;
        if let Some(Recognized { identity, is_ambient }) =
            authority.recognize(&self.remembered, header.as_bytes(), self.peer, clocks(now))
        {
            assert_eq!(is_ambient, credential.is_ambient());
            return Some((identity, true));
        }
        let generation = authority.generation();
        let identity = Arc::new(authority.authenticate(credential, self.peer, clocks(now)).ok()?);
        authority.remember(&self.remembered, (header.as_bytes(), generation), (credential, self.peer), &identity);
        Some((identity, false))
    }

    fn bearer(&self, token: &str, now: Timestamp) -> Option<bool> {
        let credential = Credential::Bearer(Secret::new(token));
        self.request(&format!("Bearer {token}"), &credential, now).map(|(_, recognized)| recognized)
    }

    fn basic(&self, user: &str, password: &str, now: Timestamp) -> Option<bool> {
        let credential = Credential::Basic { user: user.to_owned(), password: Secret::new(password) };
        self.request(&format!("Basic {user} {password}"), &credential, now).map(|(_, recognized)| recognized)
    }
}

#[test]
fn the_same_token_is_verified_once_a_connection() {
    let realm = Realm::usual();
    let token = realm.token("alice", &TokenRequest::default());
    let (one, other) = (Kept::new(&realm), Kept::new(&realm));
    let before = realm.authority.credentials_verified();
    let seen: Vec<Option<bool>> = (0..3).map(|_| one.bearer(&token, now())).collect();
    assert_eq!(seen, [Some(false), Some(true), Some(true)]);
    assert_eq!(other.bearer(&token, now()), Some(false), "another connection has shown nothing");
    assert_eq!(realm.authority.credentials_verified() - before, 2);
}

#[test]
fn other_credentials_on_the_same_connection_are_themselves() {
    let realm = Realm::usual();
    let [alice, bob] = ["alice", "bob"].map(|user| realm.token(user, &TokenRequest::default()));
    let kept = Kept::new(&realm);
    for (token, name) in [(&alice, "user:alice"), (&bob, "user:bob"), (&bob, "user:bob"), (&alice, "user:alice")] {
        let credential = Credential::Bearer(Secret::new(token.as_str()));
        let (identity, _) = kept.request(&format!("Bearer {token}"), &credential, now()).unwrap();
        assert_eq!(identity.principal().as_str(), name);
    }
    let mut forged = alice.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    assert_eq!(kept.bearer(&forged, now()), None, "as long, and one letter different");
    assert_eq!(kept.bearer(&alice, now()), Some(true), "what is refused replaces nothing");
}

#[test]
fn a_token_ends_when_it_expires() {
    let realm = Realm::usual();
    let kept = Kept::new(&realm);
    let token =
        realm.token("alice", &TokenRequest { ttl: Some(std::time::Duration::from_mins(1)), ..TokenRequest::default() });
    assert_eq!([0, 59].map(|second| kept.bearer(&token, at(second))), [Some(false), Some(true)]);
    assert_eq!(kept.bearer(&token, at(60)), None);
}

#[test]
fn every_change_ends_it() {
    let realm = Realm::usual();
    let [alice, root] = ["alice", "root"].map(|user| realm.token(user, &TokenRequest::default()));
    let kept = Kept::new(&realm);
    let shows = |token: &str| [(); 2].map(|()| kept.bearer(token, now()));
    assert_eq!(shows(&alice), [Some(false), Some(true)]);
    realm.edit(|store| store.set_user_roles("bob", &["superuser".to_owned()]));
    assert_eq!(shows(&alice), [Some(false), Some(true)], "whatever the change, it is verified again");
    realm.edit(|store| store.set_password("alice", PasswordHash::make("another-horse")?));
    assert_eq!(shows(&alice), [None, None]);
    assert_eq!(shows(&root), [Some(false), Some(true)]);
    realm.authority.rotate_keys().unwrap();
    assert_eq!(shows(&root), [Some(false), Some(true)], "the previous key still verifies");
    realm.authority.rotate_keys().unwrap();
    assert_eq!(shows(&root), [None, None]);
    let root = realm.token("root", &TokenRequest::default());
    assert_eq!(shows(&root), [Some(false), Some(true)]);
    realm.edit(|store| store.remove_user("root"));
    assert_eq!(shows(&root), [None, None]);
}

#[test]
fn a_change_during_the_verification_ends_it_too() {
    let realm = Realm::usual();
    let (token, kept) = (realm.token("alice", &TokenRequest::default()), Kept::new(&realm));
    let (header, credential) = (format!("Bearer {token}"), Credential::Bearer(Secret::new(token.as_str())));
    let generation = realm.authority.generation();
    let identity = Arc::new(realm.authority.authenticate(&credential, PEER, clocks(now())).unwrap());
    realm.edit(|store| store.remove_user("alice"));
    realm.authority.remember(&kept.remembered, (header.as_bytes(), generation), (&credential, PEER), &identity);
    assert_eq!(kept.bearer(&token, now()), None);
}

#[test]
fn a_password_is_known_for_a_minute_after_its_last_use() {
    let realm = Realm::usual();
    let kept = Kept::new(&realm);
    let uses = [0, 59, 110, 169].map(|second| kept.basic("alice", PASSWORD, at(second)));
    assert_eq!(uses, [Some(false), Some(true), Some(true), Some(true)], "each is a use, as without it");
    assert_eq!(realm.authority.passwords_hashed(), 1);
    assert_eq!(Kept::new(&realm).basic("alice", PASSWORD, at(228)), Some(false));
    assert_eq!(realm.authority.passwords_hashed(), 1, "its uses here count there");
    assert_eq!(kept.basic("alice", PASSWORD, at(289)), Some(false));
    assert_eq!(realm.authority.passwords_hashed(), 2);
    assert_eq!(kept.basic("alice", "wrong", at(289)), None);
    realm.edit(|store| store.set_password("alice", PasswordHash::make("another-horse")?));
    assert_eq!(kept.basic("alice", PASSWORD, at(290)), None);
}

/// The connection of a proxy has requests of several clients.
#[test]
fn the_same_password_from_another_address_is_verified_there() {
    let realm = Realm::usual();
    let mut kept = Kept::new(&realm);
    assert_eq!([(); 2].map(|()| kept.basic("alice", PASSWORD, now())), [Some(false), Some(true)]);
    kept.peer = "192.0.2.8".parse().unwrap();
    assert_eq!([(); 2].map(|()| kept.basic("alice", PASSWORD, now())), [Some(false), Some(true)]);
    assert_eq!(realm.authority.passwords_hashed(), 2);
}

#[test]
fn without_a_cache_every_password_is_hashed() {
    let realm = Realm::with(AuthOptions { password_cache: std::time::Duration::ZERO, ..options() }, usual);
    let kept = Kept::new(&realm);
    assert_eq!([(); 2].map(|()| kept.basic("alice", PASSWORD, now())), [Some(false); 2]);
    assert_eq!(realm.authority.passwords_hashed(), 2);
}

#[test]
fn nothing_that_was_shown_is_kept() {
    let realm = Realm::new(|store| store.add_user("alice", HASH.clone(), &[]));
    let kept = Kept::new(&realm);
    kept.basic("alice", PASSWORD, now()).unwrap();
    let shown = format!("{:?}", kept.remembered);
    assert!(shown.contains("user:alice") && !shown.contains(PASSWORD), "{shown}");
}
