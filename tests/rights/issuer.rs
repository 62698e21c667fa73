//! Tokens of an identity provider, by the settings of a server.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hydrant::auth::{Store, StoreError};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::common::http::{self, Reply};
use crate::common::people::{HASH, now};
use crate::common::ws::Show;
use crate::common::{Hydrant, patiently};

/// A provider with a key of each kind, and the file that it publishes.
struct Provider {
    keys: Vec<(&'static str, Algorithm, EncodingKey)>,
    jwks: Value,
    dir: tempfile::TempDir,
}

impl Provider {
    fn new() -> Self {
        let pair = |algorithm| rcgen::KeyPair::generate_for(algorithm).unwrap();
        let pem = |pair: &rcgen::KeyPair| pair.serialize_pem().into_bytes();
        let rsa = EncodingKey::from_rsa_pem(&pem(&pair(&rcgen::PKCS_RSA_SHA256))).unwrap();
        let ec = EncodingKey::from_ec_pem(&pem(&pair(&rcgen::PKCS_ECDSA_P256_SHA256))).unwrap();
        let ed = pair(&rcgen::PKCS_ED25519);
        let x = URL_SAFE_NO_PAD.encode(ed.public_key_raw());
        let mut jwks = vec![json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "ed", "x": x})];
        for (id, algorithm, key) in [("rsa", Algorithm::RS256, &rsa), ("ec", Algorithm::ES256, &ec)] {
            let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
            jwk.common.key_id = Some(id.to_owned());
            jwks.push(serde_json::to_value(jwk).unwrap());
        }
        let ed = EncodingKey::from_ed_pem(&pem(&ed)).unwrap();
        let keys = vec![("rsa", Algorithm::RS256, rsa), ("ec", Algorithm::ES256, ec), ("ed", Algorithm::EdDSA, ed)];
        let provider = Self { keys, jwks: json!({"keys": jwks}), dir: tempfile::tempdir().unwrap() };
        provider.publish(&provider.jwks);
        provider
    }

    fn publish(&self, jwks: &Value) {
        std::fs::write(self.dir.path().join("jwks.json"), jwks.to_string()).unwrap();
    }

    fn settings(&self, more: &str) -> String {
        let jwks = self.dir.path().join("jwks.json").display().to_string();
        format!("[token]\njwks = {jwks:?}\nissuer = \"https://id.lab\"\naudience = \"hydrant\"\n{more}")
    }

    fn sign(&self, id: &str, claims: &Value) -> String {
        let (_, algorithm, key) = self.keys.iter().find(|(other, ..)| *other == id).unwrap();
        encode(&Header { kid: Some(id.to_owned()), ..Header::new(*algorithm) }, claims, key).unwrap()
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_every_algorithm_are_taken_for_users_of_the_store() {
    let provider = Provider::new();
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
    let provider = Provider::new();
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
    assert_eq!(status(&server, &Provider::new().sign("ec", &claims("nonce", 1.into()))).await, 403, "other keys");
    let plain = Hydrant::with_people("", people).await;
    assert_eq!(status(&plain, &provider.sign("ec", &claims("nonce", 1.into()))).await, 403, "no issuer is configured");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_names_of_claims_can_be_set() {
    let provider = Provider::new();
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
    let (provider, next) = (Provider::new(), Provider::new());
    let server = Hydrant::with_people(&provider.settings(""), people).await;
    let (old, new) = (provider.sign("ec", &claims("nonce", 1.into())), next.sign("ec", &claims("nonce", 1.into())));
    assert_eq!((status(&server, &old).await, status(&server, &new).await), (200, 403));
    provider.publish(&json!({"keys": [{"kty": "oct", "kid": "ec", "k": "AAAA"}]}));
    server.server.reload();
    assert_eq!(status(&server, &old).await, 200, "a bad file is refused and what was there stays");
    provider.publish(&next.jwks);
    patiently("the new keys", async {
        while status(&server, &new).await != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(status(&server, &old).await, 403);
}
