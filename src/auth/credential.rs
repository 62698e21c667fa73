//! What a caller shows to say who it is, taken from a header or a query value.
//!
//! Contract: pure. Secrets stay inside [`Secret`], which prints as `***`; no error of this module repeats any part of
//! what was sent. The rules (first of header and query, scheme words in any case) are `docs/protocol.md`, "Connecting".

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::certificate::ClientCertificate;

/// A password or a token. Neither `Debug` nor any error shows its text.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// Returns the text itself, for code that verifies or issues secrets. Never format it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The reason why a text is not a credential; answered with 401.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum CredentialError {
    /// The first word is neither `Basic` nor `Bearer`.
    #[error("Authorization must be `Basic` or `Bearer`")]
    Scheme,
    /// `Basic`, but not followed by base64 of UTF-8 `user:password`.
    #[error("Authorization: Basic requires user:password in base64")]
    Basic,
    /// `Bearer` without a token.
    #[error("Authorization: Bearer requires a token")]
    Bearer,
    /// A token longer than [`MAX_TOKEN_BYTES`](super::MAX_TOKEN_BYTES).
    #[error("the token is longer than 16 KiB")]
    TooLong,
}

/// Proof of identity that a caller presents.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A user's name and password.
    Basic {
        /// The name, which may not belong to any user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Bearer(Secret),
    /// The certificate of the TLS connection.
    Certificate(ClientCertificate),
}

impl Credential {
    /// Parses the value of an `Authorization` header; returns `None` if it is empty, so that the query may be used.
    ///
    /// # Errors
    /// [`CredentialError`]. The query must then be ignored: a header takes precedence even if it is invalid.
    pub fn from_authorization(header: &str) -> Result<Option<Self>, CredentialError> {
        let header = header.trim();
        if header.is_empty() {
            return Ok(None);
        }
        let (scheme, rest) = header.split_once(char::is_whitespace).unwrap_or((header, ""));
        let rest = rest.trim_start();
        if scheme.eq_ignore_ascii_case("basic") {
            return basic(rest).map(Some);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(CredentialError::Scheme);
        }
        if rest.is_empty() {
            return Err(CredentialError::Bearer);
        }
        Ok(Some(Self::Bearer(Secret::new(rest))))
    }

    /// Parses the percent-decoded value of the query's `token` or `Token`: `user:password` if it has a colon, otherwise
    /// a token. Returns `None` if it is empty.
    pub fn from_query(value: &str) -> Option<Self> {
        match value.split_once(':') {
            _ if value.is_empty() => None,
            Some((user, password)) => Some(Self::Basic { user: user.to_owned(), password: Secret::new(password) }),
            None => Some(Self::Bearer(Secret::new(value))),
        }
    }

    /// Returns whether browsers send this kind of credential by themselves, so that the Origin rule applies.
    pub fn is_ambient(&self) -> bool {
        matches!(self, Self::Basic { .. } | Self::Certificate(_))
    }
}

fn basic(encoded: &str) -> Result<Credential, CredentialError> {
    let bytes = STANDARD.decode(encoded).map_err(|_| CredentialError::Basic)?;
    let text = String::from_utf8(bytes).map_err(|_| CredentialError::Basic)?;
    let (user, password) = text.split_once(':').ok_or(CredentialError::Basic)?;
    Ok(Credential::Basic { user: user.to_owned(), password: Secret::new(password) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(credential: &Credential) -> String {
        match credential {
            Credential::Basic { user, password } => format!("basic {user} {}", password.expose()),
            Credential::Bearer(token) => format!("bearer {}", token.expose()),
            Credential::Certificate(certificate) => format!("{certificate:?}"),
        }
    }

    fn header(text: &str) -> Result<Option<String>, CredentialError> {
        Credential::from_authorization(text).map(|found| found.as_ref().map(show))
    }

    #[test]
    fn headers_are_read_in_any_case() {
        // base64 of `alice:s3:cret`
        for text in ["Basic YWxpY2U6czM6Y3JldA==", "basic YWxpY2U6czM6Y3JldA==", " BASIC   YWxpY2U6czM6Y3JldA== "] {
            assert_eq!(header(text), Ok(Some("basic alice s3:cret".to_owned())));
        }
        assert_eq!(header("bEaReR abc.def"), Ok(Some("bearer abc.def".to_owned())));
        assert_eq!(header(""), Ok(None));
        assert_eq!(header("  "), Ok(None));
    }

    #[test]
    fn bad_headers_are_told_apart_without_repeating_them() {
        let table = [
            ("Digest abc", CredentialError::Scheme),
            ("Basic", CredentialError::Basic),
            ("Basic !!!", CredentialError::Basic),
            ("Basic YWxpY2U=", CredentialError::Basic),
            ("Basic /////w==", CredentialError::Basic),
            ("Bearer", CredentialError::Bearer),
            ("Bearer ", CredentialError::Bearer),
        ];
        for (text, error) in table {
            assert_eq!(header(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_query_value_with_a_colon_is_a_password() {
        let query = |text| Credential::from_query(text).as_ref().map(show);
        assert_eq!(query("alice:s3:cret"), Some("basic alice s3:cret".to_owned()));
        assert_eq!(query("abc.def"), Some("bearer abc.def".to_owned()));
        assert_eq!(query(""), None);
    }

    #[test]
    fn secrets_do_not_print() {
        for text in ["alice:CANARY", "CANARY"] {
            let shown = format!("{:?} {:#?}", Credential::from_query(text), Credential::from_query(text));
            assert!(!shown.contains("CANARY"), "{shown}");
        }
    }
}
