//! Passwords: who is let in, at what price, and what is told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hydrant::auth::{AuthError, AuthOptions, Authority, Credential, CredentialError, Identity, PasswordHash, Secret};
use hydrant::clock::ClockReading;

use crate::support::{HASH, PASSWORD, PEER, Realm, at, clocks, now, options, ttl, usual};

/// RFC 7914, section 12, third vector: password "pleaseletmein", N = 16384, r = 8, p = 1, which is what DRP uses.
const DRP: &str = concat!(
    "16384$8$1$536f6469756d43686c6f72696465$7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2",
    "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
);

#[test]
fn the_first_start_makes_the_well_known_user() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, opened) = Authority::open(dir.path(), options()).unwrap();
    assert!(opened.created && authority.has_default_password());
    let credential = Credential::from_query("rocketskates:r0cketsk8ts").unwrap();
    let identity = authority.authenticate(&credential, PEER, clocks(now())).unwrap();
    assert_eq!((identity.principal().as_str(), identity.user()), ("user:rocketskates", Some("rocketskates")));
    assert!(authority.access(&identity).unwrap().is_everything());
    let (authority, opened) = Authority::open(dir.path(), options()).unwrap();
    assert!(!opened.created && authority.has_default_password());
    hydrant::auth::edit_store(dir.path(), |store| store.set_password("rocketskates", HASH.clone())).unwrap();
    authority.reload().unwrap();
    assert!(!authority.has_default_password());
}

#[test]
fn right_passwords_are_let_in_and_nothing_else() {
    let realm = Realm::usual();
    assert_eq!(realm.user("alice").principal().as_str(), "user:alice");
    for (user, password) in [
        ("alice", "wrong"),
        ("alice", ""),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("Alice", PASSWORD),
        ("alice ", PASSWORD),
        ("alice\0", PASSWORD),
        ("alice", &PASSWORD.repeat(100)),
        ("superuser", PASSWORD),
    ] {
        assert_eq!(realm.password(user, password).unwrap_err(), AuthError::Denied, "{user:?}");
    }
}

#[test]
fn what_is_answered_by_which_status() {
    let table = [
        (AuthError::Missing, 401),
        (AuthError::Malformed(CredentialError::Scheme), 401),
        (AuthError::Denied, 403),
        (AuthError::Throttled { retry_after: Duration::from_secs(24) }, 429),
        (AuthError::Unavailable, 503),
    ];
    for (error, status) in table {
        assert_eq!(error.status(), status, "{error}");
    }
}

fn basic(user: &str, password: &str) -> Credential {
    Credential::Basic { user: user.to_owned(), password: Secret::new(password) }
}

/// The mean of the quicker half: what others do on the machine shows in the slower half.
fn steady(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let half = times.len() / 2;
    times[..half].iter().map(Duration::as_secs_f64).sum::<f64>() / f64::from(u32::try_from(half).unwrap())
}

fn timed(realm: &Realm, user: &str) -> Duration {
    let start = Instant::now();
    assert_eq!(realm.password(user, "wrong").unwrap_err(), AuthError::Denied);
    start.elapsed()
}

#[test]
#[ignore = "measures time: `make soak` runs it on a machine that has nothing else to do"]
fn an_unknown_user_costs_as_much_as_a_known_one() {
    let realm = Realm::usual();
    realm.edit(|store| {
        for n in 0..8 {
            store.add_user(&format!("user{n}"), HASH.clone(), &[])?;
        }
        Ok(())
    });
    let mut times: BTreeMap<bool, Vec<Duration>> = BTreeMap::new();
    for n in 0..32 {
        times.entry(true).or_default().push(timed(&realm, &format!("user{}", n % 8)));
        times.entry(false).or_default().push(timed(&realm, &format!("nobody{}", n % 8)));
    }
    let (known, unknown) = (steady(times.remove(&true).unwrap()), steady(times.remove(&false).unwrap()));
    println!("known {known:.4} s, unknown {unknown:.4} s, {:.3} of each other", known / unknown);
    assert!((known / unknown - 1.0).abs() < 0.1, "known {known:.4} s, unknown {unknown:.4} s");
}

#[test]
#[ignore = "measures time: `make soak` runs it on a machine that has nothing else to do"]
fn unknown_users_cost_what_users_cost_where_hashes_differ() {
    let drp = PasswordHash::parse(DRP).unwrap();
    assert!(drp.verify("pleaseletmein"));
    let realm = Realm::new(|store| {
        for n in 0..4 {
            store.add_user(&format!("argon{n}"), HASH.clone(), &[])?;
            store.add_user(&format!("drp{n}"), drp.clone(), &[])?;
        }
        Ok(())
    });
    let argon = steady((0..6).map(|_| timed(&realm, "argon0")).collect());
    let scrypt = steady((0..6).map(|_| timed(&realm, "drp0")).collect());
    let near = |time: f64, of: f64| (time / of - 1.0).abs() < 0.25;
    let mut seen = [0, 0];
    for n in 0..24 {
        let name = format!("nobody{n}");
        let time = steady((0..4).map(|_| timed(&realm, &name)).collect());
        seen[0] += u32::from(near(time, argon));
        seen[1] += u32::from(near(time, scrypt));
    }
    assert!(seen[0] >= 2 && seen[1] >= 2, "names that nobody has look like either kind: {seen:?}");
}

#[test]
fn a_right_password_is_known_for_a_minute() {
    let realm = Realm::usual();
    let credential = Credential::Basic { user: "alice".to_owned(), password: Secret::new(PASSWORD) };
    let hashed = |seconds| {
        realm.authority.authenticate(&credential, PEER, clocks(at(seconds))).unwrap();
        realm.authority.passwords_hashed()
    };
    assert_eq!((hashed(0), hashed(59), hashed(110), hashed(169)), (1, 1, 1, 1), "for as long as it is used");
    assert_eq!(hashed(229), 2, "and for a minute after that");
    for wrong in ["", "CANARY", "CANARY-correct-horse "] {
        assert!(realm.password("alice", wrong).is_err());
    }
}

#[test]
fn a_thousand_wrong_passwords_are_hardly_hashed_and_lock_nobody_else_out() {
    let realm = Realm::with(AuthOptions::default(), usual);
    realm.user("alice");
    let mut denied = 0;
    for n in 0..1000 {
        match realm.password("alice", &format!("guess{n}")) {
            Err(AuthError::Denied) => denied += 1,
            Err(AuthError::Throttled { retry_after }) => assert!(retry_after >= Duration::from_secs(1)),
            other => panic!("{other:?}"),
        }
    }
    assert!(denied <= 10, "{denied} were hashed");
    assert!(realm.password("alice", PASSWORD).is_ok(), "a password that is known is not held back");
    let elsewhere: IpAddr = "198.51.100.1".parse().unwrap();
    let bob = Credential::Basic { user: "bob".to_owned(), password: Secret::new(PASSWORD) };
    assert!(realm.authority.authenticate(&bob, PEER, clocks(now())).is_ok());
    let wrong = Credential::Basic { user: "alice".to_owned(), password: Secret::new("wrong") };
    assert_eq!(realm.authority.authenticate(&wrong, elsewhere, clocks(now())).unwrap_err(), AuthError::Denied);
}

/// If the right one were accepted at once where guesses are throttled, anybody could try any number of them.
#[test]
fn a_password_that_is_known_elsewhere_is_throttled_like_a_guess() {
    let realm = Realm::with(AuthOptions::default(), usual);
    realm.user("alice");
    let guess = |password: &str, peer: &str| {
        let credential = Credential::Basic { user: "alice".to_owned(), password: Secret::new(password) };
        realm.authority.authenticate(&credential, peer.parse().unwrap(), clocks(now()))
    };
    for (guesser, victim) in
        [("198.51.100.1", "198.51.100.2"), ("2001:db8::1", "2001:db8::2"), ("192.0.2.8", "192.0.2.7")]
    {
        let _ = guess(PASSWORD, victim);
        let wrong = (0..6).map(|n| guess(&format!("wrong{n}"), guesser).unwrap_err()).collect::<Vec<_>>();
        assert!(matches!(wrong[..], [.., AuthError::Denied, AuthError::Throttled { .. }]), "{wrong:?}");
        let right = guess(PASSWORD, guesser).unwrap_err();
        assert_eq!(right, wrong[5], "{guesser}");
        assert!(guess(PASSWORD, victim).is_ok(), "the client that is known by it is not held back");
    }
    assert!(guess(PASSWORD, "::ffff:192.0.2.7").is_ok(), "an IPv4 address in the form of IPv6");
}

/// Who fails with nothing left waits longer than it takes for one more attempt to be there: twelve seconds.
#[test]
fn whoever_goes_on_guessing_waits_twice_as_long() {
    let realm = Realm::with(AuthOptions::default(), usual);
    let wrong = Credential::Basic { user: "alice".to_owned(), password: Secret::new("wrong") };
    let guess = |seconds| realm.authority.authenticate(&wrong, PEER, clocks(at(seconds))).unwrap_err();
    for _ in 0..5 {
        assert_eq!(guess(0), AuthError::Denied);
    }
    let throttled = |seconds| AuthError::Throttled { retry_after: Duration::from_secs(seconds) };
    assert_eq!(
        (guess(0), guess(13), guess(24), guess(24)),
        (throttled(24), throttled(11), AuthError::Denied, throttled(48))
    );
}

/// The wall clock may be set at any time: neither the wait after wrong passwords nor the minute for which a right one
/// is known is measured by it.
#[test]
fn a_clock_that_is_set_neither_ends_nor_prolongs_a_wait() {
    let realm = Realm::with(AuthOptions::default(), usual);
    let basic = |user: &str, password| Credential::Basic { user: user.to_owned(), password: Secret::new(password) };
    let (wrong, right) = (basic("alice", "wrong"), basic("bob", PASSWORD));
    let set = |hours: i64, seconds| ClockReading { wall: at(3600 * hours), ..clocks(at(seconds)) };
    let login = |credential, hours, seconds| realm.authority.authenticate(credential, PEER, set(hours, seconds));
    (0..5).for_each(|_| assert_eq!(login(&wrong, 1, 0).unwrap_err(), AuthError::Denied));
    let throttled = |seconds| AuthError::Throttled { retry_after: Duration::from_secs(seconds) };
    assert_eq!(login(&wrong, 9, 1).unwrap_err(), throttled(23), "it was set forward by hours");
    assert_eq!(login(&wrong, 0, 2).unwrap_err(), throttled(22), "and back");
    assert_eq!(login(&wrong, 0, 24).unwrap_err(), AuthError::Denied);
    let hashed = |hours, seconds| {
        let before = realm.authority.passwords_hashed();
        login(&right, hours, seconds).unwrap();
        realm.authority.passwords_hashed() - before
    };
    assert_eq!((hashed(1, 100), hashed(9, 101), hashed(0, 102)), (1, 0, 0));
    assert_eq!(hashed(0, 162), 1, "a minute later");
}

/// A right password pays for the wrong ones before it: who mistypes now and then is not held back.
#[test]
fn a_right_password_makes_up_for_wrong_ones() {
    let realm = Realm::with(AuthOptions { password_cache: Duration::ZERO, ..AuthOptions::default() }, usual);
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(realm.password("alice", "wrong").unwrap_err(), AuthError::Denied);
        }
        realm.user("alice");
    }
}

#[test]
fn unknown_users_are_held_back_just_so() {
    let realm = Realm::with(AuthOptions::default(), usual);
    let tries = |user: &str| (0..20).map(|_| realm.password(user, "wrong").unwrap_err()).collect::<Vec<_>>();
    assert_eq!(tries("alice"), tries("nobody"));
}

/// Logins that begin at once, over and over until more than `enough` of them have found the queue full: on a slow
/// machine the hasher may get through all of them before they have all begun, which says nothing.
async fn crowded(realm: &Realm, credentials: &[Credential], enough: usize) -> Vec<Result<Identity, AuthError>> {
    let rounds = async {
        loop {
            let logins = credentials.iter().map(|credential| realm.authority.login(credential.clone(), PEER));
            let outcomes = futures_util::future::join_all(logins).await;
            let full = |outcome: &&Result<Identity, AuthError>| outcome.as_ref().err() == Some(&AuthError::Unavailable);
            let others = |outcome: &Result<Identity, AuthError>| matches!(outcome, Err(AuthError::Throttled { .. }));
            if outcomes.iter().filter(full).count() > enough || outcomes.iter().any(others) {
                return outcomes;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(2), rounds).await.expect("a round that finds the queue full")
}

#[tokio::test]
async fn logins_wait_their_turn_and_no_longer_than_the_queue() {
    let realm = Realm::with(AuthOptions { hash_workers: 1, hash_queue: 3, ..options() }, usual);
    let wrong = |n: usize| basic("alice", &format!("wrong{n}"));
    let outcomes = crowded(&realm, &(0..40).map(wrong).collect::<Vec<_>>(), 20).await;
    let count = |error: AuthError| outcomes.iter().filter(|outcome| outcome.as_ref().err() == Some(&error)).count();
    assert_eq!(count(AuthError::Denied) + count(AuthError::Unavailable), 40);
    assert!(count(AuthError::Denied) >= 3, "as many as may wait are hashed: {}", count(AuthError::Denied));
    let credential = Credential::Basic { user: "alice".to_owned(), password: Secret::new(PASSWORD) };
    assert!(realm.authority.login(credential, PEER).await.is_ok(), "the queue is empty again");
    let token = Credential::Bearer(Secret::new("no.such.token"));
    assert_eq!(realm.authority.login(token, PEER).await.unwrap_err(), AuthError::Denied);
}

#[tokio::test]
async fn a_login_that_finds_the_queue_full_is_no_guess() {
    // No password is known again: every login is hashed.
    let options =
        AuthOptions { hash_workers: 1, hash_queue: 1, password_cache: Duration::ZERO, ..AuthOptions::default() };
    let realm =
        Realm::with(options, |store| (0..20).try_for_each(|n| store.add_user(&format!("user{n}"), HASH.clone(), &[])));
    let right = |n: usize| basic(&format!("user{n}"), PASSWORD);
    let outcomes = crowded(&realm, &(0..20).map(right).collect::<Vec<_>>(), 6).await;
    let refused: Vec<AuthError> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(refused.iter().all(|error| *error == AuthError::Unavailable), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_up_has_guessed_no_more_than_who_waits() {
    let realm = Realm::with(AuthOptions { hash_workers: 1, ..AuthOptions::default() }, usual);
    for n in 0..30 {
        // Given up at its first wait: a client that hangs up.
        let login = realm.authority.login(basic("alice", &format!("wrong{n}")), PEER);
        let _ = tokio::time::timeout(Duration::ZERO, login).await;
    }
    match realm.authority.login(basic("alice", PASSWORD), PEER).await {
        Ok(_) => assert!(realm.authority.passwords_hashed() <= 5),
        Err(error) => {
            assert!(matches!(error, AuthError::Throttled { .. }), "{error:?}");
            assert_eq!(realm.authority.passwords_hashed(), 5);
        }
    }
}

#[test]
fn no_secret_shows_anywhere() {
    let realm = Realm::usual();
    let token = realm.token("alice", &ttl(60));
    let identity = realm.bearer(&token, now()).unwrap();
    let mut shown = vec![
        format!("{:?} {identity:?}", realm.authority),
        format!("{:?}", realm.authority.access(&identity).unwrap()),
        format!("{:?}", realm.authority.issue(&identity, "alice", &ttl(60), now()).unwrap()),
        format!("{:?}", Credential::from_query(&format!("alice:{PASSWORD}"))),
        format!("{:?}", hydrant::auth::read_store(realm.path()).unwrap()),
    ];
    for error in [realm.password("alice", "CANARY2").unwrap_err(), realm.bearer("CANARY2", now()).unwrap_err()] {
        shown.push(format!("{error:?} {error}"));
    }
    let shown = shown.join("\n");
    let files = ["auth.toml", "token-keys.toml"].map(|name| std::fs::read_to_string(realm.path().join(name)).unwrap());
    let values = files.iter().flat_map(|text| text.lines()).filter_map(|line| line.split_once(" = "));
    let secrets =
        values.filter(|(name, _)| matches!(*name, "password" | "secret")).map(|(_, value)| value.trim_matches('"'));
    let secrets: Vec<&str> = secrets.chain([token.as_str(), "CANARY"]).collect();
    assert!(secrets.len() > 6);
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} shows");
    }
}
