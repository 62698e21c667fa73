//! Client certificates as credentials, over real TLS.

use crate::common::http::{Http, Reply};
use crate::common::socket::{self, Socket};
use crate::common::ws::Show;
use crate::common::{Hydrant, basic, people::HASH, people::PASSWORD};
use hydrant::auth::{PasswordHash, Store, StoreError};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;

const UUID: &str = "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";

/// An authority that signs clients' certificates.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir }
    }

    /// The setting that names it.
    fn setting(&self) -> String {
        format!("tls_client_ca = \"{}\"\n", self.dir.path().join("ca.pem").display())
    }

    /// A connection with a certificate of this authority.
    async fn connect(&self, server: &Hydrant, change: impl FnOnce(&mut CertificateParams)) -> std::io::Result<Socket> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        socket::connect_as(server.address(), vec![certificate.der().clone()], key).await
    }

    async fn named(&self, server: &Hydrant, name: &str) -> Http {
        let socket = self.connect(server, |params| params.distinguished_name.push(DnType::CommonName, name)).await;
        Http::over(socket.unwrap(), server.address()).await
    }
}

fn people(store: &mut Store) -> Result<(), StoreError> {
    store.set_role("reader", vec!["machines/get,list/*".parse().unwrap()])?;
    store.add_user("alice", HASH.clone(), &["reader".to_owned()])?;
    store.add_user("bob", HASH.clone(), &[])
}

async fn server(toml: &str) -> Hydrant {
    Hydrant::with_people_over(toml, true, people).await
}

async fn get(http: &mut Http, path: &str, headers: &[(&str, &str)]) -> Reply {
    http.request("GET", path, headers, "").await
}

/// Who the server takes the caller for: the only user whose token it may have without further rights.
async fn status_of_token(http: &mut Http, user: &str, headers: &[(&str, &str)]) -> u16 {
    get(http, &format!("/api/v3/users/{user}/token"), headers).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_lets_its_subject_in_and_nobody_else() {
    let ca = Ca::new("lab");
    let server = server(&ca.setting()).await;
    for name in ["alice", "user:alice"] {
        let mut alice = ca.named(&server, name).await;
        assert_eq!(status_of_token(&mut alice, "alice", &[]).await, 200, "{name}");
        assert_eq!(status_of_token(&mut alice, "bob", &[]).await, 403, "rights are those of the user in the store");
    }
    for nobody in ["carol", "user:carol", "root:alice", "runner:alice", "al ice", "*"] {
        let mut http = ca.named(&server, nobody).await;
        let refused = get(&mut http, "/api/v3/info", &[]).await;
        assert_eq!(refused.error(403), "credentials are not valid", "{nobody}");
    }
    let mut none = Http::connect(server.address(), true).await;
    assert_eq!(get(&mut none, "/api/v3/info", &[]).await.status, 401, "a certificate is not demanded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_by_certificate_sees_what_its_user_may() {
    let ca = Ca::new("lab");
    let server = server(&ca.setting()).await;
    let socket =
        ca.connect(&server, |params| params.distinguished_name.push(DnType::CommonName, "alice")).await.unwrap();
    let mut alice = server.handshake(socket, &Show::Nothing, &[]).await.unwrap();
    alice.say("register *.*.*").await;
    assert_eq!(alice.answer("register", "*.*.*").await.principal, "user:alice");
    server.announce("profiles", "update", "p").await;
    server.announce("machines", "update", "m").await;
    assert_eq!(alice.event().await.name(), "machines.update.m");
    let listed = server.request("GET", "/api/v3/connections?Principal=user:alice", &[], "").await.json();
    assert_ne!(listed[0]["ExpiresAt"], "0001-01-01T00:00:00Z", "it ends with the certificate: {listed}");
    server.edit(|store| store.remove_user("alice"));
    assert_eq!(alice.closed().await.0, 1008);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explicit_credentials_win_even_if_they_are_bad() {
    let ca = Ca::new("lab");
    let server = server(&ca.setting()).await;
    let mut http = ca.named(&server, "alice").await;
    let bob = basic(&format!("bob:{PASSWORD}"));
    assert_eq!(status_of_token(&mut http, "bob", &[("authorization", &bob)]).await, 200);
    assert_eq!(status_of_token(&mut http, "alice", &[("authorization", &bob)]).await, 403);
    assert_eq!(get(&mut http, "/api/v3/info", &[("authorization", "Bearer nonsense")]).await.status, 403);
    assert_eq!(get(&mut http, "/api/v3/info", &[("authorization", "Digest x")]).await.status, 401);
    assert_eq!(get(&mut http, "/api/v3/info?token=nonsense", &[]).await.status, 403);
    assert_eq!(get(&mut http, "/api/v3/info?token=", &[]).await.status, 200, "an empty one is none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_adds_it_by_itself_needs_the_right_origin() {
    let ca = Ca::new("lab");
    let server = server(&format!("{}allowed_origins = [\"https://portal.example.com\"]", ca.setting())).await;
    let own = format!("https://{}", server.address());
    for (origin, status) in
        [("https://evil.example.com", 403), ("https://portal.example.com", 200), (own.as_str(), 200)]
    {
        let mut http = ca.named(&server, "alice").await;
        assert_eq!(get(&mut http, "/api/v3/info", &[("origin", origin)]).await.status.as_u16(), status, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_and_plugins_have_certificates_too() {
    let ca = Ca::new("lab");
    let server = server(&format!("{}tls_client_name = \"san\"", ca.setting())).await;
    let with = async |name: SanType, common: &str| {
        let change = |params: &mut CertificateParams| {
            params.distinguished_name.push(DnType::CommonName, common);
            params.subject_alt_names = vec![name];
        };
        Http::over(ca.connect(&server, change).await.unwrap(), server.address()).await
    };
    let uri = |text: String| SanType::URI(text.try_into().unwrap());
    let mut runner = with(uri(format!("runner:{UUID}")), "alice").await;
    assert_eq!(get(&mut runner, &format!("/api/v3/machines/{UUID}/token"), &[]).await.status, 200);
    assert_eq!(status_of_token(&mut runner, "alice", &[]).await, 403, "the common name does not count then");
    let mut plugin = with(uri("plugin:ipmi".to_owned()), "x").await;
    assert_eq!(status_of_token(&mut plugin, "alice", &[]).await, 200, "a plugin may do everything");
    let mut alice = with(SanType::DnsName("alice".try_into().unwrap()), "bob").await;
    assert_eq!(status_of_token(&mut alice, "alice", &[]).await, 200);
    let mut nothing = ca.named(&server, "alice").await;
    assert_eq!(get(&mut nothing, "/api/v3/info", &[]).await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_others_and_of_other_times_get_no_connection() {
    let (ca, other) = (Ca::new("lab"), Ca::new("lab"));
    let server = server(&ca.setting()).await;
    let refused = "hydrant_handshakes_rejected_total{reason=\"tls\"}";
    let alice = |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, "alice");
    let late = |params: &mut CertificateParams| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        alice(params);
    };
    let early = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2999, 1, 1);
        alice(params);
    };
    assert!(no_answer(other.connect(&server, alice).await, &server).await, "another authority of the same name");
    server.until(refused, 1).await;
    assert!(no_answer(ca.connect(&server, late).await, &server).await, "expired");
    assert!(no_answer(ca.connect(&server, early).await, &server).await, "not yet valid");
    server.until(refused, 3).await;
    assert!(!no_answer(ca.connect(&server, alice).await, &server).await);
}

/// How an operator excludes all certificates of an authority, without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_authority_is_in_force_for_new_handshakes() {
    let (former, next) = (Ca::new("former"), Ca::new("next"));
    let server = server(&former.setting()).await;
    let mut kept = former.named(&server, "alice").await;
    assert_eq!(status_of_token(&mut kept, "alice", &[]).await, 200);
    let file = former.dir.path().join("ca.pem");
    std::fs::write(&file, "nothing of use").unwrap();
    server.until("hydrant_change_not_in_force{file=\"certificate\"}", 1).await;
    assert_eq!(status_of_token(&mut former.named(&server, "alice").await, "alice", &[]).await, 200, "it stays");
    std::fs::copy(next.dir.path().join("ca.pem"), &file).unwrap();
    server.until("hydrant_certificate_reloads_total{outcome=\"taken\"}", 1).await;
    let alice = |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, "alice");
    assert!(no_answer(former.connect(&server, alice).await, &server).await, "its certificates are worth nothing now");
    assert_eq!(status_of_token(&mut next.named(&server, "alice").await, "alice", &[]).await, 200);
    assert_eq!(status_of_token(&mut kept, "alice", &[]).await, 200, "an open connection goes on");
}

/// Whether the server hangs up instead of answering.
async fn no_answer(socket: std::io::Result<Socket>, server: &Hydrant) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut socket) = socket else { return true };
    let request = format!("GET /api/v3/info HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.address());
    // What is written into a connection that the server has given up may be lost without an error.
    let _ = socket.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = crate::common::patiently("the end", socket.read_to_end(&mut answer)).await;
    answer.is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_ends_what_came_by_certificate_and_a_token_got_with_it() {
    let ca = Ca::new("lab");
    let server = server(&ca.setting()).await;
    let mut http = ca.named(&server, "alice").await;
    let token = get(&mut http, "/api/v3/users/alice/token", &[]).await.json()["Token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let mut stream = server.try_connect(&Show::Header(&bearer), &[]).await.unwrap();
    let socket =
        ca.connect(&server, |params| params.distinguished_name.push(DnType::CommonName, "alice")).await.unwrap();
    let mut certified = server.handshake(socket, &Show::Nothing, &[]).await.unwrap();
    let new = PasswordHash::make("another").unwrap();
    server.edit(|store| store.set_password("alice", new));
    assert_eq!((stream.closed().await.0, certified.closed().await.0), (1008, 1008));
    assert_eq!(
        status_of_token(&mut ca.named(&server, "alice").await, "alice", &[]).await,
        200,
        "it is good for new ones"
    );
}

/// What a certificate vouches for ends with it, however often a token is exchanged for another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_got_with_a_certificate_does_not_outlive_it() {
    let ca = Ca::new("lab");
    let server = server(&ca.setting()).await;
    let end = crate::common::people::now().as_second() + 1_800;
    let change = |params: &mut CertificateParams| {
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(end.unsigned_abs());
    };
    let mut http = Http::over(ca.connect(&server, change).await.unwrap(), server.address()).await;
    let path = "/api/v3/users/alice/token?ttl=7200";
    let ends = |reply: &Reply| {
        let at: jiff::Timestamp = reply.json()["Info"]["ExpiresAt"].as_str().unwrap().parse().unwrap();
        (at.as_second(), format!("Bearer {}", reply.json()["Token"].as_str().unwrap()))
    };
    let (at, first) = ends(&get(&mut http, path, &[]).await);
    assert_eq!(at, end, "two hours were asked for");
    let mut none = Http::connect(server.address(), true).await;
    let (at, second) = ends(&get(&mut none, path, &[("authorization", &first)]).await);
    assert_eq!(at, end, "nor does one that was got with that token");
    let (at, _) = ends(&get(&mut none, path, &[("authorization", &second)]).await);
    assert_eq!(at, end);
    let (at, _) = ends(&get(&mut http, "/api/v3/users/alice/token?ttl=60", &[]).await);
    assert!(at < end, "a shorter one is as short as it was asked for");
}
