//! No test's token or password may show in a log line, a metric, an error or a listing, whatever the test is about.
//!
//! Secrets are told by [`validator`]: those in a server's data directory and settings, every token that a test gets,
//! and every credential that a client of the tests shows. Once [`watch`] was called in a process (every server of the
//! tests does), everything that its servers log, at any level, and every answer and event that a test's client reads is
//! looked through, and metrics and connections once more when the server ends, which fails if nobody answers. A leak
//! into the log ends the process, since the thread that logs may be one whose panic nobody sees. What servers say that
//! are programs of their own is looked through in the end ([`super::program`]).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aho_corasick::AhoCorasick;
use base64::Engine;
use hydrant::auth::{AuthOptions, Authority, TokenRequest};
use parking_lot::RwLock;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing_subscriber::EnvFilter;

use super::{PATIENCE, people, socket};

static WATCHING: AtomicBool = AtomicBool::new(false);
static MEASURING: AtomicBool = AtomicBool::new(false);
static SECRETS: RwLock<Secrets> = RwLock::new(Secrets { texts: Vec::new(), finder: None });

/// What must show nowhere, and what finds all of it in one pass over a text: a process may have a thousand secrets, and
/// looks through every log line.
struct Secrets {
    texts: Vec<String>,
    finder: Option<AhoCorasick>,
}

impl Secrets {
    fn add(&mut self, text: &str) {
        if self.texts.iter().all(|known| known != text) {
            self.texts.push(text.to_owned());
            self.finder = Some(AhoCorasick::new(&self.texts).unwrap());
        }
    }

    fn find(&self, text: &str) -> Option<&String> {
        let found = self.finder.as_ref()?.find(text)?;
        Some(&self.texts[found.pattern().as_usize()])
    }
}

/// Shorter ones cannot be told from other text.
const SHORTEST: usize = 11;

/// The password that everybody knows, and that the server itself tells at its first start.
const WELL_KNOWN: &str = "r0cketsk8ts";

/// What needs no encoding in a URL.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Remembers a secret: a token (its signature alone too) or what stands for a password.
pub fn validator(secret: &str) {
    remember(secret);
    remember(secret.rsplit('.').next().unwrap_or(secret));
}

fn remember(text: &str) {
    if text.len() >= SHORTEST && text != WELL_KNOWN && SECRETS.read().texts.iter().all(|known| known != text) {
        SECRETS.write().add(text);
    }
}

/// Remembers a user's name and password, together and the password alone, also as they may stand in a URL. A token is
/// none.
fn guard_login(login: &str) {
    let Some((_, password)) = login.split_once(':') else { return };
    for text in [login, password] {
        remember(text);
        remember(&text.replace(':', "%3A"));
        remember(&text.replace(':', "%3a"));
        remember(&utf8_percent_encode(text, &PLAIN).to_string());
    }
}

/// Remembers what an `Authorization` header has in it.
pub fn guard_header(value: &str) {
    let Some((scheme, secret)) = value.split_once(' ') else { return };
    validator(secret);
    if scheme != "Basic" {
        return;
    }
    let login = base64::engine::general_purpose::STANDARD.decode(secret).unwrap_or_default();
    guard_login(&String::from_utf8_lossy(&login));
}

/// Remembers the credential of a query, with or without a path in front, as it stands there and decoded.
pub fn guard_query(target: &str) {
    let query = target.rsplit('?').next().unwrap_or(target);
    let values =
        query.split('&').filter_map(|pair| pair.strip_prefix("token=").or_else(|| pair.strip_prefix("Token=")));
    for value in values {
        validator(value);
        guard_login(&percent_decode_str(value).decode_utf8_lossy());
    }
}

/// Remembers what stands for `secret`, `password` or `token` in a text in TOML.
pub fn guard_toml(text: &str) {
    let values = text.lines().filter_map(|line| line.split_once(" = "));
    let secrets = values.filter(|(name, _)| matches!(name.trim(), "secret" | "password" | "token"));
    secrets.for_each(|(_, value)| validator(value.trim().trim_matches('"')));
}

/// Remembers the hashes, secrets and keys of a data directory.
pub fn guard_data(dir: &Path) {
    for name in ["auth.toml", "token-keys.toml"] {
        guard_toml(&std::fs::read_to_string(dir.join(name)).unwrap_or_default());
    }
}

/// The secret that a text has in it.
pub fn leak(text: &str) -> Option<String> {
    SECRETS.read().find(text).cloned()
}

/// Fails if a text has a secret in it.
pub fn check(place: &str, text: &str) {
    if WATCHING.load(Ordering::Acquire)
        && let Some(secret) = leak(text)
    {
        panic!("{place} shows the secret {secret}: {text}");
    }
}

/// Nothing is looked through in this process: it measures, and looking through every log line is most of the work of
/// the servers of the tests.
pub fn stand_aside() {
    MEASURING.store(true, Ordering::Release);
}

/// Has every answer looked through from now on.
pub fn look_through_answers() {
    WATCHING.store(!MEASURING.load(Ordering::Acquire), Ordering::Release);
}

/// Has every log line of this process and every answer looked through from now on.
pub fn watch() {
    static ONCE: Once = Once::new();
    look_through_answers();
    if MEASURING.load(Ordering::Acquire) {
        return;
    }
    ONCE.call_once(|| {
        // The clients of the tests log what they send.
        let filter = EnvFilter::new("trace,tungstenite=off,tokio_tungstenite=off");
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| Scanner);
        // A test that has set up logging of its own looks at it itself.
        let _ = logs.try_init();
    });
}

struct Scanner;

impl Write for Scanner {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        if let Some(secret) = leak(&line) {
            writeln!(io::stderr(), "a log line shows the secret {secret}: {line}")?;
            std::process::abort();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Looks through a server's metrics and its connections when it ends. It must answer then, unless the test has stopped
/// it.
#[derive(Debug)]
pub struct AtEnd {
    probe: SocketAddr,
    api: SocketAddr,
    tls: bool,
    /// Its data directory: whoever has it may list connections. Nothing if the server takes no local tokens.
    data: Option<PathBuf>,
    /// Whether the server runs in this process, on the test's own runtime.
    within: bool,
    done: bool,
}

impl AtEnd {
    /// Of a server in this process.
    pub fn within(probe: SocketAddr, api: SocketAddr, tls: bool, data: Option<PathBuf>) -> Self {
        Self { probe, api, tls, data, within: true, done: false }
    }

    /// Of a server that is a process of its own.
    pub fn outside(probe: SocketAddr, api: SocketAddr, tls: bool, data: Option<PathBuf>) -> Self {
        Self { probe, api, tls, data, within: false, done: false }
    }

    /// The test has stopped the server.
    pub fn stopped(&mut self) {
        self.done = true;
    }

    /// Looks now instead of at the end.
    pub fn now(&mut self) {
        if std::mem::replace(&mut self.done, true) || !WATCHING.load(Ordering::Acquire) {
            return;
        }
        // Waiting here must not keep the server from answering.
        match Handle::try_current().map(|here| here.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| self.look()),
            Ok(_) if self.within => {
                panic!("a test with a server needs `flavor = \"multi_thread\"`, or nobody can look at its end")
            }
            _ => self.look(),
        }
    }

    fn look(&self) {
        check("the metrics at the end", &get(self.probe, false, "/metrics", "", OK));
        let Some(token) = self.token() else {
            // Even a refusal may show a secret.
            check("the answer at the end", &get(self.api, self.tls, "/api/v3/connections", "", ""));
            return;
        };
        let bearer = format!("Authorization: Bearer {token}\r\n");
        check("the connections at the end", &get(self.api, self.tls, "/api/v3/connections", &bearer, OK));
    }

    /// A token that may list connections; nothing if the test has spoiled the data directory.
    fn token(&self) -> Option<String> {
        let authority = Authority::open_existing(self.data.as_ref()?, AuthOptions::default()).ok()?;
        let holder = "plugin:canary".parse().unwrap();
        let issued = authority.issue_local(&holder, &TokenRequest::default(), people::now()).ok()?;
        validator(issued.token.expose());
        Some(issued.token.expose().to_owned())
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.now();
        }
    }
}

/// The data directory of a server with these settings, if it takes the tokens that are issued there.
pub fn issuing(toml: &str, data: PathBuf) -> Option<PathBuf> {
    let takes = ["mode = \"local\"", "mode = \"both\""].iter().any(|mode| toml.contains(mode));
    (takes || !toml.contains("[upstream]")).then_some(data)
}

/// The status of an answer that has something to look through.
const OK: &str = "200 ";

/// What is answered, head and all, with this status. Whoever closes without an answer, or says to come again, may have
/// too many strangers at the moment, and is asked again.
fn get(address: SocketAddr, tls: bool, path: &str, header: &str, status: &str) -> String {
    let begins = format!("HTTP/1.1 {status}");
    let begun = Instant::now();
    loop {
        let answer = try_get(address, tls, path, header);
        if let Some(answer) = answer.as_ref().ok().filter(|answer| answer.starts_with(&begins)) {
            return answer.clone();
        }
        let refused = answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        assert!(!refused && begun.elapsed() < PATIENCE, "the server does not answer {path} at the end: {answer:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn try_get(address: SocketAddr, tls: bool, path: &str, header: &str) -> io::Result<String> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
    if !tls {
        return exchange(stream, &request);
    }
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(socket::config(rustls::ALL_VERSIONS), name).map_err(io::Error::other)?;
    exchange(StreamOwned::new(session, stream), &request)
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // A TLS server may end without saying so first.
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}
