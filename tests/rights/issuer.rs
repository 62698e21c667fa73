//! Tokens of an identity provider, by the settings of a server.

use hydrant::auth::{RoleLimits, Store, StoreError, TokenRequest};
use serde_json::{Value, json};

use crate::common::http::{self, Reply};
use crate::common::people::{HASH, now};
use crate::common::ws::Show;
use crate::common::{Hydrant, patiently};
use crate::provider::Provider;

/// A provider and the file that it publishes its keys in.
struct Published {
    provider: Provider,
    dir: tempfile::TempDir,
}

impl Published {
    fn new() -> Self {
        let published = Self { provider: Provider::new(), dir: tempfile::tempdir().unwrap() };
        published.publish(&published.provider.jwks);
        published
    }

    fn publish(&self, jwks: &Value) {
        std::fs::write(self.dir.path().join("jwks.json"), jwks.to_string()).unwrap();
    }

    fn settings(&self, more: &str) -> String {
        let jwks = self.dir.path().join("jwks.json").display().to_string();
        format!("[token]\njwks = {jwks:?}\nissuer = \"https://id.lab\"\naudience = \"hydrant\"\n{more}")
    }

    fn sign(&self, id: &str, claims: &Value) -> String {
        self.provider.sign(id, claims)
    }
}

fn claims(name: &str, value: Value) -> Value {
    let now = now().as_second();
    let mut claims = json!({
        "iss": "https://id.lab", "aud": "hydrant", "exp": now + 300, "iat": now, "sub": "alice",
        "ext": {"login": "bob"}, "groups": ["reader"],
    });
    claims[name] = value;
    claims
}

fn people(store: &mut Store) -> Result<(), StoreError> {
    store.set_role("reader", vec!["machines/get,list/*".parse().unwrap()])?;
    store.set_role("writer", vec!["tasks/get/*".parse().unwrap()])?;
    store.add_user("alice", HASH.clone(), &["writer".to_owned()])?;
    store.add_user("bob", HASH.clone(), &[])
}

async fn get(server: &Hydrant, token: &str, path: &str) -> Reply {
    let bearer = format!("Bearer {token}");
    http::request(server.address(), false, "GET", path, &[("authorization", &bearer)], "").await
}

async fn status(server: &Hydrant, token: &str) -> u16 {
    get(server, token, "/api/v3/info").await.status.as_u16()
}

/// With roles of the issuer's, a user is not the one of the store who has that name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_the_issuer_is_no_namesake_of_the_store() {
    let provider = Published::new();
    let settings = format!("connection_events = true\n{}", provider.settings("roles_claim = \"groups\"\n"));
    let server = Hydrant::with_people(&settings, |store| {
        people(store)?;
        store.set_role_limits("writer", RoleLimits::default().changed(&["connections=1".parse().unwrap()]))
    })
    .await;
    let bearer = format!("Bearer {}", provider.sign("ec", &claims("nonce", 1.into())));
    let mut outside = server.try_connect(&Show::Header(&bearer), &[]).await.unwrap();
    // The limit of one connection applies to each of them.
    let mut inside = server.connect_as("user:alice", &TokenRequest::default()).await;
    for client in [&mut outside, &mut inside] {
        client.register("connections.create.user:alice.Type=Eq(api)").await;
        client.register("*.*.the-end").await;
    }
    let own = [&bearer, &format!("Bearer {}", server.issue("user:alice", &TokenRequest::default()))];
    for credential in own {
        // A request that is a connection of its own.
        let headers = [("authorization", credential.as_str())];
        http::request(server.address(), false, "GET", "/api/v3/info", &headers, "").await;
    }
    server.announce("machines", "update", "the-end").await;
    server.announce("tasks", "update", "the-end").await;
    for (client, end) in [(&mut outside, "machines"), (&mut inside, "tasks")] {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|kind| kind != end) {
            seen.push(patiently("an event", client.event()).await.r#type);
        }
        assert_eq!(seen, ["connections", end]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_every_algorithm_are_taken_for_users_of_the_store() {
    let provider = Published::new();
    let server = Hydrant::with_people(&provider.settings(""), people).await;
    for id in ["rsa", "ec", "ed"] {
        let token = provider.sign(id, &claims("nonce", 1.into()));
        assert_eq!(get(&server, &token, "/api/v3/users/alice/token").await.status, 200, "{id}");
        assert_eq!(get(&server, &token, "/api/v3/users/bob/token").await.status, 403, "{id}");
    }
    let bearer = format!("Bearer {}", provider.sign("ec", &claims("nonce", 1.into())));
    let mut stream = server.try_connect(&Show::Header(&bearer), &[]).await.unwrap();
    stream.say("register *.*.*").await;
    assert_eq!(stream.answer("register", "*.*.*").await.principal, "user:alice");
    server.announce("machines", "update", "m").await;
    server.announce("tasks", "update", "t").await;
    assert_eq!(stream.event().await.name(), "tasks.update.t", "the rights of the user of the store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_not_for_us_are_refused() {
    let provider = Published::new();
    let server = Hydrant::with_people(&provider.settings(""), people).await;
    let now = now().as_second();
    for (name, value) in [
        ("iss", json!("https://evil.lab")),
        ("aud", json!("other")),
        ("exp", json!(now - 61)),
        ("nbf", json!(now + 120)),
        ("sub", json!("nobody")),
        ("sub", json!(7)),
    ] {
        let refused = get(&server, &provider.sign("ec", &claims(name, value)), "/api/v3/info").await;
        assert_eq!(refused.error(403), "credentials are not valid", "{name}");
    }
    assert_eq!(status(&server, &Published::new().sign("ec", &claims("nonce", 1.into()))).await, 403, "other keys");
    let plain = Hydrant::with_people("", people).await;
    assert_eq!(status(&plain, &provider.sign("ec", &claims("nonce", 1.into()))).await, 403, "no issuer is configured");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_names_of_claims_can_be_set() {
    let provider = Published::new();
    let settings = provider.settings("principal_claim = \"/ext/login\"\nroles_claim = \"groups\"");
    let server = Hydrant::with_people(&settings, people).await;
    let bearer = format!("Bearer {}", provider.sign("ed", &claims("nonce", 1.into())));
    let mut stream = server.try_connect(&Show::Header(&bearer), &[]).await.unwrap();
    stream.say("register *.*.*").await;
    assert_eq!(stream.answer("register", "*.*.*").await.principal, "user:bob");
    server.announce("tasks", "update", "t").await;
    server.announce("machines", "update", "m").await;
    assert_eq!(stream.event().await.name(), "machines.update.m", "the rights of the role that the issuer says");
    let nobody = provider.sign("ed", &claims("groups", json!(["no-such-role"])));
    assert_eq!(get(&server, &nobody, "/api/v3/users/bob/token").await.status, 403, "no own rights");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_is_read_again_when_it_changes() {
    let (provider, next) = (Published::new(), Published::new());
    let server = Hydrant::with_people(&provider.settings(""), people).await;
    let (old, new) = (provider.sign("ec", &claims("nonce", 1.into())), next.sign("ec", &claims("nonce", 1.into())));
    assert_eq!((status(&server, &old).await, status(&server, &new).await), (200, 403));
    provider.publish(&json!({"keys": [{"kty": "oct", "kid": "ec", "k": "AAAA"}]}));
    server.server.reload();
    assert_eq!(status(&server, &old).await, 200, "a bad file is refused and what was there stays");
    provider.publish(&next.provider.jwks);
    patiently("the new keys", async {
        while status(&server, &new).await != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(status(&server, &old).await, 403);
}
