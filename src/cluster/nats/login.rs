//! How a node authenticates to NATS.
//!
//! Contract: an invalid secret is detected when it is read and reported without repeating any part of it.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use thiserror::Error;

use super::nkey::{Nkey, NkeyError};
use crate::auth::Secret;

/// Why a secret cannot be used to log in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoginError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A credentials file lacks a section.
    #[error("it has no {0} section between lines of dashes, as written by `nsc generate creds`")]
    Credentials(&'static str),
    /// An nkey seed is invalid.
    #[error("the nkey seed is not valid: {0}")]
    Seed(#[from] NkeyError),
}

/// How a node authenticates; one method at most.
#[derive(Debug, Default)]
pub enum Login {
    /// Without authentication.
    #[default]
    Nobody,
    /// With user name and password.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// With a token.
    Token(Secret),
    /// With an nkey.
    Nkey(Signer),
    /// With a user JWT and its nkey.
    Jwt {
        /// The user JWT, issued by an account.
        jwt: Secret,
        /// The key the JWT was issued for.
        signer: Signer,
    },
}

/// Signs the nonces of servers with an nkey.
#[derive(Debug)]
pub struct Signer(Nkey);

impl Signer {
    fn new(seed: &str) -> Result<Self, LoginError> {
        Ok(Self(Nkey::from_seed(seed)?))
    }

    fn sign(&self, nonce: &str) -> Result<String, LoginError> {
        Ok(URL_SAFE_NO_PAD.encode(self.0.sign(nonce.as_bytes())?))
    }
}

impl Login {
    /// Creates a login from the seed of an nkey.
    ///
    /// # Errors
    /// [`LoginError::Seed`] if the seed is invalid.
    pub fn nkey(seed: &Secret) -> Result<Self, LoginError> {
        Signer::new(seed.expose().trim()).map(Self::Nkey)
    }

    /// Creates a login from the content of a credentials file: a JWT and a seed, each between two lines of dashes;
    /// other text is ignored.
    ///
    /// # Errors
    /// [`LoginError::Credentials`] if a section is missing, [`LoginError::Seed`] if the seed is invalid.
    pub fn credentials(content: &Secret) -> Result<Self, LoginError> {
        let jwt = section(content.expose(), "JWT").ok_or(LoginError::Credentials("JWT"))?;
        let seed = section(content.expose(), "SEED").ok_or(LoginError::Credentials("NKEY SEED"))?;
        Ok(Self::Jwt { jwt: Secret::new(jwt), signer: Signer::new(seed)? })
    }

    /// Adds the authentication fields to the CONNECT message.
    pub(super) fn introduce(&self, nonce: &str, into: &mut Map<String, Value>) -> Result<(), LoginError> {
        let mut add = |name: &str, value: &str| drop(into.insert(name.to_owned(), value.into()));
        match self {
            Self::Nobody => {}
            Self::Password { user, password } => {
                add("user", user);
                add("pass", password.expose());
            }
            Self::Token(token) => add("auth_token", token.expose()),
            Self::Nkey(signer) => {
                add("nkey", signer.0.public_key());
                add("sig", &signer.sign(nonce)?);
            }
            Self::Jwt { jwt, signer } => {
                add("jwt", jwt.expose());
                add("sig", &signer.sign(nonce)?);
            }
        }
        Ok(())
    }
}

/// Returns the line between `---BEGIN ... NAME---` and another line of dashes.
fn section<'a>(content: &'a str, name: &str) -> Option<&'a str> {
    let is_edge = |line: &str| line.starts_with("---") && line.ends_with("---");
    let mut lines = content.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.find(|line| is_edge(line) && line.contains("BEGIN") && line.contains(name))?;
    let secret = lines.next().filter(|line| !is_edge(line))?;
    lines.next().filter(|line| is_edge(line))?;
    Some(secret)
}

#[cfg(test)]
mod tests {
    use nkeys::KeyPair;

    use super::*;

    fn file(seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\nheader.claims.signature\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\nkeep it\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------"
        )
    }

    #[test]
    fn a_credentials_file_is_read_with_and_without_its_last_line() {
        let seed = KeyPair::new_user().seed().unwrap();
        for text in [file(&seed), format!("{}\n\n***********\n", file(&seed)), file(&seed).replace('\n', "\r\n")] {
            assert!(matches!(Login::credentials(&Secret::new(text)), Ok(Login::Jwt { .. })));
        }
    }

    #[test]
    fn what_is_missing_is_told_and_nothing_of_it_repeated() {
        let seed = KeyPair::new_user().seed().unwrap();
        let told = |text: &str| Login::credentials(&Secret::new(text)).unwrap_err().to_string();
        assert!(told("").contains("no JWT"));
        assert!(
            told(&file(&seed).replace("------END NATS USER JWT------", "")).contains("no JWT"),
            "cut behind the JWT"
        );
        assert!(told(&file(&seed).replace("------END USER NKEY SEED------", "")).contains("no NKEY SEED"), "cut");
        let cut = &seed[..seed.len() - 3];
        assert!(told(&file(cut)).contains("mistyped") && !told(&file(cut)).contains(cut));
        let garbage = Login::nkey(&Secret::new("garbage")).unwrap_err().to_string();
        assert!(garbage.contains("not valid") && !garbage.contains("garbage"), "{garbage}");
        let public = KeyPair::new_user().public_key();
        assert!(Login::nkey(&Secret::new(public)).is_err());
        assert!(Login::nkey(&Secret::new(format!(" {seed}\n"))).is_ok());
    }

    #[test]
    fn a_signer_signs_what_it_is_asked_for() {
        let key = KeyPair::new_user();
        let login = Login::nkey(&Secret::new(key.seed().unwrap())).unwrap();
        let mut said = Map::new();
        login.introduce("abc", &mut said).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(said["sig"].as_str().unwrap()).unwrap();
        key.verify(b"abc", &signature).unwrap();
        assert_eq!(said["nkey"], key.public_key());
        assert!(!format!("{login:?}").contains(&key.seed().unwrap()));
    }
}
