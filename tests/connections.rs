//! Connections: listed, told of, closed by address; and rights that change under a stream.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use common::Hydrant;
use common::ws::{Client, Show};

const LOUD: &str = "connection_events = true\nshards = 2";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_told_of_when_they_come_and_when_they_vanish() {
    let server = Hydrant::start(LOUD).await;
    server.token().await;
    let mut watcher = server.watch(&["connections.*.user:rocketskates"]).await;
    // Its own coming may have been on its way when it registered.
    let listed = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    let own = listed[0]["RemoteAddr"].as_str().unwrap().to_owned();
    let other = server.connect().await;
    let come = websocket_event(&mut watcher, "create", &own).await;
    let listed = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    let addresses: Vec<&str> = listed.as_array().unwrap().iter().map(|c| c["RemoteAddr"].as_str().unwrap()).collect();
    assert_eq!(addresses.len(), 2);
    assert!(addresses.contains(&come.as_str()), "{come} in {addresses:?}");
    // It leaves without a word.
    drop(other);
    assert_eq!(websocket_event(&mut watcher, "delete", &own).await, come);
}

/// The address in the next event about a websocket other than its own, which must have this action.
async fn websocket_event(watcher: &mut Client, action: &str, own: &str) -> String {
    loop {
        let text = watcher.text().await;
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        if event["Object"]["Type"] == "websocket" && event["Object"]["RemoteAddr"] != own {
            assert_eq!(
                (event["Type"].as_str(), event["Action"].as_str()),
                (Some("connections"), Some(action)),
                "{text}"
            );
            return event["Object"]["RemoteAddr"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_connection_is_closed_and_gone() {
    let server = Hydrant::start("shards = 2").await;
    let mut client = server.watch(&["a.b.c"]).await;
    let listed = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    let row = &listed[0];
    assert_eq!((row["Registrations"].as_u64(), row["Principal"].as_str()), (Some(1), Some("user:rocketskates")));
    let path = format!("/api/v3/connections/{}", row["RemoteAddr"].as_str().unwrap());
    assert_eq!(server.request("GET", &path, &[], "").await.json()["RemoteAddr"], row["RemoteAddr"]);
    assert_eq!(server.request("DELETE", &path, &[], "").await.json()["RemoteAddr"], row["RemoteAddr"]);
    let (code, reason, _) = client.closed().await;
    assert_eq!((code, reason.as_str()), (1001, "connection deleted"));
    drop(client);
    server.until("hydrant_connections", 0).await;
    assert_eq!(server.request("DELETE", &path, &[], "").await.status.as_u16(), 404);
    assert_eq!(server.request("GET", "/api/v3/connections/nonsense", &[], "").await.status.as_u16(), 404);
    assert_eq!(server.request("GET", "/api/v3/machines/u1/connections", &[], "").await.body, "[]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_of_a_principal_are_kept() {
    let limits = "limits = { connections_per_principal = 2, posted_events_per_second = 5 }";
    let server = Hydrant::start(limits).await;
    let (first, _second) = (server.connect().await, server.connect().await);
    let bearer = format!("Bearer {}", server.token().await);
    let show = Show::Header(&bearer);
    assert_eq!(server.try_connect(&show, &[]).await.err().unwrap().status, 429);
    drop(first);
    server.until("hydrant_connections", 1).await;
    assert!(server.try_connect(&show, &[]).await.is_ok());
    let five: Vec<String> = (0..5).map(|at| common::event("a", "b", &at.to_string())).collect();
    let body = format!("[{}]", five.join(","));
    let json = [("content-type", "application/json")];
    assert_eq!(server.request("POST", "/api/v3/events", &json, &body).await.status.as_u16(), 204);
    let refused = server.request("POST", "/api/v3/events", &json, &body).await;
    assert_eq!(refused.status.as_u16(), 429);
    assert!(refused.headers.contains_key("retry-after"));
}
