//! Tokens of an external issuer: an identity provider whose public keys are in a JWKS file.
//!
//! Contract: pure; the caller passes the time. A key's type determines its only algorithm (RSA: RS256, P-256: ES256,
//! Ed25519: `EdDSA`); symmetric keys are skipped, so a public key can never be used as an HMAC key. A token is verified
//! by the key that it names; if there is none, by trying those without an id. It must expire, and its issuer and
//! audience must be the configured ones. The issuer's clock may differ from this one, so there is a minute's leeway.
//!
//! The file is read with the rest of the store and whenever it changes; nothing is fetched.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::credential::Secret;
use super::principal::check_name;
use super::token::TokenError;
use crate::clock;

/// The maximum error of an issuer's clock.
const LEEWAY: Duration = Duration::from_mins(1);

/// Settings for tokens of an external issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerOptions {
    /// The file with the issuer's public keys.
    pub jwks: PathBuf,
    /// The required value of `iss`.
    pub issuer: String,
    /// A value that `aud` must contain.
    pub audience: String,
    /// The claim that names the user: a name such as `sub`, or a JSON pointer such as `/ext/login`.
    pub user_claim: String,
    /// The claim that lists role names, likewise. Without it the user must be in the store and has its roles there.
    pub roles_claim: Option<String>,
}

struct IssuerKey {
    /// `None` if the key is tried for every token that names no known key.
    id: Option<String>,
    algorithm: Algorithm,
    verifying: DecodingKey,
}

/// Keys of the external issuer, as read from the JWKS file. Verifies its tokens; holds no private key.
pub(super) struct Issuers {
    options: IssuerOptions,
    /// The text of the file, for detecting changes.
    text: String,
    keys: Vec<IssuerKey>,
    skipped: Vec<String>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// The relevant content of an issuer's token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outsider {
    pub(super) user: String,
    /// `None` if the user's roles in the store apply.
    pub(super) roles: Option<Vec<String>>,
    pub(super) expires_at: Timestamp,
}

impl Issuers {
    /// Parses a JWKS.
    ///
    /// # Errors
    /// Line, column and reason.
    pub(super) fn parse(options: &IssuerOptions, text: String) -> Result<Self, (usize, usize, String)> {
        let set: KeySet = serde_json::from_str(&text).map_err(|e| (e.line(), e.column(), "not a JWKS".to_owned()))?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (at, value) in set.keys.iter().enumerate() {
            match issuer_key(value) {
                Ok(key) => keys.push(key),
                Err(reason) => skipped.push(format!("key {}: {reason}", at + 1)),
            }
        }
        if keys.is_empty() {
            let reason = "no usable key: expected RSA, EC P-256 or Ed25519";
            return Err((1, 1, std::iter::once(reason.to_owned()).chain(skipped).collect::<Vec<_>>().join("; ")));
        }
        Ok(Self { options: options.clone(), text, keys, skipped })
    }

    /// Returns whether the keys were read from this text.
    pub(super) fn is_of(&self, text: &str) -> bool {
        self.text == text
    }

    /// Returns the unusable keys, each with the reason.
    pub(super) fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Returns whether one of these keys may have signed a token.
    pub(super) fn know(&self, header: &Header) -> bool {
        self.candidates(header).next().is_some()
    }

    /// Returns the keys with the id that a token names; if there is none, the keys without an id.
    fn candidates<'h>(&'h self, header: &'h Header) -> impl Iterator<Item = &'h IssuerKey> {
        let named = self.keys.iter().any(|key| key.id == header.kid);
        let id = if named { header.kid.as_ref() } else { None };
        self.keys.iter().filter(move |key| key.id.as_ref() == id && key.algorithm == header.alg)
    }

    /// Verifies a token whose header has been read.
    pub(super) fn verify(&self, token: &Secret, header: &Header, now: Timestamp) -> Result<Outsider, TokenError> {
        if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return Err(TokenError::Malformed("unexpected header"));
        }
        let mut decoded = Err(TokenError::UnknownKey);
        for key in self.candidates(header) {
            decoded = decode::<Claims>(token.expose(), &key.verifying, &self.validation(key.algorithm))
                .map_err(|e| super::token::fault(&e));
            if !matches!(decoded, Err(TokenError::BadSignature)) {
                break;
            }
        }
        let Claims(claims) = decoded?.claims;
        let expires_at = check_times(&claims, now)?;
        let user = self.user(&claims)?;
        Ok(Outsider { user, roles: self.roles(&claims)?, expires_at })
    }

    /// Allows the key's own algorithm and no other. [`check_times`] checks the times, because it knows the caller's
    /// time.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&self.options.issuer]);
        validation.set_audience(&[&self.options.audience]);
        validation.validate_exp = false;
        validation
    }

    fn user(&self, claims: &BTreeMap<String, Value>) -> Result<String, TokenError> {
        let name = at(claims, &self.options.user_claim).and_then(Value::as_str);
        let name = name.filter(|name| check_name(name).is_ok());
        name.map(ToOwned::to_owned).ok_or(TokenError::Malformed("no user name"))
    }

    fn roles(&self, claims: &BTreeMap<String, Value>) -> Result<Option<Vec<String>>, TokenError> {
        let Some(claim) = &self.options.roles_claim else { return Ok(None) };
        let listed = match at(claims, claim) {
            None | Some(Value::Null) => return Ok(Some(Vec::new())),
            Some(Value::Array(list)) => list.iter().map(|role| role.as_str().map(ToOwned::to_owned)).collect(),
            Some(Value::String(role)) => Some(vec![role.clone()]),
            Some(_) => None,
        };
        listed.map(Some).ok_or(TokenError::Malformed("the roles are not a list of names"))
    }
}

impl PartialEq for Issuers {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.options == other.options
    }
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

/// Returns a JWK's key with its algorithm.
///
/// # Errors
/// The reason why the key is unusable.
fn issuer_key(value: &Value) -> Result<IssuerKey, &'static str> {
    let jwk: Jwk = Jwk::deserialize(value).map_err(|_| "not a key of a known type")?;
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => return Err("symmetric keys (kty oct) are not accepted"),
        _ if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) => {
            return Err("the key is for encryption, not for signatures");
        }
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return Err("the key's type or curve is not supported"),
    };
    if jwk.common.key_algorithm.is_some_and(|said| said != algorithm.into()) {
        return Err("the key's algorithm is not supported");
    }
    let verifying = DecodingKey::from_jwk(&jwk).map_err(|_| "the key cannot be parsed")?;
    Ok(IssuerKey { id: jwk.common.key_id, algorithm, verifying })
}

fn check_times(claims: &BTreeMap<String, Value>, now: Timestamp) -> Result<Timestamp, TokenError> {
    let number = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(TokenError::Malformed("a time is not a number")),
    };
    // A time that cannot be represented counts as the nearest that can; fractions of a second are ignored.
    #[expect(clippy::cast_possible_truncation, reason = "saturates, as is wanted")]
    let stamp = |seconds: f64| clock::at_second(seconds as i64);
    let expires = stamp(number("exp")?.ok_or(TokenError::Malformed("no exp"))?);
    if expires.saturating_add(LEEWAY).unwrap_or(expires) <= now {
        return Err(TokenError::Expired { at: expires });
    }
    for name in ["nbf", "iat"] {
        if let Some(seconds) = number(name)? {
            let from = stamp(seconds);
            if from > now.saturating_add(LEEWAY).unwrap_or(now) {
                return Err(TokenError::Future { at: from });
            }
        }
    }
    Ok(expires)
}

fn at<'c>(claims: &'c BTreeMap<String, Value>, claim_path: &str) -> Option<&'c Value> {
    let Some(pointer) = claim_path.strip_prefix('/') else { return claims.get(claim_path) };
    let (first, rest) = pointer.split_once('/').map_or((pointer, None), |(first, rest)| (first, Some(rest)));
    let first = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
    match rest {
        Some(rest) => first.pointer(&format!("/{rest}")),
        None => Some(first),
    }
}

/// The claims of a token. Duplicate names are rejected, because an attacker could exploit which of them counts.
struct Claims(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of claims")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim is given twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(Once)
    }
}
