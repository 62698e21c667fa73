//! The endpoint's own keys: what opens its tokens, and what stands in those of machines.
//!
//! Contract: keys that cannot be read now stay as they were; without the right to read them there are none, and then tokens are shown to
//! the endpoint. They are read as everything else is, one reading at a time.

use hyper::StatusCode;
use hyper::header::HeaderValue;
use jiff::{SignedDuration, Timestamp};

use super::Delegation;
use super::follow::Changed;
use super::source::Trouble;
use crate::auth::directory::{EndpointToken, TokenKey, TokenKeyError, base_secret, system_secret};
use crate::auth::{AuthError, Secret};
use crate::clock;

/// Keys that were read so recently are not read again for a token that they do not open.
const RENEWED: SignedDuration = SignedDuration::from_secs(1);

/// What opens the endpoint's tokens, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    token: Option<TokenKey>,
    system: Option<Secret>,
    read_at: Option<Timestamp>,
}

impl Keys {
    /// What opens tokens.
    pub(super) fn token(&self) -> Option<&TokenKey> {
        self.token.as_ref()
    }

    /// Opens a token; nothing if there is no key.
    pub(super) fn open(&self, token: &Secret, now: Timestamp) -> Option<Result<EndpointToken, TokenKeyError>> {
        self.token.as_ref().map(|key| key.open(token, now))
    }

    /// What stands in the tokens of machines.
    pub(super) fn system(&self) -> Option<&str> {
        self.system.as_ref().map(Secret::expose)
    }
}

impl Delegation {
    /// Without the right to read preferences there are no keys, which is no error. An endpoint that cannot tell now says nothing
    /// about those that are known.
    pub(super) async fn read_keys(&self, known: Keys, own: &HeaderValue) -> Result<Keys, Trouble> {
        let answer = self.get("prefs", own).await?;
        let read_at = Some(clock::now());
        if answer.status.is_server_error() {
            tracing::warn!(status = %answer.status, "the endpoint's preferences cannot be read now");
            return Ok(Keys { read_at, ..known });
        }
        if answer.status != StatusCode::OK {
            tracing::info!(status = %answer.status, "the endpoint's preferences cannot be read; its tokens are shown to it");
            return Ok(Keys { read_at, ..Keys::default() });
        }
        let token = base_secret(&answer.body).as_deref().and_then(TokenKey::new);
        Ok(Keys { token, system: system_secret(&answer.body).map(Secret::new), read_at })
    }

    /// The keys; read first, if nobody has.
    pub(super) async fn current_keys(&self) -> Result<Keys, AuthError> {
        let keys = self.keys.lock().clone();
        if keys.read_at.is_some() { Ok(keys) } else { self.renewed_keys().await }
    }

    /// The keys, read again unless that was a moment ago.
    pub(super) async fn renewed_keys(&self) -> Result<Keys, AuthError> {
        let recent = || self.keys.lock().read_at.is_some_and(|at| clock::now().duration_since(at) < RENEWED);
        if !recent() {
            self.read_soon(&Changed::keys(), recent).await?;
        }
        Ok(self.keys.lock().clone())
    }
}
