//! Passwords: argon2id for new ones, scrypt as DRP stores it.
//!
//! Contract: hashing takes tens of milliseconds and 19 MiB on purpose; never call [`PasswordHash::verify`] or
//! [`PasswordHash::make`] on a thread that serves others. A hash is a secret of its own and does not print.

use std::fmt;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// The maximum length of a password in bytes; longer ones never match.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// The most memory in bytes that a stored hash may require; more is a mistake, or an attack by the store's author.
const MAX_MEMORY: u64 = 1 << 30;

/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The reason why a hash cannot be used. Never contains the hash.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum PasswordError {
    /// Neither of the two formats.
    #[error("not a password hash: expected $argon2id$... or DRP's N$r$p$salt$key")]
    Form,
    /// Hashing would take too much memory or time.
    #[error("the password hash requires more than 1 GiB of memory or too many rounds")]
    TooCostly,
    /// A new password is empty or too long.
    #[error("a password must have 1 to 1,024 bytes")]
    Length,
    /// The system provides no random numbers, or no memory for a hash.
    #[error("cannot hash the password: {0}")]
    Failed(&'static str),
}

/// The hash of a password, argon2id or scrypt. A secret: its `Debug` output hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PasswordHash {
    text: Box<str>,
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Argon2(Box<phc::PasswordHash>),
    Scrypt(Scrypt),
}

#[derive(Clone, PartialEq, Eq)]
struct Scrypt {
    log_n: u8,
    r: u32,
    p: u32,
    salt: Box<[u8]>,
    key: Box<[u8]>,
}

impl PasswordHash {
    /// Hashes a new password with a random salt.
    ///
    /// # Errors
    /// [`PasswordError::Length`] and [`PasswordError::Failed`].
    pub fn make(password: &str) -> Result<Self, PasswordError> {
        if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::Length);
        }
        let hash = argon2id().hash_password(password.as_bytes()).map_err(|_| PasswordError::Failed("argon2"))?;
        Ok(Self { text: hash.to_string().into(), kind: Kind::Argon2(hash.into()) })
    }

    /// Parses a stored hash: `$argon2id$...`, or DRP's `N$r$p$salt$key` in hexadecimal, or the base64 of the latter as
    /// in DRP's JSON.
    ///
    /// # Errors
    /// [`PasswordError::Form`] and [`PasswordError::TooCostly`].
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        let kind = if text.starts_with("$argon2") { parse_argon2(text)? } else { parse_scrypt(text)? };
        Ok(Self { text: text.into(), kind })
    }

    /// Returns the hash as it is stored. Equally secret.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether `password` matches. Takes as long if it does not.
    pub fn verify(&self, password: &str) -> bool {
        if password.len() > MAX_PASSWORD_BYTES {
            return false;
        }
        match &self.kind {
            Kind::Argon2(hash) => argon2id().verify_password(password.as_bytes(), hash.as_ref()).is_ok(),
            Kind::Scrypt(hash) => hash.verify(password.as_bytes()),
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = PasswordError;

    fn try_from(text: String) -> Result<Self, PasswordError> {
        Self::parse(&text)
    }
}

impl From<PasswordHash> for String {
    fn from(hash: PasswordHash) -> Self {
        hash.text.into()
    }
}

fn argon2id() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("within the limits of argon2");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn parse_argon2(text: &str) -> Result<Kind, PasswordError> {
    let hash = phc::PasswordHash::new(text).map_err(|_| PasswordError::Form)?;
    let params = Params::try_from(&hash).map_err(|_| PasswordError::Form)?;
    Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| PasswordError::Form)?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(PasswordError::Form);
    }
    if u64::from(params.m_cost()) * 1024 > MAX_MEMORY || params.t_cost() > 64 || params.p_cost() > 64 {
        return Err(PasswordError::TooCostly);
    }
    Ok(Kind::Argon2(hash.into()))
}

fn parse_scrypt(text: &str) -> Result<Kind, PasswordError> {
    let decoded;
    let text = if text.contains('$') {
        text
    } else {
        let bytes = STANDARD.decode(text).map_err(|_| PasswordError::Form)?;
        decoded = String::from_utf8(bytes).map_err(|_| PasswordError::Form)?;
        &decoded
    };
    let parts: Vec<&str> = text.split('$').collect();
    let [n, r, p, salt, key] = parts[..] else { return Err(PasswordError::Form) };
    let number = |text: &str| text.parse::<u32>().ok().filter(|&n| n > 0).ok_or(PasswordError::Form);
    let (n, r, p) = (number(n)?, number(r)?, number(p)?);
    if !n.is_power_of_two() || n < 2 {
        return Err(PasswordError::Form);
    }
    if u64::from(n).saturating_mul(u64::from(r)).saturating_mul(128) > MAX_MEMORY || p > 64 {
        return Err(PasswordError::TooCostly);
    }
    let (salt, key) = (unhex(salt)?, unhex(key)?);
    if key.len() < 16 || key.len() > 128 {
        return Err(PasswordError::Form);
    }
    let log_n = u8::try_from(n.trailing_zeros()).expect("at most 31");
    scrypt::Params::new(log_n, r, p).map_err(|_| PasswordError::Form)?;
    Ok(Kind::Scrypt(Scrypt { log_n, r, p, salt, key }))
}

impl Scrypt {
    fn verify(&self, password: &[u8]) -> bool {
        let mut key = vec![0; self.key.len()];
        let params = scrypt::Params::new(self.log_n, self.r, self.p).expect("checked when it was parsed");
        let done = scrypt::scrypt(password, &self.salt, &params, &mut key);
        done.is_ok() && bool::from(key.ct_eq(&self.key))
    }
}

fn unhex(text: &str) -> Result<Box<[u8]>, PasswordError> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(PasswordError::Form);
    if !text.len().is_multiple_of(2) {
        return Err(PasswordError::Form);
    }
    text.as_bytes().chunks_exact(2).map(|pair| Ok(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_password_is_verified_and_others_are_not() {
        let hash = PasswordHash::make("r0cketsk8ts").unwrap();
        assert!(hash.verify("r0cketsk8ts"));
        assert!(!hash.verify("r0cketsk8t") && !hash.verify(""));
        let text = String::from(hash.clone());
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        assert!(PasswordHash::parse(&text).unwrap() == hash);
        assert_ne!(text, String::from(PasswordHash::make("r0cketsk8ts").unwrap()), "every hash has its own salt");
        assert_eq!(PasswordHash::make("").unwrap_err(), PasswordError::Length);
        assert_eq!(PasswordHash::make(&"x".repeat(1025)).unwrap_err(), PasswordError::Length);
        assert_eq!(format!("{hash:?}"), "***");
    }

    /// The second vector of RFC 7914, section 12 (password "password", salt "`NaCl`").
    const RFC: &str = concat!(
        "1024$8$16$4e61436c$fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622e",
        "af30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"
    );

    #[test]
    fn the_hashes_of_drp_are_verified() {
        for text in [RFC.to_owned(), STANDARD.encode(RFC)] {
            let hash = PasswordHash::parse(&text).unwrap();
            assert!(hash.verify("password"));
            assert!(!hash.verify("Password"));
        }
    }

    #[test]
    fn what_is_no_hash_is_refused_without_repeating_it() {
        for text in [
            "",
            "CANARY",
            "$argon2id$CANARY",
            "1024$8$16$zz$zz",
            "1000$8$1$aa$aa",
            "1024$8$1$aa$aa",
            "$5$CANARY$x",
            "0$8$1$aa$00112233445566778899aabbccddeeff",
        ] {
            let error = PasswordHash::parse(text).unwrap_err();
            assert_eq!(error, PasswordError::Form, "{text:?}");
            assert!(!error.to_string().contains("CANARY"));
        }
        let greedy = "1073741824$8$1$aa$00112233445566778899aabbccddeeff";
        assert_eq!(PasswordHash::parse(greedy).unwrap_err(), PasswordError::TooCostly);
        let greedy =
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI";
        assert_eq!(PasswordHash::parse(greedy).unwrap_err(), PasswordError::TooCostly);
    }
}
