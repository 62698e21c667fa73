//! The effects of a panic. No input may cause one, so each is a bug (see the decision in `docs/adr`).
//!
//! Contract: a panic in the task of one connection ends only that connection, because tokio contains it. A panic in a
//! part that the server cannot do without, marked by [`Vital`], ends the process by SIGABRT; the last log line names
//! that part. Otherwise a dead shard would silently hold its connections, and a dead follower would keep removed users
//! logged in. The supervisor of the process restarts it. Every panic is logged and counted ([`panics`]), and no earlier
//! log line is lost.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinError;

use super::flush;

/// The time allowed for writing the last log lines; a stuck reader must not delay the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Returns the number of panics in this process since [`report`] was called.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Makes panics go to the log, counted, instead of directly to standard error, which may be a pipe that nobody reads.
pub fn report() {
    std::panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let thread = std::thread::current();
    let (thread, at) = (thread.name().unwrap_or("unnamed"), panic.location().map(ToString::to_string));
    let reason = panic.payload_as_str().unwrap_or("no message");
    tracing::error!(thread, at, reason, "panic");
}

/// Propagates the panic of a task.
///
/// # Panics
/// With the payload of the task's panic.
pub fn pass_on(ended: Result<(), JoinError>) {
    // Any other error is a deliberate abort.
    if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
        std::panic::resume_unwind(panic);
    }
}

/// Marks a part that the server cannot do without: a panic while it is held ends the process.
#[derive(Debug)]
pub struct Vital(&'static str);

impl Vital {
    /// Marks the running part by a name for the log.
    pub fn new(what: &'static str) -> Self {
        Self(what)
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(what = self.0, "a vital part of the server panicked; ending the process");
            flush(LAST_WORDS);
            std::process::abort();
        }
    }
}
