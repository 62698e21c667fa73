//! Limits and policies of roles for users of the endpoint: those of roles with the same names in hydrant's own file.

use crate::common::Hydrant;
use crate::endpoint::{Drp, User};
use crate::identity::{ALICE, by_password, reader, refused};

const ROLE: &str = "[roles.reader]\noverflow = \"drop-oldest\"\nclaims = [\"*/*/*\"]\nlimits = { connections = 2, registrations = 1 }\n";

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
        assert_eq!((refusal.status, refusal.body.contains("2 are allowed")), (429, true), "{refusal:?}");
        alice.register("machines.*.*").await;
        alice.say("register tasks.*.*").await;
        assert!(alice.event().await.error().contains("1 are allowed"));

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
