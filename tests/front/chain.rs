//! Hydrants behind one another: whose users are whose.

use serde_json::json;

use crate::common::ws::Show;
use crate::common::{Hydrant, basic, event, http, patiently};
use crate::endpoint::{Drp, User};
use crate::identity::{ALICE, by_password, by_token, reader, refused};

/// In front of another hydrant, as its first user.
fn behind(back: &Hydrant, more: &str) -> String {
    format!(
        "[upstream]\nurls = [\"https://{}\"]\npassword = \"r0cketsk8ts\"\ntls = \"insecure\"\n{more}",
        back.address()
    )
}

/// The first hands on what the second asks of the endpoint, so the endpoint's users are those of both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_an_endpoint_are_known_at_the_second_hydrant_in_front_of_it() {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["reader"]));
    reader(&drp, "machines");
    let first = Hydrant::start_tls(&drp.settings()).await;
    let second = Hydrant::start_tls(&behind(&first, "tier = 2\n")).await;
    let mut alice = by_password(&second, ALICE).await.unwrap();
    by_token(&second, &drp.token("alice", &json!({}))).await.unwrap();
    assert_eq!(refused(by_password(&second, "alice:wrong").await).status, 403);
    alice.register("*.*.*").await;
    let tell = |kind: &str, key: &str| {
        drp.state.emit(&json!({"Type": kind, "Action": "update", "Key": key}), "user:rocketskates");
    };
    // Before the links stand, nobody hears of what happens at the endpoint.
    let stands = async {
        loop {
            tell("machines", "first");
            if tokio::time::timeout(std::time::Duration::from_millis(200), alice.event()).await.is_ok() {
                return;
            }
        }
    };
    patiently("the links", Box::pin(stands)).await;
    tell("tasks", "t1");
    tell("machines", "last");
    let names = alice.names_until("machines.update.last").await;
    assert!(names.iter().all(|name| name == "machines.update.first"), "{names:?}");
    // What changes there ends the connection here.
    drp.state.users.lock().remove("alice");
    drp.state.emit(&json!({"Type": "users", "Action": "delete", "Key": "alice"}), "user:rocketskates");
    assert_eq!(alice.closed().await.0, 1008);
}

/// A hydrant that has no endpoint tells nobody its users and roles, so it cannot judge for another; what to do is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hydrant_without_an_endpoint_is_no_judge_for_another() {
    let back = Hydrant::start_tls("").await;
    let front = Hydrant::start_tls(&behind(&back, "")).await;
    assert_eq!(refused(front.try_connect(&Show::Header(&basic("rocketskates:r0cketsk8ts")), &[]).await).status, 503);
    front.until("hydrant_identity_trouble{reason=\"refused\"}", 1).await;
    let readiness = http::request(front.server.probe_address().unwrap(), false, "GET", "/readyz", &[], "").await.json();
    let error = readiness["Identity"]["Error"].as_str().unwrap();
    assert!(error.contains("auth.mode = \"local\""), "{readiness}");
}

/// What works instead: both have the same users and keys, and each judges for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hydrant_with_the_same_files_judges_as_the_one_behind_it() {
    let back = Hydrant::start_tls("").await;
    let settings = behind(&back, "[auth]\nmode = \"local\"\n");
    let front = Hydrant::start_tls(&settings).await;
    for file in ["auth.toml", "token-keys.toml"] {
        std::fs::copy(back.data_dir().join(file), front.data_dir().join(file)).unwrap();
    }
    front.server.reload();
    let mut watcher = by_token(&front, back.token().await).await.unwrap();
    watcher.register("machines.*.*").await;
    let comes = async {
        loop {
            back.post(&event("machines", "update", "m1")).await;
            if tokio::time::timeout(std::time::Duration::from_millis(200), watcher.event()).await.is_ok() {
                return;
            }
        }
    };
    patiently("an event of the one behind", Box::pin(comes)).await;
}
