//! Reading users, roles, tenants and preferences from the endpoint.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;

use super::Delegation;
use super::follow::Changed;
use crate::auth::Secret;
use crate::auth::directory::{
    Directory, EndpointToken, Entries, TenantOf, TokenKey, TokenKeyFault, accounts, base_secret, roles, system_secret,
    tenants,
};
use crate::client::ClientError;
use crate::clock;
use crate::upstream::{UpstreamError, Whole};

/// The longest answer that is read.
const LONGEST: usize = 64 << 20;

/// Keys that were read so recently are not read again for a token that they do not open.
const RENEWED: SignedDuration = SignedDuration::from_secs(1);

/// Why something cannot be read.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    /// The endpoint does not answer.
    #[error(transparent)]
    Away(#[from] UpstreamError),
    /// It answers with an error.
    #[error("GET {what}: the endpoint answers {status}; may the server's user (upstream.username) read it?")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The answer.
        status: StatusCode,
    },
    /// It answers with something else.
    #[error("GET {what}: the answer cannot be read")]
    Unreadable {
        /// What was asked for.
        what: &'static str,
    },
    /// The service has no credential.
    #[error(transparent)]
    Credential(#[from] ClientError),
}

/// What opens the endpoint's tokens, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    token: Option<TokenKey>,
    system: Option<Secret>,
    read_at: Option<Timestamp>,
}

impl Keys {
    /// Opens a token; nothing if there is no key.
    pub(super) fn open(&self, token: &Secret, now: Timestamp) -> Option<Result<EndpointToken, TokenKeyFault>> {
        self.token.as_ref().map(|key| key.open(token, now))
    }

    /// What stands in the tokens of machines.
    pub(super) fn system(&self) -> Option<&str> {
        self.system.as_ref().map(Secret::expose)
    }
}

impl Delegation {
    /// Reads what has changed, and what nobody has read yet, and puts it in force.
    pub(super) async fn read(&self, changed: &Changed) -> Result<(), Trouble> {
        // One at a time, so that an older answer never replaces a newer one.
        let _turn = self.reading.lock().await;
        let own = self.upstream.own_credential()?;
        let first = !self.has_read.load(Ordering::Acquire);
        let last = self.authority.accounts();
        let mut entries = last.entries().clone();
        if changed.keys || first {
            let keys = self.read_keys(&own).await?;
            entries.set_key(keys.token.as_ref());
            *self.keys.lock() = keys;
        }
        if changed.roles || first {
            entries.roles = read("roles", &self.get("roles", &own).await?, roles)?;
        }
        if changed.tenants || first {
            entries.tenants = self.read_tenants(&own).await?;
        }
        for name in changed.users.named() {
            self.read_user(&mut entries, name, &own).await?;
        }
        if entries != *last.entries() {
            self.authority.set_accounts(Directory::new(entries));
        }
        self.has_read.store(true, Ordering::Release);
        Ok(())
    }

    async fn read_user(&self, entries: &mut Entries, name: &str, own: &HeaderValue) -> Result<(), Trouble> {
        const WHAT: &str = "users/NAME";
        let answer = self.get(&format!("users/{}", utf8_percent_encode(name, NON_ALPHANUMERIC)), own).await?;
        if answer.status == StatusCode::NOT_FOUND {
            entries.users.remove(name);
            return Ok(());
        }
        let account = read(WHAT, &answer, accounts)?.into_iter().find(|(row, _)| row == name);
        let (name, account) = account.ok_or(Trouble::Unreadable { what: WHAT })?;
        entries.users.insert(name, account);
        Ok(())
    }

    /// Endpoints without tenants have no such path.
    async fn read_tenants(&self, own: &HeaderValue) -> Result<BTreeMap<String, TenantOf>, Trouble> {
        let answer = self.get("tenants", own).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(BTreeMap::new());
        }
        read("tenants", &answer, tenants)
    }

    /// Without the right to read preferences there are no keys, which is no error.
    async fn read_keys(&self, own: &HeaderValue) -> Result<Keys, Trouble> {
        let answer = self.get("prefs", own).await?;
        let read_at = Some(clock::now());
        if answer.status != StatusCode::OK {
            tracing::info!(status = %answer.status, "the endpoint's preferences cannot be read; its tokens are shown to it");
            return Ok(Keys { read_at, ..Keys::default() });
        }
        let token = base_secret(&answer.body).as_deref().and_then(TokenKey::new);
        Ok(Keys { token, system: system_secret(&answer.body).map(Secret::new), read_at })
    }

    /// The keys; read first, if nobody has.
    pub(super) async fn current_keys(&self) -> Keys {
        let keys = self.keys.lock().clone();
        if keys.read_at.is_some() { keys } else { self.renewed_keys().await }
    }

    /// The keys, read again unless that was a moment ago.
    pub(super) async fn renewed_keys(&self) -> Keys {
        let known = self.keys.lock().clone();
        let recent = |at: Timestamp| clock::now().duration_since(at) < RENEWED;
        if known.read_at.is_some_and(recent) {
            return known;
        }
        if let Err(trouble) = self.read(&Changed::keys()).await {
            tracing::warn!(%trouble, "the endpoint's preferences are not told");
        }
        self.keys.lock().clone()
    }

    async fn get(&self, path: &str, own: &HeaderValue) -> Result<Whole, UpstreamError> {
        self.upstream.get(&format!("/api/v3/{path}"), own, LONGEST).await
    }
}

/// What an answer says.
fn read<T>(what: &'static str, answer: &Whole, parse: impl FnOnce(&[u8]) -> Option<T>) -> Result<T, Trouble> {
    if answer.status != StatusCode::OK {
        return Err(Trouble::Refused { what, status: answer.status });
    }
    parse(&answer.body).ok_or(Trouble::Unreadable { what })
}
