//! Reading users, roles, tenants and preferences from the endpoint.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;
use tokio::time::timeout;

use super::follow::Changed;
use super::{Delegation, PATIENCE, refusal};
use crate::auth::directory::{
    Directory, EndpointToken, Entries, Reader, TenantOf, TokenKey, TokenKeyFault, accounts, base_secret, read_plain,
    roles, system_secret, tenants,
};
use crate::auth::{AuthError, Secret};
use crate::client::{ClientError, Login};
use crate::clock;
use crate::upstream::{UpstreamError, Whole};

/// What the service has to hold, so that nothing is left out of what it reads.
const NEEDED: [&str; 3] = ["tenants/list/*", ROLES, "users/get/*"];
const ROLES: &str = "roles/list/*";

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
    /// Its answers leave out what the service may not read, and do not say so.
    #[error(
        "the user that hydrant is at the endpoint (upstream.username) lacks {}; the endpoint leaves out of its answers \
         what that user may not read, so give it a role with these claims", .claims.join(" and ")
    )]
    Lacks {
        /// The claims that it would need.
        claims: Vec<&'static str>,
    },
    /// Nobody can tell what the service may read.
    #[error(
        "the claims of upstream.token cannot be read here, so nobody can tell whether the endpoint leaves out tenants: give \
         its user the claim preferences/list, for the preference baseTokenSecret, or set upstream.username instead"
    )]
    Opaque,
    /// It answers with something else.
    #[error("GET {what}: the answer cannot be read")]
    Unreadable {
        /// What was asked for.
        what: &'static str,
    },
    /// It takes too long.
    #[error("the endpoint does not tell its users, roles and tenants within {} s", PATIENCE.as_secs())]
    Late,
    /// The service has no credential.
    #[error(transparent)]
    Credential(#[from] ClientError),
}

impl Trouble {
    /// Whether others will have it too; an odd answer may be about one user.
    fn is_everybodys(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Unreadable { .. })
    }
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
        let result = self.read_in_turn(changed).await;
        if result.is_ok() {
            *self.failed.lock() = None;
        }
        if matches!(result, Err(Trouble::Lacks { .. } | Trouble::Opaque)) {
            // What is known is not to be trusted until all of it has been read again.
            self.has_read.store(false, Ordering::Release);
        }
        result
    }

    async fn read_in_turn(&self, changed: &Changed) -> Result<(), Trouble> {
        let own = self.upstream.own_credential()?;
        let first = !self.has_read.load(Ordering::Acquire);
        let last = self.authority.accounts();
        let mut entries = last.entries().clone();
        let mut keys = self.keys.lock().clone();
        if changed.keys || first {
            keys = self.read_keys(keys, &own).await?;
            entries.set_key(keys.token.as_ref());
            self.take_keys(&keys, &last);
        }
        if changed.tenants || changed.roles || first || changed.users.named().any(|name| self.is_own(name)) {
            // Also where the service may have got the right to see them.
            entries.tenants = self.read_tenants(&own).await?;
        }
        let mut in_doubt = changed.roles || changed.tenants || first;
        for name in changed.users.named() {
            in_doubt |= !self.read_user(&mut entries, name, &own).await?;
        }
        if in_doubt {
            // After the rest: a claim that was lost before is seen to be missing now.
            entries.roles = read("roles", &self.get("roles", &own).await?, roles)?;
            self.check_own(&mut entries, &keys, &own).await?;
        }
        if entries != *last.entries() {
            self.authority.set_accounts(Directory::new(entries));
        }
        self.has_read.store(true, Ordering::Release);
        Ok(())
    }

    /// Puts keys in force whatever becomes of the rest of a reading: a secret that was changed is one that somebody else may have.
    fn take_keys(&self, keys: &Keys, last: &Directory) {
        *self.keys.lock() = keys.clone();
        let mut entries = last.entries().clone();
        entries.set_key(keys.token.as_ref());
        if entries != *last.entries() {
            self.authority.set_accounts(Directory::new(entries));
        }
    }

    fn is_own(&self, name: &str) -> bool {
        matches!(self.upstream.login(), Login::Password { user, .. } if user == name)
    }

    /// Sees to it that the service may read all that is read here. The endpoint answers a list with an empty one, and an object
    /// with 404, to somebody who may not.
    async fn check_own(&self, entries: &mut Entries, keys: &Keys, own: &HeaderValue) -> Result<(), Trouble> {
        let reader = match self.upstream.login() {
            Login::Password { user, .. } => Reader::User(user.clone()),
            Login::Token(token) => {
                let token = Secret::new(token.read()?.reveal());
                let opened = keys.open(&token, clock::now()).and_then(Result::ok);
                Reader::Token(Box::new(opened.or_else(|| read_plain(&token)).ok_or(Trouble::Opaque)?))
            }
        };
        if let Some(user) = reader.user() {
            self.read_user(entries, user, own).await?;
        }
        let mut claims = Directory::new(entries.clone()).lacking(&reader, &NEEDED);
        if entries.roles.is_empty() {
            // Every endpoint has roles. Without seeing them nobody can tell about the other claims.
            claims.retain(|claim| *claim == ROLES);
        }
        if claims.is_empty() { Ok(()) } else { Err(Trouble::Lacks { claims }) }
    }

    /// Reads a user; says whether the endpoint shows one.
    async fn read_user(&self, entries: &mut Entries, name: &str, own: &HeaderValue) -> Result<bool, Trouble> {
        const WHAT: &str = "users/NAME";
        let answer = self.get(&format!("users/{}", utf8_percent_encode(name, NON_ALPHANUMERIC)), own).await?;
        if answer.status == StatusCode::NOT_FOUND {
            entries.users.remove(name);
            return Ok(false);
        }
        let account = read(WHAT, &answer, accounts)?.into_iter().find(|(row, _)| row == name);
        let (name, account) = account.ok_or(Trouble::Unreadable { what: WHAT })?;
        entries.users.insert(name, account);
        Ok(true)
    }

    /// Endpoints without tenants have no such path.
    async fn read_tenants(&self, own: &HeaderValue) -> Result<BTreeMap<String, TenantOf>, Trouble> {
        let answer = self.get("tenants", own).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(BTreeMap::new());
        }
        read("tenants", &answer, tenants)
    }

    /// Without the right to read preferences there are no keys, which is no error. An endpoint that cannot tell now says nothing
    /// about those that are known.
    async fn read_keys(&self, known: Keys, own: &HeaderValue) -> Result<Keys, Trouble> {
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
        let known = self.keys.lock().clone();
        let recent = |at: Timestamp| clock::now().duration_since(at) < RENEWED;
        if known.read_at.is_some_and(recent) {
            return Ok(known);
        }
        self.read_soon(&Changed::keys()).await?;
        Ok(self.keys.lock().clone())
    }

    /// As [`read`](Self::read), for somebody who waits; one that is given up has changed nothing but keys. What has failed a moment ago is
    /// not tried again for them: anybody can come with a token.
    pub(super) async fn read_soon(&self, changed: &Changed) -> Result<(), AuthError> {
        if let Some(error) = self.failed_lately() {
            return Err(error);
        }
        let trouble = match timeout(PATIENCE, self.read(changed)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(trouble)) => trouble,
            Err(_) => Trouble::Late,
        };
        let error = refusal(&trouble);
        if trouble.is_everybodys() {
            self.note_failure(error);
        }
        Err(error)
    }

    async fn get(&self, path: &str, own: &HeaderValue) -> Result<Whole, Trouble> {
        let path = format!("/api/v3/{path}");
        let answer = timeout(PATIENCE, self.upstream.get(&path, own, LONGEST)).await.map_err(|_| Trouble::Late)?;
        Ok(answer?)
    }
}

/// What an answer says.
fn read<T>(what: &'static str, answer: &Whole, parse: impl FnOnce(&[u8]) -> Option<T>) -> Result<T, Trouble> {
    if answer.status != StatusCode::OK {
        return Err(Trouble::Refused { what, status: answer.status });
    }
    parse(&answer.body).ok_or(Trouble::Unreadable { what })
}
