//! A user of the endpoint and one of hydrant's own who have the same name.

use serde_json::{Value, json};

use crate::common::people::{HASH, PASSWORD};
use crate::common::ws::Client;
use crate::common::{Hydrant, basic, http, patiently};
use crate::endpoint::{Drp, User};
use crate::identity::{by_password, by_token, reader};

/// Hears until an event about a connection of this kind comes. Returns the kinds of all that came.
async fn until(client: &mut Client, kind: &str) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    let hear = async {
        while kinds.last().is_none_or(|last| last != kind) {
            let seen = client.event().await;
            let object: Value = serde_json::from_str(seen.object.get()).unwrap();
            kinds.push(object["Type"].as_str().unwrap_or(&seen.key).to_owned());
        }
    };
    patiently(kind, hear).await;
    kinds
}

/// An endpoint and a hydrant of which each has a user `alice`, with these claims.
async fn namesakes(claim: &str) -> (Drp, Hydrant) {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["reader"]));
    reader(&drp, "machines");
    let settings = format!("connection_events = true\n{}[auth]\nmode = \"both\"\n", drp.settings());
    let hydrant = Hydrant::with_people_over(&settings, true, |store| {
        store.set_role("local", vec![claim.parse().unwrap()])?;
        store.add_user("alice", HASH.clone(), &["local".to_owned()])
    })
    .await;
    (drp, hydrant)
}

/// Asks a question of hydrant's own.
async fn question(hydrant: &Hydrant, credential: &str, path: &str, question: &Value) -> Value {
    let headers = [("authorization", credential), ("content-type", "application/json")];
    let path = format!("/api/v3/hydrant/{path}");
    let reply = http::request(hydrant.address(), true, "POST", &path, &headers, &question.to_string()).await;
    assert_eq!(reply.status.as_u16(), 200, "{reply:?}");
    reply.json()
}

/// Whoever may see a connection is not told the rights of its principal because of an equal name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_is_told_the_rights_of_the_other() {
    let (drp, hydrant) = namesakes("connections/get,list/*").await;
    let login = format!("alice:{PASSWORD}");
    let mut here = by_password(&hydrant, &login).await.unwrap();
    let mut there = by_token(&hydrant, &drp.token("alice", &json!({}))).await.unwrap();
    // A shard lists a connection that it has adopted, which is after its handshake was answered.
    for client in [&mut here, &mut there] {
        client.register("a.b.c").await;
    }
    let basic = basic(&login);
    let path = "/api/v3/connections?Type=websocket&Principal=user:alice";
    let listed = http::request(hydrant.address(), true, "GET", path, &[("authorization", &basic)], "").await.json();
    let mut causes = Vec::new();
    for connection in listed.as_array().unwrap() {
        let event = json!({"Type": "params", "Action": "update", "Key": "k"});
        let asked = json!({"Event": event, "Spec": "params.*.*", "Connection": connection["RemoteAddr"]});
        let told = question(&hydrant, &basic, "explain", &asked).await;
        causes.push(told["Causes"][0]["Kind"].as_str().unwrap().to_owned());
    }
    causes.sort();
    assert_eq!(causes, ["Claim", "Rights"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_hears_of_the_connections_of_the_other() {
    let (drp, hydrant) = namesakes("machines/get/*").await;
    let login = format!("alice:{PASSWORD}");
    let mut here = by_password(&hydrant, &login).await.unwrap();
    let mut there = by_token(&hydrant, &drp.token("alice", &json!({}))).await.unwrap();
    for client in [&mut here, &mut there] {
        client.register("connections.create.user:alice").await;
        client.register("*.*.the-end").await;
    }
    // Requests of hydrant's own alice are a connection of hers.
    let basic = basic(&login);
    let path = "/api/v3/connections";
    http::request(hydrant.address(), true, "GET", path, &[("authorization", &basic)], "").await;
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
    // Nor is it counted among the events that a registration would have matched.
    let spec = json!({"Spec": "connections.create.user:alice.Type=Eq(of the endpoint)"});
    let bearer = format!("Bearer {}", drp.token("alice", &json!({})));
    for (credential, matched) in [(&basic, 0), (&bearer, 1)] {
        assert_eq!(question(&hydrant, credential, "check", &spec).await["Matched"], matched);
    }
    assert!(!local_kinds.contains(&"of the endpoint".to_owned()), "{local_kinds:?}");
    assert!(!endpoint_kinds.contains(&"api".to_owned()), "{endpoint_kinds:?}");
}
