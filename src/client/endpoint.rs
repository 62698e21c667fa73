//! Parses endpoint URLs and combines them with a credential.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;

use super::error::ClientError;
use super::tls::{self, Trust};

/// The endpoint used by default.
pub const DEFAULT_ENDPOINT: &str = "https://127.0.0.1:8092";

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether TLS is used.
    pub tls: bool,
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// Port number.
    pub port: u16,
}

impl Endpoint {
    /// Returns host and port as in a `Host` header.
    pub fn authority(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Returns whether an endpoint's text names its port, instead of leaving it to the scheme.
    pub fn names_port(text: &str) -> bool {
        let behind = text.trim().rsplit_once("://").map_or(text.trim(), |(_, rest)| rest);
        behind.trim_end_matches('/').rsplit(']').next().is_some_and(|tail| tail.contains(':'))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

impl FromStr for Endpoint {
    type Err = ClientError;

    /// Parses `https://HOST[:PORT]` (also `http`, `wss`, `ws`). The default scheme is `https`, and the default port
    /// that of the scheme, as with drpcli.
    fn from_str(text: &str) -> Result<Self, ClientError> {
        let text = text.trim();
        if text.contains('@') {
            return Err(ClientError::Endpoint("it must not contain user and password; use -U and -P".to_owned()));
        }
        let refuse = |reason: &str| ClientError::Endpoint(format!("`{text}`: {reason}"));
        let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: hyper::Uri = full.parse().map_err(|_| refuse("not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("https" | "wss") => true,
            Some("http" | "ws") => false,
            _ => return Err(refuse("the scheme must be https or http")),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(refuse("it must not have a path or a query"));
        }
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(refuse("it has no host"));
        }
        let port = match uri.port() {
            Some(port) => port.as_u16(),
            None if has_port(&uri) => return Err(refuse("the port is not valid")),
            None if tls => 443,
            None => 80,
        };
        Ok(Self { tls, host, port })
    }
}

/// Returns whether the URL has text where a port belongs, even if it is not a valid one (99999), which `Uri` treats as
/// absent.
fn has_port(uri: &hyper::Uri) -> bool {
    let authority = uri.authority().map(hyper::http::uri::Authority::as_str).unwrap_or_default();
    authority.rsplit(']').next().is_some_and(|tail| tail.contains(':'))
}

/// The credentials of a client.
#[derive(Clone)]
pub enum Credentials {
    /// User name and password.
    Password {
        /// Name of the user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token issued by the server.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user}, redacted)"),
            Self::Token(_) => f.write_str("Token(redacted)"),
        }
    }
}

impl Credentials {
    /// Returns the `Authorization` header, marked as sensitive.
    ///
    /// # Errors
    /// Fails if the user's name has a colon, or if a token has characters that are invalid in a header.
    pub fn header(&self) -> Result<HeaderValue, ClientError> {
        let text = match self {
            Self::Password { user, .. } if user.contains(':') => {
                return Err(ClientError::Credentials("a user name cannot contain a colon"));
            }
            Self::Password { user, password } => format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
            Self::Token(token) => format!("Bearer {token}"),
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| ClientError::Credentials("a token cannot contain line breaks or control characters"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// An endpoint, how its certificate is verified, and the client's credentials.
#[derive(Clone)]
pub struct Target {
    /// The endpoint.
    pub endpoint: Endpoint,
    pub(super) authorization: HeaderValue,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    /// Bytes that the kernel keeps until they are read; 0 is as many as it likes.
    pub(super) receive_buffer: usize,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Target {
    /// Creates a target; `trust` decides how its certificate is verified if it uses TLS.
    ///
    /// # Errors
    /// Fails if the credentials cannot be put into a header, or if the file with CA certificates is unusable or given
    /// for plain HTTP.
    pub fn new(endpoint: Endpoint, credentials: &Credentials, trust: &Trust) -> Result<Self, ClientError> {
        if let (false, Trust::Ca(path)) = (endpoint.tls, trust) {
            let reason = format!("has no effect with {endpoint}, which is not encrypted");
            return Err(ClientError::CaFile { path: path.to_owned(), reason });
        }
        let tls = if endpoint.tls { Some(tls::config(trust)?) } else { None };
        Ok(Self { endpoint, authorization: credentials.header()?, tls, receive_buffer: 0 })
    }

    /// Sets the size of the kernel's receive buffer, in bytes.
    #[must_use]
    pub fn with_receive_buffer(self, receive_buffer: usize) -> Self {
        Self { receive_buffer, ..self }
    }

    /// Returns the credentials as an `Authorization` header, marked as sensitive.
    pub fn authorization(&self) -> HeaderValue {
        self.authorization.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_drpcli_does() {
        for (text, shown) in [
            ("https://127.0.0.1:8092", "https://127.0.0.1:8092"),
            ("https://drp.example.com/", "https://drp.example.com:443"),
            ("http://[::1]:80", "http://[::1]:80"),
            ("ws://localhost", "http://localhost:80"),
            ("127.0.0.1:8092", "https://127.0.0.1:8092"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        assert_eq!("https://[::1]:1".parse::<Endpoint>().unwrap().host, "::1");
        assert!(["https://a:1/", "a:1", "[::1]:1"].into_iter().all(Endpoint::names_port));
        assert!(!["https://a/", "a", "https://[::1]"].into_iter().any(Endpoint::names_port));
    }

    #[test]
    fn bad_endpoints_are_told_without_their_secrets() {
        for (text, part) in [
            ("ftp://a", "scheme"),
            ("https://a/api/v3", "path"),
            ("https://", "`https://`"),
            ("https://a:99999", "port"),
            ("https://a:x", "`https://a:x`"),
            ("", "``"),
        ] {
            let message = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
        let message = "https://u:canary@a".parse::<Endpoint>().unwrap_err().to_string();
        assert!(!message.contains("canary") && message.contains("-U"), "{message}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let all = [
            Credentials::Password { user: "u".to_owned(), password: "canary".to_owned() },
            Credentials::Token("canary".to_owned()),
        ];
        for credentials in all {
            let target = Target::new(DEFAULT_ENDPOINT.parse().unwrap(), &credentials, &Trust::Any).unwrap();
            let shown = format!("{credentials:?} {target:?} {:?}", target.authorization);
            assert!(!shown.contains("canary") && !shown.contains(&STANDARD.encode("u:canary")), "{shown}");
        }
        assert!(Credentials::Token("a\nb".to_owned()).header().is_err());
        assert!(Credentials::Password { user: "a:b".to_owned(), password: String::new() }.header().is_err());
    }
}
