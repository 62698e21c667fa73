//! What users of the endpoint are judged by: what is true there now, whoever else comes, whatever else cannot be read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::common::ws::Client;
use crate::common::{Hydrant, basic, event, http, patiently};
use crate::endpoint::{Drp, User};
use crate::identity::{ALICE, by_password, by_token, reader, refused, seen, told};

/// An endpoint with alice, whose role may get machines, and a hydrant with users of its own in front of it, with `more`
/// in its settings; what comes before the table `[auth]` belongs to `[upstream]`.
async fn front(more: &str) -> (Drp, Hydrant) {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["reader"]));
    reader(&drp, "machines");
    let hydrant = Hydrant::start_tls(&format!("{}[auth]\nmode = \"both\"\n{more}", drp.settings())).await;
    hydrant.until(&format!("hydrant_upstream_connected{{endpoint=\"{}\"}}", drp.address), 1).await;
    (drp, hydrant)
}

async fn watching(hydrant: &Hydrant, login: &str) -> Client {
    let mut client = by_password(hydrant, login).await.unwrap();
    client.register("*.*.*").await;
    client
}

/// Waits until a client sees events of tasks.
async fn sees_tasks(hydrant: &Hydrant, client: &mut Client) {
    let sees = async { while seen(hydrant, client, &[("tasks", "t1")]).await != ["tasks.update.t1"] {} };
    patiently("the wider role", Box::pin(sees)).await;
}

fn verdicts(outcome: &str) -> String {
    format!("hydrant_identity_verdicts_total{{outcome=\"{outcome}\"}}")
}

async fn until_asked(drp: &Drp, target: &str, times: usize) {
    let asked = async {
        while drp.asked(target) < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently(target, asked).await;
}

/// Strangers whose credentials the endpoint does not judge hold no place that is kept for those who are known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_known_waits_for_no_stranger() {
    let (drp, hydrant) = front("fresh = \"1ms\"\n[proxy]\nrequests = 4\n").await;
    by_password(&hydrant, ALICE).await.unwrap();
    drp.state.muses.store(true, Ordering::Relaxed);
    let strangers = (0..12).map(|n| {
        let hydrant = &hydrant;
        async move { by_password(hydrant, &format!("stranger{n}:guess")).await.map(drop) }
    });
    let known = async {
        until_asked(&drp, "/api/v3/users/stranger", 3).await;
        by_password(&hydrant, ALICE).await.unwrap();
        hydrant.metric(&verdicts("good")).await
    };
    let (_, good) = tokio::join!(join_all(strangers), known);
    assert_eq!(good, 2, "the endpoint was asked about alice, and had a place for that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_who_cannot_be_read_keeps_no_other_from_being_read() {
    let (drp, hydrant) = front("").await;
    drp.state.users.lock().insert("bob".to_owned(), User::new("builder", &["reader"]));
    let (mut alice, mut bob) = (watching(&hydrant, ALICE).await, watching(&hydrant, "bob:builder").await);
    *drp.state.broken_user.lock() = "alice";
    let before = drp.asked("/api/v3/users/alice");
    told(&drp, &hydrant, "users", "save", "alice").await;
    until_asked(&drp, "/api/v3/users/alice", before + 1).await;
    drp.state.users.lock().remove("bob");
    told(&drp, &hydrant, "users", "delete", "bob").await;
    assert_eq!(bob.closed().await.0, 1008);
    // Of many who are read together likewise.
    drp.state.users.lock().insert("carol".to_owned(), User::new("song", &["reader"]));
    let mut carol = watching(&hydrant, "carol:song").await;
    drp.state.users.lock().remove("carol");
    told(&drp, &hydrant, "contents", "update", "pack").await;
    assert_eq!(carol.closed().await.0, 1008);
    // And when she can be read again, she is.
    drp.state.users.lock().remove("alice");
    *drp.state.broken_user.lock() = "";
    assert_eq!(alice.closed().await.0, 1008);
}

/// Logins read one user each, as many at a time as there are places, so no answer about a user may be as long as a
/// list. Whoever could make it that long would keep former rights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_about_whom_the_endpoint_says_too_much_is_none_and_keeps_out_nobody_else() {
    let (drp, hydrant) = front("").await;
    drp.state.users.lock().insert("bob".to_owned(), User::new("builder", &["reader"]));
    let mut bob = watching(&hydrant, "bob:builder").await;
    drp.state.users.lock().get_mut("bob").unwrap().created = "x".repeat(2 << 20);
    told(&drp, &hydrant, "users", "save", "bob").await;
    assert_eq!(bob.closed().await.0, 1008);
    assert_eq!(refused(by_password(&hydrant, "bob:builder").await).status, 503);
    by_password(&hydrant, ALICE).await.unwrap();
}

/// An ingress answers so while the endpoint restarts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_404_that_is_not_the_endpoints_denies_and_removes_nobody() {
    let (drp, hydrant) = front("fresh = \"1ms\"\n[throttle]\nfailures = 1\n").await;
    let mut alice = watching(&hydrant, ALICE).await;
    *drp.state.page.lock() = Some(("/api/v3/users/alice", 404));
    for _ in 0..3 {
        by_password(&hydrant, ALICE).await.unwrap();
        assert_eq!(refused(by_password(&hydrant, "alice:guess").await).status, 503, "it is not judged");
    }
    assert_eq!(hydrant.metric(&verdicts("denied")).await, 0);
    // What the first answer says has been considered when she is asked for again.
    let before = drp.asked("/api/v3/users/alice");
    told(&drp, &hydrant, "users", "save", "alice").await;
    until_asked(&drp, "/api/v3/users/alice", before + 2).await;
    assert_eq!(seen(&hydrant, &mut alice, &[("machines", "m1")]).await, ["machines.update.m1"]);
    drp.state.users.lock().remove("alice");
    *drp.state.page.lock() = None;
    assert_eq!(alice.closed().await.0, 1008);
}

/// The password was right when the endpoint was asked, and is another's by the time when the user is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_password_gets_nothing_of_a_new_secret() {
    for tells_base in [true, false] {
        let (drp, hydrant) = front("").await;
        drp.state.tells_base.store(tells_base, Ordering::Relaxed);
        told(&drp, &hydrant, "preferences", "save", "x").await;
        by_password(&hydrant, ALICE).await.unwrap();
        drp.state.users.lock().insert("bob".to_owned(), User::new("builder", &["reader"]));
        drp.state.holds.store(true, Ordering::Relaxed);
        let change = async {
            until_asked(&drp, "/api/v3/users/bob", 2).await;
            drp.state.users.lock().insert("bob".to_owned(), User::new("another", &["reader"]));
            drp.state.holds.store(false, Ordering::Relaxed);
        };
        let (login, ()) = tokio::join!(by_password(&hydrant, "bob:builder"), change);
        assert_eq!(refused(login).status, 403, "{tells_base}");
        by_password(&hydrant, "bob:another").await.unwrap();
    }
}

/// A question about a user is answered by the rights of whoever logs in by that name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_about_a_user_is_answered_by_the_rights_that_it_has_at_the_endpoint() {
    let (drp, hydrant) = front("").await;
    let ask = async |user: &str, kind: &str| {
        let event = json!({"Type": kind, "Action": "update", "Key": "k"});
        let question = json!({"Event": event, "Spec": "*.*.*", "User": user}).to_string();
        let authorization = crate::common::basic("rocketskates:r0cketsk8ts");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        hydrant.request("POST", "/api/v3/hydrant/explain", &headers, &question).await
    };
    let message = ask("alice", "machines").await.error(400);
    assert!(message.contains("endpoint's user \"alice\"") && message.contains("Connection"), "{message}");
    by_password(&hydrant, ALICE).await.unwrap();
    for (kind, delivered) in [("machines", true), ("tasks", false)] {
        let told = ask("alice", kind).await.json();
        assert_eq!((&told["Principal"], &told["Delivered"]), (&json!("user:alice"), &json!(delivered)), "{told}");
    }
    // Who stands in both logs in here.
    drp.state.users.lock().insert("rocketskates".to_owned(), User::new("wonder", &["reader"]));
    assert_eq!(ask("rocketskates", "tasks").await.json()["Delivered"], true);
}

/// DRP tells of a content pack, and not of the roles that it brings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_that_come_with_a_content_pack_count() {
    let (drp, hydrant) = front("").await;
    let mut alice = watching(&hydrant, ALICE).await;
    reader(&drp, "machines,tasks");
    told(&drp, &hydrant, "contents", "update", "pack").await;
    sees_tasks(&hydrant, &mut alice).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_a_role_that_nobody_knows_has_it_read() {
    let (drp, hydrant) = front("").await;
    let mut alice = watching(&hydrant, ALICE).await;
    let claims = json!([{"scope": "machines,tasks", "action": "get", "specific": "*"}]);
    drp.state.roles.lock().as_array_mut().unwrap().push(json!({"Name": "other", "Claims": claims}));
    drp.state.users.lock().get_mut("alice").unwrap().roles = vec!["other".to_owned()];
    told(&drp, &hydrant, "users", "save", "alice").await;
    sees_tasks(&hydrant, &mut alice).await;
    // And so has one who comes for the first time.
    drp.state.roles.lock().as_array_mut().unwrap().push(json!({"Name": "third", "Claims": claims}));
    drp.state.users.lock().insert("bob".to_owned(), User::new("builder", &["third"]));
    let mut bob = watching(&hydrant, "bob:builder").await;
    assert_eq!(seen(&hydrant, &mut bob, &[("tasks", "t1")]).await, ["tasks.update.t1"]);
}

/// On a busy endpoint there is always some event about users or preferences.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_do_not_put_off_that_everything_is_read() {
    let (drp, hydrant) = front("refresh = \"2s\"\n").await;
    let mut alice = watching(&hydrant, ALICE).await;
    reader(&drp, "machines,tasks");
    let busy = async {
        loop {
            drp.state.emit(&json!({"Type": "preferences", "Action": "save", "Key": "x"}), "");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = busy => {}
        () = sees_tasks(&hydrant, &mut alice) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_is_new_is_judged_by_the_tenants_of_now() {
    let (drp, hydrant) = front("").await;
    by_password(&hydrant, ALICE).await.unwrap();
    drp.state.users.lock().insert("bob".to_owned(), User::new("builder", &["reader"]));
    *drp.state.tenants.lock() = json!([{"Name": "lab", "Users": ["bob"], "Members": {"machines": ["m1", "the-end"]}}]);
    let mut bob = watching(&hydrant, "bob:builder").await;
    assert_eq!(seen(&hydrant, &mut bob, &[("machines", "m2"), ("machines", "m1")]).await, ["machines.update.m1"]);
}

/// A token that can be opened here is good for no longer than a password that was found right, whether nobody answers
/// or a server in front of the endpoint does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_opened_here_are_good_for_so_long_without_the_endpoint() {
    for page in [None, Some(("/", 503)), Some(("/", 200))] {
        without_the_endpoint(page).await;
    }
}

async fn without_the_endpoint(page: Option<(&'static str, u16)>) {
    let (mut drp, hydrant) = front("fresh = \"1ms\"\naway = \"5s\"\n").await;
    let token = |n: i64| drp.token("alice", &json!({"iat": n}));
    let tokens: Vec<String> = (1..=3).map(token).collect();
    by_token(&hydrant, &tokens[0]).await.unwrap();
    *drp.state.page.lock() = page;
    if page.is_none() {
        drp.stop().await;
    }
    by_token(&hydrant, &tokens[1]).await.unwrap();
    let ends = async {
        for token in tokens.iter().cycle() {
            if let Err(refusal) = by_token(&hydrant, token).await {
                return refusal;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        unreachable!("it goes round for ever")
    };
    assert_eq!(patiently("the end", Box::pin(ends)).await.status, 503);
    for token in &tokens {
        assert_eq!(refused(by_token(&hydrant, token).await).status, 503);
    }
    if page.is_none() {
        drp.resume().await;
    }
    *drp.state.page.lock() = None;
    let back = async { while by_token(&hydrant, &tokens[0]).await.is_err() {} };
    patiently("the endpoint", Box::pin(back)).await;
}

/// Where the endpoint tells no secrets, the time when a user was made tells one from another of the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_was_removed_and_made_again_is_another() {
    let (drp, hydrant) = front("").await;
    drp.state.tells_secrets.store(false, Ordering::Relaxed);
    let mut alice = watching(&hydrant, ALICE).await;
    // Somebody may post that she was removed: as long as she is who she was, she stays.
    told(&drp, &hydrant, "users", "delete", "alice").await;
    assert_eq!(seen(&hydrant, &mut alice, &[("machines", "m1")]).await, ["machines.update.m1"]);
    drp.state.users.lock().get_mut("alice").unwrap().created = "2026-02-02T00:00:00Z".to_owned();
    told(&drp, &hydrant, "users", "create", "alice").await;
    assert_eq!(alice.closed().await.0, 1008);
    watching(&hydrant, ALICE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_posted_here_says_nothing_of_the_endpoints_users() {
    let (mut drp, hydrant) = front("fresh = \"1ms\"\n").await;
    by_password(&hydrant, ALICE).await.unwrap();
    drp.stop().await;
    for (kind, action, key) in [("users", "save", "alice"), ("users", "delete", "alice"), ("contents", "update", "x")] {
        hydrant.post(&event(kind, action, key)).await;
    }
    by_password(&hydrant, ALICE).await.unwrap();
    assert_eq!(hydrant.metric(&verdicts("stale")).await, 1);
}

/// Who is known is not shut out by those who guess at the password from the same network.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_password_is_taken_while_guesses_are_held_back() {
    let (drp, hydrant) = front("fresh = \"1ms\"\n[throttle]\nfailures = 1\n").await;
    by_password(&hydrant, ALICE).await.unwrap();
    assert_eq!(refused(by_password(&hydrant, "alice:guess").await).status, 403);
    assert_eq!(refused(by_password(&hydrant, "alice:guess").await).status, 429);
    let asked = drp.asked("/api/v3/users/alice/token");
    by_password(&hydrant, ALICE).await.unwrap();
    assert_eq!(drp.asked("/api/v3/users/alice/token"), asked);
    assert_eq!(hydrant.metric(&verdicts("stale")).await, 1);
}

/// It is known only where it was accepted: elsewhere the right one would stand out among guesses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_known_elsewhere_is_throttled_like_a_guess() {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["reader"]));
    reader(&drp, "machines");
    let toml = format!("trusted_proxies = [\"127.0.0.1\"]\n{}[throttle]\nfailures = 1\n", drp.settings());
    let hydrant = Hydrant::start_tls(&toml).await;
    let from = async |peer: &str, login: &str| {
        let headers = [("authorization", &*basic(login)), ("x-forwarded-for", peer)];
        http::request(hydrant.address(), true, "GET", "/api/v3/hydrant/me", &headers, "").await.status.as_u16()
    };
    assert_eq!(from("192.0.2.1", ALICE).await, 200);
    assert_eq!(from("192.0.2.2", "alice:guess").await, 403);
    assert_eq!(from("192.0.2.2", ALICE).await, 429);
    let asked = drp.asked("/api/v3/users/alice/token");
    assert_eq!(from("192.0.2.1", ALICE).await, 200);
    assert_eq!(drp.asked("/api/v3/users/alice/token"), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_name_may_have_a_blank() {
    let (drp, hydrant) = front("").await;
    drp.state.users.lock().insert("John Doe".to_owned(), User::new("wonder", &["reader"]));
    let mut john = by_password(&hydrant, "John Doe:wonder").await.unwrap();
    john.say("register *.*.*").await;
    assert_eq!(john.answer("register", "*.*.*").await.principal, "user:John Doe");
    assert_eq!(seen(&hydrant, &mut john, &[("machines", "m1")]).await, ["machines.update.m1"]);
    by_token(&hydrant, &drp.token("John Doe", &json!({}))).await.unwrap();
    drp.state.users.lock().remove("John Doe");
    told(&drp, &hydrant, "users", "delete", "John Doe").await;
    assert_eq!(john.closed().await.0, 1008);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_not_good_before_its_time() {
    let (drp, hydrant) = front("").await;
    let now = hydrant::clock::now().as_second();
    let early = drp.token("alice", &json!({"nbf": now + 600}));
    assert_eq!(refused(by_token(&hydrant, &early).await).status, 403);
    by_token(&hydrant, &drp.token("alice", &json!({"nbf": now - 1}))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_read_takes_no_other_along() {
    let (drp, hydrant) = front("").await;
    *drp.state.tenants.lock() =
        json!([{"Name": "lab", "Users": ["alice"], "Members": {"machines": ["m1", "the-end"]}}]);
    told(&drp, &hydrant, "tenants", "create", "lab").await;
    let mut alice = watching(&hydrant, ALICE).await;
    drp.state.roles.lock().as_array_mut().unwrap().insert(0, json!({"Name": "odd", "Claims": "everything"}));
    *drp.state.tenants.lock() = json!([{"Name": "lab", "Users": 7}, {"Name": 8},
        {"Name": "other", "Users": ["bob"], "Members": {"machines": ["m2", "the-end"]}}]);
    reader(&drp, "machines,tasks");
    told(&drp, &hydrant, "roles", "update", "reader").await;
    sees_tasks(&hydrant, &mut alice).await;
    // What a tenant hid whose row cannot be read any more, it still hides.
    let names = seen(&hydrant, &mut alice, &[("machines", "m2"), ("machines", "m1")]).await;
    assert_eq!(names, ["machines.update.m1"]);
    drp.state.users.lock().insert("bob".to_owned(), User::new("builder", &["reader"]));
    let mut bob = watching(&hydrant, "bob:builder").await;
    assert_eq!(seen(&hydrant, &mut bob, &[("machines", "m1"), ("machines", "m2")]).await, ["machines.update.m2"]);
}
