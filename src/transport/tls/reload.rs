//! The TLS configuration in force, and taking another when its files have changed.
//!
//! Contract: a handshake uses what [`LiveTls::current`] is at its beginning; connections that are open keep what they have. A change
//! is taken as a whole or not at all: files that do not go together, such as a new certificate before its key is there,
//! leave everything as it was until they do. Each change makes new keys for session tickets, so that nobody goes on a
//! session that began with what was replaced.
//!
//! The files are looked at like those of the users (`stat`, four times a second), for the same reasons.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::sync::watch;

use super::TlsError;
use crate::metrics::{Metrics, Reload};

const INTERVAL: Duration = Duration::from_millis(250);

/// Makes a configuration from the files as they are.
type Build = dyn Fn() -> Result<Arc<ServerConfig>, TlsError> + Send + Sync;

/// What tells that a file may have changed.
type Look = Vec<Option<(u64, u64, i64, i64)>>;

/// See the module's text.
pub struct LiveTls {
    current: ArcSwap<ServerConfig>,
    files: Vec<PathBuf>,
    build: Box<Build>,
    taken: Mutex<Taken>,
}

/// What the configuration in force was made of.
#[derive(Debug)]
struct Taken {
    look: Look,
    /// A hash of the contents: touching a file is no change.
    contents: u64,
}

impl fmt::Debug for LiveTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl LiveTls {
    /// Takes the first configuration. `build` makes it from `files` and nothing else.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn new(
        files: Vec<PathBuf>,
        build: impl Fn() -> Result<Arc<ServerConfig>, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // Looked at before they are read: a change in between is seen next time.
        let taken = Mutex::new(Taken { look: look(&files), contents: contents(&files) });
        Ok(Self { current: ArcSwap::new(build()?), files, build: Box::new(build), taken })
    }

    /// What the next handshake uses.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again. Returns whether anything has changed.
    ///
    /// # Errors
    /// Why they cannot be taken; everything stays as it was then.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let mut taken = self.taken.lock();
        taken.look = look(&self.files);
        let contents = contents(&self.files);
        if contents == taken.contents {
            return Ok(false);
        }
        self.current.store((self.build)()?);
        taken.contents = contents;
        Ok(true)
    }

    /// Reloads, and tells the log and the metrics.
    pub fn reload_and_tell(&self, metrics: &Metrics) {
        match self.reload() {
            Ok(true) => {
                metrics.certificate(Reload::Taken);
                tracing::info!("the TLS certificate has changed; new connections get it");
            }
            Ok(false) => {}
            Err(error) => {
                metrics.certificate(Reload::Refused);
                tracing::error!(%error, "the TLS certificate is not taken; what was in force stays");
            }
        }
    }

    /// Takes changes until told to stop.
    pub async fn follow(self: Arc<Self>, metrics: Arc<Metrics>, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stop.changed() => return,
            }
            let (tls, metrics) = (Arc::clone(&self), Arc::clone(&metrics));
            let looked = tokio::task::spawn_blocking(move || {
                if look(&tls.files) != tls.taken.lock().look {
                    tls.reload_and_tell(&metrics);
                }
            });
            // A panic or a runtime that ends leaves nothing to follow.
            if looked.await.is_err() {
                return;
            }
        }
    }
}

/// A rename changes the inode, an edit in place the time or the size. A file that cannot be seen is one too.
fn look(files: &[PathBuf]) -> Look {
    let state = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
    };
    files.iter().map(state).collect()
}

fn contents(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    files.iter().for_each(|path| std::fs::read(path).ok().hash(&mut hasher));
    hasher.finish()
}
