//! A user of the endpoint and one of hydrant's own who have the same name.

use serde_json::json;

use crate::common::Hydrant;
use crate::common::people::{HASH, PASSWORD};
use crate::common::ws::Client;
use crate::endpoint::{Drp, User};
use crate::identity::{by_password, by_token, reader, told};

const ALICE: &str = "connections.create.user:alice";

/// What a client hears of connections until an event that all may see.
async fn heard(hydrant: &Hydrant, client: &mut Client) -> Vec<String> {
    hydrant.announce("machines", "update", "the-end").await;
    client.names_until("machines.update.the-end").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_hears_of_the_connections_of_the_other() {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["reader"]));
    reader(&drp, "machines");
    let settings = format!("connection_events = true\n{}[auth]\nmode = \"both\"\n", drp.settings());
    let hydrant = Hydrant::with_people_over(&settings, true, |store| {
        store.set_role("local", vec!["machines/get/*".parse().unwrap()])?;
        store.add_user("alice", HASH.clone(), &["local".to_owned()])
    })
    .await;
    let login = format!("alice:{PASSWORD}");
    let local = || by_password(&hydrant, &login);
    let token = drp.token("alice", &json!({}));
    let mut here = local().await.unwrap();
    let mut there = by_token(&hydrant, &token).await.unwrap();
    for client in [&mut here, &mut there] {
        client.register("connections.*.user:alice").await;
        client.register("*.*.the-end").await;
    }
    // What was told of their own arrivals, in whatever order.
    for client in [&mut here, &mut there] {
        heard(&hydrant, client).await;
    }

    let _second = local().await.unwrap();
    assert_eq!(heard(&hydrant, &mut here).await, [ALICE]);
    assert_eq!(heard(&hydrant, &mut there).await, [""; 0], "hydrant's own alice is somebody else");
    let _second = by_token(&hydrant, &token).await.unwrap();
    assert_eq!(heard(&hydrant, &mut here).await, [""; 0], "so is the endpoint's");
    assert_eq!(heard(&hydrant, &mut there).await, [ALICE]);
    // Connections that the endpoint itself tells of are its own users'.
    told(&drp, &hydrant, "connections", "create", "user:alice").await;
    assert_eq!(heard(&hydrant, &mut here).await, [""; 0]);
    assert_eq!(heard(&hydrant, &mut there).await, [ALICE]);
}
