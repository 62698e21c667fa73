//! An endpoint that the server itself uses, and how it logs in there.
//!
//! [`Service::target`] is called before each connection and reads the files that the settings name again: replaced
//! passwords, tokens and certificates are used from the next connection on.

use super::endpoint::{Credentials, Endpoint, Target};
use super::error::ClientError;
use super::secret::SecretSource;
use super::tls::Trust;

/// How the server authenticates to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// By user and password.
    Password {
        /// Name of the user.
        user: String,
        /// Source of the password.
        password: SecretSource,
    },
    /// By a token that the endpoint issued.
    Token(SecretSource),
}

/// An endpoint with the service's credentials, whose files are read again for every connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The credentials.
    pub login: Login,
    /// How the endpoint's certificate is verified.
    pub trust: Trust,
}

impl Service {
    /// Returns the target of a connection, with the current secrets and certificates.
    ///
    /// # Errors
    /// Fails like [`Target::new`], and with [`ClientError::SecretFile`].
    pub fn target(&self) -> Result<Target, ClientError> {
        let credentials = match &self.login {
            Login::Password { user, password } => {
                Credentials::Password { user: user.clone(), password: password.read()?.reveal().to_owned() }
            }
            Login::Token(token) => Credentials::Token(token.read()?.reveal().to_owned()),
        };
        Target::new(self.endpoint.clone(), &credentials, &self.trust)
    }

    /// Returns a target for requests that carry credentials of their own: no secret is read.
    ///
    /// # Errors
    /// Fails like [`Target::new`].
    pub fn anonymous_target(&self) -> Result<Target, ClientError> {
        Target::new(self.endpoint.clone(), &Credentials::Token(String::new()), &self.trust)
    }
}
