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
    /// Bytes that the kernel keeps for a connection until they are read (it doubles the number); 0 is as many as it
    /// likes. Without a bound it keeps up to 32 MiB: two hundred downloads that nobody reads then fill the memory of
    /// all TCP connections of the machine, and every sender on it waits.
    pub receive_buffer: usize,
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
        let target = Target::new(self.endpoint.clone(), &credentials, &self.trust)?;
        Ok(target.with_receive_buffer(self.receive_buffer))
    }

    /// Where to connect, for requests that bring a credential of their own: no secret is read.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn anonymous_target(&self) -> Result<Target, ClientError> {
        let target = Target::new(self.endpoint.clone(), &Credentials::Token(String::new()), &self.trust)?;
        Ok(target.with_receive_buffer(self.receive_buffer))
    }
}
