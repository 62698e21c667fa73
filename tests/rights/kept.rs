//! A client that keeps its connection is verified once, and loses its rights with the next request when they end.

use hydrant::auth::{AuthOptions, Authority, PasswordHash, Store, StoreError, TokenRequest};

use crate::common::http::Http;
use crate::common::people::{HASH, PASSWORD};
use crate::common::{Hydrant, JSON, basic, event};

const VERIFIED: &str = "hydrant_credentials_verified_total";

/// `poster` and `other` may post, `reader` may not.
fn people(store: &mut Store) -> Result<(), StoreError> {
    store.set_role("posting", vec!["events/post/*".parse().unwrap()])?;
    for (user, roles) in [("poster", &["posting".to_owned()][..]), ("other", &["posting".to_owned()]), ("reader", &[])]
    {
        store.add_user(user, HASH.clone(), roles)?;
    }
    Ok(())
}

async fn server() -> Hydrant {
    Hydrant::with_people("", people).await
}

fn bearer(server: &Hydrant, user: &str) -> String {
    format!("Bearer {}", server.issue(&format!("user:{user}"), &TokenRequest::default()))
}

/// Posts an event; the status of the answer.
async fn post(http: &mut Http, authorization: Option<&str>) -> u16 {
    let mut headers = vec![("content-type", JSON)];
    headers.extend(authorization.map(|value| ("authorization", value)));
    http.request("POST", "/api/v3/events", &headers, event("a", "b", "c")).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_post_verifies_nothing() {
    let server = server().await;
    for authorization in [bearer(&server, "poster"), basic(&format!("poster:{PASSWORD}"))] {
        let mut http = Http::connect(server.address(), false).await;
        let before = server.metric(VERIFIED).await;
        let mut counted = Vec::new();
        for _ in 0..4 {
            assert_eq!(post(&mut http, Some(&authorization)).await, 204);
            counted.push(server.metric(VERIFIED).await - before);
        }
        assert_eq!(counted, [1; 4]);
        let mut another = Http::connect(server.address(), false).await;
        assert_eq!(post(&mut another, Some(&authorization)).await, 204);
        assert_eq!(server.metric(VERIFIED).await - before, 2, "another connection has shown nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_of_a_connection_is_that_of_its_credentials() {
    let server = server().await;
    let mut client = server.watch(&["a.*.*"]).await;
    let [poster, other, reader] = ["poster", "other", "reader"].map(|user| bearer(&server, user));
    let mut http = Http::connect(server.address(), false).await;
    for (authorization, user) in [(&poster, "poster"), (&other, "other"), (&other, "other"), (&poster, "poster")] {
        assert_eq!(post(&mut http, Some(authorization)).await, 204);
        assert_eq!(client.event().await.principal, format!("user:{user}"));
    }
    // A refusal ends its connection, because the body is not read.
    for (authorization, expected) in
        [(Some(reader.as_str()), 403), (None, 401), (Some("Bearer x"), 403), (Some("Basic x"), 401)]
    {
        let mut http = Http::connect(server.address(), false).await;
        assert_eq!(post(&mut http, Some(&poster)).await, 204);
        assert_eq!(post(&mut http, authorization).await, expected, "{authorization:?}");
    }
}

type Change = fn(&mut Store) -> Result<(), StoreError>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_a_right_ends_it_for_the_next_post() {
    let removed: Change = |store| store.remove_user("poster");
    let role_taken: Change = |store| store.set_user_roles("poster", &[]);
    let role_changed: Change = |store| store.set_role("posting", vec!["machines/get/*".parse().unwrap()]);
    let password: Change = |store| store.set_password("poster", PasswordHash::make("another-horse")?);
    for (name, change) in
        [("removed", removed), ("role taken", role_taken), ("role changed", role_changed), ("password", password)]
    {
        let server = server().await;
        for authorization in [bearer(&server, "poster"), basic(&format!("poster:{PASSWORD}"))] {
            let mut http = Http::connect(server.address(), false).await;
            for _ in 0..2 {
                assert_eq!(post(&mut http, Some(&authorization)).await, 204, "{name}");
            }
            server.edit(change);
            server.server.reload();
            assert_eq!(post(&mut http, Some(&authorization)).await, 403, "{name}");
            server.edit(|store| {
                if store.users().contains_key("poster") {
                    store.remove_user("poster")?;
                }
                store.set_role("posting", vec!["events/post/*".parse().unwrap()])?;
                store.add_user("poster", HASH.clone(), &["posting".to_owned()])
            });
            server.server.reload();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_key_ends_its_tokens_for_the_next_post() {
    let server = server().await;
    let authorization = bearer(&server, "poster");
    let mut http = Http::connect(server.address(), false).await;
    for expected in [204, 204, 403] {
        assert_eq!(post(&mut http, Some(&authorization)).await, expected);
        Authority::open_existing(&server.data_dir(), AuthOptions::default()).unwrap().rotate_keys().unwrap();
        server.server.reload();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rule_about_origins_holds_for_every_request() {
    let server = server().await;
    let password = basic(&format!("poster:{PASSWORD}"));
    let mut http = Http::connect(server.address(), false).await;
    assert_eq!(post(&mut http, Some(&password)).await, 204);
    let headers = [("content-type", JSON), ("authorization", password.as_str()), ("origin", "https://evil.lab")];
    let reply = http.request("POST", "/api/v3/events", &headers, event("a", "b", "c")).await;
    assert_eq!(reply.status.as_u16(), 403, "recognized, and from the page of another");
}
