//! A user of the endpoint and one of hydrant's own who have the same name.

use serde_json::{Value, json};

use crate::common::people::{HASH, PASSWORD};
use crate::common::ws::Client;
use crate::common::{Hydrant, basic};
use crate::endpoint::{Drp, User};
use crate::identity::{by_password, by_token, reader};

/// Hears until an event about a connection of this kind comes. Returns the kinds of all that came.
async fn until(client: &mut Client, kind: &str) -> Vec<String> {
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|last| last != kind) {
        let seen = client.event().await;
        let object: Value = serde_json::from_str(seen.object.get()).unwrap();
        kinds.push(object["Type"].as_str().unwrap_or(&seen.key).to_owned());
    }
    kinds
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
    let mut here = by_password(&hydrant, &login).await.unwrap();
    let mut there = by_token(&hydrant, &drp.token("alice", &json!({}))).await.unwrap();
    for client in [&mut here, &mut there] {
        client.register("connections.create.user:alice").await;
        client.register("*.*.the-end").await;
    }
    // Requests of hydrant's own alice are a connection of hers.
    hydrant.request("GET", "/api/v3/info", &[("authorization", &basic(&login))], "").await;
    let mut local_kinds = until(&mut here, "api").await;
    hydrant.until(&format!("hydrant_upstream_connected{{endpoint=\"{}\"}}", drp.address), 1).await;
    // Those of which the endpoint itself tells are of its own.
    drp.state.emit(
        &json!({"Type": "connections", "Action": "create", "Key": "user:alice",
        "Object": {"Type": "of the endpoint"}}),
        "user:alice",
    );
    let mut endpoint_kinds = until(&mut there, "of the endpoint").await;
    hydrant.announce("machines", "update", "the-end").await;
    local_kinds.extend(until(&mut here, "the-end").await);
    endpoint_kinds.extend(until(&mut there, "the-end").await);
    assert!(!local_kinds.contains(&"of the endpoint".to_owned()), "{local_kinds:?}");
    assert!(!endpoint_kinds.contains(&"api".to_owned()), "{endpoint_kinds:?}");
}
