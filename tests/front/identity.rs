//! Users of the endpoint at hydrant's door: passwords, tokens, rights, and what happens when these change or the
//! endpoint is away.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use serde_json::json;

use crate::common::ws::{Client, Refusal, Show};
use crate::common::{Hydrant, JSON, basic, event, patiently};
use crate::endpoint::{Drp, MACHINE, User};
use crate::provider::Provider;
use crate::tokens;

pub const ALICE: &str = "alice:wonder";

/// An endpoint with a user `alice`, who may get machines, and a hydrant in front of it that has its own `rocketskates`,
/// who posts the events.
async fn front(auth: &str) -> (Drp, Hydrant) {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["reader"]));
    reader(&drp, "machines");
    let hydrant = Hydrant::start_tls(&format!("{}[auth]\nmode = \"both\"\n{auth}", drp.settings())).await;
    (drp, hydrant)
}

/// What the role `reader` may get.
pub fn reader(drp: &Drp, scope: &str) {
    let claims = json!([{"scope": scope, "action": "get", "specific": "*"}]);
    drp.state.roles.lock().as_array_mut().unwrap().retain(|role| role["Name"] != "reader");
    drp.state.roles.lock().as_array_mut().unwrap().push(json!({"Name": "reader", "Claims": claims}));
}

impl Drp {
    pub fn asked(&self, target: &str) -> usize {
        self.state.got.lock().iter().filter(|got| got.target.starts_with(target)).count()
    }

    pub fn token(&self, name: &str, other: &serde_json::Value) -> String {
        self.state.users.lock()[name].token(name, &self.state.base.lock(), other)
    }
}

pub async fn by_password(hydrant: &Hydrant, login: &str) -> Result<Client, Refusal> {
    hydrant.try_connect(&Show::Header(&basic(login)), &[]).await
}

pub async fn by_token(hydrant: &Hydrant, token: &str) -> Result<Client, Refusal> {
    hydrant.try_connect(&Show::Query(&format!("token={token}")), &[]).await
}

pub fn refused(result: Result<Client, Refusal>) -> Refusal {
    let Err(refusal) = result else { panic!("let in") };
    refusal
}

/// Has the endpoint tell of a change down its stream, and waits until hydrant has taken note of it.
pub async fn told(drp: &Drp, hydrant: &Hydrant, kind: &str, action: &str, key: &str) {
    let metric = |name: &str| format!("hydrant_upstream_{name}{{endpoint=\"{}\"}}", drp.address);
    hydrant.until(&metric("connected"), 1).await;
    let before = hydrant.metric(&metric("events_total")).await;
    drp.state.emit(&json!({"Type": kind, "Action": action, "Key": key}), "user:rocketskates");
    hydrant.until_that(&metric("events_total"), |events| events > before).await;
}

/// The names of what comes of these events, which hydrant's own user posts.
pub async fn seen(hydrant: &Hydrant, client: &mut Client, names: &[(&str, &str)]) -> Vec<String> {
    for (kind, key) in names {
        hydrant.post(&event(kind, "update", key)).await;
    }
    hydrant.post(&event("machines", "update", "the-end")).await;
    client.names_until("machines.update.the-end").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_checked_at_the_endpoint_and_its_rights_are_those_there() {
    let (drp, hydrant) = front("").await;
    let mut alice = by_password(&hydrant, ALICE).await.unwrap();
    let answer = {
        alice.say("register *.*.*").await;
        alice.answer("register", "*.*.*").await
    };
    assert_eq!(answer.principal, "user:alice");
    let names = seen(&hydrant, &mut alice, &[("machines", "m1"), ("tasks", "t1"), ("machines", "m2")]).await;
    assert_eq!(names, ["machines.update.m1", "machines.update.m2"]);
    // The second time nobody is asked.
    by_password(&hydrant, ALICE).await.unwrap();
    assert_eq!(drp.asked("/api/v3/users/alice/token"), 1);

    for login in ["alice:wrong", "nobody:wonder"] {
        let refusal = refused(by_password(&hydrant, login).await);
        assert_eq!((refusal.status, refusal.body.contains("not valid")), (403, true), "{refusal:?}");
    }
    // hydrant's own user is hydrant's, whatever the endpoint says of that name.
    let before = drp.asked("/api/v3/users/rocketskates/token");
    assert_eq!(refused(by_password(&hydrant, "rocketskates:wrong").await).status, 403);
    assert_eq!(drp.asked("/api/v3/users/rocketskates/token"), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_of_the_endpoint_hide() {
    let (drp, hydrant) = front("").await;
    *drp.state.tenants.lock() =
        json!([{"Name": "lab", "Users": ["alice"], "Members": {"machines": ["m1", "the-end"], "profiles": null}}]);
    told(&drp, &hydrant, "tenants", "update", "lab").await;
    let mut alice = by_password(&hydrant, ALICE).await.unwrap();
    alice.register("*.*.*").await;
    let tells = async {
        while seen(&hydrant, &mut alice, &[("machines", "m1"), ("machines", "m2")]).await != ["machines.update.m1"] {}
    };
    patiently("the tenant", tells).await;
}

/// What came before has been considered then.
async fn reads_its_preferences(drp: &Drp, hydrant: &Hydrant) {
    let before = drp.asked("/api/v3/prefs");
    told(drp, hydrant, "preferences", "save", "x").await;
    let read = async {
        while drp.asked("/api/v3/prefs") == before {
            tokio::task::yield_now().await;
        }
    };
    patiently("the preferences", read).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_can_post_a_gap() {
    let (drp, hydrant) = front("").await;
    by_password(&hydrant, ALICE).await.unwrap();
    reads_its_preferences(&drp, &hydrant).await;
    let tenants = drp.asked("/api/v3/tenants");
    for n in 0..20 {
        hydrant.try_post(JSON, &event("hydrant", "gap", &n.to_string())).await.error(400);
    }
    reads_its_preferences(&drp, &hydrant).await;
    assert_eq!(drp.asked("/api/v3/tenants"), tenants);
    by_password(&hydrant, ALICE).await.unwrap();
    assert_eq!(drp.asked("/api/v3/users/alice/token"), 1, "what is known of alice is as good as before");
}

/// Hydrant's user at the endpoint has these claims, and no others.
pub fn service(drp: &Drp, claims: &[(&str, &str)]) {
    let claim = |(scope, action): &(&str, &str)| json!({"scope": scope, "action": action, "specific": "*"});
    let role = json!({"Name": "service", "Claims": claims.iter().map(claim).collect::<Vec<_>>()});
    drp.state.roles.lock().as_array_mut().unwrap().retain(|role| role["Name"] != "service");
    drp.state.roles.lock().as_array_mut().unwrap().push(role);
    drp.state.users.lock().get_mut("rocketskates").unwrap().roles = vec!["service".to_owned()];
}

pub const NEEDED: [(&str, &str); 3] = [("tenants", "list"), ("roles", "list"), ("users", "get")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_let_in_while_the_endpoint_hides_what_rights_depend_on() {
    let (drp, hydrant) = front("").await;
    *drp.state.tenants.lock() =
        json!([{"Name": "lab", "Users": ["alice"], "Members": {"machines": ["m1", "the-end"]}}]);
    for missing in 0..NEEDED.len() {
        let mut claims = NEEDED.to_vec();
        let (scope, action) = claims.remove(missing);
        service(&drp, &claims);
        told(&drp, &hydrant, "roles", "update", "service").await;
        let told = async {
            for n in 0.. {
                // One whom nobody has let in yet.
                let name = format!("user{missing}x{n}");
                drp.state.users.lock().insert(name.clone(), User::new("wonder", &["reader"]));
                if let Err(refusal) = by_password(&hydrant, &format!("{name}:wonder")).await
                    && refusal.status == 503
                    && refusal.body.contains(&format!("{scope}/{action}/*"))
                {
                    return refusal;
                }
            }
            unreachable!("numbers do not end")
        };
        let refusal = patiently("the refusal", Box::pin(told)).await;
        assert_eq!(refusal.headers["retry-after"], "5", "{refusal:?}");
    }
    service(&drp, &NEEDED);
    let let_in = async {
        loop {
            if let Ok(alice) = by_password(&hydrant, ALICE).await {
                return alice;
            }
        }
    };
    let mut alice = patiently("the claims", Box::pin(let_in)).await;
    alice.register("*.*.*").await;
    assert_eq!(seen(&hydrant, &mut alice, &[("machines", "m2"), ("machines", "m1")]).await, ["machines.update.m1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_does_not_tell_its_users_keeps_nobody_waiting_for_long() {
    let (drp, hydrant) = front("").await;
    drp.state.hangs.store(true, Ordering::Relaxed);
    drp.state.users.lock().insert("bob".to_owned(), User::new("builder", &[]));
    let refusal = patiently("the refusal", Box::pin(by_password(&hydrant, "bob:builder"))).await;
    assert_eq!(refused(refusal).status, 503);
    // One after the other they would wait for eighty seconds.
    let all = join_all((0..16).map(|_| by_password(&hydrant, "bob:builder")));
    for refusal in patiently("all refusals", Box::pin(all)).await {
        assert_eq!(refused(refusal).status, 503);
    }
}

/// A proxy that shows a page with status 200 would otherwise let everybody in as anybody, superusers included, and one
/// that answers 404 while it has no endpoint behind it would refuse everybody for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_server_in_front_of_the_endpoint_is_no_judgement() {
    for status in [200, 404] {
        behind_a_page(status).await;
    }
}

async fn behind_a_page(status: u16) {
    let (drp, hydrant) = front("").await;
    by_password(&hydrant, ALICE).await.unwrap();
    let token = drp.token("alice", &json!({}));
    *drp.state.page.lock() = Some(("/", status));
    assert_eq!(refused(by_password(&hydrant, "alice:WRONG").await).status, 503);
    let other_key =
        tokens::seal(&tokens::jwt(&json!({"jti": "alice", "exp": 4_102_444_800_i64}), "k"), &"k".repeat(32));
    assert_eq!(refused(by_token(&hydrant, &other_key).await).status, 503);
    let plain = tokens::jwt(&json!({"jti": "alice", "exp": 4_102_444_800_i64}), &"x".repeat(32));
    assert_eq!(refused(by_token(&hydrant, &plain).await).status, 503);
    // What can be judged without the endpoint still is, and nothing of the page was remembered.
    by_token(&hydrant, &token).await.unwrap();
    *drp.state.page.lock() = None;
    let wrong = async {
        while refused(by_password(&hydrant, "alice:WRONG").await).status == 503 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        refused(by_password(&hydrant, "alice:WRONG").await).status
    };
    assert_eq!(patiently("the endpoint's own answer", Box::pin(wrong)).await, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_404_does_not_lift_the_tenants() {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["reader"]));
    reader(&drp, "machines");
    *drp.state.tenants.lock() =
        json!([{"Name": "lab", "Users": ["alice"], "Members": {"machines": ["m1", "the-end"]}}]);
    let hydrant = Hydrant::start_tls(&format!("{}[auth]\nmode = \"both\"\n", drp.settings())).await;
    let mut alice = by_password(&hydrant, ALICE).await.unwrap();
    alice.register("*.*.*").await;
    drp.state.loses_tenants.store(true, Ordering::Relaxed);
    let before = drp.asked("/api/v3/tenants");
    told(&drp, &hydrant, "tenants", "update", "lab").await;
    let read = async {
        while drp.asked("/api/v3/tenants") == before {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    patiently("the tenants to be read again", read).await;
    assert_eq!(seen(&hydrant, &mut alice, &[("machines", "m2"), ("machines", "m1")]).await, ["machines.update.m1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_at_the_endpoint_reach_open_connections() {
    let (drp, hydrant) = front("").await;
    let mut alice = by_password(&hydrant, ALICE).await.unwrap();
    alice.register("*.*.*").await;
    reader(&drp, "machines,tasks");
    told(&drp, &hydrant, "roles", "update", "reader").await;
    let widened = async { while seen(&hydrant, &mut alice, &[("tasks", "t1")]).await != ["tasks.update.t1"] {} };
    patiently("the wider role", widened).await;

    drp.state.users.lock().get_mut("alice").unwrap().secret = "another".to_owned();
    told(&drp, &hydrant, "users", "save", "alice").await;
    assert_eq!(alice.closed().await.0, 1008);

    let mut alice = by_password(&hydrant, ALICE).await.unwrap();
    drp.state.users.lock().remove("alice");
    told(&drp, &hydrant, "users", "delete", "alice").await;
    assert_eq!(alice.closed().await.0, 1008);
    assert_eq!(refused(by_password(&hydrant, ALICE).await).status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealed_tokens_are_opened_here() {
    let (drp, hydrant) = front("").await;
    let mut alice = by_token(&hydrant, &drp.token("alice", &json!({}))).await.unwrap();
    alice.register("*.*.*").await;
    let names = seen(&hydrant, &mut alice, &[("machines", "m1"), ("tasks", "t1")]).await;
    assert_eq!(names, ["machines.update.m1"]);
    assert_eq!(drp.asked("/api/v3/info"), 0, "nobody had to be asked");

    let second = hydrant::clock::now().as_second();
    let expired = drp.token("alice", &json!({"exp": second - 1}));
    assert_eq!(refused(by_token(&hydrant, &expired).await).status, 403);
    let good = drp.token("alice", &json!({}));
    let at = good.len() - 40;
    let other = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
    let tampered = format!("{}{other}{}", &good[..at], &good[at + 1..]);
    assert_eq!(refused(by_token(&hydrant, &tampered).await).status, 403);
    let foreign =
        tokens::seal(&tokens::jwt(&json!({"jti": "alice", "exp": second + 60}), &"k".repeat(32)), &"k".repeat(32));
    assert_eq!(refused(by_token(&hydrant, &foreign).await).status, 403);

    // A token with fewer roles has fewer rights; one that claims more than its user has gets no more.
    let mut narrow = by_token(&hydrant, &drp.token("alice", &json!({"DrpRoles": []}))).await.unwrap();
    narrow.register("*.*.*").await;
    let all = json!([{"scope": "*", "action": "*", "specific": "*"}]);
    let wide = drp.token("alice", &json!({"DrpRoles": ["superuser", "reader"], "drp_claims": all}));
    let mut wide = by_token(&hydrant, &wide).await.unwrap();
    wide.register("*.*.*").await;
    assert_eq!(seen(&hydrant, &mut wide, &[("tasks", "t1"), ("machines", "m9")]).await, ["machines.update.m9"]);
    narrow.deregister("*.*.*").await;

    // The user's secret is another: old tokens end, and their connections with them.
    drp.state.users.lock().get_mut("alice").unwrap().secret = "another".to_owned();
    told(&drp, &hydrant, "users", "save", "alice").await;
    assert_eq!(wide.closed().await.0, 1008);
    assert_eq!(refused(by_token(&hydrant, &good).await).status, 403);
    by_token(&hydrant, &drp.token("alice", &json!({}))).await.unwrap();

    // The endpoint's own key is another.
    let before = drp.token("alice", &json!({}));
    let mut open = by_token(&hydrant, &before).await.unwrap();
    *drp.state.base.lock() = "F".repeat(32);
    told(&drp, &hydrant, "preferences", "save", "baseTokenSecret").await;
    let renewed = async { while by_token(&hydrant, &drp.token("alice", &json!({}))).await.is_err() {} };
    patiently("the new key", Box::pin(renewed)).await;
    assert_eq!(open.closed().await.0, 1008);
    assert_eq!(refused(by_token(&hydrant, &before).await).status, 403);
}

/// Nobody guesses an endpoint's passwords through hydrant any faster than its own, and the endpoint is not asked
/// meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_of_the_endpoint_are_not_guessed() {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["superuser"]));
    let mode = "throttle = { failures = 1 }\n";
    let hydrant = Hydrant::start_tls(&format!("{mode}{}[auth]\nmode = \"both\"\n", drp.settings())).await;
    assert_eq!(refused(by_password(&hydrant, "alice:guess-1").await).status, 403);
    let asked = drp.asked("/api/v3/users/alice/token");
    for login in ["alice:guess-2", ALICE] {
        let refusal = refused(by_password(&hydrant, login).await);
        let wait: u64 = refusal.headers["retry-after"].to_str().unwrap().parse().unwrap();
        // One attempt a minute, and twice that for having failed with the last.
        assert!(refusal.status == 429 && (61..=120).contains(&wait), "{refusal:?}");
    }
    assert_eq!(drp.asked("/api/v3/users/alice/token"), asked);
}

/// A key that was changed may be one that somebody else has: it ends even while the endpoint cannot tell the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_key_ends_tokens_whatever_else_cannot_be_read() {
    let (drp, hydrant) = front("").await;
    let before = drp.token("alice", &json!({}));
    let mut open = by_token(&hydrant, &before).await.unwrap();
    open.register("tasks.*.*").await;
    *drp.state.breaks.lock() = "roles";
    *drp.state.base.lock() = "F".repeat(32);
    // Roles first: what cannot be read is tried again with what comes after it.
    told(&drp, &hydrant, "roles", "save", "reader").await;
    told(&drp, &hydrant, "preferences", "save", "baseTokenSecret").await;
    assert_eq!(open.closed().await.0, 1008);
    assert_eq!(refused(by_token(&hydrant, &before).await).status, 403);
}

/// Has hydrant ask for the keys twice: the second time when it has dealt with the first answer.
async fn ask_for_keys(drp: &Drp, hydrant: &Hydrant) {
    let before = drp.asked("/api/v3/prefs");
    for more in 1..=2 {
        told(drp, hydrant, "preferences", "save", "x").await;
        let asked = async {
            while drp.asked("/api/v3/prefs") < before + more {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        patiently("the key to be asked for", asked).await;
    }
}

/// That an endpoint fails to tell its key does not mean that it has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_cannot_tell_its_key_now_ends_no_token() {
    let (drp, hydrant) = front("").await;
    let mut alice = by_token(&hydrant, &drp.token("alice", &json!({}))).await.unwrap();
    alice.register("*.*.*").await;
    *drp.state.breaks.lock() = "prefs";
    ask_for_keys(&drp, &hydrant).await;
    *drp.state.breaks.lock() = "";
    for status in [404, 429] {
        *drp.state.refuses.lock() = ("prefs", status);
        ask_for_keys(&drp, &hydrant).await;
    }
    *drp.state.refuses.lock() = ("nothing", 0);
    *drp.state.page.lock() = Some(("/", 200));
    ask_for_keys(&drp, &hydrant).await;
    *drp.state.page.lock() = None;
    assert_eq!(seen(&hydrant, &mut alice, &[("machines", "m1"), ("tasks", "t1")]).await, ["machines.update.m1"]);
    let another = json!({"exp": hydrant::clock::now().as_second() + 1800});
    by_token(&hydrant, &drp.token("alice", &another)).await.unwrap();
    assert_eq!(drp.asked("/api/v3/info"), 0, "tokens are still opened here");
}

/// Not only when everything is read again: a key is changed because somebody else may know it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_an_endpoint_cannot_tell_now_is_asked_for_again() {
    let (drp, hydrant) = front("refresh = \"1h\"\n").await;
    let mut open = by_token(&hydrant, &drp.token("alice", &json!({}))).await.unwrap();
    open.register("*.*.*").await;
    *drp.state.refuses.lock() = ("prefs", 429);
    *drp.state.base.lock() = "F".repeat(32);
    ask_for_keys(&drp, &hydrant).await;
    *drp.state.refuses.lock() = ("nothing", 0);
    assert_eq!(patiently("the new key", open.closed()).await.0, 1008);
    by_token(&hydrant, &drp.token("alice", &json!({}))).await.unwrap();
}

/// What the endpoint cannot tell at first it may tell later: a client must not give up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_token_is_not_refused_for_good_before_the_key_was_told() {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["reader"]));
    reader(&drp, "machines");
    *drp.state.refuses.lock() = ("prefs", 429);
    let hydrant = Hydrant::start_tls(&format!("{}[auth]\nmode = \"both\"\n", drp.settings())).await;
    let token = drp.token("alice", &json!({}));
    assert_eq!(refused(by_token(&hydrant, &token).await).status, 503);
    *drp.state.refuses.lock() = ("nothing", 0);
    let login = async {
        while by_token(&hydrant, &token).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    Box::pin(patiently("the key to be told", login)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machines_token_has_the_rights_that_stand_in_it() {
    let (drp, hydrant) = front("").await;
    let claims = json!([{"scope": "machines", "action": "*", "specific": MACHINE},
        {"scope": "machines", "action": "get", "specific": "the-end"}]);
    let machine = User::new("", &[]).token(
        MACHINE,
        &drp.state.base.lock(),
        &json!({"drp_claims": claims, "DrpRoles": [],
            "grantor_claims": {"grantor_id": "system", "machine_uuid": MACHINE}}),
    );
    let mut runner = by_token(&hydrant, &machine).await.unwrap();
    runner.say("register *.*.*").await;
    assert_eq!(runner.answer("register", "*.*.*").await.principal, format!("runner:{MACHINE}"));
    let names = seen(&hydrant, &mut runner, &[("machines", "other"), ("machines", MACHINE)]).await;
    assert_eq!(names, [format!("machines.update.{MACHINE}")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_cannot_be_opened_are_shown_to_the_endpoint() {
    let (drp, hydrant) = front("fresh = \"1ms\"\n").await;
    drp.state.tells_base.store(false, Ordering::Relaxed);
    drp.state.tells_secrets.store(false, Ordering::Relaxed);
    let base = drp.state.base.lock().clone();
    told(&drp, &hydrant, "preferences", "save", "x").await;
    let payload = drp.state.users.lock()["alice"].payload("alice", &json!({}));
    let plain = tokens::jwt(&payload, &base);
    let shown = async {
        // Until the preferences have been found closed, the token is still opened here.
        while {
            by_token(&hydrant, &plain).await.unwrap();
            drp.asked("/api/v3/info") == 0
        } {}
    };
    patiently("the endpoint to be asked", Box::pin(shown)).await;
    let mut alice = by_token(&hydrant, &plain).await.unwrap();
    alice.register("*.*.*").await;
    assert_eq!(seen(&hydrant, &mut alice, &[("tasks", "t1"), ("machines", "m")]).await, ["machines.update.m"]);
    // One that the endpoint refuses, and one that it takes but nobody here can read.
    assert_eq!(refused(by_token(&hydrant, &tokens::jwt(&payload, "other")).await).status, 403);
    let refusal = refused(by_token(&hydrant, &tokens::seal(&plain, &base)).await);
    assert_eq!((refusal.status, refusal.body.contains("baseTokenSecret")), (403, true), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_endpoint_is_away_those_who_are_known_go_on() {
    let (mut drp, hydrant) = front("fresh = \"1ms\"\n").await;
    let token = drp.token("alice", &json!({}));
    let mut alice = by_password(&hydrant, ALICE).await.unwrap();
    alice.register("*.*.*").await;
    by_token(&hydrant, &token).await.unwrap();
    drp.stop().await;
    assert_eq!(seen(&hydrant, &mut alice, &[("machines", "m1")]).await, ["machines.update.m1"]);
    by_password(&hydrant, ALICE).await.unwrap();
    by_token(&hydrant, &token).await.unwrap();
    let refusal = refused(by_password(&hydrant, "bob:builder").await);
    assert_eq!((refusal.status, refusal.headers["retry-after"].to_str().unwrap()), (503, "5"), "{refusal:?}");
    let plain = format!("a.{}.c", "b".repeat(40));
    assert_eq!(refused(by_token(&hydrant, &plain).await).status, 503);
    drp.state.users.lock().insert("bob".to_owned(), User::new("builder", &[]));
    drp.resume().await;
    by_password(&hydrant, "bob:builder").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_provider_are_hydrants_own_to_judge() {
    let (provider, other) = (Provider::new(), Provider::new());
    let held = tempfile::tempdir().unwrap();
    let jwks = held.path().join("jwks.json");
    std::fs::write(&jwks, provider.jwks.to_string()).unwrap();
    let token = format!(
        "[token]\njwks = {jwks:?}\nissuer = \"https://id.lab\"\naudience = \"hydrant\"\nroles_claim = \"roles\"\n"
    );
    let (drp, hydrant) = front(&token).await;
    by_password(&hydrant, ALICE).await.unwrap();
    let claims = json!({"iss": "https://id.lab", "aud": "hydrant", "exp": hydrant::clock::now().as_second() + 300,
        "sub": "carol", "roles": ["superuser"]});
    drp.take();
    let mut carol = by_token(&hydrant, &provider.sign("ec", &claims)).await.unwrap();
    carol.say("register *.*.*").await;
    assert_eq!(carol.answer("register", "*.*.*").await.principal, "user:carol");
    assert_eq!((drp.asked("/api/v3/info"), drp.asked("/api/v3/users/carol")), (0, 0), "nobody had to be asked");
    assert_eq!(refused(by_token(&hydrant, &other.sign("ec", &claims)).await).status, 403);
}
