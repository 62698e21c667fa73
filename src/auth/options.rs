//! How an authority behaves, with the defaults of `docs/security.md`, "Limits".
//!
//! Contract: data only.

use std::time::Duration;

use super::certificate::CertificateName;
use super::issuers::IssuerOptions;
use super::throttle::Limits;

/// How an [`Authority`](super::Authority) behaves; `docs/security.md`, "Limits".
#[derive(Debug, Clone)]
pub struct AuthOptions {
    /// How long a token lives if nobody says.
    pub token_ttl: Duration,
    /// The longest that a token may live.
    pub max_token_ttl: Duration,
    /// How many passwords may be tried.
    pub throttle: Limits,
    /// How many passwords are hashed at once; 0 means half as many as there are cores.
    pub hash_workers: usize,
    /// How many logins may wait for a hash worker before some are turned away.
    pub hash_queue: usize,
    /// For how long after its last use a password that was right is known without hashing it again; zero turns that
    /// off.
    pub password_cache: Duration,
    /// Whose tokens are taken besides our own.
    pub issuer: Option<IssuerOptions>,
    /// Where in a client's certificate its name stands.
    pub certificate_name: CertificateName,
}

impl Default for AuthOptions {
    fn default() -> Self {
        Self {
            token_ttl: Duration::from_hours(1),
            max_token_ttl: Duration::from_hours(90 * 24),
            throttle: Limits::default(),
            hash_workers: 0,
            hash_queue: 1024,
            password_cache: Duration::from_mins(1),
            issuer: None,
            certificate_name: CertificateName::default(),
        }
    }
}
