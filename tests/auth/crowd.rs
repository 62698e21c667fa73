//! Many logins at once: right passwords are never held back, and nobody shuts out others.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hydrant::auth::{AuthError, AuthOptions, Credential, Secret};

use crate::support::{CHEAP, HASH, PASSWORD, PATIENCE, PEER, Realm, clocks, now, usual};

fn basic(user: &str, password: &str) -> Credential {
    Credential::Basic { user: user.to_owned(), password: Secret::new(password) }
}

/// An address of the network with this number.
fn network(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0001 + (n << 8)).into()
}

async fn waits(future: impl Future) -> bool {
    tokio::time::timeout(Duration::ZERO, future).await.is_err()
}

#[tokio::test]
async fn equal_right_passwords_at_once_are_one_hash() {
    let realm = Realm::with(AuthOptions::default(), usual);
    let logins = join_all((0..60).map(|_| realm.authority.login(basic("alice", PASSWORD), PEER))).await;
    assert_eq!(logins.iter().filter_map(|login| login.as_ref().err()).collect::<Vec<_>>(), [&AuthError::Denied; 0]);
    assert_eq!(realm.authority.passwords_hashed(), 1);
    let logins = join_all((0..60).map(|_| realm.authority.login(basic("alice", "wrong"), PEER))).await;
    assert!(logins.iter().all(|login| login.as_ref().err() == Some(&AuthError::Denied)), "of the wrong ones too");
    assert_eq!(realm.authority.passwords_hashed(), 2);
}

/// The decision on a password that is being hashed for one address is told to no other.
#[tokio::test]
async fn equal_passwords_from_two_addresses_are_hashed_for_each() {
    let realm = Realm::with(AuthOptions::default(), usual);
    let logins = join_all((0..6).map(|n| realm.authority.login(basic("alice", PASSWORD), network(n / 2)))).await;
    assert!(logins.iter().all(Result::is_ok));
    assert_eq!(realm.authority.passwords_hashed(), 3);
}

#[tokio::test]
async fn after_a_restart_a_thousand_clients_are_a_hundred_hashes() {
    let realm = Realm::with(AuthOptions::default(), |store| {
        (0..100).try_for_each(|n| store.add_user(&format!("user{n}"), CHEAP.clone(), &[]))
    });
    let login = |n: u32| realm.authority.login(basic(&format!("user{}", n % 100), PASSWORD), PEER);
    let logins = join_all((0..1000).map(login)).await;
    assert_eq!(logins.iter().filter_map(|login| login.as_ref().err()).collect::<Vec<_>>(), [&AuthError::Denied; 0]);
    assert_eq!(realm.authority.passwords_hashed(), 100);
}

#[tokio::test]
async fn wrong_ones_from_everywhere_do_not_shut_out_the_right_one() {
    let realm = Realm::with(AuthOptions { hash_workers: 1, ..AuthOptions::default() }, usual);
    let attack = |n: u32| {
        let authority = Arc::clone(&realm.authority);
        tokio::spawn(async move {
            authority.login(basic(&format!("name{}", n % 7), &format!("wrong{n}")), network(n)).await
        })
    };
    let wrong: Vec<_> = (0..300).map(attack).collect();
    let hashed = || wrong.iter().filter(|login| login.is_finished()).count();
    // All wait but the one that is hashed now, and those that were.
    let queued = async {
        while realm.authority.logins_waiting() + hashed() < 299 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, queued).await.expect("all of them");
    let before = hashed();
    realm.authority.login(basic("alice", PASSWORD), PEER).await.unwrap();
    let meanwhile = hashed() - before;
    // In their order it would be the last of 300. The hasher goes on while this thread gets no time.
    assert!(meanwhile < 60, "{meanwhile} were hashed before the one that came last from a network of its own");
    wrong.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn what_the_endpoint_checks_is_held_back_only_if_it_is_wrong() {
    let realm = Realm::with(AuthOptions::default(), usual);
    let authority = &realm.authority;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(authority.attempt("alice", PEER).await.unwrap());
    }
    let mut sixth = pin!(authority.attempt("alice", PEER));
    assert!(waits(sixth.as_mut()).await, "all that are under way may be wrong");
    // One that nobody could tell of, and one that was right.
    drop(held.pop());
    let sixth = sixth.await.unwrap();
    assert!(waits(authority.attempt("alice", PEER)).await);
    sixth.ended(true);
    let seventh = authority.attempt("alice", PEER).await.unwrap();
    held.into_iter().chain([seventh]).for_each(|attempt| attempt.ended(false));
    let refused = authority.attempt("alice", PEER).await.unwrap_err();
    assert!(matches!(refused, AuthError::Throttled { .. }), "{refused:?}");
    assert!(authority.attempt("alice", network(1)).await.is_ok() && authority.attempt("bob", PEER).await.is_ok());
}

/// Who edits the file by hand may put another hash there and leave the secret.
#[test]
fn a_known_password_ends_with_its_hash() {
    let realm = Realm::with(AuthOptions::default(), usual);
    realm.user("alice");
    let path = realm.path().join("auth.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let other = String::from(hydrant::auth::PasswordHash::make("another").unwrap());
    std::fs::write(&path, text.replace(&String::from(HASH.clone()), &other)).unwrap();
    assert!(realm.authority.reload().unwrap());
    assert_eq!(
        realm.authority.authenticate(&basic("alice", PASSWORD), PEER, clocks(now())).unwrap_err(),
        AuthError::Denied
    );
}
