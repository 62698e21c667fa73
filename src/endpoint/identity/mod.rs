//! Delegated authentication: the endpoint checks credentials that are not hydrant's own.
//!
//! ```text
//! credential -> answer cached? -> ask the endpoint, or open its token -> account known? -> Identity
//! stream: users, roles, tenants, gaps -> what must be read again -> accounts -> everybody's rights
//! ```
//!
//! A password is checked by fetching a token with it, as drpcli does. A token is opened with the endpoint's own key if
//! the service's credential may read that (preference `baseTokenSecret`); otherwise the endpoint checks it. Users,
//! roles and tenants are read with the service's credential, and read again when the stream says that they have
//! changed.
//!
//! Contract: an acceptance is reused for [`DelegationLimits::fresh`] without asking, and for
//! [`DelegationLimits::good`] while the endpoint does not answer, that of a password only at the same address; a
//! rejection is never cached. Likewise a token is
//! opened here for no longer than [`DelegationLimits::good`] after the endpoint was last heard of. A caller who cannot
//! be authenticated is refused, never let in. Passwords and tokens are stored nowhere. A known caller waits for no
//! stranger: neither for an answer nor for a slot.

mod changed;
mod error;
mod flights;
mod follow;
mod health;
mod keys;
mod lines;
mod schedule;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use super::http::{Asker, Upstream, UpstreamError};
use crate::auth::directory::{
    EndpointToken, IdentityCache, Known, TokenKeyError, is_info, is_issued_token, issued_token, read_plain,
};
use crate::auth::{
    AuthError, Authority, Credential, CredentialError, Identity, MAX_TOKEN_BYTES, Secret, check_endpoint_name,
};
use crate::broker::archive::Wake;
use crate::clock;
use crate::metrics::{IdentityDecision, Metrics};
use crate::places::network;
use changed::Changed;
use error::{ANSWER_TIMEOUT, Failures, IdentityError};
use flights::Flights;
use health::Health;
pub use health::Report;
use keys::Keys;
use lines::Lines;

/// Maximum wait for a login with the same credential: for the credential, for the user, for a turn, and for the lists
/// read in it.
const LONGEST_LOGIN: Duration = Duration::from_secs(20);

/// Maximum number of checks of a password while the user's secret keeps changing.
const MOST_QUESTIONS: usize = 3;

/// Time after a failure of the endpoint during which it is not queried again.
const RETRY: Duration = Duration::from_secs(1);

/// Maximum length in bytes of the answer to a check of a credential; that to `info` lists features and scopes.
const LONGEST_ANSWER: usize = 1 << 20;

/// Limits on how long, and how much of, the endpoint's data is cached.
#[derive(Debug, Clone, Copy)]
pub struct DelegationLimits {
    /// How long an acceptance is reused without asking the endpoint.
    pub fresh: Duration,
    /// How long an acceptance is reused while the endpoint does not answer.
    pub good: Duration,
    /// Interval at which users, roles and tenants are read again even if no change was reported.
    pub refresh: Duration,
    /// Maximum number of cached acceptances.
    pub cached_identities: usize,
}

/// Authenticates callers against the endpoint and keeps its users, roles and tenants current.
#[derive(Debug)]
pub struct Delegation {
    upstream: Arc<Upstream>,
    authority: Arc<Authority>,
    limits: DelegationLimits,
    cache: IdentityCache,
    flights: Flights,
    /// Held while the endpoint is read.
    reading: Mutex<()>,
    /// Held while data that was read is applied.
    putting: parking_lot::Mutex<()>,
    /// Whether roles and tenants were ever read.
    has_read: AtomicBool,
    /// The number of reads of roles and tenants that have begun.
    lists_begun: AtomicU64,
    /// The number of the latest of them that was applied.
    lists_read: AtomicU64,
    /// The number of events so far that may concern users.
    users_reported: AtomicU64,
    /// Users whose accounts could not be read the last time.
    unreadable: parking_lot::Mutex<BTreeSet<String>>,
    /// When the endpoint last sent data that rights depend on; `None` before it has.
    heard: parking_lot::Mutex<Option<Instant>>,
    health: Health,
    /// The keys that open tokens.
    keys: parking_lot::Mutex<Keys>,
    failed: parking_lot::Mutex<Failures>,
    lines: Lines,
    /// Roles of users that the endpoint does not have.
    missing_roles: parking_lot::Mutex<BTreeSet<String>>,
    changed: parking_lot::Mutex<Changed>,
    /// What logins could not read.
    again: parking_lot::Mutex<Changed>,
    reported: Notify,
    /// Called before long work.
    wake: Wake,
}

impl Delegation {
    /// Creates the delegation for an endpoint whose users get their rights from `authority`.
    ///
    /// # Errors
    /// If the system provides no random numbers.
    pub fn new(
        upstream: Arc<Upstream>,
        authority: Arc<Authority>,
        limits: DelegationLimits,
        metrics: Arc<Metrics>,
    ) -> Result<Self, getrandom::Error> {
        Ok(Self {
            cache: IdentityCache::new(limits.fresh, limits.good, limits.cached_identities)?,
            flights: Flights::default(),
            reading: Mutex::default(),
            putting: parking_lot::Mutex::default(),
            has_read: AtomicBool::new(false),
            lists_begun: AtomicU64::default(),
            lists_read: AtomicU64::default(),
            users_reported: AtomicU64::default(),
            unreadable: parking_lot::Mutex::default(),
            missing_roles: parking_lot::Mutex::default(),
            heard: parking_lot::Mutex::default(),
            health: Health::new(upstream.endpoint().to_string(), clock::now(), metrics),
            keys: parking_lot::Mutex::default(),
            failed: parking_lot::Mutex::default(),
            lines: Lines::default(),
            changed: parking_lot::Mutex::default(),
            again: parking_lot::Mutex::default(),
            reported: Notify::new(),
            wake: Wake::default(),
            upstream,
            authority,
            limits,
        })
    }

    /// Calls `wake` before long work, for what waits to be done by the same thread.
    #[must_use]
    pub fn with_wake(self, wake: Wake) -> Self {
        Self { wake, ..self }
    }

    /// Returns what `/readyz` reports about it.
    pub fn report(&self) -> Report {
        self.health.report()
    }

    /// Checks credentials.
    ///
    /// # Errors
    /// [`AuthError`] if the credentials are rejected or cannot be checked.
    pub async fn login(&self, credential: &Credential, peer: IpAddr) -> Result<Identity, AuthError> {
        let decision = self.decide(credential, peer).await;
        self.health.decided(match &decision {
            Ok((decision, _)) => *decision,
            Err(AuthError::Denied | AuthError::Unreadable) => IdentityDecision::Denied,
            Err(_) => IdentityDecision::Undecided,
        });
        decision.map(|(_, identity)| identity)
    }

    async fn decide(&self, credential: &Credential, peer: IpAddr) -> Result<(IdentityDecision, Identity), AuthError> {
        let key = self.cache.key(credential, peer).ok_or(AuthError::Denied)?;
        if let Some(Known::Fresh(identity)) = self.known(&key) {
            return Ok((IdentityDecision::Known, identity));
        }
        let flight = self.flights.begin(key);
        let turn = timeout(LONGEST_LOGIN, flight.turn()).await;
        let stale = match self.known(&key) {
            Some(Known::Fresh(identity)) => return Ok((IdentityDecision::Known, identity)),
            Some(Known::Stale(identity)) => Some((IdentityDecision::Stale, identity)),
            None => None,
        };
        let Ok(_turn) = turn else { return stale.ok_or(AuthError::EndpointAway) };
        if let Some(stale) = stale.clone().filter(|_| self.failed_lately() == Some(AuthError::EndpointAway)) {
            return Ok(stale);
        }
        let asker = if stale.is_some() { Asker::Known(network(peer)) } else { Asker::Login };
        let reported = self.users_reported.load(Ordering::Acquire);
        match self.authenticate(credential, peer, asker).await {
            Ok(identity) => {
                self.keep(key, &identity, reported);
                Ok((IdentityDecision::Good, identity))
            }
            // None of these concerns the credential: one that was valid recently still is.
            Err(error @ (AuthError::EndpointAway | AuthError::Throttled { .. } | AuthError::Unavailable)) => {
                stale.ok_or(error)
            }
            Err(error @ AuthError::EndpointHides(_)) => Err(error),
            Err(error) => {
                self.cache.forget(&key);
                Err(error)
            }
        }
    }

    /// Caches an identity, for as long as the data that it depends on may be used; not if users may have changed since
    /// `reported`. If their secrets are readable, they are compared on each use anyway.
    fn keep(&self, key: [u8; 32], identity: &Identity, reported: u64) {
        let is_compared = !identity.user().is_some_and(|user| self.authority.accounts().hides_secret(user));
        let is_of_now = || is_compared || self.users_reported.load(Ordering::Acquire) == reported;
        let Some(heard) = self.heard.lock().filter(|_| is_of_now()) else { return };
        self.cache.keep(key, identity.clone(), clock::both(), heard);
        if !is_of_now() {
            // An event may have come after the check, and have forgotten the user before this was kept.
            self.cache.forget(&key);
        }
    }

    fn has_read(&self) -> bool {
        self.has_read.load(Ordering::Acquire)
    }

    /// Returns what is cached about a credential, unless the identity has lost its rights.
    fn known(&self, key: &[u8; 32]) -> Option<Known> {
        let known = self.cache.look(key, clock::both())?;
        let (Known::Fresh(identity) | Known::Stale(identity)) = &known;
        self.authority.access(identity).is_ok().then_some(known)
    }

    fn failed_lately(&self) -> Option<AuthError> {
        self.failed.lock().within(RETRY)
    }

    async fn authenticate(&self, credential: &Credential, peer: IpAddr, asker: Asker) -> Result<Identity, AuthError> {
        match credential {
            Credential::Basic { user, password } => self.authenticate_password(user, password, peer, asker).await,
            Credential::Bearer(token) if token.expose().len() > MAX_TOKEN_BYTES => Err(CredentialError::TooLong.into()),
            Credential::Bearer(token) => self.authenticate_token(token, asker).await,
            Credential::Certificate(_) => Err(AuthError::Denied),
        }
    }

    /// Has the endpoint check a password. The resulting identity is bound to the user's secret, which must be that of
    /// the moment of the check: if it may have changed in between, the password is checked again.
    async fn authenticate_password(
        &self,
        user: &str,
        password: &Secret,
        peer: IpAddr,
        asker: Asker,
    ) -> Result<Identity, AuthError> {
        check_endpoint_name(user).map_err(|_| AuthError::Denied)?;
        let header = header(&format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose()))))?;
        let path = format!("/api/v3/users/{}/token?ttl=60", utf8_percent_encode(user, NON_ALPHANUMERIC));
        for _ in 0..MOST_QUESTIONS {
            let before = self.authority.accounts();
            let attempt = self.authority.attempt(user, peer).await?;
            let issued = self.ask(&path, &header, is_issued_token, asker).await?;
            attempt.ended(issued.is_some());
            let issued = issued.ok_or(AuthError::Denied)?;
            self.need([user]).await?;
            let opened = issued_token(&issued).and_then(|token| self.keys.lock().open(&token, clock::now()));
            let agrees =
                opened.is_some_and(|token| token.is_ok_and(|token| self.authority.accounts().bearer(&token).is_ok()));
            let accounts = self.authority.accounts();
            if agrees || accounts.hides_secret(user) || accounts.has_same_secret(&before, user) {
                return accounts.user(user).map_err(|_| AuthError::Denied);
            }
            self.read_soon(&Changed::users([user.to_owned()]), || false).await?;
        }
        Err(AuthError::EndpointAway)
    }

    async fn authenticate_token(&self, token: &Secret, asker: Asker) -> Result<Identity, AuthError> {
        let keys = self.current_keys().await?;
        let opened = match keys.open(token, clock::now()) {
            // The key may have just been changed.
            Some(Err(TokenKeyError::Foreign)) => self.renewed_keys().await?.open(token, clock::now()),
            other => other,
        };
        let read = match opened {
            Some(Ok(read)) if !read.has_other_secrets(keys.system()) => {
                self.need_for(&read).await?;
                if self.authority.accounts().hides_secrets_of(&read) {
                    self.shown(token, asker).await?;
                } else {
                    self.hear_again().await?;
                }
                read
            }
            Some(Err(TokenKeyError::Expired | TokenKeyError::Early)) => return Err(AuthError::Denied),
            // Only the endpoint can check this token.
            Some(Ok(read)) => {
                self.shown(token, asker).await?;
                self.need_for(&read).await?;
                read
            }
            Some(Err(TokenKeyError::Foreign)) | None => {
                self.shown(token, asker).await?;
                let read = read_plain(token).ok_or_else(|| keys.unreadable())?;
                self.need_for(&read).await?;
                read
            }
        };
        self.authority.accounts().bearer(&read).map_err(|_| AuthError::Denied)
    }

    /// Has the endpoint check a token.
    async fn shown(&self, token: &Secret, asker: Asker) -> Result<(), AuthError> {
        let header = header(&format!("Bearer {}", token.expose()))?;
        self.ask("/api/v3/info", &header, is_info, asker).await?.map(drop).ok_or(AuthError::Denied)
    }

    /// Ensures that all users that a token depends on are known.
    async fn need_for(&self, token: &EndpointToken) -> Result<(), AuthError> {
        self.need(token.user().into_iter().chain(token.secret_owners())).await
    }

    /// Sends a credential to the endpoint. Returns its answer if it accepts the credential, `None` if it rejects it. A
    /// 200 counts only if the answer is what an endpoint sends to a known user, and a 404 only with the endpoint's own
    /// Error; any other (a maintenance page, a captive portal, an ingress without a backend) says nothing about the
    /// credential.
    async fn ask(
        &self,
        path: &str,
        header: &HeaderValue,
        is_expected: fn(&[u8]) -> bool,
        asker: Asker,
    ) -> Result<Option<Bytes>, AuthError> {
        let question = self.upstream.get_for(asker, path, header, LONGEST_ANSWER);
        let answer = match timeout(ANSWER_TIMEOUT, question).await {
            Ok(Ok(answer)) => answer,
            // This says nothing about the endpoint.
            Ok(Err(UpstreamError::Busy { .. })) => return Err(AuthError::Unavailable),
            Ok(Err(error)) => return Err(self.undecided(&error.into())),
            Err(_) => return Err(self.undecided(&IdentityError::Late)),
        };
        self.failed.lock().checking = None;
        self.health.answered();
        match answer.status {
            StatusCode::OK if is_expected(&answer.body) => {
                self.note_heard();
                Ok(Some(answer.body))
            }
            StatusCode::OK => Err(self.undecided(&IdentityError::Unreadable { what: "a credential" })),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(None),
            _ if answer.is_missing() => Ok(None),
            status => {
                self.lines.undecided(&status);
                Err(AuthError::EndpointAway)
            }
        }
    }

    fn undecided(&self, failure: &IdentityError) -> AuthError {
        self.lines.undecided(failure);
        self.failed.lock().checking = Some((Instant::now(), AuthError::EndpointAway));
        self.health.failed(failure);
        AuthError::EndpointAway
    }
}

fn header(text: &str) -> Result<HeaderValue, AuthError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| AuthError::Denied)?;
    value.set_sensitive(true);
    Ok(value)
}
