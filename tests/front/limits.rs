//! Limits and policies of roles for users of the endpoint: those of roles with the same names in hydrant's own file.

use serde_json::json;

use crate::common::{Hydrant, JSON, LOGIN, basic, http};
use crate::endpoint::{Drp, User};
use crate::identity::{ALICE, by_password, reader, refused};

const ROLE: &str = "[roles.reader]\noverflow = \"drop-oldest\"\nclaims = [\"*/*/*\"]\n\
     limits = { connections = 2, registrations = 1 }\n";

/// As `auth.mode` says, with these roles in the users' file.
async fn front(mode: &str, roles: &str) -> (Drp, Hydrant) {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["reader"]));
    reader(&drp, "machines");
    let hydrant = Hydrant::start_tls(&format!("{}[auth]\nmode = \"{mode}\"\n", drp.settings())).await;
    amend(&hydrant, roles);
    (drp, hydrant)
}

/// Adds to the users' file, and has it read.
fn amend(hydrant: &Hydrant, roles: &str) {
    let file = hydrant.data_dir().join("auth.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let kept = text.split("[roles.reader]").next().unwrap();
    std::fs::write(&file, format!("{kept}\n{roles}")).unwrap();
    hydrant.server.reload();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_the_endpoint_have_the_limits_of_roles_of_the_same_name() {
    for mode in ["upstream", "both"] {
        let (_drp, hydrant) = front(mode, ROLE).await;
        let mut alice = by_password(&hydrant, ALICE).await.unwrap();
        let _second = by_password(&hydrant, ALICE).await.unwrap();
        let refusal = refused(by_password(&hydrant, ALICE).await);
        assert_eq!((refusal.status, refusal.body.contains("at most 2 are allowed")), (429, true), "{refusal:?}");
        alice.register("machines.*.*").await;
        alice.say("register tasks.*.*").await;
        assert!(alice.event().await.error().contains("at most 1"));

        // Another limit holds for who is there, as soon as it has been read.
        let wider =
            ROLE.replace("registrations = 1", "registrations = 2").replace("connections = 2", "connections = 3");
        amend(&hydrant, &wider);
        alice.register_at_last("tasks.*.*").await;
        let _third = by_password(&hydrant, ALICE).await.unwrap();
        assert_eq!(refused(by_password(&hydrant, ALICE).await).status, 429);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_is_that_of_the_role_and_its_claims_are_nobodys() {
    let (_drp, hydrant) = front("both", ROLE).await;
    let mut alice = by_password(&hydrant, ALICE).await.unwrap();
    alice.register("*.*.*").await;
    let listed =
        hydrant.request("GET", "/api/v3/connections?Type=websocket&Principal=user:alice", &[], "").await.json();
    assert_eq!(listed[0]["Overflow"], "drop-oldest", "{listed}");
    // The file's role has all claims, the endpoint's has machines.
    let names = crate::identity::seen(&hydrant, &mut alice, &[("tasks", "t1"), ("machines", "m1")]).await;
    assert_eq!(names, ["machines.update.m1"]);
}

/// It would come back by the endpoint's stream, longer than it is taken there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_too_long_for_the_stream_is_refused_at_the_front() {
    let drp = Drp::start().await;
    let limits = "[limits]\nevent_bytes = \"64KiB\"\nbody_bytes = \"1MiB\"\n";
    let hydrant = Hydrant::start_tls(&format!("{}{limits}", drp.settings())).await;
    let login = basic(LOGIN);
    let event = |bytes: usize| json!({"Type": "a", "Action": "b", "Key": "c", "Object": "x".repeat(bytes)}).to_string();
    let headers = [("authorization", login.as_str()), ("content-type", JSON)];
    let post =
        async |body: &str| http::request(hydrant.address(), true, "POST", "/api/v3/events", &headers, body).await;
    assert!(post(&event(70_000)).await.error(413).contains("65536"));
    // Also where it does not say how long it is.
    let mut raw = hydrant.dial().await;
    let head = format!(
        "POST /api/v3/events HTTP/1.1\r\nHost: h\r\nAuthorization: {login}\r\nContent-Type: {JSON}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let chunk = event(70_000);
    raw.send(format!("{head}{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len()).as_bytes()).await;
    let answer = raw.head().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(drp.state.posted.lock().is_empty());
    assert_eq!(post(&event(60_000)).await.status.as_u16(), 204);
    assert_eq!(drp.state.posted.lock().len(), 1);
}
