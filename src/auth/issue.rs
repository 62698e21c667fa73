//! Issues and reads tokens.
//!
//! Contract: a token never grants more than its subject has, nor more than the token it was requested with. Its
//! restrictions are looked up again at every use, so when a role loses a claim, existing tokens lose it too.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::authority::Authority;
use super::claim::{Claim, ClaimError};
use super::credential::Secret;
use super::expiry::Expiry;
use super::identity::{Conditions, Identity, Restriction, RevokedError, SecretFingerprint, Subject};
use super::issuers::Outsider;
use super::keys::Signer;
use super::principal::{Principal, PrincipalError, PrincipalKind};
use super::state::State;
use super::token::{self, Grantor, ISSUER, MAX_TOKEN_BYTES, Payload, TokenError};
use crate::clock;

/// The maximum number of restrictions of a token, and of users who issued it.
const MAX_LINKS: usize = 8;

/// The maximum number of names in all restrictions of a token. Rights are compiled for each token.
const MAX_NAMES: usize = 256;

/// The properties of a requested token. The default grants all of the subject's rights for the configured time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenRequest {
    /// The token's lifetime ([`parse_ttl`](super::parse_ttl) parses a text).
    pub ttl: Option<Duration>,
    /// Restricts the token to these roles; an empty list means all. Roles that no role of the subject contains are left
    /// out silently, as in DRP; so are empty names, if there are others.
    pub roles: Vec<String>,
    /// Restricts the token to this scope; if any of the three parts is given, the others default to `*`.
    pub scope: Option<String>,
    /// Restricts the token to this action.
    pub action: Option<String>,
    /// Restricts the token to this object.
    pub specific: Option<String>,
}

/// The reason why a token is not issued.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum IssueError {
    /// The caller lacks a claim.
    #[error("Requires: {scope} {action} {specific}")]
    Forbidden {
        /// Scope of the missing claim.
        scope: &'static str,
        /// Action of the missing claim.
        action: &'static str,
        /// Specific of the missing claim.
        specific: String,
    },
    /// The caller's own credentials are no longer valid.
    #[error(transparent)]
    Revoked(#[from] RevokedError),
    /// The user does not exist. Reported only to callers who may issue tokens for it.
    #[error("there is no user {name:?}")]
    UnknownUser {
        /// The given name.
        name: String,
    },
    /// Not a machine's UUID.
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    /// Not a valid claim.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A list of roles without a name, which must not mean all roles.
    #[error("roles: expected a comma-separated list of names")]
    Roles,
    /// The requested lifetime is too long.
    #[error("ttl: a token can be valid for at most {} s", longest.as_secs())]
    Ttl {
        /// The longest lifetime allowed.
        longest: Duration,
    },
    /// The token has too many restrictions, names in them or issuers, or is too long.
    #[error("the token would be too long: restrict it less")]
    TooLarge,
    /// The system provides no random numbers.
    #[error("cannot get random numbers from the system")]
    Random,
}

/// A newly issued token.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The token; safe in a URL as it is.
    pub token: Secret,
    /// The time at which it expires.
    pub expires_at: Timestamp,
    /// What the token grants.
    pub info: TokenInfo,
}

/// What a token grants, to whom and until when. Contains nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TokenInfo {
    /// The token's subject.
    #[serde(serialize_with = "as_text")]
    pub principal: Principal,
    /// The time at which it was issued.
    #[serde(serialize_with = "as_text")]
    pub issued_at: Timestamp,
    /// The time at which it expires.
    #[serde(serialize_with = "as_text")]
    pub expires_at: Timestamp,
    /// The roles that it is restricted to, as far as the subject has them; `None` if it is not restricted.
    pub roles: Option<Vec<String>>,
    /// The claims that it is restricted to; each of them must allow a request.
    pub only: Vec<Claim>,
    /// The users who issued it, except the subject itself.
    pub issued_by: Vec<String>,
}

fn as_text<S: Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Authority {
    /// Issues a token for a user; the caller needs `users/token/NAME`, which every user has for itself.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(
        &self,
        caller: &Identity,
        for_user: &str,
        request: &TokenRequest,
        now: Timestamp,
    ) -> Result<Issued, IssueError> {
        self.check_issue(caller, for_user)?;
        let subject = self.user_subject(for_user)?;
        self.mint(Some(caller), subject, request, now)
    }

    /// Checks whether [`Authority::issue`] could give the caller any token for this user.
    ///
    /// # Errors
    /// [`IssueError::Forbidden`] and [`IssueError::UnknownUser`].
    pub fn check_issue(&self, caller: &Identity, for_user: &str) -> Result<(), IssueError> {
        self.require(caller, "users", for_user)?;
        self.user_subject(for_user).map(|_| ())
    }

    /// Issues a token for a machine's agent; the caller needs `machines/token/UUID`, which a machine has for itself.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue_machine(
        &self,
        caller: &Identity,
        uuid: &str,
        request: &TokenRequest,
        now: Timestamp,
    ) -> Result<Issued, IssueError> {
        let principal = Principal::runner(uuid)?;
        self.require(caller, "machines", principal.name())?;
        self.mint(Some(caller), (principal, None), request, now)
    }

    /// Issues a token without a caller. For the command line, whose user has access to the data directory.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue_local(
        &self,
        subject: &Principal,
        request: &TokenRequest,
        now: Timestamp,
    ) -> Result<Issued, IssueError> {
        let subject = match subject.kind() {
            PrincipalKind::User => self.user_subject(subject.name())?,
            PrincipalKind::Runner | PrincipalKind::Plugin => (subject.clone(), None),
        };
        self.mint(None, subject, request, now)
    }

    /// Verifies a token and returns what it grants, or exactly why it is invalid. For the command line: remote callers
    /// learn neither.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn inspect(&self, token: &Secret, now: Timestamp) -> Result<TokenInfo, TokenError> {
        let state = self.state.load();
        let header = token::read_header(token)?;
        let (payload, key) = token::verify(&state.keys, token, &header, now)?;
        let identity = identity(&payload, key)?;
        state.recheck(&identity)?;
        Ok(info(&state, &payload, &identity))
    }

    pub(super) fn verify_token(&self, token: &Secret, now: Timestamp) -> Result<Identity, TokenError> {
        let state = self.state.load();
        let header = token::read_header(token)?;
        if let Some(issuers) = state.issuers.as_ref().filter(|issuers| issuers.know(&header)) {
            return outsider(&state, issuers.verify(token, &header, now)?);
        }
        let (payload, key) = token::verify(&state.keys, token, &header, now)?;
        let identity = identity(&payload, key)?;
        state.recheck(&identity)?;
        Ok(identity)
    }

    fn require(&self, caller: &Identity, scope: &'static str, specific: &str) -> Result<(), IssueError> {
        if self.permits(caller, scope, "token", specific)? {
            return Ok(());
        }
        Err(IssueError::Forbidden { scope, action: "token", specific: specific.to_owned() })
    }

    fn user_subject(&self, name: &str) -> Result<(Principal, Option<SecretFingerprint>), IssueError> {
        let state = self.state.load();
        let (_, secret) = state.user(name).ok_or_else(|| IssueError::UnknownUser { name: name.to_owned() })?;
        Ok((Principal::user(name)?, Some(secret)))
    }

    fn mint(
        &self,
        caller: Option<&Identity>,
        (principal, own): (Principal, Option<SecretFingerprint>),
        request: &TokenRequest,
        now: Timestamp,
    ) -> Result<Issued, IssueError> {
        let until = caller.map_or(Expiry::NEVER, |caller| caller.conditions.until);
        let expires_at = self.expiry(request.ttl, now)?;
        let expires_at = until.time().map_or(expires_at, |until| until.min(expires_at));
        let payload = Payload {
            iss: ISSUER.to_owned(),
            sub: principal.to_string(),
            iat: now.as_second(),
            exp: expires_at.as_second(),
            jti: token::unique_id().map_err(|_| IssueError::Random)?,
            fingerprint: own.as_ref().map(|own| own.fingerprint),
            by: grantors(caller, own.as_ref())?,
            only: restrictions(caller, request)?,
            until: until.second(),
        };
        let state = self.state.load();
        let token = token::sign(&state.keys, &payload);
        if token.expose().len() > MAX_TOKEN_BYTES {
            return Err(IssueError::TooLarge);
        }
        let identity =
            identity(&payload, Arc::clone(&state.keys.current().signer)).expect("what was just written is well formed");
        Ok(Issued { token, expires_at, info: info(&state, &payload, &identity) })
    }

    /// Returns the expiry in whole seconds, as tokens store it. It is rounded up, so that a token lives at least as
    /// long as requested.
    fn expiry(&self, ttl: Option<Duration>, now: Timestamp) -> Result<Timestamp, IssueError> {
        let longest = self.options.max_token_ttl;
        let ttl = ttl.unwrap_or(self.options.token_ttl.min(longest));
        let begun = now.as_second() + i64::from(now.subsec_nanosecond() > 0);
        let at = i64::try_from(ttl.as_secs()).ok().and_then(|ttl| begun.checked_add(ttl));
        let at = at.filter(|_| ttl <= longest).and_then(|at| Timestamp::from_second(at).ok());
        at.ok_or(IssueError::Ttl { longest })
    }
}

/// Returns the issuers of a token: those of the caller's token, and the caller if the token is for another user.
fn grantors(caller: Option<&Identity>, own: Option<&SecretFingerprint>) -> Result<Vec<Grantor>, IssueError> {
    let Some(caller) = caller else { return Ok(Vec::new()) };
    let callers_own = caller.own_secret();
    let mut by: Vec<&SecretFingerprint> = caller.conditions.grantors.iter().chain(&callers_own).collect();
    by.retain(|secret| own.is_none_or(|own| own.user != secret.user));
    by.dedup();
    if by.len() > MAX_LINKS {
        return Err(IssueError::TooLarge);
    }
    Ok(by
        .into_iter()
        .map(|secret| Grantor { user: secret.user.to_string(), fingerprint: secret.fingerprint })
        .collect())
}

/// Returns the caller's own restrictions and the requested one, without duplicates.
fn restrictions(caller: Option<&Identity>, request: &TokenRequest) -> Result<Vec<Restriction>, IssueError> {
    let mut all: Vec<Restriction> = caller.map(|caller| caller.restrictions.to_vec()).unwrap_or_default();
    let mut roles: Vec<String> = request.roles.iter().filter(|role| !role.is_empty()).cloned().collect();
    let mut named = HashSet::new();
    roles.retain(|role| named.insert(role.clone()));
    if roles.is_empty() && !request.roles.is_empty() {
        return Err(IssueError::Roles);
    }
    let wanted = Restriction { roles: (!roles.is_empty()).then_some(roles), claim: wanted_claim(request)? };
    if (wanted.roles.is_some() || wanted.claim.is_some()) && !all.contains(&wanted) {
        all.push(wanted);
    }
    if all.len() > MAX_LINKS || all.iter().map(Restriction::names).sum::<usize>() > MAX_NAMES {
        return Err(IssueError::TooLarge);
    }
    Ok(all)
}

/// Returns the claim of the three parts if any of them is given.
fn wanted_claim(request: &TokenRequest) -> Result<Option<Claim>, ClaimError> {
    let parts = [&request.scope, &request.action, &request.specific];
    if parts.iter().all(|part| part.is_none()) {
        return Ok(None);
    }
    let [scope, action, specific] = parts.map(|part| part.as_deref().unwrap_or("*"));
    Claim::new(scope, action, specific).map(Some)
}

/// Returns the identity that a verified token gives its bearer.
fn identity(payload: &Payload, key: Arc<Signer>) -> Result<Identity, TokenError> {
    let principal: Principal = payload.sub.parse().map_err(|_| TokenError::Malformed("it has no principal"))?;
    let name: Arc<str> = principal.name().into();
    let subject = match principal.kind() {
        PrincipalKind::User if payload.fingerprint.is_none() => {
            return Err(TokenError::Malformed("it has no fingerprint of its credential"));
        }
        PrincipalKind::User => Subject::User(name),
        PrincipalKind::Runner => Subject::Runner(name),
        PrincipalKind::Plugin => Subject::Plugin(name),
    };
    let grantors = payload
        .by
        .iter()
        .map(|by| SecretFingerprint { user: by.user.as_str().into(), fingerprint: by.fingerprint })
        .collect();
    Ok(Identity {
        principal,
        expires_at: Expiry::at_second(Some(payload.exp)),
        subject,
        conditions: Conditions {
            own: payload.fingerprint,
            grantors,
            key: Some(key),
            until: Expiry::at_second(payload.until),
            ..Conditions::default()
        },
        restrictions: payload.only.clone().into(),
    })
}

/// Returns the identity for another issuer's token: a user of the store, or one with the roles that the issuer names.
fn outsider(state: &State, outsider: Outsider) -> Result<Identity, TokenError> {
    let name = outsider.user.as_str();
    let (principal, subject, own) = if let Some(roles) = outsider.roles {
        (Principal::issuer_user(name), Subject::External { roles: roles.into() }, None)
    } else {
        let (_, secret) = state.user(name).ok_or(TokenError::Revoked(RevokedError::UserRemoved))?;
        (Principal::user(name), Subject::User(secret.user), Some(secret.fingerprint))
    };
    let expires_at = Expiry::at(outsider.expires_at);
    Ok(Identity {
        principal: principal.map_err(|_| TokenError::Malformed("it has no principal"))?,
        expires_at,
        subject,
        conditions: Conditions { own, until: expires_at, ..Conditions::default() },
        restrictions: Arc::default(),
    })
}

fn info(state: &State, payload: &Payload, identity: &Identity) -> TokenInfo {
    let roles = identity.restrictions.iter().rev().find_map(|restriction| restriction.roles.as_ref());
    TokenInfo {
        principal: identity.principal.clone(),
        issued_at: clock::at_second(payload.iat),
        expires_at: clock::at_second(payload.exp),
        roles: roles.map(|roles| state.effective_roles(&identity.subject, &identity.restrictions, roles)),
        only: identity.restrictions.iter().filter_map(|restriction| restriction.claim.clone()).collect(),
        issued_by: payload.by.iter().map(|by| by.user.clone()).collect(),
    }
}
