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
    /// Bytes that the kernel keeps for a connection until they are read (it doubles the number); 0 is as many as it
    /// likes. Without a bound it keeps up to 32 MiB: two hundred downloads that nobody reads then fill the memory of
    /// all TCP connections of the machine, and every sender on it waits.
    pub receive_buffer: usize,
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
        let target = Target::new(self.endpoint.clone(), &credentials, &self.trust)?;
        Ok(target.with_receive_buffer(self.receive_buffer))
    }

    /// Returns a target for requests that carry credentials of their own: no secret is read.
    ///
    /// # Errors
    /// Fails like [`Target::new`].
    pub fn anonymous_target(&self) -> Result<Target, ClientError> {
        let target = Target::new(self.endpoint.clone(), &Credentials::Token(String::new()), &self.trust)?;
        Ok(target.with_receive_buffer(self.receive_buffer))
    }
}
