//! The endpoint's own keys: those that open its tokens, and the secrets in tokens of machines.
//!
//! Contract: keys that cannot be read keep their last value. Without the right to read them there are none, and the
//! endpoint checks tokens. Until the endpoint has returned its keys or refused them, a token that cannot be opened is
//! not refused for good. Keys are read like everything else, one reading at a time. A token is opened here only within
//! [`DelegationLimits::good`](super::DelegationLimits::good) after the endpoint last sent data that rights depend on.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::HeaderValue;
use jiff::Timestamp;

use super::Delegation;
use super::changed::Changed;
use super::error::IdentityError;
use crate::auth::directory::{EndpointToken, TokenKey, TokenKeyError, base_secret, is_preferences, system_secret};
use crate::auth::{AuthError, Secret};
use crate::clock;

/// Minimum age of the keys before they are read again for a token that they cannot open.
const RENEWED: Duration = Duration::from_secs(1);

/// Maximum length of the preferences in bytes.
const LONGEST_PREFERENCES: usize = 1 << 20;

/// What the endpoint has last said about its keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Answer {
    #[default]
    Unknown,
    /// That hydrant's own user may not read them.
    Refused,
    Told,
}

/// The keys that open the endpoint's tokens, if known.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    token: Option<TokenKey>,
    system: Option<Secret>,
    read_at: Option<Instant>,
    answer: Answer,
}

impl Keys {
    /// Reads the keys from the endpoint's preferences; returns `None` if the text has no preferences.
    fn of(text: &[u8]) -> Option<Self> {
        let token = || base_secret(text).as_deref().and_then(TokenKey::new);
        let system = || system_secret(text).map(Secret::new);
        is_preferences(text).then(|| Self { token: token(), system: system(), read_at: None, answer: Answer::Told })
    }

    /// Returns the state after the endpoint has refused to return its keys.
    fn refused() -> Self {
        Self { answer: Answer::Refused, ..Self::default() }
    }

    /// Returns the same, read now.
    pub(super) fn read_now(self) -> Self {
        Self { read_at: Some(clock::instant()), ..self }
    }

    /// Returns the error for a token that the endpoint accepts but hydrant cannot open.
    pub(super) fn unreadable(&self) -> AuthError {
        if self.answer == Answer::Unknown { AuthError::EndpointAway } else { AuthError::Unreadable }
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

impl Delegation {
    /// Reads the keys. Without the right to read preferences there are none, which is not an error. Returns `None` for
    /// any other answer that has no preferences, such as a page of a server in front of the endpoint.
    pub(super) async fn read_keys(&self, own: &HeaderValue) -> Result<Option<Keys>, IdentityError> {
        let answer = self.get("prefs", own, LONGEST_PREFERENCES).await?;
        let status = answer.status;
        let keys = match status {
            StatusCode::OK => Keys::of(&answer.body),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.log_refused_keys(status);
                Some(Keys::refused())
            }
            _ => None,
        };
        if keys.is_none() {
            self.lines.unread_keys(status);
        }
        Ok(keys)
    }

    /// Logs that keys are refused, unless they were the last time: it is so by design, and anybody can ask for them.
    fn log_refused_keys(&self, status: StatusCode) {
        if self.keys.lock().answer != Answer::Refused {
            tracing::info!(%status, "cannot read the endpoint's preferences; the endpoint checks its tokens");
        }
    }

    /// Ensures that the endpoint's data is not older than a cached identity may be, for a token that is opened here.
    pub(super) async fn hear_again(&self) -> Result<(), AuthError> {
        let recent = || self.heard.lock().is_some_and(|heard| heard.elapsed() < self.limits.good);
        // The keys are the least to ask for, but an endpoint need not return them.
        for what in [Changed::keys(), Changed::lists()] {
            if recent() {
                return Ok(());
            }
            self.read_soon(&what, recent).await?;
        }
        if recent() { Ok(()) } else { Err(AuthError::EndpointAway) }
    }

    /// Records that the endpoint has sent data that rights depend on.
    pub(super) fn note_heard(&self) {
        *self.heard.lock() = Some(clock::instant());
    }

    /// Returns the keys; reads them if that was never done.
    pub(super) async fn current_keys(&self) -> Result<Keys, AuthError> {
        let keys = self.keys.lock().clone();
        if keys.read_at.is_some() { Ok(keys) } else { self.renewed_keys().await }
    }

    /// Returns the keys after reading them again, unless they were read within [`RENEWED`].
    pub(super) async fn renewed_keys(&self) -> Result<Keys, AuthError> {
        let recent = || self.keys.lock().read_at.is_some_and(|at| at.elapsed() < RENEWED);
        if !recent() {
            self.read_soon(&Changed::keys(), recent).await?;
        }
        Ok(self.keys.lock().clone())
    }
}
