//! No test's token or password may show in a log line, a metric, an error or a listing, whatever the test is about.
//!
//! Secrets are told by [`guard`]. Once [`watch`] was called in a process (every server with people of its own does), everything that its
//! servers log, at any level, and every answer that a test's client reads is looked through. A leak into the log ends the process, since the thread that logs may be one whose panic nobody
//! sees.

use std::io::{self, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use tracing_subscriber::EnvFilter;

static WATCHING: AtomicBool = AtomicBool::new(false);
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Remembers a secret: a token (its signature alone too) or what stands for a password.
pub fn guard(secret: &str) {
    let signature = secret.rsplit('.').next().unwrap_or(secret);
    let mut secrets = SECRETS.write();
    for text in [secret, signature] {
        assert!(text.len() > 10, "too short to be told from other text");
        if !secrets.iter().any(|known| known == text) {
            secrets.push(text.to_owned());
        }
    }
}

/// The secret that a text has in it.
pub fn leak(text: &str) -> Option<String> {
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

/// Has every log line and every answer of this process looked through from now on.
pub fn watch() {
    static ONCE: Once = Once::new();
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
