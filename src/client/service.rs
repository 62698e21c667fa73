//! An endpoint that the server itself uses, and how it logs in there.
//!
//! [`Service::target`] is asked before each connection and reads the files that the settings name anew: passwords,
//! tokens and certificates that were replaced are used from the next connection on.

use super::endpoint::{Credentials, Endpoint, Target};
use super::error::ClientError;
use super::secret::SecretSource;
use super::tls::Trust;

/// How the server shows who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// By user and password.
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: SecretSource,
    },
    /// By a token that the endpoint made.
    Token(SecretSource),
}

/// An endpoint with the service's credential, whose files are read again for every connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Where to.
    pub endpoint: Endpoint,
    /// As whom.
    pub login: Login,
    /// How the endpoint's certificate is checked.
    pub trust: Trust,
}

impl Service {
    /// What a connection needs, with the secrets and certificates of this moment.
    ///
    /// # Errors
    /// As [`Target::new`], and [`ClientError::SecretFile`].
    pub fn target(&self) -> Result<Target, ClientError> {
        let credentials = match &self.login {
            Login::Password { user, password } => {
                Credentials::Password { user: user.clone(), password: password.read()?.reveal().to_owned() }
            }
            Login::Token(token) => Credentials::Token(token.read()?.reveal().to_owned()),
        };
        Target::new(self.endpoint.clone(), &credentials, &self.trust)
    }

    /// Where to connect, for requests that bring a credential of their own: no secret is read.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn anonymous_target(&self) -> Result<Target, ClientError> {
        Target::new(self.endpoint.clone(), &Credentials::Token(String::new()), &self.trust)
    }
}
