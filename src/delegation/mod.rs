//! Delegated authentication: credentials that are not hydrant's own are the endpoint's to judge.
//!
//! ```text
//! credential -> verdict known? -> the endpoint is asked, or its token opened -> account known? -> Identity
//! stream: users, roles, tenants, gaps -> what has to be read again -> accounts -> everybody's rights
//! ```
//!
//! A password is checked by fetching a token with it, as drpcli does. A token is opened with the endpoint's own key where the
//! service's credential may read that (preference `baseTokenSecret`), and else shown to the endpoint. Users, roles and tenants are
//! read with the service's credential and read again when the stream says that they have changed.
//!
//! Contract: a good verdict is taken again for [`DelegationLimits::fresh`] without asking, and for [`DelegationLimits::good`] while the
//! endpoint does not answer; a bad one is never kept. Who cannot be judged is refused as such, never let in. Passwords and
//! tokens are kept nowhere.

mod follow;
mod source;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use crate::auth::directory::{EndpointToken, Known, TokenKeyFault, Verdicts, read_plain};
use crate::auth::{AuthError, Authority, Credential, Identity, Secret, check_name};
use crate::clock;
use crate::upstream::Upstream;
use follow::Changed;
use source::{Keys, Trouble};

/// Logins with the same credential wait for one another, so that a thousand clients of one user are one question.
const LANES: usize = 256;

/// How long the endpoint may take to judge a credential, and to tell what is needed for that; others with the same one wait as long.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer that is looked at no further than its status.
const LONGEST_ANSWER: usize = 64 << 10;

/// For how long what an endpoint has said is taken.
#[derive(Debug, Clone, Copy)]
pub struct DelegationLimits {
    /// Without asking again.
    pub fresh: Duration,
    /// While it cannot be asked.
    pub good: Duration,
    /// Until users, roles and tenants are read again though nobody has told of a change.
    pub refresh: Duration,
}

/// See the module's text.
#[derive(Debug)]
pub struct Delegation {
    upstream: Arc<Upstream>,
    authority: Arc<Authority>,
    limits: DelegationLimits,
    verdicts: Verdicts,
    lanes: Vec<Mutex<()>>,
    /// Held while the endpoint is read.
    reading: Mutex<()>,
    /// Whether roles and tenants are known at all.
    has_read: AtomicBool,
    /// What opens tokens.
    keys: parking_lot::Mutex<Keys>,
    changed: parking_lot::Mutex<Changed>,
    told: Notify,
}

impl Delegation {
    /// One for this endpoint, whose users get their rights from this authority.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(
        upstream: Arc<Upstream>,
        authority: Arc<Authority>,
        limits: DelegationLimits,
    ) -> Result<Self, getrandom::Error> {
        Ok(Self {
            verdicts: Verdicts::new(limits.fresh, limits.good)?,
            lanes: (0..LANES).map(|_| Mutex::default()).collect(),
            reading: Mutex::default(),
            has_read: AtomicBool::new(false),
            keys: parking_lot::Mutex::default(),
            changed: parking_lot::Mutex::new(Changed::everything()),
            told: Notify::new(),
            upstream,
            authority,
            limits,
        })
    }

    /// Checks credentials.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn login(&self, credential: &Credential, peer: IpAddr) -> Result<Identity, AuthError> {
        let key = self.verdicts.key(credential).ok_or(AuthError::Denied)?;
        if let Some(Known::Fresh(identity)) = self.known(&key) {
            return Ok(identity);
        }
        let _turn = self.lanes[usize::from(key[0]) % LANES].lock().await;
        let stale = match self.known(&key) {
            Some(Known::Fresh(identity)) => return Ok(identity),
            Some(Known::Stale(identity)) => Some(identity),
            None => None,
        };
        match self.judge(credential, peer).await {
            Ok(identity) => {
                self.verdicts.keep(key, identity.clone(), clock::now());
                Ok(identity)
            }
            Err(AuthError::EndpointAway) => stale.ok_or(AuthError::EndpointAway),
            // Says nothing about the credential.
            Err(error @ (AuthError::Throttled { .. } | AuthError::EndpointHides(_))) => Err(error),
            Err(error) => {
                self.verdicts.forget(&key);
                Err(error)
            }
        }
    }

    /// What is known of a credential, unless the rights that it gave are gone.
    fn known(&self, key: &[u8; 32]) -> Option<Known> {
        let known = self.verdicts.look(key, clock::now())?;
        let (Known::Fresh(identity) | Known::Stale(identity)) = &known;
        self.authority.access(identity).is_ok().then_some(known)
    }

    async fn judge(&self, credential: &Credential, peer: IpAddr) -> Result<Identity, AuthError> {
        match credential {
            Credential::Basic { user, password } => self.judge_password(user, password, peer).await,
            Credential::Bearer(token) => self.judge_token(token).await,
            Credential::Certificate(_) => Err(AuthError::Denied),
        }
    }

    async fn judge_password(&self, user: &str, password: &Secret, peer: IpAddr) -> Result<Identity, AuthError> {
        check_name(user).map_err(|_| AuthError::Denied)?;
        self.authority.begin_attempt(user, peer)?;
        let header = header(&format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose()))))?;
        let path = format!("/api/v3/users/{}/token?ttl=60", utf8_percent_encode(user, NON_ALPHANUMERIC));
        let right = self.ask(&path, &header).await;
        self.authority.end_attempt(user, peer, right.as_ref().ok().copied());
        if !right? {
            return Err(AuthError::Denied);
        }
        self.need([user]).await?;
        self.authority.accounts().user(user).map_err(|_| AuthError::Denied)
    }

    async fn judge_token(&self, token: &Secret) -> Result<Identity, AuthError> {
        let keys = self.current_keys().await?;
        let opened = match keys.open(token, clock::now()) {
            // The key may have been changed a moment ago.
            Some(Err(TokenKeyFault::Foreign)) => self.renewed_keys().await?.open(token, clock::now()),
            other => other,
        };
        match opened {
            Some(Ok(read)) if !read.has_other_secrets(keys.system()) => {
                self.need_for(&read).await?;
                if self.authority.accounts().hides_secrets_of(&read) {
                    self.shown(token).await?;
                }
                self.bearer(&read).await
            }
            Some(Err(TokenKeyFault::Expired)) => Err(AuthError::Denied),
            // Only the endpoint can tell.
            Some(Ok(read)) => {
                self.shown(token).await?;
                self.bearer(&read).await
            }
            Some(Err(TokenKeyFault::Foreign)) | None => {
                self.shown(token).await?;
                self.bearer(&read_plain(token).ok_or(AuthError::Unreadable)?).await
            }
        }
    }

    /// Shows a token to the endpoint.
    async fn shown(&self, token: &Secret) -> Result<(), AuthError> {
        let header = header(&format!("Bearer {}", token.expose()))?;
        if self.ask("/api/v3/info", &header).await? { Ok(()) } else { Err(AuthError::Denied) }
    }

    async fn bearer(&self, token: &EndpointToken) -> Result<Identity, AuthError> {
        self.need_for(token).await?;
        self.authority.accounts().bearer(token).map_err(|_| AuthError::Denied)
    }

    /// Whether the endpoint takes a credential.
    async fn ask(&self, path: &str, header: &HeaderValue) -> Result<bool, AuthError> {
        let Ok(answer) = timeout(PATIENCE, self.upstream.get(path, header, LONGEST_ANSWER)).await else {
            tracing::warn!("the endpoint does not judge a credential within {} s", PATIENCE.as_secs());
            return Err(AuthError::EndpointAway);
        };
        match answer.map(|answer| answer.status) {
            Ok(StatusCode::OK) => Ok(true),
            Ok(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) => Ok(false),
            Ok(status) => {
                tracing::warn!(%status, "the endpoint does not judge a credential");
                Err(AuthError::EndpointAway)
            }
            Err(error) => {
                tracing::warn!(%error, "the endpoint does not judge a credential");
                Err(AuthError::EndpointAway)
            }
        }
    }

    /// Sees to it that everybody is known on whom a token depends.
    async fn need_for(&self, token: &EndpointToken) -> Result<(), AuthError> {
        self.need(token.user().into_iter().chain(token.witnesses())).await
    }

    /// Sees to it that these users are known, as far as they exist.
    async fn need<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<(), AuthError> {
        let known = self.authority.accounts();
        let unknown = |name: &&str| !known.entries().users.contains_key(*name);
        let missing: Vec<String> = names.into_iter().filter(unknown).map(str::to_owned).collect();
        if missing.is_empty() && self.has_read.load(Ordering::Acquire) {
            return Ok(());
        }
        self.read_soon(&Changed::users(missing)).await.map_err(|trouble| refusal(&trouble))
    }
}

/// What is said to somebody who cannot be judged for this reason.
fn refusal(trouble: &Trouble) -> AuthError {
    tracing::error!(%trouble, "the endpoint does not tell its users, roles and tenants");
    match trouble {
        Trouble::Lacks { claims } => AuthError::EndpointHides(claims.first().copied().unwrap_or_default()),
        Trouble::Opaque => AuthError::EndpointHides("preferences/list"),
        _ => AuthError::EndpointAway,
    }
}

fn header(text: &str) -> Result<HeaderValue, AuthError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| AuthError::Denied)?;
    value.set_sensitive(true);
    Ok(value)
}
