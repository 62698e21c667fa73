//! The data directory: what a running authority takes from it and what it refuses.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use hydrant::auth::directory::Directory as Accounts;
use hydrant::auth::{
    AuthError, AuthFile, Authority, RevokedError, StoreError, TenantRow, edit_store, exposure_of_secret, exposures,
    read_store,
};

use crate::support::{HASH, PATIENCE, Realm, UUID, clocks, now, options, ttl};

fn tenant(users: &[&str], machines: &[&str]) -> TenantRow {
    let set = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    TenantRow { users: set(users), members: [("machines".to_owned(), set(machines))].into() }
}

#[test]
fn a_bad_file_is_refused_and_what_was_there_stays() {
    let realm = Realm::usual();
    let path = realm.path().join("auth.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let alice = realm.user("alice");
    let generation = realm.authority.generation();
    let gone = good.replace("[users.alice]", "[users.carol]");
    let bads = [
        String::new() + "users = 7",
        good.replace("\"operator\"", "\"opertor\""),
        good.replace("[users.bob]", "[users.bob"),
        gone + "\n[tenants.lab]\nusers = [\"alice\"]\n",
    ];
    for bad in &bads {
        std::fs::write(&path, bad).unwrap();
        let error = realm.authority.reload().unwrap_err();
        assert!(matches!(&error.0[..], [StoreError::Invalid { line, .. }] if *line > 0), "{error}");
        assert_eq!(realm.authority.generation(), generation);
        assert!(realm.authority.access(&alice).is_ok());
        assert!(Authority::open(realm.path(), options()).is_err(), "nor does a start take it");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(realm.authority.reload().is_err(), "a store that is missing is no empty store");
    assert!(realm.authority.access(&alice).is_ok());
    std::fs::write(&path, &good).unwrap();
    assert!(!realm.authority.reload().unwrap(), "nothing has changed");
    assert_eq!(realm.authority.generation(), generation);
}

/// Also by its name alone: whoever puts another secret in its place means to end what the old one has signed.
#[test]
fn a_key_that_was_replaced_is_taken() {
    let realm = Realm::usual();
    let token = realm.token("alice", &ttl(60));
    let connected = realm.bearer(&token, now()).unwrap();
    let path = realm.path().join("token-keys.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let secret = realm.keys()["keys"][0]["secret"].as_str().unwrap().to_owned();
    std::fs::write(&path, text.replace(&secret, &"A".repeat(43))).unwrap();
    assert!(realm.authority.reload().unwrap());
    assert!(realm.bearer(&token, now()).is_err());
    assert_eq!(realm.authority.access(&connected).unwrap_err(), RevokedError::KeyRetired, "who is connected goes too");
    assert!(realm.bearer(&realm.token("alice", &ttl(60)), now()).is_ok());
}

/// Files are looked at four times in a second.
async fn at_last(what: &str, mut seen: impl FnMut() -> bool) {
    let holds = async {
        while !seen() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, holds).await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_independent_of_one_another() {
    let realm = Realm::usual();
    let watcher = realm.authority.watch();
    let (alice, bob) = (realm.user("alice"), realm.user("bob"));
    let path = realm.path().join("token-keys.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, "keys = []").unwrap();
    edit_store(realm.path(), |store| store.remove_user("bob")).unwrap();
    at_last("the user is removed", || realm.authority.access(&bob).is_err()).await;
    at_last("the keys are refused", || realm.authority.refusals().len() == 1).await;
    let (file, refusal) = realm.authority.refusals().remove(0);
    assert!(file == AuthFile::TokenKeys && refusal.reason.contains("token-keys.toml:1:1"), "{refusal:?}");
    assert!(realm.authority.reload().is_err() && realm.authority.access(&alice).is_ok());
    std::fs::write(&path, good).unwrap();
    at_last("the keys are good again", || realm.authority.refusals().is_empty()).await;
    watcher.abort();
}

/// A change that cannot be read at first: here a directory is in its place. (That one is read again though `stat` sees
/// no difference, as after EMFILE, is a test of `hydrant::files`.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_read_when_it_can() {
    let realm = Realm::usual();
    let watcher = realm.authority.watch();
    let bob = realm.user("bob");
    let path = realm.path().join("auth.toml");
    let without_bob = realm.path().join("edited");
    std::fs::create_dir(&without_bob).unwrap();
    std::fs::copy(&path, without_bob.join("auth.toml")).unwrap();
    edit_store(&without_bob, |store| store.remove_user("bob")).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    at_last("it is refused", || realm.authority.refusals().iter().any(|(file, _)| *file == AuthFile::Users)).await;
    assert!(realm.authority.access(&bob).is_ok());
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(without_bob.join("auth.toml"), &path).unwrap();
    at_last("it is read", || realm.authority.access(&bob).is_err()).await;
    assert!(realm.authority.refusals().is_empty());
    watcher.abort();
}

/// By a clock that stands still while a file is looked at: however slow the machine is, no half is there for as long as
/// it takes to be believed. Some are looked at.
#[tokio::test(start_paused = true)]
async fn a_file_that_is_written_slowly_closes_nobody() {
    let realm = Realm::usual();
    let watcher = realm.authority.watch();
    let bob = realm.user("bob");
    let path = realm.path().join("auth.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let mut changes = realm.authority.changes();
    changes.borrow_and_update();
    // Valid by itself: two roles that nobody has are missing.
    let half = &good[..good.find("[roles.reader]").unwrap()];
    for _ in 0..20 {
        for (text, stands) in [("", 25), (half, 60), (good.as_str(), 160)] {
            std::fs::write(&path, text).unwrap();
            tokio::time::sleep(Duration::from_millis(stands)).await;
        }
    }
    assert!(!changes.has_changed().unwrap() && realm.authority.access(&bob).is_ok());
    std::fs::write(&path, "").unwrap();
    at_last("it is refused", || !realm.authority.refusals().is_empty()).await;
    assert!(realm.authority.access(&bob).is_ok(), "an empty file removes nobody, however long it is there");
    assert!(Authority::open(realm.path(), options()).unwrap_err().to_string().contains("the file has no users"));
    watcher.abort();
}

#[test]
fn the_last_user_is_not_removed() {
    let realm = Realm::usual();
    realm.edit(|store| store.remove_user("alice").and_then(|()| store.remove_user("bob")));
    let refused = edit_store(realm.path(), |store| store.remove_user("root")).unwrap_err();
    assert_eq!(refused.to_string(), "\"root\" is the last user; add another before removing it");
}

#[test]
fn what_others_can_reach_is_told() {
    let realm = Realm::usual();
    let told = || exposures(realm.path()).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(told(), [""; 0]);
    let chmod = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let keys = realm.path().join("token-keys.toml");
    chmod(&keys, 0o640);
    chmod(realm.path(), 0o777);
    let told = told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("other users can write ") && told[0].contains("(mode 0777)"), "{told:?}");
    assert!(told[1].starts_with("other users can read ") && told[1].contains("token-keys.toml"), "{told:?}");
    assert!(exposure_of_secret(&keys).is_none(), "a secret elsewhere may be its group's");
    chmod(&keys, 0o644);
    assert!(exposure_of_secret(&keys).is_some());
    chmod(realm.path(), 0o700);
}

/// Nothing is written where everything is there: here by a directory in the place of the lock, which root cannot write
/// either.
#[test]
fn a_directory_that_is_read_only_can_be_started_on() {
    let realm = Realm::usual();
    let lock = realm.path().join("auth.lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    let (authority, opened) = Authority::open(realm.path(), options()).unwrap();
    assert!(!opened.created && authority.has_user("alice"));
    assert!(edit_store(realm.path(), |store| store.set_role("x", Vec::new())).is_err());
}

#[test]
fn what_a_killed_command_left_is_cleaned_up() {
    let realm = Realm::usual();
    let left = realm.path().join("auth.toml.new");
    std::fs::write(&left, "[users").unwrap();
    Authority::open(realm.path(), options()).unwrap();
    assert!(!left.exists());
}

#[test]
fn keys_are_refused_just_so() {
    let realm = Realm::usual();
    let token = realm.token("alice", &ttl(60));
    let path = realm.path().join("token-keys.toml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let good = std::fs::read_to_string(&path).unwrap();
    for bad in [good.replace("HS256", "none"), "keys = []".to_owned(), String::new()] {
        std::fs::write(&path, bad).unwrap();
        assert!(realm.authority.reload().is_err());
        assert!(realm.bearer(&token, now()).is_ok());
    }
}

#[test]
fn a_change_is_told_once() {
    let realm = Realm::usual();
    let mut changes = realm.authority.changes();
    let before = *changes.borrow_and_update();
    realm.edit(|store| store.set_role("extra", Vec::new()));
    assert!(changes.has_changed().unwrap());
    assert_eq!((*changes.borrow_and_update(), realm.authority.generation()), (before + 1, before + 1));
    assert!(!realm.authority.reload().unwrap());
    assert!(!changes.has_changed().unwrap());
}

/// Whoever compares revisions must never meet a former one again, whichever users have changed in between.
#[test]
fn a_change_of_any_users_is_a_new_revision_and_one_of_the_endpoints_no_new_generation() {
    let realm = Realm::usual();
    let mut revisions = vec![realm.authority.revision()];
    for role in ["a", "b", "c"] {
        let generation = realm.authority.generation();
        realm.authority.set_accounts(Accounts::default());
        revisions.push(realm.authority.revision());
        assert_eq!(realm.authority.generation(), generation);
        realm.edit(|store| store.set_role(role, Vec::new()));
        revisions.push(realm.authority.revision());
        assert_eq!(realm.authority.generation(), generation + 1);
    }
    assert!(revisions.is_sorted_by(|earlier, later| earlier < later), "{revisions:?}");
}

/// How long a running authority may take for a change. A machine with nothing else to do is held to what is promised
/// (`make soak`); on others it is only not waited for for ever.
fn promise() -> Duration {
    if std::env::var_os("HYDRANT_SOAK").is_some() { Duration::from_secs(1) } else { PATIENCE }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_authority_takes_changes_within_a_second() {
    let realm = Realm::usual();
    let watcher = realm.authority.watch();
    let bob = realm.user("bob");
    let mut changes = realm.authority.changes();
    changes.borrow_and_update();
    edit_store(realm.path(), |store| store.remove_user("bob")).unwrap();
    tokio::time::timeout(promise(), changes.changed()).await.expect("within a second").unwrap();
    assert_eq!(realm.authority.access(&bob).unwrap_err(), RevokedError::UserRemoved);
    let path = realm.path().join("auth.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, "[users").unwrap();
    at_last("the bad file is refused", || !realm.authority.refusals().is_empty()).await;
    assert!(!changes.has_changed().unwrap() && realm.authority.has_user("alice"));
    std::fs::write(&path, good.replace("[users.alice]", "[users.carol]")).unwrap();
    tokio::time::timeout(promise(), changes.changed()).await.expect("after a bad file too").unwrap();
    drop(realm);
    tokio::time::timeout(2 * promise(), watcher).await.expect("the watcher ends by itself").unwrap();
}

#[test]
fn tenants_are_part_of_the_rights() {
    let realm = Realm::usual();
    let alice = realm.user("alice");
    let sees = |machine: &str| realm.authority.access(&alice).unwrap().sees("machines", "update", machine, None);
    assert!(sees("m1") && sees("m2"));
    realm.edit(|store| store.set_tenant("lab", tenant(&["alice"], &["m1"])));
    assert!(sees("m1") && !sees("m2"));
    let token = realm.bearer(&realm.token("alice", &ttl(60)), now()).unwrap();
    assert!(Arc::ptr_eq(&realm.authority.access(&alice).unwrap(), &realm.authority.access(&token).unwrap()));
    realm.edit(|store| store.remove_tenant("lab"));
    assert!(sees("m2"));
}

#[test]
fn equal_rights_are_one_access_whoever_has_them() {
    let realm = Realm::new(|store| {
        store.set_role("one", vec!["machines/get/*".parse().unwrap()])?;
        store.set_role("other-name", vec!["machines/get/*".parse().unwrap()])?;
        for n in 0..1000 {
            store.add_user(&format!("u{n}"), HASH.clone(), &[["one", "other-name"][n % 2].to_owned()])?;
        }
        Ok(())
    });
    let root: hydrant::auth::Principal = "user:u0".parse().unwrap();
    let identities: Vec<_> = (0..1000)
        .map(|n| {
            let user = root.as_str().replace("u0", &format!("u{n}")).parse().unwrap();
            let token = realm.authority.issue_local(&user, &ttl(60), now()).unwrap().token;
            realm.bearer(token.expose(), now()).unwrap()
        })
        .collect();
    let first = realm.authority.access(&identities[0]).unwrap();
    for identity in &identities {
        assert!(Arc::ptr_eq(&first, &realm.authority.access(identity).unwrap()));
    }
    realm.edit(|store| store.set_role("unrelated", Vec::new()));
    assert!(Arc::ptr_eq(&first, &realm.authority.access(&identities[7]).unwrap()), "over a reload too");
    realm.edit(|store| store.set_role("one", vec!["machines/get/x".parse().unwrap()]));
    assert_ne!(first.id(), realm.authority.access(&identities[0]).unwrap().id());
    assert_eq!(first.id(), realm.authority.access(&identities[1]).unwrap().id());
}

#[test]
fn own_rights_come_without_a_role() {
    let realm = Realm::usual();
    let bob = realm.user("bob");
    let permits =
        |scope: &str, action: &str, specific: &str| realm.authority.permits(&bob, scope, action, specific).unwrap();
    for action in ["token", "password", "get"] {
        assert!(
            permits("users", action, "bob") && !permits("users", action, "alice") && !permits("users", action, "*")
        );
    }
    assert!(permits("info", "get", "*") && !permits("users", "update", "bob") && !permits("events", "post", "*"));
    assert!(
        !realm.authority.access(&bob).unwrap().sees("users", "update", "bob", None),
        "rights of REST, not of events"
    );
}

#[test]
fn the_store_holds_together() {
    let realm = Realm::usual();
    let refused = |change: fn(&mut hydrant::auth::Store) -> Result<(), StoreError>| {
        let before = std::fs::read(realm.path().join("auth.toml")).unwrap();
        let error = edit_store(realm.path(), change).unwrap_err();
        assert_eq!(std::fs::read(realm.path().join("auth.toml")).unwrap(), before);
        error.to_string()
    };
    assert_eq!(refused(|s| s.add_user("alice", HASH.clone(), &[])), "the user \"alice\" already exists");
    assert_eq!(refused(|s| s.add_user("carol", HASH.clone(), &["nope".to_owned()])), "there is no role \"nope\"");
    assert_eq!(refused(|s| s.set_user_roles("nobody", &[])), "there is no user \"nobody\"");
    assert_eq!(refused(|s| s.remove_role("operator")), "role \"operator\" is still assigned to alice");
    assert!(refused(|s| s.set_role("superuser", Vec::new())).contains("built in"));
    assert!(refused(|s| s.remove_role("superuser")).contains("built in"));
    assert!(refused(|s| s.add_user("a:b", HASH.clone(), &[])).contains("\"a:b\" is not a name"));
    assert_eq!(refused(|s| s.set_tenant("lab", tenant(&["nobody"], &[]))), "there is no user \"nobody\"");
    let two = |s: &mut hydrant::auth::Store| {
        s.set_tenant("lab", tenant(&["alice"], &[UUID]))?;
        s.set_tenant("office", tenant(&["alice"], &[]))
    };
    assert_eq!(refused(two), "user \"alice\" is already in tenant \"lab\"; a user can be in only one");
    realm.edit(|s| {
        s.set_tenant("lab", tenant(&["alice", "bob"], &[UUID]))?;
        s.remove_user("bob")?;
        s.remove_role("reader")
    });
    let store = read_store(realm.path()).unwrap();
    assert_eq!(store.tenants()["lab"].users.iter().collect::<Vec<_>>(), ["alice"], "a removed user leaves its tenant");
}

#[test]
fn an_edit_before_the_first_start_locks_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    edit_store(dir.path(), |store| store.set_role("reader", Vec::new())).unwrap();
    assert!(read_store(dir.path()).unwrap().users().contains_key("rocketskates"));
    let dir = tempfile::tempdir().unwrap();
    edit_store(dir.path(), |store| store.add_user("alice", HASH.clone(), &["superuser".to_owned()])).unwrap();
    assert_eq!(read_store(dir.path()).unwrap().users().keys().collect::<Vec<_>>(), ["alice"]);
}

#[test]
fn two_that_start_at_once_make_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Authority::open(dir.path(), options()).unwrap();
    let (one, other) = std::thread::scope(|scope| {
        let (one, other) = (scope.spawn(open), scope.spawn(open));
        (one.join().unwrap(), other.join().unwrap())
    });
    assert_ne!(one.1.created, other.1.created, "one of them made it");
    let subject = "user:rocketskates".parse().unwrap();
    let token = one.0.issue_local(&subject, &ttl(60), now()).unwrap().token;
    let credential = hydrant::auth::Credential::Bearer(token);
    let let_in: Result<_, AuthError> = other.0.authenticate(&credential, crate::support::PEER, clocks(now()));
    assert!(let_in.is_ok(), "and both have the same key");
}
