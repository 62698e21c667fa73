//! Tokens that somebody else issued: an identity provider whose public keys are in a JWKS file.
//!
//! Contract: pure, told the time. A key's type settles its one algorithm (RSA: RS256, P-256: ES256, Ed25519: `EdDSA`);
//! symmetric keys are refused, so a public key can never be used as an HMAC key. A token must name a key of the file, must
//! expire, and must be meant for us: issuer and audience have to be those that are configured. Their clock is not ours, so
//! there is a minute's leeway.
//!
//! The file is read with the rest of the store and whenever it changes; nothing is fetched.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hashbrown::HashMap;
use jiff::Timestamp;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::credential::Secret;
use super::principal::check_name;
use super::token::TokenError;

/// How far an issuer's clock may be off.
const LEEWAY: Duration = Duration::from_mins(1);

/// Whose tokens are taken besides our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerOptions {
    /// The file with the issuer's public keys.
    pub jwks: PathBuf,
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must have in it.
    pub audience: String,
    /// The claim that names the user: a name such as `sub`, or a JSON pointer such as `/ext/login`.
    pub user_claim: String,
    /// The claim that lists role names, likewise. Without it the user has to be one of the store, whose roles count.
    pub roles_claim: Option<String>,
}

struct IssuerKey {
    algorithm: Algorithm,
    verifying: DecodingKey,
}

/// The issuer's keys. See the module's text.
pub(super) struct Issuers {
    options: IssuerOptions,
    /// As it was read, to tell whether it has changed.
    text: String,
    keys: HashMap<String, IssuerKey>,
}

/// What a token of an issuer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outsider {
    pub(super) user: String,
    /// Nothing if the store's roles count.
    pub(super) roles: Option<Vec<String>>,
    pub(super) expires_at: Timestamp,
}

impl Issuers {
    /// Reads a JWKS.
    ///
    /// # Errors
    /// Line, column and what is wrong.
    pub(super) fn parse(options: &IssuerOptions, text: String) -> Result<Self, (usize, usize, String)> {
        let set: JwkSet = serde_json::from_str(&text).map_err(|e| (e.line(), e.column(), "not a JWKS".to_owned()))?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            let Some(key) = issuer_key(jwk).map_err(|reason| (1, 1, reason.to_owned()))? else { continue };
            let id = jwk.common.key_id.clone().ok_or_else(|| (1, 1, "a key has no kid".to_owned()))?;
            if keys.insert(id.clone(), key).is_some() {
                return Err((1, 1, format!("two keys have the kid {id:?}")));
            }
        }
        if keys.is_empty() {
            return Err((1, 1, "no key that can be used: expected RSA, EC P-256 or Ed25519".to_owned()));
        }
        Ok(Self { options: options.clone(), text, keys })
    }

    /// Whether a token names one of these keys.
    pub(super) fn know(&self, header: &Header) -> bool {
        header.kid.as_ref().is_some_and(|id| self.keys.contains_key(id))
    }

    /// Verifies a token whose header has been read.
    pub(super) fn verify(&self, token: &Secret, header: &Header, now: Timestamp) -> Result<Outsider, TokenError> {
        let key = header.kid.as_ref().and_then(|id| self.keys.get(id)).ok_or(TokenError::UnknownKey)?;
        if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return Err(TokenError::Malformed("unexpected header"));
        }
        let claims = decode::<Claims>(token.expose(), &key.verifying, &self.validation(key.algorithm));
        let Claims(claims) = claims.map_err(|e| super::token::fault(&e))?.claims;
        let expires_at = check_times(&claims, now)?;
        let user = self.user(&claims)?;
        Ok(Outsider { user, roles: self.roles(&claims)?, expires_at })
    }

    /// Allows the key's own algorithm and no other. The times are left to [`check_times`], which is told what time it is.
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
        name.map(ToOwned::to_owned).ok_or(TokenError::Malformed("no user's name"))
    }

    fn roles(&self, claims: &BTreeMap<String, Value>) -> Result<Option<Vec<String>>, TokenError> {
        let Some(claim) = &self.options.roles_claim else { return Ok(None) };
        let listed = match at(claims, claim) {
            None | Some(Value::Null) => return Ok(Some(Vec::new())),
            Some(Value::Array(list)) => list.iter().map(|role| role.as_str().map(ToOwned::to_owned)).collect(),
            Some(Value::String(role)) => Some(vec![role.clone()]),
            Some(_) => None,
        };
        listed.map(Some).ok_or(TokenError::Malformed("roles are not a list of names"))
    }
}

impl PartialEq for Issuers {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.options == other.options
    }
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.keys()).finish()
    }
}

/// The key that a JWK is, with its algorithm; nothing if it is for something else.
fn issuer_key(jwk: &Jwk) -> Result<Option<IssuerKey>, &'static str> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => return Err("a symmetric key (kty oct) has no place in a JWKS"),
        _ if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) => return Ok(None),
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return Ok(None),
    };
    if jwk.common.key_algorithm.is_some_and(|said| said != algorithm.into()) {
        return Ok(None);
    }
    let verifying = DecodingKey::from_jwk(jwk).map_err(|_| "a key is not readable")?;
    Ok(Some(IssuerKey { algorithm, verifying }))
}

fn check_times(claims: &BTreeMap<String, Value>, now: Timestamp) -> Result<Timestamp, TokenError> {
    let number = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(TokenError::Malformed("a time is not a number")),
    };
    let stamp = |seconds: f64| {
        let nanos = Duration::try_from_secs_f64(seconds).ok();
        let stamp = nanos.and_then(|since| Timestamp::UNIX_EPOCH.checked_add(since).ok());
        stamp.ok_or(TokenError::Malformed("a time out of range"))
    };
    let expires = stamp(number("exp")?.ok_or(TokenError::Malformed("no exp"))?)?;
    if expires.saturating_add(LEEWAY).unwrap_or(expires) <= now {
        return Err(TokenError::Expired { at: expires });
    }
    for name in ["nbf", "iat"] {
        if let Some(seconds) = number(name)? {
            let from = stamp(seconds)?;
            if from > now.saturating_add(LEEWAY).unwrap_or(now) {
                return Err(TokenError::Future { at: from });
            }
        }
    }
    Ok(expires)
}

fn at<'c>(claims: &'c BTreeMap<String, Value>, place: &str) -> Option<&'c Value> {
    let Some(pointer) = place.strip_prefix('/') else { return claims.get(place) };
    let (first, rest) = pointer.split_once('/').map_or((pointer, None), |(first, rest)| (first, Some(rest)));
    let first = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
    match rest {
        Some(rest) => first.pointer(&format!("/{rest}")),
        None => Some(first),
    }
}

/// The claims of a token, each once: which of two would count is what attackers play with.
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
