//! Tokens: what is refused, what ends them, and that they never have more rights than they should.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hydrant::auth::{
    AuthError, CredentialError, IssueError, Principal, RevokedError, Secret, TokenError, TokenRequest,
};
use jiff::SignedDuration;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use crate::support::{PASSWORD, Realm, UUID, at, now, only, ttl};

fn encode(part: &str) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().unwrap()
}

fn json_of(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// A token of these texts, signed as `algorithm` with `key`.
fn forge(header: &str, payload: &str, key: &[u8], algorithm: Algorithm) -> String {
    seal(&format!("{}.{}", encode(header), encode(payload)), key, algorithm)
}

/// This text and its signature.
fn seal(message: &str, key: &[u8], algorithm: Algorithm) -> String {
    // No key at all is the same as a zero: HMAC fills keys up with zeros.
    let key = if key.is_empty() { &[0] } else { key };
    let signature = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(key).unwrap(), algorithm).unwrap();
    format!("{message}.{signature}")
}

struct Forger {
    realm: Realm,
    key: Vec<u8>,
    token: String,
    header: Value,
    payload: Value,
}

impl Forger {
    fn new() -> Self {
        let realm = Realm::usual();
        let token = realm.token("alice", &ttl(3600));
        let [header, payload, _] = parts(&token);
        let (header, payload) = (json_of(header), json_of(payload));
        let (_, key) = realm.key();
        Self { realm, key, token, header, payload }
    }

    fn signed(&self, header: &str, payload: &str) -> String {
        forge(header, payload, &self.key, Algorithm::HS256)
    }

    fn sealed(&self, message: &str) -> String {
        seal(message, &self.key, Algorithm::HS256)
    }

    fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[name] = value;
        self.signed(&header.to_string(), &self.payload.to_string())
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut payload = self.payload.clone();
        payload[name] = value;
        self.signed(&self.header.to_string(), &payload.to_string())
    }

    fn without_claim(&self, name: &str) -> String {
        let mut payload = self.payload.clone();
        payload.as_object_mut().unwrap().remove(name).unwrap();
        self.signed(&self.header.to_string(), &payload.to_string())
    }
}

/// Tokens that must be refused, by name.
#[derive(Default)]
struct Attacks(Vec<(String, String)>);

impl Attacks {
    fn add(&mut self, name: impl Into<String>, token: String) {
        self.0.push((name.into(), token));
    }

    fn all(forger: &Forger) -> Vec<(String, String)> {
        let mut attacks = Self::default();
        attacks.algorithms(forger);
        attacks.signatures(forger);
        attacks.segments(forger);
        attacks.key_ids(forger);
        attacks.headers(forger);
        attacks.unencoded(forger);
        attacks.duplicates(forger);
        attacks.times(forger);
        attacks.claims(forger);
        attacks.0
    }

    fn algorithms(&mut self, forger: &Forger) {
        let [_, payload, signature] = parts(&forger.token);
        for none in ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "HS256\0"] {
            let kid = forger.header["kid"].as_str().unwrap();
            let header = encode(&json!({"alg": none, "typ": "JWT", "kid": kid}).to_string());
            self.add(format!("alg {none:?} unsigned"), format!("{header}.{payload}."));
            self.add(format!("alg {none:?} without the dot"), format!("{header}.{payload}"));
            self.add(format!("alg {none:?} with a signature"), format!("{header}.{payload}.{signature}"));
            self.add(format!("alg {none:?} signed"), forger.with_header("alg", none.into()));
        }
        for (name, algorithm) in [("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)] {
            let mut header = forger.header.clone();
            header["alg"] = name.into();
            self.add(name, forge(&header.to_string(), &forger.payload.to_string(), &forger.key, algorithm));
        }
        for name in ["RS256", "ES256", "EdDSA", "PS256", "XX256"] {
            self.add(name, forger.with_header("alg", name.into()));
        }
        for odd in [json!(["HS256"]), json!(["HS256", "none"]), json!({"HS256": 1}), json!(256), json!(null)] {
            self.add(format!("alg {odd}"), forger.with_header("alg", odd));
        }
    }

    fn signatures(&mut self, forger: &Forger) {
        let [header, payload, signature] = parts(&forger.token);
        let (h, p) = (forger.header.to_string(), forger.payload.to_string());
        self.add("empty", String::new());
        self.add("dots", "..".to_owned());
        self.add("words", "not.a.token".to_owned());
        self.add("empty signature", format!("{header}.{payload}."));
        self.add("cut signature", format!("{header}.{payload}.{}", &signature[..20]));
        self.add("longer signature", format!("{header}.{payload}.{signature}AAAA"));
        self.add("a fourth part", format!("{}.AAAA", forger.token));
        self.add("a fourth part that is empty", format!("{}.", forger.token));
        self.add("white space", format!(" {}", forger.token));
        self.add("another key", forge(&h, &p, &[7; 32], Algorithm::HS256));
        self.add("no key", forge(&h, &p, &[], Algorithm::HS256));
        self.add("oversized", forger.with_claim("jti", "x".repeat(17_000).into()));
        self.add("oversized garbage", "A".repeat(1 << 20));
        let (body, last) = signature.split_at(signature.len() - 1);
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for other in alphabet.chars().filter(|other| !last.contains(*other)) {
            // Three of them differ only in bits that no byte has.
            self.add(format!("{other} for the last character"), format!("{header}.{payload}.{body}{other}"));
        }
    }

    /// Parts with more or less in them than base64 has. Ours is the only way to write one.
    fn segments(&mut self, forger: &Forger) {
        let given = parts(&forger.token);
        for (at, part) in given.into_iter().enumerate() {
            let mut add = |name: String, part: String| {
                let mut all = given.map(ToOwned::to_owned);
                all[at] = part;
                self.add(format!("{name} {at}"), all.join("."));
            };
            for odd in ["=", "==", " ", "\t", "\r\n", "\0", "AAAA", "%41", "\u{feff}"] {
                add(format!("{odd:?} behind part"), format!("{part}{odd}"));
                add(format!("{odd:?} in part"), format!("{}{odd}{}", &part[..8], &part[8..]));
                add(format!("{odd:?} before part"), format!("{odd}{part}"));
            }
            add("without its last character, part".to_owned(), part[..part.len() - 1].to_owned());
            add("half of part".to_owned(), part[..part.len() / 2].to_owned());
            add("without part".to_owned(), String::new());
            add("twice part".to_owned(), part.repeat(2));
        }
        let padded = |json: &Value| {
            let spaces = (0..3).map(|count| format!("{json}{}", " ".repeat(count)));
            let padded = spaces.map(|text| base64::engine::general_purpose::URL_SAFE.encode(text));
            padded.into_iter().find(|text| text.ends_with('=')).unwrap()
        };
        for (name, part) in [("header", 0), ("payload", 1)] {
            let mut all = given.map(ToOwned::to_owned);
            all[part] = padded(if part == 0 { &forger.header } else { &forger.payload });
            self.add(format!("padding in the {name}, signed"), forger.sealed(&format!("{}.{}", all[0], all[1])));
        }
    }

    fn key_ids(&mut self, forger: &Forger) {
        let kid = forger.header["kid"].as_str().unwrap();
        let odd = [
            "../../dev/null",
            "/dev/null",
            "file:///dev/null",
            "token-keys.toml",
            "' OR '1'='1",
            "*",
            "",
            "0",
            "\0",
            "AAAAAAAA",
        ];
        let near = [format!("{kid}\0"), format!("./{kid}"), format!(" {kid}"), format!("{kid}A"), kid[..7].to_owned()];
        for id in odd.into_iter().map(ToOwned::to_owned).chain(near) {
            let mut header = forger.header.clone();
            header["kid"] = id.as_str().into();
            self.add(format!("kid {id:?}"), forger.signed(&header.to_string(), &forger.payload.to_string()));
            for key in [&b""[..], b"\0"] {
                let by_key = forge(&header.to_string(), &forger.payload.to_string(), key, Algorithm::HS256);
                self.add(format!("kid {id:?} signed with {key:?}"), by_key);
            }
        }
        for odd in [json!([kid]), json!({"kid": kid}), json!(0), Value::Null] {
            self.add(format!("kid {odd}"), forger.with_header("kid", odd));
        }
    }

    fn headers(&mut self, forger: &Forger) {
        let (kid, p) = (&forger.header["kid"], forger.payload.to_string());
        for crit in [json!(["exp"]), json!([]), json!("exp"), json!(["b64"])] {
            self.add(format!("crit {crit}"), forger.with_header("crit", crit));
        }
        for name in ["jku", "x5u", "cty", "enc", "zip", "x5t", "x5t#S256", "x"] {
            self.add(name, forger.with_header(name, "https://evil/keys".into()));
        }
        self.add("x5c", forger.with_header("x5c", json!(["AAAA"])));
        self.add("another typ", forger.with_header("typ", "at+jwt".into()));
        let brought = URL_SAFE_NO_PAD.encode([7; 32]);
        for jwk in [json!({"kty": "oct", "k": "AAAA"}), json!({"kty": "oct", "k": brought, "alg": "HS256", "kid": kid})]
        {
            let mut header = forger.header.clone();
            header["jwk"] = jwk;
            self.add("jwk", forger.signed(&header.to_string(), &p));
            self.add("jwk, signed with it", forge(&header.to_string(), &p, &[7; 32], Algorithm::HS256));
        }
        self.add("header is no object", forger.signed("7", &p));
    }

    /// RFC 7797: the payload as it is.
    fn unencoded(&mut self, forger: &Forger) {
        self.add("b64", forger.with_header("b64", false.into()));
        let mut header = forger.header.clone();
        (header["b64"], header["crit"]) = (false.into(), json!(["b64"]));
        let (header, payload) = (header.to_string(), forger.payload.to_string());
        self.add("b64 with crit", forger.signed(&header, &payload));
        let plain = forger.sealed(&format!("{}.{payload}", encode(&header)));
        let signature = plain.rsplit('.').next().unwrap();
        self.add("b64 with crit, detached", format!("{}..{signature}", encode(&header)));
        self.add("b64 with crit, encoded", format!("{}.{}.{signature}", encode(&header), encode(&payload)));
        self.add("b64 with crit, plain", plain);
    }

    fn duplicates(&mut self, forger: &Forger) {
        let twice = |text: &str, extra: &str| text.replacen('{', &format!("{{{extra},"), 1);
        let (h, p) = (forger.header.to_string(), forger.payload.to_string());
        self.add("duplicate alg", forger.signed(&twice(&h, "\"alg\":\"none\""), &p));
        self.add("duplicate kid", forger.signed(&twice(&h, "\"kid\":\"x\""), &p));
        for claim in ["\"sub\":\"user:root\"", "\"exp\":9999999999", "\"iss\":\"hydrant\"", "\"only\":[],\"only\":[]"] {
            self.add(format!("duplicate {claim}"), forger.signed(&h, &twice(&p, claim)));
        }
        self.add("nested duplicate", forger.signed(&h, &twice(&p, "\"only\":[{\"roles\":[],\"roles\":[]}]")));
    }

    fn times(&mut self, forger: &Forger) {
        self.add("expired", forger.with_claim("exp", now().as_second().into()));
        self.add("negative expiry", forger.with_claim("exp", (-1).into()));
        self.add("huge expiry", forger.with_claim("exp", json!(u64::MAX)));
        self.add("expiry as text", forger.with_claim("exp", "9999999999".into()));
        self.add("expiry as float", forger.with_claim("exp", json!(1e300)));
        self.add("expiry null", forger.with_claim("exp", Value::Null));
        self.add("issued in the future", forger.with_claim("iat", (now().as_second() + 120).into()));
    }

    fn claims(&mut self, forger: &Forger) {
        let stamp = "AAAAAAAAAAAAAAAAAAAAAA";
        self.add("another issuer", forger.with_claim("iss", "digitalrebar provision".into()));
        self.add("unknown claim", forger.with_claim("admin", true.into()));
        self.add("unknown principal", forger.with_claim("sub", "root".into()));
        self.add("another user", forger.with_claim("sub", "user:root".into()));
        self.add("nobody", forger.with_claim("sub", "user:nobody".into()));
        self.add("wrong stamp", forger.with_claim("stamp", stamp.into()));
        let only = json!([{"rolls": ["reader"]}]);
        self.add("a narrowing that is not understood", forger.with_claim("only", only));
        self.add("a wrong grantor", forger.with_claim("by", json!([{"user": "root", "stamp": stamp}])));
        for claim in ["sub", "iss", "iat", "exp", "jti", "stamp"] {
            self.add(format!("no {claim}"), forger.without_claim(claim));
        }
        self.add("payload is no object", forger.signed(&forger.header.to_string(), "[]"));
    }
}

#[test]
fn every_attack_is_refused() {
    let forger = Forger::new();
    assert!(forger.realm.bearer(&forger.token, now()).is_ok());
    let same = forger.signed(&forger.header.to_string(), &forger.payload.to_string());
    assert!(forger.realm.bearer(&same, now()).is_ok(), "the forger can sign, so a refusal has another reason");
    let attacks = Attacks::all(&forger);
    assert!(attacks.len() > 250, "{}", attacks.len());
    for (name, token) in attacks {
        let refused = forger.realm.bearer(&token, now());
        let too_long = AuthError::Malformed(CredentialError::TooLong);
        let expected = if name.starts_with("oversized") { too_long } else { AuthError::Denied };
        assert_eq!(refused.map(|identity| identity.principal().clone()), Err(expected), "{name}");
    }
}

#[test]
fn every_changed_character_is_noticed() {
    let forger = Forger::new();
    for at in 0..forger.token.len() {
        let mut bytes = forger.token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let token = String::from_utf8(bytes).unwrap();
        assert!(forger.realm.bearer(&token, now()).is_err(), "character {at}");
    }
}

#[test]
fn the_command_line_is_told_the_reason() {
    let forger = Forger::new();
    let inspect = |token: &str, seconds| forger.realm.authority.inspect(&Secret::new(token), at(seconds));
    let info = inspect(&forger.token, 0).unwrap();
    assert_eq!((info.principal.as_str(), info.expires_at), ("user:alice", at(3600)));
    assert_eq!(inspect(&forger.token, 3600), Err(TokenError::Expired { at: at(3600) }));
    assert_eq!(inspect(&forger.token, -61), Err(TokenError::Future { at: now() }));
    assert!(inspect(&forger.token, -60).is_ok(), "a clock that was set back a little");
    assert_eq!(inspect(&forger.with_header("kid", "AAAAAAAA".into()), 0), Err(TokenError::UnknownKey));
    let [header, payload, _] = parts(&forger.token);
    let wrong = format!("{header}.{payload}.{}", encode(&"x".repeat(32)));
    assert_eq!(inspect(&wrong, 0), Err(TokenError::BadSignature));
    forger.realm.edit(|store| store.remove_user("alice"));
    assert_eq!(inspect(&forger.token, 0), Err(TokenError::Revoked(RevokedError::UserRemoved)));
}

#[test]
fn a_token_is_safe_in_an_url_and_tells_no_secret() {
    let realm = Realm::usual();
    let token = realm.token("alice", &only("machines", "get", "a,b"));
    assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')), "{token}");
    let store = std::fs::read_to_string(realm.path().join("auth.toml")).unwrap();
    let secret = store.lines().filter_map(|line| line.strip_prefix("secret = ")).map(|text| text.trim_matches('"'));
    let payload = json_of(parts(&token)[1]).to_string();
    for secret in secret {
        assert!(!payload.contains(secret));
    }
}

#[test]
fn a_changed_password_ends_tokens_and_logins() {
    let realm = Realm::usual();
    let token = realm.token("alice", &ttl(3600));
    let for_bob = realm.authority.issue(&realm.user("root"), "bob", &ttl(3600), now()).unwrap();
    let (by_token, by_password) = (realm.bearer(&token, now()).unwrap(), realm.user("alice"));
    let bob = realm.bearer(for_bob.token.expose(), now()).unwrap();
    let new = hydrant::auth::PasswordHash::make("another").unwrap();
    realm.edit(|store| store.set_password("alice", new.clone()));
    assert!(realm.bearer(&token, now()).is_err());
    for identity in [&by_token, &by_password] {
        assert_eq!(realm.authority.access(identity).unwrap_err(), RevokedError::PasswordChanged);
    }
    assert_eq!(
        realm.password("alice", PASSWORD).unwrap_err(),
        AuthError::Denied,
        "the cache does not know it any more"
    );
    assert!(realm.password("alice", "another").is_ok());
    assert!(realm.authority.access(&bob).is_ok());
    realm.edit(|store| store.set_password("root", new));
    assert_eq!(realm.authority.access(&bob).unwrap_err(), RevokedError::GrantorRevoked);
    assert!(realm.bearer(for_bob.token.expose(), now()).is_err());
    realm.edit(|store| store.remove_user("bob"));
    assert_eq!(realm.authority.access(&bob).unwrap_err(), RevokedError::UserRemoved);
}

#[test]
fn changed_roles_apply_to_tokens_at_once_and_end_nothing() {
    let realm = Realm::usual();
    let alice = realm.bearer(&realm.token("alice", &ttl(3600)), now()).unwrap();
    let sees = |kind| realm.authority.access(&alice).unwrap().sees(kind, "update", "x", None);
    assert!(sees("machines") && !sees("profiles"));
    let generation = realm.authority.generation();
    realm.edit(|store| store.set_user_roles("alice", &["stranger".to_owned()]));
    assert!(!sees("machines") && sees("profiles"));
    assert_eq!(realm.authority.generation(), generation + 1);
}

#[test]
fn two_rotations_end_older_tokens() {
    let realm = Realm::usual();
    let token = realm.token("alice", &ttl(3600));
    let alice = realm.bearer(&token, now()).unwrap();
    realm.authority.rotate_keys().unwrap();
    assert!(realm.bearer(&token, now()).is_ok() && realm.authority.access(&alice).is_ok());
    assert_eq!(realm.keys()["keys"].as_array().unwrap().len(), 2);
    realm.authority.rotate_keys().unwrap();
    assert!(realm.bearer(&token, now()).is_err());
    assert_eq!(realm.authority.access(&alice).unwrap_err(), RevokedError::KeyRetired);
    assert!(realm.bearer(&realm.token("alice", &ttl(3600)), now()).is_ok());
}

/// Times in tokens are whole seconds.
#[test]
fn a_token_lives_at_least_as_long_as_was_asked_for() {
    let realm = Realm::usual();
    let root = realm.user("root");
    for (milliseconds, end) in [(0, at(1)), (1, at(2)), (999, at(2))] {
        let begun = now() + SignedDuration::from_millis(milliseconds);
        let issued = realm.authority.issue(&root, "root", &ttl(1), begun).unwrap();
        assert_eq!((issued.expires_at, issued.info.expires_at, issued.info.issued_at), (end, end, now()));
        let nearly = begun + SignedDuration::from_millis(999);
        assert!(realm.bearer(issued.token.expose(), nearly).is_ok(), "{milliseconds}");
        assert!(realm.bearer(issued.token.expose(), end).is_err(), "{milliseconds}");
    }
}

#[test]
fn narrowing_only_ever_narrows() {
    let realm = Realm::usual();
    let permits = |token: &str, scope: &str, action: &str, specific: &str| {
        let identity = realm.bearer(token, now()).unwrap();
        realm.authority.permits(&identity, scope, action, specific).unwrap()
    };
    let narrow = realm.token("alice", &only("machines", "get,list", ""));
    assert!(permits(&narrow, "machines", "get", "x"));
    assert!(!permits(&narrow, "machines", "update", "x") && !permits(&narrow, "tasks", "get", "x"));
    assert!(!permits(&narrow, "info", "get", "*") && !permits(&narrow, "users", "token", "alice"));
    let wide = realm.token("alice", &only("*", "*", "*"));
    assert!(permits(&wide, "machines", "update", "x") && !permits(&wide, "profiles", "get", "x"));
    let other = realm.token("alice", &only("profiles", "*", "*"));
    assert!(!permits(&other, "profiles", "get", "x"), "what the user does not have");
}

/// One claim must contain the whole request: neither two claims of a role nor two roles add up.
#[test]
fn claims_do_not_add_up() {
    let claims = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let realm = Realm::new(|store| {
        store.set_role("a", claims(&["machines/get/a", "machines/get/b", "tasks/get/*", "machines/list/a,b"]))?;
        store.set_role("b", claims(&["machines/get/c"]))?;
        store.add_user("alice", crate::support::HASH.clone(), &["a".to_owned(), "b".to_owned()])
    });
    let alice = realm.user("alice");
    for (scope, action, specific, granted) in [
        ("machines", "get", "a", true),
        ("machines", "get", "b", true),
        ("machines", "get", "c", true),
        ("machines", "get", "a,b", false),
        ("machines", "get", "a,c", false),
        ("machines", "list", "a,b", true),
        ("machines", "get,list", "a", false),
        ("machines,tasks", "get", "a", false),
        ("tasks", "get", "a,b", true),
    ] {
        let found = realm.authority.permits(&alice, scope, action, specific).unwrap();
        assert_eq!(found, granted, "{scope}/{action}/{specific}");
    }
}

#[test]
fn roles_narrow_as_far_as_one_role_contains_them() {
    let realm = Realm::usual();
    let request = |roles: &[&str]| TokenRequest {
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
        ..TokenRequest::default()
    };
    let issue =
        |user: &str, roles: &[&str]| realm.authority.issue(&realm.user(user), user, &request(roles), now()).unwrap();
    let permits = |token: &Secret, scope: &str, action: &str| {
        let identity = realm.bearer(token.expose(), now()).unwrap();
        realm.authority.permits(&identity, scope, action, "x").unwrap()
    };
    let reader = issue("alice", &["reader", "stranger", "no-such-role", ""]);
    assert_eq!(reader.info.roles.as_deref(), Some(&["reader".to_owned()][..]), "others are dropped silently");
    assert!(permits(&reader.token, "machines", "get") && !permits(&reader.token, "machines", "update"));
    assert!(!permits(&reader.token, "tasks", "get") && !permits(&reader.token, "profiles", "get"));
    let nothing = issue("alice", &["stranger"]);
    assert!(!permits(&nothing.token, "machines", "get") && !permits(&nothing.token, "profiles", "get"));
    let root = issue("root", &["stranger"]);
    assert!(permits(&root.token, "profiles", "get") && !permits(&root.token, "machines", "get"));
    assert!(issue("alice", &[]).info.roles.is_none());
}

#[test]
fn a_token_got_with_a_token_is_as_narrow() {
    let realm = Realm::usual();
    let roles = TokenRequest { roles: vec!["reader".to_owned()], ..TokenRequest::default() };
    let reader = realm.bearer(&realm.token("alice", &roles), now()).unwrap();
    let again = realm.authority.issue(&reader, "alice", &only("", "get", ""), now()).unwrap();
    let again = realm.bearer(again.token.expose(), now()).unwrap();
    let wide = realm.authority.issue(&again, "alice", &TokenRequest::default(), now());
    assert!(matches!(wide, Err(IssueError::Forbidden { .. })), "its claim does not let it fetch tokens");
    let wide = realm.authority.issue(&reader, "alice", &only("*", "*", "*"), now()).unwrap();
    let wide = realm.bearer(wide.token.expose(), now()).unwrap();
    for identity in [&reader, &wide] {
        assert!(realm.authority.permits(identity, "machines", "get", "x").unwrap());
        assert!(!realm.authority.permits(identity, "machines", "update", "x").unwrap());
        assert!(!realm.authority.permits(identity, "users", "password", "alice").unwrap());
        assert!(realm.authority.permits(identity, "users", "token", "alice").unwrap());
    }
}

#[test]
fn refreshing_does_not_make_tokens_grow() {
    let realm = Realm::usual();
    let request = TokenRequest { roles: vec!["reader".to_owned()], ..TokenRequest::default() };
    let mut token = realm.token("alice", &request);
    let length = token.len();
    for _ in 0..20 {
        let identity = realm.bearer(&token, now()).unwrap();
        token = realm.authority.issue(&identity, "alice", &request, now()).unwrap().token.expose().to_owned();
        assert_eq!(token.len(), length);
    }
}

#[test]
fn chains_and_sizes_are_bounded() {
    let realm = Realm::usual();
    let mut identity = realm.user("root");
    let mut refused = None;
    for n in 0..20 {
        match realm.authority.issue(&identity, "root", &only("*", "*", &format!("k{n},x")), now()) {
            Ok(issued) => identity = realm.bearer(issued.token.expose(), now()).unwrap(),
            Err(error) => {
                refused = Some((n, error));
                break;
            }
        }
    }
    assert!(
        matches!(refused, Some((1, IssueError::Forbidden { .. }))),
        "a token for keys is none for tokens: {refused:?}"
    );
    let long = only(
        "machines",
        "get",
        &vec![UUID; 400].iter().enumerate().map(|(n, u)| format!("{u}{n}")).collect::<Vec<_>>().join(","),
    );
    assert_eq!(realm.authority.issue(&realm.user("root"), "root", &long, now()).unwrap_err(), IssueError::TooLarge);
    let list = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let issue = |request: &TokenRequest| realm.authority.issue(&realm.user("root"), "root", request, now());
    assert!(issue(&only(&list(128), "get", &list(127))).is_ok());
    assert_eq!(issue(&only(&list(128), "get", &list(128))).unwrap_err(), IssueError::TooLarge, "257 names");
    let same = TokenRequest { roles: vec!["reader".to_owned(); 300], ..TokenRequest::default() };
    assert_eq!(issue(&same).unwrap().info.roles, Some(vec!["reader".to_owned()]));
    let long = ttl(90 * 86_400 + 1);
    assert!(matches!(realm.authority.issue(&realm.user("root"), "root", &long, now()), Err(IssueError::Ttl { .. })));
    let empty = only("machines", "get,,list", "*");
    assert!(matches!(realm.authority.issue(&realm.user("root"), "root", &empty, now()), Err(IssueError::Claim(_))));
}

#[test]
fn tokens_for_others_need_the_claim() {
    let realm = Realm::usual();
    let issue = |caller: &str, user: &str| realm.authority.issue(&realm.user(caller), user, &ttl(60), now());
    assert!(issue("bob", "bob").is_ok(), "everybody may for itself");
    assert!(matches!(issue("bob", "alice"), Err(IssueError::Forbidden { .. })));
    assert!(matches!(issue("bob", "nobody"), Err(IssueError::Forbidden { .. })), "who may not is not told who exists");
    assert_eq!(issue("root", "nobody").unwrap_err(), IssueError::UnknownUser { name: "nobody".to_owned() });
    let issued = issue("root", "alice").unwrap();
    assert_eq!(issued.info.issued_by, ["root"]);
    let alice = realm.bearer(issued.token.expose(), now()).unwrap();
    assert_eq!(alice.principal().as_str(), "user:alice");
    assert!(!realm.authority.permits(&alice, "profiles", "get", "x").unwrap(), "alice's rights, not root's");
    let again = realm.authority.issue(&alice, "alice", &ttl(60), now()).unwrap();
    assert_eq!(again.info.issued_by, ["root"], "whoever stood behind it still does");
}

#[test]
fn a_machine_sees_itself_and_its_jobs() {
    let realm = Realm::usual();
    let root = realm.user("root");
    assert!(matches!(
        realm.authority.issue_machine(&realm.user("bob"), UUID, &ttl(60), now()),
        Err(IssueError::Forbidden { .. })
    ));
    assert!(matches!(
        realm.authority.issue_machine(&root, "not-a-uuid", &ttl(60), now()),
        Err(IssueError::Principal(_))
    ));
    let issued = realm.authority.issue_machine(&root, &UUID.to_uppercase(), &ttl(60), now()).unwrap();
    let runner = realm.bearer(issued.token.expose(), now()).unwrap();
    assert_eq!((runner.principal().as_str(), runner.user()), (format!("runner:{UUID}").as_str(), None));
    let access = realm.authority.access(&runner).unwrap();
    let other = UUID.replace('3', "4");
    for (kind, key, machine, seen) in [
        ("machines", UUID, None, true),
        ("machines", other.as_str(), None, false),
        ("jobs", "j1", Some(UUID), true),
        ("jobs", "j1", Some(other.as_str()), false),
        ("tasks", "t", None, true),
        ("profiles", "p", None, false),
        ("users", "alice", None, false),
    ] {
        assert_eq!(access.sees(kind, "update", key, machine), seen, "{kind} {key}");
    }
    assert!(realm.authority.permits(&runner, "events", "post", "*").unwrap());
    assert!(!realm.authority.permits(&runner, "events", "impersonate", "*").unwrap());
    assert!(realm.authority.issue_machine(&runner, UUID, &ttl(60), now()).is_ok(), "it refreshes itself");
    assert!(matches!(
        realm.authority.issue_machine(&runner, &other, &ttl(60), now()),
        Err(IssueError::Forbidden { .. })
    ));
}

#[test]
fn whoever_holds_the_directory_issues_for_anybody() {
    let realm = Realm::usual();
    let issue = |subject: &str| {
        let subject: Principal = subject.parse().unwrap();
        realm.authority.issue_local(&subject, &ttl(60), now())
    };
    for subject in ["user:alice", &format!("runner:{UUID}"), "plugin:ipmi"] {
        let token = issue(subject).unwrap().token;
        assert_eq!(realm.bearer(token.expose(), now()).unwrap().principal().as_str(), subject);
    }
    assert!(matches!(issue("user:nobody"), Err(IssueError::UnknownUser { .. })));
}

/// An unset variable in a script, or a slip: it must not mean all roles.
#[test]
fn a_list_of_roles_that_names_none_is_refused() {
    let realm = Realm::usual();
    let root = realm.user("root");
    for list in [vec![""], vec!["", ""]] {
        let request = TokenRequest { roles: list.into_iter().map(str::to_owned).collect(), ..TokenRequest::default() };
        assert_eq!(realm.authority.issue(&root, "root", &request, now()).unwrap_err(), IssueError::Roles);
    }
    let request = TokenRequest { roles: vec!["reader".to_owned(), String::new()], ..TokenRequest::default() };
    assert_eq!(
        realm.authority.issue(&root, "root", &request, now()).unwrap().info.roles,
        Some(vec!["reader".to_owned()])
    );
}

#[test]
fn a_token_that_is_too_long_says_so() {
    let realm = Realm::usual();
    let long = |bytes: usize| realm.bearer(&"a".repeat(bytes), now()).unwrap_err();
    assert_eq!(
        (long(16 << 10), long((16 << 10) + 1).to_string()),
        (AuthError::Denied, "the token is longer than 16 KiB".to_owned())
    );
    assert_eq!(long((16 << 10) + 1).status(), 401);
}
