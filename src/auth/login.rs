//! Logging in.
//!
//! Verifying a token costs one HMAC. Verifying a password costs tens of milliseconds and 19 MiB. Therefore a correct
//! password is recognized by a keyed hash for a minute after its last use (`drpcli -x` sends it with every request),
//! equal attempts that arrive together from one address are hashed once, failed logins are rate-limited per user and
//! network, and [`Authority::login`] hashes on a few threads of its own, in an order in which no client shuts out
//! another.
//!
//! Contract: an unknown user costs as much time as a known one, and the caller is never told which it was. No error
//! repeats anything that was sent. The cost of a password is accounted for even if the caller does not wait for the
//! result. A password is recognized only at the address where it was accepted: if it were elsewhere, others could try
//! any number of passwords there, because only the right one would be accepted although they are throttled.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;

use super::authority::Authority;
use super::certificate::ClientCertificate;
use super::checker::PasswordChecker;
use super::credential::{Credential, CredentialError, Secret};
use super::expiry::Expiry;
use super::identity::{Conditions, Identity, SecretFingerprint, Subject};
use super::keys::address_bytes;
use super::password::{MAX_PASSWORD_BYTES, PasswordHash};
use super::principal::{Principal, PrincipalKind};
use super::queue::{Attempt, Decision};
use super::throttle::{Held, Outcome};
use super::token::MAX_TOKEN_BYTES;
use crate::clock::{self, ClockReading};

/// The reason why credentials are not accepted. No variant reveals whether the user exists.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum AuthError {
    /// No credentials were sent.
    #[error("credentials are required")]
    Missing,
    /// The credentials cannot be parsed.
    #[error(transparent)]
    Malformed(#[from] CredentialError),
    /// The credentials are not valid.
    #[error("credentials are not valid")]
    Denied,
    /// Too many wrong passwords from this network.
    #[error("too many failed logins; try again after {} s", retry_after.as_secs())]
    Throttled {
        /// The time until the next attempt is allowed; at least a second.
        retry_after: Duration,
    },
    /// More logins are queued than the hash workers can process.
    #[error("too many logins at the same time; try again later")]
    Unavailable,
    /// Only the endpoint can check the credentials, and it does not respond.
    #[error("the endpoint cannot check these credentials now; try again later")]
    EndpointAway,
    /// The endpoint does not let hydrant read all that rights depend on: this claim is missing, perhaps among others.
    #[error(
        "hydrant's own user at the endpoint (upstream.username) lacks the claim {0}; an administrator must grant it"
    )]
    EndpointHides(&'static str),
    /// The endpoint accepts the token, but its claims cannot be read.
    #[error(
        "the endpoint accepts this token, but hydrant cannot read its claims: hydrant's own user at the endpoint \
         (upstream.username) needs the claim preferences/list, to read the preference baseTokenSecret"
    )]
    Unreadable,
}

impl AuthError {
    /// Returns the HTTP status of the response.
    pub fn status(&self) -> u16 {
        match self {
            Self::Missing | Self::Malformed(_) => 401,
            Self::Denied | Self::Unreadable => 403,
            Self::Throttled { .. } => 429,
            Self::Unavailable | Self::EndpointAway | Self::EndpointHides(_) => 503,
        }
    }
}

/// A password that is checked elsewhere. Counts as wrong only if [`PasswordAttempt::ended`] reports it.
#[derive(Debug)]
pub struct PasswordAttempt<'a> {
    checker: &'a PasswordChecker,
    name: u64,
    peer: IpAddr,
    outcome: Outcome,
}

impl PasswordAttempt<'_> {
    /// Reports whether the password was right.
    pub fn ended(mut self, right: bool) {
        self.outcome = if right { Outcome::Right } else { Outcome::Wrong };
    }
}

impl Drop for PasswordAttempt<'_> {
    fn drop(&mut self) {
        self.checker.settle(self.name, self.peer, self.outcome, clock::instant());
    }
}

enum Begun {
    Done(Box<Identity>),
    Hash(Box<Pending>),
}

/// A password that has to be hashed.
struct Pending {
    attempt: Attempt,
    /// The user it is checked for; `None` if there is no such user.
    known: Option<(Principal, SecretFingerprint)>,
}

impl Authority {
    /// Checks credentials. Blocks while it hashes a password; servers use [`Authority::login`].
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn authenticate(
        &self,
        credential: &Credential,
        peer: IpAddr,
        now: ClockReading,
    ) -> Result<Identity, AuthError> {
        match self.begin(credential, peer, now)? {
            Begun::Done(identity) => Ok(*identity),
            Begun::Hash(pending) => outcome(self.checker.check_here(&pending.attempt, now.instant), pending.known),
        }
    }

    /// Checks credentials without blocking: a bounded number of dedicated threads hash passwords.
    ///
    /// # Errors
    /// [`AuthError`]; [`AuthError::Unavailable`] if too many logins are queued.
    pub async fn login(&self, credential: Credential, peer: IpAddr) -> Result<Identity, AuthError> {
        let now = clock::both();
        match self.begin(&credential, peer, now)? {
            Begun::Done(identity) => Ok(*identity),
            Begun::Hash(pending) => {
                let Pending { attempt, known } = *pending;
                outcome(self.checker.check(attempt, now.instant).await, known)
            }
        }
    }

    /// Waits until a password that is checked elsewhere may be tried. Whether it may is undecided while other attempts
    /// of that user or network are in progress, because all of them could be wrong.
    ///
    /// # Errors
    /// [`AuthError::Throttled`].
    pub async fn attempt(&self, user: &str, peer: IpAddr) -> Result<PasswordAttempt<'_>, AuthError> {
        let name = self.hasher.short(&[user.as_bytes()]);
        loop {
            let mut settled = std::pin::pin!(self.checker.settled());
            // From here on the end of any attempt wakes this task.
            settled.as_mut().enable();
            match self.checker.reserve(name, peer, clock::instant()) {
                Ok(()) => {
                    return Ok(PasswordAttempt { checker: &self.checker, name, peer, outcome: Outcome::Undecided });
                }
                Err(Held::For(retry_after)) => return Err(AuthError::Throttled { retry_after }),
                Err(Held::Busy) => settled.await,
            }
        }
    }

    /// Returns the number of credentials verified since the start. Those of a connection that has shown them before are
    /// not verified again ([`Remembered`](super::Remembered)).
    pub fn credentials_verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    /// Returns the number of passwords hashed since the start.
    pub fn passwords_hashed(&self) -> u64 {
        self.checker.hashed()
    }

    /// Returns the number of logins that wait for a password to be hashed.
    pub fn logins_waiting(&self) -> usize {
        self.checker.waiting()
    }

    /// Performs all checks that do not take long.
    fn begin(&self, credential: &Credential, peer: IpAddr, now: ClockReading) -> Result<Begun, AuthError> {
        self.verified.fetch_add(1, Ordering::Relaxed);
        match credential {
            Credential::Bearer(token) if token.expose().len() > MAX_TOKEN_BYTES => Err(CredentialError::TooLong.into()),
            Credential::Bearer(token) => self.verify_token(token, now.wall).map(done).map_err(|_| AuthError::Denied),
            Credential::Basic { user, password } => self.begin_password(user, password, peer, now.instant),
            Credential::Certificate(certificate) => self.certified(certificate, now.wall).map(done),
        }
    }

    /// Returns the identity of the user, machine or plugin that a certificate names; it expires with the certificate.
    fn certified(&self, certificate: &ClientCertificate, now: Timestamp) -> Result<Identity, AuthError> {
        let holder = certificate.holder(self.options.certificate_name, now);
        let (principal, until) = holder.ok_or(AuthError::Denied)?;
        let (subject, own) = match principal.kind() {
            PrincipalKind::User => {
                let state = self.state.load();
                let (_, secret) = state.user(principal.name()).ok_or(AuthError::Denied)?;
                (Subject::User(secret.user), Some(secret.fingerprint))
            }
            PrincipalKind::Runner => (Subject::Runner(principal.name().into()), None),
            PrincipalKind::Plugin => (Subject::Plugin(principal.name().into()), None),
        };
        let until = Expiry::at(until);
        let conditions = Conditions { own, until, ..Conditions::default() };
        Ok(Identity { principal, expires_at: until, subject, conditions, restrictions: Arc::default() })
    }

    fn begin_password(&self, user: &str, password: &Secret, peer: IpAddr, now: Instant) -> Result<Begun, AuthError> {
        if password.expose().len() > MAX_PASSWORD_BYTES {
            return Err(AuthError::Denied);
        }
        let state = self.state.load();
        let found = state.user(user).and_then(|(row, secret)| Some((row.password.clone()?, secret)));
        let name = self.hasher.short(&[user.as_bytes()]);
        let key = self.password_key(user, found.as_ref(), password, peer);
        let (hash, known) = match found {
            Some((hash, secret)) => (hash, Principal::user(user).ok().map(|principal| (principal, secret))),
            None => (state.decoy(name).unwrap_or(&self.decoy).clone(), None),
        };
        if known.is_some() && self.checker.knows(&key, now) {
            return outcome(Decision::Right, known).map(done);
        }
        let attempt =
            Attempt { password: password.clone(), hash, exists: known.is_some(), name, key, peer, seen: false };
        Ok(Begun::Hash(Box::new(Pending { attempt, known })))
    }

    /// Returns the key under which a right password of a user is cached for an address.
    pub(super) fn key_of_password(&self, user: &str, password: &Secret, peer: IpAddr) -> [u8; 32] {
        let state = self.state.load();
        let found = state.user(user).and_then(|(row, secret)| Some((row.password.clone()?, secret)));
        self.password_key(user, found.as_ref(), password, peer)
    }

    /// Returns a hash of a password, all that it is checked against, and the address that it comes from.
    fn password_key(
        &self,
        user: &str,
        found: Option<&(PasswordHash, SecretFingerprint)>,
        password: &Secret,
        peer: IpAddr,
    ) -> [u8; 32] {
        let (hash, fingerprint) =
            found.map_or(("", &[][..]), |(hash, secret)| (hash.text(), secret.fingerprint.bytes()));
        let password = password.expose().as_bytes();
        self.hasher.hash(&[user.as_bytes(), hash.as_bytes(), fingerprint, password, &address_bytes(peer)])
    }
}

fn done(identity: Identity) -> Begun {
    Begun::Done(Box::new(identity))
}

/// Returns the login's result for a decision on its password.
fn outcome(decision: Decision, known: Option<(Principal, SecretFingerprint)>) -> Result<Identity, AuthError> {
    match (decision, known) {
        (Decision::Right, Some((principal, secret))) => Ok(password_identity(principal, secret)),
        (Decision::Right | Decision::Wrong, _) => Err(AuthError::Denied),
        (Decision::Throttled(retry_after), _) => Err(AuthError::Throttled { retry_after }),
        (Decision::Crowded, _) => Err(AuthError::Unavailable),
    }
}

fn password_identity(principal: Principal, secret: SecretFingerprint) -> Identity {
    Identity {
        principal,
        expires_at: Expiry::NEVER,
        subject: Subject::User(secret.user),
        conditions: Conditions { own: Some(secret.fingerprint), ..Conditions::default() },
        restrictions: Arc::default(),
    }
}
