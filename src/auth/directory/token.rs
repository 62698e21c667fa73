//! Tokens that an endpoint has issued.
//!
//! A DRP token is a JWT (HS256) encrypted with AES-CFB, in URL-safe base64: sixteen bytes of initialization vector,
//! then the text. The preference `baseTokenSecret` is the key of both. Newer endpoints issue the bare JWT.
//!
//! Contract: pure; the caller passes the time. [`TokenKey::open`] accepts a token only with a valid signature of the
//! one algorithm and within its lifetime. [`read_plain`] verifies nothing; use it only for tokens that the endpoint
//! itself has just accepted.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use aes::Aes256;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfb_mode::Decryptor;
use cfb_mode::cipher::KeyIvInit;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::parse::claim;
use crate::auth::account::Fingerprints;
use crate::auth::claim::Claim;
use crate::auth::credential::Secret;
use crate::auth::keys::Fingerprint;
use crate::auth::principal::{Principal, PrincipalError};
use crate::auth::token::MAX_TOKEN_BYTES;
use crate::clock;

/// Length in bytes of the key, and of the initialization vector.
const KEY: usize = 32;
const VECTOR: usize = 16;

/// The maximum time by which the endpoint's clock may be ahead of this one.
const LEEWAY: SignedDuration = SignedDuration::from_mins(1);

/// The grantor of tokens that the endpoint issues for machines and plugins.
const SYSTEM: &str = "system";

/// The reason why a token cannot be opened.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum TokenKeyError {
    /// Not encrypted or not signed with this key.
    #[error("the token was not made with this key")]
    Foreign,
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The token is not valid yet (`nbf`).
    #[error("the token is not valid yet")]
    Early,
}

/// The key that opens an endpoint's tokens. Never printed.
#[derive(Clone)]
pub struct TokenKey {
    cipher: [u8; KEY],
    signature: DecodingKey,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(***)")
    }
}

/// The content of an endpoint's token.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointToken {
    /// A user's name, a machine's UUID or a plugin's name.
    subject: String,
    /// Claims that it grants directly.
    pub(super) claims: Vec<Claim>,
    /// Names of roles.
    pub(super) roles: Vec<String>,
    /// The time at which it expires.
    pub expires_at: Timestamp,
    /// The time from which it is valid.
    not_before: Timestamp,
    parties: Parties,
    /// The key that opened it.
    key: Option<Fingerprint>,
}

impl fmt::Debug for EndpointToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointToken").field("subject", &self.subject).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    drp_claims: Vec<Value>,
    #[serde(default, rename = "DrpRoles")]
    roles: Option<BTreeSet<String>>,
    #[serde(default)]
    grantor_claims: Parties,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    jti: String,
}

/// The grantor and the subject of a token. Secrets are empty where there is nothing to compare.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Parties {
    grantor_id: String,
    grantor_secret: String,
    user_id: String,
    user_secret: String,
    machine_uuid: String,
    machine_secret: String,
}

impl TokenKey {
    /// Creates a key from the text of the preference; returns `None` if the text is not a key.
    pub fn new(secret: &str) -> Option<Self> {
        let cipher = secret.as_bytes().try_into().ok()?;
        Some(Self { cipher, signature: DecodingKey::from_secret(secret.as_bytes()).ok()? })
    }

    /// Opens a token, encrypted or plain.
    ///
    /// # Errors
    /// [`TokenKeyError`].
    pub fn open(&self, token: &Secret, now: Timestamp) -> Result<EndpointToken, TokenKeyError> {
        let token = token.expose();
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenKeyError::Foreign);
        }
        let text = if is_plain(token) { token.to_owned() } else { self.unseal(token).ok_or(TokenKeyError::Foreign)? };
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let payload =
            decode::<Payload>(&text, &self.signature, &validation).map_err(|_| TokenKeyError::Foreign)?.claims;
        let token = EndpointToken::of(payload);
        if token.expires_at <= now {
            return Err(TokenKeyError::Expired);
        }
        if token.not_before.duration_since(now) > LEEWAY {
            return Err(TokenKeyError::Early);
        }
        Ok(EndpointToken { key: Some(self.fingerprint()), ..token })
    }

    /// Returns the key's fingerprint, to detect whether the key has changed.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.cipher)
    }

    fn unseal(&self, token: &str) -> Option<String> {
        let token = token.trim_end_matches('=');
        let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        if bytes.len() <= VECTOR {
            return None;
        }
        let (vector, text) = bytes.split_at_mut(VECTOR);
        Decryptor::<Aes256>::new_from_slices(&self.cipher, vector).ok()?.decrypt(text);
        String::from_utf8(text.to_vec()).ok()
    }
}

/// Returns whether a token is a plain JWT.
fn is_plain(token: &str) -> bool {
    token.split('.').count() == 3
}

/// Returns the content of a plain JWT without verifying it; `None` if it is not a JWT or lacks required fields.
pub fn read_plain(token: &Secret) -> Option<EndpointToken> {
    let token = token.expose();
    if token.len() > MAX_TOKEN_BYTES || !is_plain(token) {
        return None;
    }
    let payload = token.split('.').nth(1)?.trim_end_matches('=');
    Some(EndpointToken::of(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?))
}

impl EndpointToken {
    fn of(payload: Payload) -> Self {
        Self {
            subject: payload.jti,
            claims: payload.drp_claims.iter().filter_map(claim).collect(),
            roles: payload.roles.unwrap_or_default().into_iter().collect(),
            expires_at: clock::at_second(payload.exp),
            not_before: payload.nbf.map_or(Timestamp::MIN, clock::at_second),
            parties: payload.grantor_claims,
            key: None,
        }
    }

    /// Returns the user that it is for; `None` for machines and plugins.
    pub fn user(&self) -> Option<&str> {
        let Parties { grantor_id, user_id, machine_uuid, .. } = &self.parties;
        // Check the parties first: a user's name may look like a machine's UUID.
        let of_nobody = user_id.is_empty() && (grantor_id == SYSTEM || Principal::runner(&self.subject).is_ok());
        (machine_uuid.is_empty() && !of_nobody).then_some(self.subject.as_str())
    }

    /// Returns every user whose secret it contains.
    pub fn secret_owners(&self) -> impl Iterator<Item = &str> {
        self.secrets().map(|(user, _)| user)
    }

    fn secrets(&self) -> impl Iterator<Item = (&str, &str)> {
        let Parties { grantor_id, grantor_secret, user_id, user_secret, .. } = &self.parties;
        let all = [(user_id, user_secret), (grantor_id, grantor_secret)];
        let named = all.into_iter().filter(|(user, secret)| !secret.is_empty() && !user.is_empty() && *user != SYSTEM);
        named.map(|(user, secret)| (user.as_str(), secret.as_str()))
    }

    pub(super) fn fingerprints(&self) -> Fingerprints {
        let users =
            self.secrets().map(|(user, secret)| (Arc::from(user), Fingerprint::of(secret.as_bytes()))).collect();
        Fingerprints { users, key: self.key, born: None }
    }

    /// Returns whether it contains secrets that do not belong to users, which only the endpoint can compare.
    pub fn has_other_secrets(&self, system: Option<&str>) -> bool {
        let Parties { grantor_id, grantor_secret, machine_secret, .. } = &self.parties;
        let of_system = grantor_id == SYSTEM && !grantor_secret.is_empty();
        let known = system
            .is_some_and(|system| Fingerprint::of(system.as_bytes()) == Fingerprint::of(grantor_secret.as_bytes()));
        !machine_secret.is_empty() || (of_system && !known)
    }

    /// Returns its bearer.
    pub(super) fn principal(&self) -> Result<Principal, PrincipalError> {
        match self.user() {
            Some(user) => Principal::endpoint_user(user),
            None => Principal::runner(&self.subject).or_else(|_| Principal::plugin(&self.subject)),
        }
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};

    use super::*;
    use crate::auth::directory::{Account, Directory, Entries};
    use crate::auth::identity::RevokedError;

    const BASE: &str = "0123456789abcdef0123456789ABCDEF";

    /// A token for alice, granted by bob, valid until 2100: encrypted by `openssl enc -aes-256-cfb` around a JWT that
    /// was signed by other means.
    const SEALED: &str = concat!(
        "AAECAwQFBgcICQoLDA0OD895Hm2vjmJtqVyk6ohmBJileHFURbVT7v0i2ot-sY_DvanbcnQvJ64lI_pqrggaeuxe2mbyYvtiNgBr",
        "Q6PPsz1HKDM_dV_KmsZxJplYIGAW_7iaZ_FI7VqjA5kIfJXLkFnL2X6K0id-brh7rnAiNXKba7MqN8Wr3wcDlUk_bi6yEd96pZdK",
        "dXA50qvYcXaRVtoUzhH2CZWAfusnDW6DHh-Rg6oEAxeXVKt0aN8_3mS2ImqEJCddfyDetySj2b4XRDfYtXfbucB-xhGKhfay1muV",
        "QR0qYb5GN_G7O59odcKFMdTY4MkSsrBhl8N-9YqlynQ7ruPCHUCYep_qZVmSrF_3PHcV3MaXP6lJ-wKQLSmWHQbLCXQ7M64XJzLN",
        "W8WLw0t0SAuc9yv0SBo5gm7f-m6jx4Nbvi8-nbCKmqOE8DXeYwMwOgZgOfJ8lIzgbGKfRBUb0-iR5t4w7Iq5RFpU2HtZ1kbeIDHs",
        "xAK9i1EFlh7OmiXnrdrlh-jeseTNDIb3YrZPdGnsdhqMoBWw4ixfYaFC7gFa6WaJ8hPgqMDuSlRH2tKuulAHfyXRxA0bj3cSsRXP",
        "TTSCe0tKe51AJIKeq5WQ7Q45TLF8o-WFYpKVaTmWZuQOM31wyHHlhnLou_pB",
    );

    fn open(token: &str, at: i64) -> Result<EndpointToken, TokenKeyError> {
        TokenKey::new(BASE).unwrap().open(&Secret::new(token), Timestamp::from_second(at).unwrap())
    }

    #[test]
    fn a_token_that_others_have_sealed_is_opened() {
        let token = open(SEALED, 1_700_000_000).unwrap();
        assert_eq!((token.user(), token.roles.as_slice()), (Some("alice"), ["reader".to_owned()].as_slice()));
        assert_eq!(token.secret_owners().collect::<Vec<_>>(), ["alice", "bob"]);
        assert!(!token.has_other_secrets(None));
        assert_eq!(open(SEALED.trim_end_matches('='), 0), Ok(token));
        assert_eq!(open(SEALED, 4_102_444_800), Err(TokenKeyError::Expired));
        assert!(!format!("{:?}", open(SEALED, 0)).contains("s1"), "a secret shows");
    }

    #[test]
    fn a_user_may_have_a_name_like_a_machines() {
        const UUID: &str = "7d2f3a4e-0c55-4f5a-9d1c-3b1f0a9e8d77";
        let token = |parties: serde_json::Value| {
            let payload = serde_json::json!({"jti": UUID, "exp": 4_102_444_800_i64, "grantor_claims": parties});
            EndpointToken::of(serde_json::from_value(payload).unwrap())
        };
        let user = token(serde_json::json!({"grantor_id": UUID, "user_id": UUID, "user_secret": "s"}));
        assert_eq!((user.user(), user.principal().unwrap().to_string()), (Some(UUID), format!("user:{UUID}")));
        for machine in [
            serde_json::json!({"grantor_id": "system", "machine_uuid": UUID}),
            serde_json::json!({"grantor_id": "system"}),
            serde_json::json!({}),
        ] {
            assert_eq!(token(machine).principal().unwrap().to_string(), format!("runner:{UUID}"));
        }
    }

    #[test]
    fn a_token_is_not_good_before_its_time() {
        let key = EncodingKey::from_secret(BASE.as_bytes());
        let payload = serde_json::json!({"jti": "alice", "exp": 4_102_444_800_i64, "nbf": 1_700_000_000});
        let jwt = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &payload, &key.unwrap()).unwrap();
        assert_eq!(open(&jwt, 1_699_999_900), Err(TokenKeyError::Early));
        assert!(open(&jwt, 1_699_999_950).is_ok(), "clocks differ");
        assert!(open(&jwt, 1_700_000_000).is_ok());
    }

    #[test]
    fn every_change_of_a_token_is_seen() {
        for at in 0..SEALED.len() {
            let other = if SEALED.as_bytes()[at] == b'A' { "Q" } else { "A" };
            let changed = format!("{}{other}{}", &SEALED[..at], &SEALED[at + 1..]);
            assert_eq!(open(&changed, 0), Err(TokenKeyError::Foreign), "byte {at}");
        }
        let other = TokenKey::new(&"k".repeat(32)).unwrap();
        assert_eq!(other.open(&Secret::new(SEALED), Timestamp::UNIX_EPOCH), Err(TokenKeyError::Foreign));
        for bad in ["", "AAAA", "a.b.c", "..", "=", &"A".repeat(MAX_TOKEN_BYTES + 1)] {
            assert_eq!(open(bad, 0), Err(TokenKeyError::Foreign), "{bad}");
        }
        assert!(TokenKey::new("short").is_none());
    }

    #[test]
    fn the_algorithm_is_not_the_tokens_to_choose() {
        // {"alg":"none"} over the same payload, as a plain JWT.
        let plain = |header: &str| {
            let payload = URL_SAFE_NO_PAD.encode(r#"{"jti":"alice","exp":4102444800}"#);
            format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(header))
        };
        let token = plain(r#"{"alg":"none","typ":"JWT"}"#);
        assert_eq!(open(&token, 0), Err(TokenKeyError::Foreign));
        assert_eq!(
            read_plain(&Secret::new(token)).unwrap().user(),
            Some("alice"),
            "which is for tokens that were taken"
        );
        assert_eq!(open(&plain(r#"{"alg":"HS512","typ":"JWT"}"#), 0), Err(TokenKeyError::Foreign));
    }

    #[test]
    fn a_token_may_have_the_length_that_is_allowed_and_no_more() {
        let begin = format!("e30.{}.", URL_SAFE_NO_PAD.encode(r#"{"jti":"alice","exp":4102444800}"#));
        let user = |length: usize| {
            let token = format!("{begin}{}", "A".repeat(length - begin.len()));
            read_plain(&Secret::new(token)).and_then(|token| token.user().map(str::to_owned))
        };
        assert_eq!(user(MAX_TOKEN_BYTES).as_deref(), Some("alice"));
        assert_eq!(user(MAX_TOKEN_BYTES + 1), None);
    }

    #[test]
    fn only_users_who_have_a_secret_in_it_own_one() {
        let owners = |alice: &str, of_alice: &str, bob: &str, of_bob: &str| {
            let parties = serde_json::json!({
                "user_id": alice, "user_secret": of_alice, "grantor_id": bob, "grantor_secret": of_bob,
            });
            let payload = serde_json::json!({ "jti": "alice", "exp": 4_102_444_800_i64, "grantor_claims": parties });
            let text = format!("e30.{}.", URL_SAFE_NO_PAD.encode(payload.to_string()));
            let token = read_plain(&Secret::new(text)).unwrap();
            assert_eq!(token.fingerprints().users.len(), token.secret_owners().count());
            token.secret_owners().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(owners("alice", "s1", "bob", "s2"), ["alice", "bob"]);
        assert_eq!(owners("alice", "", "bob", "s2"), ["bob"]);
        assert_eq!(owners("alice", "s1", "bob", ""), ["alice"]);
        assert_eq!(owners("alice", "s1", "", "s2"), ["alice"], "it is nobody's");
        assert_eq!(owners("alice", "s1", SYSTEM, "s2"), ["alice"]);
    }

    #[test]
    fn secrets_are_compared_with_those_of_now() {
        let token = open(SEALED, 0).unwrap();
        let account =
            |secret: &str| Account { fingerprint: Some(Fingerprint::of(secret.as_bytes())), ..Account::default() };
        let directory = |alice: Option<&str>, bob: &str| {
            let mut entries = Entries::default();
            entries.users.extend(alice.map(|secret| ("alice".to_owned(), account(secret))));
            entries.users.insert("bob".to_owned(), account(bob));
            Directory::new(entries)
        };
        let verdict = |alice, bob| directory(alice, bob).bearer(&token).map(|_| ());
        assert_eq!(verdict(Some("s1"), "s2"), Ok(()));
        assert_eq!(verdict(Some("other"), "s2"), Err(RevokedError::PasswordChanged));
        assert_eq!(verdict(Some("s1"), "other"), Err(RevokedError::GrantorRevoked));
        assert_eq!(verdict(None, "s2"), Err(RevokedError::UserRemoved));
    }
}
