//! The keys that tokens are signed with, and keyed hashes.
//!
//! Contract: pure but for randomness. A ring has a current key, which signs, and at most one previous key, which still
//! verifies; rotating twice ends every older token. Each key has one algorithm, HS256, and no token can choose another.
//! Nothing here prints a key.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// The minimum length of a key in bytes, as RFC 7518 requires for HS256.
const MIN_KEY_BYTES: usize = 32;

/// The reason why a secret is not usable as a key.
const UNUSABLE: &str = "a key's secret must have at least 32 bytes";

/// The number of keys in a ring: the current and the previous one.
const RING: usize = 2;

/// Returns 32 random bytes, the key of hashes that are valid only within this process.
pub(super) fn salt() -> Result<[u8; 32], getrandom::Error> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt)?;
    Ok(salt)
}

/// Computes keyed hashes that nobody can compute or predict without the key.
pub(super) struct Hasher(EncodingKey);

impl Hasher {
    /// Creates a hasher with a random key that is never stored.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        Ok(Self::new(&salt()?))
    }

    fn new(key: &[u8]) -> Self {
        // HMAC pads keys with zeros, so this equals an empty key, which the crate rejects.
        let key = if key.is_empty() { &[0] } else { key };
        Self(EncodingKey::from_secret(key).expect("it is not empty"))
    }

    /// Returns the HMAC-SHA256 of the parts, each prefixed with its length so that their boundaries are unambiguous.
    pub(super) fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut message = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
        for part in parts {
            message.extend_from_slice(&(part.len() as u64).to_be_bytes());
            message.extend_from_slice(part);
        }
        let text = crypto::sign(&message, &self.0, Algorithm::HS256).expect("HMAC takes every key and every message");
        let bytes = URL_SAFE_NO_PAD.decode(text).expect("the crate's own encoding");
        bytes.try_into().expect("SHA-256 has 32 bytes")
    }

    /// Like [`Hasher::hash`], shortened to 64 bits for tables.
    pub(super) fn short(&self, parts: &[&[u8]]) -> u64 {
        let hash = self.hash(parts);
        u64::from_be_bytes(hash[..8].try_into().expect("eight of 32 bytes"))
    }
}

/// Returns an address as a part of what is hashed; the same for IPv4 and its form in IPv6.
pub(super) fn address_bytes(peer: IpAddr) -> [u8; 16] {
    match peer {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(***)")
    }
}

/// A fingerprint of a user's secret, for tokens and identities. Compared in constant time.
#[derive(Clone, Copy, Eq)]
pub(super) struct Fingerprint([u8; 16]);

impl Fingerprint {
    pub(super) fn of(secret: &[u8]) -> Self {
        let hash = Hasher::new(secret).hash(&[b"hydrant token stamp"]);
        Self(hash[..16].try_into().expect("16 of 32 bytes"))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("not a stamp"))
    }
}

/// A key as it is stored.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: String,
    algorithm: String,
    created: String,
    secret: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRing {
    keys: Vec<StoredKey>,
}

/// The key that signed a token; all identities by one key share it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signer {
    pub(super) id: Box<str>,
    pub(super) fingerprint: Fingerprint,
}

/// A key in use.
#[derive(Clone)]
pub(super) struct Key {
    /// Its id and its fingerprint, to detect whether it has changed.
    pub(super) signer: Arc<Signer>,
    pub(super) signing: EncodingKey,
    pub(super) verifying: DecodingKey,
}

/// Signing keys, newest first: the current key signs, the previous one still verifies. Never prints a key.
#[derive(Clone)]
pub(super) struct KeyRing {
    keys: Vec<Key>,
    stored: Vec<StoredKey>,
}

impl KeyRing {
    /// The algorithm of every key.
    pub(super) const ALGORITHM: Algorithm = Algorithm::HS256;

    /// Creates a ring with one new key.
    pub(super) fn make(now: Timestamp) -> Result<Self, getrandom::Error> {
        Self { keys: Vec::new(), stored: Vec::new() }.rotated(now)
    }

    /// Returns the ring with a new current key; of the others only the newest remains.
    pub(super) fn rotated(&self, now: Timestamp) -> Result<Self, getrandom::Error> {
        let (mut id, mut secret) = ([0; 6], [0; 32]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        let new = StoredKey {
            id: URL_SAFE_NO_PAD.encode(id),
            algorithm: "HS256".to_owned(),
            created: now.to_string(),
            secret: URL_SAFE_NO_PAD.encode(secret),
        };
        let stored: Vec<StoredKey> = std::iter::once(new).chain(self.stored.iter().cloned()).take(RING).collect();
        Ok(Self::of(stored).expect("a new key and keys that were taken before"))
    }

    /// Parses a ring.
    ///
    /// # Errors
    /// The line and the reason, without any key.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let line = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        let ring: StoredRing = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |span| span.start);
            (line(at), "expected [[keys]] with id, algorithm, created and secret")
        })?;
        Self::of(ring.keys).map_err(|reason| (1, reason))
    }

    fn of(stored: Vec<StoredKey>) -> Result<Self, &'static str> {
        if stored.is_empty() || stored.len() > RING {
            return Err("expected one or two keys");
        }
        if stored.len() == RING && stored[0].id == stored[1].id {
            return Err("two keys have the same id");
        }
        let keys = stored.iter().map(Key::of).collect::<Result<_, _>>()?;
        Ok(Self { keys, stored })
    }

    pub(super) fn to_text(&self) -> String {
        let ring = StoredRing { keys: self.stored.clone() };
        let body = toml::to_string(&ring).expect("a list of tables of texts");
        format!(
            "# Keys that hydrant signs tokens with, newest first. Anyone who has one can act as any user. `hydrant \
             token rotate`\n# makes a new one.\n\n{body}"
        )
    }

    pub(super) fn current(&self) -> &Key {
        &self.keys[0]
    }

    pub(super) fn find(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.signer.id.as_ref() == id)
    }
}

impl Key {
    fn of(stored: &StoredKey) -> Result<Self, &'static str> {
        if stored.algorithm != "HS256" {
            return Err("the algorithm of a key must be HS256");
        }
        let secret = URL_SAFE_NO_PAD.decode(&stored.secret).map_err(|_| "a key's secret must be URL-safe base64")?;
        if secret.len() < MIN_KEY_BYTES {
            return Err(UNUSABLE);
        }
        Ok(Self {
            signer: Arc::new(Signer { id: stored.id.as_str().into(), fingerprint: Fingerprint::of(&secret) }),
            signing: EncodingKey::from_secret(&secret).map_err(|_| UNUSABLE)?,
            verifying: DecodingKey::from_secret(&secret).map_err(|_| UNUSABLE)?,
        })
    }
}

impl PartialEq for KeyRing {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&StoredKey, &StoredKey)| {
            a.id == b.id && bool::from(a.secret.as_bytes().ct_eq(b.secret.as_bytes()))
        };
        self.stored.len() == other.stored.len() && self.stored.iter().zip(&other.stored).all(same)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.signer.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    #[test]
    fn the_hash_is_hmac_sha_256() {
        // RFC 4231, test case 2, over a message without the length that `hash` puts in front.
        let text = crypto::sign(
            b"what do ya want for nothing?",
            &EncodingKey::from_secret(b"Jefe").unwrap(),
            Algorithm::HS256,
        );
        let bytes = URL_SAFE_NO_PAD.decode(text.unwrap()).unwrap();
        assert_eq!(bytes[..4], [0x5b, 0xdc, 0xc1, 0x46]);
        let hasher = Hasher::new(b"k");
        assert_ne!(hasher.hash(&[b"ab", b"c"]), hasher.hash(&[b"a", b"bc"]));
        assert_ne!(hasher.hash(&[b"ab"]), Hasher::new(b"l").hash(&[b"ab"]));
    }

    #[test]
    fn a_ring_keeps_two_keys() {
        let first = KeyRing::make(now()).unwrap();
        let second = first.rotated(now()).unwrap();
        let third = second.rotated(now()).unwrap();
        let id = first.current().signer.id.clone();
        assert!(second.find(&id).is_some() && second.current().signer.id != id);
        assert!(third.find(&id).is_none() && third.find(&second.current().signer.id).is_some());
        assert!(KeyRing::parse(&third.to_text()).unwrap() == third);
        assert!(third != second);
    }

    #[test]
    fn bad_rings_are_refused_and_keys_do_not_print() {
        let good = KeyRing::make(now()).unwrap();
        let text = good.to_text();
        let secret = good.stored[0].secret.clone();
        for bad in [
            text.replace("HS256", "none"),
            text.replace(&secret, "AAAA"),
            text.replace("secret", "secre"),
            String::new(),
        ] {
            assert!(KeyRing::parse(&bad).is_err(), "{bad}");
        }
        let id = &good.stored[0].id;
        let twice =
            format!("{text}\n[[keys]]\nid = \"{id}\"\nalgorithm = \"HS256\"\ncreated = \"\"\nsecret = \"{secret}\"\n");
        assert_eq!(KeyRing::parse(&twice).unwrap_err(), (1, "two keys have the same id"));
        assert!(!format!("{good:?}").contains(&secret));
    }
}
