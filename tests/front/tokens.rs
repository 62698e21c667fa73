//! Tokens as DRP seals them, made and opened by the tests' own means.

use aes::Aes256;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use cfb_mode::cipher::KeyIvInit;
use cfb_mode::{Decryptor, Encryptor};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::Value;

/// The JWT of a payload.
pub fn jwt(payload: &Value, base: &str) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), payload, &EncodingKey::from_secret(base.as_bytes()).unwrap())
        .unwrap()
}

/// A JWT in its seal.
pub fn seal(jwt: &str, base: &str) -> String {
    let mut bytes = vec![0x5a; 16];
    let mut body = jwt.as_bytes().to_vec();
    Encryptor::<Aes256>::new_from_slices(base.as_bytes(), &bytes).unwrap().encrypt(&mut body);
    bytes.append(&mut body);
    URL_SAFE.encode(bytes)
}

/// The payload of a token, sealed or plain, that is good now.
pub fn open(token: &str, base: &str) -> Option<Value> {
    let text = if token.contains('.') {
        token.to_owned()
    } else {
        let mut bytes = URL_SAFE.decode(token).ok().filter(|bytes| bytes.len() > 16)?;
        let (vector, body) = bytes.split_at_mut(16);
        Decryptor::<Aes256>::new_from_slices(base.as_bytes(), vector).unwrap().decrypt(body);
        String::from_utf8(body.to_vec()).ok()?
    };
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = 0;
    validation.validate_nbf = true;
    Some(jsonwebtoken::decode(&text, &DecodingKey::from_secret(base.as_bytes()).ok()?, &validation).ok()?.claims)
}
