//! Nkeys: the Ed25519 keys of NATS and their text form.
//!
//! A key is written in base32: one or two bytes that say what it is, the 32 bytes of the key, and a checksum of two
//! bytes. A seed begins with `S` and the letter of its owner, such as `U` for a user; its public key begins with that
//! letter.
//!
//! Contract: pure; nothing of a seed is in an error or in debug output.
//!
//! Why not the crate `nkeys`: it brings thirteen others and a second implementation of Ed25519, together nearly 3 %
//! of what the compiler does in a build (`docs/benchmarks/build-2026-11-29.md`). The tests compare with it.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use thiserror::Error;

/// The upper five bits of a seed's first byte: the letter `S`.
const SEED: u8 = 18 << 3;
/// The alphabet of base32 (RFC 4648).
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Why a text is not a seed, or a nonce is not signed.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum NkeyError {
    /// It is something else, such as a public key.
    #[error("it does not begin with S")]
    NotASeed,
    /// Its length, a character or its checksum is wrong.
    #[error("it is truncated or mistyped")]
    Mistyped,
    /// The cryptographic library refused it.
    #[error("it cannot sign")]
    Refused,
}

/// A key that signs the nonces of servers.
pub(super) struct Nkey {
    pair: Ed25519KeyPair,
    public: String,
}

impl fmt::Debug for Nkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nkey")
    }
}

impl Nkey {
    /// Reads a seed.
    pub(super) fn from_seed(text: &str) -> Result<Self, NkeyError> {
        if !text.starts_with('S') {
            return Err(NkeyError::NotASeed);
        }
        let (owner, seed) = decode_seed(text).ok_or(NkeyError::Mistyped)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| NkeyError::Refused)?;
        let public = encode_public(owner, pair.public_key().as_ref());
        Ok(Self { pair, public })
    }

    /// Returns the public key as text.
    pub(super) fn public_key(&self) -> &str {
        &self.public
    }

    /// Returns the 64 bytes of a signature.
    pub(super) fn sign(&self, message: &[u8]) -> Result<impl AsRef<[u8]> + use<>, NkeyError> {
        self.pair.try_sign(message).map_err(|_| NkeyError::Refused)
    }
}

/// Returns the first byte of the public key, and the seed proper.
fn decode_seed(text: &str) -> Option<(u8, [u8; 32])> {
    let bytes = decode(text)?;
    let (content, checksum) = bytes.split_last_chunk()?;
    let ([first, second], seed) = content.split_first_chunk()?;
    // The second byte begins with the lower bits of the owner.
    let owner = (first & 0b111) << 5 | second >> 3;
    let is_seed = first & !0b111 == SEED && crc16(content) == u16::from_le_bytes(*checksum);
    is_seed.then_some((owner, seed.try_into().ok()?))
}

fn encode_public(owner: u8, key: &[u8]) -> String {
    let mut bytes = [&[owner], key].concat();
    bytes.extend_from_slice(&crc16(&bytes).to_le_bytes());
    encode(&bytes)
}

/// Computes the CRC-16 (XMODEM) that nkeys use.
fn crc16(bytes: &[u8]) -> u16 {
    let shift = |crc: u16, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
    bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ u16::from(*byte) << 8, shift))
}

/// Encodes bytes in base32 without padding.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            text.push(character(bits >> held));
        }
    }
    if held > 0 {
        text.push(character(bits << (5 - held)));
    }
    text
}

fn character(bits: u32) -> char {
    char::from(ALPHABET[(bits & 0x1F) as usize])
}

/// Reads base32 without padding; `None` if a character is foreign or superfluous, or a spare bit at the end is set.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut held) = (0_u32, 0);
    for character in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == character)?;
        bits = bits << 5 | u32::try_from(value).ok()?;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xFF) as u8);
        }
    }
    let spare = bits & ((1 << held) - 1);
    (held < 5 && spare == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use nkeys::KeyPairType;
    use proptest::prelude::*;

    use super::*;

    fn owners() -> impl Strategy<Value = KeyPairType> {
        use KeyPairType::{Account, Cluster, Module, Operator, Server, Service, User};
        prop::sample::select(vec![Account, Cluster, Module, Operator, Server, Service, User])
    }

    proptest! {
        #[test]
        fn keys_and_signatures_are_those_of_the_crate_nkeys(owner in owners(), seed: [u8; 32], message: Vec<u8>) {
            let theirs = nkeys::KeyPair::new_from_raw(owner, seed).unwrap();
            let ours = Nkey::from_seed(&theirs.seed().unwrap()).unwrap();
            prop_assert_eq!(ours.public_key(), theirs.public_key());
            let signed = ours.sign(&message).unwrap();
            prop_assert_eq!(signed.as_ref(), theirs.sign(&message).unwrap());
        }

        #[test]
        fn a_changed_seed_is_none(seed: [u8; 32], at in 1..58_usize, other in "[A-Z2-7a-z01=é]") {
            let good = nkeys::KeyPair::new_from_raw(KeyPairType::User, seed).unwrap().seed().unwrap();
            let changed = [&good[..at], other.as_str(), &good[at + 1..]].concat();
            prop_assume!(changed != good);
            prop_assert_eq!(Nkey::from_seed(&changed).unwrap_err(), NkeyError::Mistyped);
        }
    }

    #[test]
    fn seeds_of_another_length_are_none() {
        let good = nkeys::KeyPair::new_user().seed().unwrap();
        let error = |text: &str| Nkey::from_seed(text).unwrap_err();
        for text in ["S", &good[..57], &good[..50], &format!("{good}A"), &good.repeat(2)] {
            assert_eq!(error(text), NkeyError::Mistyped, "{} characters", text.len());
        }
        assert_eq!(error(""), NkeyError::NotASeed);
        assert_eq!(error(&good[1..]), NkeyError::NotASeed);
    }
}
