//! An identity provider: a key of each kind, what it publishes, and tokens that it signs. Included by the test binaries
//! that need one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::PublicKeyData;
use serde_json::{Value, json};

/// See the module's text.
pub(crate) struct Provider {
    keys: Vec<(&'static str, Algorithm, EncodingKey)>,
    /// Its public keys, as it publishes them.
    pub(crate) jwks: Value,
    /// The same as others write them: SPKI in DER, SPKI in PEM, and the bare key.
    #[allow(dead_code, reason = "only one of the binaries forges")]
    pub(crate) public: Vec<Vec<u8>>,
}

impl Provider {
    pub(crate) fn new() -> Self {
        let pair = |algorithm| rcgen::KeyPair::generate_for(algorithm).unwrap();
        let pairs = [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519].map(pair);
        let [rsa, ec, ed] = pairs.each_ref().map(|pair| pair.serialize_pem().into_bytes());
        let keys = vec![
            ("rsa", Algorithm::RS256, EncodingKey::from_rsa_pem(&rsa).unwrap()),
            ("ec", Algorithm::ES256, EncodingKey::from_ec_pem(&ec).unwrap()),
            ("ed", Algorithm::EdDSA, EncodingKey::from_ed_pem(&ed).unwrap()),
        ];
        let x = URL_SAFE_NO_PAD.encode(pairs[2].public_key_raw());
        let mut jwks = vec![json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "ed", "x": x})];
        for (id, algorithm, key) in &keys[..2] {
            let mut jwk = Jwk::from_encoding_key(key, *algorithm).unwrap();
            jwk.common.key_id = Some((*id).to_owned());
            jwks.push(serde_json::to_value(jwk).unwrap());
        }
        let public = |pair: &rcgen::KeyPair| {
            [pair.subject_public_key_info(), pair.public_key_pem().into_bytes(), pair.public_key_raw().to_vec()]
        };
        Self { keys, jwks: json!({"keys": jwks}), public: pairs.iter().flat_map(public).collect() }
    }

    /// A key and its algorithm.
    pub(crate) fn key(&self, id: &str) -> (Algorithm, &EncodingKey) {
        let (_, algorithm, key) = self.keys.iter().find(|(other, ..)| *other == id).unwrap();
        (*algorithm, key)
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, id: &str, claims: &Value) -> String {
        let (algorithm, key) = self.key(id);
        encode(&Header { kid: Some(id.to_owned()), ..Header::new(algorithm) }, claims, key).unwrap()
    }
}
