//! Users, roles and tenants of a server, and tokens from its own data directory.

use std::sync::{LazyLock, OnceLock};

use hydrant::auth::{AuthOptions, Authority, PasswordHash, Store, StoreError, TokenRequest, edit_store};

use super::Hydrant;
use super::ws::{Client, Show};

/// What the users of tests have for a password.
pub const PASSWORD: &str = "correct-horse";

/// Hashing is slow on purpose; one hash does for all users.
pub static HASH: LazyLock<PasswordHash> = LazyLock::new(|| PasswordHash::make(PASSWORD).unwrap());

/// The time that the server's clock tells too.
#[allow(clippy::disallowed_methods, reason = "the server cannot be told what time it is")]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// What issues tokens beside the server, made when the first is wanted.
#[derive(Debug, Default)]
pub struct Issuer(OnceLock<Box<Authority>>);

/// The first user, which every store of tests has.
fn with_first_user(store: &mut Store) -> Result<(), StoreError> {
    store.add_user("rocketskates", PasswordHash::make("r0cketsk8ts")?, &["superuser".to_owned()])
}

impl Hydrant {
    /// A server whose store has these users, roles and tenants beside the first user.
    pub async fn with_people(toml: &str, people: impl FnOnce(&mut Store) -> Result<(), StoreError>) -> Self {
        Self::with_people_over(toml, false, people).await
    }

    /// The same, over TLS if told so.
    pub async fn with_people_over(
        toml: &str,
        tls: bool,
        people: impl FnOnce(&mut Store) -> Result<(), StoreError>,
    ) -> Self {
        super::canary::validator(PASSWORD);
        let dir = tempfile::tempdir().unwrap();
        let change = |store: &mut Store| with_first_user(store).and_then(|()| people(store));
        edit_store(&dir.path().join("data"), change).unwrap();
        Self::start_in(dir, toml, if tls { "self-signed" } else { "off" }).await
    }

    /// Changes the store of the running server and does not wait for it to notice.
    pub fn edit(&self, change: impl FnOnce(&mut Store) -> Result<(), StoreError>) {
        edit_store(&self.data_dir(), change).unwrap();
        super::canary::guard_data(&self.data_dir());
    }

    /// A token for anybody, by the keys of the data directory.
    pub fn issue(&self, principal: &str, request: &TokenRequest) -> String {
        let open = || Box::new(Authority::open_existing(&self.data_dir(), AuthOptions::default()).unwrap());
        let authority = self.issuer.0.get_or_init(open);
        authority.reload().unwrap();
        let now = now();
        let issued = authority.issue_local(&principal.parse().unwrap(), request, now).unwrap();
        super::canary::validator(issued.token.expose());
        issued.token.expose().to_owned()
    }

    /// A websocket of somebody with a token that is restricted like this.
    pub async fn connect_as(&self, principal: &str, request: &TokenRequest) -> Client {
        let bearer = format!("Bearer {}", self.issue(principal, request));
        Box::pin(self.try_connect(&Show::Header(&bearer), &[])).await.unwrap()
    }
}
