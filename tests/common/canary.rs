//! No test's token or password may show in a log line, a metric, an error or a listing, whatever the test is about.
//!
//! Secrets are told by [`guard`]: those in a server's data directory and settings, every token that a test gets, and every
//! credential that a client of the tests shows. Once [`watch`] was called in a process (every server of the tests does), everything that
//! its servers log, at any level, and every answer and event that a test's client reads is looked through, and metrics and connections
//! once more when the server ends. A leak into the log ends the process, since the thread that logs may be one whose panic
//! nobody sees.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use base64::Engine;
use parking_lot::RwLock;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::OnceCell;
use tracing_subscriber::EnvFilter;

static WATCHING: AtomicBool = AtomicBool::new(false);
static MEASURING: AtomicBool = AtomicBool::new(false);
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Shorter ones cannot be told from other text.
const SHORTEST: usize = 11;

/// The password that everybody knows, and that the server itself tells at its first start.
const WELL_KNOWN: &str = "r0cketsk8ts";

/// Remembers a secret: a token (its signature alone too) or what stands for a password.
pub fn guard(secret: &str) {
    let signature = secret.rsplit('.').next().unwrap_or(secret);
    for text in [secret, signature] {
        let known = SECRETS.read().iter().any(|known| known == text);
        if text.len() >= SHORTEST && text != WELL_KNOWN && !known {
            SECRETS.write().push(text.to_owned());
        }
    }
}

/// Remembers what an `Authorization` header has in it.
pub fn guard_header(value: &str) {
    let Some((scheme, secret)) = value.split_once(' ') else { return };
    guard(secret);
    if scheme != "Basic" {
        return;
    }
    let login = base64::engine::general_purpose::STANDARD.decode(secret).unwrap_or_default();
    if let Some((_, password)) = std::str::from_utf8(&login).ok().and_then(|login| login.split_once(':')) {
        guard(password);
    }
}

/// Remembers the credential of a query, with or without a path in front.
pub fn guard_query(target: &str) {
    let query = target.rsplit('?').next().unwrap_or(target);
    query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("token=").or_else(|| pair.strip_prefix("Token=")))
        .for_each(guard);
}

/// Remembers what stands for `secret`, `password` or `token` in a text in TOML.
pub fn guard_toml(text: &str) {
    let values = text.lines().filter_map(|line| line.split_once(" = "));
    let secrets = values.filter(|(name, _)| matches!(name.trim(), "secret" | "password" | "token"));
    secrets.for_each(|(_, value)| guard(value.trim().trim_matches('"')));
}

/// Remembers the hashes, secrets and keys of a data directory.
pub fn guard_data(dir: &Path) {
    for name in ["auth.toml", "token-keys.toml"] {
        guard_toml(&std::fs::read_to_string(dir.join(name)).unwrap_or_default());
    }
}

/// The secret that a text has in it.
fn leak(text: &str) -> Option<String> {
    SECRETS.read().iter().find(|secret| text.contains(secret.as_str())).cloned()
}

/// Fails if a text has a secret in it.
pub fn check(place: &str, text: &str) {
    if WATCHING.load(Ordering::Acquire)
        && let Some(secret) = leak(text)
    {
        panic!("{place} shows the secret {secret}: {text}");
    }
}

/// Nothing is looked through in this process: it measures, and looking through every log line is most of the work of the
/// servers of the tests.
pub fn stand_aside() {
    MEASURING.store(true, Ordering::Release);
}

/// Has every log line and every answer of this process looked through from now on.
pub fn watch() {
    static ONCE: Once = Once::new();
    if MEASURING.load(Ordering::Acquire) {
        return;
    }
    WATCHING.store(true, Ordering::Release);
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

/// Looks through a server's metrics and its connections when it ends, if it still answers then.
pub struct AtEnd {
    pub probe: SocketAddr,
    /// The API, if it is spoken to without TLS.
    pub api: Option<SocketAddr>,
    /// A token that may list connections, once there is one.
    pub token: Arc<OnceCell<String>>,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        // Waiting here must not keep the server from answering.
        let several = Handle::try_current().is_ok_and(|here| here.runtime_flavor() == RuntimeFlavor::MultiThread);
        if std::thread::panicking() || !several {
            return;
        }
        tokio::task::block_in_place(|| {
            check("the metrics at the end", &get(self.probe, "/metrics", ""));
            if let (Some(api), Some(token)) = (self.api, self.token.get()) {
                let bearer = format!("Authorization: Bearer {token}\r\n");
                check("the connections at the end", &get(api, "/api/v3/connections", &bearer));
            }
        });
    }
}

/// What is answered, head and all; nothing if nobody answers.
fn get(address: SocketAddr, path: &str, header: &str) -> String {
    let mut answer = Vec::new();
    let _ = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n")?;
        stream.read_to_end(&mut answer)
    });
    String::from_utf8_lossy(&answer).into_owned()
}
