//! Tokens of other issuers: only what their published keys signed, for us, and only with the key's own algorithm.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hydrant::auth::{AuthOptions, IssuerOptions, RevokedError, StoreError};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::provider::Provider;
use crate::support::{HASH, Realm, at, now, options, ttl, usual};

fn realm(provider: &Provider, roles_claim: Option<&str>) -> Foreign {
    let dir = tempfile::tempdir().unwrap();
    let jwks = dir.path().join("jwks.json");
    std::fs::write(&jwks, provider.jwks.to_string()).unwrap();
    let issuer = IssuerOptions {
        jwks: jwks.clone(),
        issuer: "https://id.lab".to_owned(),
        audience: "hydrant".to_owned(),
        user_claim: "/ext/login".to_owned(),
        roles_claim: roles_claim.map(ToOwned::to_owned),
    };
    let realm = Realm::with(AuthOptions { issuer: Some(issuer), ..options() }, usual);
    Foreign { realm, jwks, _dir: dir }
}

/// A realm and its issuer's file.
struct Foreign {
    realm: Realm,
    jwks: PathBuf,
    _dir: TempDir,
}

impl std::ops::Deref for Foreign {
    type Target = Realm;

    fn deref(&self) -> &Realm {
        &self.realm
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://id.lab", "aud": ["other", "hydrant"], "exp": now().as_second() + 300, "iat": now().as_second(),
        "sub": "0b1c", "ext": {"login": "alice"}, "roles": ["reader"],
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    } else {
        claims[name] = value;
    }
    claims
}

#[test]
fn every_kind_of_key_is_taken_for_a_user_of_the_store() {
    let provider = Provider::new();
    let realm = realm(&provider, None);
    for id in ["rsa", "ec", "ed"] {
        let identity = realm.bearer(&provider.sign(id, &claims()), now()).unwrap();
        assert_eq!((identity.principal().as_str(), identity.expires_at()), ("user:alice", Some(at(300))), "{id}");
        assert!(realm.authority.permits(&identity, "tasks", "get", "x").unwrap(), "alice's own roles");
    }
    let nobody = with("ext", json!({"login": "nobody"}));
    assert!(realm.bearer(&provider.sign("ec", &nobody), now()).is_err());
    let ours = realm.token("alice", &ttl(60));
    assert!(realm.bearer(&ours, now()).is_ok(), "our own tokens still are");
}

#[test]
fn what_is_not_meant_for_us_is_refused() {
    let provider = Provider::new();
    let realm = realm(&provider, None);
    let second = now().as_second();
    let table = [
        ("another issuer", with("iss", "https://evil.lab".into())),
        ("no issuer", with("iss", Value::Null)),
        ("another audience", with("aud", "other".into())),
        ("no audience", with("aud", Value::Null)),
        ("expired", with("exp", (second - 60).into())),
        ("no expiry", with("exp", Value::Null)),
        ("expiry as text", with("exp", "9999999999".into())),
        ("expiry beyond all time", with("exp", json!(1e300))),
        ("not yet", with("nbf", (second + 61).into())),
        ("issued in the future", with("iat", (second + 61).into())),
        ("no user", with("ext", Value::Null)),
        ("user is no text", with("ext", json!({"login": 7}))),
        ("user is no name", with("ext", json!({"login": "a:b"}))),
        ("empty user", with("ext", json!({"login": ""}))),
    ];
    for (name, claims) in table {
        assert!(realm.bearer(&provider.sign("ec", &claims), now()).is_err(), "{name}");
    }
    let late = with("exp", (second - 59).into());
    assert!(realm.bearer(&provider.sign("ec", &late), now()).is_ok(), "a minute for their clock");
}

#[test]
fn a_public_key_is_never_a_secret_key() {
    let provider = Provider::new();
    let realm = realm(&provider, None);
    let mut secrets: Vec<Vec<u8>> = vec![provider.jwks.to_string().into_bytes()];
    for public in &provider.public {
        secrets.push(public.clone());
        // As a file has it or not: with other ends of lines, without the last one.
        secrets.push(public.trim_ascii_end().to_vec());
        secrets.extend(std::str::from_utf8(public).map(|pem| pem.replace('\n', "\r\n").into_bytes()));
    }
    for jwk in provider.jwks["keys"].as_array().unwrap() {
        secrets.push(jwk.to_string().into_bytes());
        for name in ["n", "x", "y"] {
            let Some(text) = jwk[name].as_str() else { continue };
            secrets.push(text.as_bytes().to_vec());
            secrets.push(URL_SAFE_NO_PAD.decode(text).unwrap());
        }
    }
    assert!(secrets.len() > 30, "{}", secrets.len());
    for id in ["rsa", "ec", "ed"] {
        for secret in &secrets {
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let header = Header { kid: Some(id.to_owned()), ..Header::new(algorithm) };
                let token = encode(&header, &claims(), &EncodingKey::from_secret(secret).unwrap()).unwrap();
                assert!(realm.bearer(&token, now()).is_err(), "{id} {algorithm:?}");
            }
        }
        let (header, payload) = (format!("{{\"alg\":\"none\",\"kid\":\"{id}\"}}"), claims().to_string());
        let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        assert!(realm.bearer(&unsigned, now()).is_err());
    }
}

#[test]
fn a_key_has_one_algorithm_and_signs_for_itself() {
    let provider = Provider::new();
    let realm = realm(&provider, None);
    let (_, rsa) = provider.key("rsa");
    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        let header = Header { kid: Some("rsa".to_owned()), ..Header::new(algorithm) };
        assert!(realm.bearer(&encode(&header, &claims(), rsa).unwrap(), now()).is_err(), "{algorithm:?}");
    }
    let (algorithm, ec) = provider.key("ec");
    for kid in [None, Some("ed"), Some("rsa"), Some("unknown")] {
        let header = Header { kid: kid.map(ToOwned::to_owned), ..Header::new(algorithm) };
        assert!(realm.bearer(&encode(&header, &claims(), ec).unwrap(), now()).is_err(), "{kid:?}");
    }
    let header = Header { kid: Some("ec".to_owned()), crit: Some(vec!["exp".to_owned()]), ..Header::new(algorithm) };
    assert!(realm.bearer(&encode(&header, &claims(), ec).unwrap(), now()).is_err(), "crit");
    let brought = Jwk::from_encoding_key(ec, algorithm).unwrap();
    for header in [
        Header { jwk: Some(brought), ..Header::new(algorithm) },
        Header { jku: Some("https://evil.lab/jwks.json".to_owned()), ..Header::new(algorithm) },
        Header { x5u: Some("https://evil.lab/chain.pem".to_owned()), ..Header::new(algorithm) },
    ] {
        let another = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let evil = EncodingKey::from_ec_pem(another.serialize_pem().as_bytes()).unwrap();
        for kid in [None, Some("ec"), Some("../../../dev/null"), Some("evil")] {
            let header = Header { kid: kid.map(ToOwned::to_owned), ..header.clone() };
            assert!(realm.bearer(&encode(&header, &claims(), &evil).unwrap(), now()).is_err(), "{header:?}");
        }
    }
    let another = Provider::new();
    assert!(realm.bearer(&another.sign("ec", &claims()), now()).is_err(), "another key of the same name");
}

#[test]
fn roles_of_the_issuer_make_no_user_of_the_store() {
    let provider = Provider::new();
    let realm = realm(&provider, Some("roles"));
    let let_in = |claims: &Value| realm.bearer(&provider.sign("ed", claims), now());
    let alice = let_in(&claims()).unwrap();
    let permits =
        |scope: &str, action: &str, specific: &str| realm.authority.permits(&alice, scope, action, specific).unwrap();
    assert!(permits("machines", "get", "x") && !permits("machines", "update", "x") && !permits("tasks", "get", "x"));
    let root = let_in(&with("ext", json!({"login": "root"}))).unwrap();
    assert!(!realm.authority.permits(&root, "users", "token", "root").unwrap(), "of the same name is not the same");
    assert!(realm.authority.issue(&root, "root", &ttl(60), now()).is_err());
    assert!(let_in(&with("ext", json!({"login": "guest"}))).is_ok());
    for roles in [json!(7), json!([7]), json!({"reader": true})] {
        assert!(let_in(&with("roles", roles)).is_err());
    }
    let none = let_in(&with("roles", Value::Null)).unwrap();
    assert!(!realm.authority.permits(&none, "machines", "get", "x").unwrap());
}

#[test]
fn a_user_of_the_store_ends_like_any_other() {
    let provider = Provider::new();
    let realm = realm(&provider, None);
    let token = provider.sign("ed", &claims());
    let before = realm.bearer(&token, now()).unwrap();
    realm.edit(|store| store.set_password("alice", HASH.clone()));
    assert_eq!(realm.authority.access(&before).unwrap_err(), RevokedError::PasswordChanged);
    let after = realm.bearer(&token, now()).unwrap();
    assert!(realm.authority.access(&after).is_ok(), "the issuer knows nothing of our passwords");
    realm.edit(|store| store.remove_user("alice"));
    assert_eq!(realm.authority.access(&after).unwrap_err(), RevokedError::UserRemoved);
    assert!(realm.bearer(&token, now()).is_err());
}

#[test]
fn the_file_is_reloaded_and_a_bad_one_refused() {
    let provider = Provider::new();
    let realm = realm(&provider, None);
    let path = realm.jwks.clone();
    let token = provider.sign("ec", &claims());
    let oct = json!({"keys": [{"kty": "oct", "kid": "x", "k": "AAAA"}]}).to_string();
    let encryption = json!({"keys": [{"kty": "RSA", "kid": "x", "use": "enc", "n": "AAAA", "e": "AQAB"}]}).to_string();
    for bad in ["", "{", "{\"keys\":[]}", &oct, &encryption] {
        std::fs::write(&path, bad).unwrap();
        let error = realm.authority.reload().unwrap_err();
        assert!(matches!(error.0[..], [StoreError::Invalid { .. }]), "{error}");
        assert!(realm.bearer(&token, now()).is_ok(), "what was there stays");
    }
    std::fs::write(&path, Provider::new().jwks.to_string()).unwrap();
    assert!(realm.authority.reload().unwrap());
    assert!(realm.bearer(&token, now()).is_err(), "a key that is no more published");
}

#[test]
fn keys_without_an_id_are_tried_and_useless_ones_are_passed_over() {
    let provider = Provider::new();
    let realm = realm(&provider, None);
    let token = provider.sign("ed", &claims());
    let mut jwks = provider.jwks.clone();
    let keys = jwks["keys"].as_array_mut().unwrap();
    keys.iter_mut().for_each(|key| drop(key.as_object_mut().unwrap().remove("kid")));
    let twin = Provider::new().jwks["keys"][0].clone();
    let strange = json!({"kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AAAA"});
    let symmetric = json!({"kty": "oct", "kid": "x", "k": "AAAA"});
    let mut bare = twin.clone();
    bare.as_object_mut().unwrap().remove("kid");
    keys.splice(0..0, [strange, symmetric, bare, json!(7)]);
    std::fs::write(&realm.jwks, jwks.to_string()).unwrap();
    assert!(realm.authority.reload().unwrap());
    assert!(realm.bearer(&token, now()).is_ok(), "its id is not in the file: those without one are tried");
    assert!(realm.bearer(&Provider::new().sign("ed", &claims()), now()).is_err());
    assert!(realm.bearer(&realm.token("alice", &ttl(60)), now()).is_ok(), "our own tokens are still ours");
}

#[test]
fn times_that_cannot_be_told_are_the_nearest_that_can() {
    let provider = Provider::new();
    let realm = realm(&provider, None);
    let good = |name: &str, time: Value| realm.bearer(&provider.sign("ed", &with(name, time)), now());
    let never = good("exp", json!(999_999_999_999_i64)).unwrap();
    assert!(never.expires_at().unwrap() > at(200_000_000_000));
    assert!(good("iat", json!(-1)).is_ok() && good("nbf", json!(-99_999_999_999_999_i64)).is_ok());
    assert!(good("nbf", json!(999_999_999_999_i64)).is_err() && good("exp", json!(-1)).is_err());
}

/// What somebody from outside has minted ends with what let it in, also over a token of somebody else in between.
#[test]
fn a_token_does_not_outlive_the_outsider_who_minted_it() {
    let provider = Provider::new();
    let realm = realm(&provider, Some("roles"));
    let superuser = realm.bearer(&provider.sign("ed", &with("roles", json!(["superuser"]))), now()).unwrap();
    let until = superuser.expires_at().unwrap();
    let long = ttl(24 * 3600);
    let issued = realm.authority.issue(&superuser, "root", &long, now()).unwrap();
    assert_eq!(issued.expires_at, until);
    let root = realm.bearer(issued.token.expose(), now()).unwrap();
    let again = realm.authority.issue(&root, "root", &long, now()).unwrap();
    let machine = realm.authority.issue_machine(&root, crate::support::UUID, &long, now()).unwrap();
    assert_eq!((again.expires_at, machine.expires_at), (until, until));
    let runner = realm.bearer(machine.token.expose(), now()).unwrap();
    let own = realm.authority.issue_machine(&runner, crate::support::UUID, &long, now()).unwrap();
    assert_eq!(own.expires_at, until);
}
