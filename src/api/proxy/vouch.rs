//! Remembers which credentials the endpoint has accepted.
//!
//! A proxied request is not authenticated here, and a 2xx answer proves nothing: an endpoint answers `OPTIONS`, its
//! public files and more to anybody, whatever is in `Authorization`. So a credential counts as valid once the endpoint
//! has answered `GET /api/v3/info` to it, which requires one.
//!
//! Contract: acceptances are cached for [`KEPT`] as keyed hashes, at most [`MOST`] of them, shared between networks
//! ([`Acceptances`]). A valid credential that may not read `info`, as that of a narrowed token, is refused there with
//! 403: it never counts as valid, and is not checked again for [`REFUSED`]. Other rejections are not cached. Only a few
//! are checked at a time ([`AT_A_TIME`]), because invented credentials would otherwise cause unlimited requests. Of
//! those that wait, each network has one in the line: invented credentials delay others from their own network, and
//! those from elsewhere by one check for each network.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, StatusCode};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::acceptances::Acceptances;
use crate::api::lanes::Lanes;
use crate::api::query;
use crate::auth::Credential;
use crate::endpoint::http::Upstream;
use crate::places::network;

/// How long an acceptance is cached. It affects slots only, never rights.
const KEPT: Duration = Duration::from_mins(5);

/// How long a credential that was refused with 403 is not checked again.
const REFUSED: Duration = Duration::from_mins(1);

/// Maximum number of cached acceptances, and of refusals.
const MOST: usize = 16_384;

/// Maximum number of concurrent checks.
const AT_A_TIME: usize = 4;

/// Maximum length of the endpoint's answer in bytes.
const LONGEST: usize = 1 << 20;

/// A bounded cache of credentials that the endpoint has accepted, keyed by a hash.
#[derive(Debug)]
pub(in crate::api) struct Vouched {
    hashers: [RandomState; 2],
    good: Mutex<Acceptances>,
    refused: Mutex<Acceptances>,
    asking: Semaphore,
    /// The networks whose credentials wait to be checked.
    networks: Lanes,
}

impl Default for Vouched {
    fn default() -> Self {
        let (asking, networks) = (Semaphore::new(AT_A_TIME), Lanes::new(1));
        let [good, refused] = [KEPT, REFUSED].map(|age| Mutex::new(Acceptances::new(MOST, age)));
        Self { hashers: Default::default(), good, refused, asking, networks }
    }
}

impl Vouched {
    /// Returns whether a credential was accepted within [`KEPT`].
    pub(in crate::api) fn knows(&self, credential: &HeaderValue) -> bool {
        self.good.lock().has(&self.key(credential), Instant::now())
    }

    /// Returns whether the endpoint accepts a credential that a client at this address shows; checks it there unless
    /// that is known.
    pub(in crate::api) async fn ask(&self, upstream: &Upstream, credential: &HeaderValue, peer: IpAddr) -> bool {
        let (lane, longest) = (format!("{:?}", network(peer)), upstream.limits().connect);
        let asked = async {
            let _lane = self.networks.enter(&lane, longest).await?;
            let _turn = self.asking.acquire().await.ok()?;
            Some(self.check(upstream, credential, peer).await)
        };
        match self.decided(credential) {
            Some(decided) => decided,
            None => timeout(longest, asked).await.ok().flatten() == Some(true),
        }
    }

    /// Like [`ask`](Self::ask), unless the check would have to wait for others or for a slot.
    pub(in crate::api) async fn ask_if_free(
        &self,
        upstream: &Upstream,
        credential: &HeaderValue,
        peer: IpAddr,
    ) -> bool {
        if let Some(decided) = self.decided(credential) {
            return decided;
        }
        let Ok(_turn) = self.asking.try_acquire() else { return false };
        let check = self.check(upstream, credential, peer);
        upstream.has_slot_for_strangers() && timeout(upstream.limits().connect, check).await == Ok(true)
    }

    /// Checks a credential at the endpoint, unless another caller has had it checked meanwhile.
    async fn check(&self, upstream: &Upstream, credential: &HeaderValue, peer: IpAddr) -> bool {
        if let Some(decided) = self.decided(credential) {
            return decided;
        }
        let answer = upstream.get("/api/v3/info", credential, LONGEST).await;
        let status = answer.map(|answer| answer.status);
        let cache = match status {
            Ok(StatusCode::OK) => &self.good,
            Ok(StatusCode::FORBIDDEN) => &self.refused,
            _ => return false,
        };
        cache.lock().add(self.key(credential), network(peer), Instant::now());
        status.is_ok_and(|status| status.is_success())
    }

    /// Returns whether a credential counts as valid, if the endpoint has answered that lately.
    fn decided(&self, credential: &HeaderValue) -> Option<bool> {
        let is_refused = || self.refused.lock().has(&self.key(credential), Instant::now()).then_some(false);
        if self.knows(credential) { Some(true) } else { is_refused() }
    }

    fn key(&self, credential: &HeaderValue) -> [u64; 2] {
        self.hashers.each_ref().map(|hasher| hasher.hash_one(credential.as_bytes()))
    }
}

/// Returns the credential of a request as an `Authorization` header: that of the header if there is one, otherwise that
/// of the query.
pub(in crate::api) fn shown<B>(request: &Request<B>) -> Option<HeaderValue> {
    if let Some(header) = request.headers().get(AUTHORIZATION).filter(|value| !value.is_empty()) {
        return Some(header.clone());
    }
    let value = query::credential(request.uri().query())?;
    let text = match Credential::from_query(&value)? {
        Credential::Basic { user, password } => {
            format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())))
        }
        Credential::Bearer(token) => format!("Bearer {}", token.expose()),
        Credential::Certificate(_) => return None,
    };
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
pub(super) mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;
    use crate::client::{Login, Secret, SecretSource, Service, Trust};
    use crate::endpoint::http::UpstreamLimits;

    /// Returns a client for an endpoint that cannot be reached.
    pub(in crate::api::proxy) fn nowhere() -> Upstream {
        let service = Service {
            endpoint: "https://127.0.0.1:1".parse().unwrap(),
            login: Login::Token(SecretSource::Inline(Secret::new("t"))),
            trust: Trust::Ca("/nowhere/ca.pem".into()),
            receive_buffer: 0,
        };
        let second = Duration::from_secs(1);
        Upstream::new(service, UpstreamLimits { connect: second, answer: second, idle: second, requests: 4 })
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_had_checked_meanwhile_is_not_checked_again() {
        let (vouched, upstream) = (Vouched::default(), nowhere());
        let (credential, peer) = (HeaderValue::from_static("Bearer x"), IpAddr::from([192, 0, 2, 7]));
        let others = vouched.asking.acquire_many(AT_A_TIME.try_into().unwrap()).await.unwrap();
        let mut asked = pin!(vouched.ask(&upstream, &credential, peer));
        assert!((&mut asked).now_or_never().is_none(), "it waits for its turn");
        vouched.good.lock().add(vouched.key(&credential), network(peer), Instant::now());
        drop(others);
        assert!(asked.await);
        assert!(!vouched.ask(&upstream, &HeaderValue::from_static("Bearer y"), peer).await, "nobody can check it");
    }

    #[test]
    fn the_header_goes_before_the_query() {
        let of = |uri: &str, header: Option<&str>| {
            let mut request = Request::get(uri);
            if let Some(header) = header {
                request = request.header(AUTHORIZATION, header);
            }
            shown(&request.body(()).unwrap()).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(of("/a?token=t", Some("Basic eA==")).as_deref(), Some("Basic eA=="));
        assert_eq!(of("/a?token=a%3Ab", None).as_deref(), Some("Basic YTpi"));
        assert_eq!(of("/a?Token=t", None).as_deref(), Some("Bearer t"));
        assert_eq!(of("/a", None), None);
    }
}
