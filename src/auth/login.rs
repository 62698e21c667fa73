//! Letting people in.
//!
//! A token costs one HMAC. A password costs a hash of tens of milliseconds and 19 MiB: so a right one is known again for a
//! minute by a keyed hash (drpcli -x sends it with every request), wrong ones are held back by [`Throttle`], and
//! [`Authority::login`] hashes on a few threads of its own that yield to all others, those who deliver above all.
//!
//! Contract: an unknown user costs the same as a known one. Nobody is told which it was, and nothing that was sent shows
//! in an error. What a login costs is accounted even if the caller does not wait for the end of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::oneshot;

use super::authority::Authority;
use super::certificate::ClientCertificate;
use super::credential::{Credential, CredentialError, Secret};
use super::identity::{Conditions, Identity, Subject, Witness};
use super::password::{MAX_PASSWORD_BYTES, PasswordHash};
use super::principal::{Principal, PrincipalKind};
use crate::clock;

/// Why somebody is not let in. No variant tells whether the user exists.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum AuthError {
    /// There are no credentials.
    #[error("credentials are required")]
    Missing,
    /// There are some, but not readable ones.
    #[error(transparent)]
    Malformed(#[from] CredentialError),
    /// They are not good.
    #[error("credentials are not valid")]
    Denied,
    /// Too many wrong passwords from there.
    #[error("too many attempts, retry after {} s", retry_after.as_secs())]
    Throttled {
        /// When to come again; at least a second.
        retry_after: Duration,
    },
    /// More logins are waiting than the hash workers can get through.
    #[error("too many logins at once, retry later")]
    Unavailable,
    /// The endpoint has to be asked about them, and does not answer.
    #[error("the endpoint cannot be asked about these credentials, retry later")]
    EndpointAway,
    /// The endpoint does not let hydrant see all that rights depend on: this claim, perhaps among others.
    #[error(
        "the user that hydrant is at the endpoint (upstream.username) lacks the claim {0}; an administrator has to give it"
    )]
    EndpointHides(&'static str),
    /// The endpoint takes the token, but what it grants cannot be read.
    #[error(
        "the endpoint takes this token, but its claims cannot be read here: the user that hydrant is at the endpoint \
         (upstream.username) needs the claim preferences/list, for the preference baseTokenSecret"
    )]
    Unreadable,
}

impl AuthError {
    /// The HTTP status that says so.
    pub fn status(&self) -> u16 {
        match self {
            Self::Missing | Self::Malformed(_) => 401,
            Self::Denied | Self::Unreadable => 403,
            Self::Throttled { .. } => 429,
            Self::Unavailable | Self::EndpointAway | Self::EndpointHides(_) => 503,
        }
    }
}

/// A password that has to be hashed.
struct Attempt {
    password: Secret,
    hash: PasswordHash,
    /// Whose hash it is; nothing if it is a decoy.
    known: Option<(Principal, Witness)>,
    /// The user's name for the throttle.
    name: u64,
    cache_key: [u8; 32],
    peer: IpAddr,
}

enum Begun {
    Done(Identity),
    Hash(Box<Attempt>),
}

impl Authority {
    /// Checks credentials. Blocks for as long as hashing a password takes; servers use [`Authority::login`].
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn authenticate(&self, credential: &Credential, peer: IpAddr, now: Timestamp) -> Result<Identity, AuthError> {
        match self.begin(credential, peer, now)? {
            Begun::Done(identity) => Ok(identity),
            Begun::Hash(attempt) => self.finish(*attempt, now),
        }
    }

    /// Checks credentials without blocking: passwords are hashed on threads for that, a bounded number at once.
    ///
    /// # Errors
    /// [`AuthError`]; [`AuthError::Unavailable`] if too many are waiting.
    pub async fn login(self: &Arc<Self>, credential: Credential, peer: IpAddr) -> Result<Identity, AuthError> {
        let now = clock::now();
        let attempt = match self.begin(&credential, peer, now)? {
            Begun::Done(identity) => return Ok(identity),
            Begun::Hash(attempt) => attempt,
        };
        let (tell, outcome) = oneshot::channel();
        let authority = Arc::downgrade(self);
        let name = attempt.name;
        let queued = self.logins.hashers.run(move || {
            // Weak, or the threads would keep alive what they end with.
            let Some(authority) = authority.upgrade() else { return };
            // Who does not wait any more has hung up; the attempt counts all the same.
            let _ = tell.send(authority.finish(*attempt, now));
        });
        queued.map_err(|_| {
            // Nothing was tried: it must not count as a guess.
            self.logins.throttle.lock().undecided(name, peer);
            AuthError::Unavailable
        })?;
        outcome.await.unwrap_or(Err(AuthError::Unavailable))
    }

    /// Asks whether a password may be tried that is not checked here.
    ///
    /// # Errors
    /// [`AuthError::Throttled`].
    pub fn begin_attempt(&self, user: &str, peer: IpAddr) -> Result<(), AuthError> {
        let name = self.logins.hasher.short(&[user.as_bytes()]);
        let taken = self.logins.throttle.lock().attempt(name, peer, clock::now());
        taken.map_err(|retry_after| AuthError::Throttled { retry_after })
    }

    /// Tells how such a try has ended; nothing if nobody could tell.
    pub fn end_attempt(&self, user: &str, peer: IpAddr, right: Option<bool>) {
        let name = self.logins.hasher.short(&[user.as_bytes()]);
        let mut throttle = self.logins.throttle.lock();
        match right {
            Some(true) => throttle.passed(name, peer),
            Some(false) => throttle.failed(name, peer, clock::now()),
            None => throttle.undecided(name, peer),
        }
    }

    /// Everything that does not take long.
    fn begin(&self, credential: &Credential, peer: IpAddr, now: Timestamp) -> Result<Begun, AuthError> {
        match credential {
            Credential::Bearer(token) => self.verify_token(token, now).map(Begun::Done).map_err(|_| AuthError::Denied),
            Credential::Basic { user, password } => self.begin_password(user, password, peer, now),
            Credential::Certificate(certificate) => self.certified(certificate, now).map(Begun::Done),
        }
    }

    /// A user of the store, a machine or a plugin, as the certificate says; it is good for as long as the certificate.
    fn certified(&self, certificate: &ClientCertificate, now: Timestamp) -> Result<Identity, AuthError> {
        let holder = certificate.holder(self.options.certificate_name, now);
        let (principal, until) = holder.ok_or(AuthError::Denied)?;
        let (subject, own) = match principal.kind() {
            PrincipalKind::User => {
                let state = self.state.load();
                let (_, witness) = state.user(principal.name()).ok_or(AuthError::Denied)?;
                (Subject::User(Arc::clone(&witness.user)), Some(witness))
            }
            PrincipalKind::Runner => (Subject::Runner(principal.name().into()), None),
            PrincipalKind::Plugin => (Subject::Plugin(principal.name().into()), None),
        };
        let conditions = Conditions { own, ..Conditions::default() };
        Ok(Identity { principal, expires_at: Some(until), subject, conditions, restrictions: Arc::default() })
    }

    fn begin_password(&self, user: &str, password: &Secret, peer: IpAddr, now: Timestamp) -> Result<Begun, AuthError> {
        if password.expose().len() > MAX_PASSWORD_BYTES {
            return Err(AuthError::Denied);
        }
        let logins = &self.logins;
        let state = self.state.load();
        let found = state.user(user).and_then(|(row, witness)| Some((row.password.clone()?, witness)));
        let stamp = found.as_ref().map_or(&[][..], |(_, witness)| witness.stamp.bytes());
        let cache_key = logins.hasher.hash(&[user.as_bytes(), stamp, password.expose().as_bytes()]);
        let name = logins.hasher.short(&[user.as_bytes()]);
        let known = found.as_ref().and_then(|(_, witness)| Some((Principal::user(user).ok()?, witness.clone())));
        if let Some((principal, witness)) = &known
            && logins.knows(&cache_key, now)
        {
            return Ok(Begun::Done(password_identity(principal.clone(), witness.clone())));
        }
        let taken = logins.throttle.lock().attempt(name, peer, now);
        taken.map_err(|retry_after| AuthError::Throttled { retry_after })?;
        let hash = match found {
            Some((hash, _)) => hash,
            None => state.decoy(name).unwrap_or(&logins.decoy).clone(),
        };
        Ok(Begun::Hash(Box::new(Attempt { password: password.clone(), hash, known, name, cache_key, peer })))
    }

    /// The part that takes long.
    fn finish(&self, attempt: Attempt, now: Timestamp) -> Result<Identity, AuthError> {
        let right = attempt.hash.verify(attempt.password.expose());
        let logins = &self.logins;
        // A decoy may be somebody's hash and the password may be that one's: it counts for nothing.
        let Some((principal, witness)) = attempt.known.filter(|_| right) else {
            logins.throttle.lock().failed(attempt.name, attempt.peer, now);
            return Err(AuthError::Denied);
        };
        logins.throttle.lock().passed(attempt.name, attempt.peer);
        logins.remember(attempt.cache_key, now, self.options.password_cache);
        Ok(password_identity(principal, witness))
    }
}

fn password_identity(principal: Principal, witness: Witness) -> Identity {
    Identity {
        principal,
        expires_at: None,
        subject: Subject::User(Arc::clone(&witness.user)),
        conditions: Conditions { own: Some(witness), ..Conditions::default() },
        restrictions: Arc::default(),
    }
}
