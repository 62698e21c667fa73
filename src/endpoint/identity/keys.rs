//! The endpoint's own keys: those that open its tokens, and the secrets in tokens of machines.
//!
//! Contract: keys that cannot be read keep their last value. Without the right to read them there are none, and the
//! endpoint checks tokens. Until the endpoint has returned its keys or refused them, a token that cannot be opened is
//! not refused for good. Keys are read like everything else, one reading at a time.

use std::time::Instant;

use jiff::Timestamp;

use crate::auth::directory::{EndpointToken, TokenKey, TokenKeyError, base_secret, is_preferences, system_secret};
use crate::auth::{AuthError, Secret};

/// The keys that open the endpoint's tokens, if known.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    pub(super) token: Option<TokenKey>,
    pub(super) system: Option<Secret>,
    pub(super) read_at: Option<Instant>,
    /// Whether the endpoint has returned its keys, or has refused to.
    pub(super) is_answered: bool,
}

impl Keys {
    /// Reads the keys from the endpoint's preferences; returns `None` if the text has no preferences.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let token = || base_secret(text).as_deref().and_then(TokenKey::new);
        let system = || system_secret(text).map(Secret::new);
        is_preferences(text).then(|| Self { token: token(), system: system(), read_at: None, is_answered: true })
    }

    /// Returns the state after the endpoint has refused to return its keys.
    pub(super) fn refused() -> Self {
        Self { is_answered: true, ..Self::default() }
    }

    /// Returns the error for a token that the endpoint accepts but hydrant cannot open.
    pub(super) fn unreadable(&self) -> AuthError {
        if self.is_answered { AuthError::Unreadable } else { AuthError::EndpointAway }
    }

    /// Returns the key that opens tokens.
    pub(super) fn token(&self) -> Option<&TokenKey> {
        self.token.as_ref()
    }

    /// Opens a token; returns `None` if there is no key.
    pub(super) fn open(&self, token: &Secret, now: Timestamp) -> Option<Result<EndpointToken, TokenKeyError>> {
        self.token.as_ref().map(|key| key.open(token, now))
    }

    /// Returns the system secret, which the tokens of machines contain.
    pub(super) fn system(&self) -> Option<&str> {
        self.system.as_ref().map(Secret::expose)
    }
}
