//! A data directory with users, and the keys to forge with.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hydrant::auth::{
    AuthError, AuthOptions, Authority, Credential, Identity, PasswordHash, Secret, Store, StoreError, ThrottleLimits,
    TokenRequest, edit_store,
};
use hydrant::clock::ClockReading;
use jiff::Timestamp;
use tempfile::TempDir;

pub(crate) const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
/// How long a test waits for something that must happen; far more than a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const PASSWORD: &str = "CANARY-correct-horse";
pub(crate) const UUID: &str = "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";

/// Hashing is slow on purpose; most tests do with one hash.
pub(crate) static HASH: LazyLock<PasswordHash> = LazyLock::new(|| PasswordHash::make(PASSWORD).unwrap());

/// A hash of the same password that costs nothing.
pub(crate) static CHEAP: LazyLock<PasswordHash> = LazyLock::new(|| {
    let params = Params::new(8, 1, 1, None).unwrap();
    let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password(PASSWORD.as_bytes()).unwrap();
    PasswordHash::parse(&hash.to_string()).unwrap()
});

pub(crate) fn now() -> Timestamp {
    at(0)
}

/// So many seconds after the start of the tests' time, which is long ago: whoever looks at a clock instead of being
/// told the time takes every token for expired.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// A moment of the tests' time by both clocks.
pub(crate) fn clocks(wall: Timestamp) -> ClockReading {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let passed = Duration::try_from(wall.duration_since(now())).expect("not before the start");
    ClockReading { wall, instant: *START + passed }
}

pub(crate) fn options() -> AuthOptions {
    let throttle = ThrottleLimits { per_minute: 1_000_000, per_network: 1_000_000, ..ThrottleLimits::default() };
    AuthOptions { throttle, ..AuthOptions::default() }
}

pub(crate) struct Realm {
    pub(crate) dir: TempDir,
    pub(crate) authority: Arc<Authority>,
}

impl Realm {
    pub(crate) fn new(change: impl FnOnce(&mut Store) -> Result<(), StoreError>) -> Self {
        Self::with(options(), change)
    }

    pub(crate) fn with(options: AuthOptions, change: impl FnOnce(&mut Store) -> Result<(), StoreError>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        edit_store(dir.path(), change).unwrap();
        let (authority, opened) = Authority::open(dir.path(), options).unwrap();
        assert!(!opened.created);
        Self { dir, authority: Arc::new(authority) }
    }

    /// `root` is a superuser, `alice` an operator of machines, `bob` has no role.
    pub(crate) fn usual() -> Self {
        Self::new(usual)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn edit(&self, change: impl FnOnce(&mut Store) -> Result<(), StoreError>) {
        edit_store(self.path(), change).unwrap();
        assert!(self.authority.reload().unwrap());
    }

    pub(crate) fn password(&self, user: &str, password: &str) -> Result<Identity, AuthError> {
        let credential = Credential::Basic { user: user.to_owned(), password: Secret::new(password) };
        self.authority.authenticate(&credential, PEER, clocks(now()))
    }

    pub(crate) fn user(&self, user: &str) -> Identity {
        self.password(user, PASSWORD).unwrap()
    }

    pub(crate) fn bearer(&self, token: &str, now: Timestamp) -> Result<Identity, AuthError> {
        self.authority.authenticate(&Credential::Bearer(Secret::new(token)), PEER, clocks(now))
    }

    /// A token that a user gets for itself.
    pub(crate) fn token(&self, user: &str, request: &TokenRequest) -> String {
        let issued = self.authority.issue(&self.user(user), user, request, now()).unwrap();
        issued.token.expose().to_owned()
    }

    pub(crate) fn keys(&self) -> toml::Table {
        std::fs::read_to_string(self.path().join("token-keys.toml")).unwrap().parse().unwrap()
    }

    /// The id and the bytes of the key that tokens are signed with.
    pub(crate) fn key(&self) -> (String, Vec<u8>) {
        let keys = self.keys();
        let key = &keys["keys"][0];
        let secret = URL_SAFE_NO_PAD.decode(key["secret"].as_str().unwrap()).unwrap();
        (key["id"].as_str().unwrap().to_owned(), secret)
    }
}

pub(crate) fn usual(store: &mut Store) -> Result<(), StoreError> {
    store.set_role("operator", vec!["machines/*/*".parse().unwrap(), "tasks/get/*".parse().unwrap()])?;
    store.set_role("reader", vec!["machines/get,list/*".parse().unwrap()])?;
    store.set_role("stranger", vec!["profiles/*/*".parse().unwrap()])?;
    store.add_user("root", HASH.clone(), &["superuser".to_owned()])?;
    store.add_user("alice", HASH.clone(), &["operator".to_owned()])?;
    store.add_user("bob", HASH.clone(), &[])
}

pub(crate) fn ttl(seconds: u64) -> TokenRequest {
    TokenRequest { ttl: Some(Duration::from_secs(seconds)), ..TokenRequest::default() }
}

pub(crate) fn only(scope: &str, action: &str, specific: &str) -> TokenRequest {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    TokenRequest { scope: some(scope), action: some(action), specific: some(specific), ..TokenRequest::default() }
}
