//! TLS over real sockets: another certificate while running, sessions that are resumed, records that are full.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::common::raw::{Raw, masked};
use crate::common::socket::{self, Socket};
use crate::common::{Hydrant, Seen, event, http, patiently};
use futures_util::future::join_all;
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion, version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const TAKEN: &str = "hydrant_certificate_reloads_total{outcome=\"taken\"}";
const REFUSED: &str = "hydrant_certificate_reloads_total{outcome=\"refused\"}";

/// A certificate and its key, in PEM.
fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    (made.pem(), key.serialize_pem())
}

/// Writes beside the file and renames, as tools that renew certificates do.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("beside");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

fn same(shown: &CertificateDer<'_>, pem: &str) -> bool {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().as_ref() == shown.as_ref()
}

/// A handshake and a request. Answers may bring session tickets, so they are waited for.
async fn visit(server: &Hydrant, config: &Arc<ClientConfig>) -> (HandshakeKind, CertificateDer<'static>) {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let connector = TlsConnector::from(Arc::clone(config));
    let mut tls =
        patiently("a handshake", connector.connect(ServerName::try_from("localhost").unwrap(), stream)).await.unwrap();
    tls.write_all(b"GET /api/v3/info HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    patiently("an answer", tls.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let session = tls.get_ref().1;
    (session.handshake_kind().unwrap(), session.peer_certificates().unwrap()[0].clone().into_owned())
}

async fn shown(server: &Hydrant) -> CertificateDer<'static> {
    visit(server, &socket::config(rustls::ALL_VERSIONS)).await.1
}

async fn renewals(server: Hydrant, certificate_file: &Path, key_file: &Path) {
    let mut watchers = join_all((0..50).map(|_| server.watch(&["*.*.*"]))).await;
    let (first, first_key) = certificate();
    replace(key_file, &first_key);
    replace(certificate_file, &first);
    server.until(TAKEN, 1).await;
    assert!(same(&shown(&server).await, &first));

    let refused = server.metric(REFUSED).await;
    replace(certificate_file, "nothing of use");
    server.until_that(REFUSED, |count| count > refused).await;
    assert!(same(&shown(&server).await, &first), "a bad file changes nothing");
    let refused = server.metric(REFUSED).await;
    let (second, second_key) = certificate();
    replace(certificate_file, &second);
    server.until_that(REFUSED, |count| count > refused).await;
    assert!(same(&shown(&server).await, &first), "nor does a certificate whose key has not come yet");
    replace(key_file, &second_key);
    server.until(TAKEN, 2).await;
    assert!(same(&shown(&server).await, &second));
    // Telling it to look changes nothing where nothing has changed, and neither does touching a file.
    server.server.reload();
    std::fs::write(certificate_file, &second).unwrap();
    server.server.reload();
    assert_eq!(server.metric(TAKEN).await, 2);

    watchers.push(server.watch(&["*.*.*"]).await);
    server.announce("a", "b", "c").await;
    for watcher in &mut watchers {
        assert_eq!(watcher.event().await.name(), "a.b.c", "nobody was dropped");
    }
    assert_eq!(server.metric("hydrant_connections").await, 51);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_self_signed_certificate_is_taken() {
    let server = Hydrant::start_tls("shards = 2").await;
    let dir = server.server.settings().data_dir.clone();
    Box::pin(renewals(server, &dir.join("tls-cert.pem"), &dir.join("tls-key.pem"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_files_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate_file, key_file) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    let (pem, key) = certificate();
    std::fs::write(&certificate_file, &pem).unwrap();
    std::fs::write(&key_file, key).unwrap();
    let server =
        Hydrant::start_files(&format!("tls_cert = {certificate_file:?}\ntls_key = {key_file:?}\nshards = 1")).await;
    assert!(same(&shown(&server).await, &pem));
    Box::pin(renewals(server, &certificate_file, &key_file)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_say_when_the_certificate_expires() {
    const EXPIRY: &str = "hydrant_certificate_expiry_timestamp_seconds";
    let server = Hydrant::start_tls("").await;
    let now = hydrant::clock::now().as_second().unsigned_abs();
    let days = (server.metric(EXPIRY).await - now) / 86_400;
    assert!((822..825).contains(&days), "a new self-signed one: {days}");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2033, 5, 18);
    let dir = &server.server.settings().data_dir;
    replace(&dir.join("tls-key.pem"), &key.serialize_pem());
    replace(&dir.join("tls-cert.pem"), &params.self_signed(&key).unwrap().pem());
    server.until(TAKEN, 1).await;
    assert_eq!(server.metric(EXPIRY).await, 1_999_987_200);
    let plain = Hydrant::start("").await;
    let metrics = http::request(plain.server.probe_address().unwrap(), false, "GET", "/metrics", &[], "").await.body;
    assert!(!metrics.contains(EXPIRY), "it has none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_resumed_until_the_certificate_changes() {
    for version in [&version::TLS13, &version::TLS12] {
        resumption(version).await;
    }
}

async fn resumption(version: &'static SupportedProtocolVersion) {
    let server = Hydrant::start_tls("").await;
    let config = socket::config(&[version]);
    assert_eq!(visit(&server, &config).await.0, HandshakeKind::Full);
    for _ in 0..5 {
        assert_eq!(visit(&server, &config).await.0, HandshakeKind::Resumed, "{version:?}");
    }
    let dir = &server.server.settings().data_dir;
    let (certificate, key) = certificate();
    replace(&dir.join("tls-key.pem"), &key);
    replace(&dir.join("tls-cert.pem"), &certificate);
    server.until(TAKEN, 1).await;
    let (kind, shown) = visit(&server, &config).await;
    assert_eq!(kind, HandshakeKind::Full, "{version:?}: the old certificate is not gone on with");
    assert!(same(&shown, &certificate));
    assert_eq!(visit(&server, &config).await.0, HandshakeKind::Resumed);
}

/// A socket that remembers what was read from it.
struct Tap {
    stream: TcpStream,
    read: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.read.lock().extend_from_slice(&buf.filled()[before..]);
        result
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The lengths of whole records.
fn records(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<5>() {
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        assert!(header[0] == 23 && length <= rest.len(), "a whole record of application data");
        lengths.push(length);
        bytes = &rest[length..];
    }
    lengths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_packed_into_full_records() {
    const EVENTS: usize = 200;
    let server = Hydrant::start_tls("shards = 1").await;
    let read = Arc::default();
    let tap = Tap { stream: TcpStream::connect(server.address()).await.unwrap(), read: Arc::clone(&read) };
    let connector = TlsConnector::from(socket::config(rustls::ALL_VERSIONS));
    let tls = connector.connect(ServerName::try_from("localhost").unwrap(), tap).await.unwrap();
    let mut raw = Raw(Box::new(tls) as Socket);
    raw.send(server.handshake_text().await.as_bytes()).await;
    raw.head().await;
    raw.send(&masked(0x81, b"register *.*.*")).await;
    raw.text().await;
    read.lock().clear();
    // One batch, one turn: all of it waits when the connection is written to.
    let key = "x".repeat(200);
    let events: Vec<String> = (0..EVENTS).map(|at| event("machines", "update", &format!("{at}-{key}"))).collect();
    server.post(&format!("[{}]", events.join(","))).await;
    let mut bytes = 0;
    for at in 0..EVENTS {
        let text = raw.text().await;
        assert!(Seen::read(&text).key.starts_with(&format!("{at}-")));
        bytes += text.len() + 4;
    }
    let records = records(&read.lock());
    let full = 16 << 10;
    // What the session takes at a time (64 KiB) ends in a record that need not be full.
    assert!(records.len() <= bytes.div_ceil(full) + bytes.div_ceil(64 << 10), "{bytes} bytes in {records:?}");
    assert!(records.iter().filter(|length| **length >= full).count() >= 3, "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_is_answered_in_words_where_tls_is_spoken() {
    let server = Hydrant::start_tls("").await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET /api/v3/info HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    patiently("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    server.until("hydrant_handshakes_rejected_total{reason=\"tls\"}", 1).await;
}

/// The first message of a client of TLS 1.2 whose server name is this.
fn hello(name: &[u8]) -> Vec<u8> {
    let long = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let names = long(&[&[0], &long(name)[..]].concat());
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &long(body)].concat();
    let extensions = [extension(0, &names), extension(10, &long(&[0, 0x17])), extension(13, &long(&[4, 3, 8, 4]))];
    let body =
        [&[3, 3][..], &[7; 32], &[0], &long(&[0xc0, 0x2b, 0xc0, 0x2f]), &[1, 0], &long(&extensions.concat())].concat();
    let handshake = [&[1, 0][..], &long(&body)].concat();
    [&[0x16, 3, 1][..], &long(&handshake)].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_handshakes_fill_no_log() {
    let program = crate::common::program::Program::start("self-signed", "level = \"info\"", "");
    for n in 0..50 {
        let mut stream = TcpStream::connect(program.api).await.unwrap();
        stream.write_all(&hello(format!("bad name\x1b[31m{n}").as_bytes())).await.unwrap();
        let mut answer = Vec::new();
        let _ = patiently("the end", stream.read_to_end(&mut answer)).await;
    }
    let lines = program.end();
    let told: Vec<&String> = lines.iter().filter(|line| line.contains("WARN")).collect();
    assert!((1..=3).contains(&told.len()), "{told:#?}");
    assert!(lines.iter().all(|line| !line.contains("[31m") || !line.contains("bad name")), "{lines:#?}");
}

/// A websocket of the first user over TLS whose session the test can see.
async fn websocket(server: &Hydrant, version: &'static SupportedProtocolVersion) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let connector = TlsConnector::from(socket::config(&[version]));
    let mut tls = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    tls.write_all(server.handshake_text().await.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(patiently("a head", tls.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    tls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_updated_while_events_come() {
    let server = Hydrant::start_tls("shards = 1").await;
    let mut tls = websocket(&server, &version::TLS13).await;
    tls.write_all(&masked(0x81, b"register *.*.*")).await.unwrap();
    server.until("hydrant_registrations", 1).await;
    for at in 0..5 {
        tls.get_mut().1.refresh_traffic_keys().unwrap();
        // What the server says to that comes before what it sends next.
        tls.write_all(&masked(0x81, format!("register a.b.{at}").as_bytes())).await.unwrap();
        server.announce("a", "b", &at.to_string()).await;
    }
    let mut raw = Raw(Box::new(tls) as Socket);
    let mut seen = 0;
    while seen < 5 {
        let text = raw.text().await;
        seen += usize::from(text.contains(&format!("\"Key\":\"{seen}\"")) && text.contains("\"Type\":\"a\""));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_websocket_is_announced() {
    let server = Hydrant::start_tls("shards = 1").await;
    for version in [&version::TLS13, &version::TLS12] {
        let mut tls = websocket(&server, version).await;
        tls.write_all(&masked(0x88, &1000_u16.to_be_bytes())).await.unwrap();
        let mut rest = Vec::new();
        // Without an announcement that is an error.
        patiently("the end", tls.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(rest[0], 0x88, "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_none_of_the_clients_is_answered_by_an_alert() {
    let server = Hydrant::start_tls("shards = 1").await;
    for version in [&version::TLS13, &version::TLS12] {
        let mut tls = websocket(&server, version).await;
        let forged = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
        tls.get_mut().0.write_all(&forged).await.unwrap();
        let error = patiently("an alert", tls.read_u8()).await.unwrap_err();
        assert!(error.to_string().contains("BadRecordMac"), "{version:?}: {error}");
    }
    server.until("hydrant_connections", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_without_announcement_ends_a_websocket() {
    let server = Hydrant::start_tls("shards = 1").await;
    let (stream, _) = websocket(&server, &version::TLS13).await.into_inner();
    server.until("hydrant_connections", 1).await;
    drop(stream);
    server.until("hydrant_connections", 0).await;
}
