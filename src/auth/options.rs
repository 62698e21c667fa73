//! Settings of an authority, with the defaults of `docs/security.md`, "Limits".
//!
//! Contract: data only.

use std::time::Duration;

use super::certificate::CertificateName;
use super::issuers::IssuerOptions;
use super::throttle::Limits;

/// Settings of an [`Authority`](super::Authority); `docs/security.md`, "Limits".
#[derive(Debug, Clone)]
pub struct AuthOptions {
    /// The default lifetime of a token.
    pub token_ttl: Duration,
    /// The maximum lifetime of a token.
    pub max_token_ttl: Duration,
    /// Limits on wrong passwords.
    pub throttle: Limits,
    /// The number of threads that hash passwords; 0 means half the number of cores.
    pub hash_workers: usize,
    /// The maximum number of logins that wait for a hash worker; beyond it logins are refused.
    pub hash_queue: usize,
    /// The time after its last use for which a correct password is accepted without hashing it again; zero disables the
    /// cache.
    pub password_cache: Duration,
    /// An external issuer whose tokens are accepted too.
    pub issuer: Option<IssuerOptions>,
    /// The part of a client certificate that holds the client's name.
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
