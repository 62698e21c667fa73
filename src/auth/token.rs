//! JSON web tokens that hydrant signs itself.
//!
//! Contract: pure except for randomness; the caller passes the time. Verification is strict: the header must be
//! exactly the one that hydrant writes (one algorithm, a key of the ring, nothing else), the payload must have exactly
//! our fields, each once, and a token may have at most 16 KiB. Hydrant is its own signer, so expiry has no leeway, and
//! the issue time has a minute's leeway for a clock that was set back.
//!
//! A token contains neither a password nor the user's secret. It contains a fingerprint of the secret, which
//! invalidates the token when the password changes.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::credential::Secret;
use super::identity::{Restriction, RevokedError};
use super::keys::{Fingerprint, KeyRing, Signer};
use crate::clock;

/// The maximum length of a token in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The maximum time in seconds that a token may have been issued in the future.
const CLOCK_SLACK: i64 = 60;

/// The `iss` of hydrant's own tokens.
pub(super) const ISSUER: &str = "hydrant";

/// The reason why a token is not accepted. For holders of the store (`hydrant token check`); a remote caller only
/// learns that its credentials are not valid.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("the token is longer than 16 KiB")]
    TooLong,
    /// Not a token that hydrant would write.
    #[error("not a valid hydrant token: {0}")]
    Malformed(&'static str),
    /// Signed by an unknown or retired key.
    #[error("the token is signed by an unknown or retired key")]
    UnknownKey,
    /// The signature does not match the key.
    #[error("the signature is wrong")]
    BadSignature,
    /// The token has expired.
    #[error("the token expired at {at}")]
    Expired {
        /// The expiry in the token.
        at: Timestamp,
    },
    /// The token is not valid yet.
    #[error("the token was issued in the future, at {at}")]
    Future {
        /// The time in the token.
        at: Timestamp,
    },
    /// The token has been revoked.
    #[error("the token was revoked: {0}")]
    Revoked(#[from] RevokedError),
}

/// The content of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    pub(super) iss: String,
    /// The principal.
    pub(super) sub: String,
    pub(super) iat: i64,
    pub(super) exp: i64,
    /// A unique id.
    pub(super) jti: String,
    /// Fingerprint of the user's secret; `None` for machines and plugins.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "stamp")]
    pub(super) fingerprint: Option<Fingerprint>,
    /// The users who issued it, except the subject itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) by: Vec<Grantor>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) only: Vec<Restriction>,
    /// Time (Unix seconds) at which an external party stops vouching for the bearer. Limits tokens obtained with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<i64>,
}

/// A user who issued a token for another subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grantor {
    pub(super) user: String,
    #[serde(rename = "stamp")]
    pub(super) fingerprint: Fingerprint,
}

/// Returns a unique random id for a token.
pub(super) fn unique_id() -> Result<String, getrandom::Error> {
    let mut id = [0; 12];
    getrandom::fill(&mut id)?;
    Ok(URL_SAFE_NO_PAD.encode(id))
}

fn header(key: &str) -> Header {
    Header { kid: Some(key.to_owned()), ..Header::new(KeyRing::ALGORITHM) }
}

/// Signs a payload with the current key.
pub(super) fn sign(ring: &KeyRing, payload: &Payload) -> Secret {
    let key = ring.current();
    let text = encode(&header(&key.signer.id), payload, &key.signing).expect("HMAC signs everything");
    Secret::new(text)
}

/// Parses the header of a token without verifying anything.
pub(super) fn read_header(token: &Secret) -> Result<Header, TokenError> {
    if token.expose().len() > MAX_TOKEN_BYTES {
        return Err(TokenError::TooLong);
    }
    decode_header(token.expose()).map_err(|_| TokenError::Malformed("its header cannot be parsed"))
}

/// Verifies a token of hydrant's own whose header has been read. Returns its content and its key.
pub(super) fn verify(
    ring: &KeyRing,
    token: &Secret,
    given: &Header,
    now: Timestamp,
) -> Result<(Payload, Arc<Signer>), TokenError> {
    let id = given.kid.as_deref().ok_or(TokenError::Malformed("it has no key id"))?;
    let key = ring.find(id).ok_or(TokenError::UnknownKey)?;
    if *given != header(id) {
        return Err(TokenError::Malformed("unexpected header"));
    }
    let payload = decode::<Payload>(token.expose(), &key.verifying, &validation()).map_err(|e| fault(&e))?.claims;
    check(&payload, now)?;
    Ok((payload, Arc::clone(&key.signer)))
}

/// Leaves all checks of times to [`check`], which receives the time from its caller.
fn validation() -> Validation {
    let mut validation = Validation::new(KeyRing::ALGORITHM);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

pub(super) fn fault(error: &jsonwebtoken::errors::Error) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::BadSignature,
        _ => TokenError::Malformed("unexpected payload"),
    }
}

fn check(payload: &Payload, now: Timestamp) -> Result<(), TokenError> {
    if payload.iss != ISSUER {
        return Err(TokenError::Malformed("another issuer"));
    }
    let (issued, expires) = (clock::at_second(payload.iat), clock::at_second(payload.exp));
    if expires <= now {
        return Err(TokenError::Expired { at: expires });
    }
    if issued.as_second() > now.as_second() + CLOCK_SLACK {
        return Err(TokenError::Future { at: issued });
    }
    Ok(())
}

/// The reason why a text is not a duration.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error(
    "{text:?} is not a duration: expected seconds (at least 1), or a number with s, m, h, d or w, such as 30m or 7d"
)]
pub struct TtlError {
    /// The given text, truncated to 64 characters.
    pub text: String,
}

/// Parses the lifetime of a token: `3600` (seconds), `90s`, `30m`, `1h`, `7d`, `2w`. At least one second.
///
/// # Errors
/// [`TtlError`].
pub fn parse_ttl(text: &str) -> Result<Duration, TtlError> {
    let bad = || TtlError { text: text.chars().take(64).collect() };
    let trimmed = text.trim();
    let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = trimmed.split_at(digits);
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    match number.checked_mul(seconds) {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes() {
        for (text, seconds) in
            [("3600", 3600), ("1", 1), ("90s", 90), ("30m", 1800), (" 1h ", 3600), ("7d", 604_800), ("2w", 1_209_600)]
        {
            assert_eq!(parse_ttl(text).unwrap(), Duration::from_secs(seconds), "{text:?}");
        }
        for text in ["", "0", "-1", "1.5h", "h", "1y", "1 h", "0m", "99999999999999999999", "99999999999999999w"] {
            assert_eq!(parse_ttl(text), Err(TtlError { text: text.to_owned() }), "{text:?}");
        }
    }
}
