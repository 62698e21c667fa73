//! What an endpoint hides, does slowly or cannot do, and what is told of it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::common::{Hydrant, http, patiently};
use crate::endpoint::{Drp, User};
use crate::identity::{ALICE, NEEDED, by_password, by_token, reader, refused, seen, service, told};
use crate::tokens;

/// An endpoint with alice, whose role may get machines, that has been made ready, and a hydrant in front of it with
/// users of its own besides.
async fn front(more: &str, prepare: impl FnOnce(&Drp)) -> (Drp, Hydrant) {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["reader"]));
    reader(&drp, "machines");
    prepare(&drp);
    let hydrant = Hydrant::start_tls(&format!("{}[auth]\nmode = \"both\"\n{more}", drp.settings())).await;
    (drp, hydrant)
}

/// What `/readyz` says.
async fn readiness(hydrant: &Hydrant) -> (u16, Value) {
    let probe = hydrant.server.probe_address().unwrap();
    let reply = http::request(probe, false, "GET", "/readyz", &[], "").await;
    (reply.status.as_u16(), reply.json())
}

fn trouble(reason: &str) -> String {
    format!("hydrant_identity_trouble{{reason=\"{reason}\"}}")
}

fn verdicts(outcome: &str) -> String {
    format!("hydrant_identity_verdicts_total{{outcome=\"{outcome}\"}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_secrets_are_hidden_roles_and_claims_count_all_the_same() {
    let hides = |drp: &Drp| {
        drp.state.tells_base.store(false, Ordering::Relaxed);
        drp.state.tells_secrets.store(false, Ordering::Relaxed);
    };
    let (drp, hydrant) = front("", hides).await;
    let base = drp.state.base.lock().clone();
    let plain = |other: &Value| tokens::jwt(&drp.state.users.lock()["alice"].payload("alice", other), &base);
    let (of_before, narrow) = (plain(&json!({})), plain(&json!({"DrpRoles": []})));
    let mut alice = by_password(&hydrant, ALICE).await.unwrap();
    let mut bearer = by_token(&hydrant, &of_before).await.unwrap();
    let mut narrowed = by_token(&hydrant, &narrow).await.unwrap();
    for client in [&mut alice, &mut bearer, &mut narrowed] {
        client.register("*.*.*").await;
    }
    for client in [&mut alice, &mut bearer] {
        assert_eq!(seen(&hydrant, client, &[("tasks", "t1"), ("machines", "m1")]).await, ["machines.update.m1"]);
    }
    // It has seen nothing of all that: what comes next is the answer.
    narrowed.deregister("*.*.*").await;

    // Claims of the role, then roles of the user.
    reader(&drp, "machines,tasks");
    told(&drp, &hydrant, "roles", "update", "reader").await;
    for client in [&mut alice, &mut bearer] {
        let widened = async { while seen(&hydrant, client, &[("tasks", "t1")]).await != ["tasks.update.t1"] {} };
        patiently("the wider role", widened).await;
    }
    drp.state.users.lock().get_mut("alice").unwrap().roles = vec!["idle".to_owned()];
    drp.state.roles.lock().as_array_mut().unwrap().push(json!({"Name": "idle", "Claims":
        [{"scope": "machines", "action": "get", "specific": "the-end"}]}));
    told(&drp, &hydrant, "roles", "create", "idle").await;
    told(&drp, &hydrant, "users", "save", "alice").await;
    let taken = async { while !seen(&hydrant, &mut alice, &[("machines", "m1")]).await.is_empty() {} };
    patiently("the role to be gone", taken).await;

    // A new secret ends the verdict about a token, for the endpoint is asked again.
    drp.state.users.lock().get_mut("alice").unwrap().secret = "another".to_owned();
    told(&drp, &hydrant, "users", "save", "alice").await;
    assert_eq!(refused(by_token(&hydrant, &of_before).await).status, 403);
    by_token(&hydrant, &plain(&json!({}))).await.unwrap();
    // But nobody can tell that it is another, so who is connected stays.
    assert_eq!(seen(&hydrant, &mut alice, &[("machines", "m1")]).await, [""; 0]);
}

/// The key of tokens is told, the users' secrets are not: nobody here can compare them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_can_be_opened_is_shown_to_the_endpoint_where_secrets_are_hidden() {
    let (drp, hydrant) = front("", |drp| drp.state.tells_secrets.store(false, Ordering::Relaxed)).await;
    let old = drp.token("alice", &json!({"iat": 1}));
    by_token(&hydrant, &old).await.unwrap();
    assert_eq!(drp.asked("/api/v3/info"), 1);
    drp.state.users.lock().get_mut("alice").unwrap().secret = "another".to_owned();
    let other = drp.token("alice", &json!({"grantor_claims": {"user_id": "alice", "user_secret": "secret of wonder"}}));
    assert_eq!(refused(by_token(&hydrant, &other).await).status, 403);
    assert_eq!(drp.asked("/api/v3/info"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_grantor_who_is_not_there_is_refused() {
    let (drp, hydrant) = front("", |_| {}).await;
    let granted = || {
        let secret = drp.state.users.lock()["alice"].secret.clone();
        let parties = json!({"grantor_id": "bob", "grantor_secret": "secret of builder", "user_id": "alice",
            "user_secret": secret});
        drp.token("alice", &json!({"grantor_claims": parties}))
    };
    assert_eq!(refused(by_token(&hydrant, &granted()).await).status, 403);
    assert_eq!(drp.asked("/api/v3/users/bob"), 2, "once, and once more together with what hydrant may see");
    drp.state.users.lock().insert("bob".to_owned(), User::new("builder", &[]));
    let mut alice = by_token(&hydrant, &granted()).await.unwrap();
    alice.register("*.*.*").await;
    // DRP 3 swaps the two secrets, and refuses what it has made so.
    let swapped = json!({"grantor_id": "bob", "grantor_secret": "secret of wonder", "user_id": "alice",
        "user_secret": "secret of builder"});
    let swapped = drp.token("alice", &json!({"grantor_claims": swapped}));
    assert_eq!(refused(by_token(&hydrant, &swapped).await).status, 403);
    drp.state.users.lock().remove("bob");
    told(&drp, &hydrant, "users", "delete", "bob").await;
    assert_eq!(alice.closed().await.0, 1008);
    assert_eq!(refused(by_token(&hydrant, &granted()).await).status, 403);
    by_password(&hydrant, ALICE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_that_nobody_can_judge_do_not_count_as_guesses() {
    let (mut drp, hydrant) = front("[throttle]\nfailures = 3\n", |_| {}).await;
    drp.stop().await;
    for _ in 0..10 {
        assert_eq!(refused(by_password(&hydrant, ALICE).await).status, 503);
    }
    drp.resume().await;
    by_password(&hydrant, ALICE).await.unwrap();
    // Right ones do not count either, wrong ones do, and then the endpoint is not asked.
    for _ in 0..3 {
        assert_eq!(refused(by_password(&hydrant, "alice:wrong").await).status, 403);
    }
    let asked = drp.asked("/api/v3/users/alice/token");
    let refusal = refused(by_password(&hydrant, "alice:wrong").await);
    assert_eq!((refusal.status, refusal.headers.contains_key("retry-after")), (429, true), "{refusal:?}");
    assert_eq!(drp.asked("/api/v3/users/alice/token"), asked);
    for (outcome, count) in [("undecided", 11), ("denied", 3), ("good", 1), ("known", 0)] {
        assert_eq!(hydrant.metric(&verdicts(outcome)).await, count, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_come_for_the_first_time_do_not_wait_for_one_another() {
    // One after the other they would take eight seconds, and no answer is waited for for more than five; on a busy
    // machine many more of them take that long together.
    const USERS: usize = 16;
    // On a busy machine so many handshakes at once may take longer than a client has by default.
    let (drp, hydrant) = front("[timeouts]\nhandshake = \"30s\"\nheader = \"30s\"\n", |_| {}).await;
    by_password(&hydrant, ALICE).await.unwrap();
    by_password(&hydrant, ALICE).await.unwrap();
    assert_eq!((hydrant.metric(&verdicts("good")).await, hydrant.metric(&verdicts("known")).await), (1, 1));
    for n in 0..USERS {
        drp.state.users.lock().insert(format!("user{n}"), User::new("wonder", &["reader"]));
    }
    drp.state.pause.store(500, Ordering::Relaxed);
    let hydrant = &hydrant;
    let logins = (0..USERS).map(async |n| by_password(hydrant, &format!("user{n}:wonder")).await.map(drop));
    let refused: Vec<_> = join_all(logins).await.into_iter().filter_map(Result::err).collect();
    assert!(refused.is_empty(), "{} of {USERS}: {:?}", refused.len(), refused[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_changes_while_being_met_is_read_again() {
    let (drp, hydrant) = front("", |_| {}).await;
    by_password(&hydrant, ALICE).await.unwrap();
    drp.state.users.lock().insert("bob".to_owned(), User::new("builder", &["superuser"]));
    drp.state.holds.store(true, Ordering::Relaxed);
    let asks = async {
        while drp.asked("/api/v3/users/bob") < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The answer is on its way, and tells of what bob is no more.
        told(&drp, &hydrant, "users", "save", "bob").await;
        drp.state.holds.store(false, Ordering::Relaxed);
    };
    let (bob, ()) = tokio::join!(by_password(&hydrant, "bob:builder"), asks);
    bob.unwrap();
    let read = async {
        while drp.asked("/api/v3/users/bob") < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently("another look at bob", read).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_endpoint_hides_is_told_by_readiness_and_a_metric() {
    let (drp, hydrant) = front("", |drp| service(drp, &NEEDED[1..])).await;
    hydrant.until(&trouble("claims"), 1).await;
    let (_, report) = readiness(&hydrant).await;
    let identity = &report["Identity"];
    assert_eq!(identity["Endpoint"], json!(format!("https://{}", drp.address)));
    assert!(
        identity["Readable"] == false && identity["Error"].as_str().unwrap().contains("tenants/list/*"),
        "{report}"
    );
    hydrant.until(&format!("hydrant_upstream_connected{{endpoint=\"{}\"}}", drp.address), 1).await;
    assert_eq!(readiness(&hydrant).await.0, 200, "those who are connected go on");
    service(&drp, &NEEDED);
    hydrant.until(&trouble("claims"), 0).await;
    let (_, report) = readiness(&hydrant).await;
    assert_eq!((&report["Identity"]["Readable"], &report["Identity"]["Error"]), (&json!(true), &json!("")), "{report}");
}

/// An endpoint whose tenant shows alice one machine, and a role of the service that may not list tenants.
fn tenants(drp: &Drp) {
    service(drp, &NEEDED);
    tenant(drp, "m1");
    let claims = NEEDED[1..].iter().map(|(scope, action)| json!({"scope": scope, "action": action, "specific": "*"}));
    let less = json!({"Name": "less", "Claims": claims.collect::<Vec<_>>()});
    drp.state.roles.lock().as_array_mut().unwrap().push(less);
}

fn tenant(drp: &Drp, machine: &str) {
    let members = json!({"machines": [machine, "the-end"]});
    *drp.state.tenants.lock() = json!([{"Name": "lab", "Users": ["alice"], "Members": members}]);
}

/// To a service that may not list the tenants the endpoint says that there are none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_given_a_lesser_role_shows_nobody_more() {
    let (drp, hydrant) = front("", tenants).await;
    let mut alice = by_password(&hydrant, ALICE).await.unwrap();
    alice.register("*.*.*").await;
    let machines = [("machines", "m2"), ("machines", "m1")];
    assert_eq!(seen(&hydrant, &mut alice, &machines).await, ["machines.update.m1"]);
    drp.state.users.lock().get_mut("rocketskates").unwrap().roles = vec!["less".to_owned()];
    told(&drp, &hydrant, "users", "save", "rocketskates").await;
    hydrant.until(&trouble("claims"), 1).await;
    assert_eq!(seen(&hydrant, &mut alice, &machines).await, ["machines.update.m1"]);
    drp.state.users.lock().insert("bob".to_owned(), User::new("builder", &["reader"]));
    assert_eq!(refused(by_password(&hydrant, "bob:builder").await).status, 503);
}

/// What the service could not see nobody has told it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_are_read_again_when_the_user_of_the_service_has_changed() {
    let (drp, hydrant) = front("", tenants).await;
    let mut alice = by_password(&hydrant, ALICE).await.unwrap();
    alice.register("*.*.*").await;
    let machines = [("machines", "m1"), ("machines", "m2")];
    assert_eq!(seen(&hydrant, &mut alice, &machines).await, ["machines.update.m1"]);
    tenant(&drp, "m2");
    told(&drp, &hydrant, "users", "save", "rocketskates").await;
    let changed = async { while seen(&hydrant, &mut alice, &machines).await != ["machines.update.m2"] {} };
    patiently("the tenant of now", changed).await;
}

/// Whoever may post events at the endpoint may name the service's user in them as often as it likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_about_the_user_of_the_service_have_the_lists_read_once_a_second() {
    let (drp, hydrant) = front("", |_| {}).await;
    by_password(&hydrant, ALICE).await.unwrap();
    told(&drp, &hydrant, "users", "save", "rocketskates").await;
    let (before, begun) = (drp.asked("/api/v3/roles"), Instant::now());
    for _ in 0..40 {
        drp.state.emit(&json!({"Type": "users", "Action": "save", "Key": "rocketskates"}), "user:alice");
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let read = async {
        while drp.asked("/api/v3/roles") == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently("the lists to be read", read).await;
    let (read, most) = (drp.asked("/api/v3/roles") - before, begun.elapsed().as_secs() + 2);
    assert!(read as u64 <= most, "{read} times, at most {most}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_away_is_told_until_it_is_back() {
    let (mut drp, hydrant) = front("", |_| {}).await;
    by_password(&hydrant, ALICE).await.unwrap();
    drp.stop().await;
    assert_eq!(refused(by_password(&hydrant, "bob:builder").await).status, 503);
    assert_eq!(hydrant.metric(&trouble("away")).await, 1);
    drp.resume().await;
    assert_eq!(refused(by_password(&hydrant, "bob:builder").await).status, 403);
    assert_eq!(hydrant.metric(&trouble("away")).await, 0);
    assert_eq!(readiness(&hydrant).await.1["Identity"]["Readable"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_ones_own_that_cannot_be_read_is_told() {
    let drp = Drp::start().await;
    drp.state.tells_base.store(false, Ordering::Relaxed);
    let token = drp.token("rocketskates", &json!({}));
    let by_name = "username = \"rocketskates\"\npassword = \"r0cketsk8ts\"";
    let settings = drp.settings().replace(by_name, &format!("token = \"{token}\""));
    let hydrant = Hydrant::start_tls(&format!("{settings}[auth]\nmode = \"both\"\n")).await;
    hydrant.until(&trouble("token"), 1).await;
    let (_, report) = readiness(&hydrant).await;
    assert!(report["Identity"]["Error"].as_str().unwrap().contains("upstream.token"), "{report}");
    drp.state.tells_base.store(true, Ordering::Relaxed);
    hydrant.until(&trouble("token"), 0).await;
}
