//! The current TLS configuration, and its replacement when its files change.
//!
//! Contract: a handshake uses what [`LiveTls::current`] returns at its beginning; open connections keep what they have.
//! A change is applied completely or not at all: as long as the files do not match, such as a new certificate before
//! its key arrives, the old configuration stays. Each change creates new keys for session tickets, so that no session
//! that began with the replaced certificate continues.
//!
//! The files are watched like those of the users (`stat`, four times a second, see [`crate::files`]) and read when two
//! checks agree. A failed change is retried at every check and reported once per reason. Files whose file system does
//! not answer for [`files::HANGS`] count as a change that is not in force, until it answers.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::sync::watch;

use super::{Loaded, TlsError};
use crate::clock;
use crate::files::{self, AGAIN, Hanging, INTERVAL, Look, Looks, Marks, Refusal};
use crate::metrics::{Metrics, Reload};
use crate::tasks;

/// Creates a configuration from the current files.
type Build = dyn Fn() -> Result<Loaded, TlsError> + Send + Sync;

/// The current TLS configuration. Reloads it when its files change; a bad change leaves it in force.
pub struct LiveTls {
    current: ArcSwap<ServerConfig>,
    files: Vec<PathBuf>,
    build: Box<Build>,
    taken: Mutex<Taken>,
    refusal: Mutex<Option<Refusal>>,
    hanging: Hanging,
}

/// The state of the files from which the current configuration was created.
#[derive(Debug)]
struct Taken {
    looks: Looks,
    /// A hash of the contents: touching a file is no change.
    contents: u64,
    /// When the certificate in force expires ([`Loaded::expiry`]).
    expiry: Option<i64>,
}

impl fmt::Debug for LiveTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl LiveTls {
    /// Creates the first configuration. `build` must create it from `files`, of which the first is the certificate, and
    /// nothing else.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn new(
        files: Vec<PathBuf>,
        build: impl Fn() -> Result<Loaded, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // Checked before they are read, so that a change in between is seen next time.
        let mut looks = Looks::new();
        looks.read(marks(&files), false);
        let contents = contents(&files);
        let Loaded { config, expiry } = build()?;
        let taken = Mutex::new(Taken { looks, contents, expiry });
        Ok(Self {
            current: ArcSwap::new(config),
            files,
            build: Box::new(build),
            taken,
            refusal: Mutex::default(),
            hanging: Hanging::default(),
        })
    }

    /// Returns the configuration for the next handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again. Returns whether anything has changed.
    ///
    /// # Errors
    /// The reason why the files cannot be used; the configuration is unchanged then.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let mut taken = self.taken.lock();
        let (marks, contents) = (marks(&self.files), contents(&self.files));
        if contents == taken.contents {
            taken.looks.read(marks, false);
            return Ok(false);
        }
        let built = (self.build)();
        taken.looks.read(marks, built.is_err());
        let Loaded { config, expiry } = built?;
        self.current.store(config);
        (taken.contents, taken.expiry) = (contents, expiry);
        Ok(true)
    }

    /// Returns the change that could not be applied, if there is one, or that the files cannot be checked.
    pub fn refusal(&self) -> Option<Refusal> {
        self.hanging.refusal().or_else(|| self.refusal.lock().clone())
    }

    /// Reloads, and reports the outcome in the log and the metrics; does not repeat a reason already reported.
    pub fn reload_and_report(&self, metrics: &Metrics) {
        let reloaded = self.reload();
        let reason = reloaded.as_ref().err().map(ToString::to_string);
        let tell = Refusal::note(&mut self.refusal.lock(), reason, clock::now());
        match reloaded {
            Ok(true) => {
                self.report_expiry(metrics);
                metrics.certificate(Reload::Taken);
                let certificate = self.files[0].display();
                tracing::info!(%certificate, "reloaded the TLS certificate; new connections use it");
            }
            Err(error) if tell => {
                metrics.certificate(Reload::Refused);
                tracing::error!(%error, "cannot use the changed TLS certificate; the previous one stays in force");
            }
            Ok(false) | Err(_) => {}
        }
    }

    /// Sets the metric of when the certificate in force expires.
    pub fn report_expiry(&self, metrics: &Metrics) {
        metrics.set_certificate_expiry(self.taken.lock().expiry);
    }

    /// Applies changes until told to stop.
    pub async fn follow(self: Arc<Self>, metrics: Arc<Metrics>, mut stop: watch::Receiver<bool>) {
        let mut pause = INTERVAL;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.changed() => return,
            }
            let (tls, metrics) = (Arc::clone(&self), Arc::clone(&metrics));
            let looking = tasks::spawn_blocking(move || tls.look(&metrics));
            let looked = tokio::select! {
                looked = self.hanging.watch(&self.files[0], clock::now(), looking) => looked,
                _ = stop.changed() => return,
            };
            // After a panic, or when the runtime ends, there is nothing left to follow.
            let Some(look) = looked else { return };
            pause = if look == Look::Unsettled { AGAIN } else { INTERVAL };
        }
    }

    fn look(&self, metrics: &Metrics) -> Look {
        let look = self.taken.lock().looks.look(&marks(&self.files));
        if look == Look::Due {
            self.reload_and_report(metrics);
        }
        look
    }
}

fn marks(files: &[PathBuf]) -> Marks {
    Marks::of(files.iter().map(PathBuf::as_path))
}

fn contents(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    files.iter().for_each(|path| files::read(path).ok().hash(&mut hasher));
    hasher.finish()
}
